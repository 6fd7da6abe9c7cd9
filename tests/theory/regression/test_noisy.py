"""Several steps with label noise: risk, unconstrained optimum, and the best real step sizes."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from plumbline.theory.regression import (
    RegressionTask,
    bayes_risk,
    multi_step_optimum,
    multi_step_risk,
    noisy_multi_step_optimum,
    noisy_multi_step_risk,
    one_step_optimum,
    spectral_quadrature,
)
from tests import references
from tests.strategies import generators

sizes = {"dim": st.integers(1, 10), "context_length": st.integers(1, 40)}


def exact_risk(step_sizes, dim, context_length, noise):
    """The risk as a rational number."""
    m = references.moments(dim, context_length, 2 * len(step_sizes) + 1)
    share = Fraction(noise) / context_length
    return dim * references.risk(references.product_of_steps(step_sizes), m, share)


@settings(max_examples=40)
@given(a=st.lists(st.floats(-3, 3), min_size=1, max_size=5), noise=st.floats(0, 10), **sizes)
def test_risk_equals_exact_rationals(a, noise, dim, context_length):
    """d ∫ p² dμ + d (σ²/n) ∫ (1 − p)²/t dμ from the moments."""
    expected = float(exact_risk(a, dim, context_length, noise))
    # (1 − p)²/t at the smallest nodes (1e-9 for d > n) loses digits of 1 − p, in a term of that size.
    assert noisy_multi_step_risk(a, dim, context_length, noise) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("dim", "context_length"), [(1, 3), (2, 1), (2, 2)])
def test_risk_equals_enumeration_of_prompts(dim, context_length):
    """The token-level transformer on every prompt of a law with equal moments, label noise included."""
    task = RegressionTask(dim, context_length, noise_variance=0.8)
    for step_sizes in ([0.6], [0.9, 0.3]):
        key_query = -np.multiply.outer(step_sizes, np.eye(dim))[:, None]
        prompts, probabilities = references.enumerate_prompts(task, degree=4 * len(step_sizes))
        errors = references.squared_errors(*references.embed(np.zeros_like(key_query), key_query), prompts)
        value = noisy_multi_step_risk(step_sizes, dim, context_length, 0.8)
        assert value == pytest.approx(probabilities @ errors, rel=1e-12)


def test_risk_equals_sample_mean():
    """The token-level transformer on sampled prompts with a rotated covariance."""
    covariance = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.7]])
    inverse = np.linalg.inv(covariance)
    task = RegressionTask(3, 12, covariance=covariance, weight_covariance=inverse, noise_variance=1.5)
    best = noisy_multi_step_optimum(2, 3, 12, 1.5)
    prompts = references.sample_prompts(task, 60_000, np.random.default_rng(3))
    key_query = -np.multiply.outer(best.step_sizes, inverse)[:, None]
    errors = references.squared_errors(*references.embed(np.zeros_like(key_query), key_query), prompts)
    # 5 standard errors: two-sided error probability 6e-7; the seed is fixed.
    assert abs(errors.mean() - best.loss) < 5 * errors.std() / math.sqrt(len(errors))


@pytest.mark.parametrize("noise", [0.1, 1.0, 5.0])
@pytest.mark.parametrize(("dim", "context_length"), [(1, 1), (5, 2), (5, 20), (50, 10**6)])
def test_unconstrained_optimum_is_exact(dim, context_length, noise):
    """The minimum over all polynomials and its zeros, from the normal equations in another basis."""
    share = Fraction(noise) / context_length
    for steps in (1, 2, 3, 5):
        m = references.moments(dim, context_length, 2 * steps + 1)
        polynomial = references.best_polynomial(steps, m, share)
        best = noisy_multi_step_optimum(steps, dim, context_length, noise)
        expected = float(dim * references.risk(polynomial, m, share))
        assert best.unconstrained_loss == pytest.approx(expected, rel=1e-15)
        if best.attained:
            # The loss is that of the polynomial, the zeros are proven by sign changes and all there.
            assert best.loss == best.unconstrained_loss
            assert all(references.has_zero(polynomial, zero, relative=1e-15) for zero in best.zeros)
            assert len(set(best.zeros)) == len(best.zeros) == steps
            np.testing.assert_allclose(best.step_sizes * best.zeros[::-1], 1, rtol=1e-15)
        else:
            # A complex root is checked by the size of the polynomial there, against the sum of its terms.
            coefficients = np.array(polynomial, dtype=float)
            powers = best.zeros[:, None] ** np.arange(steps + 1)
            assert np.all(np.abs(powers @ coefficients) < 1e-12 * (np.abs(powers) @ np.abs(coefficients)))
            assert np.any(best.zeros.imag != 0)


@pytest.mark.parametrize(("dim", "context_length", "noise"), [(5, 20, 1.0), (5, 20, 5.0), (3, 4, 0.5)])
def test_unconstrained_optimum_is_bayes_plus_christoffel(dim, context_length, noise):
    """On a discrete measure with the same moments: Bayes risk + d × Christoffel function of t/(t+s) dμ at −s."""
    rule = spectral_quadrature(12, dim, context_length)
    s = noise / context_length
    bayes = rule.weights @ (s / (rule.nodes + s))
    weights = rule.weights * rule.nodes / (rule.nodes + s)
    for steps in (1, 2, 4):
        # λ(−s) = 1/(v G⁻¹ v) with v the basis at −s and G its Gram matrix; Chebyshev-like basis for conditioning.
        basis = np.polynomial.chebyshev.chebvander(rule.nodes / 2 - 1, steps)
        gram = basis.T @ (weights[:, None] * basis)
        at = np.polynomial.chebyshev.chebvander(np.array([-s / 2 - 1]), steps)[0]
        christoffel = 1 / (at @ np.linalg.solve(gram, at))
        best = noisy_multi_step_optimum(steps, dim, context_length, noise)
        # 1e-9: condition of the Gram matrix, below 1e6.
        assert best.unconstrained_loss == pytest.approx(dim * (bayes + christoffel), rel=1e-9)


@pytest.mark.parametrize(
    ("steps", "dim", "context_length", "noise", "distinct"),
    [
        (2, 5, 20, 5.0, 1),
        (3, 5, 20, 5.0, 1),
        (2, 2, 3, 3.0, 1),
        (3, 1, 4, 2.0, 1),
        (4, 5, 20, 2.0, 3),
        (3, 5, 20, 1.0, 3),
    ],
)
def test_real_optimum_is_the_best_of_a_global_search(steps, dim, context_length, noise, distinct):
    """No real step sizes found from 40 random starts do better, and merged steps are really merged."""
    best = noisy_multi_step_optimum(steps, dim, context_length, noise)
    assert noisy_multi_step_risk(best.step_sizes, dim, context_length, noise) == pytest.approx(best.loss, rel=1e-12)
    assert np.all(np.diff(best.step_sizes) >= 0)
    assert len(set(best.step_sizes.tolist())) == distinct
    rng = np.random.default_rng(0)
    found = [
        minimize(
            lambda a: noisy_multi_step_risk(a, dim, context_length, noise),
            rng.uniform(0.1, 2.0, size=steps),
            method="BFGS",
        ).fun
        for _ in range(40)
    ]
    assert min(found) >= best.loss * (1 - 1e-12)
    # BFGS with numerical gradients comes within 1e-8 in value, also where two steps merge.
    assert min(found) == pytest.approx(best.loss, rel=1e-8)
    assert best.loss >= best.unconstrained_loss * (1 - 1e-12)
    assert best.attained == (best.loss < best.unconstrained_loss * (1 + 1e-9))


@settings(max_examples=25)
@given(steps=st.integers(1, 3), noise=st.floats(0.01, 4), **sizes, rng=generators())
def test_optimum_is_least(steps, noise, dim, context_length, rng):
    """No perturbation of the step sizes does better; Bayes and the unconstrained minimum lie below."""
    best = noisy_multi_step_optimum(steps, dim, context_length, noise)
    for size in (1e-3, 1e-1):
        other = best.step_sizes * (1 + size * rng.normal(size=steps))
        # 1e-12: rounding of two risks.
        assert noisy_multi_step_risk(other, dim, context_length, noise) >= best.loss * (1 - 1e-12)
    assert best.unconstrained_loss <= best.loss * (1 + 1e-12)
    s = noise / context_length
    rule = spectral_quadrature(12, dim, context_length)  # Gauss: a lower bound of the Bayes risk
    assert dim * rule.weights @ (s / (rule.nodes + s)) <= best.unconstrained_loss * (1 + 1e-12)


def test_noise_goes_to_zero():
    """At σ² = 0 the clean optimum, and continuous there."""
    for steps in (1, 3):
        clean = multi_step_optimum(steps, 5, 20)
        best = noisy_multi_step_optimum(steps, 5, 20, 0)
        assert best.loss == best.unconstrained_loss == clean.loss
        assert best.attained
        np.testing.assert_array_equal(best.step_sizes, clean.step_sizes)
        np.testing.assert_allclose(best.zeros, 1 / clean.step_sizes[::-1])
        near = noisy_multi_step_optimum(steps, 5, 20, 1e-9)
        # The derivative of the loss by σ² is at most Σ a² ~ 10.
        np.testing.assert_allclose(near.step_sizes, clean.step_sizes, rtol=1e-7)
        assert clean.loss < near.loss < clean.loss + 1e-8
        assert noisy_multi_step_risk(clean.step_sizes, 5, 20, 0) == pytest.approx(clean.loss, rel=1e-13)


@settings(max_examples=30)
@given(a=st.lists(st.floats(-2, 2), min_size=1, max_size=4), noise=st.floats(0, 4), **sizes)
def test_noise_adds_linearly(a, noise, dim, context_length):
    """The risk is affine in σ², increasing, and the clean risk at σ² = 0."""
    clean, one, value = (noisy_multi_step_risk(a, dim, context_length, s) for s in (0, 1, noise))
    assert clean == pytest.approx(multi_step_risk(a, dim, context_length), rel=1e-12)
    assert value == pytest.approx(clean + noise * (one - clean), rel=1e-10)
    assert one >= clean


def test_one_step_is_the_one_layer_optimum():
    """L = 1: a = n/(n + d + 1 + σ²), loss d (d + 1 + σ²)/(n + d + 1 + σ²)."""
    for d, n, noise in itertools.product((1, 5), (1, 20, 10**6), (0.5, 4.0)):
        best = noisy_multi_step_optimum(1, d, n, noise)
        assert best.step_sizes[0] == pytest.approx(n / (n + d + 1 + noise), rel=1e-14)
        assert best.loss == pytest.approx(d * (d + 1 + noise) / (n + d + 1 + noise), rel=1e-14)
        assert best.loss == pytest.approx(one_step_optimum(RegressionTask(d, n, noise_variance=noise)).loss, rel=1e-13)


def test_steps_noise_and_examples_order_the_losses():
    """More steps and examples help, noise hurts, and the Bayes risk lies below all."""

    def loss(steps, n, noise):
        return noisy_multi_step_optimum(steps, 5, n, noise).loss

    for steps, n, noise in itertools.product((1, 2, 3), (10, 20), (0.1, 1.0)):
        assert loss(steps + 1, n, noise) < loss(steps, n, noise)
        assert loss(steps, n + 1, noise) < loss(steps, n, noise) < loss(steps, n, noise * 1.1)
    assert loss(5, 20, 1.0) > bayes_risk(RegressionTask(5, 20, noise_variance=1.0)).value
