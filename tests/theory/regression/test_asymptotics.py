"""Marchenko-Pastur limits against Narayana moments, integration of the density, and large finite sizes."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from plumbline.theory.regression import (
    RegressionTask,
    bayes_limit,
    bayes_risk,
    gradient_descent_optimum,
    least_squares_limit,
    least_squares_risk,
    looped_limit,
    looped_optimum,
    multi_step_limit,
    multi_step_optimum,
)
from tests import references

RATIOS = [Fraction(1, 4), Fraction(1, 2), Fraction(1), Fraction(2), Fraction(10)]
ratios = st.floats(0.01, 100)


def integrate(f, gamma):
    """∫ f dμ of the Marchenko-Pastur law by integrating its density, with the substitution t = 1 + γ + 2√γ cos θ."""
    root = math.sqrt(gamma)

    def density(theta):
        t = 1 + gamma + 2 * root * math.cos(theta)
        return f(t) * (2 * root * math.sin(theta)) ** 2 / (2 * math.pi * gamma * t)

    atom = (1 - 1 / gamma) * f(0.0) if gamma > 1 else 0.0
    return atom + quad(density, 0, math.pi, epsabs=1e-14, epsrel=1e-13, limit=200)[0]


@pytest.mark.parametrize("gamma", RATIOS)
def test_multi_step_limit_from_narayana_moments(gamma):
    """λ_L(0) as a ratio of Hankel determinants of exact moments; inverse zeros of the best polynomial."""
    m = references.narayana_moments(gamma, 17)
    for steps in range(1, 9):
        limit = multi_step_limit(steps, float(gamma))
        assert limit.loss == pytest.approx(float(references.christoffel(steps, m)), rel=1e-14)
        polynomial = references.best_polynomial(steps, m)
        assert len(limit.step_sizes) == steps
        assert np.all(np.diff(limit.step_sizes) > 0)
        # 1 + γ + 2√γ cos cancels where γ is near 1: the smallest of 8 zeros at γ = 1 is 0.12.
        assert all(references.has_zero(polynomial[::-1], a, relative=1e-13) for a in limit.step_sizes)


@pytest.mark.parametrize("gamma", RATIOS)
def test_looped_limit_from_narayana_moments(gamma):
    """min_a ∫ (1 − a t)^{2L} dμ from exact moments, at the rational a = 1/(1 + γ) where the derivative is zero."""
    m = references.narayana_moments(gamma, 25)
    for steps in (1, 2, 3, 8, 12):
        loss, best = references.looped(steps, m), 1 / (1 + gamma)
        assert references.evaluate(references.derivative(loss), best) == 0
        limit = looped_limit(steps, float(gamma))
        assert limit.loss == pytest.approx(float(references.evaluate(loss, best)), rel=1e-14)
        assert limit.step_sizes.tolist() == [float(best)] * steps


@pytest.mark.parametrize("gamma", [0.25, 0.98, 1.0, 1.05, 2.0, 7.5])
def test_limits_by_integration_of_the_density(gamma):
    """The risks of the stated step sizes and the Bayes risk, integrated over the Marchenko-Pastur density."""
    for steps in (1, 2, 5):
        best, equal = multi_step_limit(steps, gamma), looped_limit(steps, gamma)
        for optimum in (best, equal):
            risk = integrate(lambda t, a=optimum.step_sizes: np.prod(1 - a * t) ** 2, gamma)
            # quad is asked for 1e-13.
            assert optimum.loss == pytest.approx(risk, rel=1e-9, abs=1e-12)
    for rho in (0.1, 1.0, 30.0):
        s = gamma * rho
        assert bayes_limit(gamma, rho) == pytest.approx(integrate(lambda t, s=s: s / (t + s), gamma), rel=1e-8)


def test_looped_limit_near_one():
    """Around γ = 1 the series converges slowly: one step is γ/(1 + γ) there too, and values are continuous."""
    for gamma in (1 - 1e-3, 1 - 1e-8, 1.0, 1 + 1e-12, 1 + 1e-4):
        assert looped_limit(1, gamma).loss == pytest.approx(gamma / (1 + gamma), rel=1e-14)
        # The derivative of the loss by γ is below 1.
        assert looped_limit(7, gamma).loss == pytest.approx(math.comb(14, 7) / 4**7, abs=2 * abs(gamma - 1) + 1e-15)
    # Stirling: C(2L, L)/4^L = (πL)^{−1/2} (1 − 1/(8L) + 1/(128 L²) + …).
    expected = (1 - 1 / 8e4 + 1 / 128e8) / math.sqrt(math.pi * 1e4)
    assert looped_limit(10_000, 1.0).loss == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("dim", "context_length"), [(10**6, 4 * 10**6), (10**6, 10**6), (3 * 10**6, 10**6)])
def test_finite_sizes_tend_to_the_limits(dim, context_length):
    """At d/n fixed and n = 10⁶ the exact finite optima are within O(L²/n) of the limits."""
    gamma = dim / context_length
    for steps in (1, 2, 4, 6):
        best, limit = multi_step_optimum(steps, dim, context_length), multi_step_limit(steps, gamma)
        assert best.loss / dim == pytest.approx(limit.loss, rel=1e-4)
        np.testing.assert_allclose(best.step_sizes, limit.step_sizes, rtol=1e-4)
        equal, equal_limit = looped_optimum(steps, dim, context_length), looped_limit(steps, gamma)
        assert equal.loss / dim == pytest.approx(equal_limit.loss, rel=1e-4)
        np.testing.assert_allclose(equal.step_sizes, equal_limit.step_sizes, rtol=1e-4)


def test_finite_estimators_tend_to_the_limits():
    """Least squares and Bayes with noise in proportion to the signal; the corrections are of order 1/|n − d|."""
    for dim, n in ((200, 400), (400, 200)):
        risk = least_squares_risk(RegressionTask(dim, n, noise_variance=0.3 * dim))
        assert risk / dim == pytest.approx(least_squares_limit(dim / n, 0.3), rel=0.01)
        risk = bayes_risk(RegressionTask(dim, n, noise_variance=3.0 * dim))
        assert risk.value / dim == pytest.approx(bayes_limit(dim / n, 3.0), rel=2e-3)


@given(gamma=ratios, steps=st.integers(1, 30))
def test_steps_and_examples_help(gamma, steps):
    """More steps help, a larger ratio hurts, equal steps are no better, the minimum-norm limit bounds all."""
    best, equal = multi_step_limit(steps, gamma), looped_limit(steps, gamma)
    # 1e-13: rounding of two values.
    assert multi_step_limit(steps + 1, gamma).loss <= best.loss * (1 + 1e-13)
    assert multi_step_limit(steps, gamma * 1.01).loss > best.loss
    assert looped_limit(steps, gamma * 1.01).loss > equal.loss
    assert equal.loss >= best.loss * (1 - 1e-13)
    assert best.loss >= least_squares_limit(gamma) * (1 - 1e-13)
    if steps == 1:
        assert best.loss == pytest.approx(equal.loss, rel=1e-13) == pytest.approx(gamma / (1 + gamma), rel=1e-13)


@given(gamma=ratios, rho=st.floats(1e-6, 100))
def test_bayes_limit_is_the_least(gamma, rho):
    """Bayes lies below least squares and zero, solves its quadratic equation, and rises with noise and ratio."""
    bayes = bayes_limit(gamma, rho)
    assert 0 < bayes < 1
    assert bayes <= least_squares_limit(gamma, rho) * (1 + 1e-12)
    # γ B² + (1 − γ + s) B − s = 0, s = γρ: rounding of its terms.
    s = gamma * rho
    assert gamma * bayes**2 + (1 - gamma + s) * bayes == pytest.approx(s, rel=1e-9)
    assert bayes_limit(gamma, rho * 1.01) > bayes
    assert bayes_limit(gamma * 1.01, rho / 1.01) > bayes


def test_least_squares_limit_in_closed_form():
    """γ < 1: ρ γ/(1 − γ); γ > 1: 1 − 1/γ + ρ/(γ − 1); infinite at 1 with noise, 0 without."""
    assert least_squares_limit(0.25, 0.3) == pytest.approx(0.1, rel=1e-15)
    assert least_squares_limit(4.0, 0.3) == pytest.approx(0.75 + 0.1, rel=1e-15)
    assert least_squares_limit(4.0) == 0.75
    assert least_squares_limit(0.3) == least_squares_limit(1.0) == 0
    assert math.isinf(least_squares_limit(1.0, 1e-9))


def test_limits_of_the_limits():
    """Many steps reach the minimum-norm risk; no noise in Bayes too; extreme arguments stay finite."""
    assert multi_step_limit(10_000, 2.0).loss == pytest.approx(0.5, rel=1e-14)
    assert multi_step_limit(10_000, 1.0).loss == pytest.approx(1 / 10_001, rel=1e-12)
    assert looped_limit(10_000, 4.0).loss == pytest.approx(0.75, rel=1e-12)
    for gamma in (0.5, 1.0, 2.0):
        assert bayes_limit(gamma, 0.0) == pytest.approx(least_squares_limit(gamma), abs=1e-15)
        assert bayes_limit(gamma, 1e-14) == pytest.approx(least_squares_limit(gamma), abs=2e-7)
    for gamma, rho in itertools.product((1e-300, 1.0, 1e300), repeat=2):
        assert 0 <= bayes_limit(gamma, rho) <= 1
        assert 0 <= multi_step_limit(3, gamma).loss <= 1
        assert 0 <= looped_limit(3, gamma).loss <= 1


def test_gradient_descent_tends_to_the_looped_limit():
    """Also the word recursion: isotropic descent at d = 50, n = 10⁶ is that of a ratio of 5e-5 within O(1/d)."""
    best = gradient_descent_optimum(2, RegressionTask(50, 10**6))
    # Finite-d corrections are of relative order 1/d.
    assert best.loss / 50 == pytest.approx(looped_limit(2, 50 / 10**6).loss, rel=0.1)
