"""Normalised gradient descent: the exact path of the scales and the loss along it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.reasoning.bayes import noise_logit
from plumbline.theory.reasoning.convergence import check_learning_rate, step_length
from plumbline.theory.reasoning.gradient_flow import check_probabilities
from plumbline.theory.reasoning.layer import LINEAR_F, LINEAR_FA, Layer, check_layer
from plumbline.theory.reasoning.optimum import optimal_scale
from plumbline.theory.reasoning.population_loss import (
    log_competitors,
    log_distance,
    population_loss,
    population_loss_derivative,
)
from plumbline.theory.reasoning.softmax_loss import METHODS
from plumbline.theory.reasoning.task import ReasoningTask

MAX_STEPS = 10**7
"""Largest number of steps of a curve."""


@dataclass(frozen=True, eq=False)
class NormalizedGDCurve:
    """The path of normalised gradient descent from scale 0.

    Attributes:
        scales: λ after 0, 1, …, T steps: (T + 1,), or (T + 1, Q) where the triggers move apart.
        losses: The population loss at each of them (T + 1,); of a replay the loss of batch t before its step (T,).
    """

    scales: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class LimitCycle:
    """The two scales between which normalised gradient descent ends up jumping, and their losses.

    Attributes:
        first_step: The first step after which the scale is at or past the optimum.
        scales: (below, above) the optimum, in ascending order.
        losses: The population losses there.
    """

    first_step: int
    scales: tuple[float, float]
    losses: tuple[float, float]


def normalized_gd_curve(
    task: ReasoningTask,
    steps: int,
    learning_rate: float,
    layer: Layer = LINEAR_FA,
    *,
    batch_size: int | None = None,
    trigger_probabilities: Any = None,
    method: str = "second-order",
) -> NormalizedGDCurve:
    r"""Return scales and population losses under normalised gradient descent λ ← λ − η ∇L/|∇L| from 0.

    The Q scales of a task without noise are one parameter vector with one norm. With equal trigger probabilities

    .. math:: λ_t = η t/\sqrt Q \quad\text{without noise}, \qquad λ_t = η t \quad\text{with,}

    exactly, as long as the loss falls; where it has a minimum (F with noise) the scale passes it and then jumps
    between the two neighbouring multiples of η, see `limit_cycle`. With noise and FA every batch gives this very
    path. Without noise the trigger counts of a batch differ, which slows the mean scale to

    .. math:: (η/\sqrt Q) \big(1 - \tfrac{Q-1}{2B}\big) t, \quad\text{relative error } O((Q/B)²),

    the correction applied with ``batch_size``; `replay_normalized_gd` is exact for given counts.

    Args:
        task: The data distribution.
        steps: T from 0 up.
        learning_rate: η > 0.
        layer: Attention, feed-forward layer and α̂.
        batch_size: B, sentences per step; ``None`` is the population gradient. At least 2 Q.
        trigger_probabilities: (Q,) positive, summing to 1, for triggers that are not equally frequent: the exact
            iteration of the population gradient. Linear and ReLU attention without noise only, no ``batch_size``.
        method: how the softmax losses are computed, as in `population_loss`.

    Returns:
        `NormalizedGDCurve`.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Theorem 3.2 and section 5; its main text has η t/Q without noise, its
        appendix η t/√Q. The latter is right, see `published_rate`. Batch correction derived here.

    Example:
        >>> curve = normalized_gd_curve(ReasoningTask(), 100, 0.1)
        >>> round(float(curve.losses[100]), 10)
        0.5151864427
    """
    check_layer(task, layer)
    check_learning_rate(learning_rate)
    checks.one_of("method", method, METHODS)
    steps = checks.integer("steps", steps, at_least=0, at_most=MAX_STEPS)
    if trigger_probabilities is not None:
        _closed(layer)
        if batch_size is not None:
            raise ValueError(f"batch_size must be None with trigger_probabilities, got {batch_size!r}")
        weights = check_probabilities(task, trigger_probabilities)
        scales = _joint_path(task, np.broadcast_to(weights, (steps, task.triggers)), learning_rate)
        return NormalizedGDCurve(scales, population_loss(task, scales) @ weights)
    speed = step_length(task, learning_rate)
    if batch_size is not None:
        size = checks.integer("batch_size", batch_size, at_least=2 * len(task.sentence_triggers))
        speed *= 1 - (len(task.sentence_triggers) - 1) / (2 * size)
    scales = speed * _multiples(task, steps, speed, layer)
    return NormalizedGDCurve(scales, population_loss(task, scales, layer, method=method))


def replay_normalized_gd(
    task: ReasoningTask,
    counts: Any,
    learning_rate: float,
    layer: Layer = LINEAR_FA,
) -> NormalizedGDCurve:
    r"""Return the exact path and batch losses of a linear or ReLU model trained on batches with these counts.

    The loss of a batch depends on how often each trigger occurs, with noise on how many labels are the noise token:

    .. math:: λ_k ← λ_k + η g_k/|g|, \quad g_k = \frac{n_k}{1 + e^{λ_k}/(N-1)}

    without noise; with noise and FA λ_t = η t whatever the counts; with F the step is η times the sign of
    (1 − α_B) − e^λ/(e^λ + e^γ̂ + N − 2), α_B the share of noise labels in the batch.

    A float64 model follows it until the rounding of its gradient shows, see `stall_scale`.

    Args:
        task: The data distribution.
        counts: Without noise (T, Q): how many sentences of batch t have trigger k. With noise (T, 2): how many are
            labelled with the output and with the noise token. Non-negative, at least one sentence per batch.
        learning_rate: η > 0.
        layer: Linear or ReLU attention, feed-forward layer and α̂.

    Returns:
        `NormalizedGDCurve` with ``scales`` (T + 1, Q), with noise (T + 1,), and ``losses`` (T,) of each batch before
        its step.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> replay = replay_normalized_gd(ReasoningTask(12, 16, 3, 2), [[3, 1, 2], [2, 2, 2]], 0.3)
        >>> [round(loss, 10) for loss in replay.losses.tolist()]
        [2.4849066498, 2.3391267585]
    """
    estimate = check_layer(task, layer)
    check_learning_rate(learning_rate)
    _closed(layer)
    batches = checks.array("counts", counts, (None, 2 if task.noise else task.triggers))
    if (batches < 0).any() or (batches.sum(axis=1) <= 0).any():
        raise ValueError("counts must be non-negative with at least one sentence in each batch")
    shares = batches / batches.sum(axis=1, keepdims=True)
    if not task.noise:
        scales = _joint_path(task, shares, learning_rate)
        return NormalizedGDCurve(scales, np.sum(shares * population_loss(task, scales[:-1]), axis=1))
    noise, gamma = shares[:, 1], noise_logit(estimate)
    if layer.feed_forward == "FA":
        path = learning_rate * np.arange(len(batches) + 1.0)
        base = noise * -math.log(estimate) - (1 - noise) * math.log1p(-estimate)
        return NormalizedGDCurve(path, base + np.logaddexp(0.0, log_distance(task, estimate) - path[:-1]))
    competitors = log_competitors(task, estimate)
    place = np.zeros(len(batches) + 1)
    for t, share in enumerate(noise):
        x = learning_rate * place[t]
        # The sign of −dL/dλ: e^λ against (1 − α_B)/α_B times its competitors.
        pull = np.sign((1 - share) * math.exp(min(competitors - x, 700.0)) - share)
        place[t + 1] = place[t] + (0.0 if layer.attention == "relu" and x < 0 else pull)
    path = learning_rate * place
    used = np.maximum(path[:-1], 0.0) if layer.attention == "relu" else path[:-1]
    return NormalizedGDCurve(path, noise * (used - gamma) + np.logaddexp(0.0, competitors - used))


def limit_cycle(
    task: ReasoningTask,
    learning_rate: float,
    layer: Layer = LINEAR_F,
) -> LimitCycle:
    r"""Return the 2-cycle in which normalised gradient descent ends where the loss has a finite minimum.

    .. math:: \{(k-1) η, k η\}, \quad k = ⌈λ^*/η⌉ \quad\text{first reached after k steps}

    with λ* the `optimal_scale`: a step always has length η. (If kη = λ* exactly the gradient vanishes and it stays.)

    Args:
        task: The data distribution, with noise.
        learning_rate: η > 0.
        layer: Attention, feed-forward layer and α̂; FA only where softmax attention gives it a finite optimum.

    Returns:
        `LimitCycle`.

    Raises:
        ValueError: if the optimal scale is not finite and positive, so that there is no such cycle.

    Source:
        Derived here.

    Example:
        >>> limit_cycle(ReasoningTask(noise=0.5), 0.1).first_step
        41
    """
    check_layer(task, layer)
    check_learning_rate(learning_rate)
    best = optimal_scale(task, layer)
    if not 0 < best < math.inf:
        raise ValueError(
            f"task and model must have a finite positive optimal scale for a limit cycle, got {best} for {task} with "
            f"attention {layer.attention!r} and feed_forward {layer.feed_forward!r}"
        )
    speed = step_length(task, learning_rate)
    k = math.ceil(best / speed)
    low, high = speed * (k - 1), speed * k
    return LimitCycle(k, (low, high), (population_loss(task, low, layer), population_loss(task, high, layer)))


def _closed(layer: Layer) -> None:
    if layer.attention == "softmax":
        raise ValueError('attention must be "linear" or "relu" here, got \'softmax\': its loss needs all token counts')


def _joint_path(task: ReasoningTask, shares: np.ndarray, learning_rate: float) -> np.ndarray:
    """λ (T + 1, Q) under λ ← λ + η g/|g|, g_k = share_k/(1 + e^{λ_k}/(N−1))."""
    path = np.zeros((len(shares) + 1, task.triggers))
    distance = log_distance(task, 0.0)
    for t, share in enumerate(shares):
        # g in logarithms, less its largest: the direction stays exact where g itself would underflow.
        exponent = -np.logaddexp(0.0, path[t] - distance)
        gradient = share * np.exp(exponent - exponent[share > 0].max())
        path[t + 1] = path[t] + learning_rate / math.sqrt(gradient @ gradient) * gradient
    return path


def _multiples(task: ReasoningTask, steps: int, speed: float, layer: Layer) -> np.ndarray:
    """λ_t in units of the step (T + 1,)."""
    best = optimal_scale(task, layer)
    if best == math.inf:
        return np.arange(steps + 1.0)
    place = np.zeros(steps + 1)
    for t in range(steps):
        scale = speed * place[t]
        if layer.attention == "softmax":  # convex in the attention weight: downhill is towards the optimum
            downhill = np.sign(best - scale)
        else:
            downhill = -np.sign(population_loss_derivative(task, scale, layer))
        place[t + 1] = place[t] + downhill
    return place
