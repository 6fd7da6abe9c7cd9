"""The data distribution: moments of the covariate laws, scale of the problem, value semantics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.regression import Estimate, RegressionTask, one_step_optimum
from tests import references
from tests.strategies import regression_tasks


@given(dim=st.integers(1, 9), law=st.sampled_from(["gaussian", "sphere", "gamma"]), shape=st.floats(0.1, 9))
def test_radial_moments(dim, law, shape):
    """k1 = E|z|²/d and k2 = E|z|⁴/(d(d+2)) from the moments of χ², of the unit radius, and of the Gamma law."""
    task = RegressionTask(dim, 3, covariate_law=law, gamma_shape=shape if law == "gamma" else None)
    scale = np.sqrt(10 / shape)
    second, fourth = {
        "gaussian": (dim, dim * (dim + 2)),
        "sphere": (1, 1),
        "gamma": (shape * scale, shape * (shape + 1) * scale**2),
    }[law]
    np.testing.assert_allclose(task.radial_moments, (second / dim, fourth / (dim * (dim + 2))), rtol=1e-14)


@pytest.mark.parametrize(("law", "shape"), [("gaussian", None), ("sphere", None), ("gamma", 1.3)])
def test_second_moment_and_signal(law, shape):
    """E x xᵀ and E (w·x)² of sampled prompts."""
    covariance, weights = np.array([[1.5, 0.4], [0.4, 0.8]]), np.array([[0.7, -0.3], [-0.3, 0.4]])
    task = RegressionTask(2, 1, covariance, weights, covariate_law=law, gamma_shape=shape)
    x, _, w, query = references.sample_prompts(task, 200_000, np.random.default_rng(0))
    products = x[:, 0, :, None] * x[:, 0, None, :]
    # 5 standard errors: two-sided error probability 6e-7 per entry; the seed is fixed.
    bound = 5 / np.sqrt(len(x))
    assert np.all(np.abs(products.mean(0) - task.second_moment) < bound * products.std(0))
    squares = np.sum(w * query, axis=1) ** 2
    assert abs(squares.mean() - task.signal) < bound * squares.std()


def test_gamma_law_is_normal_at_half_the_dimension():
    """k = d²/10: E|z|² = d; at d = 5 that is k = 5/2 with all moments of N(0, I), as the published law intends."""
    gamma = RegressionTask(5, 7, noise_variance=0.3, covariate_law="gamma", gamma_shape=2.5)
    assert gamma.radial_moments == pytest.approx((1, 1), rel=1e-15)
    normal = RegressionTask(5, 7, noise_variance=0.3)
    assert one_step_optimum(gamma).loss == pytest.approx(one_step_optimum(normal).loss, rel=1e-14)


@given(task=regression_tasks())
def test_tasks_are_values(task):
    """Equal parameters give equal, hashable tasks; the matrices are what was put in."""
    again = RegressionTask(
        task.dim, task.context_length, task.covariance, task.weight_covariance, task.noise_variance,
        task.covariate_law, task.gamma_shape,
    )  # fmt: skip
    assert again == task
    assert hash(again) == hash(task)
    if task.covariance is None:
        np.testing.assert_array_equal(task.covariance_matrix, np.eye(task.dim))
    else:
        np.testing.assert_array_equal(task.covariance_matrix, np.array(task.covariance))
    longer = RegressionTask(task.dim, task.context_length + 1)
    assert longer != task


def test_estimate_is_a_number_with_an_error():
    """An estimate converts to its value."""
    assert float(Estimate(0.5, 0.1, "by hand")) == 0.5
