"""Textbook predictors against their definitions, prompt by prompt in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.models.regression import (
    gradient_descent,
    least_squares,
    preconditioned_gradient_descent,
    ridge,
    sample_prompts,
)
from plumbline.theory.regression import RegressionTask
from tests.strategies import covariances, generators, orthogonal_matrices, regression_tasks, seeds


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def batches(draw, **options):
    task = draw(regression_tasks(max_dim=4, max_context_length=8, laws=("gaussian",), **options))
    return task, sample_prompts(task, 3, generator=generator(draw(seeds)))


def per_prompt(prompts, weight):
    """Predictions w·x_q with w = weight(x, y) of each prompt."""
    answers = []
    for tokens in prompts.tokens.numpy():
        x, y, query = tokens[:-1, :-1], tokens[:-1, -1], tokens[-1, :-1]
        answers.append(weight(x, y) @ query)
    return np.array(answers)


def assert_close(got, want, tolerance):
    """Relative to the largest answer of the batch."""
    assert np.isfinite(want).all()
    assert np.abs(got.numpy() - want).max() <= tolerance * (1e-3 + np.abs(want).max())


@given(batches(), generators(), st.integers(1, 4))
@settings(max_examples=40)
def test_gradient_descent(batch, rng, steps):
    """Steps on |y − Xw|²/(2n) from zero, with one preconditioner, one each, or none."""
    task, prompts = batch
    d = task.dim
    sizes = rng.uniform(0, 0.2, size=steps)
    matrices = rng.normal(size=(steps, d, d))

    def descend(conditioners):
        def weight(x, y):
            w = np.zeros(d)
            for size, a in zip(sizes, conditioners, strict=True):
                w = w - size * a.T @ (x.T @ (x @ w - y)) / len(y)
            return w

        return per_prompt(prompts, weight)

    # A few products each; residuals may grow by a factor of a hundred and shrink again.
    assert_close(gradient_descent(prompts, sizes), descend([np.eye(d)] * steps), 1e-11)
    got = preconditioned_gradient_descent(prompts, tuple(sizes), matrices[0])
    assert_close(got, descend([matrices[0]] * steps), 1e-11)
    got = preconditioned_gradient_descent(prompts.tokens, torch.as_tensor(sizes), torch.as_tensor(matrices))
    assert_close(got, descend(matrices), 1e-11)


def test_gradient_descent_is_differentiable_in_its_step_sizes():
    """Finite differences."""
    prompts = sample_prompts(RegressionTask(2, 4), 3, generator=generator())
    sizes = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: gradient_descent(prompts, s), sizes)


@given(batches())
@settings(max_examples=40)
def test_least_squares(batch):
    """numpy's lstsq, also for short contexts, and an exact answer where labels have no noise and n ≥ d."""
    task, prompts = batch
    want = per_prompt(prompts, lambda x, y: np.linalg.lstsq(x, y)[0])
    # Both solve by the singular values, whose condition drawn from a Gaussian law is rarely above 1e4.
    assert_close(least_squares(prompts), want, 1e-9)
    if task.noise_variance == 0 and task.context_length >= task.dim:
        assert_close(least_squares(prompts), prompts.targets.numpy(), 1e-9)


@given(batches(), st.data())
@settings(max_examples=40)
def test_metric_of_least_squares(batch, data):
    """Of all solutions the one with least w^T Σ w: w = Σ^{-1} X^T (X Σ^{-1} X^T)^{-1} y where n < d."""
    task, prompts = batch
    sigma = data.draw(covariances(task.dim))
    inverse = np.linalg.inv(sigma)
    got = least_squares(prompts, metric=sigma)
    if task.context_length >= task.dim:
        # The solution is unique, the metric irrelevant; whitening costs its condition, up to 10.
        assert_close(got, least_squares(prompts).numpy(), 1e-8)
    else:
        want = per_prompt(prompts, lambda x, y: inverse @ x.T @ np.linalg.solve(x @ inverse @ x.T, y))
        assert_close(got, want, 1e-8)


def test_least_squares_of_repeated_examples():
    """Rank decides, not the number of examples: the same example twice is one example."""
    tokens = sample_prompts(RegressionTask(3, 2), 4, generator=generator()).tokens
    doubled = torch.cat([tokens[:, :-1], tokens], dim=1)
    assert torch.allclose(least_squares(doubled), least_squares(tokens), rtol=1e-10, atol=1e-12)


@given(batches(), st.data(), st.floats(1e-3, 1e3))
@settings(max_examples=40)
def test_ridge(batch, data, penalty):
    """The normal equations (W + λ Σ) w = r."""
    task, prompts = batch
    sigma = data.draw(st.none() | covariances(task.dim))
    matrix = np.eye(task.dim) if sigma is None else sigma

    def weight(x, y):
        return np.linalg.solve(x.T @ x / len(y) + penalty * matrix, x.T @ y / len(y))

    # The normal equations have condition up to 1e5 here.
    assert_close(ridge(prompts, penalty, metric=sigma), per_prompt(prompts, weight), 1e-9)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_ridge_of_no_penalty_is_least_squares(n):
    """λ → 0 gives the least-squares answer, smallest norm included, without loss of digits."""
    prompts = sample_prompts(RegressionTask(3, n, noise_variance=0.5), 20, generator=generator(n))
    want = least_squares(prompts)
    # The bias is λ over the squared singular values of X/√n: 1e-14 over at least 1e-4.
    assert torch.allclose(ridge(prompts, 1e-14), want, rtol=1e-8, atol=1e-8)
    assert ridge(prompts, 1e14).abs().max() < 1e-11


@given(batches(), st.data())
@settings(max_examples=20)
def test_rotation_invariance(batch, data):
    """Without a metric all predictors but preconditioned descent are blind to the basis of the covariates."""
    task, prompts = batch
    u = torch.as_tensor(data.draw(orthogonal_matrices(task.dim)))
    rotated = torch.cat([prompts.tokens[..., :-1] @ u.T, prompts.tokens[..., -1:]], dim=-1)
    for predict in (lambda p: gradient_descent(p, [0.1, 0.2]), least_squares, lambda p: ridge(p, 0.3)):
        assert_close(predict(rotated), predict(prompts).numpy(), 1e-8)


def test_single_precision():
    """Tokens of single precision give answers of single precision, whatever the other arguments are."""
    prompts = sample_prompts(RegressionTask(2, 4), 3, generator=generator(), dtype=torch.float32)
    for answer in (
        gradient_descent(prompts, np.array([0.1])),
        preconditioned_gradient_descent(prompts, [0.1], np.eye(2)),
        least_squares(prompts, metric=np.eye(2)),
        ridge(prompts, 0.1, metric=np.eye(2)),
    ):
        assert answer.dtype == torch.float32


PROMPTS = sample_prompts(RegressionTask(2, 3), 2, generator=generator())
BAD_TOKENS = PROMPTS.tokens * math.nan


@pytest.mark.parametrize(
    ("predict", "message"),
    [
        (lambda: gradient_descent(PROMPTS, []), "step_sizes must have shape"),
        (lambda: gradient_descent(PROMPTS, [[0.1]]), "step_sizes must have shape"),
        (lambda: gradient_descent(PROMPTS, [math.inf]), "step_sizes must be finite"),
        (lambda: gradient_descent(PROMPTS, "fast"), "step_sizes must be a real array"),
        (lambda: gradient_descent(PROMPTS, None), "step_sizes must have shape"),
        (lambda: gradient_descent(PROMPTS, [1j]), "step_sizes must be a real array"),
        (lambda: gradient_descent(BAD_TOKENS, [0.1]), "prompts must be finite"),
        (lambda: gradient_descent("prompts", [0.1]), "prompts must be a torch.Tensor"),
        (lambda: preconditioned_gradient_descent(PROMPTS, [0.1], np.eye(3)), "preconditioner must have shape"),
        (lambda: preconditioned_gradient_descent(PROMPTS, [0.1], [np.eye(2)] * 2), "preconditioner must have shape"),
        (lambda: preconditioned_gradient_descent(PROMPTS, [0.1], [1.0, 1.0]), "preconditioner must have shape"),
        (lambda: preconditioned_gradient_descent(PROMPTS, [0.1], np.eye(2) * np.nan), "preconditioner must be finite"),
        (lambda: preconditioned_gradient_descent(PROMPTS, [0.1], "identity"), "preconditioner must be a real array"),
        (lambda: least_squares(BAD_TOKENS), "prompts must be finite"),
        (lambda: least_squares(PROMPTS, metric=np.eye(3)), "metric must have shape"),
        (lambda: least_squares(PROMPTS, metric=np.diag([1.0, -1.0])), "metric must be positive definite"),
        (lambda: least_squares(PROMPTS, metric=[[1.0, 0.5], [0.0, 1.0]]), "metric must be symmetric"),
        (lambda: ridge(PROMPTS, 0.0), "penalty must be greater than 0"),
        (lambda: ridge(PROMPTS, math.nan), "penalty must be finite"),
        (lambda: ridge(PROMPTS, "much"), "penalty must be a real number"),
        (lambda: ridge(PROMPTS, 1.0, metric=np.zeros((2, 2))), "metric must be positive definite"),
        (lambda: ridge(BAD_TOKENS, 1.0), "prompts must be finite"),
    ],
)
def test_predictors_refuse(predict, message):
    """Every argument is checked, with its name in the message."""
    with pytest.raises(ValueError, match=message):
        predict()
