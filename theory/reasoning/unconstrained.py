"""What models with free weights cannot do: the floor of a lone feed-forward layer, and unseen outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from plumbline.theory import checks
from plumbline.theory.reasoning.bayes import bayes_risk
from plumbline.theory.reasoning.layer import ATTENTIONS
from plumbline.theory.reasoning.task import ReasoningTask, check_task


@dataclass(frozen=True)
class UnseenBound:
    """What a model trained from zero can give to an output it never saw as a label.

    Attributes:
        probability: Upper bound on P(y).
        output_loss: Lower bound on −log P(y), the loss where the label is the output.
        loss: Lower bound on the whole unseen-output loss, noise labels included.
    """

    probability: float
    output_loss: float
    loss: float


def feed_forward_floor(task: ReasoningTask) -> float:
    r"""Return the infimum of the loss of a model whose attention layer is zero: H(label | last two tokens).

    .. math:: H_2(α) + (1-α) \big(D h + (1-D) \log Y\big), \quad D = ρ + Y a, \quad a = (1 - ρ - p_τ)/n

    with ρ = 1/(H−2) the probability that the output is the last but one token, p_τ = (H−3)/((H−2)(H−4)) (0 without
    noise) that the noise token is, and h the entropy of the law (ρ + a, a, …, a)/D on the Y outputs.

    It is the floor of the unconstrained model with linear attention and F: from zero weights, W = V = 0 stays so,
    because both gradients vanish there, and only F trains; F sees the last token and the one before.

    Args:
        task: Any task.

    Returns:
        The floor in nats; log Y and a little less without noise.

    Raises:
        ValueError: if ``task`` is not a `ReasoningTask`.

    Source:
        Derived here.

    Example:
        >>> round(feed_forward_floor(ReasoningTask()), 8)
        1.38600449
    """
    check_task(task)
    length, outputs = task.sentence_length, task.outputs
    hit = 1 / (length - 2)
    noise_before = (length - 3) / ((length - 2) * (length - 4)) if task.noise else 0.0
    chance = max(1 - hit - noise_before, 0.0) / len(task.generic_tokens)
    # D h + (1 − D) log Y, with D h as a sum over the laws' own terms.
    mass = hit + outputs * chance
    known = _term(hit + chance, mass) + (outputs - 1) * _term(chance, mass)
    return bayes_risk(task) + (1 - task.noise) * (known + (1 - mass) * math.log(outputs))


def unseen_output_bound(task: ReasoningTask, *, attention: str = "softmax") -> UnseenBound:
    r"""Return the bounds for unseen outputs that hold for every unconstrained model trained from zero.

    .. math:: P(y) ≤ \frac1N \text{ for softmax and ReLU attention}, \quad P(y) < \frac{1}{N - |L|} \text{ for linear,}

    with |L| = Y labels without noise and Y + 1 with, for any data, learning rate and number of (plain or normalised)
    gradient steps, in exact arithmetic. For all tokens that never were a label start with the same rows of V and F and
    receive the same gradients, so that they share one logit c; all logits sum to zero, so that the N - |L| of them
    together have at most the odds they had untrained if c ≤ 0; and c ≤ 0 where attention weights are not negative.
    With linear attention c may be positive, but N - |L| equal probabilities stay below 1 together. The loss is at least

    .. math:: \min_{p ≤ P} -(1-α) \log p - α \log(1 - (N - |L|)\, p).

    Untrained, softmax and ReLU models attain P(y) = 1/N. In float32 normalised steps break the bounds once the training
    loss has underflowed.

    Args:
        task: A task with unseen outputs.
        attention: ``"linear"``, ``"relu"`` or ``"softmax"``.

    Returns:
        `UnseenBound`.

    Raises:
        ValueError: if every generic token is a trained output, or on another attention.

    Source:
        Derived here; 2505.15009 shows it in its figures only.

    Example:
        >>> round(unseen_output_bound(ReasoningTask()).loss, 8)
        4.09434456
    """
    check_task(task)
    checks.one_of("attention", attention, ATTENTIONS)
    if not task.unseen_tokens:
        raise ValueError(
            f"task must have unseen outputs, got {task.outputs} trained outputs, all of the generic tokens"
        )
    never = task.vocab_size - task.outputs - bool(task.noise)
    probability = 1 / (never if attention == "linear" else task.vocab_size)
    best = min(probability, (1 - task.noise) / never)
    noisy = -task.noise * math.log1p(-never * best) if task.noise else 0.0
    return UnseenBound(probability, -math.log(probability), noisy - (1 - task.noise) * math.log(best))


def _term(probability: float, mass: float) -> float:
    return -probability * math.log(probability / mass) if probability else 0.0
