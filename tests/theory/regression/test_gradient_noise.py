"""The noise of gradients: exact rationals, enumeration of prompts, samples, symmetries."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.regression import (
    GradientNoise,
    RegressionTask,
    gradient_noise,
    gradient_noise_at_zero,
    one_layer_gradient,
    wishart_moment,
)
from tests import references
from tests.strategies import orthogonal_matrices, regression_tasks, square_matrices

COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
WEIGHT_COVARIANCE = np.array([[0.7, -0.3], [-0.3, 0.4]])
MATRIX = np.array([[0.5, 0.3], [-0.2, 0.4]])
LAWS = [("gaussian", None), ("sphere", None), ("gamma", 0.7), ("gamma", 3.0)]


def isotropic_second_moment(a, d, n):
    """4 (d+2) E[tr(I−aW)² tr W² + 2 tr (I−aW)² W²] in rationals, Σ = Ψ = I."""

    def word(*powers):
        return wishart_moment(powers, d, n) / Fraction(n) ** sum(powers)

    separate = word(0, 2) - 2 * a * word(1, 2) + a**2 * word(2, 2)
    joint = word(2) - 2 * a * word(3) + a**2 * word(4)
    return 4 * (d + 2) * (separate + 2 * joint)


@pytest.mark.parametrize(
    ("n", "a", "second", "mean"),
    [
        (20, Fraction(0), Fraction(1274), Fraction(20)),
        (20, Fraction(1, 2), Fraction(1323, 4), Fraction(49, 20)),
        (20, Fraction(10, 13), Fraction(49294, 169), Fraction(0)),
        (5, Fraction(0), Fraction(2156), Fraction(20)),
        (5, Fraction(1, 2), Fraction(6321, 5), Fraction(1, 5)),
        (5, Fraction(10, 13), Fraction(39004, 13), Fraction(1620, 169)),
    ],
)
def test_isotropic_rationals(n, a, second, mean):
    """d = 5, A = aI (checked independently: two million prompts)."""
    assert isotropic_second_moment(a, 5, n) == second
    assert 20 * (1 - a * Fraction(n + 6, n)) ** 2 == mean
    noise = gradient_noise(RegressionTask(5, n), float(a) * np.eye(5))
    assert noise.second_moment == pytest.approx(float(second), rel=1e-12)
    assert noise.mean_square == pytest.approx(float(mean), rel=1e-12, abs=1e-12)


@given(dim=st.integers(1, 8), n=st.integers(1, 40), a=st.floats(-2, 2))
def test_isotropic_formula(dim, n, a):
    """Every size and step: the general route meets the rational one."""
    expected = float(isotropic_second_moment(Fraction(a), dim, n))
    assert gradient_noise(RegressionTask(dim, n), a * np.eye(dim)).second_moment == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("law", "shape"), LAWS)
@pytest.mark.parametrize("noise", [0.0, 0.8])
@pytest.mark.parametrize("n", [1, 2])
def test_equals_enumeration_of_prompts(law, shape, noise, n):
    """Any matrix, covariances that do not commute, label noise: E|g|² over all prompts of a law of equal moments."""
    task = RegressionTask(2, n, COVARIANCE, WEIGHT_COVARIANCE, noise, law, shape)
    prompts, probabilities = references.enumerate_prompts(
        task, degree=8, weight_degree=4, noise_degree=4, query_degree=4
    )
    squares = np.sum(references.prompt_gradients(MATRIX, prompts) ** 2, axis=(1, 2))
    result = gradient_noise(task, MATRIX)
    assert result.second_moment == pytest.approx(probabilities @ squares, rel=1e-11)
    assert result.mean_square == pytest.approx(np.sum(one_layer_gradient(task, MATRIX) ** 2), rel=1e-14)


@pytest.mark.parametrize(("law", "shape"), [("gaussian", None), ("sphere", None)])
def test_equals_sample_mean(law, shape):
    """Three dimensions, four examples, noise: |g|² and the noise of batches over sampled prompts."""
    covariance = np.array([[1.5, 0.4, 0.2], [0.4, 0.8, -0.1], [0.2, -0.1, 0.5]])
    weights = np.array([[0.7, -0.3, 0.1], [-0.3, 0.6, 0.0], [0.1, 0.0, 0.5]])
    matrix = np.array([[0.3, 0.2, 0.0], [-0.1, 0.4, 0.1], [0.05, -0.2, 0.5]])
    task = RegressionTask(3, 4, covariance, weights, 0.5, law, shape)
    gradients = references.prompt_gradients(matrix, references.sample_prompts(task, 400_000, np.random.default_rng(8)))
    noise = gradient_noise(task, matrix)
    squares = np.sum(gradients**2, axis=(1, 2))
    # 5 standard errors: two-sided error probability 6e-7; the seed is fixed.
    assert abs(squares.mean() - noise.second_moment) < 5 * squares.std() / math.sqrt(len(squares))
    batches = gradients.reshape(-1, 20, 3, 3).mean(1) - one_layer_gradient(task, matrix)
    spread = np.sum(batches**2, axis=(1, 2))
    assert abs(spread.mean() - noise.batch(20)) < 5 * spread.std() / math.sqrt(len(spread))


@given(data=st.data(), task=regression_tasks())
def test_rotations_leave_the_noise(data, task):
    """Turning x, w and A by U changes nothing."""
    u, a = data.draw(orthogonal_matrices(task.dim)), data.draw(square_matrices(task.dim))
    other = references.turned(task, u)
    before, after = gradient_noise(task, a), gradient_noise(other, u @ a @ u.T)
    assert after.second_moment == pytest.approx(before.second_moment, rel=1e-9)
    assert after.mean_square == pytest.approx(before.mean_square, rel=1e-8, abs=1e-9 * before.second_moment)
    assert before.second_moment > before.mean_square


@given(data=st.data(), task=regression_tasks())
def test_second_moment_is_quadratic_in_the_matrix(data, task):
    """E|g|² is a quadratic polynomial along every line: third differences vanish."""
    a, x = (data.draw(square_matrices(task.dim)) for _ in range(2))
    values = [gradient_noise(task, a + k * x).second_moment for k in range(4)]
    assert values[3] - 3 * values[2] + 3 * values[1] - values[0] == pytest.approx(0, abs=1e-9 * max(values))


@given(task=regression_tasks(), layers=st.integers(1, 5))
def test_at_zero_every_layer_adds_the_same(task, layers):
    """L times one layer, in both moments."""
    single, deep = gradient_noise(task, np.zeros((task.dim, task.dim))), gradient_noise_at_zero(task, layers)
    assert deep.second_moment == pytest.approx(layers * single.second_moment, rel=1e-14)
    assert deep.mean_square == pytest.approx(layers * single.mean_square, rel=1e-13)


def test_at_zero_isotropic():
    """4 L d (d+2)² (n+d+1)/n: 3822 for the published three layers."""
    assert gradient_noise_at_zero(RegressionTask(5, 20), 3).second_moment == pytest.approx(3822, rel=1e-13)


def test_batches():
    """(E|g|² − |Eg|²)/B; rounding never leaves a negative variance."""
    noise = GradientNoise(10.0, 4.0)
    assert (noise.variance, noise.batch(1), noise.batch(3)) == (6, 6, 2)
    assert GradientNoise(1.0, 1.0 + 1e-15).variance == 0
    for size in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match="size must"):
            noise.batch(size)


def test_one_dimensional_sphere():
    """x = ±1: g = 2 (a − 1) w², E|g|² = 12 (a − 1)², whatever n."""
    for n in (1, 7):
        noise = gradient_noise(RegressionTask(1, n, covariate_law="sphere"), [[0.25]])
        assert noise.second_moment == pytest.approx(12 * 0.75**2, rel=1e-13)
        assert noise.mean_square == pytest.approx(4 * 0.75**2, rel=1e-13)
