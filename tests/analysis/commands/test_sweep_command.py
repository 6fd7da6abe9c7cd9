"""`plumbline sweep` and `plumbline.analysis.sweep` over the experiments of all families."""

from __future__ import annotations

import csv
import io
import re
import sys

import pytest
from typer.testing import CliRunner

from plumbline.analysis import Store, experiments, sweep
from plumbline.analysis.commands import sweeping
from plumbline.analysis.commands.app import app
from plumbline.analysis.commands.sweeping import Lines
from plumbline.analysis.jobs.session import Session
from plumbline.theory.memorization import accuracy_lower_bound
from plumbline.theory.reasoning import Layer, ReasoningTask, bayes_risk, feed_forward_gap, normalized_gd_curve
from plumbline.theory.regression import (
    gd_plus_plus_optimum,
    looped_optimum,
    multi_step_optimum,
    noisy_multi_step_optimum,
)

SMALL = {"vocab_size": 12, "sentence_length": 16, "triggers": 2, "outputs": 3}


def rows(name, grid, **options):
    """The rows of a sweep that is not kept."""
    with Store(None) as store:
        return list(sweep(name, grid, **options, session=Session(store)).rows())


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, ["sweep", *words])


@pytest.mark.parametrize(
    ("grid", "theory", "predicted"),
    [
        ({"layers": 1, "noise_variance": 0.5}, "one-step optimum", lambda: 0.2978723404255319),
        ({"layers": 2}, "multi-step optimum", lambda: multi_step_optimum(2, 2, 20).loss),
        # Of d = 5: at d = 2 a step with an antisymmetric part goes below the best scalar one.
        (
            {"dim": 5, "layers": 2, "looped": True},
            "looped optimum of scalar steps",
            lambda: looped_optimum(2, 5, 20).loss,
        ),
        (
            {"layers": 2, "noise_variance": 0.5},
            "noisy multi-step optimum",
            lambda: noisy_multi_step_optimum(2, 2, 20, 0.5).loss,
        ),
        ({"layers": 2, "value_block": "free"}, "GD++ optimum", lambda: gd_plus_plus_optimum(2, 2, 20).loss),
    ],
)
def test_linear_transformers_meet_their_optimum(grid, theory, predicted):
    """The optimum belongs to depth, noise and value block: no run is below it, and the best of three is there."""
    found = rows("train-linear-transformer", {"dim": 2, **grid}, seeds=3)

    assert {row["theory"] for row in found} == {theory}
    assert {row["outcome"] for row in found} == {"converged"}
    assert all(row["predicted"] == pytest.approx(predicted(), rel=1e-12) for row in found)
    assert all(row["gap"] > -1e-7 - row["error"] for row in found)
    assert min(abs(row["gap"]) - row["error"] for row in found) < 1e-7


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("train-linear-transformer", {"dim": 2, "optimizer": "adam", "steps": 8, "layers": 2}),
        ("train-linear-transformer", {"dim": 2, "optimizer": "adam", "steps": 8, "objective": "fresh wisharts"}),
        ("train-linear-transformer", {"dim": 2, "optimizer": "adam", "steps": 8, "objective": "fresh prompts"}),
        ("train-along-landscape", {"dim": 2, "steps": 4, "batch": 10}),
        ("train-feature-transformer", {"dim": 2, "steps": 4, "batch": 10, "layers": 1}),
        ("train-next-token-model", {"vocab_size": 4, "law": "geometric", "steps": 9, "samples": 20}),
        ("train-next-token-model", {"vocab_size": 4, "heads": 1, "steps": 9, "optimizer": ["sgd", "lbfgs"]}),
        ("train-reasoner", {"noise": [0.0, 0.2, 0.5], "steps": 9, **SMALL}),
        ("train-reasoner", {"noise": 0.0, "steps": 9, "model": "Origin-Linear-FA", **SMALL}),
    ],
)
def test_learning_rates_train_together_and_each_as_if_alone(name, grid):
    """One ensemble for all of them, the same starts and draws at each, and the numbers of sweeps of one rate."""
    rates = [0.02, 0.05, 0.2]
    found = rows(name, {**grid, "learning_rate": rates}, seeds=2)
    alone = [row for rate in rates for row in rows(name, {**grid, "learning_rate": rate}, seeds=2)]
    together, apart = (
        {tuple(row[key] for key in ("learning_rate", "run", *grid)): row for row in table} for table in (found, alone)
    )
    assert together.keys() == apart.keys()
    for place, row in together.items():
        assert row["measured"] == pytest.approx(apart[place]["measured"], rel=1e-9)
        assert row["predicted"] == apart[place]["predicted"]
    assert len({row["measured"] for row in found}) >= len(found) // 2


def test_where_theory_is_silent_there_is_no_gap():
    """A cell without prediction, not one with a wrong one."""
    found = rows("train-feature-transformer", {"steps": 2, "batch": 20, "layers": 1})
    found += rows("train-next-token-model", {"architecture": "compressed", "vocab_size": 4, "steps": 2})

    assert len(found) == 2
    assert all(row["measured"] is not None for row in found)
    assert all(row["theory"] is row["predicted"] is row["gap"] is None for row in found)


def test_deep_free_layers_train_by_default():
    """Three layers with a free value block have no exact design; their risk has an error."""
    (row,) = rows("train-linear-transformer", {"dim": 2, "layers": 3, "value_block": "free", "steps": 3})

    assert row["outcome"] in ("budget", "converged")
    assert row["theory"] is None
    assert row["error"] > 0


def test_held_out_risk_along_the_landscape():
    """Measured on the held-out designs, above the optimum after so few steps."""
    grid = {"steps": 3, "layers": 1, "batch": 20}
    found = rows("train-along-landscape", grid, seeds=2)

    assert {row["steps_taken"] for row in found} == {3}
    assert all(row["gap"] > 0.5 for row in found)


def test_memorization_has_accuracy_or_divergence():
    """Look-up tables against the bound of their expected accuracy, noisy laws against the best of the rank."""
    found = rows("train-next-token-model", {"law": ["lookup", "geometric"], "vocab_size": 5, "heads": 2}, seeds=3)
    table, law = found[:3], found[3:]

    assert {row["quantity"] for row in table} == {"accuracy"}
    assert {row["predicted"] for row in table} == {accuracy_lower_bound(2, 3, 3, 5, 2)}
    assert {row["quantity"] for row in law} == {"divergence (nats)"}
    assert all(row["gap"] > -1e-6 for row in law)


def test_noise_levels_train_together_and_meet_the_exact_course():
    """Each run has its own noise, and follows the closed form of its course."""
    grid = {"model": ["Reparam-Linear-F", "Reparam-Softmax-FA"], "noise": [0.0, 0.2, 0.5], "steps": 40, **SMALL}
    found = rows("train-reasoner", {**grid, "exact": False}, seeds=2)

    assert [(row["noise"], row["run"]) for row in found[:6]] == [(0, 0), (0, 1), (0.2, 0), (0.2, 1), (0.5, 0), (0.5, 1)]
    for row in found:
        task = ReasoningTask(12, 16, 2, 3, row["noise"])
        _, attention, feed_forward = row["model"].lower().split("-")
        course = normalized_gd_curve(task, 40, 0.1, Layer(attention, feed_forward.upper()), batch_size=128)
        assert row["predicted"] == course.losses[-1]
        assert abs(row["gap"]) < 2e-3


def test_exact_steps_end_at_the_gap_of_the_feed_forward_layer():
    """Along the population gradient F comes to rest its exact gap above the Bayes risk."""
    task = ReasoningTask(12, 16, 2, 3, 0.5)
    grid = {"model": "Reparam-Linear-F", "noise": 0.5, "exact": True, "steps": 200, "learning_rate": 0.02, **SMALL}
    (row,) = rows("train-reasoner", grid)

    assert abs(row["gap"]) < 1e-9
    assert row["measured"] - bayes_risk(task) == pytest.approx(feed_forward_gap(task), abs=1e-4)


def test_models_without_a_scale_are_tested_on_sentences():
    """Their loss is of test sentences, and stays above the Bayes risk."""
    found = rows("train-reasoner", {"model": "Origin-Linear-FA", "steps": 5, "noise": [0.2, 0.5], **SMALL}, seeds=2)

    assert {row["theory"] for row in found} == {"Bayes risk"}
    assert all(row["error"] is None and row["gap"] > 0 for row in found)


def test_a_run_that_is_not_finite_is_a_row(tmp_path):
    """Its outcome says so; the others of the grid converge."""
    grid = {"dim": 2, "optimizer": "sgd", "learning_rate": [0.05, 1e200], "steps": 500}
    found = rows("train-linear-transformer", grid, seeds=2)

    assert [row["outcome"] for row in found] == ["converged", "converged", "nan", "nan"]


def test_the_list_has_every_key_of_every_experiment(run):
    """Without a name; the experiments of three families."""
    result = run()

    assert result.exit_code == 0, result.output
    for experiment in experiments().values():
        assert experiment.name in result.output
        for key in experiment.keys:
            assert f"{key}: " in result.output
    assert {experiment.family for experiment in experiments().values()} == {"regression", "memorization", "reasoning"}


def test_a_sweep_is_counted_run_written_and_summed_up(run, tmp_path):
    """Counts first, then a table of medians; the file has a row for each run; again, everything is found."""
    words = ["train-linear-transformer", "--grid", "dim=2,3", "--grid", "context-length=5:15:5", "--seeds", "3"]
    words += ["--jobs", "1", "--store", "s.sqlite", "--out", "t.csv"]
    result = run(*words)

    assert result.exit_code == 0, result.output
    assert "train-linear-transformer: 6 grid points, 18 runs in 6 ensembles" in result.output
    assert "18 runs: 18 converged" in result.output
    assert re.search(
        r"│ 3 +│ 15 +│ population risk │ one-step optimum │ 3 converged +│ +0.6316 │ +exact │ +0.6316 │",
        result.output,
    )
    written = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert len(written) == 18
    assert {row["gap"] != "" for row in written} == {True}
    with Store("s.sqlite") as store:
        assert len(store) == 6
    assert run(*words).output.splitlines()[-1] == "18 runs: 18 converged"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train-linear-transformer", "--grid", "layers=3", "--grid", "value_block=free"], r"│ +≤ [0-9.e-]+ │"),
        (["train-feature-transformer", "--grid", "batch=20"], r"│ +not estimated │"),
    ],
)
def test_summary_says_the_error_of_what_was_measured(run, words, said):
    """A bound on it, or that nobody knows it."""
    result = run(*words, "--grid", "dim=2", "--grid", "steps=2", "--jobs", "1", "--store", "none")

    assert result.exit_code == 0, result.output
    assert "error of a run" in result.output
    assert re.search(said, result.output)


def test_failed_runs_exit_with_one(run):
    """And are named."""
    words = ["--grid", "layers=1,2", "--grid", "value_block=free", "--grid", "samples=0,1", "--grid", "dim=2"]
    words += ["--grid", "objective=design", "--grid", "noise_variance=0.5", "--jobs", "1", "--store", "none"]
    result = run("train-linear-transformer", *words)
    assert result.exit_code == 2  # a design of no draws is refused before it starts
    words[words.index("samples=0,1")] = "samples=1"
    result = run("train-linear-transformer", *words)

    assert result.exit_code == 1, result.output
    assert "failed: {'dim': 2," in result.output
    assert "1 error" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train-linear"], "unknown experiment 'train-linear'; did you mean"),
        (["train-reasoner", "--grid", "noize=0.1"], "did you mean 'noise'?"),
        (["train-reasoner", "--grid", "noise=0.1,1.5"], "noise must be less than 1, got 1.5 (at "),
        (["train-reasoner", "--grid", "steps=1:1000001"], "must have ranges of 1 to"),
        (["train-reasoner", "--grid", "steps=1:999999", "--seeds", "2"], "at most max_runs = 1,000,000 runs, got 1,99"),
        (["train-reasoner", "--out", "t.json"], "out must end with .csv or .parquet"),
        (["train-reasoner", "--scheduler", "nowhere"], "scheduler must be the address of a running one"),
    ],
)
def test_bad_usage(run, words, message, monkeypatch):
    """Exit code 2 and what is allowed; nothing has run."""
    monkeypatch.setattr("plumbline.analysis.jobs.cluster.CONNECT_SECONDS", 0.2)
    result = run(*words)

    assert result.exit_code == 2, result.output
    assert message in result.output


def test_a_scheduler_without_its_extra_says_which(run, monkeypatch):
    """Dask is imported only when a scheduler is named."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = run("train-linear-transformer", "--scheduler", "tcp://127.0.0.1:1", "--store", "none")

    assert result.exit_code == 2
    assert (
        "this needs distributed, which the base install leaves out: pip install 'plumbline-theory[cluster]'"
        in result.output
    )


def test_progress_in_a_log_has_rate_and_time_left(capsys, monkeypatch):
    """A line now and then; what was found in the store at the start is no part of the rate."""
    clock = iter([0.0, 0.0, 10.0, 100.0, 101.0, 200.0])
    monkeypatch.setattr(sweeping.time, "monotonic", lambda: next(clock))
    lines = Lines()
    for done in (100, 110, 300, 301, 500):
        lines(done, 1100, "job")

    assert capsys.readouterr().err.splitlines() == [
        "300 of 1,100 jobs, 2/s, 0:06:40 left",
        "500 of 1,100 jobs, 2/s, 0:05:00 left",
    ]
