"""The distribution bound: the oscillation lemma, and transformers that equal an encoder on some contexts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from plumbline.theory.memorization import (
    attention_only_capacity,
    distribution_bound,
    divergence,
    independent_contexts,
    logit_oscillation,
    zipf_law,
)
from tests.references import attention_only_logits, conditioned_features
from tests.strategies import ngram_tasks, seeds, simplex_rows


def row_divergence(p, logits):
    """KL(p ‖ softmax), over the positive terms, written out."""
    q = log_softmax(logits)
    return sum(a * (np.log(a) - b) for a, b in zip(p, q, strict=True) if a > 0)


@given(seed=seeds, data=st.data(), size=st.integers(2, 6), scale=st.sampled_from([0.1, 1.0, 10.0]))
def test_oscillation_lemma(seed, data, size, scale):
    """|KL(p‖a) − KL(p‖b)| ≤ osc(a − b) for any p; 0 under constants; symmetric."""
    random = np.random.default_rng(seed)
    p = data.draw(simplex_rows(1, size))[0]
    a, b = scale * random.normal(size=(2, 1, size))
    osc = logit_oscillation(a, b)
    assert osc.shape == (1,)
    assert abs(row_divergence(p, a[0]) - row_divergence(p, b[0])) <= osc[0] + 1e-12 * (1 + scale)
    np.testing.assert_allclose(logit_oscillation(b, a), osc)
    assert logit_oscillation(a, a + 3.5)[0] <= 1e-14 * (1 + scale) * 10
    assert osc[0] == pytest.approx(max(a[0] - b[0]) - min(a[0] - b[0]))


def test_oscillation_constant_is_best_possible():
    """a = (0, s), b = 0, p = (1, 0): the ratio tends to 1 as s grows."""
    for s, ratio in ((1.0, 0.6), (100.0, 0.99)):
        gap = row_divergence([1.0, 0.0], np.array([0.0, s])) - np.log(2)
        assert ratio * s < gap < logit_oscillation([[0.0, s]], [[0.0, 0.0]])[0]


@given(task=ngram_tasks(max_vocab_size=4, max_context_length=2), seed=seeds)
def test_bound_of_any_model(task, seed):
    """With nothing stored: divergences term by term, bound = encoder + penalty ≥ the model's own."""
    random = np.random.default_rng(seed)
    encoder, model = random.normal(size=(2, task.context_count, task.vocab_size))
    result = distribution_bound(task, encoder, [], model_logits=model)
    pairs = [(result.encoder_divergence, encoder), (result.divergence, model)]
    for value, logits in pairs:
        rows = [row_divergence(p, f) for p, f in zip(task.conditional, logits, strict=True)]
        assert value == pytest.approx(task.prior @ rows, abs=1e-13)
        assert value == pytest.approx(divergence(task, logits), abs=1e-15)
    difference = encoder - model
    penalty = task.prior @ (difference.max(1) - difference.min(1))
    assert result.penalty == pytest.approx(penalty, abs=1e-13)
    assert result.bound == pytest.approx(result.encoder_divergence + penalty, abs=1e-13)
    assert result.divergence <= result.bound + 1e-13
    assert result.unstored_mass == pytest.approx(1, abs=1e-12)
    assert result.stored_oscillation == 0


@given(seed=seeds, heads=st.integers(1, 7), data=st.data())
def test_features_are_read_out_by_least_squares(seed, heads, data):
    """Real attention features: equal on the stored contexts, bounded elsewhere, whole table stored = equality."""
    random = np.random.default_rng(seed)
    n, dim, head_dim = 4, 3, 2
    contexts = np.indices((n, n)).reshape(2, -1).T
    table = data.draw(simplex_rows(16, n))
    prior = data.draw(simplex_rows(1, 16))[0]
    vectors, unembedding = random.normal(size=(16, dim)), random.normal(size=(n, dim))
    stored = independent_contexts(heads, head_dim, dim, n, 2, contexts)
    assert len(stored) == attention_only_capacity(heads, head_dim, dim, n, 2)
    z, _ = conditioned_features(contexts, stored, heads, head_dim, dim, n)
    result = distribution_bound(table, (vectors, unembedding), stored, prior=prior, features=z)
    readout = np.linalg.lstsq(z[stored], vectors[stored], rcond=None)[0]
    same = distribution_bound(
        table, vectors @ unembedding.T, stored, prior=prior, model_logits=z @ readout @ unembedding.T
    )
    # The features on the stored contexts have a condition below 1e5, so that readouts agree to 1e-10.
    assert result.bound == pytest.approx(same.bound, rel=1e-9)
    assert result.divergence == pytest.approx(same.divergence, abs=1e-8)
    assert result.divergence <= result.bound + 1e-12
    assert result.stored_oscillation < 1e-9
    outside = np.setdiff1d(np.arange(16), stored)
    assert result.unstored_mass == pytest.approx(prior[outside].sum(), abs=1e-14)
    if len(stored) == 16:
        assert result.divergence == pytest.approx(result.encoder_divergence, abs=1e-9)
        assert result.penalty < 1e-9


def test_bound_of_a_built_transformer():
    """N = 6, S = 2, d = 3, d_h = 2, H = 8: a transformer run position by position that equals a given encoder."""
    task = zipf_law(6, 2, exponent=1.0, seed=3)
    random = np.random.default_rng(0)
    vectors, unembedding = random.normal(size=(36, 3)), random.normal(size=(6, 3))
    stored = independent_contexts(8, 2, 3, 6, 2, task.contexts)
    z, (tokens, positions, drawn) = conditioned_features(task.contexts, stored, 8, 2, 3, 6)
    assert len(stored) == 19
    solution = np.linalg.lstsq(z[stored], vectors[stored], rcond=None)[0].T
    basis, back = solution[:, :3], np.linalg.inv(solution[:, :3])
    heads = [
        (query @ back, key @ back, value @ back, solution[:, 3 + 2 * h : 5 + 2 * h])
        for h, (query, key, value) in enumerate(drawn)
    ]
    logits = attention_only_logits(task.contexts, tokens @ basis.T, positions @ basis.T, heads, unembedding)
    result = distribution_bound(task, (vectors, unembedding), stored, model_logits=logits)
    assert result.stored_oscillation < 1e-9
    assert result.divergence == pytest.approx(divergence(task, logits), abs=1e-14)
    assert result.encoder_divergence < result.divergence < result.bound
    assert result.unstored_mass == pytest.approx(17 / 36)
    # The same from the features alone.
    assert distribution_bound(task, (vectors, unembedding), stored, features=z).bound == pytest.approx(result.bound)


def test_what_is_called_stored_must_be():
    """A model that differs from the encoder on M, or features that are dependent there, are refused."""
    table = [[0.5, 0.5], [0.2, 0.8]]
    with pytest.raises(ValueError, match=r"stored .* got an oscillation of 0.5 on context 1"):
        distribution_bound(table, [[0, 0], [0, 0]], [0, 1], model_logits=[[1, 1], [0, 0.5]])
    with pytest.raises(ValueError, match=r"stored .* got an oscillation"):
        distribution_bound(table, [[0, 1], [1, 0]], [0, 1], features=[[1.0], [2.0]])
    # A constant is no difference.
    assert distribution_bound(table, [[0, 0], [1, 0]], [0], model_logits=[[7, 7], [1, 0]]).penalty == 0
