"""The algorithm that a linear transformer's weights implement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from plumbline.theory.regression.task import RegressionTask


@dataclass(frozen=True, eq=False)
class Algorithm:
    """What a linear transformer does to the regression problem in its prompt, modulo its symmetries.

    Layer l is a step of gradient descent with preconditioner A_l on the examples as layer l sees them; the value
    block B_l then moves the covariates, x ← (I - B_l W_l A_l) x. In the whitened frame (z = S^{-1/2} x for the
    covariance S of the task) the nearest *scalar* algorithm, GD++, has A_l = a_l I and B_l = b_l I.

    Attributes:
        preconditioners: A_l, (layers, d, d), in the order of the layers: -K summed over the heads; for one layer
            of full weights -∑_h (p2 A + p1 a^T).
        value_blocks: B_l, (layers - 1, d, d), or ``None`` where there are none (zero value block, full weights). The
            last layer's block has no influence. Several heads: the B for which B W A is nearest to
            -∑_h B_h W K_h as a function of W.
        step_sizes: a_l, (layers,): mean diagonals of the whitened preconditioners; ascending where the value block
            is zero, since the order of scalar steps is then irrelevant.
        shrinkages: b_l, (layers - 1,): mean diagonals of the whitened value blocks, 0 where there are none.
        distance: Relative Frobenius distance (whitened) from the nearest scalar algorithm, 0 to 1: the larger of
            that of the preconditioners and, for a free value block, that of the maps W ↦ ∑_h B_h W K_h. For full
            weights that of the prediction's coefficients in the Gram matrix, so that even parts count.
    """

    preconditioners: np.ndarray
    value_blocks: np.ndarray | None
    step_sizes: np.ndarray
    shrinkages: np.ndarray
    distance: float


def read_sparse(key_query: np.ndarray, value: np.ndarray | None, task: RegressionTask | None) -> Algorithm:
    """Read published weights (layers, heads, d, d)."""
    layers, _, d, _ = key_query.shape
    root, inverse = whitening(task, d)
    eye = np.eye(d)
    k = root @ key_query @ root
    a = -k.sum(1)
    steps = np.trace(a, axis1=1, axis2=2) / d
    distance = _relative(a - steps[:, None, None] * eye, a)
    preconditioners = -key_query.sum(1)
    if value is None:
        return Algorithm(preconditioners, None, np.sort(steps), np.zeros(layers - 1), distance)
    k, b = k[:-1], (inverse @ value @ root)[:-1]
    # Projection of ∑_h B_h ⊗ K_h on matrices of the form B ⊗ ∑_h K_h.
    size = np.sum(a[:-1] ** 2, axis=(1, 2))
    share = -np.einsum("lhij,lij->lh", k, a[:-1]) / np.where(size > 0, size, 1)[:, None]
    blocks = np.einsum("lh,lhij->lij", share, b)
    shrinkages = np.trace(blocks, axis1=1, axis2=2) / d
    # Less the scalar maps, -∑ a_l b_l I ⊗ I, which are one more head.
    off_b = np.concatenate([b, (steps[:-1] * shrinkages)[:, None, None, None] * eye], axis=1)
    off_k = np.concatenate([k, np.broadcast_to(eye, (layers - 1, 1, d, d))], axis=1)
    distance = max(distance, _relative(map_norms(off_b, off_k), map_norms(b, k)))
    return Algorithm(preconditioners, root @ blocks @ inverse, steps, shrinkages, distance)


def read_full(key_query: np.ndarray, value: np.ndarray, task: RegressionTask | None) -> Algorithm:
    """Read one layer of full weights (heads, d+1, d+1)."""
    d = key_query.shape[-1] - 1
    root, inverse = whitening(task, d)
    frame = np.eye(d + 1)
    frame[:d, :d] = root
    # prediction = -∑_ij T_ijk G_ij x_k: T is what the weights are modulo all symmetries, once symmetric in i, j.
    t = np.einsum("hi,hjk->ijk", value[:, -1] @ frame, frame @ key_query[:, :, :d] @ root)
    t = (t + t.swapaxes(0, 1)) / 2
    a = -2 * t[d, :d]
    step = np.trace(a) / d
    scalar = np.zeros_like(t)
    scalar[d, :d] = scalar[:d, d] = -step / 2 * np.eye(d)
    preconditioner = inverse @ a @ inverse
    return Algorithm(preconditioner[None], None, np.array([step]), np.zeros(0), _relative(t - scalar, t))


def map_norms(value: np.ndarray, key_query: np.ndarray) -> np.ndarray:
    """Frobenius norms (layers,) of the maps W ↦ ∑_h B_h W K_h of weights (layers, heads, d, d), in d² numbers each."""
    layers, heads = key_query.shape[:2]
    if not layers:
        return np.zeros(0)
    # In an orthonormal basis of the span of the K_h the norm is that of the coefficients.
    triangles = np.linalg.qr(key_query.reshape(layers, heads, -1).swapaxes(1, 2), mode="r")
    return np.linalg.norm(np.einsum("lqh,lhij->lqij", triangles, value).reshape(layers, -1), axis=1)


def whitening(task: RegressionTask | None, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric square root of the task's covariance S, and its inverse; the identity without a task."""
    if task is None or task.covariance is None:
        return np.eye(dim), np.eye(dim)
    values, vectors = np.linalg.eigh(task.covariance_matrix)
    return (vectors * values**0.5) @ vectors.T, (vectors * values**-0.5) @ vectors.T


def _relative(difference: np.ndarray, whole: np.ndarray) -> float:
    size = float(np.linalg.norm(whole))
    return float(np.linalg.norm(difference)) / size if size > 0 else 0.0
