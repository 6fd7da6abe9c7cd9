"""Gradients at zero and the bounds for free weights, against dense models on every sentence."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.reasoning import (
    ReasoningTask,
    enumerate_population,
    feed_forward_floor,
    feed_forward_gradient,
    key_query_gradient,
    unseen_output_bound,
)
from tests import reasoning_references as references
from tests.strategies import generators, reasoning_tasks

SMALL = {"max_vocab_size": 7, "max_sentence_length": 7}


def errors(population, logits):
    """∂L/∂ξ of every sentence (count, N), times its probability."""
    p = np.exp(references.log_probabilities(logits))
    return population.probabilities[:, None] * (p - population.label_probabilities)


@given(task=reasoning_tasks(noise=st.just(0.0), **SMALL))
@settings(max_examples=40)
def test_key_query_gradient(task):
    """By the chain rule at zero logits: ∂L/∂W = Σ_h (ē · E(z_h)) x_H x_hᵀ; only the trigger rows are claimed."""
    population = enumerate_population(task)
    x = references.embed(task, population.sentences)
    error = errors(population, np.zeros((len(x), task.vocab_size)))
    pull = np.take_along_axis(error, population.sentences, axis=1)
    gradient = np.einsum("bi,bh,bhj->ij", x[:, -1], pull, x, optimize=True)
    np.testing.assert_allclose(key_query_gradient(task), gradient[: task.triggers], atol=1e-13)


def test_key_query_gradient_by_differences():
    """The same from the loss itself, entry by entry."""
    task = ReasoningTask(6, 5, 2, 2)
    population = enumerate_population(task)
    x = references.embed(task, population.sentences)
    found = key_query_gradient(task)
    for i, j in np.ndindex(found.shape):
        losses = []
        for step in (1e-4, -1e-4):
            key_query, value, feed_forward = references.reparameterised_weights(task, 0.0)
            key_query[i, j] = step
            logits = sum(references.layers(x, key_query, value, feed_forward, "linear", 1.0))
            losses.append(references.mean_loss(population, logits))
        # Central differences: the error is of order h².
        assert found[i, j] == pytest.approx((losses[0] - losses[1]) / 2e-4, abs=1e-7)


@given(task=reasoning_tasks(**SMALL))
@settings(max_examples=40)
def test_feed_forward_gradient(task):
    """∂L/∂F = Σ ē x_Hᵀ at zero logits, for both inputs of the layer."""
    population = enumerate_population(task)
    x = references.embed(task, population.sentences)
    error = errors(population, np.zeros((len(x), task.vocab_size)))
    np.testing.assert_allclose(feed_forward_gradient(task), error.T @ x[:, -1], atol=1e-13)


@pytest.mark.parametrize("noise", [0.1, 0.19, 0.21, 0.5])
def test_noise_token_is_learned_first_above_its_threshold(noise):
    """F pushes the noise token up faster than a trained output iff α > (1 − α)/Y, here 0.2."""
    task = ReasoningTask(noise=noise)
    gradient = feed_forward_gradient(task)[:, 0]
    assert (gradient[task.noise_token] < gradient[task.output_tokens[0]]) == (noise > 0.2)


@given(task=reasoning_tasks(**SMALL))
@settings(max_examples=40)
def test_floor_is_the_conditional_entropy(task):
    """H(label | last two tokens) from the joint law of the enumeration."""
    population = enumerate_population(task)
    joint = np.zeros((task.vocab_size, task.vocab_size, task.vocab_size))
    np.add.at(
        joint,
        (population.sentences[:, -1], population.sentences[:, -2]),
        population.probabilities[:, None] * population.label_probabilities,
    )
    given_tokens = joint.sum(axis=2, keepdims=True)
    used = joint > 0
    ratio = np.where(used, joint, 1) / np.where(given_tokens > 0, given_tokens, 1)
    assert feed_forward_floor(task) == pytest.approx(-np.sum(joint * np.log(np.where(used, ratio, 1))), abs=1e-12)


def test_floor_is_reached_by_a_feed_forward_layer():
    """F = log posterior, additive in the token before last, has exactly that loss; any other F has more."""
    task = ReasoningTask(7, 6, 2, 2, 0.3)
    population = enumerate_population(task)
    joint = np.zeros((task.vocab_size, task.vocab_size))
    np.add.at(joint, population.sentences[:, -2], population.probabilities[:, None] * population.label_probabilities)
    feed_forward = np.zeros((14, 14))
    feed_forward[:7, 7:] = np.log(np.maximum(joint, 1e-30)).T - np.log(np.maximum(joint.sum(axis=1), 1e-30))
    x = references.embed(task, population.sentences)

    def loss(matrix):
        zero = np.zeros_like(matrix)
        return references.mean_loss(population, sum(references.layers(x, zero, zero, matrix, "linear", 0.0)))

    assert loss(feed_forward) == pytest.approx(feed_forward_floor(task), abs=1e-12)
    rng = np.random.default_rng(0)
    assert all(loss(feed_forward + 0.1 * rng.normal(size=(14, 14))) > feed_forward_floor(task) for _ in range(5))


@pytest.mark.parametrize("attention", ["linear", "relu", "softmax"])
@pytest.mark.parametrize("noise", [0.0, 0.4])
@given(rng=generators(), normalised=st.booleans())
@settings(max_examples=10)
def test_free_weights_obey_the_unseen_bound(attention, noise, rng, normalised):
    """V and F trained from zero under any attention weights: logits sum to zero, those of no label are equal."""
    task = ReasoningTask(7, 6, 2, 2, noise)
    seen, unseen = enumerate_population(task), enumerate_population(task, unseen=True)
    key_query = 3 * rng.normal(size=(14, 14))
    value, feed_forward = np.zeros((14, 14)), np.zeros((14, 14))
    x, x_unseen = references.embed(task, seen.sentences), references.embed(task, unseen.sentences)
    weights = references.attention_scores(x, key_query, attention)
    mixed = np.einsum("bh,bhi->bi", weights, x)
    bound = unseen_output_bound(task, attention=attention)
    never = [v for v in range(7) if v not in task.output_tokens and not (noise and v == task.noise_token)]
    for _ in range(15):
        error = errors(seen, mixed @ value.T[:, :7] + (x[:, -1] + mixed) @ feed_forward.T[:, :7])
        for matrix, seen_input in ((value, mixed), (feed_forward, x[:, -1] + mixed)):
            gradient = error.T @ seen_input
            matrix[:7] -= 0.5 * gradient / (np.linalg.norm(gradient) if normalised else 1)
        logits = sum(references.layers(x_unseen, key_query, value, feed_forward, attention, 1.0))
        assert np.abs(logits.sum(axis=1)).max() < 1e-11 * (1 + np.abs(logits).max())
        rows = np.arange(len(logits))
        assert attention == "linear" or (logits[rows, unseen.outputs] <= 1e-12).all()
        assert np.ptp(logits[:, never], axis=1).max() < 1e-11 * (1 + np.abs(logits).max())
        log_p = references.log_probabilities(logits)[rows, unseen.outputs]
        assert (np.exp(log_p) <= bound.probability + 1e-12).all()
        assert (-log_p >= bound.output_loss - 1e-12).all()
        assert references.mean_loss(unseen, logits) >= bound.loss - 1e-12


@pytest.mark.parametrize("attention", ["linear", "relu", "softmax"])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.1, 0.5, 0.9])
def test_unseen_loss_bound_is_the_minimum_over_probabilities(noise, attention):
    """min −(1−α) log p − α log(1 − (N−|L|) p) over p up to the bound, on a grid."""
    bound = unseen_output_bound(ReasoningTask(noise=noise), attention=attention)
    never = 60 - 4 - (noise > 0)
    assert bound.probability == (1 / never if attention == "linear" else 1 / 60)
    assert bound.output_loss == pytest.approx(-math.log(bound.probability))
    p = np.linspace(1e-5, bound.probability, 100_001)[: -1 if noise else None]
    losses = -(1 - noise) * np.log(p) - (noise * np.log1p(-never * p) if noise else 0)
    # The grid misses the minimum by at most the square of its spacing times the curvature, inside; by its spacing times
    # the slope where the minimum is at the end that is left out.
    assert bound.loss == pytest.approx(losses.min(), abs=2e-5)


@pytest.mark.parametrize("attention", ["relu", "softmax"])
def test_untrained_models_attain_the_bound(attention):
    """At zero weights every token has probability 1/N: no bound on P(y) can be smaller."""
    assert unseen_output_bound(ReasoningTask(), attention=attention).output_loss == pytest.approx(math.log(60))
