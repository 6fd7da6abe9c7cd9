"""The loss as a landscape: gradient and Hessian of one layer everywhere, and of any depth at zero."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.task import RegressionTask, check_task

MAX_LAYERS = 64
"""Deepest network whose Hessian at zero is written down."""
MAX_PARAMETERS = 20_000
"""Largest number of parameters of a Hessian that is returned as a matrix (3 GB)."""


def feature_second_moment(task: RegressionTask) -> np.ndarray:
    r"""Return Γ = E r r^T (d, d) of r = (1/n) Σ yᵢxᵢ, what one layer regresses on.

    .. math:: Γ = \big(\tfrac{n-1}{n} k_1² + \tfrac{2 k_2}{n}\big) SΨS + \tfrac{k_2 tr(ΨS) + k_1 σ²}{n} S
    """
    n, (k1, k2) = task.context_length, task.radial_moments
    s, psi = task.covariance_matrix, task.weight_covariance_matrix
    linear = (k2 * np.sum(psi * s) + k1 * task.noise_variance) / n
    gamma = ((n - 1) / n * k1**2 + 2 * k2 / n) * s @ psi @ s + linear * s
    return (gamma + gamma.T) / 2


def one_layer_gradient(task: RegressionTask, matrix: Any) -> np.ndarray:
    r"""Return the gradient of the exact one-layer risk in the preconditioner A, at any matrix.

    .. math:: ∇R(A) = 2 k_1 (Γ A - k_1 SΨ) S, \quad Γ = E r r^T

    For Gaussian covariates 2 (ΓA − ΣΨ) Σ. The convention is that of `one_step_risk`: the layer answers
    ((1/n) Σ yᵢxᵢ)ᵀ A x_query, A = −K with K the key-query block, so that the gradient in K is the negative of this.
    No factor ½. The value block of a single layer never matters: the gradient in it is zero.

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.
        matrix: A (d, d), symmetric or not.

    Returns:
        ∂R/∂A_ij as an array (d, d).

    Raises:
        ValueError: on a matrix of another shape or with non-finite entries.

    Source:
        Derived here from the risk of Ahn et al. 2023 (2306.00297), Theorem 1, at any covariances and law.

    Example:
        >>> one_layer_gradient(RegressionTask(2, 4), [[0, 0], [0, 1]]).tolist()
        [[-2.0, 0.0], [0.0, 1.5]]
    """
    check_task(task)
    a = checks.array("matrix", matrix, (task.dim, task.dim))
    k1 = task.radial_moments[0]
    s, psi = task.covariance_matrix, task.weight_covariance_matrix
    with checks.float_range("matrix", matrix):
        return 2 * k1 * (feature_second_moment(task) @ a - k1 * s @ psi) @ s


def one_layer_hessian(task: RegressionTask) -> np.ndarray:
    r"""Return the Hessian of the exact one-layer risk in the preconditioner, the same at every matrix.

    .. math:: H = 2 k_1 Γ ⊗ S, \quad \frac{∂²R}{∂A_{ij} ∂A_{kl}} = 2 k_1 Γ_{ik} S_{jl}

    vec is taken row by row: A_ij has the index i d + j, as in ``A.reshape(-1)``. The sign of A (or of the key-query
    block) does not matter. The value block is left out: its Hessian is zero.

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.

    Returns:
        Symmetric positive definite (d², d²).

    Raises:
        ValueError: if ``task`` is not a `RegressionTask`, or d² exceeds `MAX_PARAMETERS`.

    Source:
        Derived here.

    Example:
        >>> one_layer_hessian(RegressionTask(2, 4)).diagonal().tolist()
        [3.5, 3.5, 3.5, 3.5]
    """
    check_task(task)
    _check_size(task.dim**2, "task.dim")
    return 2 * task.radial_moments[0] * np.kron(feature_second_moment(task), task.covariance_matrix)


def one_layer_spectrum(task: RegressionTask) -> np.ndarray:
    r"""Return the eigenvalues of the one-layer Hessian, ascending.

    .. math:: h_{ij} = 2 k_1 γ_i s_j

    with γ the eigenvalues of Γ = E r r^T and s those of S: without the d² × d² matrix, at any dimension.

    Args:
        task: The data distribution.

    Returns:
        (d²,), positive.

    Raises:
        ValueError: if ``task`` is not a `RegressionTask`.

    Source:
        Derived here.

    Example:
        >>> one_layer_spectrum(RegressionTask(2, 4)).tolist()
        [3.5, 3.5, 3.5, 3.5]
    """
    check_task(task)
    gamma = np.linalg.eigvalsh(feature_second_moment(task))
    s = np.linalg.eigvalsh(task.covariance_matrix)
    return np.sort(2 * task.radial_moments[0] * np.outer(gamma, s).ravel())


def gradient_at_zero(task: RegressionTask, layers: int) -> np.ndarray:
    r"""Return the gradient of the exact risk of L layers at zero weights.

    .. math:: \frac{∂R}{∂A_l} = -2 ΣΨΣ \text{ for every } l, \quad \frac{∂R}{∂B_l} = 0

    with B_l the value blocks and A_l = −K_l the negatives of the key-query blocks of `linear_transformer_risk`. Its
    norm is 2 √L |ΣΨΣ|. Σ = E x x^T; label noise does not enter.

    Args:
        task: The data distribution.
        layers: L, from 1 to `MAX_LAYERS`.

    Returns:
        (2, L, d, d): first the value blocks (zeros), then the A.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here.

    Example:
        >>> round(float(np.linalg.norm(gradient_at_zero(RegressionTask(5, 20), 3))), 6)
        7.745967
    """
    check_task(task)
    layers = checks.integer("layers", layers, at_least=1, at_most=MAX_LAYERS)
    result = np.zeros((2, layers, task.dim, task.dim))
    result[1] = one_layer_gradient(task, np.zeros((task.dim, task.dim)))
    return result


def hessian_at_zero(task: RegressionTask, layers: int) -> np.ndarray:
    r"""Return the Hessian of the exact risk of L layers at zero weights, over all 2 L d² parameters.

    .. math:: D²R = 2 tr(Γ \bar A Σ \bar A^T) + 4 ∑_{l<m} tr(Ψ E[W A_l W] A_m Σ), \quad \bar A = ∑_l A_l, \\
              E[W A W] = \tfrac{n-1}{n} k_1² SAS + \tfrac{k_2}{n} (SAS + SA^TS + tr(AS) S)

    as the second derivative along the direction (A_l). Everything with a value block is zero: a value block acts only
    between two key-query blocks. From two layers on there are negative eigenvalues: the direction A_1 = S⁻¹, A_2 = −S⁻¹
    has Ā = 0 and a negative second term.

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.
        layers: L, from 1 to `MAX_LAYERS`.

    Returns:
        Symmetric (2 L d², 2 L d²); parameters in the order of ``gradient_at_zero(task, layers).reshape(-1)``: value
        blocks first, then the A_l = −K_l, layer by layer, each row by row.

    Raises:
        ValueError: on arguments outside these ranges, or more than `MAX_PARAMETERS` parameters.

    Source:
        Derived here.

    Example:
        >>> hessian = hessian_at_zero(RegressionTask(2, 4), 2)
        >>> np.linalg.eigvalsh(hessian)[[0, -1]].round(12).tolist()
        [-3.5, 10.5]
    """
    check_task(task)
    layers = checks.integer("layers", layers, at_least=1, at_most=MAX_LAYERS)
    d, n, (k1, k2) = task.dim, task.context_length, task.radial_moments
    size = layers * d * d
    _check_size(2 * size, "layers")
    s = task.covariance_matrix
    m = k1 * s @ task.weight_covariance_matrix @ s  # Σ Ψ S, read from the right of A_m to the left of A_l
    apart = (n - 1) / n * k1**2 + k2 / n
    mixed = apart * np.einsum("pi,jk->ijkp", m, s)
    mixed += k2 / n * (np.einsum("pj,ik->ijkp", m, s) + np.einsum("ij,pk->ijkp", s, m))
    earlier_later = 2 * mixed.reshape(d * d, d * d)
    earlier = np.triu(np.ones((layers, layers)), 1)
    result = np.zeros((2 * size, 2 * size))
    result[size:, size:] = (
        np.kron(np.ones((layers, layers)), one_layer_hessian(task))
        + np.kron(earlier, earlier_later)
        + np.kron(earlier.T, earlier_later.T)
    )
    return result


def _check_size(parameters: int, name: str) -> None:
    if parameters > MAX_PARAMETERS:
        raise ValueError(
            f"{name} must leave at most {MAX_PARAMETERS} parameters for a Hessian written as a matrix, got {parameters}"
        )
