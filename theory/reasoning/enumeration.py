"""Every sentence of a small task with its probability: the reference for the closed forms."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from plumbline.theory.reasoning.task import ReasoningTask, check_task

MAX_SENTENCES = 500_000
"""Largest number of sentences that is enumerated."""


@dataclass(frozen=True, eq=False)
class Population:
    """All sentences of a task.

    Attributes:
        task: The task.
        sentences: Token ids (count, H).
        probabilities: Probability of each sentence (count,), summing to 1.
        outputs: The output token y of each sentence (count,).
    """

    task: ReasoningTask
    sentences: np.ndarray
    probabilities: np.ndarray
    outputs: np.ndarray

    @property
    def label_probabilities(self) -> np.ndarray:
        """The law of the label given the sentence (count, N): y with probability 1 − α, the noise token with α."""
        result = np.zeros((len(self.outputs), self.task.vocab_size))
        result[np.arange(len(self.outputs)), self.outputs] = 1 - self.task.noise
        result[:, self.task.noise_token] = self.task.noise
        return result


def enumerate_population(task: ReasoningTask, *, unseen: bool = False) -> Population:
    r"""Return every sentence of the task with its exact probability.

    The trigger, the output, the place of each bigram and the free tokens can be read off a sentence, so no sentence
    comes twice. Their number is, with n generic tokens and Y outputs,

    .. math:: Q Y (H-2) n^{H-3} \quad\text{without noise}, \qquad Y (H-3)(H-4) n^{H-5} \quad\text{with noise.}

    Args:
        task: A task of at most `MAX_SENTENCES` sentences.
        unseen: Draw the output from the unseen tokens instead of the trained ones.

    Returns:
        `Population`.

    Raises:
        ValueError: if the task has too many sentences, or no unseen output where one is asked for.

    Source:
        Derived here from the law of the published generator (2505.15009).

    Example:
        >>> population = enumerate_population(ReasoningTask(vocab_size=7, sentence_length=6, triggers=2, outputs=2))
        >>> population.sentences.shape, population.sentences[0].tolist()
        ((1024, 6), [0, 2, 2, 2, 2, 0])
    """
    check_task(task)
    length, generic = task.sentence_length, len(task.generic_tokens)
    outputs = task.unseen_tokens if unseen else task.output_tokens
    if not outputs:
        raise ValueError(
            f"task must have a generic token that is no trained output when unseen is true, got {task.outputs} "
            f"trained outputs among {generic} generic tokens"
        )
    fixed, places = (5, (length - 3) * (length - 4)) if task.noise else (3, length - 2)
    free = length - fixed
    # In logarithms first: the power itself may have a billion digits.
    log_count = np.log(float(len(task.sentence_triggers) * len(outputs) * places)) + free * np.log(generic)
    if log_count > np.log(MAX_SENTENCES) + 1e-9:
        raise ValueError(f"task must have at most {MAX_SENTENCES} sentences, got e^{log_count:.1f} of them in {task}")

    alphabet = np.array(task.generic_tokens)
    tokens = alphabet[np.indices((generic,) * free).reshape(free, -1).T] if free else np.empty((1, 0), np.int64)
    blocks, weights, answers = [], [], []
    for trigger, output in itertools.product(task.sentence_triggers, outputs):
        for place in range(length - 2):
            others = [b for b in range(length - 2) if abs(b - place) >= 2] if task.noise else [None]
            for other in others:
                block = np.full((len(tokens), length), -1)
                block[:, -1] = block[:, place] = trigger
                block[:, place + 1] = output
                if other is not None:
                    block[:, other], block[:, other + 1] = trigger, task.noise_token
                block[:, block[0] < 0] = tokens
                blocks.append(block)
                weights.append(np.full(len(tokens), 1 / ((length - 2) * len(others))))
                answers.append(np.full(len(tokens), output))
    scale = len(task.sentence_triggers) * len(outputs) * len(tokens)
    return Population(task, np.concatenate(blocks), np.concatenate(weights) / scale, np.concatenate(answers))
