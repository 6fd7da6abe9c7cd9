"""The data distribution of in-context reasoning against distributional association."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plumbline.theory import checks

MAX_SIZE = 10**9
"""Largest vocabulary and sentence: beyond it the sums over tokens lose more than half the digits of float64."""
MIN_NOISY_LENGTH = 6
"""Shortest noisy sentence: with five tokens some positions of the output bigram leave no room for the noise bigram."""


@dataclass(frozen=True)
class ReasoningTask:
    r"""A sentence whose last token, the trigger, occurred before; the token that followed it then is the answer.

    The ids 0…N−1 are, in this order, the Q triggers, the Y outputs seen in training, the outputs not seen in
    training, and the noise token τ = N−1. All but triggers and noise token are *generic* tokens. A sentence z of
    length H is drawn so:

    1. the trigger q uniform over the triggers, and the output y uniform over the trained outputs (or over the unseen
       ones, for the generalisation loss);
    2. all positions independent and uniform over the generic tokens, then z[H−1] = q;
    3. p uniform on 0…H−3, z[p] = q, z[p+1] = y;
    4. the label is y.

    With noise α > 0 there is one trigger only, q = 0 (the other trigger ids stay unused), and also

    5. p' uniform on {b in 0…H−3: |b − p| ≥ 2}, z[p'] = q, z[p'+1] = τ;
    6. the label is τ with probability α, else y, independent of the sentence.

    So the sentence holds exactly one bigram (q, y), and with noise exactly one bigram (q, τ), whatever its label.

    Args:
        vocab_size: N, at least triggers + outputs + 1.
        sentence_length: H, at least 3, with noise at least 6 (else step 5 can have no position to choose from).
        triggers: Q, from 1 up.
        outputs: Y, the number of outputs seen in training, from 1 up.
        noise: α in [0, 1), the probability that the label is the noise token.

    Raises:
        ValueError: naming the parameter, its value and what is allowed.

    Example:
        >>> task = ReasoningTask(noise=0.2)
        >>> task.trigger_tokens, task.output_tokens, task.unseen_tokens, task.noise_token
        (range(0, 5), range(5, 9), range(9, 59), 59)
    """

    vocab_size: int = 60
    sentence_length: int = 256
    triggers: int = 5
    outputs: int = 4
    noise: float = 0.0

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        put("noise", checks.real("noise", self.noise, at_least=0.0))
        if self.noise >= 1:
            raise ValueError(f"noise must be less than 1, got {self.noise}")
        put("triggers", checks.integer("triggers", self.triggers, at_least=1))
        put("outputs", checks.integer("outputs", self.outputs, at_least=1))
        put("vocab_size", checks.integer("vocab_size", self.vocab_size, at_most=MAX_SIZE))
        if self.vocab_size < self.triggers + self.outputs + 1:
            raise ValueError(
                f"vocab_size must be at least triggers + outputs + 1 = {self.triggers + self.outputs + 1} "
                f"(the last id is the noise token), got {self.vocab_size}"
            )
        length = checks.integer("sentence_length", self.sentence_length, at_least=3, at_most=MAX_SIZE)
        if self.noise and length < MIN_NOISY_LENGTH:
            raise ValueError(
                f"sentence_length must be at least {MIN_NOISY_LENGTH} with noise, so that both bigrams always fit, "
                f"got {length}"
            )
        put("sentence_length", length)

    @property
    def trigger_tokens(self) -> range:
        """0…Q−1, the ids kept for triggers; see `sentence_triggers`."""
        return range(self.triggers)

    @property
    def sentence_triggers(self) -> range:
        """The triggers that occur in sentences: all of them, with noise token 0 alone."""
        return range(1 if self.noise else self.triggers)

    @property
    def generic_tokens(self) -> range:
        """Q…N−2: trained and unseen outputs, the alphabet of the other positions."""
        return range(self.triggers, self.vocab_size - 1)

    @property
    def output_tokens(self) -> range:
        """Q…Q+Y−1, the outputs seen in training."""
        return range(self.triggers, self.triggers + self.outputs)

    @property
    def unseen_tokens(self) -> range:
        """Q+Y…N−2, the outputs not seen in training; empty if every generic token is a trained output."""
        return range(self.triggers + self.outputs, self.vocab_size - 1)

    @property
    def noise_token(self) -> int:
        """τ = N−1."""
        return self.vocab_size - 1


def check_task(task: Any, *, noise: bool | None = None) -> ReasoningTask:
    """Return ``task`` if it is a `ReasoningTask`, with noise or without where asked; otherwise raise ValueError."""
    if not isinstance(task, ReasoningTask):
        raise ValueError(f"task must be a ReasoningTask, got {task!r}")
    if noise is not None and bool(task.noise) != noise:
        raise ValueError(f"task.noise must be {'greater than 0' if noise else '0'} here, got {task.noise}")
    return task
