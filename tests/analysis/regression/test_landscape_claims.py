"""Helpers of the landscape claims and figures, on numbers known beforehand."""

from dataclasses import replace

import numpy as np
import pytest

from plumbline.analysis.budget import Budget
from plumbline.analysis.regression.claims.landscape import (
    LEVEL,
    SEEDS,
    NoiseCase,
    adam_path_is_better_conditioned,
    first_below,
    heavy_tailed_noise,
    ratios,
)
from plumbline.analysis.regression.figures.landscape import (
    against_gradient,
    band,
    condition_number,
    loss,
    lowest_lately,
)
from plumbline.analysis.regression.published import MODES, OPTIMIZERS, course, rate_sweep, with_features
from plumbline.analysis.verdict import Ordering

NAN = np.nan


def test_first_below_is_the_first_recorded_step_at_the_target():
    """Exactly at the target counts; a run that never comes is infinite; a later rise does not matter."""
    result = {
        "curve_steps": np.array([0, 5, 10]),
        "held_out_losses": np.array([[3.0, 3.0, 1.0], [1.0, 2.0, 4.0], [2.0, NAN, 4.0]]),
    }
    assert first_below(result, 1.0).tolist() == [5, np.inf, 0]


def test_ratios_pair_the_runs_at_a_step():
    """Of the row of that step, in either way of counting."""
    adam = {"curve_steps": np.array([0, 5]), "condition": np.array([[1.0, 1.0], [2.0, 4.0]])}
    sgdm = {"curve_steps": np.array([0, 5]), "condition": np.array([[1.0, 1.0], [6.0, 4.0]])}
    for result in (adam, sgdm):
        result["published_condition"] = 10 * result["condition"] ** 2
    assert ratios(sgdm, adam, 5).tolist() == [3, 1]
    assert ratios(sgdm, adam, 5, published=True).tolist() == [9, 1]


def test_condition_ratio_has_students_interval():
    """Four seeds with ratios 1 to 4: 2.5 ± 3.182 sd / 2 = 2.05, with t(0.975, 3 degrees) from tables and sd² = 5/3."""
    case = next(iter(adam_path_is_better_conditioned.cases(Budget.QUICK).values()))
    plan = adam_path_is_better_conditioned.plan(replace(case, seeds=4), Budget.QUICK, 0)
    assert [job.runs for job in next(plan).values()] == [4, 4]
    results = {
        optimizer: {"curve_steps": [case.step], "condition": [values], "published_condition": [values]}
        for optimizer, values in (("SGDM", np.arange(1.0, 5.0)), ("Adam", np.ones(4)))
    }
    with pytest.raises(StopIteration) as end:
        plan.send(results)
    evidence = end.value.value

    assert evidence.note.startswith("SGDM over Adam 2.5 ± 2.1 (95 %, 4 seeds; sd 1.3), counted as published 2.5")
    assert evidence.measured.shape == (4, 2)


def test_seeds_suffice_for_both_orders():
    """At the level of a catalogue of 150 cases one order can be confirmed and the other refuted; six could not."""
    alpha = 1e-3 / 150
    assert Ordering(0.7).pairs_needed(alpha_refute=alpha, alpha_confirm=LEVEL) <= SEEDS
    for budget in Budget:
        for case in adam_path_is_better_conditioned.cases(budget).values():
            needed = Ordering(case.fraction).pairs_needed(alpha_refute=alpha, alpha_confirm=LEVEL)
            assert needed <= case.seeds
    assert all(Ordering(q).pairs_needed(alpha_refute=alpha, alpha_confirm=LEVEL) > 6 for q in np.linspace(0.51, 0.99))


def test_normal_noise_is_not_called_heavier():
    """The claim's measurement on noise whose norms are normal ones comes out refuted or open, never consistent."""
    case = NoiseCase(MODES["normal, n=20"], 1, 1, 100, 0.9)
    rng = np.random.default_rng(0)
    samples = np.linalg.norm(rng.normal(size=(3, 5000, 20)), axis=-1)
    plan = heavy_tailed_noise.plan(case, Budget.QUICK, 0)
    next(plan)
    with pytest.raises(StopIteration) as stop:
        plan.send({"norms": samples[0], "normal": samples[1:], "gradient_norm": 1.0})
    evidence = stop.value.value
    verdict = evidence.rule.judge(evidence.measured, evidence.predicted, alpha_refute=1e-5, alpha_confirm=LEVEL)
    assert verdict.outcome == "refuted"


def test_bands_leave_out_what_is_lost():
    """Infinite values and rows without any number are gaps."""
    drawn = band(np.array([[1.0, 3.0, np.inf], [NAN, np.inf, NAN]]))
    assert (drawn["y"][0], drawn["low"][0], drawn["high"][0]) == (2, 1, 3)
    assert all(np.isnan(drawn[key][1]) for key in ("y", "low", "high"))


def test_smoothness_against_gradient_fits_a_power_and_counts_negatives():
    """y = 3 x² exactly, with one negative and one missing value beside."""
    size = np.array([[1.0, 2.0], [4.0, 5.0], [6.0, 7.0]])
    curvature = 3 * size**2
    curvature[1, 1], curvature[2] = -1.0, NAN
    result = {"curve_steps": np.array([0, 1, 2]), "gradient_norms": size, "smoothness": curvature}
    (cloud, line), text = against_gradient(result, "SGDM", until=2)
    assert sorted(cloud.x) == [1, 2, 4]
    assert line.label == "SGDM: power 2.00"
    np.testing.assert_allclose(line.y, 3 * np.asarray(line.x) ** 2)
    assert text == "1 of 4 negative"


def test_lost_runs_are_infinite_at_the_end():
    """The median of the last fifth, run by run."""
    losses = np.ones((10, 2))
    losses[-2:, 0] = 4.0
    result = {"curve_steps": np.arange(10), "held_out_losses": losses, "outcomes": ["budget", "diverged"]}
    assert lowest_lately(result).tolist() == [4, np.inf]


@pytest.mark.parametrize("budget", list(Budget))
def test_settings_of_every_budget_are_valid(budget):
    """Jobs of all modes and optimizers can be made; at paper size they are the published ones."""
    for mode in MODES.values():
        for optimizer in OPTIMIZERS:
            job = course(mode, optimizer, budget, 0)
            assert job.training.learning_rate == mode.rate(optimizer)
            assert job.training.clip == mode.clip
            rate_sweep(replace(mode, clip=None), optimizer, 0.1, budget, 0)
            with_features(optimizer, budget, 0)
    if budget is Budget.PAPER:
        assert (job.training.steps, job.batch, job.runs, job.layers, job.init_scale) == (10_000, 1000, 6, 3, 0.05)
        assert course(MODES["sphere, n=20"], "SGDM", budget, 0).training.momentum == 0.9
        assert course(MODES["sphere, n=20"], "Adam", budget, 0).training.betas == (0.9, 0.9)


def test_figures_show_trainings_that_end_at_different_steps():
    """Where all runs of one optimizer are lost its course is shorter: each is drawn over its own steps."""

    def ended(steps):
        values = np.linspace(2, 1, 3 * steps).reshape(steps, 3)
        return {
            "curve_steps": np.arange(steps),
            "outcomes": ["budget"] * 3,
            **dict.fromkeys(("held_out_losses", "condition", "published_condition"), values),
        }

    def shown(plan):
        asked = next(plan)
        while True:
            lengths = {name: 5 if "Adam" in name else 9 for name in asked}
            try:
                asked = plan.send({name: ended(length) for name, length in lengths.items()})
            except StopIteration as end:
                return end.value

    for drawn in (condition_number, loss):
        for panel in shown(drawn.plan(Budget.QUICK, 0)).panels:
            for series in panel.series:
                assert len(series.x) == len(series.y), (panel.title, series.label)
