"""Conditional, mean and population risk against the forward pass, and their derivatives."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from plumbline.models.ensemble import Ensemble
from plumbline.models.regression import LinearTransformer, mean_risk, sample_prompts, sample_wisharts
from plumbline.theory.regression import RegressionTask, one_step_risk
from tests import references
from tests.strategies import regression_tasks, seeds

COVARIANCE = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
WEIGHT_COVARIANCE = np.array([[0.5, 0.1, 0.0], [0.1, 1.5, 0.4], [0.0, 0.4, 1.0]])
LAWS = [("gaussian", None), ("sphere", None), ("gamma", 0.7)]
KINDS = [("free", False), ("zero", False), ("free", True), ("zero", True)]
# Float64 recursions of a few layers in another order of operations, weights and W of size one.
ROUNDING = 1e-11
# Means of 40,000 squared errors: a false alarm in 2 million per comparison.
ERRORS = 5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def task_of(law="gaussian", shape=None, *, noise=0.3, n=5):
    return RegressionTask(3, n, COVARIANCE, WEIGHT_COVARIANCE, noise, law, shape)


def method(model, name, *arguments):
    """The method as a function of the model's parameters, for derivatives."""

    class Program(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *inputs):
            return getattr(self.model, name)(*inputs)

    names = [f"model.{key}" for key, _ in model.named_parameters()]
    return lambda *parameters, inputs=arguments: torch.func.functional_call(
        Program(), dict(zip(names, parameters, strict=True)), inputs
    )


def assert_within_errors(differences, size):
    """The mean of the differences is zero within its standard error, and this is small compared to the risk."""
    mean, error = differences.mean().item(), differences.std().item() / math.sqrt(len(differences))
    assert abs(mean) < ERRORS * error, f"{mean / error:.1f} standard errors"
    assert error < 0.05 * size, "the sample shows nothing"


@st.composite
def networks(draw, dim, **fixed):
    """A network with published weights."""
    options = {"value_block": draw(st.sampled_from(["free", "zero"])), "looped": draw(st.booleans()), **fixed}
    layers, heads = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return LinearTransformer(layers, heads, dim, init_scale=0.15, generator=generator(draw(seeds)), **options)


# Conditional risk


@pytest.mark.parametrize(("value_block", "looped"), KINDS)
@pytest.mark.parametrize("heads", [1, 2])
def test_conditional_risk_is_the_mean_squared_error_given_w(value_block, looped, heads):
    """Squared errors of the forward pass minus the risk given the W of their prompt average to zero."""
    task = task_of()
    model = LinearTransformer(
        3, heads, 3, value_block=value_block, looped=looped, init_scale=0.04, generator=generator(1)
    )
    with torch.no_grad():  # three short steps: long ones have squared errors whose mean no sample shows
        model.key_query -= 0.1 / heads * torch.eye(3)
    prompts = sample_prompts(task, 40_000, generator=generator(2))
    x = prompts.tokens[:, :-1, :-1]
    with torch.no_grad():
        errors = (model(prompts) - prompts.targets).square()
        risks = model.conditional_risk(x.mT @ x / task.context_length, task)
    assert_within_errors(errors - risks, risks.mean())


@pytest.mark.parametrize(("law", "shape"), LAWS)
def test_conditional_risk_knows_the_law_of_the_query(law, shape):
    """Other covariate laws enter through E x x^T = Σ."""
    task = task_of(law, shape, n=4)
    model = LinearTransformer(2, 1, 3, init_scale=0.2, generator=generator(3))
    prompts = sample_prompts(task, 40_000, generator=generator(4))
    x = prompts.tokens[:, :-1, :-1]
    with torch.no_grad():
        errors = (model(prompts) - prompts.targets).square()
        risks = model.conditional_risk(x.mT @ x / 4, task)
    assert_within_errors(errors - risks, risks.mean())


@pytest.mark.parametrize(("value_block", "looped"), KINDS)
def test_conditional_risk_by_enumeration(value_block, looped):
    """Exact: two dimensions, two given examples, weight, noise and query over laws of equal second moments."""
    covariance, weight_covariance = COVARIANCE[:2, :2], WEIGHT_COVARIANCE[:2, :2]
    task = RegressionTask(2, 2, covariance, weight_covariance, 0.4)
    model = LinearTransformer(3, 2, 2, value_block=value_block, looped=looped, generator=generator(5), init_scale=0.4)
    x = np.array([[1.0, -0.5], [0.3, 2.0]])
    rules = [references.normal_rule(2, 2), references.normal_rule(2, 2), references.normal_rule(2, 2)]
    (w, noise, query), weights = references.product_rule(rules)
    w = w @ np.linalg.cholesky(weight_covariance).T
    query = query @ np.linalg.cholesky(covariance).T
    prompts = (np.broadcast_to(x, (len(weights), 2, 2)), w @ x.T + math.sqrt(0.4) * noise, w, query)
    value = torch.zeros_like(model.key_query) if model.value is None else model.value
    stacks = [np.repeat(p.detach().numpy(), 3 // len(p), axis=0) for p in (value, model.key_query)]
    expected = weights @ references.squared_errors(*references.embed(*stacks), prompts)
    got = model.conditional_risk(torch.as_tensor(x.T @ x / 2), task)
    assert got.item() == pytest.approx(expected, rel=ROUNDING)


@given(regression_tasks(), seeds)
@settings(max_examples=40)
def test_one_layer_given_w(task, seed):
    """One layer: tr Ψ(I − WA)Σ(I − WA)^T + (σ²/n) tr W A Σ A^T."""
    d = task.dim
    model = LinearTransformer(1, 2, d, init_scale=0.5, generator=generator(seed))
    w = sample_wisharts(task, 3, generator=generator(seed))
    a = -model.key_query.detach()[0].sum(0).numpy()
    sigma, psi = task.second_moment, task.weight_covariance_matrix
    for got, matrix in zip(model.conditional_risk(w, task), w.numpy(), strict=True):
        miss = np.eye(d) - matrix @ a
        expected = np.trace(psi @ miss @ sigma @ miss.T)
        expected += task.noise_variance / task.context_length * np.trace(matrix @ a @ sigma @ a.T)
        assert got.item() == pytest.approx(expected, rel=ROUNDING)


def test_conditional_risk_takes_any_leading_axes():
    """One W, or a grid of them."""
    task, model = task_of(), LinearTransformer(2, 1, 3, generator=generator())
    w = sample_wisharts(task, 6, generator=generator())
    risks = model.conditional_risk(w, task)
    assert torch.equal(model.conditional_risk(w.reshape(2, 3, 3, 3), task), risks.reshape(2, 3))
    assert model.conditional_risk(w[0], task).item() == pytest.approx(risks[0].item(), rel=ROUNDING)


@pytest.mark.parametrize("dim", [2, 9])
@pytest.mark.parametrize("value_block", ["free", "zero"])
def test_conditional_risk_has_two_derivatives(dim, value_block):
    """In the weights and in W, for both layouts of small matrices; finite differences."""
    task = RegressionTask(dim, 12, noise_variance=0.5)
    model = LinearTransformer(3 if dim == 2 else 2, 1, dim, value_block=value_block, generator=generator(7))
    w = sample_wisharts(task, 2, generator=generator(8)).requires_grad_()
    call = method(model, "conditional_risk")

    def risks(w, *parameters):
        return call(*parameters, inputs=(w, task))

    inputs = (w, *model.parameters())
    assert torch.autograd.gradcheck(risks, inputs, fast_mode=dim == 9)
    if dim == 2:
        assert torch.autograd.gradgradcheck(risks, inputs, fast_mode=True)


# Mean risk


@given(st.data())
@settings(max_examples=80)
def test_mean_risk_and_its_gradient(data):
    """Value and gradient of the single pass are those of the recursion, for every kind of network and task."""
    task = data.draw(regression_tasks(max_dim=4, laws=("gaussian", "sphere")))
    model = data.draw(networks(task.dim))
    w = sample_wisharts(task, 5, generator=generator(data.draw(seeds)))
    shares = data.draw(st.none() | st.just(torch.tensor([0.1, 0.3, 0.2, 0.15, 0.25], dtype=torch.float64)))
    risks = model.conditional_risk(w, task)
    expected = risks.mean() if shares is None else risks @ shares
    got = model.mean_risk(w, task, shares)
    assert got.item() == pytest.approx(expected.item(), rel=ROUNDING)
    parameters = list(model.parameters())
    want = torch.autograd.grad(expected, parameters, allow_unused=True, materialize_grads=True)
    for a, b in zip(torch.autograd.grad(3 * got, parameters), want, strict=True):
        # Relative to the gradient, or to the risk where the gradient vanishes by symmetry.
        assert (a / 3 - b).norm() <= 10 * ROUNDING * (b.norm() + expected)


@pytest.mark.parametrize("value_block", ["free", "zero"])
def test_mean_risk_in_blocks(value_block, monkeypatch):
    """Blocks of samples, the last one shorter, add up."""
    task, model = task_of(), LinearTransformer(3, 1, 3, value_block=value_block, generator=generator())
    w = sample_wisharts(task, 50, generator=generator())
    whole = model.mean_risk(w, task)
    gradient = torch.autograd.grad(whole, model.key_query)[0]
    monkeypatch.setattr(mean_risk, "BLOCK", 16)
    parts = model.mean_risk(w, task)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-13)  # sums of 50 numbers
    assert torch.allclose(torch.autograd.grad(parts, model.key_query)[0], gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("value_block", "looped"), KINDS)
def test_mean_risk_has_second_derivatives(value_block, looped):
    """The Hessian of the single pass is that of the mean of conditional risks."""
    task = task_of()
    model = LinearTransformer(2, 1, 3, value_block=value_block, looped=looped, generator=generator(9))
    w = sample_wisharts(task, 4, generator=generator(10))
    direction = torch.randn(model.key_query.shape, generator=generator(11), dtype=torch.float64)

    def curvature(risk):
        gradient = torch.autograd.grad(risk, model.key_query, create_graph=True)[0]
        return torch.autograd.grad((gradient * direction).sum(), model.key_query)[0]

    expected = curvature(model.conditional_risk(w, task).mean())
    assert torch.allclose(curvature(model.mean_risk(w, task)), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dim", [3, 9])
@pytest.mark.parametrize("value_block", ["free", "zero"])
def test_ensemble_of_risks(value_block, dim):
    """Stacked runs have the risks and gradients of single ones, on shared W and on their own."""
    task = RegressionTask(dim, 12, covariance=np.diag(np.linspace(0.5, 2, dim)), noise_variance=0.2)
    models = [LinearTransformer(3, 2, dim, value_block=value_block, generator=generator(s)) for s in range(3)]
    w = torch.stack([sample_wisharts(task, 7, generator=generator(s)) for s in range(3)])
    shares = torch.full((7,), 1 / 7, dtype=torch.float64)
    ensemble = Ensemble(models)
    calls = {
        "mean, shared": ensemble.call("mean_risk", w[0], task),
        "mean, weighted": ensemble.call("mean_risk", w[0], task, shares),
        "mean, own": ensemble.call("mean_risk", w, task, in_dims=(0, None)),
        "conditional, shared": ensemble.call("conditional_risk", w[0], task).mean(1),
        "conditional, own": ensemble.call("conditional_risk", w, task, in_dims=(0, None)).mean(1),
    }
    for name, risks in calls.items():
        gradients = torch.autograd.grad(risks.sum(), list(ensemble.parameters().values()))
        for run, model in enumerate(models):
            own = w[run] if "own" in name else w[0]
            expected = model.conditional_risk(own, task).mean()
            assert risks[run].item() == pytest.approx(expected.item(), rel=ROUNDING), name
            want = torch.autograd.grad(expected, [dict(model.named_parameters())[k] for k in ensemble.parameters()])
            for got, gradient in zip(gradients, want, strict=True):
                assert torch.allclose(got[run], gradient, rtol=1e-9, atol=1e-11), name


def test_no_gradient_is_computed_where_none_is_wanted():
    """Under no_grad the mean risk is a plain number."""
    task, model = task_of(), LinearTransformer(2, 1, 3, generator=generator())
    w = sample_wisharts(task, 4, generator=generator())
    with torch.no_grad():
        risk = model.mean_risk(w, task)
    assert not risk.requires_grad
    assert risk.item() == pytest.approx(model.mean_risk(w, task).item(), rel=1e-15)


# Population risk


@pytest.mark.parametrize(("law", "shape"), LAWS)
@pytest.mark.parametrize("noise", [0.0, 0.6])
@pytest.mark.parametrize(("dim", "n"), [(1, 1), (1, 2), (2, 1)])
def test_population_risk_by_enumeration(law, shape, noise, dim, n):
    """Exact, full weights of two heads: every prompt of discrete laws with the moments of the task."""
    task = RegressionTask(dim, n, COVARIANCE[:dim, :dim], WEIGHT_COVARIANCE[:dim, :dim], noise, law, shape)
    model = LinearTransformer(1, 2, dim, full=True, init_scale=0.7, generator=generator(12))
    prompts, weights = references.enumerate_prompts(task, degree=8, weight_degree=4, noise_degree=4)
    errors = references.squared_errors(model.value.detach().numpy(), model.key_query.detach().numpy(), prompts)
    # 1e-12: sums of up to 1e5 products in float64.
    assert model.population_risk(task).item() == pytest.approx(weights @ errors, rel=1e-12)


@pytest.mark.parametrize(("law", "shape"), LAWS)
def test_population_risk_of_full_weights_by_sampling(law, shape):
    """Three dimensions, five examples, two heads: squared errors of the forward pass."""
    task = task_of(law, shape)
    model = LinearTransformer(1, 2, 3, full=True, init_scale=0.3, generator=generator(13))
    prompts = sample_prompts(task, 200_000, generator=generator(14))
    with torch.no_grad():
        errors = (model(prompts) - prompts.targets).square()
        risk = model.population_risk(task)
    assert_within_errors(errors - risk, risk)


@given(regression_tasks(), seeds)
@settings(max_examples=40)
def test_population_risk_of_sparse_weights(task, seed):
    """The published weights have the risk of the one-step predictor with A = −Σ_h K_h, in either parametrisation."""
    model = LinearTransformer(1, 2, task.dim, init_scale=0.5, generator=generator(seed))
    expected = one_step_risk(task, -model.key_query.detach()[0].sum(0).numpy())
    # Two formulas of 1e-13 each, up to the cancellation of the one that is not written as a sum of squares.
    close = {"rel": 1e-10}
    assert model.population_risk(task).item() == pytest.approx(expected, **close)
    full = LinearTransformer(1, 2, task.dim, full=True)
    with torch.no_grad():
        for parameter, matrices in zip(
            (full.value, full.key_query),
            references.embed(model.value.detach().numpy(), model.key_query.detach().numpy()),
            strict=True,
        ):
            parameter.copy_(torch.as_tensor(matrices))
    assert full.population_risk(task).item() == pytest.approx(expected, **close)


@pytest.mark.parametrize(("law", "shape"), LAWS)
def test_population_risk_is_the_mean_of_the_conditional_one(law, shape):
    """The mean over W of the risk given W."""
    task = task_of(law, shape)
    model = LinearTransformer(1, 1, 3, init_scale=0.3, generator=generator(15))
    with torch.no_grad():
        risks = model.conditional_risk(sample_wisharts(task, 40_000, generator=generator(16)), task)
        population = model.population_risk(task)
    assert_within_errors(risks - population, population)


def test_population_risk_does_not_cancel():
    """At n = 10^12 the optimum A = Σ^{-1} has risk tr(ΣΨ)(d+1)/n up to 1/n²: sixteen digits survive."""
    model = LinearTransformer.from_algorithm([np.eye(5)])
    assert model.population_risk(RegressionTask(5, 10**12)).item() == pytest.approx(30e-12, rel=1e-13)


@pytest.mark.parametrize("full", [False, True])
def test_population_risk_has_two_derivatives(full):
    """Finite differences, and the same gradients for stacked runs."""
    task = task_of("gamma", 0.7)
    options = {"full": True} if full else {"value_block": "zero"}
    models = [LinearTransformer(1, 2, 3, init_scale=0.3, generator=generator(s), **options) for s in range(3)]
    ensemble = Ensemble(models)
    names = list(ensemble.parameters())
    risk, inputs = method(models[0], "population_risk", task), tuple(models[0].parameters())
    assert torch.autograd.gradcheck(risk, inputs)
    assert torch.autograd.gradgradcheck(risk, inputs, fast_mode=True)
    risks = ensemble.call("population_risk", task)
    gradients = torch.autograd.grad(risks.sum(), [ensemble.parameters()[name] for name in names])
    for run, model in enumerate(models):
        own = torch.autograd.grad(model.population_risk(task), [dict(model.named_parameters())[n] for n in names])
        for got, want in zip(gradients, own, strict=True):
            assert torch.allclose(got[run], want, rtol=1e-12, atol=1e-12)


# Bad input

MODEL = LinearTransformer(2, 1, 2, generator=generator())
TASK = RegressionTask(2, 3)
W = torch.eye(2, dtype=torch.float64)[None]


@pytest.mark.parametrize("name", ["conditional_risk", "mean_risk"])
@pytest.mark.parametrize(
    ("w", "task", "message"),
    [
        (torch.eye(3, dtype=torch.float64)[None], TASK, "must have shape"),
        (W[..., :1], TASK, "must have shape"),
        (W[0, 0], TASK, "must have shape"),
        (W.numpy(), TASK, "must be a torch.Tensor"),
        (W.long(), TASK, "must be of dtype"),
        (W * math.nan, TASK, "must be finite"),
        (W[:0], TASK, "must have shape"),
        (W, RegressionTask(3, 3), "task must have dim 2 as the model, got 3"),
        (W, None, "task must be a RegressionTask, got None"),
    ],
)
def test_risks_refuse(name, w, task, message):
    """Wishart matrices and tasks that do not fit."""
    with pytest.raises(ValueError, match=message):
        getattr(MODEL, name)(w, task)


def test_risks_refuse_other_weights_of_the_mean():
    """The weights of a mean are one finite number per W."""
    for weights in (torch.ones(2, dtype=torch.float64), torch.full((1,), math.inf, dtype=torch.float64), [1.0]):
        with pytest.raises(ValueError, match="weights must"):
            MODEL.mean_risk(W, TASK, weights)


def test_risks_refuse_models_without_the_form():
    """Full weights have no conditional risk, several layers no closed population risk."""
    full = LinearTransformer(1, 1, 2, full=True)
    for name in ("conditional_risk", "mean_risk"):
        with pytest.raises(ValueError, match=f"{name} needs the published"):
            getattr(full, name)(W, TASK)
    with pytest.raises(ValueError, match="one layer only, got layers=2"):
        MODEL.population_risk(TASK)
    with pytest.raises(ValueError, match="task must have dim 2"):
        full.population_risk(RegressionTask(1, 3))
