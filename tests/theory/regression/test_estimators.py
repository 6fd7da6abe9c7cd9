"""Risks of zero, least squares, ridge and Bayes, against integration in one dimension and sampled prompts."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    bayes_risk,
    least_squares_risk,
    multi_step_optimum,
    noisy_multi_step_optimum,
    ridge_risk,
    zero_predictor_risk,
)
from plumbline.theory.regression.estimators import BRACKET_WIDTH
from plumbline.theory.regression.spectrum import MAX_NODES, orthonormal_polynomials
from tests import references
from tests.strategies import covariances, regression_tasks

COVARIANCE = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.7]])
# A bracket needs 96 exact moments for each (d, n): the tests share a few sizes.
SIZES = [(1, 4), (5, 20), (5, 2), (7, 1)]
WEIGHT_COVARIANCE = np.array([[0.7, -0.3, 0.0], [-0.3, 0.4, 0.1], [0.0, 0.1, 0.3]])
COVARIANCE_OF_FIVE = np.diag([1.0, 2.0, 0.5, 0.2, 1.0]) + 0.1
WEIGHT_COVARIANCE_OF_FIVE = np.diag([0.3, 0.1, 1.0, 0.5, 0.4]) - 0.02


def chi_squared_mean(f, degrees):
    """E f(χ²_degrees), by integration to 20 digits."""
    with mpmath.workdps(25):
        half = mpmath.mpf(degrees) / 2
        norm = 2**half * mpmath.gamma(half)
        # t = u²: no singularity at 0
        density = mpmath.quad(lambda u: 2 * f(u * u) * u ** (degrees - 1) * mpmath.exp(-u * u / 2), [0, 1, 4, 16, 40])
        return float(density / norm)


def spectral_mean(f, dim, n):
    """∫ f dμ where S has one nonzero eigenvalue, χ² with max(d, n) degrees of freedom: d = 1 or n = 1."""
    return (1 - 1 / dim) * f(0) + chi_squared_mean(lambda t: f(t / n), max(dim, n)) / dim


@pytest.mark.parametrize(("dim", "n"), [(1, 4), (7, 1)])
@pytest.mark.parametrize("penalty", [0.2, 1.5])
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_ridge_equals_integration(dim, n, penalty, noise):
    """tr(ΨΣ) ∫ λ²/(t+λ)² dμ + d (σ²/n) ∫ t/(t+λ)² dμ; the bracket encloses it."""
    task = RegressionTask(dim, n, weight_covariance=0.6 * np.eye(dim), noise_variance=noise)
    bias = spectral_mean(lambda t: (penalty / (t + penalty)) ** 2, dim, n)
    spread = spectral_mean(lambda t: t / (t + penalty) ** 2, dim, n)
    expected = 0.6 * dim * bias + dim * noise / n * spread
    risk = ridge_risk(task, penalty)
    # 1e-13: rounding of the quadrature.
    assert abs(risk.value - expected) <= risk.error + 1e-13 * expected
    assert risk.error <= 2e-3 * risk.value
    assert float(risk) == risk.value


@pytest.mark.parametrize(("dim", "n"), [(1, 4), (7, 1)])
@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_bayes_equals_integration(dim, n, noise):
    """tr(ΨΣ) ∫ s/(t+s) dμ with s = d σ²/(n tr(ΨΣ))."""
    task = RegressionTask(dim, n, weight_covariance=0.6 * np.eye(dim), noise_variance=noise)
    s = noise / (n * 0.6)
    expected = 0.6 * dim * spectral_mean(lambda t: s / (t + s), dim, n)
    risk = bayes_risk(task)
    assert abs(risk.value - expected) <= risk.error + 1e-13 * expected
    assert risk.error <= 1e-3 * risk.value


def sampled_ridge_error(task, penalty, rng, count=60_000):
    """Squared errors of argmin (1/n)|y − Xw|² + λ wᵀΣw on sampled prompts."""
    x, y, w, query = references.sample_prompts(task, count, rng)
    n = task.context_length
    gram = np.swapaxes(x, 1, 2) @ x / n + penalty * task.covariance_matrix
    estimate = np.linalg.solve(gram, np.einsum("bni,bn->bi", x, y)[..., None] / n)[..., 0]
    return np.sum((estimate - w) * query, axis=1) ** 2


@pytest.mark.parametrize("n", [2, 20])
@pytest.mark.parametrize("penalty", [0.1, 0.8])
def test_ridge_equals_sample_mean(n, penalty):
    """Any covariance and weight covariance, fewer and more examples than dimensions."""
    task = RegressionTask(5, n, COVARIANCE_OF_FIVE, WEIGHT_COVARIANCE_OF_FIVE, noise_variance=0.5)
    errors = sampled_ridge_error(task, penalty, np.random.default_rng(n))
    # 5 standard errors: two-sided error probability 6e-7 per case; the seed is fixed.
    assert abs(errors.mean() - ridge_risk(task, penalty).value) < 5 * errors.std() / math.sqrt(len(errors))


@pytest.mark.parametrize("n", [2, 20])
def test_bayes_is_the_posterior_mean(n):
    """E[w | prompt] for w ~ N(0, 2 Σ⁻¹), formed from the Gaussian posterior, on sampled prompts."""
    weights = 2 * np.linalg.inv(COVARIANCE_OF_FIVE)
    task = RegressionTask(5, n, COVARIANCE_OF_FIVE, weights, noise_variance=0.8)
    x, y, w, query = references.sample_prompts(task, 60_000, np.random.default_rng(n))
    precision = np.swapaxes(x, 1, 2) @ x / 0.8 + np.linalg.inv(weights)
    posterior = np.linalg.solve(precision, np.einsum("bni,bn->bi", x, y)[..., None] / 0.8)[..., 0]
    errors = np.sum((posterior - w) * query, axis=1) ** 2
    # 5 standard errors: two-sided error probability 6e-7 per case; the seed is fixed.
    assert abs(errors.mean() - bayes_risk(task).value) < 5 * errors.std() / math.sqrt(len(errors))


@pytest.mark.parametrize(("dim", "n"), [(1, 9), (3, 10), (12, 3), (9, 1)])
def test_least_squares_equals_sample_mean(dim, n):
    """numpy's minimum-norm solution on sampled prompts; inverse Wishart moments behind the noise term."""
    rng = np.random.default_rng(dim)
    root = rng.normal(size=(dim, dim))
    covariance = root @ root.T + 0.5 * np.eye(dim) if n > dim else 1.7 * np.eye(dim)
    task = RegressionTask(dim, n, covariance, np.diag(np.linspace(0.5, 1.5, dim)), noise_variance=0.8)
    x, y, w, query = references.sample_prompts(task, 20_000, rng)
    estimate = (np.linalg.pinv(x) @ y[..., None])[..., 0]
    errors = np.sum((estimate - w) * query, axis=1) ** 2
    # 5 standard errors (finite: the variance needs |n − d| ≥ 4); two-sided error probability 6e-7 per case.
    assert abs(errors.mean() - least_squares_risk(task)) < 5 * errors.std() / math.sqrt(len(errors))


def test_whitened_least_squares_equals_sample_mean():
    """n < d with an anisotropic covariance: the interpolating w with the smallest |Σ^{1/2} w|."""
    task = RegressionTask(3, 1, COVARIANCE, WEIGHT_COVARIANCE)
    x, y, w, query = references.sample_prompts(task, 40_000, np.random.default_rng(4))
    # w = Σ^{-1} x (xᵀ Σ^{-1} x)⁻¹ y for a single example
    direction = x[:, 0] @ np.linalg.inv(COVARIANCE)
    estimate = direction * (y[:, 0] / np.sum(direction * x[:, 0], axis=1))[:, None]
    errors = np.sum((estimate - w) * query, axis=1) ** 2
    # 5 standard errors: two-sided error probability 6e-7; the seed is fixed.
    assert abs(errors.mean() - least_squares_risk(task, whitened=True)) < 5 * errors.std() / math.sqrt(len(errors))


def test_least_squares_in_closed_form():
    """d σ²/(n − d − 1) for d ≤ n, tr(ΨΣ)(1 − n/d) + n σ²/(d − n − 1) for d > n, infinite where |n − d| ≤ 1."""
    assert least_squares_risk(RegressionTask(5, 20, noise_variance=0.7)) == pytest.approx(5 * 0.7 / 14, rel=1e-15)
    assert least_squares_risk(RegressionTask(5, 2, noise_variance=0.7)) == pytest.approx(3 + 2 * 0.7 / 2, rel=1e-15)
    assert least_squares_risk(RegressionTask(5, 7, noise_variance=0.7)) == pytest.approx(5 * 0.7, rel=1e-15)
    weights = np.diag([1.0, 2.0, 3.0, 4.0, 5.0])
    assert least_squares_risk(RegressionTask(5, 2, weight_covariance=weights)) == pytest.approx(15 * 3 / 5, rel=1e-15)
    for n in (5, 6, 20):
        assert least_squares_risk(RegressionTask(5, n)) == 0
        assert least_squares_risk(RegressionTask(5, n, COVARIANCE_OF_FIVE)) == 0  # from n = d on no condition
    for n in (4, 5, 6):
        assert math.isinf(least_squares_risk(RegressionTask(5, n, noise_variance=1e-9)))
    assert math.isfinite(least_squares_risk(RegressionTask(5, 3, noise_variance=1.0)))
    # One dimension: E 1/χ²_n = 1/(n − 2).
    expected = 0.7 * chi_squared_mean(lambda t: 1 / t, 9)
    assert least_squares_risk(RegressionTask(1, 9, noise_variance=0.7)) == pytest.approx(expected, rel=1e-12)


def test_bayes_without_noise_is_least_squares():
    """Exact: 0 for n ≥ d, tr(ΨΣ)(1 − n/d) for n < d; and the limit of small noise."""
    weights = 3 * np.linalg.inv(COVARIANCE)
    for n, expected in ((3, 0.0), (5, 0.0), (2, 9 / 3), (1, 9 * 2 / 3)):
        risk = bayes_risk(RegressionTask(3, n, COVARIANCE, weights))
        assert risk.value == pytest.approx(expected, rel=1e-14)
        assert risk.error == 0
        assert risk.method == "exact"
    assert bayes_risk(RegressionTask(3, 3, COVARIANCE, WEIGHT_COVARIANCE)).value == 0
    for n, expected in ((20, 0.0), (2, 3.0)):
        risk = bayes_risk(RegressionTask(5, n, noise_variance=1e-4))
        # O(√s) at worst, with s = σ²/n below 5e-5 and a risk scale of 5
        assert risk.value == pytest.approx(expected, abs=0.05)


@settings(max_examples=20)
@given(size=st.sampled_from(SIZES), noise=st.floats(0.1, 5), factor=st.floats(0.1, 10), data=st.data())
def test_best_penalty_is_the_best(size, noise, factor, data):
    """No other penalty does better than λ = d σ²/(n tr(ΨΣ)), which gives the risk of `penalty=None`."""
    dim, n = size
    task = RegressionTask(dim, n, data.draw(covariances(dim)), data.draw(covariances(dim)), noise)
    best = ridge_risk(task)
    penalty = dim * noise / (n * zero_predictor_risk(task))
    assert ridge_risk(task, penalty).value == pytest.approx(best.value, rel=1e-12)
    other = ridge_risk(task, penalty * factor)
    assert other.value + other.error >= best.value - best.error
    # Gauss interpolates f(t) = λ/(t+λ) twice at its N nodes: f − h = f (p_N/p_N(−λ))², and Gauss-Radau integrates
    # p_N² exactly. So the bracket is at most 1/p_N(−λ)² wide, or narrow enough that fewer nodes did.
    small, large = min(dim, n), max(dim, n)
    last = orthonormal_polynomials(np.array([-penalty * n / large]), MAX_NODES, small, large)[-1, 0]
    width = zero_predictor_risk(task) * small / dim / last**2
    assert 0 <= best.error <= max(width / 2, BRACKET_WIDTH * best.value) * (1 + 1e-9)
    assert best.value <= zero_predictor_risk(task)


@settings(max_examples=15)
@given(size=st.sampled_from(SIZES), noise=st.floats(0.5, 4), data=st.data())
def test_order_of_estimators(size, noise, data):
    """Bayes = ridge at the best penalty ≤ unconstrained polynomials ≤ real steps; Bayes ≤ least squares."""
    dim, n = size
    covariance = data.draw(covariances(dim))
    inverse = np.linalg.inv(covariance)
    weights = (inverse + inverse.T) / 2
    bayes = bayes_risk(RegressionTask(dim, n, covariance, weights, noise))
    assert bayes.value == pytest.approx(ridge_risk(RegressionTask(dim, n, covariance, weights, noise)).value, rel=1e-12)
    lowest = bayes.value - bayes.error
    assert lowest <= least_squares_risk(RegressionTask(dim, n, covariance, weights, noise), whitened=True)
    assert lowest <= noisy_multi_step_optimum(2, dim, n, noise).unconstrained_loss
    clean = bayes_risk(RegressionTask(dim, n, covariance, weights))
    assert clean.value <= multi_step_optimum(3, dim, n).loss * (1 + 1e-12)
    more = bayes_risk(RegressionTask(dim, n, covariance, weights, noise * 1.5))
    assert more.value + more.error > bayes.value


def test_more_examples_help_bayes():
    """The Bayes risk falls with the context length, by more than the brackets are wide."""
    shorter, longer = (bayes_risk(RegressionTask(5, n, noise_variance=0.5)) for n in (2, 20))
    assert longer.value + longer.error < shorter.value - shorter.error


@given(task=regression_tasks())
def test_zero_predictor(task):
    """tr(ΨΣ) = E (w·x)² for every law."""
    expected = np.trace(task.weight_covariance_matrix @ task.second_moment)
    assert zero_predictor_risk(task) == pytest.approx(expected, rel=1e-12)


def test_extreme_penalties_and_noise():
    """Penalties and noise over 400 orders of magnitude neither overflow nor lose the limits."""
    task = RegressionTask(5, 20, noise_variance=0.4)
    assert ridge_risk(RegressionTask(5, 20), 1e200).value == pytest.approx(5, rel=1e-12)
    assert ridge_risk(task, 1e50).value == pytest.approx(5, rel=1e-12)
    assert ridge_risk(task, 1e-4).value == pytest.approx(least_squares_risk(task), rel=2e-2)
    assert bayes_risk(RegressionTask(5, 20, noise_variance=1e50)).value == pytest.approx(5, rel=1e-12)
    tiny = bayes_risk(RegressionTask(5, 20, noise_variance=1e-50))
    assert tiny.value - tiny.error <= 1e-15
    assert 0 <= tiny.value < 1e-3
