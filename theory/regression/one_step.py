"""One layer: the exact risk of any one-step predictor, and its minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.task import RegressionTask, check_task


@dataclass(frozen=True, eq=False)
class OneStepOptimum:
    """The best preconditioner A* (d, d) of one step, and its risk."""

    preconditioner: np.ndarray
    loss: float


def square_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric positive definite square root."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values)) @ vectors.T


def one_step_optimum(task: RegressionTask) -> OneStepOptimum:
    r"""Return the preconditioner that minimises the one-step risk over all d × d matrices, and the minimum.

    .. math:: A^* = k_1 \Big[ α Ψ S + \big(\tfrac{k_2}{n} tr(ΨS) + \tfrac{k_1 σ²}{n}\big) I \Big]^{-1} Ψ,
              \quad α = \tfrac{n-1}{n} k_1² + \tfrac{2 k_2}{n}

    which for Gaussian covariates is [(1+1/n) Σ + ((tr ΨΣ + σ²)/n) Ψ⁻¹]⁻¹. It is the global minimum over a
    one-layer linear transformer, also with full (d+1) × (d+1) weights. The covariances need not commute.

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.

    Returns:
        `OneStepOptimum`: A* symmetric (d, d), in the convention ((1/n) Σ yᵢxᵢ)ᵀ A x_query, and its risk.

    Raises:
        ValueError: if ``task`` is not a `RegressionTask`.

    Source:
        Ahn, Cheng, Daneshmand, Sra 2023 (2306.00297), Theorem 1, for Ψ = I without noise; Zhang, Frei,
        Bartlett 2023 (2306.09927) and Mahankali et al. 2023 (2307.03576) for special cases. Weight
        covariances that do not commute, and the sphere and gamma laws, are derived here.

    Example:
        >>> round(one_step_optimum(RegressionTask(5, 20)).loss, 12)
        1.153846153846
    """
    check_task(task)
    n, (k1, k2) = task.context_length, task.radial_moments
    root = square_root(task.weight_covariance_matrix)
    theta, basis = np.linalg.eigh(root @ task.covariance_matrix @ root)
    alpha = (n - 1) / n * k1**2 + 2 * k2 / n
    ridge = k2 / n * theta.sum() + task.noise_variance * k1 / n
    half = root @ basis
    preconditioner = k1 * (half / (alpha * theta + ridge)) @ half.T
    # α − k1² is formed without cancellation, so that the risk stays accurate at n = 10⁶.
    loss = k1 * np.sum(theta * ((2 * k2 - k1**2) / n * theta + ridge) / (alpha * theta + ridge))
    # Rounding may leave −1e-17 where the minimum is 0 (x = ±1 on the sphere in one dimension).
    return OneStepOptimum((preconditioner + preconditioner.T) / 2, max(float(loss), 0.0))


def one_step_risk(task: RegressionTask, preconditioner: Any, test_length: int | None = None) -> float:
    r"""Return the exact risk of the one-step predictor with any matrix A, symmetric or not.

    .. math:: R(A) = k_1 tr\big(Ψ (I - k_1 SA) S (I - k_1 SA)^T\big)
              + \tfrac{k_1}{m} tr\big([(2k_2 - k_1²) SΨS + (k_2 tr(ΨS) + k_1 σ²) S] A S A^T\big)

    with m the context length at test time. Every term is non-negative for k1² ≤ 2 k2, so nothing cancels.

    Args:
        task: The data distribution.
        preconditioner: A (d, d), in the convention ((1/m) Σ yᵢxᵢ)ᵀ A x_query.
        test_length: m, the number of examples in the test prompt; ``None`` is the task's context length.

    Returns:
        E(prediction − w·x_query)².

    Raises:
        ValueError: on a matrix of another shape or with non-finite entries, or ``test_length`` < 1.

    Source:
        Derived here; the case m ≠ n of the trained optimum is in Zhang, Frei, Bartlett 2023 (2306.09927).

    Example:
        >>> task = RegressionTask(5, 20)
        >>> round(one_step_risk(task, one_step_optimum(task).preconditioner, test_length=100), 12)
        0.443786982249
    """
    check_task(task)
    a = checks.array("preconditioner", preconditioner, (task.dim, task.dim))
    m = task.context_length if test_length is None else checks.integer("test_length", test_length, at_least=1)
    k1, k2 = task.radial_moments
    s, psi = task.covariance_matrix, task.weight_covariance_matrix
    spread = (2 * k2 - k1**2) * s @ psi @ s + (k2 * np.sum(psi * s) + k1 * task.noise_variance) * s
    with checks.float_range("preconditioner", preconditioner):
        miss = np.eye(task.dim) - k1 * s @ a
        bias = k1 * np.sum((psi @ miss) * (miss @ s))
        risk = float(bias + k1 / m * np.sum((spread @ a) * (a @ s)))
    return max(risk, 0.0)
