"""The gradients at zero weights: what the first step of training looks for."""

from __future__ import annotations

import numpy as np

from plumbline.theory.reasoning.task import ReasoningTask, check_task

MAX_VOCABULARY = 2000
"""Largest vocabulary: the gradients are dense arrays."""


def key_query_gradient(task: ReasoningTask) -> np.ndarray:
    r"""Return the trigger rows of ∂L/∂W at W = 0: linear attention, value matrix I, no noise.

    ReLU attention max(s + ε, 0) has the same up to the published offset ε = 1e-8. The rows Ẽ, which W also has, look at
    the last but one token; they are not zero and not returned.

    In the basis E(0)…E(N−1), Ẽ(0)…Ẽ(N−1) of the keys (Ẽ(v): the token *before* is v), the row of trigger q has

    .. math:: E(q): \tfrac{2}{NQ}, \quad E(o): \tfrac1Q \Big(\tfrac{m + 1/Y}{N} - \tfrac{m+1}{Y}\Big), \quad
              E(g): \tfrac{m}{NQ}, \quad Ẽ(q): \tfrac1Q \big(\tfrac1N - 1\big),
    .. math:: Ẽ(g): \tfrac{s}{Q}, \quad Ẽ(o): \tfrac1Q \Big(s + \tfrac1Y \big[\tfrac1N - \tfrac rn\big]\Big), \quad
              s = \tfrac{2r}{Nn} + \tfrac{H-3-2r}{n} \big(\tfrac1N - \tfrac1n\big)

    for trained outputs o and other generic tokens g; m = (H−3)/n, r = (H−3)/(H−2); zero elsewhere. At the published
    sizes the entries E(o) are larger than Ẽ(q): the first step raises the prior of the trained outputs (distributional
    association) more than the look-up of what followed the trigger. Those entries survive training and cost the
    W-trained model its generalisation to unseen outputs.

    Args:
        task: A task without noise, vocabulary at most `MAX_VOCABULARY`.

    Returns:
        (Q, 2N); the descent step is along its negative.

    Raises:
        ValueError: for a task with noise or too large a vocabulary.

    Source:
        Derived here.

    Example:
        >>> gradient = key_query_gradient(ReasoningTask())
        >>> gradient[0, [60, 5]].round(6).tolist()
        [-0.196667, -0.267809]
    """
    _check(task, noise=False)
    vocab, triggers, outputs, generic = task.vocab_size, task.triggers, task.outputs, len(task.generic_tokens)
    free = task.sentence_length - 3
    mean, interior = free / generic, free / (free + 1)
    row = np.zeros((2, vocab))
    row[0, task.generic_tokens] = mean / vocab
    row[0, task.output_tokens] = (mean + 1 / outputs) / vocab - (mean + 1) / outputs
    # A free token is followed by a trigger at two places, each there with probability r; else by a free token.
    row[1, task.generic_tokens] = 2 * interior / (vocab * generic) + (free - 2 * interior) / generic * (
        1 / vocab - 1 / generic
    )
    # The output itself is followed by the last trigger or, with probability r, by a free token.
    row[1, task.output_tokens] += (1 / vocab - interior / generic) / outputs
    result = np.tile(row, (triggers, 1, 1))
    own = np.arange(triggers)
    result[own, 0, own] = 2 / vocab
    result[own, 1, own] = 1 / vocab - 1
    return result.reshape(triggers, 2 * vocab) / triggers


def feed_forward_gradient(task: ReasoningTask) -> np.ndarray:
    r"""Return ∂L/∂F at zero weights: how the feed-forward layer starts, with or without noise.

    In the basis E(0)…E(N−1), Ẽ(0)…Ẽ(N−1) of its input (the last token, and the token before it),

    .. math:: \frac{∂L}{∂F_{v,E(q)}} = P(q) \Big(\frac1N - P(\text{label} = v)\Big), \quad
              \frac{∂L}{∂F_{v,Ẽ(u)}} = \frac{P(z_{H-2} = u)}{N} - P(z_{H-2} = u, \text{label} = v)

    with P(label = τ) = α and P(label = o) = (1−α)/Y for a trained output o. So F learns the noise token first iff
    α > (1−α)/Y. It holds where the attention output is zero: W = 0 with linear attention, or F without the attention
    output; also V = 0 for any attention in the unconstrained models.

    Args:
        task: Any task with a vocabulary of at most `MAX_VOCABULARY`.

    Returns:
        (N, 2N): row v the logit, column the input; the descent step is along its negative.

    Raises:
        ValueError: on too large a vocabulary.

    Source:
        Derived here.

    Example:
        >>> gradient = feed_forward_gradient(ReasoningTask(noise=0.5))
        >>> gradient[[59, 5], 0].round(6).tolist()
        [-0.483333, -0.108333]
    """
    _check(task)
    vocab, length, outputs = task.vocab_size, task.sentence_length, task.output_tokens
    label = np.zeros(vocab)
    label[outputs] = (1 - task.noise) / task.outputs
    label[task.noise_token] += task.noise
    last = np.zeros(vocab)
    last[task.sentence_triggers] = 1 / len(task.sentence_triggers)
    # The token before last: the output, the noise token, or free.
    hit = 1 / (length - 2)
    noise_before = (length - 3) / ((length - 2) * (length - 4)) if task.noise else 0.0
    independent = np.zeros(vocab)
    independent[task.generic_tokens] = (1 - hit - noise_before) / len(task.generic_tokens)
    independent[task.noise_token] = noise_before
    joint = np.outer(label, independent)
    for output in outputs:
        joint[output, output] += hit * label[output]
        joint[task.noise_token, output] += hit * task.noise / task.outputs
    return np.concatenate([np.outer(1 / vocab - label, last), joint.sum(axis=0) / vocab - joint], axis=1)


def _check(task: ReasoningTask, *, noise: bool | None = None) -> None:
    check_task(task, noise=noise)
    if task.vocab_size > MAX_VOCABULARY:
        raise ValueError(f"task.vocab_size must be at most {MAX_VOCABULARY} here, got {task.vocab_size}")
