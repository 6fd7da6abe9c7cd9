"""Triggers that are not equally frequent: their scales along the gradient flow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.reasoning.task import ReasoningTask, check_task

MAX_LENGTH = 500.0
"""Longest path of the normalised flow: the flow time grows like e^length."""
NODES, PANELS = np.polynomial.legendre.leggauss(16), 32


def gradient_flow(task: ReasoningTask, time: float, trigger_probabilities: Any) -> np.ndarray:
    r"""Return the scales λ_k of a linear or ReLU model after gradient flow dλ/dT = −∇L from 0, without noise.

    .. math:: e^{λ_k} + (N-1) λ_k = 1 + (N-1) π_k T \;⇒\; λ_k = \log\big((N-1)\, ω(c - \log(N-1))\big)

    with c = π_k T + 1/(N−1) and ω(x) = W(e^x) the Wright omega function, the Lambert function in log space. So
    λ_k − λ_j → log(π_k/π_j): frequent triggers lead by a constant.

    Args:
        task: The data distribution, without noise; its triggers taken with the given probabilities.
        time: T ≥ 0.
        trigger_probabilities: π (Q,), positive, summing to 1.

    Returns:
        λ (Q,).

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here; Theorem 3.2 of 2505.15009 assumes equal frequencies for its formula.

    Example:
        >>> gradient_flow(ReasoningTask(triggers=2), 1000.0, [0.9, 0.1]).round(6).tolist()
        [10.867802, 8.593044]
    """
    weights = check_probabilities(task, trigger_probabilities)
    return _flow(task, checks.real("time", time, at_least=0.0), weights)


def normalized_gradient_flow(task: ReasoningTask, length: float, trigger_probabilities: Any) -> np.ndarray:
    r"""Return the scales λ_k at path length s: the limit of normalised gradient descent, s = η t, for small η.

    The path is that of `gradient_flow`, run through at unit speed: T solves

    .. math:: s = ∫_0^T \Big(∑_k \frac{π_k²}{(1 + e^{λ_k}/(N-1))²}\Big)^{1/2} dT'

    Equal probabilities give λ_k = s/√Q; other ones the same up to constants, so the rate is 1/√Q whatever they are.

    Args:
        task: The data distribution, without noise.
        length: s from 0 to `MAX_LENGTH`.
        trigger_probabilities: π (Q,), positive, summing to 1.

    Returns:
        λ (Q,), to about 1e-10.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> normalized_gradient_flow(ReasoningTask(triggers=2), 10.0, [0.5, 0.5]).round(6).tolist()
        [7.071068, 7.071068]
    """
    from scipy.optimize import brentq

    weights = check_probabilities(task, trigger_probabilities)
    length = checks.real("length", length, at_least=0.0, at_most=MAX_LENGTH)
    if not length:
        return np.zeros(task.triggers)
    nodes, node_weights = NODES

    def travelled(log_time: float) -> float:
        """Path length up to T = e^x − 1, the integral in x by Gauss-Legendre on equal panels."""
        width = log_time / PANELS
        x = (width * (np.arange(PANELS)[:, None] + (nodes + 1) / 2)).ravel()
        scales = _flow(task, np.expm1(x)[:, None], weights)
        speed = np.linalg.norm(weights / (1 + np.exp(scales) / (task.vocab_size - 1)), axis=1)
        return float(np.sum(np.tile(node_weights, PANELS) * speed * np.exp(x))) * width / 2

    high = 1.0
    while travelled(high) < length:
        high *= 2
    return _flow(task, math.expm1(brentq(lambda x: travelled(x) - length, 0.0, high, xtol=1e-13)), weights)


def _flow(task: ReasoningTask, time: Any, weights: np.ndarray) -> np.ndarray:
    from scipy.special import wrightomega

    distance = math.log(task.vocab_size - 1)
    return distance + np.log(wrightomega(weights * time + 1 / (task.vocab_size - 1) - distance))


def check_probabilities(task: ReasoningTask, value: Any) -> np.ndarray:
    """Return trigger probabilities (Q,), positive and summing to 1; refuse tasks with noise."""
    check_task(task, noise=False)
    result = checks.array("trigger_probabilities", value, (task.triggers,))
    if (result <= 0).any() or abs(result.sum() - 1) > 1e-9:
        raise ValueError(f"trigger_probabilities must be positive and sum to 1, got {result.tolist()}")
    return result / result.sum()
