"""Hypothesis strategies shared by all tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from plumbline.theory.memorization import NgramTask
from plumbline.theory.reasoning import ReasoningTask
from plumbline.theory.regression import RegressionTask

seeds = st.integers(0, 2**32 - 1)


@st.composite
def generators(draw: st.DrawFn) -> np.random.Generator:
    """A numpy generator whose seed is drawn, so that an example replays."""
    return np.random.default_rng(draw(seeds))


@st.composite
def orthogonal_matrices(draw: st.DrawFn, dim: int) -> np.ndarray:
    """A rotation or reflection (dim, dim)."""
    return np.linalg.qr(draw(generators()).normal(size=(dim, dim)))[0]


@st.composite
def square_matrices(draw: st.DrawFn, dim: int) -> np.ndarray:
    """Any (dim, dim), symmetric or not, entries of order one."""
    return draw(generators()).normal(size=(dim, dim))


@st.composite
def covariances(draw: st.DrawFn, dim: int) -> np.ndarray:
    """A symmetric positive definite (dim, dim), eigenvalues within a factor of 100."""
    basis = draw(orthogonal_matrices(dim))
    eigenvalues = draw(st.lists(st.floats(0.1, 10), min_size=dim, max_size=dim))
    matrix = (basis * eigenvalues) @ basis.T
    return (matrix + matrix.T) / 2


@st.composite
def regression_tasks(
    draw: st.DrawFn,
    *,
    max_dim: int = 4,
    max_context_length: int = 30,
    laws: tuple[str, ...] = ("gaussian", "sphere", "gamma"),
    noise: st.SearchStrategy[float] | None = None,
) -> RegressionTask:
    """A regression task of any law, with covariances that need not commute."""
    dim = draw(st.integers(1, max_dim))
    law = draw(st.sampled_from(laws))
    return RegressionTask(
        dim,
        draw(st.integers(1, max_context_length)),
        covariance=draw(st.none() | covariances(dim)),
        weight_covariance=draw(st.none() | covariances(dim)),
        noise_variance=draw(st.just(0.0) | st.floats(0.01, 5) if noise is None else noise),
        covariate_law=law,
        gamma_shape=draw(st.floats(0.1, 5)) if law == "gamma" else None,
    )


@st.composite
def reasoning_tasks(
    draw: st.DrawFn,
    *,
    max_vocab_size: int = 12,
    max_sentence_length: int = 12,
    noise: st.SearchStrategy[float] | None = None,
    unseen: bool = False,
) -> ReasoningTask:
    """A reasoning task with or without label noise; with ``unseen`` at least one output stays unseen."""
    level = draw(st.just(0.0) | st.floats(0.02, 0.98) if noise is None else noise)
    triggers = draw(st.integers(1, 3))
    outputs = draw(st.integers(1, 3))
    vocab_size = draw(st.integers(triggers + outputs + 1 + unseen, max_vocab_size))
    length = draw(st.integers(6 if level else 3, max_sentence_length))
    return ReasoningTask(vocab_size, length, triggers, outputs, level)


@st.composite
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
