"""How fast the loss falls under normalised gradient descent, and where rounding ends it."""

from __future__ import annotations

import math
from typing import Any

from plumbline.theory import checks
from plumbline.theory.reasoning.bayes import bayes_risk, check_noise_estimate
from plumbline.theory.reasoning.layer import LINEAR_FA, Layer, check_layer
from plumbline.theory.reasoning.optimum import optimal_scale
from plumbline.theory.reasoning.population_loss import log_distance, population_loss
from plumbline.theory.reasoning.task import ReasoningTask, check_task

LEARNING_RATES = (1e-12, 1e6)
"""Smallest and largest learning rate."""


def steps_to(
    task: ReasoningTask,
    excess: float,
    learning_rate: float,
    layer: Layer = LINEAR_FA,
) -> int:
    r"""Return the first step after which the population loss is within ``excess`` of the Bayes risk.

    For linear and ReLU attention without noise, or with FA built with the true α,

    .. math:: t = \Big\lceil \frac{\log(c/(e^ε - 1))}{\text{step}} \Big\rceil, \quad c = N-1 \text{ or } (1-α)(N-2),

    the step being η/√Q or η. Otherwise the first step of `normalized_gd_curve` that gets there.

    Args:
        task: The data distribution.
        excess: ε > 0 in nats.
        learning_rate: η > 0.
        layer: Attention, feed-forward layer and α̂.

    Returns:
        The number of steps.

    Raises:
        ValueError: if the model never gets there; the message names the excess it does reach.

    Source:
        Derived here.

    Example:
        >>> steps_to(ReasoningTask(), 0.01, 0.1)
        195
    """
    estimate = check_layer(task, layer)
    check_learning_rate(learning_rate)
    epsilon = checks.real("excess", excess, above=0.0)
    speed = step_length(task, learning_rate)
    closed = layer.attention != "softmax" and (not task.noise or layer.feed_forward == "FA")
    if closed and estimate == task.noise:
        # log(e^ε − 1), also where e^ε overflows.
        scale = log_distance(task, estimate) - (epsilon + math.log(-math.expm1(-epsilon)))
        return max(math.ceil(scale / speed), 0)
    target, best = bayes_risk(task) + epsilon, optimal_scale(task, layer)
    if best == math.inf:  # where e^{−λ} is that small every loss is its limit in float64
        best = log_distance(task, estimate) + math.log(task.sentence_length) + 60
    last = max(math.ceil(best / speed), 0)

    def reached(step: int) -> bool:
        return population_loss(task, speed * step, layer, method="second-order") <= target

    # The step before the optimum or the first one past it is the best of all.
    ends = (max(last - 1, 0), last)
    candidates = [step for step in ends if reached(step)]
    if not candidates:
        least = min(population_loss(task, speed * step, layer) for step in ends) - bayes_risk(task)
        raise ValueError(f"excess must be at least {least:.6g}, the least this model reaches, got {epsilon}")
    low, high = -1, candidates[0]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def convergence_rate(task: ReasoningTask, learning_rate: float) -> float:
    r"""Return the rate r of the linear convergence: the excess risk falls like e^{−rt} in the step t.

    .. math:: r = η/\sqrt Q \quad\text{without noise}, \qquad r = η \quad\text{with noise}

    for linear and ReLU attention (with noise: FA). More precisely the excess is log(1 + c e^{−rt}), which lies between
    x − x²/2 and x for x = c e^{−rt}, with c = N − 1 without noise and (1−α)(N−2) with noise.

    Args:
        task: The data distribution.
        learning_rate: η > 0.

    Returns:
        r per step.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Theorem 3.2, whose main text has other constants (see `published_rate`);
        the constant is derived here.

    Example:
        >>> round(convergence_rate(ReasoningTask(), 0.1), 10)
        0.0447213595
    """
    check_task(task)
    return step_length(task, check_learning_rate(learning_rate))


def published_rate(task: ReasoningTask, learning_rate: float) -> float:
    r"""Return the rate η/Q that follows from the published scale λ_t = η t/Q. It is wrong for Q > 1.

    The main text of the paper has λ_t = η t/|Q| and, with it, a loss of O(N e^{−ηt}), which contradict each other; its
    appendix has η t/√|Q|. A step of length η along (1, …, 1)/√Q moves each of the Q scales by η/√Q. So the right rate
    is `convergence_rate`, η/√Q; e^{−ηt} would need the gradient of each scale normalised on its own.

    Args:
        task: The data distribution, without noise.
        learning_rate: η > 0.

    Returns:
        η/Q per step, for refutation.

    Raises:
        ValueError: for a task with noise, or on arguments out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Theorem 3.2 in the main text; wrong.

    Example:
        >>> published_rate(ReasoningTask(), 0.1)
        0.02
    """
    check_task(task, noise=False)
    return check_learning_rate(learning_rate) / task.triggers


def stall_scale(task: ReasoningTask, *, precision: str = "float32", noise_estimate: float | None = None) -> float:
    r"""Return the scale λ at which the gradient of a linear or ReLU FA model falls to machine precision ε.

    .. math:: c e^{-λ} = ε \;⇒\; λ = \log(c/ε), \quad c = N-1 \text{ without noise}, \; (1-α̂)(N-2) \text{ with}

    From there on 1 − P(y) is made of rounding, and since the step is normalised, a trained model leaves the predicted
    path, stops or jumps about: before λ + log 2, where 1 + c e^{−λ} rounds to 1. In float32 this is step 448 of 2,000
    at the published sizes without noise and η = 0.1; departures were seen from 0 to 0.2 above the predicted scale.

    Args:
        task: The data distribution.
        precision: ``"float32"`` (ε = 2⁻²³) or ``"float64"`` (ε = 2⁻⁵²).
        noise_estimate: α̂; ``None`` is the task's noise.

    Returns:
        The scale; divide by `convergence_rate` for the step.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> round(stall_scale(ReasoningTask()), 3), round(stall_scale(ReasoningTask(noise=0.2)), 3)
        (20.02, 19.78)
    """
    check_task(task)
    bits = {"float32": 23, "float64": 52}[checks.one_of("precision", precision, ("float32", "float64"))]
    return log_distance(task, check_noise_estimate(task, noise_estimate)) + bits * math.log(2)


def step_length(task: ReasoningTask, learning_rate: float) -> float:
    """How far each scale moves in one normalised step: η over the square root of the number of scales."""
    return learning_rate / math.sqrt(len(task.sentence_triggers))


def check_learning_rate(value: Any) -> float:
    """Return η as a float within `LEARNING_RATES`."""
    return checks.real("learning_rate", value, at_least=LEARNING_RATES[0], at_most=LEARNING_RATES[1])
