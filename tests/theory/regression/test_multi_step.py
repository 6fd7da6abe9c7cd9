"""Several steps: the optimum against exact rational arithmetic, the risk against enumerated and sampled prompts."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import roots_genlaguerre

from plumbline.theory.regression import (
    RegressionTask,
    degree_bound,
    gradient_descent_optimum,
    looped_optimum,
    looped_rotation_curvature,
    multi_step_optimum,
    multi_step_risk,
)
from tests import references
from tests.strategies import generators

DIMS = (1, 2, 5, 50)
CONTEXT_LENGTHS = (1, 2, 5, 20, 50, 10**6)
SIZES = list(itertools.product(DIMS, CONTEXT_LENGTHS))
MAX_EXACT_STEPS = 8


def relative(value, exact):
    """Relative difference of a float to an exact number."""
    return abs(Fraction(value) / exact - 1)


@pytest.mark.parametrize(("dim", "context_length"), SIZES)
def test_accuracy_against_exact_rationals(dim, context_length):
    """Losses and step sizes of all optima, 1 to 8 steps, against determinants and sign changes in rationals."""
    m = references.moments(dim, context_length, 2 * MAX_EXACT_STEPS + 1)
    for steps in range(1, MAX_EXACT_STEPS + 1):
        best = multi_step_optimum(steps, dim, context_length)
        exact = references.christoffel(steps, m)
        # The loss is an exact rational, rounded once; a step size is the inverse of a correctly rounded node.
        assert relative(best.loss, dim * exact) < 3e-16
        assert degree_bound(steps, dim, context_length) == dim * exact
        polynomial = references.best_polynomial(steps, m)
        assert references.risk(polynomial, m) == exact
        assert len(best.step_sizes) == steps
        assert np.all(np.diff(best.step_sizes) > 4e-15 * best.step_sizes[1:])
        # The inverse zeros are the zeros of the reversed polynomial.
        assert all(references.has_zero(polynomial[::-1], a, relative=1e-15) for a in best.step_sizes)
        # The risk of the rounded step sizes, exact for those floats. At n = 10⁶ the spectrum is 1 ± 0.001, so the
        # rounding of a node is 1e-13 of a factor 1 − a t, of which there are up to 16; elsewhere less.
        exact_risk = dim * references.risk(references.product_of_steps(best.step_sizes), m)
        assert relative(multi_step_risk(best.step_sizes, dim, context_length), exact_risk) < 2e-11


@pytest.mark.parametrize(("dim", "context_length"), SIZES)
def test_accuracy_of_equal_steps(dim, context_length):
    """The looped optimum and plain gradient descent on the isotropic task, 1 to 8 steps, against exact rationals."""
    m = references.moments(dim, context_length, 2 * MAX_EXACT_STEPS + 1)
    for steps in range(1, MAX_EXACT_STEPS + 1):
        loss = references.looped(steps, m)
        best = looped_optimum(steps, dim, context_length)
        # The derivative changes sign at the minimiser of a convex function.
        assert references.has_zero(references.derivative(loss), best.step_sizes[0], relative=1e-12)
        assert np.all(best.step_sizes == best.step_sizes[0])
        assert len(best.step_sizes) == steps
        exact = dim * references.evaluate(loss, Fraction(best.step_sizes[0]))
        assert relative(best.loss, exact) < 2e-11


@pytest.mark.parametrize(
    ("steps", "dim", "context_length"),
    [(2, 1, 1), (8, 5, 20), (3, 50, 2), (5, 2, 50), (6, 1, 20), (4, 50, 10**6), (8, 1, 10**6)],
)
def test_accuracy_of_gradient_descent(steps, dim, context_length):
    """Plain gradient descent on the isotropic task is the looped optimum; its loss and step are rounded once."""
    loss = references.looped(steps, references.moments(dim, context_length, 2 * steps + 1))
    best = gradient_descent_optimum(steps, RegressionTask(dim, context_length))
    assert references.has_zero(references.derivative(loss), best.step_sizes[0], relative=3e-16)
    assert best.step_sizes.tolist() == [best.step_sizes[0]] * steps
    # At the rounded step the loss differs in second order only.
    assert relative(best.loss, dim * references.evaluate(loss, Fraction(best.step_sizes[0]))) < 1e-15


@pytest.mark.parametrize(("dim", "context_length"), [(2, 1), (2, 2), (2, 7), (1, 3), (3, 4)])
def test_risk_equals_enumeration(dim, context_length):
    """Exact risk over a law of W with the same moments, the residual matrix formed factor by factor."""
    step_sizes = [0.9, 0.2, 1.7] if dim < 3 else [0.9, 0.2]
    degree = 2 * len(step_sizes)
    if context_length >= dim:
        wisharts, weights = references.wishart_rule(np.eye(dim), context_length, degree)
    else:
        x, weights = references.normal_rule(dim * context_length, 2 * degree)
        x = x.reshape(-1, context_length, dim)
        wisharts = np.swapaxes(x, 1, 2) @ x / context_length
    residual = np.broadcast_to(np.eye(dim), wisharts.shape)
    for a in step_sizes:
        residual = residual - a * residual @ wisharts
    expected = weights @ np.sum(residual**2, axis=(1, 2))
    assert multi_step_risk(step_sizes, dim, context_length) == pytest.approx(expected, rel=1e-12)
    m = references.moments(dim, context_length, degree + 1)
    exact = dim * references.risk(references.product_of_steps(step_sizes), m)
    assert multi_step_risk(step_sizes, dim, context_length) == pytest.approx(float(exact), rel=1e-14)


def test_risk_equals_mean_over_sampled_prompts():
    """The token-level transformer with K_l = −a_l Σ⁻¹ on sampled prompts, rotated covariance, Ψ = Σ⁻¹."""
    covariance = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.7]])
    inverse = np.linalg.inv(covariance)
    task = RegressionTask(3, 12, covariance=covariance, weight_covariance=inverse)
    best = multi_step_optimum(3, 3, 12)
    prompts = references.sample_prompts(task, 40_000, np.random.default_rng(11))
    for order in itertools.islice(itertools.permutations(best.step_sizes), 0, 6, 2):
        key_query = -np.multiply.outer(order, inverse)[:, None]
        errors = references.squared_errors(*references.embed(np.zeros_like(key_query), key_query), prompts)
        # 5 standard errors: two-sided error probability 6e-7 per order; the seed is fixed.
        assert abs(errors.mean() - best.loss) < 5 * errors.std() / math.sqrt(len(errors))


@pytest.mark.parametrize("n", [1, 4, 7])
def test_one_dimension_is_laguerre(n):
    """d = 1: λ_L = Γ(L+1) Γ(n/2+1)/Γ(L+n/2+1), step sizes n/(2 z) with the zeros of the Laguerre L_L^{(n/2)}."""
    for steps in range(1, 7):
        best = multi_step_optimum(steps, 1, n)
        expected = math.gamma(steps + 1) * math.gamma(n / 2 + 1) / math.gamma(steps + n / 2 + 1)
        assert best.loss == pytest.approx(expected, rel=1e-14)
        zeros = roots_genlaguerre(steps, n / 2)[0]
        # scipy's zeros are good to about 1e-13.
        np.testing.assert_allclose(best.step_sizes, n / (2 * zeros[::-1]), rtol=1e-12)


def test_one_step_in_closed_form():
    """L = 1: a = n/(n + d + 1), loss d (d + 1)/(n + d + 1), for every optimum of one step."""
    for d, n in SIZES:
        task = RegressionTask(d, n)
        for best in (multi_step_optimum(1, d, n), looped_optimum(1, d, n), gradient_descent_optimum(1, task)):
            assert best.step_sizes[0] == pytest.approx(n / (n + d + 1), rel=1e-14)
            # looped_optimum evaluates (1 − a t)² at nodes 1 ± 0.001 where n = 10⁶.
            assert best.loss == pytest.approx(d * (d + 1) / (n + d + 1), rel=1e-12)


sizes = {"dim": st.integers(1, 12), "context_length": st.integers(1, 60)}


@settings(max_examples=40)
@given(steps=st.integers(1, 5), **sizes, rng=generators())
def test_optimum_is_stationary_and_least(steps, dim, context_length, rng):
    """At the optimum the gradient is zero and every direction leads up; the same for equal steps."""
    best = multi_step_optimum(steps, dim, context_length)
    assert multi_step_risk(best.step_sizes, dim, context_length) == pytest.approx(best.loss, rel=1e-11)
    assert np.all(np.diff(best.step_sizes) > 0)
    assert best.step_sizes[0] > 0
    for optimum, shape in ((best, steps), (looped_optimum(steps, dim, context_length), 1)):
        direction = rng.normal(size=shape) * optimum.step_sizes

        def risk(h, optimum=optimum, direction=direction):
            return multi_step_risk(optimum.step_sizes + h * direction, dim, context_length)

        assert risk(0.1) > optimum.loss
        assert risk(-0.1) > optimum.loss
        # Central difference: the error is h² times the third derivative, against a curvature of order one.
        h = 1e-4
        curvature = (risk(h) + risk(-h) - 2 * risk(0)) / h**2
        assert curvature > 0
        assert abs(risk(h) - risk(-h)) / (2 * h) < 1e-4 * curvature


@settings(max_examples=40)
@given(a=st.lists(st.floats(-3, 3), min_size=1, max_size=6), **sizes, data=st.data())
def test_order_of_step_sizes_and_steps_of_zero(a, dim, context_length, data):
    """The order of step sizes does not matter, and a step of size zero does nothing."""
    value = multi_step_risk(a, dim, context_length)
    shuffled = data.draw(st.permutations([*a, 0.0]))
    # A rule with another number of nodes, so equality is to rounding: each (1 − a t)² amplifies it at most 1e3-fold.
    assert multi_step_risk(shuffled, dim, context_length) == pytest.approx(value, rel=1e-10)
    assert multi_step_risk([0.0], dim, context_length) == pytest.approx(dim, rel=1e-14)
    m = references.moments(dim, context_length, 2 * len(a) + 1)
    exact = dim * references.risk(references.product_of_steps(a), m)
    assert value == pytest.approx(float(exact), rel=1e-11)


@settings(max_examples=40)
@given(steps=st.integers(1, 6), **sizes)
def test_more_steps_more_examples_and_free_step_sizes_help(steps, dim, context_length):
    """The optimum falls with steps and context length, equal steps do no better, the minimum-norm risk bounds all."""
    best = multi_step_optimum(steps, dim, context_length)
    assert multi_step_optimum(steps + 1, dim, context_length).loss < best.loss
    assert multi_step_optimum(steps, dim, context_length + 1).loss < best.loss
    assert best.loss >= max(0, dim - context_length)
    equal = looped_optimum(steps, dim, context_length).loss
    assert equal > best.loss if steps > 1 else equal == pytest.approx(best.loss, rel=1e-13)


def test_degree_bound_of_degree_zero():
    """A constant polynomial answers zero."""
    assert degree_bound(0, 5, 20) == 5
    assert isinstance(degree_bound(0, 5, 20), Fraction)


def test_many_steps():
    """The largest exact range: 47 steps, ordered, positive, and their risk is the loss."""
    best = multi_step_optimum(47, 5, 20)
    assert len(best.step_sizes) == 47
    assert np.all(np.diff(best.step_sizes) > 0)
    assert best.step_sizes[0] > 0
    assert best.loss < multi_step_optimum(40, 5, 20).loss
    # 47 factors of either sign of rounding.
    assert multi_step_risk(best.step_sizes, 5, 20) == pytest.approx(best.loss, rel=1e-10)


@pytest.mark.parametrize(
    ("steps", "dim", "context_length"), [(2, 2, 30), (2, 3, 8), (3, 2, 12), (3, 3, 30), (4, 4, 40)]
)
def test_curvature_of_a_loop_along_rotations(steps, dim, context_length):
    """Against second differences of the risk on sampled Gram matrices, along a rotation in the first plane."""
    rng = np.random.default_rng(steps)
    x = rng.standard_normal((20_000, context_length, dim))
    w = np.einsum("bni,bnj->bij", x, x) / context_length
    rotation = np.zeros((dim, dim))
    rotation[0, 1], rotation[1, 0] = -math.sqrt(0.5), math.sqrt(0.5)
    scalar, by = looped_optimum(steps, dim, context_length).step_sizes[0] * np.eye(dim), 1e-3

    def risks(matrix):
        return (np.linalg.matrix_power(np.eye(dim) - matrix @ w, steps) ** 2).sum(axis=(1, 2))

    curvatures = (risks(scalar + by * rotation) + risks(scalar - by * rotation) - 2 * risks(scalar)) / by**2
    error = curvatures.std() / math.sqrt(len(curvatures))
    predicted = looped_rotation_curvature(steps, dim, context_length)
    # Five standard errors; the sign is seen, and a rival of half the second term is refuted.
    assert abs(curvatures.mean() - predicted) < 5 * error
    assert abs(predicted) > 5 * error


@given(dim=st.integers(2, 12), context_length=st.integers(1, 200))
def test_one_step_has_the_curvature_of_its_hessian_along_rotations(dim, context_length):
    """2 E tr W² / d for any direction of norm 1; and more steps have a saddle in long contexts."""
    expected = 2 * (1 + (dim + 1) / context_length)
    assert looped_rotation_curvature(1, dim, context_length) == pytest.approx(expected, rel=1e-13)
    # Eigenvalues near 1 leave ν_i near −ν_j at best: the product of a pair is negative.
    assert looped_rotation_curvature(2, dim, 40 * dim) < 0 < looped_rotation_curvature(2, dim, 2)
