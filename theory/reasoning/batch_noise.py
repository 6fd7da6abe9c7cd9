"""How far the loss of one batch strays from the population loss."""

from __future__ import annotations

import math

from plumbline.theory import checks
from plumbline.theory.reasoning.bayes import noise_logit
from plumbline.theory.reasoning.layer import LINEAR_FA, Layer, check_layer
from plumbline.theory.reasoning.softmax_loss import attention_weights, leaking_logits
from plumbline.theory.reasoning.task import ReasoningTask


def batch_loss_deviation(
    task: ReasoningTask,
    scale: float,
    batch_size: int,
    layer: Layer = LINEAR_FA,
) -> float:
    r"""Return the standard deviation of the mean loss over B sentences, all triggers at the same scale λ.

    .. math:: |ξ_τ - ξ_y| \sqrt{α(1-α)/B}, \quad ξ_τ - ξ_y = γ̂ \text{ for FA}, \; γ̂ - λ \text{ for F}

    for linear attention, and ReLU attention at λ ≥ 0: only the share of noise labels matters, so it is 0 without noise.
    With softmax attention the token counts add, to first order in the attention weight b of a single token,

    .. math:: \frac{b²}{B} \frac{M}{n} \Big(1 - \frac1n\Big) \big[(1-α)(1-g)² + α g²\big], \quad g = (e^a - 1)/E S

    to the variance; the notation is that of `softmax_loss`.

    Args:
        task: The data distribution.
        scale: λ.
        batch_size: B, from 1 up.
        layer: Attention, feed-forward layer and α̂.

    Returns:
        The standard deviation in nats; with softmax attention its relative error is of order bM/n.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> round(batch_loss_deviation(ReasoningTask(noise=0.2), 1.0, 512), 6)
        0.024506
    """
    estimate = check_layer(task, layer)
    number, size = checks.real("scale", scale), checks.integer("batch_size", batch_size, at_least=1)
    noise, kappa = task.noise, layer.kappa
    if layer.attention != "softmax":
        if not noise:
            return 0.0
        reach = max(number, 0.0) if layer.attention == "relu" else number
        return abs(noise_logit(estimate) - (1 - kappa) * reach) * math.sqrt(noise * (1 - noise) / size)
    a, b = attention_weights(task, number)
    logits = leaking_logits(task, a, b, b, kappa, estimate)
    mean = logits.draws / logits.generic
    share = math.exp(a - logits.log_mean) - math.exp(-logits.log_mean)
    counts = b * b * mean * (1 - 1 / logits.generic) * ((1 - noise) * (1 - share) ** 2 + noise * share**2)
    labels = 0.0 if logits.noise_token is None else noise * (1 - noise) * (logits.noise_token - a - b * mean) ** 2
    return math.sqrt((labels + counts) / size)
