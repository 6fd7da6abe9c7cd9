"""The regression tasks on which claims are checked."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from plumbline.theory.regression import RegressionTask

PUBLISHED_SPECTRUM = (1.0, 1.0, 0.5, 0.25, 1.0)
"""D of the published rotated covariance Σ = U D² Uᵀ (its notebooks, d = 5)."""


def rotation(dim: int, seed: int) -> np.ndarray:
    """A Haar-distributed rotation."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))
    return q * np.sign(np.diag(r))


@cache
def rotated_task(context_length: int = 20, *, noise_variance: float = 0.0, seed: int = 0) -> RegressionTask:
    """The published task: d = 5, Σ = U D² Uᵀ, weights of covariance Σ⁻¹."""
    u = rotation(5, seed)
    squares = np.square(PUBLISHED_SPECTRUM)
    return RegressionTask(
        5,
        context_length,
        covariance=(u * squares) @ u.T,
        weight_covariance=(u / squares) @ u.T,
        noise_variance=noise_variance,
    )


def random_task(dim: int, context_length: int, seed: int, **options: Any) -> RegressionTask:
    """A task with a random covariance, and a weight covariance that does not commute with it."""
    rng = np.random.default_rng(seed)

    def spd() -> np.ndarray:
        u = rotation(dim, int(rng.integers(2**31)))
        return (u * np.exp(rng.uniform(-1, 1, size=dim))) @ u.T

    options = {"covariance": spd(), "weight_covariance": spd(), **options}
    return RegressionTask(dim, context_length, **options)
