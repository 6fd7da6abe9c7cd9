"""The population loss of the reparameterised one-layer models in closed form."""

from __future__ import annotations

import math
from typing import Any, overload

import numpy as np

from plumbline.theory import checks
from plumbline.theory.reasoning.bayes import AnswerProbabilities, cross_entropy, noise_logit
from plumbline.theory.reasoning.layer import LINEAR_FA, Layer, check_layer
from plumbline.theory.reasoning.softmax_loss import (
    METHODS,
    leaking_logits,
    softmax_loss,
    softmax_loss_derivative,
    softmax_probabilities,
)
from plumbline.theory.reasoning.task import ReasoningTask


@overload
def population_loss(
    task: ReasoningTask,
    scale: float,
    layer: Layer = ...,
    *,
    method: str = ...,
    relu_offset: float = ...,
) -> float: ...
@overload
def population_loss(
    task: ReasoningTask,
    scale: np.ndarray,
    layer: Layer = ...,
    *,
    method: str = ...,
    relu_offset: float = ...,
) -> np.ndarray: ...
def population_loss(
    task: ReasoningTask,
    scale: Any,
    layer: Layer = LINEAR_FA,
    *,
    method: str = "exact",
    relu_offset: float = 0.0,
) -> float | np.ndarray:
    r"""Return the population cross-entropy of the reparameterised model at key-query scale λ, in nats.

    The model: E, Ẽ the one-hot embeddings of a token and of the token before it, value matrix I, key-query matrix
    λ Σ_k E(k)Ẽ(k)ᵀ without noise and λ E(q)(Ẽ(q) − E(τ))ᵀ with, feed-forward layer F = E(τ)(γ̂ E(q) + Ẽ(q))ᵀ,
    γ̂ = log(α̂/(1−α̂)), on the last token (``"F"``) or on the last token plus the attention output (``"FA"``).
    With linear attention, and with ReLU attention for λ ≥ 0,

    .. math:: L(λ) = \log(1 + (N-1) e^{-λ})  \quad\text{without noise (F and FA are one model);}
    .. math:: L(λ) = H_2(α) + KL_2(α‖α̂) + \log(1 + (1-α̂)(N-2) e^{-λ})  \quad\text{FA;}
    .. math:: L(λ) = -(1-α) λ - α γ̂ + \log(e^λ + e^{γ̂} + N - 2)  \quad\text{F;}

    below 0 ReLU attention is off. Softmax attention: see `softmax_loss`. The same values hold for unseen outputs: the
    logits do not know which outputs were seen. Without noise each trigger k has a scale λ_k of its own; the loss is
    the mean of this function over them, weighted with the trigger probabilities.

    Args:
        task: The data distribution.
        scale: λ, a number or an array of them.
        layer: Attention, feed-forward layer and α̂.
        method: for softmax attention (and ReLU with an offset), ``"exact"``, ``"second-order"`` (20 times faster) or
            ``"jensen"`` (an upper bound); `softmax_loss` returns them with their errors.
        relu_offset: ε ≥ 0 in the ReLU attention max(s + ε, 0). The published code has ε = 1e-8, which lets every
            position leak into the logits and moves the loss by a few 1e-8.

    Returns:
        The loss, a float or an array of the shape of ``scale``.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Nguyen, Nguyen-Tang 2025 (2505.15009): Lemma 3.1 and section 5 state the Bayes optimality of the linear and ReLU
        models in the limit. The losses at finite λ, the loss of F, and softmax are derived here.

    Example:
        >>> round(population_loss(ReasoningTask(), 4.0), 10)
        0.7326672212
        >>> round(population_loss(ReasoningTask(noise=0.2), 10.0), 10)
        0.5025067646
    """
    estimate = check_layer(task, layer)
    checks.one_of("method", method, METHODS)
    offset = checks.real("relu_offset", relu_offset, at_least=0.0, at_most=1.0)
    if offset and layer.attention != "relu":
        raise ValueError(f'relu_offset is for attention "relu" only, got {relu_offset!r} with {layer.attention!r}')
    if isinstance(scale, np.ndarray | list | tuple):
        scales = checks.array("scale", scale, (None,) * np.ndim(scale))
        if layer.attention != "softmax" and not offset:
            return _closed_form(task, scales, layer, estimate)
        values = [_averaged(task, x, layer, estimate, method, offset) for x in scales.flat]
        return np.array(values).reshape(scales.shape)
    number = checks.real("scale", scale)
    if layer.attention != "softmax" and not offset:
        return float(_closed_form(task, np.array(number), layer, estimate))
    return _averaged(task, number, layer, estimate, method, offset)


def population_loss_derivative(
    task: ReasoningTask,
    scale: float,
    layer: Layer = LINEAR_FA,
) -> float:
    r"""Return dL/dλ of `population_loss`.

    .. math:: -\frac{1}{1 + e^λ/c}, \quad c = N-1 \text{ without noise}, \; c = (1-α̂)(N-2) \text{ for FA};
              \qquad \frac{e^λ}{e^λ + e^{γ̂} + N - 2} - (1-α) \quad\text{for F}

    For FA it is negative and does not depend on the labels, so that every batch gives a normalised step of the same
    size and sign. ReLU attention: 0 below λ = 0, and the derivative from above at 0, which is the one the published
    offset 1e-8 selects. Softmax attention: the exact expectation, as `softmax_loss`.

    Args:
        task: The data distribution.
        scale: λ.
        layer: Attention, feed-forward layer and α̂.

    Returns:
        The derivative. Where the Q triggers have scales of their own, ∂L/∂λ_k is this times P(trigger k).

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here.

    Example:
        >>> round(population_loss_derivative(ReasoningTask(noise=0.2), 0.0), 10)
        -0.9789029536
    """
    estimate = check_layer(task, layer)
    number = checks.real("scale", scale)
    if layer.attention == "softmax":
        return softmax_loss_derivative(task, number, **_of_softmax(layer))
    if layer.attention == "relu" and number < 0:
        return 0.0
    if task.noise and not layer.kappa:
        # (e^λ − (1−α)(e^λ + C))/(e^λ + C), with C = e^γ̂ + N − 2 and in terms that lie in (0, 1).
        other = _logistic(log_competitors(task, estimate) - number)
        return task.noise * (1 - other) - (1 - task.noise) * other
    return -_logistic(log_distance(task, estimate) - number)


def output_probabilities(
    task: ReasoningTask,
    scale: float,
    layer: Layer = LINEAR_FA,
) -> AnswerProbabilities:
    r"""Return the model's probabilities P(y) of the output token and P(τ) of the noise token, averaged over sentences.

    .. math:: P(y) = \frac{1-α̂}{1 + (1-α̂)(N-2) e^{-λ}}, \quad P(τ) = \frac{α̂}{1-α̂} P(y) \quad\text{for FA}

    without noise P(y) = 1/(1 + (N−1) e^{−λ}) and P(τ) = e^{−λ} P(y). The same for unseen outputs.

    Args:
        task: The data distribution.
        scale: λ.
        layer: Attention, feed-forward layer and α̂.

    Returns:
        `AnswerProbabilities`. With linear and ReLU attention they are the same for every sentence.

    Raises:
        ValueError: on arguments out of range.

    Source:
        Derived here; the limits are those of Nguyen, Nguyen-Tang 2025 (2505.15009).

    Example:
        >>> round(output_probabilities(ReasoningTask(noise=0.5), 5.0).noise_token, 10)
        0.4182698731
    """
    estimate = check_layer(task, layer)
    number = checks.real("scale", scale)
    if layer.attention == "softmax":
        return softmax_probabilities(task, number, **_of_softmax(layer))
    if layer.attention == "relu":
        number = max(number, 0.0)
    if task.noise and layer.kappa:
        found = _logistic(number - log_distance(task, estimate))  # 1/(1 + (1−α̂)(N−2) e^{−λ})
        return AnswerProbabilities((1 - estimate) * found, estimate * found)
    gamma = noise_logit(estimate) if task.noise else 0.0
    log_sum = float(np.logaddexp(np.logaddexp(number, gamma), math.log(task.vocab_size - 2)))
    return AnswerProbabilities(math.exp(number - log_sum), math.exp(gamma - log_sum))


def log_distance(task: ReasoningTask, estimate: float) -> float:
    """log c: the excess of the linear FA model over its limit is log(1 + c e^{−λ})."""
    if not task.noise:
        return math.log(task.vocab_size - 1)
    return math.log1p(-estimate) + math.log(task.vocab_size - 2)


def log_competitors(task: ReasoningTask, estimate: float) -> float:
    """log(e^γ̂ + N − 2): what stands against the output token in the linear F model."""
    return float(np.logaddexp(noise_logit(estimate), math.log(task.vocab_size - 2)))


def _closed_form(task: ReasoningTask, scale: np.ndarray, layer: Layer, estimate: float) -> np.ndarray:
    if layer.attention == "relu":
        scale = np.maximum(scale, 0.0)
    if not task.noise:
        return np.logaddexp(0.0, log_distance(task, 0.0) - scale)
    if layer.kappa:
        return cross_entropy(task.noise, estimate) + np.logaddexp(0.0, log_distance(task, estimate) - scale)
    # −(1−α)λ + log(e^λ + C) = αλ + log(1 + C e^{−λ}), so that large λ do not cancel.
    noise = task.noise
    return noise * (scale - noise_logit(estimate)) + np.logaddexp(0.0, log_competitors(task, estimate) - scale)


def _averaged(task: ReasoningTask, scale: float, layer: Layer, estimate: float, method: str, offset: float) -> float:
    """The loss where every position leaks into the logits."""
    if layer.attention == "softmax":
        return softmax_loss(task, scale, method=method, **_of_softmax(layer)).value
    on_output = max(scale + offset, 0.0)
    return leaking_logits(task, on_output, offset, offset, layer.kappa, estimate).loss(method).value


def _of_softmax(layer: Layer) -> dict[str, Any]:
    """What the calculators of softmax attention take of a layer."""
    return {"feed_forward": layer.feed_forward, "noise_estimate": layer.noise_estimate}


def _logistic(x: float) -> float:
    """1/(1 + e^{−x}), relatively accurate at both ends."""
    return 1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x))
