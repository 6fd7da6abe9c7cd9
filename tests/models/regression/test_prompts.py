"""Prompts and Wishart matrices follow the laws of their task."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from scipy import stats

from plumbline.models.regression import Prompts, gram, prompts, sample_prompts, sample_wisharts
from plumbline.theory.regression import RegressionTask
from tests.strategies import regression_tasks, seeds

COVARIANCE = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
WEIGHT_COVARIANCE = np.array([[0.5, 0.1, 0.0], [0.1, 1.5, 0.4], [0.0, 0.4, 1.0]])
LAWS = [("gaussian", None), ("sphere", None), ("gamma", 0.4)]
# Means of at least 20,000 draws are held to 5 standard errors: a false alarm in 2 million per number compared.
ERRORS = 5


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def task_of(law, shape, **changes):
    options = {"covariance": COVARIANCE, "weight_covariance": WEIGHT_COVARIANCE, "noise_variance": 0.3, **changes}
    return RegressionTask(3, options.pop("context_length", 4), covariate_law=law, gamma_shape=shape, **options)


def assert_mean(values, expected):
    """The mean over the first axis meets the expected value in every entry."""
    values = values.numpy()
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    off = np.abs(values.mean(0) - expected) / np.maximum(error, 1e-14)
    assert off.max() < ERRORS, f"{off.max():.1f} standard errors: {values.mean(0)} against {expected}"


@given(regression_tasks(), seeds)
@settings(max_examples=40)
def test_a_prompt_is_what_its_task_says(task, seed):
    """Shapes, the empty label of the query, targets, and noise-free labels y = w·x."""
    drawn = sample_prompts(task, 3, generator=generator(seed))
    n, d = task.context_length, task.dim
    assert drawn.tokens.shape == (3, n + 1, d + 1)
    assert drawn.weights.shape == (3, d)
    assert drawn.targets.shape == (3,)
    assert drawn.tokens.dtype == torch.float64
    assert (drawn.tokens[:, n, d] == 0).all()
    labels = torch.einsum("bni,bi->bn", drawn.tokens[..., :d], drawn.weights)
    # One matrix product in another order: a few eps of the terms' size.
    scale = (drawn.tokens[..., :d].norm(dim=-1) * drawn.weights.norm(dim=-1, keepdim=True)).max()
    assert torch.allclose(labels[:, n], drawn.targets, rtol=0, atol=1e-14 * scale)
    if task.noise_variance == 0:
        assert torch.allclose(labels[:, :n], drawn.tokens[:, :n, d], rtol=0, atol=1e-14 * scale)


@pytest.mark.parametrize(("law", "shape"), LAWS)
def test_moments_of_prompts(law, shape):
    """E x x^T = Σ for examples and query, E w w^T = Ψ, noise variance, and no correlation between them."""
    task = task_of(law, shape)
    tokens, weights, targets = sample_prompts(task, 40_000, generator=generator(1))
    x, y, query = tokens[:, :-1, :-1], tokens[:, :-1, -1], tokens[:, -1, :-1]
    noise = y - torch.einsum("bni,bi->bn", x, weights)
    assert_mean(x[:, 2, :, None] * x[:, 2, None, :], task.second_moment)
    assert_mean(query[:, :, None] * query[:, None, :], task.second_moment)
    assert_mean(weights[:, :, None] * weights[:, None, :], WEIGHT_COVARIANCE)
    assert_mean(noise**2, np.full(4, 0.3))
    assert_mean(noise[:, 0] * noise[:, 1], 0.0)
    assert_mean(x[:, 0, :, None] * x[:, 1, None, :], np.zeros((3, 3)))
    assert_mean(noise[:, 0, None] * x[:, 0], np.zeros(3))
    assert_mean(targets**2, task.signal)


def test_radii():
    """In the frame of z: the sphere has |z| = 1, the gamma law |z|² ~ Gamma(k, sqrt(10/k)), k = 5/2 in d = 5 chi²."""
    root = np.linalg.inv(np.linalg.cholesky(COVARIANCE))
    sphere = sample_prompts(task_of("sphere", None), 1000, generator=generator()).tokens[:, 0, :3].numpy() @ root.T
    # A triangular solve of condition below 10.
    assert np.abs(np.linalg.norm(sphere, axis=1) - 1).max() < 1e-13
    gamma = sample_prompts(task_of("gamma", 0.4), 20_000, generator=generator()).tokens[:, 1, :3].numpy() @ root.T
    # Kolmogorov-Smirnov: the p-value of a right sampler is below 1e-4 once in 10,000 seeds; the seed is fixed.
    assert stats.kstest(np.sum(gamma**2, axis=1), stats.gamma(0.4, scale=5.0).cdf).pvalue > 1e-4
    plain = RegressionTask(5, 1, covariate_law="gamma", gamma_shape=2.5)
    z = sample_prompts(plain, 20_000, generator=generator()).tokens[:, 0, :5].numpy()
    assert stats.kstest(z[:, 3], stats.norm.cdf).pvalue > 1e-4


@pytest.mark.parametrize("n", [3, 7])
def test_bartlett_matches_direct_sums(n):
    """First and second moments of W by Bartlett's decomposition are those of (1/n) Σ x x^T, exact values."""
    task = RegressionTask(3, n, covariance=COVARIANCE)
    w = sample_wisharts(task, 60_000, generator=generator(3))
    assert_mean(w, COVARIANCE)
    # E W_ij W_kl = S_ij S_kl + (S_ik S_jl + S_il S_jk)/n.
    s = COVARIANCE
    pairs = np.einsum("ik,jl->ijkl", s, s) + np.einsum("il,jk->ijkl", s, s)
    assert_mean(torch.einsum("bij,bkl->bijkl", w, w), np.einsum("ij,kl->ijkl", s, s) + pairs / n)
    direct = sample_prompts(task, 60_000, generator=generator(4)).tokens[:, :-1, :-1]
    direct = direct.mT @ direct / n
    for power in (2, 3):
        a, b = torch.linalg.matrix_power(w, power), torch.linalg.matrix_power(direct, power)
        error = ((a.var(0) + b.var(0)) / 60_000).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() / error).max() < ERRORS


@pytest.mark.parametrize("n", [5, 8, 10**6])
def test_bartlett_pivots(n):
    """The pivots of n W are independent chi² of n, n-1, …, n-d+1 degrees, also where they are large."""
    w = sample_wisharts(RegressionTask(5, n), 4000, generator=generator(5))
    pivots = n * torch.linalg.cholesky(w).diagonal(dim1=1, dim2=2).numpy() ** 2
    for i in range(5):
        assert stats.kstest(pivots[:, i], stats.chi2(n - i).cdf).pvalue > 1e-4
    assert np.abs(np.corrcoef(pivots.T) - np.eye(5)).max() < ERRORS / math.sqrt(4000)


def test_wisharts_are_symmetric_and_deficient_for_short_contexts():
    """W is exactly symmetric, and of rank n < d where the context is short."""
    w = sample_wisharts(RegressionTask(5, 20), 50, generator=generator())
    assert (w == w.mT).all()
    w = sample_wisharts(RegressionTask(4, 2, covariance=np.diag([1.0, 2, 3, 4])), 50, generator=generator())
    assert (torch.linalg.matrix_rank(w, hermitian=True) == 2).all()


@pytest.mark.parametrize(("law", "shape"), LAWS[1:])
def test_wisharts_of_other_laws(law, shape, monkeypatch):
    """They are sums over blocks of examples, with E W = Σ; on the sphere tr V = 1 whatever the blocks."""
    monkeypatch.setattr(prompts, "BLOCK", 100_000)
    task = task_of(law, shape, context_length=7)
    w = sample_wisharts(task, 20_000, generator=generator(6))
    assert_mean(w, task.second_moment)
    if law == "sphere":
        traces = torch.linalg.solve(torch.as_tensor(COVARIANCE), w).diagonal(dim1=1, dim2=2).sum(-1)
        assert (traces - 1).abs().max() < 1e-12  # solves of condition below 10


@given(regression_tasks(max_dim=3, max_context_length=8), seeds)
@settings(max_examples=30)
def test_same_seed_same_data(task, seed):
    """The state of the generator decides the draws, and another seed gives others."""
    for sample in (
        lambda g: sample_prompts(task, 2, generator=g).tokens,
        lambda g: sample_wisharts(task, 2, generator=g),
    ):
        assert torch.equal(sample(generator(seed)), sample(generator(seed)))
    first = sample_prompts(task, 2, generator=generator(seed))
    other = sample_prompts(task, 2, generator=generator(seed + 1))
    assert not torch.equal(first.weights, other.weights)


def test_large_dimension_uses_the_usual_layout():
    """Twelve dimensions: the same law, stored sample by sample."""
    covariance = np.diag(np.arange(1.0, 13))
    w = sample_wisharts(RegressionTask(12, 30, covariance=covariance), 20_000, generator=generator())
    assert_mean(w, covariance)


def test_gram_matrix():
    """G collects W, r and the mean square of the labels, the query left out."""
    drawn = sample_prompts(task_of("gaussian", None), 2, generator=generator())
    for tokens, result in zip(drawn.tokens, gram(drawn), strict=True):
        expected = sum(np.outer(z, z) for z in tokens[:-1].numpy()) / 4
        assert np.allclose(result, expected, rtol=1e-14, atol=1e-14)  # four products added in another order
    assert torch.equal(gram(drawn), gram(drawn.tokens))


def test_float32():
    """Single precision stays single precision."""
    task = task_of("gamma", 0.4)
    assert sample_prompts(task, 2, generator=generator(), dtype=torch.float32).tokens.dtype == torch.float32
    assert sample_wisharts(task, 2, generator=generator(), dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("sample", [sample_prompts, sample_wisharts])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "gaussian"}, "task must be a RegressionTask"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"batch": 2.5}, "batch must be an integer"),
        ({"generator": None}, "generator must be a torch.Generator, got None"),
        ({"generator": 7}, "generator must be a torch.Generator, got 7"),
        ({"dtype": torch.int64}, "dtype must be one of"),
        ({"dtype": "float64"}, "dtype must be one of"),
        ({"device": "abacus"}, "device must name a torch device, got 'abacus'"),
    ],
)
def test_samplers_refuse(sample, change, message):
    """Every argument is checked, with its name and value in the message."""
    options = {"task": RegressionTask(2, 3), "batch": 4, "generator": generator(), **change}
    with pytest.raises(ValueError, match=message):
        sample(options.pop("task"), options.pop("batch"), **options)


@pytest.mark.parametrize(
    "tokens",
    [
        torch.zeros(3, 4),
        torch.zeros(2, 1, 4),
        torch.zeros(2, 3, 1),
        torch.zeros(0, 3, 3),
        torch.full((1, 2, 2), math.nan),
    ],
)
def test_gram_refuses(tokens):
    """Tokens need a batch, an example, a query and a covariate, all finite."""
    with pytest.raises(ValueError, match="prompts must"):
        gram(Prompts(tokens, tokens, tokens))
