"""Next-token laws: their tables, the prior at a window, and the divergences known before any model."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory import checks
from plumbline.theory.memorization import (
    NgramTask,
    best_constant_divergence,
    conditional_entropy,
    divergence,
    geometric_law,
    lookup_table,
    uniform_divergence,
    uniform_law,
    zipf_law,
)
from plumbline.theory.memorization.task import table_and_prior
from tests.strategies import ngram_tasks, seeds, simplex_rows


def sample_windows(task, count, random):
    """Windows (count, S) at the task's position, token by token from the tables."""
    tokens = task.contexts[random.choice(task.context_count, size=count, p=replace(task, window=0).prior)]
    powers = task.vocab_size ** np.arange(task.context_length)[::-1]
    for _ in range(task.window):
        rows = task.conditional[tokens @ powers]
        drawn = (rows.cumsum(1) < random.random((count, 1))).sum(1).clip(max=task.vocab_size - 1)
        tokens = np.concatenate([tokens[:, 1:], drawn[:, None]], axis=1)
    return tokens


@given(task=ngram_tasks())
def test_tables_are_distributions(task):
    """Shapes, sums, order of the contexts; tables cannot be written to."""
    n, count = task.vocab_size, task.vocab_size**task.context_length
    assert task.context_count == count
    assert task.contexts.shape == (count, task.context_length)
    # Lexicographic, the first token most significant: as numbers in base N they count upwards.
    digits = task.contexts @ (n ** np.arange(task.context_length)[::-1])
    np.testing.assert_array_equal(digits, np.arange(count))
    assert task.conditional.shape == (count, n)
    assert task.prior.shape == (count,)
    assert task.conditional.min() >= 0
    assert task.prior.min() >= 0
    # Sums of at most 125 terms, window steps included, round to within 1e-12.
    np.testing.assert_allclose(task.conditional.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(task.prior.sum(), 1, atol=1e-12)
    for array in (task.contexts, task.conditional, task.prior):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 0


@given(task=ngram_tasks(max_vocab_size=3, max_context_length=2, max_window=3))
def test_prior_is_the_law_of_the_window(task):
    """By enumeration of all sequences of S + k tokens."""
    start = replace(task, window=0)
    masses = {tuple(c): p for c, p in zip(start.contexts.tolist(), start.prior, strict=True)}
    rows = {tuple(c): p for c, p in zip(start.contexts.tolist(), start.conditional, strict=True)}
    for _ in range(task.window):
        masses = {
            (*sequence, token): mass * rows[sequence[-task.context_length :]][token]
            for sequence, mass in masses.items()
            for token in range(task.vocab_size)
        }
    expected = dict.fromkeys(rows, 0.0)
    for sequence, mass in masses.items():
        expected[sequence[-task.context_length :]] += mass
    np.testing.assert_allclose(task.prior, list(expected.values()), atol=1e-14)


def test_prior_of_sampled_windows():
    """Frequencies of 100,000 sampled windows: a χ² statistic with 8 degrees of freedom."""
    table = np.random.default_rng(1).dirichlet(np.ones(3), size=9)
    initial = np.random.default_rng(2).dirichlet(np.ones(9))
    task = NgramTask(3, 2, "table", table=table, initial=initial, window=2)
    tokens = sample_windows(task, 100_000, np.random.default_rng(3))
    counts = np.bincount(tokens @ [3, 1], minlength=9)
    expected = 100_000 * task.prior
    # P(χ²_8 > 45) < 4e-7; the seed is fixed. The prior of window 0 is far off.
    assert np.sum((counts - expected) ** 2 / expected) < 45
    assert np.sum((counts - 1e5 * initial) ** 2 / (1e5 * initial)) > 1000


@given(seed=seeds, size=st.integers(2, 6), ratio=st.floats(0.01, 1), exponent=st.floats(0, 5), data=st.data())
def test_ranked_laws(seed, size, ratio, exponent, data):
    """Sorted rows are the weights, whatever the seed; supports are what was asked for."""
    support = data.draw(st.integers(1, size))
    ranks = np.arange(1, support + 1)
    laws = {
        geometric_law(size, 2, ratio=ratio, support=support, seed=seed): ratio ** (ranks - 1.0),
        zipf_law(size, 2, exponent=exponent, support=support, seed=seed): 1 / ranks**exponent,
        uniform_law(size, 2, support=support, seed=seed): np.ones(support),
    }
    for task, weights in laws.items():
        row = np.concatenate([weights / weights.sum(), np.zeros(size - support)])
        np.testing.assert_allclose(-np.sort(-task.conditional, axis=1), np.tile(row, (size**2, 1)), atol=1e-15)
        # Whatever the prior, every context has the entropy of the weights.
        entropy = -sum(p * np.log(p) for p in row if p > 0)
        assert conditional_entropy(task) == pytest.approx(entropy, abs=1e-14)
        assert uniform_divergence(task) == pytest.approx(np.log(size) - entropy, abs=1e-14)


def test_permutations_are_uniform_and_independent():
    """Positions of the likeliest token in 10,000 contexts, and those of the second given the first."""
    task = zipf_law(10, 4, exponent=1.0, seed=5)
    order = np.argsort(-task.conditional, axis=1)
    counts = np.zeros((10, 10))
    np.add.at(counts, (order[:, 0], order[:, 1]), 1)
    off = counts[~np.eye(10, dtype=bool)]
    assert np.trace(counts) == 0
    expected = 10_000 / 90
    # χ² with 89 degrees of freedom: P(> 165) < 3e-6; the seed is fixed.
    assert np.sum((off - expected) ** 2 / expected) < 165


@given(task=ngram_tasks())
def test_entropies_term_by_term(task):
    """Against sums over the positive terms, written out; information of the context is at most the divergence."""
    entropy = information = 0.0
    mean = sum(r * p for r, p in zip(task.prior, task.conditional, strict=True))
    for r, p in zip(task.prior, task.conditional, strict=True):
        for i in range(task.vocab_size):
            if r * p[i] > 0:
                entropy -= r * p[i] * np.log(p[i])
                information += r * p[i] * np.log(p[i] / mean[i])
    # Up to 625 terms of size at most log(5): rounding below 1e-12.
    assert conditional_entropy(task) == pytest.approx(entropy, abs=1e-12)
    assert uniform_divergence(task) == pytest.approx(np.log(task.vocab_size) - entropy, abs=1e-12)
    assert best_constant_divergence(task) == pytest.approx(information, abs=1e-12)
    assert best_constant_divergence(task) <= uniform_divergence(task) + 1e-12


@given(task=ngram_tasks(max_vocab_size=4, max_context_length=2), seed=seeds)
def test_constants_are_no_better_than_the_best(task, seed):
    """Divergence of random constant logits ≥ the mutual information; of zero logits = the uniform divergence."""
    logits = np.random.default_rng(seed).normal(size=task.vocab_size)
    tiled = np.tile(logits, (task.context_count, 1))
    assert divergence(task, tiled) >= best_constant_divergence(task) - 1e-12
    assert divergence(task, tiled) == pytest.approx(divergence(task, tiled + 1e3), abs=1e-11)
    assert divergence(task, 0 * tiled) == pytest.approx(uniform_divergence(task), abs=1e-12)


def test_divergence_of_the_law_itself_is_zero():
    """Logits log P give 0; the best constant is log of the mean."""
    task = zipf_law(5, 2, exponent=1.0)
    assert divergence(task, np.log(task.conditional)) == pytest.approx(0, abs=1e-15)
    mean = np.log(task.prior @ task.conditional)
    assert divergence(task, np.tile(mean, (25, 1))) == pytest.approx(best_constant_divergence(task), abs=1e-14)


@pytest.mark.parametrize(
    ("ratio", "support", "entropy"),
    [(1, 50, 3.9120230054281455), (1, 1, 0.0), (0.9, 50, 3.218371760510831), (0.5, 50, 1.3862943611198593),
     (0.5, 10, 1.378541689208526)],
)  # fmt: skip
def test_reference_entropies(ratio, support, entropy):
    """Entropies of the geometric weights, computed independently; probabilities are not smoothed."""
    task = geometric_law(50, ratio=ratio, support=support, seed=7)
    assert conditional_entropy(task) == pytest.approx(entropy, rel=1e-13, abs=1e-15)


def test_deterministic_laws_have_labels():
    """Look-up tables and laws of support 1; others say which context has several next tokens."""
    assert lookup_table(3, 1, labels=np.array([2, 0, 1])).labels.tolist() == [2, 0, 1]
    task = uniform_law(4, 2, support=1, seed=3)
    np.testing.assert_array_equal(task.conditional[np.arange(16), task.labels], 1)
    random = lookup_table(4, 2, seed=1)
    np.testing.assert_array_equal(random.conditional.argmax(1), random.labels)
    np.testing.assert_array_equal(random.conditional.sum(1), 1)
    assert conditional_entropy(random) == 0
    with pytest.raises(ValueError, match=r"got 2 in context \[1\]"):
        _ = NgramTask(2, 1, "table", table=[[1, 0], [1e-300, 1]]).labels
    # Labels of a random table are uniform: χ² with 9 degrees of freedom, P(> 45) < 1e-6; the seed is fixed.
    counts = np.bincount(lookup_table(10, 4, seed=0).labels, minlength=10)
    assert np.sum((counts - 1000) ** 2 / 1000) < 45


@given(task=ngram_tasks())
def test_tasks_are_values(task):
    """Equal parameters give equal, hashable tasks with the same tables; other seeds other tables."""
    again = replace(task)
    assert again == task
    assert hash(again) == hash(task)
    np.testing.assert_array_equal(again.conditional, task.conditional)
    np.testing.assert_array_equal(again.prior, task.prior)


def test_a_task_is_small():
    """Tables are no part of it, also after they were read, neither in a pickle nor in its repr."""
    task = geometric_law(60, ratio=0.9)
    assert task.conditional.nbytes > 10**6
    assert task.prior.sum() == pytest.approx(1)
    sent = pickle.dumps(task)
    assert len(sent) < 1000
    assert len(repr(task)) < 1000
    assert pickle.loads(sent) == task
    np.testing.assert_array_equal(pickle.loads(sent).conditional, task.conditional)
    assert not np.array_equal(geometric_law(60, ratio=0.9, seed=1).conditional, task.conditional)
    # One spelling: a full support is the number of tokens.
    assert geometric_law(60, ratio=0.9, support=60) == task


@given(rows=st.integers(1, 4).flatmap(lambda k: simplex_rows(k, 3)))
def test_explicit_tables_and_priors(rows):
    """Rounding of sums is removed once and for all; a table without a prior has the uniform one."""
    kept = checks.probabilities("rows", rows * (1 + 1e-10), (None, 3))
    np.testing.assert_allclose(kept.sum(1), 1, atol=1e-15)
    np.testing.assert_array_equal(checks.probabilities("rows", kept, (None, 3)), kept)
    table, prior = table_and_prior(rows)
    np.testing.assert_array_equal(prior, 1 / len(rows))
    np.testing.assert_allclose(table, rows, atol=1e-15)
    with pytest.raises(ValueError, match="sum to one"):
        checks.probabilities("rows", rows * (1 + 1e-8), (None, 3))
