"""The laws and sizes on which claims are checked."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from plumbline.theory.memorization import NgramTask, attention_only_capacity


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of a one-layer attention-only transformer and of its contexts."""

    vocab_size: int
    context_length: int = 2
    heads: int
    head_dim: int
    embed_dim: int

    @property
    def layer(self) -> tuple[int, int, int, int, int]:
        """Heads, head dimension, embedding dimension, vocabulary, context length: as the calculators take them."""
        return self.heads, self.head_dim, self.embed_dim, self.vocab_size, self.context_length

    @property
    def contexts(self) -> int:
        """N^S."""
        return self.vocab_size**self.context_length

    @property
    def capacity(self) -> int:
        """T_0 for contexts with enough distinct last tokens."""
        return attention_only_capacity(*self.layer)

    @property
    def previous_bound(self) -> int:
        """`multi_head_capacity`, also where its condition S ≤ d fails: as a rival it is held against all sizes."""
        return self.heads * (min(self.context_length, self.head_dim) - 1) + 1


@cache
def gaussian_law(vocab_size: int, context_length: int = 2, *, scale: float = 1.0, seed: int = 0) -> NgramTask:
    """A law of full support with independent normal logits; its prior is not uniform."""
    rng = np.random.default_rng(seed)
    contexts = vocab_size**context_length
    return NgramTask(
        vocab_size,
        context_length,
        "table",
        table=_softmax(scale * rng.normal(size=(contexts, vocab_size))),
        initial=_softmax(rng.normal(size=contexts)),
    )


@cache
def low_rank_law(vocab_size: int, context_length: int, rank: int, *, seed: int = 0) -> NgramTask:
    """A law whose centred log table has the given rank; that of its log table is larger by one."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(vocab_size**context_length, rank)) @ rng.normal(size=(rank, vocab_size))
    return NgramTask(vocab_size, context_length, "table", table=_softmax(logits / np.sqrt(rank)))


@cache
def noisy_lookup_law(vocab_size: int, context_length: int, error: float, *, seed: int = 0) -> NgramTask:
    """A look-up table that errs with one probability, in each context more or less towards the opposite token."""
    rng = np.random.default_rng(seed)
    contexts = np.arange(vocab_size**context_length)
    labels = rng.integers(vocab_size, size=len(contexts))
    aimed = rng.beta(0.3, 0.3, size=len(contexts))
    rows = np.repeat(error * (1 - aimed[:, None]) / (vocab_size - 1), vocab_size, axis=1)
    rows[contexts, (labels + vocab_size // 2) % vocab_size] += error * aimed
    rows[contexts, labels] = 1 - error
    return NgramTask(vocab_size, context_length, "table", table=rows)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
