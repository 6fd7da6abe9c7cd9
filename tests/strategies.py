"""Hypothesis strategies shared by all tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from theory.reasoning import ReasoningTask
from theory.regression import RegressionTask

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
