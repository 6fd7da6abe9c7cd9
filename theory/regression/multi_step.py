"""L layers with zero value block: exact risk and optimum of multi-step preconditioned gradient descent."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.spectrum import MAX_NODES, christoffel_at_zero, spectral_quadrature
from plumbline.theory.regression.task import MAX_SIZE
from plumbline.theory.regression.wishart import MAX_TOTAL_POWER, wishart_moment

MAX_STEPS = MAX_NODES - 1
"""Largest number of steps of the exact rational range."""
MAX_LOOPS = MAX_TOTAL_POWER // 2
"""Largest number of equal steps whose curvature along rotations is evaluated."""


@dataclass(frozen=True, eq=False)
class MultiStepOptimum:
    """The best step sizes (ascending) in the whitened frame, and the risk they reach."""

    step_sizes: np.ndarray
    loss: float


def check_sizes(steps: Any, dim: Any, context_length: Any) -> tuple[int, int, int]:
    """Validate (steps, dim, context_length) and return them as ints."""
    return (
        checks.integer("steps", steps, at_least=1, at_most=MAX_STEPS),
        checks.integer("dim", dim, at_least=1, at_most=MAX_SIZE),
        checks.integer("context_length", context_length, at_least=1, at_most=MAX_SIZE),
    )


def multi_step_risk(step_sizes: Any, dim: int, context_length: int) -> float:
    r"""Return the exact risk of L-step preconditioned gradient descent with the given step sizes.

    .. math:: R = d ∫ p(t)² dμ(t), \quad p(t) = ∏_l (1 - a_l t)

    for x ~ N(0, Σ), w ~ N(0, Σ⁻¹), no label noise, layer preconditioners A_l = a_l Σ⁻¹ in any order. μ is the
    expected spectral distribution of Wishart_d(n, I)/n. For another weight covariance Ψ replace d by tr(ΨΣ).

    Args:
        step_sizes: a_1 … a_L, real, in any order.
        dim: d ≥ 1.
        context_length: n ≥ 1.

    Returns:
        The risk; relative error about 1e-13 (Gauss quadrature exact for this degree).

    Raises:
        ValueError: on non-finite or too many step sizes, or sizes below 1.

    Source:
        Derived here from Ahn et al. 2023 (2306.00297), Section 4.

    Example:
        >>> round(multi_step_risk([10 / 13], dim=5, context_length=20), 12)
        1.153846153846
    """
    a = checks.array("step_sizes", step_sizes, (None,))
    steps, d, n = check_sizes(len(a), dim, context_length)
    rule = spectral_quadrature(steps + 1, d, n)
    with checks.float_range("step_sizes", step_sizes):
        residual = np.prod(1 - np.multiply.outer(rule.nodes, a), axis=1)
        return float(d * rule.weights @ residual**2)


def multi_step_optimum(steps: int, dim: int, context_length: int) -> MultiStepOptimum:
    r"""Return the optimum of L-step preconditioned gradient descent, the best L-layer zero-value-block transformer.

    .. math:: \min_{p(0)=1, deg p ≤ L} d ∫ p² dμ = d λ_L(0), \quad a_l = 1/z_l

    with λ_L(0) the Christoffel function of μ at 0 and z_l the zeros of the degree-L orthogonal polynomial of
    t dμ: real, simple and positive, so that the transformer attains the bound. Unique up to order.

    Conditions: x ~ N(0, Σ), w ~ N(0, Σ⁻¹), no label noise, A_l = a_l Σ⁻¹. That no other full matrices A_l do
    better is proven for L = 1 only; for L ≥ 2 it is what training finds.

    Args:
        steps: L, from 1 to `MAX_STEPS`.
        dim: d ≥ 1.
        context_length: n ≥ 1.

    Returns:
        `MultiStepOptimum`; the loss is the rounded exact rational, the step sizes are accurate to 1e-13.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Critical points: Ahn et al. 2023 (2306.00297), Theorem 3. Average-case optimal polynomials:
        Pedregosa, Scieur 2020 (2002.04756). The exact finite (d, n) values are derived here.

    Example:
        >>> optimum = multi_step_optimum(2, dim=5, context_length=20)
        >>> optimum.loss, optimum.step_sizes.round(5).tolist()
        (0.3612396860535319, [0.51537, 1.24957])
    """
    steps, d, n = check_sizes(steps, dim, context_length)
    zeros = spectral_quadrature(steps, d, n, radau=True).nodes[1:]
    return MultiStepOptimum(1 / zeros[::-1], float(d * christoffel_at_zero(steps, d, n)))


def looped_optimum(steps: int, dim: int, context_length: int) -> MultiStepOptimum:
    r"""Return the optimum of L equal steps: a looped transformer, or preconditioned GD with one step size.

    .. math:: \min_a d ∫ (1 - a t)^{2L} dμ(t)

    a strictly convex polynomial in a. Conditions as in `multi_step_optimum`. The best of all multiples of Σ⁻¹, but in
    long contexts not of all matrices: see `looped_rotation_curvature`.

    Args:
        steps: L, from 1 to `MAX_STEPS`.
        dim: d ≥ 1.
        context_length: n ≥ 1.

    Returns:
        `MultiStepOptimum` with L equal step sizes.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Gatmiry et al. 2024 (2410.08292) for the structure; the exact step size is derived here.

    Example:
        >>> optimum = looped_optimum(2, dim=5, context_length=20)
        >>> round(float(optimum.step_sizes[0]), 6), round(optimum.loss, 6)
        (0.742518, 0.499007)
    """
    from scipy.optimize import brentq

    steps, d, n = check_sizes(steps, dim, context_length)
    rule = spectral_quadrature(steps + 1, d, n)

    def slope(a: float) -> float:
        return float(-(rule.weights * rule.nodes) @ (1 - a * rule.nodes) ** (2 * steps - 1))

    high = 1 / rule.nodes[-1]
    while slope(high) < 0:
        high *= 2
    a = brentq(slope, 0.0, high, xtol=1e-300, rtol=1e-15)
    return MultiStepOptimum(np.full(steps, a), multi_step_risk(np.full(steps, a), d, n))


def looped_rotation_curvature(steps: int, dim: int, context_length: int) -> float:
    r"""Return the curvature of the risk of L equal layers along rotations, at the best multiple of Σ⁻¹.

    .. math:: \frac{d²}{db²} R(aI + bB)\Big|_{b=0}
              = \frac{2}{d(d-1)} E \sum_{i≠j} \Big[ w_j² h_{ij}² - 2 w_i w_j
                \sum_{l=0}^{L-2} (L-1-l) ν_i^{2L-2-l} ν_j^l \Big], \quad
              h_{ij} = \sum_{k=0}^{L-1} ν_i^k ν_j^{L-1-k}

    for any antisymmetric B of norm 1 in the whitened frame, where w_i are the eigenvalues of W ~ Wishart_d(n, I)/n,
    ν_i = 1 − a w_i and a is that of `looped_optimum`. Where it is negative, no multiple of Σ⁻¹ is the best looped
    transformer: conjugate complex step sizes a ± ib, one for each eigenvalue of B, do better than equal real ones.

    Args:
        steps: L, from 1 to 15.
        dim: d ≥ 2 (one dimension has no rotation).
        context_length: n ≥ 1.

    Returns:
        The curvature; exact Wishart moments, rounding of a aside.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here, by averaging the second variation over the orthogonal group, under which all B are alike.

    Example:
        >>> looped_rotation_curvature(2, dim=5, context_length=20) > 0 > looped_rotation_curvature(2, 5, 50)
        True
    """
    layers = checks.integer("steps", steps, at_least=1, at_most=MAX_LOOPS)
    d = checks.integer("dim", dim, at_least=2, at_most=MAX_SIZE)
    a = Fraction(float(looped_optimum(layers, d, context_length).step_sizes[0]))
    powers = [[math.comb(k, i) * (-a) ** i for i in range(k + 1)] for k in range(2 * layers - 1)]  # of ν, in w
    pairs: dict[tuple[int, int], Fraction] = defaultdict(Fraction)  # ∑ over i and j, coefficients of w_i^p w_j^q

    def add(factor: int, power_i: int, power_j: int, shift: tuple[int, int]) -> None:
        for p, left in enumerate(powers[power_i]):
            for q, right in enumerate(powers[power_j]):
                pairs[p + shift[0], q + shift[1]] += factor * left * right

    for k in range(layers):
        for m in range(layers):
            add(1, k + m, 2 * layers - 2 - k - m, (0, 2))
    for k in range(layers - 1):
        add(-2 * (layers - 1 - k), 2 * layers - 2 - k, k, (1, 1))
    # Where i = j the bracket is L w² ν^{2L−2}.
    terms = [factor * _moment((p, q), d, context_length) for (p, q), factor in pairs.items()]
    terms += [-layers * c * _moment((i + 2,), d, context_length) for i, c in enumerate(powers[2 * layers - 2])]
    return float(2 * sum(terms, Fraction(0)) / (d * (d - 1)))


def _moment(powers: tuple[int, ...], dim: int, context_length: int) -> Fraction:
    """E ∏ tr W^k for W ~ Wishart_d(n, I)/n."""
    return wishart_moment(powers, dim, context_length) / Fraction(context_length) ** sum(powers)


def degree_bound(degree: int, dim: int, context_length: int) -> Fraction:
    r"""Return d λ_k(0), below which no predictor whose residual is a polynomial of degree k in V can go.

    .. math:: d ∫ P² dμ ≥ d λ_k(0) for every polynomial with P(0) = 1 and deg P ≤ k

    A GD++ network of L layers with scalar blocks has degree (3^L − 1)/2, a zero value block degree L.

    Args:
        degree: k, from 0 to `MAX_STEPS`.
        dim: d ≥ 1.
        context_length: n ≥ 1.

    Returns:
        The bound, exact.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here (Christoffel's extremal property).

    Example:
        >>> degree_bound(1, dim=5, context_length=20)
        Fraction(15, 13)
    """
    degree = checks.integer("degree", degree, at_least=0, at_most=MAX_STEPS)
    _, d, n = check_sizes(1, dim, context_length)
    return d * christoffel_at_zero(degree, d, n)
