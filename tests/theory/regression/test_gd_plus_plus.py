"""Free value block with scalar layers: exact risk, its optimum, its bound."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    degree_bound,
    gd_plus_plus_optimum,
    gd_plus_plus_risk,
    multi_step_optimum,
    multi_step_risk,
    spectral_moments,
)
from plumbline.theory.regression.gd_plus_plus import _jacobian, residual_polynomial
from tests import references
from tests.strategies import generators

sizes = {"dim": st.integers(1, 8), "context_length": st.integers(1, 40)}


def check_against_rationals(a, b, dim, context_length, m):
    """Compare with d ∫ P² dμ from the exact coefficients of P and the moments m."""
    polynomial = references.gd_plus_plus_polynomial(a, b)
    assert len(polynomial) - 1 <= (3 ** len(a) - 1) // 2
    expected = float(dim * references.risk(polynomial, m))
    # Rounding of the nodes (1e-16) times the degree of P² and the amplification of its factors, below 1e4.
    assert gd_plus_plus_risk(a, b, dim, context_length) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(("dim", "context_length"), [(1, 3), (2, 1), (5, 2), (5, 20), (5, 10**6)])
@pytest.mark.parametrize(("a", "b"), [([0.7], []), ([0.5, 1.4], [0.6]), ([0.5, -0.4], [-1.1])])
def test_risk_equals_exact_rationals(a, b, dim, context_length):
    """One and two layers, with the reference's own moments."""
    check_against_rationals(a, b, dim, context_length, references.moments(dim, context_length, 9))


@pytest.mark.parametrize(
    ("a", "b"),
    [([0.38, 2.4, 9.54], [0.904, 0.566]), ([0.3, 1.0, 2.0], [0.0, 1.0]), ([0.3, 0.8, 1.3, 2.0], [0.9, 0.7, 0.5])],
)
def test_deep_risk_equals_exact_rationals(a, b):
    """Three and four layers, degree up to 80 (the moments are held against references in their own tests)."""
    check_against_rationals(a, b, 5, 20, spectral_moments(5, 20, 81))


def whitened(step_sizes, shrinkages, covariance):
    """Sparse weights of the network: K_l = −a_l Σ⁻¹, B_l = b_l I."""
    d = len(covariance)
    key_query = -np.multiply.outer(step_sizes, np.linalg.inv(covariance))[:, None]
    value = np.multiply.outer([*shrinkages, 0.3], np.eye(d))[:, None]  # the last value block never matters
    return references.embed(value, key_query)


@pytest.mark.parametrize(("dim", "context_length"), [(1, 2), (2, 1)])
def test_risk_equals_enumeration_of_prompts(dim, context_length):
    """The token-level transformer on every prompt of a law with equal moments."""
    covariance = np.array([[1.5, 0.4], [0.4, 0.8]])[:dim, :dim]
    task = RegressionTask(dim, context_length, covariance=covariance, weight_covariance=np.linalg.inv(covariance))
    prompts, probabilities = references.enumerate_prompts(task, degree=16)
    errors = references.squared_errors(*whitened([0.5, 1.4], [0.6], covariance), prompts)
    expected = probabilities @ errors
    assert gd_plus_plus_risk([0.5, 1.4], [0.6], dim, context_length) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize(
    ("a", "b"), [([0.4, 1.2], [0.7]), ([0.3, 0.9, 1.5], [0.8, 0.4])], ids=["two layers", "three layers"]
)
def test_risk_equals_enumeration_of_wisharts(a, b):
    """The same with n = 6 examples through Bartlett's decomposition, at two and three layers."""
    covariance = np.array([[1.5, 0.4], [0.4, 0.8]])
    task = RegressionTask(2, 6, covariance=covariance, weight_covariance=np.linalg.inv(covariance))
    prompts, probabilities = references.enumerate_gram_prompts(task, degree=3 ** len(a) - 1)
    errors = references.squared_errors(*whitened(a, b, covariance), prompts)
    # High powers of rare large eigenvalues carry the weights of three layers: 1e-8 of their sum is left.
    assert gd_plus_plus_risk(a, b, 2, 6) == pytest.approx(probabilities @ errors, rel=1e-11)


def test_risk_equals_sample_mean_at_two_layers():
    """Two layers at their optimum on sampled prompts (at three, no sample of this size sees the expectation)."""
    best = gd_plus_plus_optimum(2, 3, 12)
    task = RegressionTask(3, 12)
    prompts = references.sample_prompts(task, 100_000, np.random.default_rng(17))
    errors = references.squared_errors(*whitened(best.step_sizes, best.shrinkages, np.eye(3)), prompts)
    # 5 standard errors: two-sided error probability 6e-7; the seed is fixed.
    assert abs(errors.mean() - best.loss) < 5 * errors.std() / math.sqrt(len(errors))


@settings(max_examples=25)
@given(a=st.lists(st.floats(-2, 2), min_size=1, max_size=3), **sizes)
def test_without_value_block_it_is_plain_descent(a, dim, context_length):
    """b = 0 gives `multi_step_risk`; the last shrinkage changes nothing."""
    plain = multi_step_risk(a, dim, context_length)
    zeros = [0.0] * len(a)
    assert gd_plus_plus_risk(a, zeros[1:], dim, context_length) == pytest.approx(plain, rel=1e-10)
    value = gd_plus_plus_risk(a, zeros, dim, context_length)
    assert gd_plus_plus_risk(a, [*zeros[1:], 0.7], dim, context_length) == value


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_jacobian_is_the_derivative(layers):
    """The Jacobian used by the search equals the complex-step derivative, which has no rounding."""
    rng = np.random.default_rng(layers)
    x, t = rng.uniform(0.2, 1.5, size=2 * layers - 1), rng.uniform(0.1, 3, size=7)
    step = 1e-30
    expected = np.stack(
        [
            residual_polynomial(*np.split(x + 1j * step * unit, [layers]), t + 0j).imag / step
            for unit in np.eye(2 * layers - 1)
        ],
        axis=1,
    )
    np.testing.assert_allclose(_jacobian(*np.split(x, [layers]), t), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("layers", "dim", "context_length"), [(2, 5, 20), (2, 1, 4), (3, 5, 20), (3, 2, 3)])
def test_optimum_is_stationary_and_bounded(layers, dim, context_length):
    """The gradient is zero, perturbations lead up, and degree bound ≤ GD++ ≤ zero value block."""
    best = gd_plus_plus_optimum(layers, dim, context_length, starts=30)
    x = np.r_[best.step_sizes, best.shrinkages]

    def risk(x):
        return gd_plus_plus_risk(x[:layers], x[layers:], dim, context_length)

    assert risk(x) == pytest.approx(best.loss, rel=1e-10)
    rng = np.random.default_rng(0)
    for _ in range(10):
        direction = rng.normal(size=len(x)) * np.abs(x)
        h = 1e-4
        curvature = (risk(x + h * direction) + risk(x - h * direction) - 2 * risk(x)) / h**2
        assert curvature > 0
        # Central difference: truncation h² times the third derivative, large for a polynomial of degree 26.
        assert abs(risk(x + h * direction) - risk(x - h * direction)) / (2 * h) < 1e-3 * curvature
        assert risk(x + 0.02 * direction) > best.loss
    bound = degree_bound((3**layers - 1) // 2, dim, context_length)
    assert best.lower_bound == float(bound)
    assert best.lower_bound < best.loss < multi_step_optimum(layers, dim, context_length).loss


def test_optimum_reports_local_minima():
    """Minima are distinct and ascending, the first is the loss; the search is deterministic, and seeds agree."""
    best = gd_plus_plus_optimum(2, 5, 20)
    assert best.minima[0] == best.loss
    assert np.all(np.diff(best.minima) > 1e-6 * best.minima[1:] * 0.99)
    # checked independently: 200 starts of another program
    np.testing.assert_allclose(best.minima[:3], [0.0575011526, 0.0865479077, 0.1023449152], rtol=1e-8)
    again, other = gd_plus_plus_optimum(2, 5, 20), gd_plus_plus_optimum(2, 5, 20, seed=3)
    assert best.loss == again.loss
    assert best.step_sizes.tolist() == again.step_sizes.tolist()
    assert other.loss == pytest.approx(best.loss, rel=1e-10)
    assert len(gd_plus_plus_optimum(2, 5, 20, starts=1).minima) == 1


def test_one_layer_has_no_value_block():
    """At one layer it is one step, reached exactly, and the bound is attained."""
    best = gd_plus_plus_optimum(1, 5, 20, starts=3)
    plain = multi_step_optimum(1, 5, 20)
    assert best.loss == pytest.approx(plain.loss, rel=1e-12)
    assert best.lower_bound == pytest.approx(plain.loss, rel=1e-15)
    np.testing.assert_allclose(best.step_sizes, plain.step_sizes, rtol=1e-7)
    assert best.shrinkages.shape == (0,)


@settings(max_examples=40)
@given(layers=st.integers(1, 3), **sizes, rng=generators())
def test_no_network_goes_below_the_degree_bound(layers, dim, context_length, rng):
    """Random networks lie above the Christoffel bound of their degree."""
    a, b = rng.uniform(0, 3, size=layers), rng.uniform(0, 1.2, size=layers - 1)
    bound = float(degree_bound((3**layers - 1) // 2, dim, context_length))
    assert gd_plus_plus_risk(a, b, dim, context_length) >= bound
