"""Softmax attention: the three methods against enumeration, each within its stated error."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    enumerate_population,
    population_loss,
    softmax_loss,
    softmax_probabilities,
)
from plumbline.theory.reasoning.softmax_loss import METHODS, _curvature, leaking_logits
from tests import reasoning_references as references
from tests.strategies import reasoning_tasks


def by_enumeration(task, scale, feed_forward, estimate=None, *, tied=False):
    population = enumerate_population(task)
    logits = references.model_logits(population, scale, Layer("softmax", feed_forward, estimate), tied=tied)
    return references.mean_loss(population, logits)


@given(
    task=reasoning_tasks(max_vocab_size=7, max_sentence_length=7),
    scale=st.floats(0, 8),
    feed_forward=st.sampled_from(("F", "FA")),
    estimate=st.none() | st.floats(0.02, 0.98),
    tied=st.booleans(),
)
@settings(max_examples=60)
def test_methods_hold_their_errors(task, scale, feed_forward, estimate, tied):
    """Exact, second order and Jensen, plain and tied: enumeration lies within the stated error."""
    estimate = estimate if task.noise else None
    truth = by_enumeration(task, scale, feed_forward, estimate, tied=tied)
    options = {"feed_forward": feed_forward, "noise_estimate": estimate, "tied_value": tied}
    exact, second, jensen = (softmax_loss(task, scale, method=name, **options) for name in METHODS)
    slack = 1e-13 * (1 + truth)  # the rounding of the enumeration itself
    assert exact.value == pytest.approx(truth, rel=1e-12, abs=1e-13)
    assert exact.error < 1e-11
    assert abs(second.value - truth) <= second.error + slack
    assert -slack <= jensen.value - truth <= jensen.error + slack


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scale", [0.0, 3.0, 6.0, 9.0])
def test_methods_agree_at_the_published_sizes(noise, tied, scale):
    """Exact and second order agree within their errors, far below 1e-9 with the value matrix I."""
    task = ReasoningTask(noise=noise)
    exact, second = (softmax_loss(task, scale, tied_value=tied, method=m) for m in ("exact", "second-order"))
    assert abs(exact.value - second.value) <= exact.error + second.error
    assert exact.error < 1e-11
    if not tied:
        assert second.error < 1e-10


def test_second_order_error_is_of_third_order():
    """The certified error is not a loose one: a few times the true error at the smallest sizes."""
    task = ReasoningTask(7, 6, 2, 2)
    for scale in (0.0, 1.0, 2.0):
        second = softmax_loss(task, scale, method="second-order")
        true = abs(second.value - softmax_loss(task, scale).value)
        assert true < second.error < 1e-4
        jensen = softmax_loss(task, scale, method="jensen")
        assert (jensen.value - softmax_loss(task, scale).value) / jensen.error > 0.7


def test_exact_method_equals_sampling():
    """At a size beyond enumeration: 200,000 multinomial draws, 5 standard errors (error probability 6e-7)."""
    task, scale = ReasoningTask(20, 24, 3, 2, 0.3), 3.0
    rng = np.random.default_rng(11)
    n = len(task.generic_tokens)
    counts = rng.multinomial(task.sentence_length - 5, [1 / n] * n, 200_000)
    a, b = (x / (math.exp(scale) + 23) for x in (math.exp(scale), 1))
    noise_token = b + math.log(0.3 / 0.7) * (1 + 3 * b) + a + b
    logits = np.concatenate([b * counts, np.tile([3 * b, 0, 0, noise_token], (len(counts), 1))], axis=1)
    logits[:, 0] += a
    log_p = references.log_probabilities(logits)
    losses = -0.7 * log_p[:, 0] - 0.3 * log_p[:, -1]
    exact = softmax_loss(task, scale).value
    assert abs(losses.mean() - exact) < 5 * losses.std() / math.sqrt(len(losses))
    found = softmax_probabilities(task, scale)
    for value, sample in ((found.output, np.exp(log_p[:, 0])), (found.noise_token, np.exp(log_p[:, -1]))):
        assert abs(sample.mean() - value) < 5 * sample.std() / math.sqrt(len(sample))


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_tied_softmax_reaches_the_linear_loss(noise):
    """Tied, the loss goes to that of linear attention, so to the Bayes risk; untied it stays above it."""
    task = ReasoningTask(noise=noise)
    excess = [
        softmax_loss(task, scale, tied_value=True).value - population_loss(task, scale) for scale in (8.0, 12.0, 20.0)
    ]
    assert excess[0] > excess[1] > excess[2] > 0
    assert excess[2] < 1e-7
    assert softmax_loss(task, 40.0, tied_value=True).value == pytest.approx(population_loss(task, 40.0), abs=1e-12)
    assert softmax_loss(task, 40.0).value > population_loss(task, 40.0) + 1.5


def test_tied_probabilities_equal_enumeration():
    """Mean probabilities of the tied model."""
    task = ReasoningTask(7, 6, 2, 2, 0.3)
    population = enumerate_population(task)
    logits = references.model_logits(population, 2.5, Layer("softmax", "FA", 0.4), tied=True)
    p = np.exp(references.log_probabilities(logits))
    found = softmax_probabilities(task, 2.5, noise_estimate=0.4, tied_value=True)
    own = p[np.arange(len(p)), population.outputs]
    assert found.output == pytest.approx(population.probabilities @ own, rel=1e-12)
    assert found.noise_token == pytest.approx(population.probabilities @ p[:, -1], rel=1e-12)


def test_large_sizes():
    """Second order takes any size; exact refuses by name, and still works at a long sentence within its size."""
    huge = ReasoningTask(10**6, 10**9, 5, 4, 0.2)
    estimate = softmax_loss(huge, 25.0, method="second-order")
    assert math.isfinite(estimate.value)
    assert estimate.error < 1e-9
    with pytest.raises(ValueError, match='"second-order"'):
        softmax_loss(huge, 25.0)
    long = ReasoningTask(100, 2000, 5, 4)
    exact, second = softmax_loss(long, 5.0), softmax_loss(long, 5.0, method="second-order")
    assert abs(exact.value - second.value) <= exact.error + second.error


def test_variance_equals_sampled_counts():
    """Var S/(E S)² and E S against exact sums over the law of two counts."""
    task = ReasoningTask(7, 9, 4, 2)  # two generic tokens: c, M − c
    logits = leaking_logits(task, 0.9, 0.3, 0.3, 1.0, 0.0)
    c = np.arange(7)
    law = np.array([math.comb(6, k) for k in c]) / 2**6
    s = np.exp(0.9 + 0.3 * c) + np.exp(0.3 * (6 - c)) + math.exp(0.6) + 4
    mean = law @ s
    assert logits.log_mean == pytest.approx(math.log(mean), rel=1e-14)
    assert logits.relative_variance == pytest.approx(law @ (s - mean) ** 2 / mean**2, rel=1e-12)


@pytest.mark.parametrize("x", [-0.999, -0.5, -1.1e-3, -9.9e-4, -1e-9, 0.0, 1e-6, 9.9e-4, 1.1e-3, 0.7, 50.0])
def test_curvature(x):
    """(x − log(1 + x))/x² against mpmath, on both sides of the series' range."""
    import mpmath

    with mpmath.workdps(50):
        exact = (x - mpmath.log1p(x)) / mpmath.mpf(x) ** 2 if x else mpmath.mpf(1) / 2
    # Beside the range the difference cancels to 1e-3 of its terms, squared.
    assert _curvature(x) == pytest.approx(float(exact), rel=1e-10)
