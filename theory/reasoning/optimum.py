"""Where the population loss is least, and how far from the Bayes risk that leaves each model."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from plumbline.theory.reasoning.bayes import cross_entropy, noise_logit
from plumbline.theory.reasoning.layer import LINEAR_FA, Layer, check_layer
from plumbline.theory.reasoning.population_loss import log_competitors, population_loss
from plumbline.theory.reasoning.softmax_loss import leaking_logits
from plumbline.theory.reasoning.task import ReasoningTask, check_task


def optimal_scale(
    task: ReasoningTask,
    layer: Layer = LINEAR_FA,
) -> float:
    r"""Return the key-query scale λ* that minimises `population_loss`; ``inf`` where it falls for ever.

    Linear and ReLU attention: ∞ without noise and for FA, and for F

    .. math:: λ^* = \log \frac{(1-α)(e^{γ̂} + N - 2)}{α} = \log\big(1 + (1-α)(N-2)/α\big) \text{ at } α̂ = α

    (ReLU: at least 0). Softmax attention: the loss is convex in the attention weight a in (0, 1), for the logits are
    linear in it; so λ* = ∞ exactly if dL/da ≤ 0 at a = 1, otherwise the one interior minimum is found numerically
    (−∞ if there is none). At published sizes it is ∞; a small vocabulary with F has an interior minimum.

    Args:
        task: The data distribution.
        layer: Attention, feed-forward layer and α̂.

    Returns:
        λ*, possibly ``inf``.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> round(optimal_scale(ReasoningTask(noise=0.2), Layer(feed_forward="F")), 10)
        5.4510384536
    """
    estimate = check_layer(task, layer)
    if layer.attention == "softmax":
        return _softmax_optimum(task, layer.kappa, estimate)
    if not task.noise or layer.feed_forward == "FA":
        return math.inf
    scale = math.log1p(-task.noise) - math.log(task.noise) + log_competitors(task, estimate)
    return max(scale, 0.0) if layer.attention == "relu" else scale


def limit_loss(
    task: ReasoningTask,
    layer: Layer = LINEAR_FA,
) -> float:
    r"""Return the limit of `population_loss` as the key-query scale goes to infinity.

    Linear and ReLU attention: 0 without noise, H2(α) + KL2(α‖α̂) for FA, ∞ for F. Softmax attention, whose logits
    stay below 1:

    .. math:: \log(1 + (N-1)/e) \quad\text{without noise}, \qquad
              H_2(α) + KL_2(α‖α̂) + \log(1 + (1-α̂)(N-2)/e) \quad\text{for FA},
    .. math:: -(1-α) - αγ̂ + \log(e + e^{γ̂} + N - 2) \quad\text{for F},

    the linear losses at λ = 1. So with the value matrix I, softmax attention cannot reach the Bayes risk; see
    ``tied_value`` of `softmax_loss` for a model that does.

    Args:
        task: The data distribution.
        layer: Attention, feed-forward layer and α̂.

    Returns:
        The limit in nats, possibly ``inf``.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009), Lemma 3.1, for the linear and ReLU FA models; the others derived here.

    Example:
        >>> round(limit_loss(ReasoningTask(), Layer("softmax")), 10)
        3.1225801889
    """
    estimate = check_layer(task, layer)
    if layer.attention == "softmax":
        return population_loss(task, 1.0, replace(layer, attention="linear"))
    if not task.noise:
        return 0.0
    return cross_entropy(task.noise, estimate) if layer.feed_forward == "FA" else math.inf


def minimum_loss(
    task: ReasoningTask,
    layer: Layer = LINEAR_FA,
) -> float:
    r"""Return the infimum of `population_loss` over the key-query scale: its value at `optimal_scale`.

    For F with linear attention it is H2(α) + α (log(e^γ̂ + N − 2) − γ̂), see `feed_forward_gap`.

    Args:
        task: The data distribution.
        layer: Attention, feed-forward layer and α̂.

    Returns:
        The smallest loss in nats.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> round(minimum_loss(ReasoningTask(noise=0.5), Layer(feed_forward="F")), 10)
        2.7319159025
    """
    estimate = check_layer(task, layer)
    scale = optimal_scale(task, layer)
    if scale == math.inf:
        return limit_loss(task, layer)
    if scale == -math.inf:
        even = 1 / (task.sentence_length - 1)
        return leaking_logits(task, 0.0, even, even, layer.kappa, estimate).loss("exact").value
    return population_loss(task, scale, layer)


def feed_forward_gap(task: ReasoningTask) -> float:
    r"""Return how far the best F model with linear or ReLU attention stays above the Bayes risk.

    .. math:: \min_λ L_F(λ) - H_2(α) = α \log\big(1 + (1-α)(N-2)/α\big) > 0

    The feed-forward layer that does not read the attention output cannot raise the noise token together with the
    output token. 0 without noise. It is a statement about the published key-query matrix, which keeps the attention
    off the noise token: attending to both bigrams, λ E(q)Ẽ(q)ᵀ, F would reach the Bayes risk on these sentences,
    because either bigram occurs once.

    Args:
        task: The data distribution.

    Returns:
        The gap in nats.

    Raises:
        ValueError: if ``task`` is not a `ReasoningTask`.

    Source:
        Derived here; 2505.15009 is silent on F.

    Example:
        >>> round(feed_forward_gap(ReasoningTask(noise=0.5)), 10)
        2.038768722
    """
    noise = check_task(task).noise
    if not noise:
        return 0.0
    return noise * (log_competitors(task, noise) - noise_logit(noise))


def _softmax_optimum(task: ReasoningTask, kappa: float, estimate: float) -> float:
    """The minimum over the attention weight a of the output; b = (1 − a)/(H − 1)."""
    from scipy.optimize import brentq

    others = task.sentence_length - 1

    def slope(a: float) -> float:
        b = (1 - a) / others
        return leaking_logits(task, a, b, b, kappa, estimate).derivative(1.0, -1 / others)

    if slope(1.0) <= 0:
        return math.inf
    if slope(0.0) >= 0:
        return -math.inf
    a = brentq(slope, 0.0, 1.0, xtol=1e-15, rtol=4 * np.finfo(float).eps)
    return math.log(a) - math.log1p(-a) + math.log(others)
