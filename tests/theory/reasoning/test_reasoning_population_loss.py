"""Closed-form losses, derivatives and probabilities against dense models on every sentence of small tasks."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    batch_loss_deviation,
    bayes_risk,
    enumerate_population,
    feed_forward_gap,
    limit_loss,
    minimum_loss,
    optimal_scale,
    output_probabilities,
    population_loss,
    population_loss_derivative,
    softmax_loss,
)
from plumbline.theory.reasoning.layer import ATTENTIONS, FEED_FORWARDS
from tests import reasoning_references as references
from tests.strategies import reasoning_tasks

SMALL = {"max_vocab_size": 7, "max_sentence_length": 7}
estimates = st.none() | st.floats(0.02, 0.98)
layers = st.builds(Layer, st.sampled_from(ATTENTIONS), st.sampled_from(FEED_FORWARDS), estimates)


def fitting(layer, task):
    """The layer, without an estimate where there is no noise to estimate."""
    return layer if task.noise else replace(layer, noise_estimate=None)


@given(task=reasoning_tasks(**SMALL), layer=layers, scale=st.floats(-8, 12), unseen=st.booleans())
@settings(max_examples=60)
def test_loss_equals_enumeration(task, layer, scale, unseen):
    """Every model at every scale, on trained and on unseen outputs, from the dense matrices."""
    layer, unseen = fitting(layer, task), unseen and bool(task.unseen_tokens)
    population = enumerate_population(task, unseen=unseen)
    logits = references.model_logits(population, scale, layer)
    value = population_loss(task, scale, layer)
    # 1e-12: sums of up to 2e4 products of numbers of the size of the scale.
    assert value == pytest.approx(references.mean_loss(population, logits), rel=1e-12, abs=1e-12)


@given(task=reasoning_tasks(**SMALL), layer=layers, scale=st.floats(-8, 12))
@settings(max_examples=40)
def test_probabilities_equal_enumeration(task, layer, scale):
    """The mean probability of the output token and of the noise token."""
    layer = fitting(layer, task)
    population = enumerate_population(task)
    logits = references.model_logits(population, scale, layer)
    probabilities = np.exp(references.log_probabilities(logits))
    found = output_probabilities(task, scale, layer)
    own = probabilities[np.arange(len(probabilities)), population.outputs]
    assert found.output == pytest.approx(population.probabilities @ own, rel=1e-11)
    assert found.noise_token == pytest.approx(population.probabilities @ probabilities[:, -1], rel=1e-11)


@given(task=reasoning_tasks(**SMALL), layer=layers, scale=st.floats(-8, 12))
@settings(max_examples=40)
def test_derivative_equals_differences(task, layer, scale):
    """Central differences of the dense loss, Richardson extrapolated; kinks of the ReLU left out."""
    layer = fitting(layer, task)
    if layer.attention == "relu" and abs(scale) < 0.01:
        scale += 0.02
    population = enumerate_population(task)

    def loss(x):
        return references.mean_loss(population, references.model_logits(population, x, layer))

    h = 1e-3
    slopes = [(loss(scale + k * h) - loss(scale - k * h)) / (2 * k * h) for k in (1, 2)]
    found = population_loss_derivative(task, scale, layer)
    # The h⁴ term is below 1e-11, the rounding of the differences below 1e-11.
    assert found == pytest.approx((4 * slopes[0] - slopes[1]) / 3, rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("feed_forward", ["F", "FA"])
@pytest.mark.parametrize("scale", [-1.0, 0.5, 3.0])
def test_softmax_derivative_equals_differences(noise, feed_forward, scale):
    """The same for softmax attention at a wrong estimate, where every term of the derivative counts."""
    layer = Layer("softmax", feed_forward, 0.45 if noise else None)
    task, h = ReasoningTask(7, 6, 2, 2, noise), 1e-3
    slopes = [
        (population_loss(task, scale + k * h, layer) - population_loss(task, scale - k * h, layer)) / (2 * k * h)
        for k in (1, 2)
    ]
    found = population_loss_derivative(task, scale, layer)
    # The h⁴ term is below 1e-12, the rounding of the differences below 1e-11.
    assert found == pytest.approx((4 * slopes[0] - slopes[1]) / 3, abs=2e-11)


@given(task=reasoning_tasks(**SMALL), layer=layers, scale=st.floats(0, 6))
@settings(max_examples=40)
def test_batch_deviation_equals_enumeration(task, layer, scale):
    """The exact variance of a sentence's loss over the population, linear and ReLU attention."""
    layer = fitting(layer, task)
    if layer.attention == "softmax":
        layer = replace(layer, attention="relu")
    population = enumerate_population(task)
    losses = -references.log_probabilities(references.model_logits(population, scale, layer))
    joint = population.probabilities[:, None] * population.label_probabilities
    mean = np.sum(joint * losses)
    deviation = math.sqrt(np.sum(joint * (losses - mean) ** 2) / 7)
    assert batch_loss_deviation(task, scale, 7, layer) == pytest.approx(deviation, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("feed_forward", ["F", "FA"])
@pytest.mark.parametrize("scale", [0.0, 2.0, 4.0])
def test_softmax_batch_deviation_equals_sampling(noise, feed_forward, scale):
    """The spread of softmax losses over 40,000 sentences drawn from the counts."""
    task = ReasoningTask(30, 40, 3, 2, noise)
    rng = np.random.default_rng(3)
    n, size = len(task.generic_tokens), 40_000
    counts = rng.multinomial(task.sentence_length - (5 if noise else 3), [1 / n] * n, size)
    a, b = np.exp(scale) / (np.exp(scale) + 39), 1 / (np.exp(scale) + 39)
    kappa, gamma = float(feed_forward == "FA"), np.log(noise / (1 - noise)) if noise else 0.0
    logits = b * counts
    logits[:, 0] += a
    fixed = [2 * b, 0, 0, 0]
    if noise:
        fixed = [3 * b, 0, 0, b + gamma * (1 + 3 * kappa * b) + kappa * (a + b)]
    logits = np.concatenate([logits, np.tile(fixed, (size, 1))], axis=1)
    log_p = references.log_probabilities(logits)
    losses = -np.where(rng.random(size) < noise, log_p[:, -1], log_p[:, 0])
    found = batch_loss_deviation(task, scale, 1, Layer("softmax", feed_forward))
    # First order in b, so within a few per cent; the sampled deviation adds 1 per cent.
    assert found == pytest.approx(losses.std(), rel=0.08)
    batch = batch_loss_deviation(task, scale, 16, Layer("softmax", feed_forward))
    assert batch == pytest.approx(found / 4, rel=1e-14)


def test_scales_of_their_own():
    """Without noise the loss of triggers with different scales is the mean over them."""
    task = ReasoningTask(7, 5, 2, 2)
    population = enumerate_population(task)
    key_query, value, feed_forward = references.reparameterised_weights(task, 0.0)
    for trigger, scale in enumerate((0.7, 2.5)):
        key_query[trigger, task.vocab_size + trigger] = scale
    x = references.embed(task, population.sentences)
    logits = sum(references.layers(x, key_query, value, feed_forward, "linear", 1.0))
    found = population_loss(task, np.array([0.7, 2.5])).mean()
    assert found == pytest.approx(references.mean_loss(population, logits), rel=1e-14)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("feed_forward", ["F", "FA"])
@pytest.mark.parametrize("scale", [-1.0, 0.0, 2.0])
def test_relu_offset(noise, feed_forward, scale):
    """The published ReLU attention lets a little of every position through; its loss is exact, and close to without."""
    task, layer = ReasoningTask(7, 6, 2, 2, noise), Layer("relu", feed_forward)
    population = enumerate_population(task)
    for offset, distance in ((1e-8, 1e-6), (0.3, 10)):
        logits = references.model_logits(population, scale, layer, offset=offset)
        found = population_loss(task, scale, layer, relu_offset=offset)
        assert found == pytest.approx(references.mean_loss(population, logits), rel=1e-13)
        assert abs(found - population_loss(task, scale, layer)) < distance


def test_arrays_are_elementwise():
    """Lists and arrays of any shape give the array of the single losses."""
    task, scales = ReasoningTask(9, 8, 2, 2, 0.3), np.array([[0.0, 1.5], [4.0, -2.0]])
    for attention in ATTENTIONS:
        for method in ("exact", "second-order", "jensen"):
            found = population_loss(task, scales, Layer(attention), method=method)
            single = [population_loss(task, x, Layer(attention), method=method) for x in scales.ravel().tolist()]
            np.testing.assert_array_equal(found, np.reshape(single, (2, 2)))
    np.testing.assert_array_equal(population_loss(task, [1.0, 2.0]), population_loss(task, np.array([1.0, 2.0])))


# Optima


@given(task=reasoning_tasks(noise=st.floats(0.02, 0.98)), estimate=estimates)
def test_linear_optimum_of_f(task, estimate):
    """The slope vanishes at λ* and the loss is larger on either side; the gap is that of the formula."""
    layer = Layer("linear", "F", estimate)
    best = optimal_scale(task, layer)
    least = minimum_loss(task, layer)
    assert population_loss_derivative(task, best, layer) == pytest.approx(0, abs=1e-14)
    for step in (-0.1, 0.1):
        assert population_loss(task, best + step, layer) > least
    if estimate is None:
        assert least - bayes_risk(task) == pytest.approx(feed_forward_gap(task), rel=1e-10)
        found = output_probabilities(task, best, layer)
        a, others = task.noise, task.vocab_size - 2
        assert found.output == pytest.approx(1 - a, rel=1e-12)
        assert found.noise_token == pytest.approx(a * a / (a + (1 - a) * others), rel=1e-12)


@given(task=reasoning_tasks(max_vocab_size=9, max_sentence_length=9), layer=layers)
@settings(max_examples=25)
def test_minimum_is_below_every_scale(task, layer):
    """No scale of a grid has a smaller loss than the minimum; a far scale has the limit."""
    layer = fitting(layer, task)
    least = minimum_loss(task, layer)
    losses = population_loss(task, np.array([-12, -3, 0, 1, 2, 3, 5, 8, 40.0]), layer)
    assert losses.min() >= least - 1e-11
    best = optimal_scale(task, layer)
    if best == math.inf:
        assert losses[-1] == pytest.approx(least, abs=1e-11)
        assert least == limit_loss(task, layer)
    elif best == -math.inf:
        assert population_loss(task, -40.0, layer) == pytest.approx(least, abs=1e-11)
    elif layer.attention == "softmax":
        assert population_loss_derivative(task, best, layer) == pytest.approx(0, abs=1e-12)
    far = limit_loss(task, layer)
    assert far == math.inf or population_loss(task, 60.0, layer) == pytest.approx(far, abs=1e-12)


def test_relu_optimum_is_not_below_zero():
    """With an estimate far below α linear attention wants a negative scale; ReLU attention is off there."""
    task, layer = ReasoningTask(4, 6, 1, 1, 0.9), Layer("linear", "F", 0.1)
    off = replace(layer, attention="relu")
    assert optimal_scale(task, layer) == pytest.approx(math.log(0.1 * (1 / 9 + 2) / 0.9))
    assert optimal_scale(task, off) == 0
    least = minimum_loss(task, off)
    assert least == population_loss(task, -1.0, off) > minimum_loss(task, layer)


def test_softmax_has_an_interior_minimum_in_a_small_vocabulary():
    """There F stops short of full attention; with FA, and at the published sizes, it does not."""
    small = ReasoningTask(7, 6, 2, 2, 0.8)
    best = optimal_scale(small, Layer("softmax", "F"))
    assert 2 < best < 4
    # At 1e-12 of a slope of order 0.1 the scale itself is right to 1e-11.
    slope = population_loss_derivative(small, best, Layer("softmax", "F"))
    assert slope == pytest.approx(0, abs=1e-12)
    for noise in (0.0, 0.2, 0.5, 0.8):
        for feed_forward in ("F", "FA"):
            task = ReasoningTask(noise=noise)
            assert optimal_scale(task, Layer("softmax", feed_forward)) == math.inf


def test_f_would_be_optimal_with_another_key_query_matrix():
    """Attending to the noise token as well, λ E(q)Ẽ(q)ᵀ, the F model has the loss of FA on these sentences."""
    task = ReasoningTask(7, 6, 2, 2, 0.3)
    population = enumerate_population(task)
    key_query, value, feed_forward = references.reparameterised_weights(task, 3.0)
    key_query[0, task.noise_token] = 0
    x = references.embed(task, population.sentences)
    logits = sum(references.layers(x, key_query, value, feed_forward, "linear", 0.0))
    assert population_loss(task, 3.0) == pytest.approx(references.mean_loss(population, logits), rel=1e-14)


def test_no_cancellation_far_out():
    """Losses keep their relative accuracy where they are tiny, and stay finite where they are huge."""
    assert population_loss(ReasoningTask(), 700.0) == pytest.approx(59 * math.exp(-700), rel=1e-12)
    task = ReasoningTask(noise=0.5)
    assert population_loss(task, 1e300, Layer(feed_forward="F")) == pytest.approx(5e299)
    assert population_loss_derivative(task, -1e300) == -1
    assert population_loss_derivative(task, 1e300, Layer(feed_forward="F")) == 0.5
    assert output_probabilities(task, 1e300).output == pytest.approx(0.5)
    assert softmax_loss(task, 1e300).value == pytest.approx(limit_loss(task, Layer("softmax")), rel=1e-13)
