"""Exact risks of the textbook estimators: zero, least squares, ridge, Bayes."""

from __future__ import annotations

import math

import numpy as np

from plumbline.theory import checks
from plumbline.theory.estimate import Estimate
from plumbline.theory.regression.one_step import square_root
from plumbline.theory.regression.spectrum import MAX_NODES, spectral_quadrature
from plumbline.theory.regression.task import RegressionTask, check_task

BRACKET_NODES = (16, 32, MAX_NODES)
"""Numbers of quadrature nodes tried in turn, until the bracket is narrow."""
BRACKET_WIDTH = 1e-10
"""Relative half-width at which a bracket is narrow enough."""
ISOTROPY_TOLERANCE = 1e-9
"""Relative spread of eigenvalues taken for rounding when a formula needs a multiple of the identity."""


def zero_predictor_risk(task: RegressionTask) -> float:
    """Return E (w·x)² = tr(ΨΣ), the risk of answering zero: the scale on which all risks are read.

    Args:
        task: The data distribution.

    Raises:
        ValueError: if ``task`` is not a `RegressionTask`.

    Example:
        >>> zero_predictor_risk(RegressionTask(5, 20))
        5.0
    """
    return check_task(task).signal


def _gaussian(task: RegressionTask, what: str) -> RegressionTask:
    if check_task(task).covariate_law != "gaussian":
        raise ValueError(f'task.covariate_law must be "gaussian" for {what}, got {task.covariate_law!r}')
    return task


def _is_isotropic(matrix: np.ndarray) -> bool:
    values = np.linalg.eigvalsh(matrix)
    return bool(values[-1] - values[0] <= ISOTROPY_TOLERANCE * values[-1])


def least_squares_risk(task: RegressionTask, *, whitened: bool = False) -> float:
    r"""Return the exact risk of minimum-norm least squares.

    .. math:: d ≤ n:\; d σ²/(n-d-1); \qquad d > n:\; tr(ΨΣ)(1 - n/d) + n σ²/(d-n-1)

    infinite with noise where |n − d| ≤ 1.

    Args:
        task: Gaussian covariates; any weight covariance and noise. Where n < d the smallest |w| needs a
            covariance c·I, or ``whitened``.
        whitened: Take the smallest |Σ^{1/2} w| among all interpolating w; then any covariance has the formula.

    Returns:
        The risk, `math.inf` where the expectation diverges.

    Raises:
        ValueError: for non-Gaussian covariates, or n < d with an anisotropic covariance and no whitening.

    Source:
        Classical (inverse Wishart moments).

    Example:
        >>> least_squares_risk(RegressionTask(5, 20, noise_variance=1.0)), least_squares_risk(RegressionTask(5, 2))
        (0.35714285714285715, 3.0)
    """
    _gaussian(task, "least squares")
    d, n, noise = task.dim, task.context_length, task.noise_variance
    if n < d and not whitened and not _is_isotropic(task.covariance_matrix):
        raise ValueError(
            f"task.covariance must be a multiple of the identity where context_length {n} < dim {d}, "
            "or pass whitened=True; the minimum-norm risk has no closed form otherwise"
        )
    bias = task.signal * max(0.0, 1 - n / d)
    if noise == 0:
        return bias
    if abs(n - d) <= 1:
        return math.inf
    return bias + (d if n > d else n) * noise / (abs(n - d) - 1)


def ridge_risk(task: RegressionTask, penalty: float | None = None) -> Estimate:
    r"""Return the risk of whitened ridge regression, at a given or at its optimal penalty.

    .. math:: ŵ = \arg\min_w \tfrac{1}{n}|y - Xw|² + λ\, w^T Σ w, \qquad
              R(λ) = tr(ΨΣ) ∫ \tfrac{λ²}{(t+λ)²} dμ + d\tfrac{σ²}{n} ∫ \tfrac{t}{(t+λ)²} dμ

    The optimal penalty is λ = d σ²/(n tr(ΨΣ)); it makes ridge the Bayes predictor where Ψ = c Σ⁻¹.

    Args:
        task: Gaussian covariates; any covariance, weight covariance and noise.
        penalty: λ > 0 in the loss with 1/n; ``None`` is the optimal one (needs noise).

    Returns:
        `Estimate` whose error is half the width of a certified bracket (Gauss below, Gauss-Radau above).

    Raises:
        ValueError: for non-Gaussian covariates, a penalty that is not positive, or no penalty without noise.

    Source:
        Classical; the finite (d, n) values are derived here.

    Example:
        >>> risk = ridge_risk(RegressionTask(5, 20, noise_variance=1.0))
        >>> round(risk.value, 6), risk.error < 1e-8
        (0.324182, True)
    """
    _gaussian(task, "ridge regression")
    d, n, noise, signal = task.dim, task.context_length, task.noise_variance, task.signal
    if penalty is None:
        if noise == 0:
            raise ValueError(
                "penalty must be given where noise_variance is 0 (the best penalty is then the limit 0: "
                "see least_squares_risk), got None"
            )
        penalty = d * noise / (n * signal)
    lam = checks.real("penalty", penalty, above=0.0)
    # λ²/(t+λ)² and t/(t+λ)² = [λ/(t+λ) − λ²/(t+λ)²]/λ in the completely monotone λ/(t+λ) and λ²/(t+λ)²,
    # whose integrals Gauss and Gauss-Radau enclose.
    first_factor = d * noise / n / lam
    second_factor = signal - first_factor
    for nodes in BRACKET_NODES:
        first, second = _resolvent_brackets(lam, d, n, nodes)
        ends = np.sort(np.multiply.outer([first_factor, second_factor], [first, second])[[0, 1], [0, 1]], axis=1)
        low, high = ends.sum(axis=0)
        if high - low <= 2 * BRACKET_WIDTH * high:
            break
    return Estimate(float(low + high) / 2, float(high - low) / 2, "Gauss and Gauss-Radau quadrature, certified bracket")


def _resolvent_brackets(lam: float, d: int, n: int, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of ∫ λ/(t+λ) dμ and of ∫ λ²/(t+λ)² dμ."""
    # For n < d, V has d − n exact zeros and beside them the spectrum of the n × n Wishart with d degrees of
    # freedom, rescaled by d/n: the atom is taken out, and the rest converges fast.
    small, large = min(d, n), max(d, n)
    rules = [spectral_quadrature(nodes, small, large, radau=radau) for radau in (False, True)]

    def integral(power: int) -> np.ndarray:
        parts = [rule.weights @ (lam / (large / n * rule.nodes + lam)) ** power for rule in rules]
        return 1 - small / d + small / d * np.array(parts)

    return integral(1), integral(2)


def bayes_risk(task: RegressionTask) -> Estimate:
    r"""Return the smallest risk any predictor can have: that of the posterior mean.

    .. math:: R = tr(ΨΣ) ∫ \tfrac{s}{t + s} dμ(t), \quad s = d σ²/(n\, tr(ΨΣ)) \quad (Ψ^{1/2} Σ Ψ^{1/2} = c I)

    Without noise: 0 for n ≥ d, tr(ΨΣ)(1 − n/d) for n < d. Every linear transformer stays above it.

    Args:
        task: Gaussian covariates, and Ψ^{1/2} Σ Ψ^{1/2} a multiple of the identity (Ψ = c Σ⁻¹), except where
            n ≥ d without noise, when the risk is 0 for every Ψ.

    Returns:
        `Estimate`: exact (error 0) without noise, otherwise a certified bracket.

    Raises:
        ValueError: for non-Gaussian covariates, or where the condition on Ψ fails.

    Source:
        Classical; the finite (d, n) values are derived here.

    Example:
        >>> round(bayes_risk(RegressionTask(5, 20, noise_variance=1.0)).value, 6)
        0.324182
    """
    _gaussian(task, "the Bayes risk")
    d, n = task.dim, task.context_length
    if task.noise_variance == 0 and n >= d:
        return Estimate(0.0, 0.0, "exact")
    root = square_root(task.weight_covariance_matrix)
    if not _is_isotropic(root @ task.covariance_matrix @ root):
        raise ValueError(
            "task.weight_covariance must be a multiple of the inverse of task.covariance for the Bayes risk; "
            f"the eigenvalues of their product are {np.linalg.eigvalsh(root @ task.covariance_matrix @ root)}"
        )
    if task.noise_variance == 0:
        return Estimate(task.signal * (1 - n / d), 0.0, "exact")
    return ridge_risk(task)
