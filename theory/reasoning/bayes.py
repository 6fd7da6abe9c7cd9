"""The best possible loss and predictor, and the two entropies everything else is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from plumbline.theory import checks
from plumbline.theory.reasoning.task import ReasoningTask, check_task


@dataclass(frozen=True)
class AnswerProbabilities:
    """The probability a predictor gives to the output token y and to the noise token τ."""

    output: float
    noise_token: float


def bayes_risk(task: ReasoningTask) -> float:
    r"""Return the smallest cross-entropy any predictor can have, in nats.

    .. math:: H_2(α) = -α \log α - (1-α) \log(1-α)

    0 without noise. The sentence determines y, and the label's coin is independent of the sentence; so this is the
    exact conditional entropy of the label, for trained and for unseen outputs alike.

    Args:
        task: Any task.

    Returns:
        The risk, 0 to log 2.

    Raises:
        ValueError: if ``task`` is not a `ReasoningTask`.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Lemma 3.1 and section 5; derived here for the published generator.

    Example:
        >>> round(bayes_risk(ReasoningTask(noise=0.2)), 10)
        0.5004024235
    """
    return cross_entropy(check_task(task).noise, task.noise)


def bayes_predictor(task: ReasoningTask) -> AnswerProbabilities:
    r"""Return the probabilities of the Bayes predictor, P(y) = 1 − α and P(τ) = α; all other tokens have 0.

    y is the token behind the earlier occurrence of the last token that is not followed by the noise token.

    Args:
        task: Any task.

    Returns:
        `AnswerProbabilities`.

    Raises:
        ValueError: if ``task`` is not a `ReasoningTask`.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Lemma 3.1 and section 5; derived here.

    Example:
        >>> bayes_predictor(ReasoningTask(noise=0.25))
        AnswerProbabilities(output=0.75, noise_token=0.25)
    """
    return AnswerProbabilities(1 - check_task(task).noise, task.noise)


def cross_entropy(noise: float, estimate: float) -> float:
    """−α log α̂ − (1−α) log(1−α̂) = H2(α) + KL2(α‖α̂), with 0 log 0 = 0."""
    first = -noise * math.log(estimate) if noise else 0.0
    return first - (1 - noise) * math.log1p(-estimate)


def divergence(noise: float, estimate: float) -> float:
    """KL2(α‖α̂) of two coins, accurate to rounding also where they are close."""
    # Σ p (r − 1 − log r) with r = p̂/p: no term is negative, so nothing cancels between them.
    shift = estimate - noise
    return _divergence_term(noise, estimate, shift) + _divergence_term(1 - noise, 1 - estimate, -shift)


def _divergence_term(p: float, other: float, shift: float) -> float:
    """(other − p) − p log(other/p)."""
    if abs(shift) < 0.01 * p:  # the series' next term is below 1e-17 of its first
        return p * sum((-shift / p) ** k / k for k in range(2, 12))
    return shift - p * (math.log(other) - math.log(p))


def noise_logit(estimate: float) -> float:
    """γ(α̂) = log(α̂ / (1 − α̂)), the logit the feed-forward layer gives to the noise token."""
    return math.log(estimate) - math.log1p(-estimate)


def check_noise_estimate(task: ReasoningTask, estimate: Any) -> float:
    """Return α̂, the task's own noise if ``estimate`` is None; refuse values outside (0, 1) and noiseless tasks."""
    if estimate is None:
        return task.noise
    if not task.noise:
        raise ValueError(f"noise_estimate must be None for a task without noise, got {estimate!r}")
    return check_share(estimate)


def check_share(estimate: Any) -> float:
    """Return α̂ as a float in (0, 1)."""
    number = checks.real("noise_estimate", estimate, above=0.0)
    if number >= 1:
        raise ValueError(f"noise_estimate must be less than 1, got {number}")
    return number
