"""The training job of the notebooks: what it reads at each step."""

from typing import get_args

import numpy as np
import pytest

from plumbline.analysis.regression.jobs.linear_transformer import ObjectiveName, TrainLinearTransformer
from plumbline.models.training import Training
from plumbline.theory.regression import RegressionTask

# A step too small to move the loss: what moves it is the sample.
STILL = Training(optimizer="adam", steps=7, learning_rate=1e-12, record_every=1, tolerance=0.0)


def test_steps_share_their_wisharts_until_these_are_redrawn():
    """Steps 0-2, 3-5 and 6-7 see one sample each, the first the same as a job that draws at every step."""
    options = {"task": RegressionTask(2, 6), "objective": "fresh wisharts", "samples": 20, "training": STILL}
    job = TrainLinearTransformer(**options, redraw_every=3, exact_risk=False)
    losses = job.run()["curve_losses"][:, 0]
    fresh = TrainLinearTransformer(**options, exact_risk=False).run()["curve_losses"][:, 0]
    assert losses[:3] == pytest.approx([fresh[0]] * 3, rel=1e-9)
    assert losses[3:6] == pytest.approx([fresh[3]] * 3, rel=1e-9)
    assert abs(losses[3] / losses[0] - 1) > 1e-4


def test_redrawing_needs_fresh_wisharts():
    """Named at construction."""
    with pytest.raises(ValueError, match="redraw_every must be 1 for the objective 'population', got 5"):
        TrainLinearTransformer(task=RegressionTask(2, 6), redraw_every=5)


@pytest.mark.parametrize("objective", get_args(ObjectiveName))
def test_every_objective_trains_in_either_precision(objective):
    """Both lower the loss; a fixed objective differs by rounding alone, and the exact risk is of the weights."""
    layers = 1 if objective == "population" else 2
    training = Training(optimizer="adam", steps=20, learning_rate=0.02, record_every=1)
    options = {"task": RegressionTask(2, 6), "layers": layers, "objective": objective, "samples": 40, "runs": 2}
    double, single = (
        TrainLinearTransformer(**options, training=training, precision=precision).run()
        for precision in ("float64", "float32")
    )
    for trained in (double, single):
        assert (trained["risks"] < options["task"].signal).all()
    if not objective.startswith("fresh"):
        np.testing.assert_allclose(single["losses"], double["losses"], rtol=1e-4)
