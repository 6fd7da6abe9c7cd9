"""One step: risk against enumerated and sampled prompts, optimum against its normal equations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    multi_step_optimum,
    one_step_optimum,
    one_step_risk,
    zero_predictor_risk,
)
from tests import references
from tests.strategies import covariances, generators, orthogonal_matrices, regression_tasks

COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
WEIGHT_COVARIANCE = np.array([[0.7, -0.3], [-0.3, 0.4]])
PRECONDITIONER = np.array([[0.5, 0.3], [-0.2, 0.4]])
LAWS = [("gaussian", None), ("sphere", None), ("gamma", 0.7), ("gamma", 3.0)]


def token_level_risk(task, preconditioner, *, length=None):
    """Exact risk by enumeration: one layer with K = −A on every prompt of a law with the same fourth moments."""
    prompts, probabilities = references.enumerate_prompts(task, degree=4, length=length)
    weights = references.embed(np.zeros_like(preconditioner), -preconditioner)
    return probabilities @ references.squared_errors(*(w[None, None] for w in weights), prompts)


@pytest.mark.parametrize(("law", "shape"), LAWS)
@pytest.mark.parametrize("noise", [0.0, 0.8])
@pytest.mark.parametrize("length", [1, 2])
def test_risk_equals_enumeration_of_prompts(law, shape, noise, length):
    """The risk of any matrix, at any test length, is that of the token-level layer over a law of equal moments."""
    task = RegressionTask(
        2, 3, covariance=COVARIANCE, weight_covariance=WEIGHT_COVARIANCE, noise_variance=noise,
        covariate_law=law, gamma_shape=shape,
    )  # fmt: skip
    expected = token_level_risk(task, PRECONDITIONER, length=length)
    # 1e-13: sums of up to 5e4 products in float64.
    assert one_step_risk(task, PRECONDITIONER, test_length=length) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(("law", "shape"), LAWS)
def test_risk_in_one_dimension(law, shape):
    """In one dimension three examples can be enumerated; the test length is then the task's own."""
    task = RegressionTask(1, 3, [[1.7]], [[0.6]], 0.4, law, shape)
    expected = token_level_risk(task, np.array([[0.3]]))
    assert one_step_risk(task, [[0.3]]) == pytest.approx(expected, rel=1e-13)
    assert one_step_risk(task, [[0.3]], test_length=3) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(("law", "shape"), LAWS)
@pytest.mark.parametrize("length", [4, 7])
def test_risk_equals_sample_mean(law, shape, length):
    """Three dimensions, label noise, another test length: the mean over sampled prompts meets the risk."""
    rng = np.random.default_rng(5)
    root, weight_root = rng.normal(size=(2, 3, 3))
    task = RegressionTask(
        3, 4, root @ root.T + 0.1 * np.eye(3), weight_root @ weight_root.T + 0.1 * np.eye(3), 0.5, law, shape
    )
    preconditioner = one_step_optimum(task).preconditioner @ (np.eye(3) + 0.2 * rng.normal(size=(3, 3)))
    x, y, w, query = references.sample_prompts(task, 100_000, rng, length=length)
    prediction = np.einsum("bni,bn,ij,bj->b", x, y, preconditioner, query, optimize=True) / length
    errors = (prediction - np.sum(w * query, axis=1)) ** 2
    # 5 standard errors: two-sided error probability 6e-7 per case; the seed is fixed.
    assert abs(errors.mean() - one_step_risk(task, preconditioner, length)) < 5 * errors.std() / math.sqrt(len(errors))


def test_many_examples_leave_the_bias():
    """At infinite test length the risk is tr(Ψ (I − ΣA) Σ (I − ΣA)ᵀ), also off the Gaussian law."""
    for law, shape in LAWS:
        task = RegressionTask(2, 3, COVARIANCE, WEIGHT_COVARIANCE, 1.0, law, shape)
        sigma = task.second_moment
        miss = np.eye(2) - sigma @ PRECONDITIONER
        bias = np.trace(WEIGHT_COVARIANCE @ miss @ sigma @ miss.T)
        # The next term is O(1/m).
        assert one_step_risk(task, PRECONDITIONER, test_length=10**12) == pytest.approx(bias, rel=1e-9)


@given(task=regression_tasks(), rng=generators())
def test_optimum_is_the_minimum(task, rng):
    """The risk at A* is the loss; the gradient there is zero, and every direction leads up."""
    optimum = one_step_optimum(task)
    signal = zero_predictor_risk(task)
    assert one_step_risk(task, optimum.preconditioner) == pytest.approx(optimum.loss, rel=1e-9, abs=1e-12 * signal)
    assert 0 <= optimum.loss < signal
    direction = rng.normal(size=(task.dim, task.dim))
    direction *= np.linalg.norm(optimum.preconditioner) / np.linalg.norm(direction)
    up = one_step_risk(task, optimum.preconditioner + direction)
    down = one_step_risk(task, optimum.preconditioner - direction)
    # The risk is quadratic, so the central difference is the derivative for any step length.
    curvature = up + down - 2 * optimum.loss
    assert curvature > 0
    assert abs(up - down) < 1e-10 * (up + down)


@given(task=regression_tasks())
def test_optimum_solves_the_normal_equations(task):
    """Γ A = k₁ S Ψ with Γ = E r rᵀ, and the loss is tr(ΨΣ) − k₁² tr(S Ψ S A)."""
    n, (k1, k2) = task.context_length, task.radial_moments
    s, psi = task.covariance_matrix, task.weight_covariance_matrix
    gamma = ((n - 1) / n * k1**2 + 2 * k2 / n) * s @ psi @ s
    gamma += (k2 / n * np.trace(psi @ s) + task.noise_variance / n * k1) * s
    optimum = one_step_optimum(task)
    # Condition of S and Ψ below 100 each.
    np.testing.assert_allclose(gamma @ optimum.preconditioner, k1 * s @ psi, rtol=0, atol=1e-11 * np.abs(s @ psi).max())
    loss = k1 * np.trace(psi @ s) - k1**2 * np.trace(s @ psi @ s @ optimum.preconditioner)
    assert optimum.loss == pytest.approx(loss, abs=1e-11 * zero_predictor_risk(task))
    np.testing.assert_array_equal(optimum.preconditioner, optimum.preconditioner.T)


def test_loss_at_a_million_examples():
    """n = 10⁶: the loss keeps all digits, where tr(ΨΣ) − tr(…) would cancel."""
    assert one_step_optimum(RegressionTask(5, 10**6)).loss == pytest.approx(5 * 6 / (10**6 + 6), rel=1e-14)
    theta, n = np.array([0.5, 2.0]), 10**6
    task = RegressionTask(
        2, n, covariance=np.diag([1.0, 4.0]), weight_covariance=np.diag([0.5, 0.5]), noise_variance=0.3
    )
    expected = np.sum(theta * (theta + 2.8) / ((n + 1) * theta + 2.8))
    assert one_step_optimum(task).loss == pytest.approx(expected, rel=1e-14)
    assert one_step_risk(task, one_step_optimum(task).preconditioner) == pytest.approx(expected, rel=1e-9)


def test_whitened_weights_are_the_first_of_the_multi_step_optima():
    """Ψ = Σ⁻¹ without noise: A* = n/(n + d + 1) Σ⁻¹, loss d (d + 1)/(n + d + 1)."""
    covariance = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 0.7]])
    task = RegressionTask(3, 11, covariance=covariance, weight_covariance=np.linalg.inv(covariance))
    optimum, steps = one_step_optimum(task), multi_step_optimum(1, 3, 11)
    # 1e-13: condition 8 of the covariance.
    assert optimum.loss == pytest.approx(steps.loss, rel=1e-13)
    assert steps.loss == pytest.approx(3 * 4 / 15, rel=1e-15)
    np.testing.assert_allclose(optimum.preconditioner, 11 / 15 * np.linalg.inv(covariance), rtol=1e-12, atol=1e-13)


def test_published_special_cases():
    """Ψ = I without noise (Ahn et al.): A* has eigenvalues 1/((n+1)/n λ + tr Λ/n) in the frame of the covariance."""
    basis = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    eigenvalues, n = np.array([0.5, 1.0, 3.0]), 8
    optimum = one_step_optimum(RegressionTask(3, n, covariance=(basis * eigenvalues) @ basis.T))
    expected = (basis / ((n + 1) / n * eigenvalues + eigenvalues.sum() / n)) @ basis.T
    np.testing.assert_allclose(optimum.preconditioner, expected, atol=1e-14)
    # Isotropic with noise (Mahankali et al.): a = n/(n + d + 1 + σ²).
    noisy = one_step_optimum(RegressionTask(3, n, noise_variance=2.0))
    np.testing.assert_allclose(noisy.preconditioner, n / (n + 3 + 1 + 2.0) * np.eye(3), atol=1e-15)
    # The sphere: a = n d/(n + d − 1), loss (d − 1)/(n + d − 1).
    sphere = one_step_optimum(RegressionTask(3, n, covariate_law="sphere"))
    np.testing.assert_allclose(sphere.preconditioner, n * 3 / (n + 2) * np.eye(3), atol=1e-14)
    assert sphere.loss == pytest.approx(2 / (n + 2), rel=1e-14)


def test_one_dimensional_sphere_has_no_error():
    """x = ±1 in one dimension without noise: one step is exact, and the risk is 0 and not −1e-17."""
    task = RegressionTask(1, 7, covariance=[[0.3]], covariate_law="sphere")
    assert one_step_optimum(task).loss == 0
    assert 0 <= one_step_risk(task, one_step_optimum(task).preconditioner) < 1e-15


@given(task=regression_tasks(), data=st.data())
def test_rotation_equivariance(task, data):
    """Rotating x and w turns A* into U A* Uᵀ and leaves the loss."""
    u = data.draw(orthogonal_matrices(task.dim))

    def rotated(matrix):
        return (u @ matrix @ u.T + (u @ matrix @ u.T).T) / 2

    other = RegressionTask(
        task.dim, task.context_length, rotated(task.covariance_matrix), rotated(task.weight_covariance_matrix),
        task.noise_variance, task.covariate_law, task.gamma_shape,
    )  # fmt: skip
    before, after = one_step_optimum(task), one_step_optimum(other)
    scale = np.abs(before.preconditioner).max()
    np.testing.assert_allclose(after.preconditioner, rotated(before.preconditioner), rtol=0, atol=1e-10 * scale)
    assert after.loss == pytest.approx(before.loss, rel=1e-9, abs=1e-12 * zero_predictor_risk(task))


@given(task=regression_tasks(), units=st.floats(0.01, 100), size=st.floats(0.01, 100))
def test_units(task, units, size):
    """x in other units: A* scales with 1/units², the loss stays; w and noise in other units: the loss scales."""

    def scaled(covariance, weights, noise):
        return RegressionTask(
            task.dim, task.context_length, task.covariance_matrix * covariance, task.weight_covariance_matrix * weights,
            task.noise_variance * noise, task.covariate_law, task.gamma_shape,
        )  # fmt: skip

    before = one_step_optimum(task)
    negligible = 1e-12 * zero_predictor_risk(task)
    x_units = one_step_optimum(scaled(units**2, units**-2, 1))
    np.testing.assert_allclose(x_units.preconditioner * units**2, before.preconditioner, rtol=1e-9, atol=1e-12)
    assert x_units.loss == pytest.approx(before.loss, rel=1e-9, abs=negligible)
    w_units = one_step_optimum(scaled(1, size**2, size**2))
    np.testing.assert_allclose(w_units.preconditioner, before.preconditioner, rtol=1e-9, atol=1e-12)
    assert w_units.loss == pytest.approx(size**2 * before.loss, rel=1e-9, abs=size**2 * negligible)


@given(dim=st.integers(1, 4), n=st.integers(1, 30), noise=st.floats(0, 3), data=st.data())
def test_more_examples_help_and_noise_hurts(dim, n, noise, data):
    """The loss falls with the context length and rises with the noise."""
    covariance, weights = data.draw(covariances(dim)), data.draw(covariances(dim))

    def loss(n, noise):
        return one_step_optimum(RegressionTask(dim, n, covariance, weights, noise)).loss

    assert loss(n + 1, noise) < loss(n, noise) < loss(n, noise + 0.1)
