"""The tails of stochastic gradients: a polynomial in Gaussians has a stretched-exponential tail of its degree."""

from __future__ import annotations

from typing import Literal

from plumbline.theory import checks
from plumbline.theory.regression.landscape import MAX_LAYERS
from plumbline.theory.regression.task import COVARIATE_LAWS, CovariateLaw

ValueBlock = Literal["absent", "zero", "free"]
VALUE_BLOCKS = ("absent", "zero", "free")


def gradient_degree(
    layers: int, *, at_zero: bool = False, value: ValueBlock = "absent", covariate_law: CovariateLaw = "gaussian"
) -> int:
    r"""Return the degree of the gradient of a single prompt as a polynomial in the Gaussians of the prompt.

    The gradient is 2 (prediction − w·x_q) ∂prediction, and prediction = w^T (I − C) x_q with a residual C of degree k
    in W, so of degree 2k in the examples (label noise stands for w^T x and does not raise it):

    ==========================  ==============================================================  ==================
    point                       gradient in                                                     degree
    ==========================  ==============================================================  ==================
    zero, any L                 all weights: −2 (w·x_q) r x_q^T                                 6
    generic A, value "absent"   A_l; C = ∏ (I − W A_l), k = L                                   4L + 4
    generic A, value "zero"     A_l and B_l at B = 0; ∂C/∂B_l has degree L + 1 in W for l < L    4L + 6 (8 if L = 1)
    generic A, value "free"     A_l and B_l at generic B; k = (3^L − 1)/2                        2·3^L + 2
    ==========================  ==============================================================  ==================

    On the sphere the covariates are bounded and only w and the label noise are Gaussian: the degree is 2 at every
    point and depth. With gamma radii the count is that of the Gaussian law, see `tail_exponent`.

    Conditions: sparse weights as in `linear_transformer_risk`; generic means outside a set of weights of measure zero
    on which leading terms cancel.

    Args:
        layers: L, from 1 to `MAX_LAYERS`.
        at_zero: The gradient at zero weights; otherwise at generic ones.
        value: The value blocks are ``"absent"`` (held at zero), ``"zero"`` (trained, at zero), or ``"free"`` (trained,
            generic). At zero weights it makes no difference.
        covariate_law: ``"gaussian"``, ``"sphere"`` or ``"gamma"``.

    Returns:
        The degree, the maximum over the entries of the gradient.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here.

    Example:
        >>> gradient_degree(3, at_zero=True), gradient_degree(3), gradient_degree(3, value="free")
        (6, 16, 56)
    """
    layers = checks.integer("layers", layers, at_least=1, at_most=MAX_LAYERS)
    checks.one_of("value", value, VALUE_BLOCKS)
    checks.one_of("covariate_law", covariate_law, COVARIATE_LAWS)
    if not isinstance(at_zero, bool):
        raise ValueError(f"at_zero must be True or False, got {at_zero!r}")
    if covariate_law == "sphere":
        return 2
    if at_zero:
        return 6
    if value == "free":
        return 2 * 3**layers + 2
    # A last value block is idle: with one layer there is nothing for it to add.
    return 4 * layers + (6 if value == "zero" and layers > 1 else 4)


def tail_exponent(
    layers: int, *, at_zero: bool = False, value: ValueBlock = "absent", covariate_law: CovariateLaw = "gaussian"
) -> float:
    r"""Return the exponent of the stretched-exponential tail of the norm of a single prompt's gradient.

    .. math:: -\log P(|g| > t) ≍ t^{2/k}, \quad k = \text{degree}

    for a polynomial of degree k in Gaussians: between two positive multiples of it for large t, as reaching t takes
    Gaussians of size t^{1/k}. An exponent below 1 is a tail heavier than exponential: all moments are finite, but no
    exponential moment is, and sums become normal late. A normal law has exponent 2.

    The gamma law has −log P(|z| > r) ~ r²/θ, θ = sqrt(10/shape), where the Gaussian law has r²/2: the exponent is the
    same, and the constant smaller by a factor that grows as the shape falls (θ = 10 in the published experiments). On
    the sphere only w and the noise are Gaussian: exponent 1 at every depth, an exponential tail.

    Args:
        layers: L, from 1 to `MAX_LAYERS`.
        at_zero: As in `gradient_degree`.
        value: As in `gradient_degree`.
        covariate_law: As in `gradient_degree`.

    Returns:
        2/k.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Janson 1997, Gaussian Hilbert Spaces, Chapter VI, for the tail of a polynomial; the degrees are derived here.

    Example:
        >>> round(tail_exponent(3, at_zero=True), 6), tail_exponent(1), tail_exponent(1, covariate_law="sphere")
        (0.333333, 0.25, 1.0)
    """
    return 2 / gradient_degree(layers, at_zero=at_zero, value=value, covariate_law=covariate_law)
