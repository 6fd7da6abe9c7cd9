"""The landscape: gradient and Hessian of one layer everywhere and of any depth at zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    gradient_at_zero,
    hessian_at_zero,
    one_layer_gradient,
    one_layer_hessian,
    one_layer_spectrum,
    one_step_optimum,
    one_step_risk,
)
from plumbline.theory.regression.landscape import MAX_PARAMETERS, feature_second_moment
from tests import references
from tests.strategies import orthogonal_matrices, regression_tasks, square_matrices

COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
WEIGHT_COVARIANCE = np.array([[0.7, -0.3], [-0.3, 0.4]])
MATRIX = np.array([[0.5, 0.3], [-0.2, 0.4]])
LAWS = [("gaussian", None), ("sphere", None), ("gamma", 0.7)]


def task_of(law="gaussian", shape=None, *, n=2, noise=0.8):
    return RegressionTask(2, n, COVARIANCE, WEIGHT_COVARIANCE, noise, law, shape)


@pytest.mark.parametrize(("law", "shape"), LAWS)
@pytest.mark.parametrize("noise", [0.0, 0.8])
def test_gradient_and_features_equal_enumeration(law, shape, noise):
    """The mean per-prompt gradient and E r rᵀ over all prompts of a law with equal moments."""
    task = task_of(law, shape, noise=noise)
    prompts, probabilities = references.enumerate_prompts(task, degree=4)
    mean = np.tensordot(probabilities, references.prompt_gradients(MATRIX, prompts), 1)
    np.testing.assert_allclose(one_layer_gradient(task, MATRIX), mean, atol=1e-12)
    features = np.mean(prompts[0] * prompts[1][..., None], axis=1)
    moment = np.einsum("b,bi,bj->ij", probabilities, features, features)
    np.testing.assert_allclose(feature_second_moment(task), moment, atol=1e-13)


@given(data=st.data(), task=regression_tasks())
def test_gradient_and_hessian_expand_the_risk(data, task):
    """R(A + X) = R(A) + ⟨∇R, X⟩ + ½ X·H·X, with vec row by row: no further terms."""
    a, x = (data.draw(square_matrices(task.dim)) for _ in range(2))
    slope = np.sum(one_layer_gradient(task, a) * x)
    curvature = x.reshape(-1) @ one_layer_hessian(task) @ x.reshape(-1)
    before, after = one_step_risk(task, a), one_step_risk(task, a + x)
    size = before + abs(slope) + curvature + task.signal
    assert after == pytest.approx(before + slope + curvature / 2, abs=1e-11 * size)


@given(data=st.data(), task=regression_tasks())
def test_hessian_is_the_change_of_the_gradient(data, task):
    """H vec(X) = vec(∇R(A + X) − ∇R(A)); it is symmetric positive definite with the spectrum of products."""
    a, x = (data.draw(square_matrices(task.dim)) for _ in range(2))
    hessian = one_layer_hessian(task)
    change = one_layer_gradient(task, a + x) - one_layer_gradient(task, a)
    scale = np.abs(hessian).max() * (1 + np.abs(x).max() + np.abs(a).max())
    np.testing.assert_allclose((hessian @ x.reshape(-1)).reshape(x.shape), change, rtol=0, atol=1e-12 * scale)
    np.testing.assert_array_equal(hessian, hessian.T)
    spectrum = one_layer_spectrum(task)
    assert np.all(np.diff(spectrum) >= 0)
    assert spectrum[0] > 0
    np.testing.assert_allclose(np.linalg.eigvalsh(hessian), spectrum, rtol=0, atol=1e-12 * spectrum[-1])


@given(data=st.data(), task=regression_tasks())
def test_rotations_turn_gradient_and_hessian(data, task):
    """With Σ, Ψ and A turned by U the gradient is turned and the spectrum stays."""
    u, a = data.draw(orthogonal_matrices(task.dim)), data.draw(square_matrices(task.dim))
    other = references.turned(task, u)
    gradient = one_layer_gradient(task, a)
    np.testing.assert_allclose(
        one_layer_gradient(other, u @ a @ u.T), u @ gradient @ u.T, rtol=0, atol=1e-11 * (1 + np.abs(gradient).max())
    )
    spectrum = one_layer_spectrum(task)
    np.testing.assert_allclose(one_layer_spectrum(other), spectrum, rtol=0, atol=1e-12 * spectrum[-1])


@given(task=regression_tasks())
def test_the_gradient_vanishes_at_the_optimum(task):
    """∇R(A*) = 0, up to rounding of the terms that cancel."""
    gradient = one_layer_gradient(task, one_step_optimum(task).preconditioner)
    at_zero = one_layer_gradient(task, np.zeros((task.dim, task.dim)))
    assert np.abs(gradient).max() < 1e-10 * np.abs(at_zero).max()


def test_isotropic_numbers():
    """Σ = Ψ = I: H = 2 (n + d + 1)/n I, |∇R(0)| = 2 √(L d): 7.745967 for the published L = 3, d = 5."""
    task = RegressionTask(5, 20)
    np.testing.assert_allclose(one_layer_hessian(task), 2.6 * np.eye(25), atol=1e-15)
    np.testing.assert_allclose(one_layer_spectrum(task), 2.6, rtol=1e-14)
    assert np.linalg.norm(gradient_at_zero(task, 3)) == pytest.approx(2 * 15**0.5, rel=1e-14)
    # The published covariance, spectrum (1, 1, 1/4, 1/16, 1) and Ψ = Σ⁻¹ (checked independently: 6.066).
    spectrum = np.array([1, 1, 1 / 4, 1 / 16, 1])
    skewed = RegressionTask(5, 20, np.diag(spectrum), np.diag(1 / spectrum))
    assert np.linalg.norm(gradient_at_zero(skewed, 3)) == pytest.approx(6.066, abs=5e-4)
    # The sphere: (n − 1)/n + (d + 2)/n · d/(d + 2) times 2/d³.
    sphere = RegressionTask(5, 20, covariate_law="sphere")
    np.testing.assert_allclose(one_layer_spectrum(sphere), 2 / 125 * (19 / 20 + 5 / 20), rtol=1e-14)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("n", [3, 6])
def test_zero_equals_derivatives_of_the_exact_risk(layers, n):
    """Gradient and Hessian along random directions of all 2 L d² weights, from the exact risk on a Bartlett rule."""
    task = task_of(n=n)
    root = np.linalg.cholesky(COVARIANCE)
    # Whitened by the Cholesky factor, which turns Ψ as well.
    psi = root.T @ WEIGHT_COVARIANCE @ root
    grams, probabilities = references.wishart_rule(np.eye(2), n, 4)
    rng = np.random.default_rng(layers)
    gradient = gradient_at_zero(task, layers).reshape(-1)
    hessian = hessian_at_zero(task, layers)
    np.testing.assert_array_equal(hessian, hessian.T)
    for _ in range(3):
        x = rng.normal(size=(2, layers, 2, 2))
        value = np.linalg.inv(root) @ x[0] @ root
        key_query = root.T @ x[1] @ root  # A in whitened coordinates

        def risk(size, value=value, key_query=key_query):
            # Orders above 2 are cut by Cauchy's formula: degree 4 in W is enough for the first two.
            return probabilities @ references.risks_given_gram(
                size * value, -size * key_query, grams, task.noise_variance / n, psi
            )

        x = x.reshape(-1)
        assert gradient @ x == pytest.approx(references.derivatives_on_circle(risk, 1), rel=1e-10)
        assert x @ hessian @ x == pytest.approx(references.derivatives_on_circle(risk, 2), rel=1e-9)


@pytest.mark.parametrize(("law", "shape"), LAWS)
def test_zero_equals_enumeration_at_the_token_level(law, shape):
    """Two layers, every law: second derivatives of the token-level squared error over all prompts (n = 2)."""
    task = task_of(law, shape)
    prompts, probabilities = references.enumerate_prompts(task, degree=8)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 2, 2, 2))
    hessian, gradient = hessian_at_zero(task, 2), gradient_at_zero(task, 2).reshape(-1)

    def risk(size):
        # Blocks of P and Q = −A. Along a real line: the reference is not complex.
        weights = references.embed(size * x[0, :, None], -size * x[1, :, None])
        return probabilities @ references.squared_errors(*weights, prompts)

    # Degree 8 in the size: the fit is exact up to rounding.
    points = 0.05 * np.arange(-8, 9)
    slope, curvature = np.polynomial.polynomial.polyfit(points, [risk(size) for size in points], 12)[1:3]
    assert gradient @ x.reshape(-1) == pytest.approx(slope, rel=1e-7)
    assert x.reshape(-1) @ hessian @ x.reshape(-1) == pytest.approx(2 * curvature, rel=1e-6)


@given(task=regression_tasks(max_dim=3), layers=st.integers(1, 4))
def test_zero_agrees_with_one_layer(task, layers):
    """Value blocks are flat; the diagonal block of every layer and its slope are those of one layer."""
    d, size = task.dim, layers * task.dim**2
    gradient, hessian = gradient_at_zero(task, layers), hessian_at_zero(task, layers)
    assert gradient.shape == (2, layers, d, d)
    assert hessian.shape == (2 * size, 2 * size)
    assert not gradient[0].any()
    assert not hessian[:size].any()
    blocks = hessian[size:, size:].reshape(layers, d * d, layers, d * d)
    for layer in range(layers):
        np.testing.assert_array_equal(gradient[1, layer], one_layer_gradient(task, np.zeros((d, d))))
        np.testing.assert_allclose(blocks[layer, :, layer], one_layer_hessian(task), rtol=1e-13, atol=0)
    # From two layers on the direction (S⁻¹, −S⁻¹) leads down.
    if layers > 1:
        inverse = np.linalg.inv(task.covariance_matrix).reshape(-1)
        direction = np.concatenate([np.zeros(size), inverse, -inverse, np.zeros((layers - 2) * d * d)])
        assert direction @ hessian @ direction < 0


def test_large_hessians_are_refused_with_the_count():
    """A Hessian of more than `MAX_PARAMETERS` parameters is not written down; its spectrum still is."""
    task = RegressionTask(150, 200)
    assert task.dim**2 > MAX_PARAMETERS
    with pytest.raises(ValueError, match=r"task\.dim must leave at most 20000 parameters .* got 22500"):
        one_layer_hessian(task)
    with pytest.raises(ValueError, match=r"layers must leave at most 20000 parameters .* got 45000"):
        hessian_at_zero(task, 1)
    assert len(one_layer_spectrum(task)) == 22500
