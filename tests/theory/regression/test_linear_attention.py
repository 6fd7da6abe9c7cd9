"""Risk of given weights: one layer exactly, several layers by conditional expectation and control variate."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    gd_plus_plus_optimum,
    gd_plus_plus_risk,
    linear_transformer_risk,
    multi_step_optimum,
    noisy_multi_step_optimum,
    one_step_optimum,
    one_step_risk,
)
from plumbline.theory.regression.linear_attention import _conditional_risk, sample_wisharts
from tests import references
from tests.strategies import generators, regression_tasks

COVARIANCE = np.array([[1.5, 0.4], [0.4, 0.8]])
WEIGHT_COVARIANCE = np.array([[0.7, -0.3], [-0.3, 0.4]])
LAWS = [("gaussian", None), ("sphere", None), ("gamma", 0.7)]


def task_of(dim, n, *, noise=0.6, law="gaussian", shape=None):
    """A task whose covariances do not commute."""
    return RegressionTask(dim, n, COVARIANCE[:dim, :dim], WEIGHT_COVARIANCE[:dim, :dim], noise, law, shape)


def near(estimate, expected, *, rel=1e-12):
    """Whether an estimate meets the exact value: to rounding, or within 5 standard errors (probability 6e-7)."""
    return abs(estimate.value - expected) <= 5 * estimate.error + rel * expected


@pytest.mark.parametrize(("law", "shape"), LAWS)
@pytest.mark.parametrize(("dim", "n"), [(1, 1), (1, 3), (2, 1), (2, 2)])
@pytest.mark.parametrize("noise", [0.0, 0.6])
def test_one_full_layer_equals_enumeration(dim, n, law, shape, noise):
    """Two heads of arbitrary (d+1) × (d+1) weights on every prompt of a law with equal moments, every law."""
    rng = np.random.default_rng(dim + n)
    task = task_of(dim, n, noise=noise, law=law, shape=shape)
    value, key_query = rng.normal(size=(2, 1, 2, dim + 1, dim + 1))
    prompts, probabilities = references.enumerate_prompts(task, degree=4, weight_degree=4, noise_degree=4)
    expected = probabilities @ references.squared_errors(value, key_query, prompts)
    risk = linear_transformer_risk(value, key_query, task)
    # 1e-13: sums of up to 5e4 products in float64.
    assert risk.value == pytest.approx(expected, rel=1e-13)
    assert risk.error == 0
    assert risk.method == "exact"


def test_each_part_of_one_full_layer_alone():
    """Only even parts, only odd parts, only their cross terms: no part hides behind a larger one."""
    task = task_of(2, 2)
    prompts, probabilities = references.enumerate_prompts(task, degree=4, weight_degree=4, noise_degree=4)
    rng = np.random.default_rng(0)
    for kept_value in (slice(0, 2), slice(2, 3), slice(0, 3)):  # last row of P: on x, on y, on both
        for kept_rows in (slice(0, 2), slice(2, 3), slice(0, 3)):  # rows of Q
            value, key_query = np.zeros((2, 1, 1, 3, 3))
            value[..., 2, kept_value] = rng.normal(size=value[..., 2, kept_value].shape)
            key_query[..., kept_rows, :2] = rng.normal(size=key_query[..., kept_rows, :2].shape)
            expected = probabilities @ references.squared_errors(value, key_query, prompts)
            assert linear_transformer_risk(value, key_query, task).value == pytest.approx(expected, rel=1e-13)


def test_one_full_layer_equals_sample_mean():
    """Three dimensions, more examples, the gamma law: the mean over sampled prompts meets the risk."""
    rng = np.random.default_rng(9)
    root = rng.normal(size=(3, 3))
    task = RegressionTask(3, 5, root @ root.T + 0.3 * np.eye(3), None, 0.5, "gamma", 2.0)
    value, key_query = 0.3 * rng.normal(size=(2, 1, 3, 4, 4))
    errors = references.squared_errors(value, key_query, references.sample_prompts(task, 100_000, rng))
    # 5 standard errors: two-sided error probability 6e-7; the seed is fixed.
    risk = linear_transformer_risk(value, key_query, task).value
    assert abs(errors.mean() - risk) < 5 * errors.std() / math.sqrt(len(errors))


@settings(max_examples=40)
@given(task=regression_tasks(max_dim=3), heads=st.integers(1, 3), rng=generators())
def test_one_sparse_layer_is_one_step(task, heads, rng):
    """Sparse weights of one layer: A = −Σ_h K_h, whatever the value block, and the same when embedded."""
    d = task.dim
    value, key_query = rng.normal(size=(2, 1, heads, d, d))
    expected = one_step_risk(task, -key_query[0].sum(0))
    assert linear_transformer_risk(value, key_query, task).value == pytest.approx(expected, rel=1e-14)
    embedded = linear_transformer_risk(*references.embed(value, key_query), task)
    assert embedded.value == pytest.approx(expected, rel=1e-11)
    # Leading axes may be left out, and no value block is a zero block.
    if heads == 1:
        assert linear_transformer_risk(value[0, 0], key_query[0, 0], task).value == pytest.approx(expected, rel=1e-14)
        assert linear_transformer_risk(None, key_query[0], task).value == pytest.approx(expected, rel=1e-14)
    optimum = one_step_optimum(task)
    assert linear_transformer_risk(None, -optimum.preconditioner, task).value == pytest.approx(
        optimum.loss, rel=1e-9, abs=1e-12 * task.signal
    )


def test_no_full_layer_beats_one_step():
    """The minimum over full weights is that of the sparse ones: perturbations of the optimum in any entry lead up."""
    task = task_of(2, 4)
    optimum = one_step_optimum(task)
    value, key_query = references.embed(np.zeros((1, 1, 2, 2)), -optimum.preconditioner[None, None])
    rng = np.random.default_rng(1)
    for size in (0.01, 0.1, 1.0):
        for _ in range(20):
            change = size * rng.normal(size=(2, *value.shape))
            assert linear_transformer_risk(value + change[0], key_query + change[1], task).value > optimum.loss


@pytest.mark.parametrize("noise", [0.0, 0.6])
@pytest.mark.parametrize("n", [3, 8])
@pytest.mark.parametrize(
    ("a", "b"),
    [([0.7, 0.4], None), ([0.5, 1.2], [0.7, 0.4]), ([0.4, 0.9, 1.1], None), ([0.3, 0.8, 1.2], [0.6, 0.3, 0.9])],
)
def test_scalar_layers_are_exact(a, b, n, noise):
    """A_l = a_l Σ⁻¹, B_l = b_l I with any Ψ and label noise, against enumeration at the token level."""
    task = task_of(2, n, noise=noise)
    layers = len(a)
    key_query = -np.multiply.outer(a, np.linalg.inv(COVARIANCE))
    value = None if b is None else np.multiply.outer(b, np.eye(2))
    risk = linear_transformer_risk(value, key_query, task)
    assert risk.error == 0
    assert risk.method == "exact"
    degree = 2 * layers if b is None else 3**layers - 1
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=degree)
    blocks = np.zeros_like(key_query) if value is None else value
    errors = references.squared_errors(*references.embed(blocks[:, None], key_query[:, None]), prompts)
    assert risk.value == pytest.approx(probabilities @ errors, rel=1e-10)


@pytest.mark.parametrize("n", [1, 2])
def test_scalar_layers_with_few_examples(n):
    """The same with n ≤ d, every example enumerated."""
    task = task_of(2, n)
    key_query = -np.multiply.outer([0.5, 0.9], np.linalg.inv(COVARIANCE))[:, None]
    value = np.multiply.outer([0.6 if n == 1 else 0.0, 0.2], np.eye(2))[:, None]
    prompts, probabilities = references.enumerate_prompts(task, degree=16 if n == 1 else 8)
    expected = probabilities @ references.squared_errors(*references.embed(value, key_query), prompts)
    risk = linear_transformer_risk(value, key_query, task)
    assert risk.error == 0
    assert risk.value == pytest.approx(expected, rel=1e-11)


def test_scalar_layers_agree_with_their_calculators():
    """Optima of the other calculators, rebuilt as weights, have their risks, exactly."""
    covariance = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.7]])
    inverse = np.linalg.inv(covariance)
    task = RegressionTask(3, 12, covariance, inverse)
    noisy = RegressionTask(3, 12, covariance, inverse, noise_variance=0.7)
    steps, noisy_steps = multi_step_optimum(4, 3, 12), noisy_multi_step_optimum(2, 3, 12, 0.7)
    plus = gd_plus_plus_optimum(2, 3, 12)

    def layers(sizes):
        return -np.multiply.outer(sizes, inverse)

    value = np.multiply.outer([*plus.shrinkages, 0], np.eye(3))
    for risk, expected in (
        (linear_transformer_risk(None, layers(steps.step_sizes), task), steps.loss),
        (linear_transformer_risk(None, layers(noisy_steps.step_sizes), noisy), noisy_steps.loss),
        (linear_transformer_risk(value, layers(plus.step_sizes), task), plus.loss),
    ):
        assert risk.error == 0
        assert risk.value == pytest.approx(expected, rel=1e-10)


def random_layers(layers, heads, dim, seed, *, size=0.1):
    """Weights that are not scalar, small enough for the tails of the risk given W to be seen by a sample."""
    rng = np.random.default_rng(seed)
    value = size * rng.normal(size=(layers, heads, dim, dim))
    key_query = size * rng.normal(size=(layers, heads, dim, dim)) - 0.2 * np.eye(dim) / heads
    return value, key_query


@pytest.mark.parametrize(("layers", "heads", "size"), [(2, 1, 0.1), (2, 2, 0.5), (3, 1, 0.1), (3, 2, 0.3)])
def test_conditional_risk_equals_enumeration(layers, heads, size):
    """The risk given W of any sparse weights, averaged over a law of W with equal moments."""
    task = task_of(2, 5)
    degree = 3**layers - 1
    value, key_query = random_layers(layers, heads, 2, 3, size=size)
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=degree)
    expected = probabilities @ references.squared_errors(*references.embed(value, key_query), prompts)
    wisharts, weights = references.wishart_rule(task.covariance_matrix, 5, degree)
    risk = weights @ _conditional_risk(value, key_query, wisharts, task)
    # Three layers have degree 26 in W: rounding is amplified by powers of its largest eigenvalues.
    assert risk == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(("law", "shape"), [("gaussian", None), ("sphere", None), ("gamma", 1.5)])
@pytest.mark.parametrize(("dim", "n"), [(1, 1), (2, 5), (3, 3), (3, 2)])
def test_sampled_wisharts_have_the_right_moments(dim, n, law, shape):
    """Means of W and of W² against E W = Σ and E W² = Σ² + (Σ² + tr(Σ) Σ)/n (Gaussian), every entry."""
    covariance = np.array([[1.5, 0.4, 0.2], [0.4, 0.8, -0.1], [0.2, -0.1, 0.5]])[:dim, :dim]
    task = RegressionTask(dim, n, covariance, covariate_law=law, gamma_shape=shape)
    draws = 100_000
    wisharts = sample_wisharts(task, draws, np.random.default_rng(n))
    (k1, k2), s = task.radial_moments, covariance
    square = (k2 * (2 * s @ s + np.trace(s) * s) + (n - 1) * k1**2 * s @ s) / n
    for sample, expected in ((wisharts, k1 * s), (wisharts @ wisharts, square)):
        # 5 standard errors, and rounding where the sphere leaves no spread; 6e-7 per entry.
        error = sample.std(axis=0) / math.sqrt(draws) + 1e-12
        assert np.all(np.abs(sample.mean(axis=0) - expected) < 5 * error)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(("dim", "n"), [(2, 3), (2, 9)])
def test_two_sparse_layers_equal_enumeration(dim, n, heads):
    """Any sparse weights, label noise: the estimate is within its small error of the exact value."""
    task = task_of(dim, n)
    value, key_query = random_layers(2, heads, dim, 3)
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=8)
    expected = probabilities @ references.squared_errors(*references.embed(value, key_query), prompts)
    risk = linear_transformer_risk(value, key_query, task, draws=200_000)
    assert near(risk, expected)
    assert 0 < risk.error < 0.003 * expected
    assert "nearest scalar network exact" in risk.method
    assert "200000 draws" in risk.method


@pytest.mark.parametrize(("law", "shape"), LAWS)
@pytest.mark.parametrize("n", [1, 2])
def test_two_sparse_layers_with_few_examples(n, law, shape):
    """n ≤ d and every covariate law, at the token level."""
    task = task_of(2, n, law=law, shape=shape)
    value, key_query = random_layers(2, 1, 2, 5)
    value *= n == 1  # a free value block needs 16th moments: too many points for two examples
    prompts, probabilities = references.enumerate_prompts(task, degree=16 if n == 1 else 8)
    expected = probabilities @ references.squared_errors(*references.embed(value, key_query), prompts)
    risk = linear_transformer_risk(value, key_query, task, draws=200_000)
    assert near(risk, expected)
    assert 0 < risk.error < 0.1 * expected


def test_deep_networks_are_sampled():
    """Five zero-value layers (beyond the scalar route) against the enumeration of W."""
    task = task_of(2, 9)
    key_query = -np.multiply.outer([0.3, 0.5, 0.4, 0.6, 0.2], np.linalg.inv(COVARIANCE))[:, None]
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=10)
    expected = probabilities @ references.squared_errors(
        *references.embed(np.zeros_like(key_query), key_query), prompts
    )
    risk = linear_transformer_risk(None, key_query, task, draws=100_000)
    assert near(risk, expected)
    assert 0 < risk.error < 0.01 * expected


@pytest.mark.parametrize("law", ["gaussian", "sphere"])
@pytest.mark.parametrize(("dim", "n", "heads"), [(1, 1, 2), (2, 1, 1), (1, 2, 1)])
def test_two_full_layers_equal_enumeration(dim, n, heads, law):
    """Full weights of two layers on every prompt of a law with equal moments."""
    # Small Gaussian covariates: with larger ones the 16th moments are carried by draws that no sample contains.
    size = 0.08 if law == "gaussian" else 0.3
    task = RegressionTask(dim, n, size * COVARIANCE[:dim, :dim], WEIGHT_COVARIANCE[:dim, :dim], size, covariate_law=law)
    value, key_query = 0.15 * np.random.default_rng(n + dim).normal(size=(2, 2, heads, dim + 1, dim + 1))
    value[..., dim, dim] += 0.6 / heads
    key_query[..., :dim, :dim] -= 0.4 * np.eye(dim)
    prompts, probabilities = references.enumerate_prompts(task, degree=16, weight_degree=16, noise_degree=16)
    expected = probabilities @ references.squared_errors(value, key_query, prompts)
    risk = linear_transformer_risk(value, key_query, task, draws=200_000)
    assert near(risk, expected)
    assert 0 < risk.error < 0.01 * expected


def test_full_embedding_of_sparse_layers():
    """Embedded sparse weights take the other route and agree within the errors of both."""
    task = task_of(2, 9)
    value, key_query = random_layers(3, 2, 2, 7, size=0.15)
    sparse = linear_transformer_risk(value, key_query, task, draws=50_000)
    full = linear_transformer_risk(*references.embed(value, key_query), task, draws=50_000)
    assert abs(sparse.value - full.value) < 5 * math.hypot(sparse.error, full.error)
    # Three layers at the token level, as a third route.
    prompts = references.sample_prompts(task, 50_000, np.random.default_rng(2))
    errors = references.squared_errors(*references.embed(value, key_query), prompts)
    assert abs(sparse.value - errors.mean()) < 5 * math.hypot(sparse.error, errors.std() / math.sqrt(len(errors)))


def test_control_variate_takes_the_error_away():
    """Nearly scalar weights: unbiased, with an error in proportion to the distance from scalar ones."""
    task = RegressionTask(2, 9, COVARIANCE, np.linalg.inv(COVARIANCE))
    best = gd_plus_plus_optimum(2, 2, 9)
    key_query = -np.multiply.outer(best.step_sizes, np.linalg.inv(COVARIANCE))[:, None]
    value = np.multiply.outer([*best.shrinkages, 0], np.eye(2))[:, None]
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(2, *value.shape))
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=8)
    errors = []
    for size in (1e-2, 1e-3, 1e-4):
        weights = value + size * directions[0], key_query + size * directions[1]
        risk = linear_transformer_risk(*weights, task, draws=5_000)
        expected = probabilities @ references.squared_errors(*references.embed(*weights), prompts)
        assert near(risk, expected, rel=1e-11)
        errors.append(risk.error)
    # First order in the distance; a plain mean of 5,000 draws has an error of 1 % at any distance.
    assert errors[1] < 0.2 * errors[0]
    assert errors[2] < 0.2 * errors[1]
    assert errors[2] < 1e-4 * best.loss


def test_scalar_heads_add_up_and_may_cancel():
    """Scalar heads are exact where they act as one layer; where they cancel in Σ K but not in Σ B K they are not."""
    task = RegressionTask(2, 5)
    eye = np.eye(2)
    a, b = np.array([[0.3, 0.2], [0.4, 0.1]]), np.array([[0.5, -0.7], [0.2, 0.9]])
    key_query, value = -np.multiply.outer(a, eye), np.multiply.outer(b, eye)
    shrinkage = (a * b).sum(1) / a.sum(1)
    expected = gd_plus_plus_risk(a.sum(1), shrinkage[:1], 2, 5)
    risk = linear_transformer_risk(value, key_query, task)
    assert risk.error == 0
    assert risk.value == pytest.approx(expected, rel=1e-12)
    cancelling = key_query.copy()
    cancelling[0] = np.multiply.outer([0.3, -0.3], eye)
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=8)
    expected = probabilities @ references.squared_errors(*references.embed(value, cancelling), prompts)
    risk = linear_transformer_risk(value, cancelling, task, draws=100_000)
    assert near(risk, expected)
    assert 0 < risk.error < 0.02 * expected


def test_heads_that_are_not_scalar_alone():
    """Heads whose sum is scalar but who are not: sampled, and within the error of the exact value."""
    task = RegressionTask(2, 6, noise_variance=0.3)
    tilt = np.array([[0.2, 0.5], [-0.1, -0.2]])
    key_query = np.stack([np.stack([-0.3 * np.eye(2) + tilt, -0.2 * np.eye(2) - tilt])] * 2)
    value = np.stack([np.stack([0.5 * np.eye(2), -0.4 * np.eye(2)])] * 2)
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=8)
    expected = probabilities @ references.squared_errors(*references.embed(value, key_query), prompts)
    risk = linear_transformer_risk(value, key_query, task, draws=100_000)
    assert risk.error > 0
    assert near(risk, expected)
    # The same with scalar key-query blocks and value blocks that are not.
    key_query = np.stack([np.stack([-0.3 * np.eye(2), -0.2 * np.eye(2)])] * 2)
    value = np.stack([np.stack([tilt, -tilt.T])] * 2)
    expected = probabilities @ references.squared_errors(*references.embed(value, key_query), prompts)
    risk = linear_transformer_risk(value, key_query, task, draws=100_000)
    assert risk.error > 0
    assert near(risk, expected)


def test_value_blocks_that_are_not_scalar():
    """Scalar key-query blocks with another value block are no scalar layers; the last value block never matters."""
    task = RegressionTask(2, 6, noise_variance=0.3)
    key_query = -np.multiply.outer([0.4, 0.5], np.eye(2))
    value = np.array([[[0.5, 0.6], [-0.4, 0.3]], [[2.0, 1.0], [0.0, -3.0]]])
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=8)
    expected = probabilities @ references.squared_errors(*references.embed(value[:, None], key_query[:, None]), prompts)
    risk = linear_transformer_risk(value, key_query, task, draws=100_000)
    assert near(risk, expected)
    assert 0 < risk.error < 0.01 * expected
    value[0] = 0.5 * np.eye(2)
    assert linear_transformer_risk(value, key_query, task).error == 0


def test_layers_that_do_nothing():
    """Zero key-query blocks answer zero, whatever the value blocks; zero layers in between change nothing."""
    task = task_of(2, 6)
    zeros = np.zeros((2, 2, 2))
    value = np.ones((2, 2, 2))
    assert linear_transformer_risk(value, zeros, task).value == pytest.approx(task.signal, rel=1e-13)
    inverse = np.linalg.inv(COVARIANCE)
    short = linear_transformer_risk(None, -np.multiply.outer([0.4, 0.7], inverse), task)
    long = linear_transformer_risk(None, -np.multiply.outer([0.4, 0.0, 0.7], inverse), task)
    assert long.value == pytest.approx(short.value, rel=1e-12)


def test_draws_and_seed():
    """The same seed gives the same estimate, another one another; four times the draws halve the error."""
    task = task_of(2, 4)
    weights = random_layers(2, 1, 2, 1)
    one, same, other = (linear_transformer_risk(*weights, task, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one.value != other.value
    assert abs(one.value - other.value) < 5 * math.hypot(one.error, other.error)
    more = linear_transformer_risk(*weights, task, draws=80_000)
    # The standard deviation of heavy-tailed draws is itself uncertain by some 10 %.
    assert more.error == pytest.approx(one.error / 2, rel=0.3)
    assert "20000 draws" in one.method
