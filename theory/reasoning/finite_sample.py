"""A noise level estimated from m labels: excess risk, its law, and what each layer has learned when."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from plumbline.theory import checks
from plumbline.theory.reasoning.bayes import check_noise_estimate, divergence, noise_logit
from plumbline.theory.reasoning.convergence import check_learning_rate
from plumbline.theory.reasoning.population_loss import log_distance
from plumbline.theory.reasoning.task import MAX_SIZE, ReasoningTask, check_task

MAX_SAMPLE_SIZE = 10**7
"""Largest sample whose binomial law is summed."""


@dataclass(frozen=True)
class LayerLogits:
    """Logits of the two layers of a linear or ReLU FA model: of the right token, and the largest of all.

    Attributes:
        attention_output: The attention layer's logit of the output token y.
        attention_largest: The largest logit of the attention layer.
        feed_forward_noise: The feed-forward layer's logit of the noise token τ.
        feed_forward_largest: The largest logit of the feed-forward layer.
    """

    attention_output: float
    attention_largest: float
    feed_forward_noise: float
    feed_forward_largest: float


def excess_risk(
    task: ReasoningTask, noise_estimate: float, steps: int | None = None, learning_rate: float | None = None
) -> float:
    r"""Return the excess over the Bayes risk of a linear or ReLU FA model built with α̂ and trained for T steps.

    .. math:: KL_2(α‖α̂) + \log(1 + (1-α̂)(N-2) e^{-ηT})

    the price of the estimate plus the price of stopping. Every batch order gives the same. It is also the excess on
    unseen outputs, whose logits are the same. The training loss itself is H2(α̂) plus the second term: it never
    interpolates.

    Args:
        task: A task with noise.
        noise_estimate: α̂ in (0, 1), the share of noise labels in the training sample.
        steps: T, the number of steps over all epochs; ``None`` is the limit of many.
        learning_rate: η > 0, given exactly when ``steps`` is.

    Returns:
        The excess in nats.

    Raises:
        ValueError: for a task without noise, or on arguments out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Theorems 5.4 and 5.5, as bounds; the equality is derived here.

    Example:
        >>> round(excess_risk(ReasoningTask(noise=0.5), 0.45), 10)
        0.0050251679
    """
    check_task(task, noise=True)
    if noise_estimate is None:
        raise ValueError("noise_estimate must be a number in (0, 1), got None")
    estimate = check_noise_estimate(task, noise_estimate)
    return divergence(task.noise, estimate) + _unfinished(log_distance(task, estimate), steps, learning_rate)


def expected_excess_risk(task: ReasoningTask, sample_size: int) -> float:
    r"""Return the expectation of KL2(α‖α̂), the excess risk after many steps, over the sample.

    .. math:: E\big[KL_2(α‖k/m) \,\big|\, 0 < k < m\big] = \tfrac{1}{2m} (1 + O(1/m)), \quad k ∼ Binomial(m, α)

    as an exact sum. A sample without noise labels, or with nothing else, has no finite γ̂ and is left out; see
    `degenerate_sample_probability`.

    Args:
        task: A task with noise.
        sample_size: m, from 2 to `MAX_SAMPLE_SIZE`.

    Returns:
        The expected excess in nats.

    Raises:
        ValueError: for a task without noise, or on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> round(expected_excess_risk(ReasoningTask(noise=0.2), 2048) * 2 * 2048, 6)
        1.001654
    """
    from scipy.special import betaln

    noise = check_task(task, noise=True).noise
    m = checks.integer("sample_size", sample_size, at_least=2, at_most=MAX_SAMPLE_SIZE)
    k = np.arange(1.0, m)
    log_weights = k * math.log(noise) + (m - k) * math.log1p(-noise) - betaln(k + 1, m - k + 1)
    weights = np.exp(log_weights - log_weights.max())
    values = -noise * (np.log(k / m) - math.log(noise)) - (1 - noise) * (np.log1p(-k / m) - math.log1p(-noise))
    return float(weights @ values / weights.sum())


def excess_risk_bound(
    task: ReasoningTask,
    sample_size: int,
    failure_probability: float,
    steps: int | None = None,
    learning_rate: float | None = None,
) -> float:
    r"""Return a bound on the excess risk that holds with probability at least 1 − δ over the sample.

    .. math:: \frac{ε²}{α(1-α) - ε} + \log(1 + (1-α+ε)(N-2) e^{-ηT}), \quad
              ε = \sqrt{\tfrac{\log(2/δ)}{2m}} < α(1-α)

    Hoeffding gives |α − α̂| ≤ ε, and KL2(α‖α̂) ≤ (α − α̂)²/(α̂(1−α̂)). The condition ε < α(1−α) also excludes degenerate
    samples. Four to ten times the exact quantile at δ = 0.05 and the published
    sizes.

    Args:
        task: A task with noise.
        sample_size: m, large enough for the condition.
        failure_probability: δ in (0, 1).
        steps: T; ``None`` is the limit of many.
        learning_rate: η > 0, given exactly when ``steps`` is.

    Returns:
        The bound in nats.

    Raises:
        ValueError: if the condition fails (the message names the m it needs), or on arguments out of range.

    Source:
        Derived here, in the form of Theorem 5.4 of Nguyen, Nguyen-Tang 2025 (2505.15009).

    Example:
        >>> round(excess_risk_bound(ReasoningTask(noise=0.2), 2048, 0.05), 6)
        0.006928
    """
    noise = check_task(task, noise=True).noise
    m = checks.integer("sample_size", sample_size, at_least=1, at_most=MAX_SIZE)
    delta = checks.real("failure_probability", failure_probability, above=0.0)
    if delta >= 1:
        raise ValueError(f"failure_probability must be less than 1, got {delta}")
    log_term = math.log(2) - math.log(delta)
    epsilon, variance = math.sqrt(log_term / (2 * m)), noise * (1 - noise)
    if epsilon >= variance:
        raise ValueError(
            f"sample_size must exceed log(2/δ)/(2 α²(1−α)²) = {log_term / (2 * variance * variance):.6g} for this "
            f"bound, got {m}"
        )
    distance = math.log(1 - noise + epsilon) + math.log(task.vocab_size - 2)
    return epsilon**2 / (variance - epsilon) + _unfinished(distance, steps, learning_rate)


def degenerate_sample_probability(task: ReasoningTask, sample_size: int) -> float:
    r"""Return the probability α^m + (1−α)^m that all m labels are of one kind, so that γ̂ is infinite.

    Args:
        task: A task with noise.
        sample_size: m, from 1 up.

    Returns:
        The probability.

    Raises:
        ValueError: for a task without noise, or ``sample_size`` < 1.

    Source:
        Derived here.

    Example:
        >>> degenerate_sample_probability(ReasoningTask(noise=0.5), 3)
        0.25
    """
    noise = check_task(task, noise=True).noise
    m = checks.integer("sample_size", sample_size, at_least=1, at_most=MAX_SIZE)
    return noise**m + (1 - noise) ** m


def layer_logits(task: ReasoningTask, scale: float, *, noise_estimate: float | None = None) -> LayerLogits:
    r"""Return what each layer of a linear or ReLU FA model says at scale λ ≥ 0.

    .. math:: ξ_{A,y} = \max_v ξ_{A,v} = λ, \qquad ξ_{F,τ} = γ̂ + λ, \quad \max_v ξ_{F,v} = \max(γ̂ + λ, 0)

    Args:
        task: A task with noise.
        scale: λ ≥ 0, after T steps ηT.
        noise_estimate: α̂; ``None`` is the task's noise.

    Returns:
        `LayerLogits`.

    Raises:
        ValueError: for a task without noise, or on arguments out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Theorem 5.6 and figures 10-12; the values are derived here.

    Example:
        >>> layer_logits(ReasoningTask(noise=0.5), 4.0)
        LayerLogits(attention_output=4.0, attention_largest=4.0, feed_forward_noise=4.0, feed_forward_largest=4.0)
    """
    check_task(task, noise=True)
    number = checks.real("scale", scale, at_least=0.0)
    noise_token = noise_logit(check_noise_estimate(task, noise_estimate)) + number
    return LayerLogits(number, number, noise_token, max(noise_token, 0.0))


def layer_role_step(task: ReasoningTask, learning_rate: float, *, noise_estimate: float | None = None) -> int:
    r"""Return the first step from which the feed-forward layer's largest logit is that of the noise token.

    .. math:: T = \max\big(0, ⌈\log((1-α̂)/α̂)/η⌉\big)

    The attention layer's largest logit is that of the output token from step 1 on. Linear and ReLU attention, FA.

    Args:
        task: A task with noise.
        learning_rate: η > 0.
        noise_estimate: α̂; ``None`` is the task's noise.

    Returns:
        The step; 0 for α̂ ≥ 1/2.

    Raises:
        ValueError: for a task without noise, or on arguments out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Theorem 5.6 ("after enough steps"); the step is derived here.

    Example:
        >>> layer_role_step(ReasoningTask(noise=0.2), 0.1)
        14
    """
    check_task(task, noise=True)
    rate = check_learning_rate(learning_rate)
    return max(0, math.ceil(-noise_logit(check_noise_estimate(task, noise_estimate)) / rate))


def _unfinished(distance: float, steps: int | None, learning_rate: float | None) -> float:
    """log(1 + e^distance e^{−ηT})."""
    if (steps is None) != (learning_rate is None):
        raise ValueError(f"steps and learning_rate must be given together, got {steps!r} and {learning_rate!r}")
    if steps is None or learning_rate is None:
        return 0.0
    count = checks.integer("steps", steps, at_least=0)
    rate = check_learning_rate(learning_rate)
    return float(np.logaddexp(0.0, distance - count * rate))
