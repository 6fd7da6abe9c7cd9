"""Hypothesis strategies shared by all tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def simplex_rows(draw: st.DrawFn, rows: int, size: int, *, zeros: bool = True) -> np.ndarray:
    """Distributions (rows, size): flat to peaked, with some probabilities exactly 0 unless ``zeros`` is false."""
    random = draw(generators())
    logits = draw(st.sampled_from([0.1, 1.0, 4.0])) * random.normal(size=(rows, size))
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    if zeros and draw(st.booleans()):
        # The largest weight, which is 1, stays.
        weights *= (random.random((rows, size)) < 0.5) | (weights == 1)
    return weights / weights.sum(axis=1, keepdims=True)


@st.composite
def ngram_tasks(
    draw: st.DrawFn,
    *,
    max_vocab_size: int = 5,
    max_context_length: int = 3,
    laws: tuple[str, ...] = ("geometric", "zipf", "uniform", "lookup", "table"),
    max_window: int = 2,
) -> NgramTask:
    """A next-token law of any kind, with any law of the first tokens."""
    size, length = draw(st.integers(2, max_vocab_size)), draw(st.integers(1, max_context_length))
    law = draw(st.sampled_from(laws))
    count = size**length
    ranked = law in ("geometric", "zipf", "uniform")
    tokens = st.lists(st.integers(0, size - 1), min_size=count, max_size=count)
    return NgramTask(
        size,
        length,
        law,  # type: ignore[arg-type]
        ratio=draw(st.floats(0.01, 1)) if law == "geometric" else None,
        exponent=draw(st.floats(0, 5)) if law == "zipf" else None,
        support=draw(st.none() | st.integers(1, size)) if ranked else None,
        seed=draw(seeds),
        next_tokens=draw(st.none() | tokens) if law == "lookup" else None,
        table=draw(simplex_rows(count, size)) if law == "table" else None,
        initial=draw(simplex_rows(1, count))[0] if draw(st.booleans()) else None,
        window=draw(st.integers(0, max_window)),
    )
