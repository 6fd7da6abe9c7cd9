"""Weighted samples of Wishart matrices that stand for the population."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.models.regression import LinearTransformer, WishartDesign, wishart_design
from plumbline.models.regression.design import _nearest_weights
from plumbline.theory.regression import (
    RegressionTask,
    gd_plus_plus_optimum,
    multi_step_optimum,
    noisy_multi_step_optimum,
    spectral_moments,
)
from tests.strategies import covariances, seeds

COVARIANCE = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, -0.3], [0.1, -0.3, 0.5]])
# Moments are matched to rounding; high ones have a condition of a hundred.
MATCHED = 1e-12


def moments_of(design, count):
    """Weighted spectral moments (1/d) tr V^k, k < count."""
    eigenvalues = torch.linalg.eigvalsh(design.wisharts).numpy()
    return [design.weights.numpy() @ (eigenvalues**k).mean(1) for k in range(count)]


@pytest.mark.parametrize(
    ("dim", "n", "degree", "base"),
    [
        (5, 20, 2, 30),
        (5, 20, 4, 60),
        (5, 20, 8, 1000),
        (5, 5, 6, 1000),
        (5, 2, 4, 500),
        (1, 3, 4, 500),
        (10, 20, 6, 60),
    ],
)
def test_spectral_moments_are_exact(dim, n, degree, base):
    """The weighted moments are those of the population up to the degree, with positive weights."""
    design = wishart_design(RegressionTask(dim, n), base, degree=degree, seed=1)
    assert isinstance(design, WishartDesign)
    assert design.wisharts.shape == (base * dim * 2 ** (dim - 1).bit_length(), dim, dim)
    assert (design.weights > 0).all()
    exact = [float(moment) for moment in spectral_moments(dim, n, degree + 1)]
    assert np.allclose(moments_of(design, degree + 1), exact, rtol=MATCHED, atol=0)


def test_weights_of_a_sample_that_has_the_moments_already():
    """A residual of exactly zero is an end of the search, not the lack of one (it was, where rounding was kind)."""
    prior = np.array([0.5, 0.5])
    assert _nearest_weights(np.array([[0.5], [1.5]]), [Fraction(1), Fraction(1)], prior) == pytest.approx(prior)


@given(st.integers(1, 6), seeds)
@settings(max_examples=15)
def test_means_of_polynomials_are_multiples_of_the_identity(dim, seed):
    """Whatever the matched degree, V^k has a scalar weighted mean for every k."""
    design = wishart_design(RegressionTask(dim, dim + 3), 30, degree=1, seed=seed)
    for power in (1, 2, 5):
        mean = torch.einsum("b,bij->ij", design.weights, torch.linalg.matrix_power(design.wisharts, power))
        scale = mean.trace() / dim
        # Sums over up to 1,500 images, each with rounding relative to the largest.
        assert (mean - scale * torch.eye(dim, dtype=torch.float64)).abs().max() < 1e-11 * scale


@given(covariances(3), seeds)
@settings(max_examples=10)
def test_covariance_of_the_task(covariance, seed):
    """W = S^{1/2} V S^{1/2} up to a rotation of V: the mean is S."""
    design = wishart_design(RegressionTask(3, 9, covariance=covariance), 20, degree=1, seed=seed)
    mean = torch.einsum("b,bij->ij", design.weights, design.wisharts).numpy()
    assert np.allclose(mean, covariance, rtol=0, atol=1e-12 * np.abs(covariance).max())


def test_degree_zero_is_a_plain_sample():
    """Equal weights, moments of the law up to sampling."""
    design = wishart_design(RegressionTask(3, 8), 4000, degree=0, seed=2)
    assert (design.weights == design.weights[0]).all()
    traces = design.wisharts[:: 3 * 4].diagonal(dim1=1, dim2=2).sum(-1)
    # 3/n Var: Var tr V = 2 d/n = 0.75; five standard errors of 4,000 draws.
    assert abs(traces.mean() - 3) < 5 * (0.75 / 4000) ** 0.5
    assert abs(traces.var() - 0.75) < 5 * 0.75 * (2 / 4000) ** 0.5 * 2


def test_zero_value_block_is_stationary_at_the_optimum():
    """At the scalar optimum of two steps the risk is the exact one and no weight can move: every entry's gradient."""
    task = RegressionTask(3, 7, covariance=COVARIANCE, weight_covariance=np.linalg.inv(COVARIANCE))
    optimum = multi_step_optimum(2, 3, 7)
    design = wishart_design(task, 100, degree=4, seed=3)
    inverse = np.linalg.inv(COVARIANCE)
    for order in itertools.permutations(optimum.step_sizes):
        model = LinearTransformer.from_algorithm([step * inverse for step in order])
        risk = model.mean_risk(design.wisharts, task, design.weights)
        assert risk.item() == pytest.approx(optimum.loss, rel=1e-11)
        # Gradient of a quartic polynomial in entries of size one, sums of 1,200 terms.
        assert torch.autograd.grad(risk, model.key_query)[0].abs().max() < 1e-11


def test_free_value_block_is_stationary_at_the_optimum():
    """The same for GD++ of two layers, whose risk has degree eight."""
    task = RegressionTask(3, 10, covariance=COVARIANCE, weight_covariance=np.linalg.inv(COVARIANCE))
    optimum = gd_plus_plus_optimum(2, 3, 10)
    design = wishart_design(task, 1000, degree=8, seed=4)
    inverse = np.linalg.inv(COVARIANCE)
    model = LinearTransformer.from_algorithm(
        [step * inverse for step in optimum.step_sizes], value_blocks=[b * np.eye(3) for b in optimum.shrinkages]
    )
    risk = model.mean_risk(design.wisharts, task, design.weights)
    assert risk.item() == pytest.approx(optimum.loss, rel=1e-10)
    # The theory's optimum is found numerically: its own residual is of the order of 1e-8.
    for gradient in torch.autograd.grad(risk, list(model.parameters())):
        assert gradient.abs().max() < 1e-6


def test_label_noise_and_any_weight_covariance():
    """The exact risk of scalar steps, with noise, where Ψ is not Σ^{-1}."""
    noisy = RegressionTask(3, 8, weight_covariance=COVARIANCE * 3 / np.trace(COVARIANCE), noise_variance=0.7)
    optimum = noisy_multi_step_optimum(2, 3, 8, 0.7)
    design = wishart_design(noisy, 100, degree=4, seed=5)
    model = LinearTransformer.from_algorithm([step * np.eye(3) for step in optimum.step_sizes])
    risk = model.mean_risk(design.wisharts, noisy, design.weights)
    assert risk.item() == pytest.approx(optimum.loss, rel=1e-10)


def test_seed_decides():
    """The same seed gives the same design, another seed another one."""
    task = RegressionTask(2, 5)
    first, again, other = (wishart_design(task, 40, degree=2, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.wisharts, again.wisharts)
    assert torch.equal(first.weights, again.weights)
    assert not torch.equal(first.wisharts, other.wisharts)


@pytest.mark.parametrize(
    ("task", "base", "degree", "seed", "message"),
    [
        (RegressionTask(5, 20), 5, 8, 0, "base must be larger for positive weights .* up to degree 8 .*, got 5"),
        (RegressionTask(5, 20), 1, 1, 0, "base must be larger"),
        (RegressionTask(1, 1), 20, 12, 0, "base must be larger"),
        (RegressionTask(2, 5), 0, 2, 0, "base must be at least 1, got 0"),
        (RegressionTask(2, 5), 9.5, 2, 0, "base must be an integer"),
        (RegressionTask(2, 5), 9, -1, 0, "degree must be at least 0"),
        (RegressionTask(2, 5), 9, 41, 0, "degree must be at most 40"),
        (RegressionTask(2, 5), 9, 2, -1, "seed must be at least 0"),
        (RegressionTask(2, 5), 9, 2, None, "seed must be an integer"),
        (RegressionTask(2, 5, covariate_law="sphere"), 9, 2, 0, "task must have Gaussian covariates .*'sphere'"),
        ((2, 5), 9, 2, 0, "task must be a RegressionTask"),
    ],
)
def test_design_refuses(task, base, degree, seed, message):
    """Bad arguments, and moments out of reach of so few draws."""
    with pytest.raises(ValueError, match=message):
        wishart_design(task, base, degree=degree, seed=seed)
