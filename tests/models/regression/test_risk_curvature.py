"""Second derivatives and gradients of the loss, against autograd, finite differences and loops."""

import math
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from plumbline.models.regression import (
    Curvature,
    Instances,
    LinearTransformer,
    batch_gradients,
    one_step_population_risk,
    prompt_gradients,
    risk_curvature,
    sample_instances,
    sample_prompts,
    sample_wisharts,
)
from plumbline.models.regression.curvature import CHUNK
from plumbline.theory.regression import RegressionTask
from tests.strategies import regression_tasks, seeds

ROUNDING = 1e-10
TASK = RegressionTask(2, 6)
KINDS = [("free", False, 1), ("zero", False, 2), ("free", True, 2), ("zero", True, 1)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def vector_of(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def model_at(model, vector):
    """A copy of the model with all its numbers replaced."""
    copy = LinearTransformer(
        model.layers, model.heads, model.dim, value_block=model.value_block, looped=model.looped, init_scale=0.0
    )
    torch.nn.utils.vector_to_parameters(vector, copy.parameters())
    return copy


@pytest.mark.parametrize(("value_block", "looped", "heads"), KINDS)
def test_hessian_is_that_of_autograd(value_block, looped, heads):
    """Whole, diagonal, products and directions, against `torch.autograd.functional.hessian` of the mean risk."""
    model = LinearTransformer(
        3, heads, 2, value_block=value_block, looped=looped, init_scale=0.3, generator=generator()
    )
    wisharts = sample_wisharts(TASK, 20, generator=generator(1))
    shares = torch.rand(20, generator=generator(2), dtype=torch.float64)
    shares /= shares.sum()
    start = vector_of(model.parameters()).detach()
    shapes = [p.shape for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    class Risk(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return self.model.conditional_risk(wisharts, TASK) @ shares

    def risk(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        state = {f"model.{n}": part.view(shape) for n, part, shape in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(Risk(), state, ())

    expected = torch.autograd.functional.hessian(risk, start)
    curvature = risk_curvature(model, wisharts, TASK, shares)
    scale = expected.abs().max()

    assert curvature.loss == pytest.approx(risk(start).item(), rel=ROUNDING)
    torch.testing.assert_close(
        curvature.gradient, torch.autograd.functional.jacobian(risk, start), rtol=ROUNDING, atol=ROUNDING
    )
    assert (curvature.hessian() - expected).abs().max() <= ROUNDING * scale
    assert (curvature.hessian_diagonal() - expected.diagonal()).abs().max() <= ROUNDING * scale
    vectors = torch.randn(CHUNK + 2, len(start), generator=generator(3), dtype=torch.float64)
    assert (curvature.hessian_products(vectors) - vectors @ expected).abs().max() <= 10 * ROUNDING * scale
    v = vectors[0]
    assert curvature.directional(v) == pytest.approx((v @ expected @ v / (v @ v)).item(), rel=1e-8)
    assert curvature.directional(-3 * v) == pytest.approx(curvature.directional(v), rel=1e-12)


def test_directional_is_a_second_difference():
    """Along a line the risk is a polynomial: central differences of two lengths, extrapolated."""
    model = LinearTransformer(2, 1, 2, init_scale=0.3, generator=generator(4))
    wisharts = sample_wisharts(TASK, 10, generator=generator(5))
    start = vector_of(model.parameters()).detach()
    unit = torch.nn.functional.normalize(torch.randn(len(start), generator=generator(6), dtype=torch.float64), dim=0)

    def second(h):
        lows, middle, high = (model_at(model, start + t * unit).mean_risk(wisharts, TASK).item() for t in (-h, 0.0, h))
        return (lows - 2 * middle + high) / h**2

    expected = (4 * second(1e-3) - second(2e-3)) / 3
    assert risk_curvature(model, wisharts, TASK).directional(unit) == pytest.approx(expected, rel=1e-7)


@settings(max_examples=15)
@given(task=regression_tasks(max_dim=3, laws=("gaussian",)), seed=seeds)
def test_one_layer_expectation_over_designs_is_the_population_hessian(task, seed):
    """Exact but for W: over many W the mean Hessian of one layer is that of the exact risk, within 6 errors."""
    model = LinearTransformer(1, 1, task.dim, value_block="zero", init_scale=0.2, generator=generator(seed))
    matrix = -model.key_query[0, 0].detach()
    expected = torch.autograd.functional.hessian(lambda a: one_step_population_risk(a, task), matrix)
    expected = expected.reshape(task.dim**2, task.dim**2)
    samples = torch.stack(
        [
            risk_curvature(model, sample_wisharts(task, 500, generator=generator(seed + i)), task).hessian()
            for i in range(20)
        ]
    )
    error = samples.std(0) / math.sqrt(len(samples))
    # Twenty batch means, up to 81 entries, 15 tasks: t quantiles of 19 degrees of freedom, a false alarm in 1,000.
    assert ((samples.mean(0) - expected).abs() <= 9 * error + 1e-12 * expected.abs().max()).all()


def test_the_last_value_block_has_no_curvature():
    """Its rows and columns of the Hessian are exactly zero."""
    model = LinearTransformer(3, 1, 2, init_scale=0.5, generator=generator(7))
    hessian = risk_curvature(model, sample_wisharts(TASK, 5, generator=generator(8)), TASK).hessian()
    assert (hessian[-4:] == 0).all()
    assert (hessian[:, -4:] == 0).all()
    assert (hessian.diagonal()[:-4] != 0).all()


def test_a_linear_loss_has_no_curvature():
    """The gradient is constant; products with vectors are zeros."""
    x = torch.ones(3, dtype=torch.float64, requires_grad=True)
    assert (Curvature(2 * x.sum(), [x]).hessian() == 0).all()


@pytest.mark.parametrize(("value_block", "looped", "heads"), KINDS)
def test_gradients_of_prompts_and_batches_against_a_loop(value_block, looped, heads):
    """Each prompt alone by autograd through the token-level forward pass, and means of batches."""
    model = LinearTransformer(
        3, heads, 2, value_block=value_block, looped=looped, init_scale=0.3, generator=generator(9)
    )
    prompts = sample_prompts(TASK, 6, generator=generator(10))
    x, w = prompts.tokens[:, :-1, :-1], prompts.weights
    instances = Instances(x.mT @ x / TASK.context_length, w, prompts.tokens[:, -1, :-1])
    expected = []
    for i in range(6):
        error = model(prompts.tokens[i : i + 1]) - prompts.targets[i]
        parts = torch.autograd.grad(error.square().sum(), list(model.parameters()), materialize_grads=True)
        expected.append(vector_of(parts))
    expected = torch.stack(expected)

    got = prompt_gradients(model, instances)
    torch.testing.assert_close(got, expected, rtol=ROUNDING, atol=ROUNDING * expected.abs().max().item())
    batches = Instances(*(part.reshape(2, 3, *part.shape[1:]) for part in instances))
    torch.testing.assert_close(
        batch_gradients(model, batches), expected.reshape(2, 3, -1).mean(1), rtol=ROUNDING, atol=ROUNDING
    )


def test_sampled_gradients_average_to_the_exact_one():
    """The mean of many per-prompt gradients meets the gradient of the conditional expectation at the same W."""
    model = LinearTransformer(2, 1, 2, init_scale=0.2, generator=generator(11))
    instances = sample_instances(TASK, 60_000, generator=generator(12))
    exact = risk_curvature(model, instances.wisharts, TASK).gradient
    sampled = prompt_gradients(model, instances)
    error = sampled.std(0) / math.sqrt(len(sampled))
    assert ((sampled.mean(0) - exact).abs() <= 5 * error + 1e-12).all()
    assert error.max() < 0.05 * exact.norm()


def test_at_zero_weights_every_layer_has_the_same_gradient():
    """∂/∂A_l = -2 Σ Ψ Σ for each layer, prompt by prompt too; the value blocks have none."""
    model = LinearTransformer(3, 1, 2, init_scale=0.0)
    gradients = prompt_gradients(model, sample_instances(TASK, 4, generator=generator(13)))
    keys, blocks = gradients[:, :12].reshape(4, 3, 4), gradients[:, 12:]
    assert (keys == keys[:, :1]).all()
    assert (blocks == 0).all()


FULL = LinearTransformer(1, 1, 2, full=True)
WISHARTS = sample_wisharts(TASK, 3, generator=generator())
INSTANCES = sample_instances(TASK, 3, generator=generator())
MODEL = LinearTransformer(1, 1, 2, generator=generator())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: risk_curvature(FULL, WISHARTS, TASK), "model must have the published (sparse) weights"),
        (lambda: risk_curvature(torch.nn.Linear(2, 2), WISHARTS, TASK), "model must be a LinearTransformer"),
        (lambda: risk_curvature(MODEL, WISHARTS, replace(TASK, dim=3)), "task must have dim 2 as the model, got 3"),
        (lambda: risk_curvature(MODEL, WISHARTS[:, :1], TASK), "wisharts must have shape (any, 2, 2)"),
        (lambda: risk_curvature(MODEL, WISHARTS, TASK, torch.ones(2)), "shares must have shape (3), got shape (2,)"),
        (lambda: risk_curvature(MODEL, WISHARTS, TASK).directional(torch.zeros(8)), "vector must not be zero"),
        (lambda: risk_curvature(MODEL, WISHARTS, TASK).hessian_products(torch.zeros(1, 7)), "vectors must have shape"),
        (lambda: Curvature(torch.ones(2, requires_grad=True), []), "loss must be a scalar tensor"),
        (lambda: Curvature(torch.tensor(1.0), []), "loss must be a scalar tensor that depends on the parameters"),
        (lambda: prompt_gradients(FULL, INSTANCES), "model must have the published (sparse) weights"),
        (lambda: prompt_gradients(MODEL, WISHARTS), "instances must be Instances"),
        (lambda: batch_gradients(MODEL, INSTANCES), "instances must have 2 axes in front, got wisharts of shape (3,"),
    ],
)
def test_bad_input_is_named(call, message):
    """The error says which argument, its value and what is allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
