"""When low-rank logits are exact, and the small-signal approximation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.memorization import optimal_low_rank, rank_for_zero_divergence, small_signal_divergence
from tests.strategies import generators


def softmax(logits):
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


@given(generators(), st.integers(2, 9), st.integers(1, 12), st.integers(0, 6), st.sampled_from([0.1, 1.0, 3.0]))
def test_the_rank_of_a_low_rank_law_is_found(random, size, contexts, rank, scale):
    """min(d, N − 1, T) for softmax of generic logits of rank d."""
    logits = scale * random.normal(size=(contexts, rank)) @ random.normal(size=(rank, size))
    expected = min(rank, size - 1, contexts)
    singular = np.linalg.svd(logits - logits.mean(axis=1, keepdims=True), compute_uv=False)
    assert rank_for_zero_divergence(softmax(logits)) <= expected
    # A generic factor is singular to 1e-9 with a probability of about 1e-7 per example: those are left out.
    if rank == 0 or singular[expected - 1] > 1e-9 * np.linalg.norm(np.log(softmax(logits))):
        assert rank_for_zero_divergence(softmax(logits)) == expected


def test_zero_divergence_from_that_rank_on_only():
    """The normalisation adds one to the rank of log P, not to the rank that counts."""
    random = np.random.default_rng(3)
    table = softmax(random.normal(size=(20, 3)) @ random.normal(size=(3, 8)))
    assert rank_for_zero_divergence(table) == 3
    assert np.linalg.matrix_rank(np.log(table)) == 4
    assert optimal_low_rank(table, 3).divergence < 1e-13
    assert optimal_low_rank(table, 2).lower_bound > 1e-4
    masked = np.vstack([table, [[1.0] + [0.0] * 7]])
    assert rank_for_zero_divergence(masked, prior=[1 / 20] * 20 + [0.0]) == 3
    with pytest.raises(ValueError, match=r"no zero probability .* got 0 at index \(20, 1\)"):
        rank_for_zero_divergence(masked)


def test_the_approximation_is_good_for_small_signals():
    """Within 1 % of the optimum at a scale of 0.05, where the certified bound is close as well; far off at 2."""
    random = np.random.default_rng(4)
    for scale, tolerance in ((0.05, 1e-2), (0.01, 2e-3)):
        table = softmax(scale * random.normal(size=(60, 10)))
        optimum = optimal_low_rank(table, 3)
        assert small_signal_divergence(table, 3) == pytest.approx(optimum.divergence, rel=tolerance)
        # The envelope of the rows costs a few times the scale.
        assert optimum.lower_bound > (1 - 8 * scale) * optimum.divergence
    table = softmax(2 * random.normal(size=(60, 10)))
    assert small_signal_divergence(table, 3) > 1.3 * optimal_low_rank(table, 3, starts=4).divergence


def test_at_rank_zero_it_is_the_variance():
    """½ Σ ρ_t Var_p̄ log P_t, context by context."""
    random = np.random.default_rng(5)
    table, prior = random.dirichlet(np.ones(4) * 5, size=6), random.dirichlet(np.ones(6))
    mean = prior @ table
    expected = 0.0
    for weight, row in zip(prior, table, strict=True):
        centred = np.log(row) - mean @ np.log(row)
        expected += weight * (mean @ centred**2) / 2
    assert small_signal_divergence(table, 0, prior=prior) == pytest.approx(expected, rel=1e-12)
    assert small_signal_divergence(table, 3, prior=prior) == pytest.approx(0, abs=1e-15)
