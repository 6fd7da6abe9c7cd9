"""The Hessian at the multi-step optimum: against derivatives of the exact risk, samples, and the one-layer formulas."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    gradient_at_zero,
    hessian_at_zero,
    multi_step_hessian,
    multi_step_optimum,
    multi_step_risk,
    noisy_multi_step_optimum,
    noisy_multi_step_risk,
    one_layer_hessian,
)
from tests import references
from tests.strategies import covariances, generators


def risk_along(sizes, direction, grams, noise_share):
    """ε ↦ risks (batch,) at A_l = a_l I, B = 0 plus ε times the direction (2, L, d, d), ε complex."""
    base = np.multiply.outer(np.asarray(sizes), np.eye(grams.shape[-1]))

    def risks(size):
        key_query = -(base + size * direction[1])
        return references.risks_given_gram(size * direction[0], key_query, grams, noise_share, np.eye(grams.shape[-1]))

    return risks


@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize(
    ("dim", "n", "sizes"),
    [(1, 1, [0.4, 0.9]), (1, 4, [0.3, 1.2, 0.7]), (2, 3, [0.6]), (2, 2, [0.5, 0.8]), (2, 5, [0.5, 0.9, -0.3]),
     (3, 4, [0.7, 0.4])],
)  # fmt: skip
def test_equals_derivatives_of_the_exact_risk(dim, n, sizes, noise):
    """Gradient and Hessian along random directions, the mean over a rule exact for polynomials of this degree."""
    task = RegressionTask(dim, n, noise_variance=noise)
    hessian = multi_step_hessian(task, len(sizes), step_sizes=sizes)
    # The terms of second order have degree 2 L + 2 in W.
    grams, probabilities = references.wishart_rule(np.eye(dim), n, 2 * len(sizes) + 2)
    # More points on the circle than the degree of the risk in the weights, 12 and 46 for two and three layers.
    count = 16 if len(sizes) < 3 else 64
    rng = np.random.default_rng(dim + n)
    for _ in range(3):
        direction = rng.normal(size=(2, len(sizes), dim, dim))
        risks = risk_along(sizes, direction, grams, noise / n)

        def mean(size, risks=risks):
            return probabilities @ risks(size)

        x = direction.reshape(-1)
        slope = hessian.gradient @ np.trace(direction.reshape(-1, dim, dim), axis1=1, axis2=2)
        assert slope == pytest.approx(references.derivatives_on_circle(mean, 1, count=count), rel=1e-10, abs=1e-10)
        assert x @ hessian.matrix() @ x == pytest.approx(
            references.derivatives_on_circle(mean, 2, count=count), rel=1e-10
        )


@pytest.mark.parametrize(("dim", "n", "noise"), [(3, 8, 0.0), (4, 5, 0.5)])
def test_equals_sample_mean_at_the_optimum(dim, n, noise):
    """Larger sizes: second derivatives of the risk given W, averaged over sampled W."""
    task = RegressionTask(dim, n, noise_variance=noise)
    hessian = multi_step_hessian(task, 2)
    rng = np.random.default_rng(dim)
    x = rng.normal(size=(20_000, n, dim))
    grams = np.swapaxes(x, 1, 2) @ x / n
    for _ in range(2):
        direction = rng.normal(size=(2, 2, dim, dim))
        risks = risk_along(hessian.step_sizes, direction, grams, noise / n)
        second = references.derivatives_on_circle(risks, 2, count=16)
        expected = direction.reshape(-1) @ hessian.matrix() @ direction.reshape(-1)
        # 5 standard errors: two-sided error probability 6e-7 per direction; the seed is fixed.
        assert abs(second.mean() - expected) < 5 * second.std() / np.sqrt(len(second))


@given(dim=st.integers(1, 4), n=st.integers(1, 12), a=st.floats(-2, 2), noise=st.just(0.0) | st.floats(0.01, 3))
def test_one_layer_is_the_closed_form(dim, n, a, noise):
    """L = 1, any step size: 2 Γ ⊗ Σ on A and nothing on B."""
    task = RegressionTask(dim, n, noise_variance=noise)
    matrix = multi_step_hessian(task, 1, step_sizes=[a]).matrix()
    expected = one_layer_hessian(task)
    np.testing.assert_allclose(matrix[dim**2 :, dim**2 :], expected, rtol=0, atol=1e-13 * expected.max())
    assert not matrix[: dim**2].any()


@given(dim=st.integers(1, 3), n=st.integers(1, 12), layers=st.integers(1, 4), noise=st.just(0.0) | st.floats(0.01, 3))
def test_zero_step_sizes_are_the_origin(dim, n, layers, noise):
    """At a = 0 gradient and Hessian are those at zero, which are derived by another route."""
    task = RegressionTask(dim, n, noise_variance=noise)
    hessian = multi_step_hessian(task, layers, step_sizes=np.zeros(layers))
    expected = hessian_at_zero(task, layers)
    np.testing.assert_allclose(hessian.matrix(), expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    gradient = np.multiply.outer(hessian.gradient, np.eye(dim)).reshape(2, layers, dim, dim)
    np.testing.assert_allclose(gradient, gradient_at_zero(task, layers), atol=1e-14)


@given(
    dim=st.integers(1, 6), n=st.integers(1, 20), noise=st.just(0.0) | st.floats(0.01, 3),
    sizes=st.lists(st.floats(0.05, 1.5), min_size=1, max_size=4), rng=generators(),
)  # fmt: skip
def test_trace_block_is_the_curvature_of_the_scalar_risk(dim, n, noise, sizes, rng):
    """Along multiples of I in the A_l: second differences of the multi-step risk, divided by d = |I|²."""
    layers = len(sizes)
    task = RegressionTask(dim, n, noise_variance=noise)
    hessian = multi_step_hessian(task, layers, step_sizes=sizes)
    move = rng.uniform(0.5, 1, size=layers) * rng.choice([-1, 1], size=layers)

    def risk(size):
        at = np.asarray(sizes) + size * move
        return noisy_multi_step_risk(at, dim, n, noise) if noise else multi_step_risk(at, dim, n)

    # A polynomial of degree 2 L in the size: the fit through 2 L + 1 points is exact.
    points = np.linspace(-1, 1, 2 * layers + 1) / 4
    fit = np.polynomial.polynomial.polyfit(points, [risk(size) for size in points], 2 * layers)
    scale = max(abs(risk(size)) for size in points)
    assert move @ hessian.gradient[layers:] * dim == pytest.approx(fit[1], rel=1e-6, abs=1e-7 * scale)
    assert move @ hessian.trace[layers:, layers:] @ move * dim == pytest.approx(2 * fit[2], rel=1e-5, abs=1e-6 * scale)


@given(dim=st.integers(1, 6), n=st.integers(1, 20), layers=st.integers(1, 4), noise=st.just(0.0) | st.floats(0.01, 3))
def test_the_optimum_is_a_minimum_in_the_preconditioners(dim, n, layers, noise):
    """At B = 0 the risk is stationary in the A_l, with a positive semidefinite block of scalars."""
    hessian = multi_step_hessian(RegressionTask(dim, n, noise_variance=noise), layers)
    best = noisy_multi_step_optimum(layers, dim, n, noise)
    np.testing.assert_array_equal(hessian.step_sizes, best.step_sizes)
    scale = np.abs(hessian.trace).max()
    # Merged step sizes come from a least-squares search, good to the square root of rounding.
    assert np.abs(hessian.gradient[layers:]).max() < 1e-6 * scale
    assert np.linalg.eigvalsh(hessian.trace[layers:, layers:])[0] > -1e-6 * scale


@pytest.mark.parametrize(("dim", "n"), [(1, 3), (2, 1), (2, 50), (5, 2), (5, 5), (5, 20)])
@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_no_direction_of_the_preconditioners_leads_down_without_noise(dim, n, layers):
    """All three parts of the block in the A_l are positive definite: a strict local minimum over full matrices."""
    hessian = multi_step_hessian(RegressionTask(dim, n), layers)
    for block, count in hessian.parts:
        if count:
            assert np.linalg.eigvalsh(block[layers:, layers:])[0] > 1e-5 * hessian.spectrum.largest


def test_with_noise_scalar_layers_can_be_a_saddle():
    """d = 2, n = 50, σ² = 5, L = 3: the antisymmetric direction leads to full matrices of lower exact risk."""
    dim, n, layers, noise = 2, 50, 3, 5.0
    best = noisy_multi_step_optimum(layers, dim, n, noise)
    assert not best.attained
    hessian = multi_step_hessian(RegressionTask(dim, n, noise_variance=noise), layers)
    values, vectors = np.linalg.eigh(hessian.antisymmetric[layers:, layers:])
    assert values[0] < -1e-3
    rotation = np.array([[0.0, 1.0], [-1.0, 0.0]])
    key_query = np.multiply.outer(vectors[:, 0], rotation)
    grams, probabilities = references.wishart_rule(np.eye(dim), n, 2 * layers)
    direction = np.stack([np.zeros_like(key_query), key_query])
    risks = risk_along(hessian.step_sizes, direction, grams, noise / n)

    def risk(size):
        return (probabilities @ risks(size)).real

    assert risk(0) == pytest.approx(best.loss, rel=1e-12)
    # A fall of 9e-6, beyond rounding by far; the bound over all polynomials stays below.
    assert risk(0.1) < best.loss - 8e-6
    assert risk(0.1) > best.unconstrained_loss


def test_a_free_value_block_leads_down_from_the_optimum():
    """From two layers on the gradient in the value blocks is not zero, except the last: GD++ does better at once."""
    hessian = multi_step_hessian(RegressionTask(5, 20), 3)
    assert np.all(hessian.gradient[:2] < -0.05)
    assert hessian.gradient[2] == 0
    assert not multi_step_hessian(RegressionTask(5, 20), 1).gradient[:1].any()


@pytest.mark.parametrize(("dim", "layers"), [(1, 2), (2, 3), (4, 2)])
def test_spectrum_and_diagonal_are_those_of_the_matrix(dim, layers):
    """Eigenvalues with multiplicity, and the diagonal, from the blocks and from the matrix written out."""
    hessian = multi_step_hessian(RegressionTask(dim, 7, noise_variance=0.2), layers)
    matrix, spectrum = hessian.matrix(), hessian.spectrum
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-14)
    assert spectrum.size == 2 * layers * dim**2
    assert spectrum.size == len(matrix)
    expected = np.repeat(spectrum.values, spectrum.multiplicities)
    np.testing.assert_allclose(np.linalg.eigvalsh(matrix), expected, atol=1e-12 * spectrum.largest)
    assert hessian.diagonal.shape == (2, layers, dim, dim)
    np.testing.assert_allclose(hessian.diagonal.reshape(-1), matrix.diagonal(), atol=1e-14)
    assert sum(count for _, count in hessian.parts) == dim**2
    assert hessian.layers == layers
    # The last value block is idle: d² zeros at least.
    zeros = np.abs(spectrum.values) < 1e-12 * spectrum.largest
    assert spectrum.multiplicities[zeros].sum() >= dim**2


def test_the_order_of_layers_matters_to_the_value_blocks_only():
    """The block of the A_l is that of the permuted step sizes, permuted; the block of the B_l is another."""
    task, sizes = RegressionTask(3, 8), np.array([0.4, 0.7, 1.3])
    straight = multi_step_hessian(task, 3, step_sizes=sizes)
    for order in itertools.permutations(range(3)):
        index = np.array(order)
        other = multi_step_hessian(task, 3, step_sizes=sizes[index])
        np.testing.assert_allclose(other.trace[3:, 3:], straight.trace[3:, 3:][np.ix_(index, index)], atol=1e-13)
    backwards = multi_step_hessian(task, 3, step_sizes=sizes[::-1])
    assert abs(np.linalg.norm(backwards.trace[:3, :3]) / np.linalg.norm(straight.trace[:3, :3]) - 1) > 0.1


@given(data=st.data(), dim=st.integers(1, 3), scale=st.floats(0.1, 10))
@settings(max_examples=30)
def test_covariances_whiten_away(data, dim, scale):
    """Ψ = c Σ⁻¹ with noise c σ²: the blocks are c times those of the isotropic task; the matrix takes Σ back."""
    covariance = data.draw(covariances(dim))
    inverse = np.linalg.inv(covariance)
    plain = RegressionTask(dim, 6, noise_variance=0.5)
    task = replace(
        plain, covariance=covariance, weight_covariance=scale * (inverse + inverse.T) / 2, noise_variance=0.5 * scale
    )
    sizes = [0.5, 0.8]
    expected, got = (multi_step_hessian(t, 2, step_sizes=sizes) for t in (plain, task))
    for (block, _), (want, _) in zip(got.parts, expected.parts, strict=True):
        np.testing.assert_allclose(block, scale * want, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(got.gradient, scale * expected.gradient, rtol=1e-9, atol=1e-10 * scale)
    # In the coordinates of the task the origin is known by another route.
    matrix = multi_step_hessian(task, 2, step_sizes=[0, 0]).matrix(covariance)
    origin = hessian_at_zero(task, 2)
    np.testing.assert_allclose(matrix, origin, rtol=0, atol=1e-8 * np.abs(origin).max())


def test_value_blocks_in_the_coordinates_of_the_task():
    """The whole matrix with a covariance: derivatives along a direction transformed by hand."""
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(values)) @ vectors.T
    task = RegressionTask(2, 5, covariance, np.linalg.inv(covariance))
    hessian = multi_step_hessian(task, 2)
    x = np.random.default_rng(0).normal(size=(2, 2, 2, 2))
    whitened = np.stack([np.linalg.inv(root) @ x[0] @ root, root @ x[1] @ root]).reshape(-1)
    expected = whitened @ hessian.matrix() @ whitened
    assert x.reshape(-1) @ hessian.matrix(covariance) @ x.reshape(-1) == pytest.approx(expected, rel=1e-12)
    # The whitening is right: the token-level layers on a Cholesky frame see the same second derivative.
    factor = np.linalg.cholesky(covariance)
    grams, probabilities = references.wishart_rule(np.eye(2), 5, 6)
    direction = np.stack([np.linalg.inv(factor) @ x[0] @ factor, factor.T @ x[1] @ factor])
    risks = risk_along(hessian.step_sizes, direction, grams, 0.0)
    second = references.derivatives_on_circle(lambda size: probabilities @ risks(size), 2)
    assert second == pytest.approx(expected, rel=1e-10)


def test_deep_networks():
    """Eight layers keep all digits: the gradient in the A_l vanishes where single terms are of order 1e5."""
    hessian = multi_step_hessian(RegressionTask(5, 20), 8)
    np.testing.assert_allclose(hessian.step_sizes, multi_step_optimum(8, 5, 20).step_sizes)
    assert np.abs(hessian.gradient[8:]).max() < 1e-14
    assert np.linalg.eigvalsh(hessian.trace[8:, 8:])[0] > 0
