"""Plain gradient descent for any covariance: word moments, risk and best step size."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    gradient_descent_optimum,
    gradient_descent_risk,
    looped_optimum,
    multi_step_optimum,
    multi_step_risk,
    noisy_multi_step_risk,
    one_step_optimum,
    one_step_risk,
)
from tests import references
from tests.strategies import covariances, regression_tasks

# Entries are short binary fractions, so that floats and rationals agree exactly.
DIAGONAL = [[1, 0], [0, Fraction(1, 4)]]
ROTATED = [[Fraction(3, 2), Fraction(1, 2)], [Fraction(1, 2), Fraction(3, 4)]]
WEIGHTS = [[Fraction(5, 4), Fraction(-3, 8)], [Fraction(-3, 8), Fraction(1, 2)]]


def rational(matrix):
    """Matrix of Fractions."""
    return np.array([[Fraction(x) for x in row] for row in matrix], dtype=object)


def floats(matrix):
    """The same matrix in float64."""
    return np.array(matrix, dtype=float)


def wick_polynomial(steps, covariance, weights, n, noise):
    """Coefficients of R(η) by brute-force pairings of E tr(Ψ W^j Σ W^k) and E tr(Σ W^k)."""
    sigma, psi = rational(covariance), rational(weights)
    eye = rational(np.eye(len(sigma), dtype=int).astype(object))
    result = [Fraction(0)] * (2 * steps + 1)
    for j, k in itertools.product(range(steps + 1), repeat=2):
        sign = (-1) ** (j + k) * math.comb(steps, j) * math.comb(steps, k)
        # tr(Ψ S^j Λ S^k): the matrix before each S.
        if j and k:
            word = [psi] + [eye] * (j - 1) + [sigma] + [eye] * (k - 1)
        else:
            word = ([psi @ sigma] if k else [sigma @ psi]) + [eye] * (j + k - 1)
        bias = references.wick_moment([word], sigma, n) if j + k else np.trace(psi @ sigma)
        result[j + k] += sign * bias / Fraction(n) ** (j + k)
        if j and k:
            spread = references.wick_moment([[sigma] + [eye] * (j + k - 2)], sigma, n)
            result[j + k] += Fraction(noise) / n * sign * spread / Fraction(n) ** (j + k - 1)
    return result


@pytest.mark.parametrize("covariance", [DIAGONAL, ROTATED], ids=["diagonal", "rotated"])
@pytest.mark.parametrize("n", [1, 3, 20])
@pytest.mark.parametrize("steps", [1, 2])
def test_risk_equals_wick_pairings(covariance, n, steps):
    """Risk and optimum against the sum over all pairings, Ψ not commuting with Σ, label noise."""
    task = RegressionTask(2, n, floats(covariance), floats(WEIGHTS), noise_variance=0.75)
    polynomial = wick_polynomial(steps, covariance, WEIGHTS, n, 0.75)
    for eta in (0.3, 1.1, -0.5):
        expected = float(references.evaluate(polynomial, Fraction(eta)))
        # The eigenbasis of the covariance is in float64.
        assert gradient_descent_risk(eta, steps, task) == pytest.approx(expected, rel=1e-14)
    best = gradient_descent_optimum(steps, task)
    assert references.has_zero(references.derivative(polynomial), best.step_sizes[0], relative=1e-13)
    expected = references.evaluate(polynomial, Fraction(best.step_sizes[0]))
    assert best.loss == pytest.approx(float(expected), rel=1e-14)


def descend(wisharts, step_size, steps, task):
    """Exact risk given W: iterate w ← w − η (W w − r) as matrices acting on w_true and on the noise part of r."""
    eye = np.eye(task.dim)
    signal = noise = np.zeros_like(wisharts)
    for _ in range(steps):
        signal = signal - step_size * (wisharts @ signal - wisharts)
        noise = noise - step_size * (wisharts @ noise - eye)
    sigma, psi = task.second_moment, task.weight_covariance_matrix
    miss = eye - signal
    risk = np.trace(sigma @ miss @ psi @ np.swapaxes(miss, 1, 2), axis1=1, axis2=2)
    spread = np.trace(sigma @ noise @ wisharts @ np.swapaxes(noise, 1, 2), axis1=1, axis2=2)
    return risk + task.noise_variance / task.context_length * spread


@pytest.mark.parametrize("steps", [1, 3, 4, 7])
def test_risk_equals_enumeration(steps):
    """Many steps in two and three dimensions, against iterated descent on a law of W with equal moments."""
    rng = np.random.default_rng(steps)
    for dim, n in ((2, 7), (2, 2), (3, 4)) if steps < 5 else ((2, 7),):
        root, weight_root = rng.normal(size=(2, dim, dim))
        task = RegressionTask(
            dim, n, root @ root.T + 0.2 * np.eye(dim), weight_root @ weight_root.T + 0.2 * np.eye(dim), 0.6
        )
        if dim == 3 and steps > 1:
            continue
        wisharts, weights = references.wishart_rule(task.covariance_matrix, n, 2 * steps)
        step_size = 0.7 / np.linalg.eigvalsh(task.covariance_matrix)[-1]
        expected = weights @ descend(wisharts, step_size, steps, task)
        # 1e-11: the enumeration itself, with up to 15 nodes in each entry of W.
        assert gradient_descent_risk(step_size, steps, task) == pytest.approx(expected, rel=1e-11)


def test_risk_equals_sample_mean():
    """Descent on sampled prompts, step by step on the vector."""
    covariance, weights = floats(ROTATED), floats(WEIGHTS)
    task = RegressionTask(2, 10, covariance, weights, noise_variance=0.5)
    best = gradient_descent_optimum(3, task)
    x, y, w, query = references.sample_prompts(task, 100_000, np.random.default_rng(8))
    estimate = np.zeros_like(w)
    for step_size in best.step_sizes:
        residual = np.einsum("bni,bi->bn", x, estimate) - y
        estimate = estimate - step_size * np.einsum("bni,bn->bi", x, residual) / 10
    errors = np.sum((estimate - w) * query, axis=1) ** 2
    # 5 standard errors: two-sided error probability 6e-7; the seed is fixed.
    assert abs(errors.mean() - best.loss) < 5 * errors.std() / math.sqrt(len(errors))


@settings(max_examples=30)
@given(task=regression_tasks(laws=("gaussian",), max_dim=3), steps=st.integers(1, 3), size=st.floats(0.2, 1.5))
def test_optimum_is_stationary_and_the_least(task, steps, size):
    """The derivative is zero at the optimum and no other step size does better."""
    best = gradient_descent_optimum(steps, task)
    step = best.step_sizes[0]
    assert step > 0
    assert gradient_descent_risk(step, steps, task) == pytest.approx(best.loss, rel=1e-14)
    assert gradient_descent_risk(step * (1 + 1e-6), steps, task) >= best.loss
    assert gradient_descent_risk(step * (1 - 1e-6), steps, task) >= best.loss
    assert gradient_descent_risk(step * size, steps, task) >= best.loss * (1 - 1e-14)
    h = 1e-5
    up, down = (gradient_descent_risk(step * (1 + sign * h), steps, task) for sign in (1, -1))
    curvature = (up + down - 2 * best.loss) / h**2
    # h² times the third derivative, and the rounding of losses divided by h.
    assert abs(up - down) / (2 * h) < 1e-3 * curvature + 1e-9 * best.loss


@settings(max_examples=25)
@given(steps=st.integers(1, 4), dim=st.integers(1, 8), n=st.integers(1, 40), eta=st.floats(-1, 2))
def test_isotropic_descent_is_the_looped_network(steps, dim, n, eta):
    """On Σ = Ψ = I the risk is `multi_step_risk` of equal steps, and the optimum `looped_optimum`."""
    task = RegressionTask(dim, n)
    plain = multi_step_risk([eta] * steps, dim, n)
    assert gradient_descent_risk(eta, steps, task) == pytest.approx(plain, rel=1e-10)
    best, loop = gradient_descent_optimum(steps, task), looped_optimum(steps, dim, n)
    assert best.loss == pytest.approx(loop.loss, rel=1e-11)
    np.testing.assert_allclose(best.step_sizes, loop.step_sizes, rtol=1e-11)
    noisy = RegressionTask(dim, n, noise_variance=0.3)
    expected = noisy_multi_step_risk([eta] * steps, dim, n, 0.3)
    assert gradient_descent_risk(eta, steps, noisy) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=25)
@given(task=regression_tasks(laws=("gaussian",)), eta=st.floats(-1, 2))
def test_one_step_of_descent_is_one_step(task, eta):
    """L = 1 is the one-step predictor with A = η I, no better than the best A."""
    expected = one_step_risk(task, eta * np.eye(task.dim))
    assert gradient_descent_risk(eta, 1, task) == pytest.approx(expected, rel=1e-11)
    best = gradient_descent_optimum(1, task)
    assert best.loss >= one_step_optimum(task).loss * (1 - 1e-12)


@settings(max_examples=15)
@given(task=regression_tasks(laws=("gaussian",), max_dim=3), steps=st.integers(1, 2), data=st.data())
def test_units_and_rotations(task, steps, data):
    """x in units u: η/u²; w in units: the loss scales; rotating both changes nothing; more noise is worse."""
    best = gradient_descent_optimum(steps, task)
    units = data.draw(st.floats(0.01, 100))

    def changed(covariance, weights, noise):
        return RegressionTask(task.dim, task.context_length, covariance, weights, noise)

    s, psi, noise = task.covariance_matrix, task.weight_covariance_matrix, task.noise_variance
    scaled = gradient_descent_optimum(steps, changed(units**2 * s, psi / units**2, noise))
    np.testing.assert_allclose(scaled.step_sizes * units**2, best.step_sizes, rtol=1e-9)
    assert scaled.loss == pytest.approx(best.loss, rel=1e-11)
    larger = gradient_descent_optimum(steps, changed(s, units * psi, units * noise))
    np.testing.assert_allclose(larger.step_sizes, best.step_sizes, rtol=1e-9)
    assert larger.loss == pytest.approx(units * best.loss, rel=1e-11)
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(task.dim, task.dim)))[0]
    turned = [(m + m.T) / 2 for m in (basis @ s @ basis.T, basis @ psi @ basis.T)]
    rotated = gradient_descent_optimum(steps, changed(*turned, noise))
    np.testing.assert_allclose(rotated.step_sizes, best.step_sizes, rtol=1e-9)
    assert rotated.loss == pytest.approx(best.loss, rel=1e-11)
    assert gradient_descent_optimum(steps, changed(s, psi, noise + 0.1)).loss > best.loss


@settings(max_examples=20)
@given(dim=st.integers(2, 4), n=st.integers(4, 30), steps=st.integers(1, 3), data=st.data())
def test_preconditioning_helps(dim, n, steps, data):
    """With Ψ = Σ⁻¹ preconditioned descent with free step sizes does at least as well as plain descent."""
    covariance = data.draw(covariances(dim))
    inverse = np.linalg.inv(covariance)
    task = RegressionTask(dim, n, covariance, (inverse + inverse.T) / 2)
    assert gradient_descent_optimum(steps, task).loss >= multi_step_optimum(steps, dim, n).loss * (1 - 1e-12)


def test_largest_number_of_steps():
    """Ten steps, the exact range, against the exact polynomial of the isotropic task with noise."""
    task = RegressionTask(3, 8, noise_variance=0.5)
    m = references.moments(3, 8, 21)
    p = references.product_of_steps([0.4] * 10)
    expected = 3 * references.risk(p, m, Fraction(1, 16))
    assert gradient_descent_risk(0.4, 10, task) == pytest.approx(float(expected), rel=1e-14)
