"""Marchenko-Pastur limits: n, d → ∞ with d/n = ratio, risks relative to the zero predictor."""

from __future__ import annotations

import math

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.multi_step import MultiStepOptimum

MAX_LIMIT_STEPS = 10_000


def _check(steps: int, ratio: float) -> tuple[int, float]:
    return (
        checks.integer("steps", steps, at_least=1, at_most=MAX_LIMIT_STEPS),
        checks.real("ratio", ratio, above=0.0),
    )


def multi_step_limit(steps: int, ratio: float) -> MultiStepOptimum:
    r"""Return the limit of `multi_step_optimum` as n, d → ∞ with d/n = γ, its loss divided by tr(ΨΣ).

    .. math:: λ_L = 1/∑_{k=0}^L γ^{-k}, \qquad a_l = 1/\big(1 + γ + 2\sqrt{γ} \cos\tfrac{π l}{L+1}\big)

    Args:
        steps: L ≥ 1.
        ratio: γ = d/n > 0.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Pedregosa, Scieur 2020 (2002.04756) for the polynomial; loss and step sizes derived here.

    Example:
        >>> optimum = multi_step_limit(3, 0.5)
        >>> round(optimum.loss, 6), optimum.step_sizes.round(6).tolist()
        (0.066667, [0.4, 0.666667, 2.0])
    """
    steps, gamma = _check(steps, ratio)
    # 1/Σ γ^{-k} with the powers kept below 1, so that nothing overflows.
    powers = np.arange(steps + 1)
    loss = gamma**steps / np.sum(gamma**powers) if gamma <= 1 else 1 / np.sum(gamma**-powers)
    angles = np.pi * np.arange(1, steps + 1) / (steps + 1)
    return MultiStepOptimum(1 / (1 + gamma + 2 * math.sqrt(gamma) * np.cos(angles)), float(loss))


def looped_limit(steps: int, ratio: float) -> MultiStepOptimum:
    r"""Return the limit of `looped_optimum` as n, d → ∞ with d/n = γ, its loss divided by tr(ΨΣ).

    .. math:: a = \tfrac{1}{1+γ}, \qquad \text{loss} = 1 - ∑_{k=0}^{L-1} Cat_k \tfrac{γ^k}{(1+γ)^{2k+1}}

    exact for every L, because t dμ is a semicircle law centred at 1 + γ.

    Args:
        steps: L ≥ 1.
        ratio: γ = d/n > 0.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here.

    Example:
        >>> round(looped_limit(2, 0.25).loss, 6)
        0.072
    """
    import mpmath

    steps, gamma = _check(steps, ratio)
    # The tail Σ_{k ≥ L} instead of 1 − Σ_{k < L}: no cancellation when the loss is tiny. With x = γ/(1+γ)² ≤ 1/4
    # the full sum Σ Cat_k x^k/(1+γ) is 1 for γ ≤ 1 and 1/γ for γ > 1. The tail is hypergeometric; near γ = 1 its
    # series would need (1 − γ)⁻² terms, and 1 − 4x more digits than float64 has.
    with mpmath.workdps(40):
        x = mpmath.mpf(gamma) / (1 + mpmath.mpf(gamma)) ** 2
        first = mpmath.binomial(2 * steps, steps) / (steps + 1) * x**steps / (1 + mpmath.mpf(gamma))
        tail = first * mpmath.hyp2f1(1, steps + mpmath.mpf(1) / 2, steps + 2, 4 * x)
    loss = float(tail) + max(0.0, 1 - 1 / gamma)
    return MultiStepOptimum(np.full(steps, 1 / (1 + gamma)), loss)


def least_squares_limit(ratio: float, noise_to_signal: float = 0.0) -> float:
    r"""Return the limit of the minimum-norm least-squares risk divided by tr(ΨΣ).

    .. math:: γ < 1:\; ρ \tfrac{γ}{1-γ}; \qquad γ > 1:\; 1 - \tfrac1γ + \tfrac{ρ}{γ-1}

    infinite at γ = 1 with noise.

    Args:
        ratio: γ = d/n > 0.
        noise_to_signal: ρ = σ²/tr(ΨΣ) ≥ 0.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Classical (Hastie et al. 2022, 1903.08560).

    Example:
        >>> least_squares_limit(2.0), least_squares_limit(0.5, 0.1)
        (0.5, 0.1)
    """
    _, gamma = _check(1, ratio)
    rho = checks.real("noise_to_signal", noise_to_signal, at_least=0.0)
    bias = max(0.0, 1 - 1 / gamma)
    if rho == 0:
        return bias
    if gamma == 1:
        return math.inf
    return rho * gamma / (1 - gamma) if gamma < 1 else bias + rho / (gamma - 1)


def bayes_limit(ratio: float, noise_to_signal: float) -> float:
    r"""Return the limit of the Bayes risk divided by tr(ΨΣ), for Ψ = c Σ⁻¹.

    .. math:: \tfrac12 \big(\sqrt{β² + 4ρ} - β\big), \quad β = \tfrac1γ - 1 + ρ

    Args:
        ratio: γ = d/n > 0.
        noise_to_signal: ρ = σ²/tr(ΨΣ) ≥ 0.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Classical (Stieltjes transform of the Marchenko-Pastur law).

    Example:
        >>> round(bayes_limit(1.0, 1.0), 6)
        0.618034
    """
    _, gamma = _check(1, ratio)
    rho = checks.real("noise_to_signal", noise_to_signal, at_least=0.0)
    beta = 1 / gamma - 1 + rho
    root = math.hypot(beta, 2 * math.sqrt(rho))
    return 2 * rho / (beta + root) if beta > 0 else (root - beta) / 2
