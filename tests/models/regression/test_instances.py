"""What matters of a prompt: the same errors as token by token, and the same law."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.models.ensemble import Ensemble
from plumbline.models.regression import (
    Instances,
    LinearTransformer,
    instances_of,
    prediction_errors,
    sample_instances,
    sample_prompts,
)
from plumbline.theory.regression import RegressionTask
from tests.strategies import regression_tasks, seeds

# Float64 recursions of a few layers in another order of operations.
ROUNDING = 1e-11
TASK = RegressionTask(3, 8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40)
@given(
    task=regression_tasks(noise=st.just(0.0)),
    layers=st.integers(1, 6),
    heads=st.integers(1, 2),
    value_block=st.sampled_from(["free", "zero"]),
    looped=st.booleans(),
    seed=seeds,
)
def test_errors_are_those_of_the_forward_pass(task, layers, heads, value_block, looped, seed):
    """Any task without noise, any published weights; with the weights shared by the batch or one set for each."""
    draws = generator(seed)
    model = LinearTransformer(
        layers, heads, task.dim, value_block=value_block, looped=looped, init_scale=0.05, generator=draws
    )
    prompts = sample_prompts(task, 6, generator=draws)
    expected = model(prompts) - prompts.targets
    instances = instances_of(prompts)
    own = [None if p is None else p.unsqueeze(-1).expand(*p.shape, 6) for p in (model.key_query, model.value)]
    scale = expected.abs().max().item() + 1e-12
    for got in (
        prediction_errors(instances, model.key_query, model.value, layers),
        prediction_errors(instances, *own, layers, own=True),
    ):
        assert (got - expected).abs().max().item() <= ROUNDING * max(scale, prompts.targets.abs().max().item())


def test_runs_in_front_are_the_runs_alone():
    """Axes in front of weights and instances are independent runs."""
    modules = [LinearTransformer(3, 2, 3, init_scale=0.2, generator=generator(i)) for i in range(4)]
    drawn = [sample_instances(TASK, 5, generator=generator(10 + i)) for i in range(4)]
    stacked = Instances(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))
    together = prediction_errors(stacked, **Ensemble(modules).parameters(), layers=3)
    for run, (module, instances) in enumerate(zip(modules, drawn, strict=True)):
        alone = prediction_errors(instances, module.key_query, module.value, 3)
        torch.testing.assert_close(together[run], alone, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize(("law", "shape"), [("gaussian", None), ("sphere", None), ("gamma", 0.7)])
def test_instances_have_the_law_of_prompts(law, shape):
    """Squared errors average to the conditional risk, whose expectation is over the same W."""
    weight_covariance = np.array([[0.5, 0.1, 0.0], [0.1, 1.5, 0.4], [0.0, 0.4, 1.0]])
    task = replace(TASK, covariate_law=law, gamma_shape=shape, weight_covariance=weight_covariance)
    model = LinearTransformer(2, 1, 3, init_scale=0.1, generator=generator(1))
    instances = sample_instances(task, 40_000, generator=generator(2))
    with torch.no_grad():
        errors = prediction_errors(instances, model.key_query, model.value, 2).square()
        risks = model.conditional_risk(instances.wisharts, task)
    difference = errors - risks
    error = difference.std().item() / math.sqrt(len(difference))
    # A false alarm in two million.
    assert abs(difference.mean().item()) < 5 * error
    assert error < 0.05 * risks.mean().item()


def test_the_same_state_draws_the_same_instances():
    """All randomness comes from the generator."""
    first, second = (sample_instances(TASK, 3, generator=generator(4)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_derivatives_of_any_order():
    """First and second derivatives in the weights, against finite differences."""
    instances = sample_instances(RegressionTask(2, 4), 3, generator=generator())
    weights = [0.3 * torch.randn(3, 2, 2, 2, generator=generator(i), dtype=torch.float64) for i in range(2)]
    inputs = [weight.requires_grad_() for weight in weights]
    assert torch.autograd.gradgradcheck(lambda k, b: prediction_errors(instances, k, b, 3), inputs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sample_instances(replace(TASK, noise_variance=0.1), 3, generator=generator()),
            "task must have noise_variance 0 for instances, got 0.1",
        ),
        (lambda: sample_instances(TASK, 0, generator=generator()), "batch must be"),
        (lambda: instances_of(torch.ones(2, 3, 4)), "prompts must be Prompts"),
        (
            lambda: instances_of(sample_prompts(replace(TASK, noise_variance=1.0), 3, generator=generator())),
            "prompts must be free of label noise",
        ),
        (
            lambda: prediction_errors(
                sample_instances(TASK, 2, generator=generator()), torch.ones(3, 1, 3, 3), None, 2
            ),
            "key_query must have 2 layers or one for all, got shape (3, 1, 3, 3)",
        ),
        (
            lambda: prediction_errors(
                sample_instances(TASK, 2, generator=generator()), torch.ones(2, 1, 2, 2), None, 2
            ),
            "wisharts must have shape (..., any, 2, 2), got shape (2, 3, 3)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    """The error says which argument, its value and what is allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
