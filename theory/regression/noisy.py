"""Multi-step preconditioned gradient descent with label noise: when the best polynomial is no algorithm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.multi_step import check_sizes, multi_step_optimum
from plumbline.theory.regression.spectrum import spectral_quadrature
from plumbline.theory.regression.wishart import spectral_moments

MAX_NOISY_STEPS = 12
"""Largest number of steps: the real optimum is searched over every way in which step sizes can merge."""


@dataclass(frozen=True, eq=False)
class NoisyMultiStepOptimum:
    """The best real step sizes (ascending) and their risk, beside the unconstrained polynomial's.

    Attributes:
        step_sizes: Best real step sizes found; equal entries have merged.
        loss: Their risk, an upper bound of the minimum over real step sizes (tight on every case checked).
        unconstrained_loss: The minimum over all polynomials, exact; a certified lower bound of `loss`.
        zeros: Zeros of the unconstrained polynomial; complex ones come in pairs.
    """

    step_sizes: np.ndarray
    loss: float
    unconstrained_loss: float
    zeros: np.ndarray

    @property
    def attained(self) -> bool:
        """Whether real step sizes reach the unconstrained minimum (all zeros real)."""
        return not np.iscomplexobj(self.zeros)


def noisy_multi_step_risk(step_sizes: Any, dim: int, context_length: int, noise_variance: float) -> float:
    r"""Return the exact risk of L-step preconditioned gradient descent with label noise.

    .. math:: R = d ∫ p² dμ + d \tfrac{σ²}{n} ∫ \tfrac{(1-p)²}{t} dμ, \quad p(t) = ∏_l (1 - a_l t)

    for x ~ N(0, Σ), w ~ N(0, Σ⁻¹), A_l = a_l Σ⁻¹.

    Args:
        step_sizes: a_1 … a_L, real.
        dim: d ≥ 1.
        context_length: n ≥ 1.
        noise_variance: σ² ≥ 0.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here.

    Example:
        >>> round(noisy_multi_step_risk([20 / 27], 5, 20, 1.0), 12)
        1.296296296296
    """
    a = checks.array("step_sizes", step_sizes, (None,))
    steps, d, n = check_sizes(len(a), dim, context_length)
    noise = checks.real("noise_variance", noise_variance, at_least=0.0, at_most=checks.MAX_SCALE)
    with checks.float_range("step_sizes", step_sizes):
        return float(np.sum(_residuals(a, np.ones(steps, int), d, n, noise) ** 2))


def noisy_multi_step_optimum(steps: int, dim: int, context_length: int, noise_variance: float) -> NoisyMultiStepOptimum:
    r"""Return the optimum of L-step preconditioned gradient descent with label noise σ².

    With p = 1 − t q the unconstrained minimum solves a linear system in exact rationals,

    .. math:: ∑_j c_j (m_{i+j+2} + s\,m_{i+j+1}) = m_{i+1}, \quad s = σ²/n, \quad R = d (1 - ∑_i c_i m_{i+1}).

    Where p has complex zeros no real step sizes reach it: then step sizes merge in pairs (or all together), and
    the best real ones are found over every pattern of multiplicities.

    Args:
        steps: L, 1 to `MAX_NOISY_STEPS`.
        dim: d ≥ 1.
        context_length: n ≥ 1.
        noise_variance: σ² ≥ 0; 0 is `multi_step_optimum`.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here.

    Example:
        >>> optimum = noisy_multi_step_optimum(2, dim=5, context_length=20, noise_variance=5.0)
        >>> round(optimum.unconstrained_loss, 6), round(optimum.loss, 6), optimum.step_sizes.round(5).tolist()
        (1.325477, 1.328163, [0.65878, 0.65878])
    """
    steps, d, n = check_sizes(checks.integer("steps", steps, at_most=MAX_NOISY_STEPS), dim, context_length)
    noise = checks.real("noise_variance", noise_variance, at_least=0.0, at_most=checks.MAX_SCALE)
    if noise == 0:
        clean = multi_step_optimum(steps, d, n)
        return NoisyMultiStepOptimum(clean.step_sizes, clean.loss, clean.loss, 1 / clean.step_sizes[::-1])
    bound, zeros = _unconstrained(steps, d, n, Fraction(noise))
    if not np.iscomplexobj(zeros):
        return NoisyMultiStepOptimum(np.sort(1 / zeros), bound, bound, zeros)
    loss, sizes = np.inf, np.array([])
    for multiplicities in sorted(_partitions(steps), key=len):
        value, candidate = _best_with(multiplicities, d, n, noise, zeros)
        if value < loss * (1 - 1e-12):  # a finer pattern has to be better by more than rounding
            loss, sizes = value, candidate
    return NoisyMultiStepOptimum(sizes, loss, bound, zeros)


def _unconstrained(steps: int, d: int, n: int, noise: Fraction) -> tuple[float, np.ndarray]:
    """Exact unconstrained minimum and the zeros of its polynomial, real where all of them are."""
    import mpmath

    m = spectral_moments(d, n, 2 * steps + 1)
    s = noise / n
    matrix = [[m[i + j + 2] + s * m[i + j + 1] for j in range(steps)] for i in range(steps)]
    c = _solve(matrix, m[1 : steps + 1])
    bound = d * (1 - sum(x * y for x, y in zip(c, m[1:], strict=False)))
    with mpmath.workdps(60 + 4 * steps):
        coefficients = [mpmath.mpf(1), *(-mpmath.mpf(x.numerator) / x.denominator for x in c)]
        found = mpmath.polyroots(coefficients[::-1], maxsteps=1000, extraprec=600)
        tiny = mpmath.mpf(10) ** -30
        if all(abs(mpmath.im(z)) <= tiny * abs(z) for z in found):
            zeros = np.sort([float(mpmath.re(z)) for z in found])
        else:
            zeros = np.sort_complex([complex(z) for z in found])
    return float(bound), zeros


def _solve(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """Gauss elimination in rationals (the matrix is positive definite: no pivoting)."""
    rows = [[*row, b] for row, b in zip(matrix, right, strict=True)]
    for k in range(len(rows)):
        for i in range(k + 1, len(rows)):
            factor = rows[i][k] / rows[k][k]
            rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    solution: list[Fraction] = []
    for k in reversed(range(len(rows))):
        known = sum((x * y for x, y in zip(rows[k][k + 1 : -1], solution, strict=True)), Fraction(0))
        solution.insert(0, (rows[k][-1] - known) / rows[k][k])
    return solution


def _residuals(a: np.ndarray, multiplicities: np.ndarray, d: int, n: int, noise: float) -> np.ndarray:
    """Vector whose squared norm is the exact risk of step sizes ``a`` taken with ``multiplicities``."""
    rule = spectral_quadrature(int(multiplicities.sum()) + 1, d, n)
    t = rule.nodes
    p = np.prod((1 - np.multiply.outer(t, a)) ** multiplicities, axis=1)
    bias = np.sqrt(d * rule.weights) * p
    if noise == 0:
        return bias
    return np.concatenate([bias, np.sqrt(d * rule.weights * noise / (n * t)) * (1 - p)])


def _best_with(multiplicities: np.ndarray, d: int, n: int, noise: float, zeros: np.ndarray) -> tuple[float, np.ndarray]:
    """Best risk over distinct step sizes with these multiplicities, by Levenberg-Marquardt from spread starts."""
    from scipy.optimize import least_squares

    centre = np.sort(np.abs(1 / zeros))
    starts = [np.quantile(centre, (np.arange(len(multiplicities)) + 0.5) / len(multiplicities))]
    rng = np.random.default_rng(0)
    starts += [rng.permutation(starts[0]) * np.exp(0.3 * rng.normal(size=len(starts[0]))) for _ in range(5)]
    best, sizes = np.inf, centre
    for start in starts:
        fit = least_squares(
            _residuals,
            start,
            args=(multiplicities, d, n, noise),
            method="lm",
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
        )
        if 2 * fit.cost < best:
            best, sizes = 2 * fit.cost, np.sort(np.repeat(fit.x, multiplicities))
    return float(best), sizes


def _partitions(total: int, largest: int | None = None) -> Iterator[np.ndarray]:
    """Partitions of ``total``: the patterns in which step sizes can merge."""
    if total == 0:
        yield np.array([], dtype=int)
        return
    for first in range(min(total, largest or total), 0, -1):
        for rest in _partitions(total - first, first):
            yield np.r_[first, rest].astype(int)
