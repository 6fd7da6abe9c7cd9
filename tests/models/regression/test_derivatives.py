"""Curvature, slopes and gradient noise of theory against automatic differentiation of the models."""

import numpy as np
import pytest
import torch

from plumbline.models.regression import LinearTransformer, sample_prompts
from plumbline.models.regression.population import one_step_population_risk
from plumbline.models.regression.recursion import conditional_risks, frame
from plumbline.theory.regression import (
    RegressionTask,
    gradient_at_zero,
    gradient_noise_at_zero,
    hessian_at_zero,
    multi_step_hessian,
    one_layer_gradient,
    one_layer_hessian,
    robust_condition_number,
)
from tests import references

COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
WEIGHT_COVARIANCE = np.array([[0.7, -0.3], [-0.3, 0.4]])


@pytest.mark.parametrize(("law", "shape"), [("gaussian", None), ("sphere", None), ("gamma", 0.7)])
def test_one_layer_derivatives(law, shape):
    """Gradient and Hessian (row by row) of the population risk of one layer."""
    task = RegressionTask(2, 5, COVARIANCE, WEIGHT_COVARIANCE, 0.4, law, shape)
    matrix = torch.tensor([[0.5, 0.3], [-0.2, 0.4]], dtype=torch.float64)

    def risk(a):
        return one_step_population_risk(a, task)

    gradient = torch.func.grad(risk)(matrix).numpy()
    hessian = torch.autograd.functional.hessian(risk, matrix).reshape(4, 4).numpy()
    np.testing.assert_allclose(one_layer_gradient(task, matrix.numpy()), gradient, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(one_layer_hessian(task), hessian, rtol=1e-12, atol=1e-14)


def derivatives(task, layers, step_sizes, degree):
    """Gradient and Hessian of the exact risk in (B, A), from the models' recursion on a rule of this degree in W."""
    grams, weights = references.wishart_rule(task.covariance_matrix, task.context_length, degree)
    grams, weights = torch.as_tensor(grams), torch.as_tensor(weights)
    inverse = torch.linalg.inv(torch.as_tensor(task.covariance_matrix))
    point = torch.zeros(2, layers, task.dim, task.dim, dtype=torch.float64)
    point[1] = torch.as_tensor(np.asarray(step_sizes, dtype=float))[:, None, None] * inverse

    there = frame(task, grams)

    def risk(parameters):
        key_query, value = there.network(-parameters[1][:, None], parameters[0][:, None])
        return conditional_risks(grams, there, key_query, value, layers) @ weights

    size = point.numel()
    gradient = torch.func.grad(risk)(point).numpy()
    return gradient, torch.autograd.functional.hessian(risk, point).reshape(size, size).numpy()


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_derivatives_at_zero(layers):
    """All 2 L d² parameters, covariances that do not commute, label noise."""
    task = RegressionTask(2, 4, COVARIANCE, WEIGHT_COVARIANCE, 0.4)
    gradient, hessian = derivatives(task, layers, np.zeros(layers), degree=4)
    np.testing.assert_allclose(gradient_at_zero(task, layers), gradient, rtol=0, atol=1e-12)
    np.testing.assert_allclose(hessian_at_zero(task, layers), hessian, rtol=0, atol=1e-11)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_hessian_at_the_multi_step_optimum(layers, noise):
    """The whole matrix with the value blocks, in the coordinates of an anisotropic task."""
    task = RegressionTask(2, 6, COVARIANCE, np.linalg.inv(COVARIANCE), noise)
    result = multi_step_hessian(task, layers)
    gradient, hessian = derivatives(task, layers, result.step_sizes, degree=2 * layers + 2)
    matrix = result.matrix(COVARIANCE)
    np.testing.assert_allclose(matrix, hessian, rtol=0, atol=1e-11 * np.abs(hessian).max())
    # Whitened, the gradient is g I: ⟨G, A⟩ with A = Σ^{1/2} A_orig Σ^{1/2} leaves g Σ, and g I for the value blocks.
    frames = np.stack([np.eye(2), COVARIANCE])[:, None]
    expected = result.gradient.reshape(2, layers, 1, 1) * frames
    np.testing.assert_allclose(expected, gradient, rtol=0, atol=1e-11)
    assert robust_condition_number(matrix).value == pytest.approx(robust_condition_number(hessian).value, rel=1e-9)


def test_gradient_noise_of_three_layers_at_zero():
    """Per-prompt gradients of the token-level forward pass: E|g|² and no gradient in the value blocks."""
    task = RegressionTask(2, 6, COVARIANCE, WEIGHT_COVARIANCE, 0.4)
    model = LinearTransformer(3, 1, 2)
    weights = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    prompts = sample_prompts(task, 20_000, generator=torch.Generator().manual_seed(0))

    def error(parameters, tokens, target):
        return (torch.func.functional_call(model, parameters, (tokens[None],)).squeeze() - target) ** 2

    gradients = torch.func.vmap(torch.func.grad(error), in_dims=(None, 0, 0))(weights, prompts.tokens, prompts.targets)
    squares = sum(part.flatten(1).square().sum(1) for part in gradients.values()).numpy()
    assert not gradients["value"].any()
    expected = gradient_noise_at_zero(task, 3).second_moment
    # 5 standard errors: two-sided error probability 6e-7; the seed is fixed.
    assert abs(squares.mean() - expected) < 5 * squares.std() / np.sqrt(len(squares))
