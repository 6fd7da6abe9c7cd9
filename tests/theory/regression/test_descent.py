"""Descent on one layer: steps against the gradient, the closed form of one mode, and the edge of stability."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.regression import (
    RegressionTask,
    largest_stable_step,
    one_layer_descent,
    one_layer_flow,
    one_layer_gradient,
    one_layer_hessian,
    one_step_optimum,
    one_step_risk,
)
from tests.strategies import regression_tasks, square_matrices


@given(data=st.data(), task=regression_tasks(), share=st.floats(0.05, 0.95), momentum=st.just(0.0) | st.floats(0, 0.95))
def test_every_step_follows_the_gradient(data, task, share, momentum):
    """A_{t+1} = A_t − η v with v = β v + ∇R(A_t), and the losses are the risks of the matrices."""
    start = data.draw(square_matrices(task.dim))
    rate = share * largest_stable_step(task, momentum=momentum)
    path = one_layer_descent(task, start, rate, 5, momentum=momentum)
    assert path.matrices.shape == (6, task.dim, task.dim)
    assert path.losses.shape == (6,)
    scale = np.abs(path.matrices).max() + np.abs(one_step_optimum(task).preconditioner).max()
    np.testing.assert_allclose(path.matrices[0], start, rtol=0, atol=1e-13 * scale)
    velocity = np.zeros_like(start)
    for before, after in zip(path.matrices, path.matrices[1:], strict=False):
        velocity = momentum * velocity + one_layer_gradient(task, before)
        np.testing.assert_allclose(after, before - rate * velocity, rtol=0, atol=1e-11 * scale)
    for matrix, loss in zip(path.matrices, path.losses, strict=True):
        assert loss == pytest.approx(one_step_risk(task, matrix), rel=1e-9, abs=1e-11 * path.losses.max())


@given(data=st.data(), task=regression_tasks(), share=st.floats(0.05, 1.0))
def test_plain_descent_goes_down(data, task, share):
    """Up to the largest stable step the loss never rises, nor falls below the minimum."""
    start = data.draw(square_matrices(task.dim))
    losses = one_layer_descent(task, start, share * largest_stable_step(task), 20).losses
    assert np.all(np.diff(losses) <= 1e-12 * losses[0])
    assert np.all(losses >= one_step_optimum(task).loss)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize(("law", "shape"), [("gaussian", None), ("sphere", None), ("gamma", 0.4)])
def test_the_edge_of_stability(law, shape, momentum):
    """1 % below the step converges to the optimum, 1 % above it diverges; anisotropic, with noise."""
    task = RegressionTask(2, 5, [[1.0, 0.6], [0.6, 2.0]], [[0.7, -0.3], [-0.3, 0.4]], 0.3, law, shape)
    edge = largest_stable_step(task, momentum=momentum)
    assert edge == pytest.approx(2 * (1 + momentum) / np.linalg.eigvalsh(one_layer_hessian(task))[-1], rel=1e-12)
    start = np.ones((2, 2))
    minimum = one_step_optimum(task).loss
    below = one_layer_descent(task, start, 0.99 * edge, 20_000, momentum=momentum)
    above = one_layer_descent(task, start, 1.01 * edge, 2_000, momentum=momentum)
    assert below.losses[-1] == pytest.approx(minimum, rel=1e-9)
    np.testing.assert_allclose(below.matrices[-1], one_step_optimum(task).preconditioner, atol=1e-9)
    assert above.losses[-1] > 1e3 * above.losses[0]


def test_isotropic_closed_form():
    """Σ = Ψ = I: a_t = a* (1 − (1 − η h)^t), h = 2 (n + d + 1)/n; the largest step is n/(n + d + 1)."""
    task = RegressionTask(5, 20)
    assert largest_stable_step(task) == pytest.approx(10 / 13, rel=1e-14)
    assert largest_stable_step(task, momentum=0.9) == pytest.approx(19 / 13, rel=1e-14)
    path = one_layer_descent(task, np.zeros((5, 5)), 0.1, 7)
    expected = 10 / 13 * (1 - (1 - 0.26) ** np.arange(8))
    np.testing.assert_allclose(path.matrices, np.multiply.outer(expected, np.eye(5)), atol=1e-14)
    # 15/13 + ½ · 2.6 · 5 (10/13)² 0.74^{2t}.
    np.testing.assert_allclose(path.losses, 15 / 13 + 50 / 13 * 0.74 ** (2 * np.arange(8)), rtol=1e-13)
    flow = one_layer_flow(task, np.zeros((5, 5)), [0, 0.3, 2.0])
    np.testing.assert_allclose(flow.losses, 15 / 13 + 50 / 13 * np.exp(-5.2 * np.array([0, 0.3, 2])), rtol=1e-13)


def test_heavy_ball_closed_form():
    """One mode with momentum: the two roots of z² − (1 + β − ηh) z + β, from its first two values."""
    task, rate, beta = RegressionTask(1, 3), 0.2, 0.6
    h = one_layer_hessian(task)[0, 0]
    best = one_step_optimum(task).preconditioner[0, 0]
    path = one_layer_descent(task, [[2.0]], rate, 12, momentum=beta)
    roots = np.roots([1, -(1 + beta - rate * h), beta]).astype(complex)
    first = 2.0 - best
    weights = np.linalg.solve([[1, 1], roots], [first, (1 - rate * h) * first])
    expected = best + (weights * roots ** np.arange(13)[:, None]).sum(1).real
    np.testing.assert_allclose(path.matrices[:, 0, 0], expected, atol=1e-12)


@given(data=st.data(), task=regression_tasks(), time=st.floats(0, 3))
def test_flow_is_descent_with_small_steps(data, task, time):
    """A(t) equals (1 − tH/N)^N steps for large N, and obeys dA/dt = −∇R(A)."""
    start = data.draw(square_matrices(task.dim))
    unit = largest_stable_step(task) / 2  # 1/h_max
    flow = one_layer_flow(task, start, [0.0, time * unit, time * unit + 1e-6 * unit])
    assert flow.losses[0] == pytest.approx(one_step_risk(task, start), rel=1e-9)
    steps = 20_000
    matrix = one_layer_descent(task, start, max(time, 1e-3) * unit / steps, steps).matrices[-1]
    if time > 1e-3:
        # The error of the first order is time²/(2 steps) relative.
        np.testing.assert_allclose(matrix, flow.matrices[1], atol=1e-3 * np.abs(flow.matrices).max())
    change = (flow.matrices[2] - flow.matrices[1]) / (1e-6 * unit)
    slope = one_layer_gradient(task, (flow.matrices[1] + flow.matrices[2]) / 2)
    scale = np.abs(one_layer_gradient(task, start)).max() + np.abs(flow.matrices).max() / unit
    np.testing.assert_allclose(change, -slope, rtol=0, atol=1e-8 * scale)


def test_flow_comes_to_rest_at_the_optimum():
    """Late times give A* and its risk, with every digit; times may come in any order."""
    task = RegressionTask(2, 5, [[1.0, 0.6], [0.6, 2.0]], [[0.7, -0.3], [-0.3, 0.4]], 0.3)
    flow = one_layer_flow(task, np.ones((2, 2)), [1e4, 0.0])
    best = one_step_optimum(task)
    assert flow.losses[0] == best.loss
    np.testing.assert_allclose(flow.matrices[0], best.preconditioner, rtol=1e-14)
    assert flow.losses[1] > flow.losses[0]


def test_no_steps():
    """A trajectory of no steps is the start."""
    path = one_layer_descent(RegressionTask(2, 4), np.eye(2), 0.1, 0)
    np.testing.assert_allclose(path.matrices, np.eye(2)[None], atol=1e-15)
