"""Free value block with scalar layers (GD++): exact population risk and its optimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.multi_step import check_sizes, degree_bound, multi_step_optimum
from plumbline.theory.regression.spectrum import spectral_quadrature

MAX_LAYERS = 4
"""Deepest GD++ network: its residual has degree (3^L − 1)/2, 40 at four layers."""


@dataclass(frozen=True, eq=False)
class GDPlusPlusOptimum:
    """The best scalar layers found (in layer order), their exact risk, and what bounds it from below.

    Attributes:
        step_sizes: a_0 … a_{L−1}.
        shrinkages: b_0 … b_{L−2}; the last layer's value block never matters.
        loss: Exact population risk of these parameters; an upper bound of the minimum.
        lower_bound: Risk below which no scalar GD++ network of this depth can go (`degree_bound`).
        minima: Distinct local minima found, ascending; the landscape has several.
    """

    step_sizes: np.ndarray
    shrinkages: np.ndarray
    loss: float
    lower_bound: float
    minima: np.ndarray


def gd_plus_plus_risk(step_sizes: Any, shrinkages: Any, dim: int, context_length: int) -> float:
    r"""Return the exact population risk of a GD++ network with scalar layers.

    .. math:: R = d ∫ P² dμ, \quad P = ∏_l (1 - a_l t s_l²), \quad s_{l+1} = s_l (1 - a_l b_l t s_l²), \quad s_0 = 1

    for x ~ N(0, Σ), w ~ N(0, Σ⁻¹), A_l = a_l Σ⁻¹, value blocks b_l I. Exact by Gauss quadrature with
    (3^L − 1)/2 + 1 nodes, also where rare large eigenvalues (probability below 1e-7 at three layers) carry
    the expectation and a sample mean would miss them.

    Args:
        step_sizes: a_0 … a_{L−1} in layer order, L from 1 to `MAX_LAYERS`.
        shrinkages: b_0 … b_{L−2}, or b_0 … b_{L−1} (the last one never matters).
        dim: d ≥ 1.
        context_length: n ≥ 1.

    Raises:
        ValueError: on non-finite or wrongly many parameters, or sizes out of range.

    Source:
        Algorithm: von Oswald et al. 2023 (2212.07677), Ahn et al. 2023 (2306.00297). Exact risk: derived here.

    Example:
        >>> published = gd_plus_plus_risk([0.38, 2.40, 9.54], [0.904, 0.566], dim=5, context_length=20)
        >>> round(published, 4)  # the published notebook reports a sampled loss of 0.0007 here
        0.0578
    """
    a = checks.array("step_sizes", step_sizes, (None,))
    layers = checks.integer("len(step_sizes)", len(a), at_most=MAX_LAYERS)
    b = np.array([]) if layers == 1 and np.size(shrinkages) == 0 else checks.array("shrinkages", shrinkages, (None,))
    if len(b) not in (layers - 1, layers):
        raise ValueError(f"shrinkages must have {layers - 1} or {layers} entries for {layers} layers, got {len(b)}")
    _, d, n = check_sizes(1, dim, context_length)
    rule = spectral_quadrature((3**layers - 1) // 2 + 1, d, n)
    with checks.float_range("step_sizes and shrinkages", (step_sizes, shrinkages)):
        return float(d * rule.weights @ residual_polynomial(a, b[: layers - 1], rule.nodes) ** 2)


def gd_plus_plus_optimum(
    layers: int, dim: int, context_length: int, *, starts: int = 60, seed: int = 0
) -> GDPlusPlusOptimum:
    """Return the best scalar GD++ network found by Levenberg-Marquardt on the exact population risk.

    Global optimality is not proven; `GDPlusPlusOptimum.lower_bound` says how far from it the value can be.

    Args:
        layers: L, from 1 to 3.
        dim: d ≥ 1.
        context_length: n ≥ 1.
        starts: Number of random starts.
        seed: Seed of the starts; the result is deterministic.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here.

    Example:
        >>> optimum = gd_plus_plus_optimum(2, dim=5, context_length=20)
        >>> round(optimum.loss, 7), optimum.step_sizes.round(5).tolist(), optimum.shrinkages.round(5).tolist()
        (0.0575012, [0.51676, 3.47466], [0.86846])
    """
    from scipy.optimize import least_squares

    layers = checks.integer("layers", layers, at_least=1, at_most=3)
    _, d, n = check_sizes(1, dim, context_length)
    starts = checks.integer("starts", starts, at_least=1)
    rng = np.random.default_rng(checks.integer("seed", seed, at_least=0))
    best_plain = multi_step_optimum(layers, d, n).step_sizes
    # Later layers act on shrunken covariates: their step sizes are larger than plain gradient descent's.
    growth = 3.0 ** np.arange(layers)
    rule = spectral_quadrature((3**layers - 1) // 2 + 1, d, n)
    scale = np.sqrt(d * rule.weights)

    def residuals(x: np.ndarray) -> np.ndarray:
        return scale * residual_polynomial(x[:layers], x[layers:], rule.nodes)

    def jacobian(x: np.ndarray) -> np.ndarray:
        return scale[:, None] * _jacobian(x[:layers], x[layers:], rule.nodes)

    found: list[tuple[float, np.ndarray]] = []
    for trial in range(starts):
        spread = 0.0 if trial == 0 else 0.7
        a = best_plain[0] * growth * np.exp(spread * rng.normal(size=layers))
        b = rng.uniform(0.2, 1.1, size=layers - 1)
        fit = least_squares(
            residuals, np.r_[a, b], jacobian, method="lm", max_nfev=500, xtol=1e-14, ftol=1e-14, gtol=1e-14
        )
        found.append((2 * float(fit.cost), fit.x))
    found.sort(key=lambda pair: pair[0])
    loss, best = found[0]
    minima = [loss]
    for value, _ in found:
        if value > minima[-1] * (1 + 1e-6):
            minima.append(value)
    bound = float(degree_bound((3**layers - 1) // 2, d, n))
    return GDPlusPlusOptimum(best[:layers], best[layers:], loss, bound, np.array(minima))


def residual_polynomial(step_sizes: np.ndarray, shrinkages: np.ndarray, t: np.ndarray) -> np.ndarray:
    """P(t): the factor by which the network shrinks the error along an eigenvector of V with eigenvalue t."""
    p, s = np.ones_like(t), np.ones_like(t)
    for layer, a in enumerate(step_sizes):
        p = p * (1 - a * t * s**2)
        if layer < len(shrinkages):
            s = s * (1 - a * shrinkages[layer] * t * s**2)
    return p


def _jacobian(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Derivatives of `residual_polynomial` by (a_0 …, b_0 …), columns in that order."""
    layers = len(a)
    p, s = np.ones_like(t), np.ones_like(t)
    dp, ds = np.zeros((len(t), layers + len(b))), np.zeros((len(t), layers + len(b)))
    for layer in range(layers):
        u = t * s**2
        du = 2 * (t * s)[:, None] * ds
        dfactor = -a[layer] * du
        dfactor[:, layer] -= u
        dp = dp * (1 - a[layer] * u)[:, None] + p[:, None] * dfactor
        p = p * (1 - a[layer] * u)
        if layer < len(b):
            dshrink = -a[layer] * b[layer] * du
            dshrink[:, layer] -= b[layer] * u
            dshrink[:, layers + layer] -= a[layer] * u
            ds = ds * (1 - a[layer] * b[layer] * u)[:, None] + s[:, None] * dshrink
            s = s * (1 - a[layer] * b[layer] * u)
    return dp
