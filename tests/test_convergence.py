"""Convergence as a property: on random tasks and seeds, training ends at the predicted optimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.analysis.regression.cases import random_task
from plumbline.analysis.regression.jobs.linear_transformer import TrainLinearTransformer, whitened_step_sizes
from plumbline.models.training import Training
from plumbline.theory.regression import RegressionTask, multi_step_optimum, one_step_optimum

pytestmark = pytest.mark.theory

SEEDS = st.integers(0, 2**31 - 1)
LAWS = st.sampled_from(["gaussian", "sphere", "gamma"])


@given(dim=st.integers(1, 6), length=st.integers(1, 60), noise=st.floats(0.0, 3.0), law=LAWS, seed=SEEDS)
@settings(max_examples=60)
def test_one_layer_reaches_the_predicted_preconditioner(dim, length, noise, law, seed):
    """Any covariance, weight covariance, noise, covariate law, start: the trained A is A*."""
    options = {"covariate_law": law, "gamma_shape": 0.7 if law == "gamma" else None, "noise_variance": noise}
    task = random_task(dim, length, seed, **options)
    trained = TrainLinearTransformer(task=task, init_scale=0.5, runs=2, seed=seed).run()
    best = one_step_optimum(task)

    assert trained["outcomes"] == ["converged", "converged"]
    # The loss is quadratic: a relative gradient of 1e-9 (L-BFGS tolerance), times a condition number that stays
    # below 1e4 for these spectra, leaves 1e-5 in the parameters and its square in the loss.
    for run in range(2):
        np.testing.assert_allclose(
            -trained["key_query"][run, 0, 0], best.preconditioner, atol=1e-5 * np.linalg.norm(best.preconditioner)
        )
    np.testing.assert_allclose(trained["risks"], best.loss, rtol=1e-8, atol=1e-12 * task.signal)


@given(dim=st.integers(1, 4), length=st.integers(1, 30), seed=SEEDS)
@settings(max_examples=20)
def test_full_weights_never_go_below_the_one_step_optimum(dim, length, seed):
    """(d+1) × (d+1) weights gain nothing: no run ends below; that one gets there is promised to nobody."""
    task = random_task(dim, length, seed, noise_variance=0.2)
    trained = TrainLinearTransformer(task=task, full=True, value_block="free", init_scale=0.01, runs=3, seed=seed).run()
    best = one_step_optimum(task).loss

    # 1e-9 relative is a million times the rounding of the exact risk.
    assert (trained["risks"] >= best * (1 - 1e-9)).all()
    assert trained["risks"].min() < task.signal


@given(dim=st.integers(1, 4), length=st.integers(4, 20), layers=st.just(2), seed=SEEDS)
@settings(max_examples=10)
def test_several_layers_reach_the_predicted_step_sizes(dim, length, layers, seed):
    """Zero value block, small starts: the layers are a_l times the identity with the predicted a_l, as a set."""
    task = RegressionTask(dim, length)
    trained = TrainLinearTransformer(
        task=task,
        layers=layers,
        objective="design",
        samples=100,
        training=Training(optimizer="lbfgs", steps=800, tolerance=1e-8),
        init_scale=0.002,
        runs=1,
        seed=seed,
    ).run()
    best = multi_step_optimum(layers, dim, length)
    sizes, rest = whitened_step_sizes(trained["key_query"], task)

    # The design has the exact spectral moments, so its scalar optimum is the population's; what is left is the
    # optimizer's tolerance times the condition number of the Hessian (up to 1e4 here).
    np.testing.assert_allclose(sizes[0], best.step_sizes, rtol=1e-3)
    assert rest[0] <= 1e-3 * np.linalg.norm(best.step_sizes)
