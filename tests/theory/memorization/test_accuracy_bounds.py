"""Accuracy bounds against transformers that are built, and run position by position, on random look-up tables."""

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.memorization import (
    accuracy_lower_bound,
    attention_only_capacity,
    generic_rank,
    guaranteed_accuracy,
    independent_contexts,
    published_capacity,
)
from tests.references import attention_only_logits, conditioned_features
from tests.strategies import seeds, simplex_rows


def circle(n, dim):
    """Unembedding (n, dim): tokens on the unit circle in the first two coordinates."""
    codes = np.zeros((n, dim))
    codes[:, 0], codes[:, 1] = np.cos(2 * np.pi * np.arange(n) / n), np.sin(2 * np.pi * np.arange(n) / n)
    return codes


def memorizer(sizes, contexts, stored, labels):
    """Weights of the paper's transformer that gives the stored contexts their labels (d ≥ 2).

    [M | W_O] solves Z E = targets on the stored contexts; M is completed to an invertible matrix on coordinates that
    the unembedding ignores, and becomes a change of basis of the embedding. Targets a little off the circle, by less
    than the margin of the labels, keep M from being singular, as it is where all labels are the same.
    """
    heads, head_dim, dim, n, _ = sizes
    z, (tokens, positions, drawn) = conditioned_features(contexts, stored, heads, head_dim, dim, n)
    codes = circle(n, dim)
    targets = codes[labels[stored], :2] + 0.05 * np.random.default_rng(8).normal(size=(len(stored), 2))
    solution = np.linalg.lstsq(z[stored], targets, rcond=None)[0].T
    skip, outputs = solution[:, :dim], solution[:, dim:].reshape(2, heads, head_dim)
    basis = np.concatenate([skip, np.linalg.svd(skip)[2][2:]])
    back = np.linalg.inv(basis)
    weights = []
    for h, (query, key, value) in enumerate(drawn):
        output = np.zeros((dim, head_dim))
        output[:2] = outputs[:, h]
        weights.append((query @ back, key @ back, value @ back, output))
    return tokens @ basis.T, positions @ basis.T, weights, codes


@pytest.mark.parametrize(
    "sizes",
    [(4, 2, 2, 6, 2), (10, 2, 3, 6, 2), (3, 3, 3, 4, 3), (0, 1, 2, 5, 2)],
    ids=["d=2", "d=3", "S=3", "no heads"],
)
def test_expectation_over_random_tables(sizes):
    """Mean accuracy of built transformers over 200 random tables: the bound is their expectation, exactly.

    Four standard errors: two-sided error probability 6e-5, and the seed is fixed. No table falls below the guarantee.
    """
    n, length = sizes[3:]
    contexts = np.indices((n,) * length).reshape(length, -1).T
    stored = independent_contexts(*sizes, contexts)
    assert len(stored) == attention_only_capacity(*sizes)
    accuracies = []
    for seed in range(200):
        labels = np.random.default_rng(1000 + seed).integers(n, size=len(contexts))
        weights = memorizer(sizes, contexts, stored, labels)
        answers = attention_only_logits(contexts, *weights).argmax(axis=1)
        assert np.array_equal(answers[stored], labels[stored])
        accuracies.append(np.mean(answers == labels))
    bound = accuracy_lower_bound(*sizes)
    assert abs(np.mean(accuracies) - bound) < 4 * np.std(accuracies) / np.sqrt(200)
    constant = max(1 / n, len(stored) / n**length)
    assert guaranteed_accuracy(*sizes) == pytest.approx(constant, rel=1e-15)
    assert min(accuracies) >= len(stored) / n**length
    # Table by table the expectation does not hold.
    assert min(accuracies) < bound


@pytest.mark.parametrize(
    ("sizes", "expected", "guaranteed"),
    [
        ((1, 10, 10, 50, 2), 0.02784, 0.02), ((31, 10, 10, 50, 2), 0.14544, 0.128),
        ((22, 8, 10, 50, 2), 0.092912, 0.0744), ((300, 10, 10, 50, 2), 1.0, 1.0), ((21, 2, 2, 10, 2), 0.496, 0.44),
        ((11, 50, 50, 200, 2), 0.019925, 0.015), ((0, 2, 2, 10, 2), 0.118, 0.1),
        ((20, 10, 5, 50, 2), 0.06116, 0.042),
    ],
)  # fmt: skip
def test_reference_accuracies(sizes, expected, guaranteed):
    """Bounds at the published experiments' sizes, computed independently."""
    assert accuracy_lower_bound(*sizes) == pytest.approx(expected, rel=1e-13)
    assert guaranteed_accuracy(*sizes) == pytest.approx(guaranteed, rel=1e-13)


def test_the_published_bound_is_no_accuracy():
    """Not clipped, the published formula passes one."""
    published = 1 / 50 + (1 - 1 / 50) * published_capacity(300, 10, 10) / 2500
    assert published == pytest.approx(1.19992, abs=1e-5)
    assert accuracy_lower_bound(300, 10, 10, 50, 2) == 1


@cache
def storable_sets(heads, head_dim):
    """All sets of the 8 contexts of three bits that can be stored in two dimensions, each by its own rank."""
    contexts = np.indices((2, 2, 2)).reshape(3, -1).T
    sets = (c for size in range(1, 9) for c in itertools.combinations(range(8), size))
    return [c for c in sets if generic_rank(heads, head_dim, 2, 2, 3, contexts[list(c)]).rank == len(c)]


@given(shape=st.sampled_from([(0, 1), (1, 1), (1, 2), (2, 1)]), prior=simplex_rows(1, 8))
def test_prior_by_exhaustion(shape, prior):
    """N = 2, S = 3: the likeliest of all storable sets of contexts, among all 255 sets."""
    sizes, masses = (*shape, 2, 2, 3), prior[0]
    best = max(masses[list(chosen)].sum() for chosen in storable_sets(*shape))
    assert guaranteed_accuracy(*sizes, prior=masses) == pytest.approx(max(0.5, best), abs=1e-14)
    assert accuracy_lower_bound(*sizes, prior=masses) == pytest.approx(0.5 + 0.5 * best, abs=1e-14)


@given(seed=seeds)
def test_priors_and_the_likeliest_contexts(seed):
    """The mass lies between T_0 contexts at random and the T_0 likeliest; a uniform prior changes nothing."""
    sizes = (3, 2, 3, 5, 2)
    capacity = attention_only_capacity(*sizes)
    masses = np.random.default_rng(seed).dirichlet(np.full(25, 0.5))
    stored = guaranteed_accuracy(*sizes, prior=masses)
    assert stored <= max(0.2, np.sort(masses)[-capacity:].sum()) + 1e-14
    assert stored >= capacity / 25 - 1e-14
    assert guaranteed_accuracy(*sizes, prior=np.full(25, 0.04)) == pytest.approx(capacity / 25, rel=1e-14)
    assert accuracy_lower_bound(*sizes, prior=np.full(25, 0.04)) == pytest.approx(
        accuracy_lower_bound(*sizes), rel=1e-14
    )


def test_the_likeliest_contexts_need_not_be_storable():
    """All mass on the contexts (c, c), c < 12: d + H are stored, not H d_h + d."""
    masses = np.zeros(144)
    masses[[13 * c for c in range(12)]] = 1 / 12
    assert attention_only_capacity(2, 4, 4, 12, 2) == 12
    assert guaranteed_accuracy(2, 4, 4, 12, 2, prior=masses) == pytest.approx(6 / 12, rel=1e-14)
    assert guaranteed_accuracy(8, 4, 4, 12, 2, prior=masses) == pytest.approx(1, rel=1e-14)
