"""The data distribution of in-context linear regression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from plumbline.theory import checks

CovariateLaw = Literal["gaussian", "sphere", "gamma"]
MAX_SIZE = 10**12
"""Largest dimension and context length: beyond it float64 cannot resolve the spectrum 1 ± sqrt(d/n)."""
COVARIATE_LAWS = ("gaussian", "sphere", "gamma")
Matrix = tuple[tuple[float, ...], ...]


def _frozen(matrix: np.ndarray) -> Matrix:
    return tuple(tuple(float(entry) for entry in row) for row in matrix)


@dataclass(frozen=True)
class RegressionTask:
    r"""A prompt of n examples (x_i, y_i) and a query x_q, all from one random linear model.

    .. math:: y_i = w^T x_i + ε_i,\quad x_i = S^{1/2} z_i,\quad w ∼ N(0, Ψ),\quad ε_i ∼ N(0, σ²)

    with z rotation invariant: ``"gaussian"`` z ~ N(0, I); ``"sphere"`` z uniform on the unit sphere;
    ``"gamma"`` z = r u with u uniform on the unit sphere and r² ~ Gamma(shape k, scale sqrt(10/k)), the
    heavy-tailed law of the published experiments (k = 5/2 at d = 5 is N(0, I)).

    Args:
        dim: Covariate dimension d, from 1 up.
        context_length: Number n of examples in the prompt, from 1 up.
        covariance: S, symmetric positive definite (d, d); ``None`` is the identity. For Gaussian covariates
            this is their covariance. For the other laws E x x^T = k1 S, see `second_moment`.
        weight_covariance: Ψ = E w w^T, symmetric positive definite (d, d); ``None`` is the identity.
        noise_variance: σ² ≥ 0, the variance of the label noise.
        covariate_law: ``"gaussian"``, ``"sphere"`` or ``"gamma"``.
        gamma_shape: k > 0, given exactly when the law is ``"gamma"``.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Example:
        >>> task = RegressionTask(5, 20, covariate_law="sphere")
        >>> task.second_moment.diagonal().tolist()
        [0.2, 0.2, 0.2, 0.2, 0.2]
    """

    dim: int
    context_length: int
    covariance: Any = None  # given as any array, kept as nested tuples so that the task is hashable
    weight_covariance: Any = None
    noise_variance: float = 0.0
    covariate_law: CovariateLaw = "gaussian"
    gamma_shape: float | None = None

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("dim", checks.integer("dim", self.dim, at_least=1, at_most=MAX_SIZE))
        put("context_length", checks.integer("context_length", self.context_length, at_least=1, at_most=MAX_SIZE))
        for name in ("covariance", "weight_covariance"):
            matrix = getattr(self, name)
            if matrix is not None:
                put(name, _frozen(checks.positive_definite(name, matrix, self.dim)))
        noise_variance = checks.real("noise_variance", self.noise_variance, at_least=0.0, at_most=checks.MAX_SCALE)
        put("noise_variance", noise_variance)
        checks.one_of("covariate_law", self.covariate_law, COVARIATE_LAWS)
        if self.covariate_law == "gamma":
            if self.gamma_shape is None:
                raise ValueError('gamma_shape must be given when covariate_law is "gamma", got None')
            put("gamma_shape", checks.real("gamma_shape", self.gamma_shape, above=0.0, at_most=1e60))
        elif self.gamma_shape is not None:
            raise ValueError(
                f'gamma_shape is for covariate_law "gamma" only, got {self.gamma_shape!r} with {self.covariate_law!r}'
            )

    @cached_property
    def covariance_matrix(self) -> np.ndarray:
        """S as an array (d, d)."""
        return np.eye(self.dim) if self.covariance is None else np.array(self.covariance)

    @cached_property
    def weight_covariance_matrix(self) -> np.ndarray:
        """Ψ as an array (d, d)."""
        return np.eye(self.dim) if self.weight_covariance is None else np.array(self.weight_covariance)

    @property
    def radial_moments(self) -> tuple[float, float]:
        """(k1, k2) = (E|z|²/d, E|z|⁴/(d(d+2))); both are 1 for Gaussian covariates."""
        d = self.dim
        if self.covariate_law == "sphere":
            return 1 / d, 1 / (d * (d + 2))
        if self.covariate_law == "gamma":
            assert self.gamma_shape is not None
            return math.sqrt(10 * self.gamma_shape) / d, 10 * (self.gamma_shape + 1) / (d * (d + 2))
        return 1.0, 1.0

    @property
    def second_moment(self) -> np.ndarray:
        """Σ = E x x^T = k1 S as an array (d, d)."""
        return self.radial_moments[0] * self.covariance_matrix

    @property
    def signal(self) -> float:
        """E (w^T x)² = tr(Ψ Σ), the risk of answering zero."""
        return float(np.sum(self.weight_covariance_matrix * self.second_moment))


def check_task(task: Any) -> RegressionTask:
    """Return ``task`` if it is a `RegressionTask`; otherwise raise ValueError."""
    if not isinstance(task, RegressionTask):
        raise ValueError(f"task must be a RegressionTask, got {task!r}")
    return task
