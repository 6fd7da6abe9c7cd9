"""Moments of trace words: against Wick pairings in rationals, Wishart moments, enumeration and another law's radii."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.regression import RegressionTask, wishart_moment
from plumbline.theory.regression.trace_words import radial_factor, trace_word_mean
from tests import references
from tests.strategies import generators, regression_tasks

SHAPES = [(1,), (2,), (1, 1), (3,), (2, 1), (1, 1, 1), (4,), (3, 1), (2, 2), (2, 1, 1), (1, 1, 1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_equals_wick_pairings_in_rationals(shape, n):
    """Gaussian covariates, integer matrices that do not commute, a covariance: every pairing, exactly."""
    rng = np.random.default_rng(len(shape) + n)
    covariance = np.array([[2, 1], [1, 3]])
    words = [[rng.integers(-3, 4, size=(2, 2)) for _ in range(length)] for length in shape]
    expected = references.wick_moment(
        [[matrix.astype(object) for matrix in word] for word in words], covariance.astype(object), n
    ) / Fraction(n) ** sum(shape)
    mean = trace_word_mean(words, RegressionTask(2, n, covariance))
    assert mean == pytest.approx(float(expected), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dim", "n"), [(1, 1), (5, 20), (6, 2)])
def test_identity_words_are_wishart_moments(shape, dim, n):
    """With M = I the mean is the exact mixed moment of the Wishart law."""
    words = [[np.eye(dim)] * length for length in shape]
    expected = wishart_moment(shape, dim, n) / Fraction(n) ** sum(shape)
    assert trace_word_mean(words, RegressionTask(dim, n)) == pytest.approx(float(expected), rel=1e-13)


@pytest.mark.parametrize(("law", "gamma_shape"), [("gaussian", None), ("sphere", None), ("gamma", 0.7), ("gamma", 3.0)])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_equals_enumeration_of_samples(law, gamma_shape, shape, n):
    """Every law with equal moments, sample by sample: in two dimensions to two samples, in one to three."""
    dim = 1 if n == 3 else 2
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])[:dim, :dim]
    task = RegressionTask(dim, n, covariance, covariate_law=law, gamma_shape=gamma_shape)
    points, probabilities = references.product_rule([references.covariate_rule(task, 8)] * n)
    x = np.stack(points, axis=1)
    grams = np.swapaxes(x, 1, 2) @ x / n
    rng = np.random.default_rng(len(shape))
    words = [[rng.normal(size=(dim, dim)) for _ in range(length)] for length in shape]
    product = np.ones(len(grams))
    for word in words:
        chain = np.eye(dim)
        for matrix in word:
            chain = chain @ matrix @ grams
        product = product * np.trace(chain, axis1=1, axis2=2)
    scale = probabilities @ np.abs(product)
    assert trace_word_mean(words, task) == pytest.approx(probabilities @ product, abs=1e-12 * scale)


@given(task=regression_tasks(), rng=generators(), shape=st.sampled_from(SHAPES))
def test_transposed_and_turned_words_have_the_same_mean(task, rng, shape):
    """tr(M₁ W M₂ W) equals its cyclic shifts and its transpose, and words commute."""
    words = [[rng.normal(size=(task.dim, task.dim)) for _ in range(length)] for length in shape]
    mean = trace_word_mean(words, task)
    scale = 1e-10 * trace_word_mean([[m @ m.T + np.eye(task.dim) for m in word] for word in words], task)
    shifted = [word[1:] + word[:1] for word in words]
    assert trace_word_mean(shifted, task) == pytest.approx(mean, rel=1e-9, abs=scale)
    transposed = [[matrix.T for matrix in word[::-1]] for word in words]
    assert trace_word_mean(transposed, task) == pytest.approx(mean, rel=1e-9, abs=scale)
    assert trace_word_mean(words[::-1], task) == pytest.approx(mean, rel=1e-9, abs=scale)


@given(task=regression_tasks())
def test_radial_factors(task):
    """g₁ and g₂ are k1 and k2; g₀ = 1."""
    k1, k2 = task.radial_moments
    assert radial_factor(task, 0) == 1
    assert radial_factor(task, 1) == pytest.approx(k1, rel=1e-14)
    assert radial_factor(task, 2) == pytest.approx(k2, rel=1e-13)


def test_normal_radii_are_gaussian():
    """Gamma radii of shape 5/2 in five dimensions are the normal law, to every moment."""
    gamma = RegressionTask(5, 3, covariate_law="gamma", gamma_shape=2.5)
    for power in range(5):
        assert radial_factor(gamma, power) == pytest.approx(1, rel=1e-14)


def test_too_many_factors():
    """Five factors are refused, with the number."""
    with pytest.raises(ValueError, match="words must have at most 4 factors in total, got 5"):
        trace_word_mean([[np.eye(2)] * 3, [np.eye(2)] * 2], RegressionTask(2, 5))
