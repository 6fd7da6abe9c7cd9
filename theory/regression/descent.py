"""Gradient descent on one layer: exact trajectories, and the largest step size that does not diverge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.landscape import feature_second_moment, one_layer_spectrum
from plumbline.theory.regression.one_step import one_step_optimum
from plumbline.theory.regression.task import RegressionTask, check_task

MAX_RECORDED_STEPS = 1_000_000
"""Longest trajectory: every matrix on the way is kept."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Preconditioners (records, d, d) on the way, and their exact risks (records,); the first record is the start."""

    matrices: np.ndarray
    losses: np.ndarray


def one_layer_descent(
    task: RegressionTask, initial: Any, learning_rate: float, steps: int, *, momentum: float = 0.0
) -> Trajectory:
    r"""Return the exact trajectory of gradient descent on the one-layer population risk.

    .. math:: v_{t+1} = β v_t + ∇R(A_t), \quad A_{t+1} = A_t - η v_{t+1}, \quad v_0 = 0

    with ∇R of `one_layer_gradient` (no factor ½). The risk is quadratic, so the steps are taken mode by mode in the
    eigenbases of Γ and S and the risks are R* + ½ Σ h e², without cancellation near the optimum. β > 0 is SGD with
    momentum as in the published experiments (without noise and clipping). Larger steps than `largest_stable_step`
    diverge.

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.
        initial: A_0 (d, d), symmetric or not.
        learning_rate: η > 0.
        steps: Number of steps, from 0 to `MAX_RECORDED_STEPS`.
        momentum: β in [0, 1).

    Returns:
        `Trajectory` of ``steps`` + 1 records.

    Raises:
        ValueError: on arguments outside these ranges, or a trajectory that leaves the range of float64.

    Source:
        Derived here.

    Example:
        >>> task = RegressionTask(5, 20)
        >>> one_layer_descent(task, np.zeros((5, 5)), 0.1, 2).losses.round(6).tolist()
        [5.0, 3.26, 2.307176]
    """
    check_task(task)
    start = checks.array("initial", initial, (task.dim, task.dim))
    rate = checks.real("learning_rate", learning_rate, above=0.0)
    steps = checks.integer("steps", steps, at_least=0, at_most=MAX_RECORDED_STEPS)
    beta = _momentum(momentum)
    modes = _Modes(task)
    with checks.float_range("initial and learning_rate", (initial, learning_rate)):
        error = modes.coordinates(start)
        errors = np.empty((steps + 1, *error.shape))
        errors[0] = error
        velocity = np.zeros_like(error)
        for step in range(steps):
            velocity = beta * velocity + modes.curvature * error
            error = error - rate * velocity
            errors[step + 1] = error
        return modes.trajectory(errors)


def one_layer_flow(task: RegressionTask, initial: Any, times: Any) -> Trajectory:
    r"""Return the exact trajectory of gradient flow on the one-layer population risk.

    .. math:: \dot A = -∇R(A), \quad A(t) = A^* + U \big(e^{-h_{ij} t} [U^T (A_0 - A^*) V]_{ij}\big) V^T

    with h_ij = 2 k1 γ_i s_j, Γ = U γ U^T and S = V s V^T. Gradient descent with a small step η is at time η t after
    t steps; with momentum β at time η t/(1 − β).

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.
        initial: A(0) (d, d), symmetric or not.
        times: (records,), each at least 0, in any order.

    Returns:
        `Trajectory` of one record per time.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Derived here.

    Example:
        >>> one_layer_flow(RegressionTask(5, 20), np.zeros((5, 5)), [0, 0.5, 10]).losses.round(6).tolist()
        [5.0, 1.439514, 1.153846]
    """
    check_task(task)
    start = checks.array("initial", initial, (task.dim, task.dim))
    at = checks.array("times", times, (None,))
    if at.min() < 0:
        raise ValueError(f"times must be at least 0, got {at.min()}")
    modes = _Modes(task)
    with checks.float_range("initial and times", (initial, times)):
        decay = np.exp(-np.multiply.outer(at, modes.curvature))
        return modes.trajectory(decay * modes.coordinates(start))


def largest_stable_step(task: RegressionTask, *, momentum: float = 0.0) -> float:
    r"""Return the step size above which gradient descent on the one-layer risk diverges.

    .. math:: η_{max} = \frac{2 (1 + β)}{h_{max}}, \quad h_{max} = 2 k_1 γ_{max} s_{max}

    with γ the eigenvalues of Γ = E r r^T. Below it descent converges to the optimum from every start; above it it
    diverges from almost every one.

    Args:
        task: The data distribution; any covariance, weight covariance, label noise and covariate law.
        momentum: β in [0, 1), in the convention of `one_layer_descent`.

    Returns:
        η_max, in units of 1/h: of `one_step_risk`, without a factor ½.

    Raises:
        ValueError: on arguments outside these ranges.

    Source:
        Polyak 1964 for the heavy ball; the curvature is derived here.

    Example:
        >>> round(largest_stable_step(RegressionTask(5, 20), momentum=0.9), 12)
        1.461538461538
    """
    beta = _momentum(momentum)
    return float(2 * (1 + beta) / one_layer_spectrum(task)[-1])


def _momentum(value: float) -> float:
    beta = checks.real("momentum", value, at_least=0.0)
    if beta >= 1:
        raise ValueError(f"momentum must be less than 1, got {beta}")
    return beta


class _Modes:
    """The eigenmodes of the one-layer Hessian: A = A* + U e Vᵀ, risk R* + ½ Σ h e²."""

    def __init__(self, task: RegressionTask) -> None:
        gamma, self._left = np.linalg.eigh(feature_second_moment(task))
        s, self._right = np.linalg.eigh(task.covariance_matrix)
        self.curvature = 2 * task.radial_moments[0] * np.outer(gamma, s)
        self._optimum = one_step_optimum(task)

    def coordinates(self, matrix: np.ndarray) -> np.ndarray:
        return self._left.T @ (matrix - self._optimum.preconditioner) @ self._right

    def trajectory(self, errors: np.ndarray) -> Trajectory:
        matrices = self._optimum.preconditioner + self._left @ errors @ self._right.T
        return Trajectory(matrices, self._optimum.loss + 0.5 * np.sum(self.curvature * errors**2, axis=(1, 2)))
