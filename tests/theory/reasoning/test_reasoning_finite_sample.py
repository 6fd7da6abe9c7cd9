"""Estimated noise levels: excess risk, its law over samples, and the logits of the two layers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    bayes_risk,
    degenerate_sample_probability,
    enumerate_population,
    excess_risk,
    excess_risk_bound,
    expected_excess_risk,
    layer_logits,
    layer_role_step,
    normalized_gd_curve,
)
from tests import reasoning_references as references
from tests.strategies import reasoning_tasks

LEVELS = st.floats(0.02, 0.98)


@given(task=reasoning_tasks(noise=LEVELS), estimate=LEVELS, steps=st.integers(0, 100), rate=st.floats(0.01, 1))
def test_excess_is_that_of_the_curve(task, estimate, steps, rate):
    """The loss along the curve of the misspecified model, less the Bayes risk."""
    curve = normalized_gd_curve(task, steps, rate, Layer(noise_estimate=estimate))
    found = excess_risk(task, estimate, steps, rate)
    assert found == pytest.approx(curve.losses[-1] - bayes_risk(task), abs=1e-13)
    assert excess_risk(task, estimate) == pytest.approx(excess_risk(task, estimate, 10**6, 1.0), abs=1e-15)


@pytest.mark.parametrize("noise", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("size", [2, 3, 10, 200])
def test_expected_excess_is_the_binomial_mean(noise, size):
    """The sum over all non-degenerate samples; its weight is one less the probability of degenerate ones."""
    task = ReasoningTask(noise=noise)
    k = np.arange(1, size)
    weights = stats.binom.pmf(k, size, noise)
    values = [excess_risk(task, float(x / size)) for x in k]
    assert expected_excess_risk(task, size) == pytest.approx(weights @ values / weights.sum(), rel=1e-9)
    assert degenerate_sample_probability(task, size) == pytest.approx(1 - weights.sum(), abs=1e-12)


def test_expected_excess_falls_like_the_inverse_sample_size():
    """2m times the expectation goes to 1."""
    for noise in (0.2, 0.5, 0.8):
        products = [2 * m * expected_excess_risk(ReasoningTask(noise=noise), m) - 1 for m in (1000, 100_000)]
        assert products[0] > 50 * products[1] > 0
        assert products[1] < 1e-4
    assert expected_excess_risk(ReasoningTask(noise=1e-200), 5) > 0


@pytest.mark.parametrize("noise", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("size", [200, 512, 2048])
@pytest.mark.parametrize("delta", [0.05, 0.3])
@pytest.mark.parametrize("steps", [None, 60])
def test_bound_holds_with_its_probability(noise, size, delta, steps):
    """Exactly: the binomial probability of a larger excess is at most δ; and the bound is not far off the quantile."""
    task = ReasoningTask(noise=noise)
    training = {} if steps is None else {"steps": steps, "learning_rate": 0.1}
    bound = excess_risk_bound(task, size, delta, **training)
    k = np.arange(1, size)
    weights = stats.binom.pmf(k, size, noise)
    excess = np.array([excess_risk(task, float(x / size), **training) for x in k])
    assert weights[excess > bound].sum() + degenerate_sample_probability(task, size) <= delta
    order = np.argsort(excess)
    quantile = excess[order][np.searchsorted(np.cumsum(weights[order]), 1 - delta)]
    assert quantile <= bound < 25 * quantile


def test_bound_names_the_sample_it_needs():
    """Just below the condition it refuses with the size; at the size it is finite."""
    task = ReasoningTask(noise=0.2)
    needed = math.log(40) / (2 * 0.16**2)
    with pytest.raises(ValueError, match=f"sample_size must exceed .* = {needed:.6g}"):
        excess_risk_bound(task, math.floor(needed), 0.05)
    assert math.isfinite(excess_risk_bound(task, math.ceil(needed), 0.05))
    # ε²/(α(1−α) − ε) with ε = 0.03: by hand.
    size = 10_000
    delta = 2 * math.exp(-2 * size * 0.03**2)
    assert excess_risk_bound(task, size, delta) == pytest.approx(9e-4 / 0.13, rel=1e-12)
    expected = 9e-4 / 0.13 + math.log(1 + 0.83 * 58 * math.exp(-5))
    assert excess_risk_bound(task, size, delta, 50, 0.1) == pytest.approx(expected, rel=1e-12)


@given(
    task=reasoning_tasks(noise=LEVELS, max_vocab_size=7, max_sentence_length=7), estimate=LEVELS, scale=st.floats(0, 9)
)
def test_layer_logits_equal_the_layers(task, estimate, scale):
    """Each layer of the dense model says the same on every sentence."""
    population = enumerate_population(task)
    x = references.embed(task, population.sentences)
    attention, feed_forward = references.layers(
        x, *references.reparameterised_weights(task, scale, estimate), "linear", 1.0
    )
    found = layer_logits(task, scale, noise_estimate=estimate)
    rows = np.arange(len(x))
    np.testing.assert_allclose(attention[rows, population.outputs], found.attention_output, atol=1e-13)
    np.testing.assert_allclose(attention.max(axis=1), found.attention_largest, atol=1e-13)
    np.testing.assert_allclose(feed_forward[:, -1], found.feed_forward_noise, atol=1e-13)
    np.testing.assert_allclose(feed_forward.max(axis=1), found.feed_forward_largest, atol=1e-13)


@given(task=reasoning_tasks(noise=LEVELS), estimate=st.none() | LEVELS, rate=st.floats(0.01, 2))
def test_layer_roles_begin_at_the_step(task, estimate, rate):
    """From that step on, and not before, the noise token has the largest feed-forward logit."""
    step = layer_role_step(task, rate, noise_estimate=estimate)
    at = layer_logits(task, rate * step * (1 + 1e-12) + 1e-12, noise_estimate=estimate)
    assert at.feed_forward_noise == at.feed_forward_largest
    if step:
        before = layer_logits(task, rate * (step - 1) * (1 - 1e-12), noise_estimate=estimate)
        assert before.feed_forward_noise < before.feed_forward_largest
