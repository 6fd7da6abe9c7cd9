"""The check of a model: what fits is reported on, what does not is named; task files and the command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from plumbline.analysis import ModelReport, Outcome, catalogue, check_model, read_task_file, task_file
from plumbline.analysis.commands.app import app
from plumbline.analysis.subject.model_report import Estimate, held
from plumbline.models.memorization import AttentionOnlyTransformer, SequenceEncoder
from plumbline.models.reasoning import OneLayerTransformer
from plumbline.models.regression import FeatureTransformer, LinearTransformer
from plumbline.theory.memorization import NgramTask, geometric_law, lookup_table
from plumbline.theory.reasoning import ReasoningTask
from plumbline.theory.regression import RegressionTask, multi_step_optimum

ROOT = Path(__file__).parents[3]
TASK = RegressionTask(3, 9)
BEST = LinearTransformer.from_algorithm(np.multiply.outer(multi_step_optimum(2, 3, 9).step_sizes, np.eye(3)))
ENCODER = SequenceEncoder(2, 1, 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the weights and the task in it."""
    monkeypatch.chdir(tmp_path)
    torch.save(BEST.state_dict(), "weights.pt")
    Path("task.json").write_text(task_file(TASK), encoding="utf-8")
    return tmp_path


class Runs:
    """Unpickled, it would make a file."""

    def __reduce__(self):
        return os.mkdir, ("made-by-the-pickle",)


def run(*arguments):
    """The command with these arguments."""
    return CliRunner().invoke(app, ["check-model", *map(str, arguments)])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"key_query": torch.zeros(2, 1, 4, 4), "value": torch.zeros(2, 1, 3, 3)}, "got:      key_query (2, 1, 4, 4)"),
        ({"key_query": torch.zeros(2, 1, 2, 2)}, "task must have dim 2 (or 1, of full weights) as the weights, got 3"),
        ({"weight": torch.zeros(3, 3)}, "expected: key_query (1, 1, 3, 3)\n  got:      weight (3, 3)"),
        ({"key_query": torch.full((1, 1, 3, 3), torch.nan)}, "finite, got 9 of 9 entries of key_query"),
    ],
)
def test_weights_that_do_not_fit_list_what_was_expected_and_what_came(weights, message):
    """Names, shapes, and entries that are not finite."""
    with pytest.raises(ValueError) as caught:
        check_model(weights, TASK)
    assert message in str(caught.value)


def test_modules_are_left_as_they_are_and_checked_alike():
    """A float32 module with gradients is copied; one that is not finite, or of another kind, is refused."""
    model = LinearTransformer(1, 1, 3, dtype=torch.float32)
    before = model.key_query.clone()
    assert isinstance(check_model(model, TASK), ModelReport)
    assert model.key_query.dtype == torch.float32
    assert model.key_query.requires_grad
    assert torch.equal(model.key_query, before)

    with torch.no_grad():
        model.key_query[0, 0, 1, 1] = torch.inf
    with pytest.raises(ValueError, match="finite, got 1 of 9 entries of key_query"):
        check_model(model, TASK)
    with pytest.raises(ValueError, match="module must be one of LinearTransformer for a RegressionTask, got SequenceE"):
        check_model(SequenceEncoder(3, 1, 1), TASK)
    with pytest.raises(ValueError, match="must have an exact loss, got FeatureTransformer: its labels are linear"):
        check_model(FeatureTransformer(1, 3), TASK)
    with pytest.raises(ValueError, match="model must be left out beside a module"):
        check_model(BEST, TASK, model={"looped": True})


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((BEST, "regression"), {}, "task must be a RegressionTask, NgramTask, ReasoningTask, got 'regression'"),
        ((BEST, RegressionTask(4, 9)), {}, "task must have dim 3 as the model, got 4"),
        ((BEST, TASK), {"margin": 0.0}, "margin must be greater than 0"),
        ((BEST, TASK), {"seed": -1}, "seed must be at least 0"),
        (
            (BEST.state_dict(), TASK),
            {"model": {"loop": True}},
            "looped (true or false), activation (softmax",
        ),
        (
            (SequenceEncoder(2, 1, 1).state_dict(), lookup_table(2, 1)),
            {"model": {"name": "a"}},
            "must say only nothing",
        ),
        (({}, TASK), {}, "state dict (tensors by name), got dict"),
        ((BEST.state_dict(), TASK), {"model": {"activation": "tanh"}}, "activation must be one of"),
    ],
)
def test_bad_arguments_are_named(arguments, options, message):
    """The parameter, its value, what is allowed."""
    with pytest.raises(ValueError) as caught:
        check_model(*arguments, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("task", "model"),
    [
        (RegressionTask(2, 5, [[2.0, 0.5], [0.5, 1.0]], noise_variance=0.1), {"looped": True, "layers": 3}),
        (geometric_law(4, 2, ratio=0.5, seed=3), {}),
        (NgramTask(2, 1, "table", table=[[0.9, 0.1], [0.3, 0.7]]), {}),
        (ReasoningTask(noise=0.2), {"name": "Reparam-Linear-FA"}),
    ],
)
def test_task_files_come_back_as_they_were(folder, task, model):
    """With the model or alone, with the type's module or without it, and with defaults left out."""
    text = task_file(task, model)
    Path("task.json").write_text(text, encoding="utf-8")
    assert read_task_file("task.json") == (task, model)
    alone = json.loads(text)["task"]
    alone["type"] = alone["type"].rpartition(".")[2]
    Path("alone.json").write_text(json.dumps(alone), encoding="utf-8")
    assert read_task_file("alone.json") == (task, {})
    # As files of the first version have it.
    Path("former.json").write_text(text.replace('"type": "plumbline.theory.', '"type": "theory.'), encoding="utf-8")
    assert read_task_file("former.json") == (task, model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "task must be a JSON file"),
        ("[1]", "task must be a JSON object, got list"),
        ('{"dim": 3}', "or a task alone, got the keys dim"),
        ('{"task": {}}', "the type of the task must be one of"),
        ('{"type": "RegresionTask", "dim": 3}', "did you mean 'RegressionTask'?"),
        ('{"type": "RegressionTask", "dim": 3, "length": 4}', "a field of RegressionTask must be one of"),
        ('{"type": "RegressionTask", "dim": 3}', "must have dim and context_length, got no context_length"),
        ('{"type": "RegressionTask", "dim": 0, "context_length": 4}', "dim must be at least 1, got 0"),
        ('{"task": {"type": "ReasoningTask"}, "model": "Reparam"}', "got the keys task, model"),
        ('{"task": {"type": "ReasoningTask"}, "modle": {}}', "got the keys task, modle"),
    ],
)
def test_task_files_that_are_none(folder, text, message):
    """Each says what is wrong with it."""
    Path("bad.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        read_task_file("bad.json")
    assert message in str(caught.value)
    assert run("weights.pt", "--task", "bad.json").exit_code == 2


def test_a_pickle_that_runs_ends_with_bad_usage(folder):
    """The command refuses it as the loader does."""
    torch.save({"key_query": Runs()}, "evil.pt")
    result = run("evil.pt", "--task", "task.json")
    assert result.exit_code == 2
    assert "could run code (posix.mkdir)" in result.output or "could run code (nt.mkdir)" in result.output
    assert not Path("made-by-the-pickle").exists()


def test_command_prints_the_report_and_writes_it(folder):
    """Exit code 0 at the optimum, 1 beside it, and the same numbers on the screen and in the file."""
    save_file(BEST.state_dict(), "weights.safetensors")
    result = run("weights.safetensors", "--task", "task.json", "--json", "report.json")
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert result.exit_code == 0, result.output
    assert "2 steps of gradient descent" in result.output
    assert f"{report['loss']['value']:.8g}" in result.output
    assert "multi-step-loss" in result.output
    assert "bayes-bound: not applicable, condition fails: label noise" in result.output
    assert report["claims"][3]["name"] == "multi-step-loss"
    assert report["claims"][3]["verdict"]["outcome"] == "consistent"
    assert report["findings"]["step sizes"]["value"] == pytest.approx(multi_step_optimum(2, 3, 9).step_sizes)
    assert report["task"] == json.loads(task_file(TASK))["task"]

    torch.save({"key_query": 1.05 * BEST.key_query}, "rival.pt")
    result = run("rival.pt", "--task", "task.json")
    assert result.exit_code == 1
    assert "REFUTED" in result.output
    assert "relative distance from the optimum 0.05, predicted 0: off by 0.05" in result.output
    assert run("rival.pt", "--task", "task.json", "--margin", 0.1).exit_code == 0


def test_command_prints_the_errors_of_what_is_sampled(folder):
    """Of the loss, of the gap to each reference, and of what claims measured."""
    task = ReasoningTask(noise=0.2)
    model = OneLayerTransformer(task, parameterization="origin")
    with torch.no_grad():
        model.feed_forward_weight.normal_(generator=torch.Generator().manual_seed(0))
    torch.save(model.state_dict(), "weights.pt")
    Path("task.json").write_text(task_file(task, {"name": model.name}), encoding="utf-8")
    result = run("weights.pt", "--task", "task.json", "--json", "report.json")
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    error = report["loss"]["error"]
    assert error > 0
    assert [reference["gap"]["error"] for reference in report["references"]] == [error] * len(report["references"])
    assert result.output.count(f"± {error:.2g}") == 1 + len(report["references"])
    assert "measured ± 6 errors" in result.output
    assert f"± {6 * error:.2g}" in result.output


def test_a_report_that_cannot_be_written_is_an_error(folder):
    """A folder that is not there; the report stands on the screen all the same."""
    result = run("weights.pt", "--task", "task.json", "--json", "nowhere/report.json")
    assert result.exit_code == 1
    assert "multi-step-loss" in result.output
    assert "error: the report was not written" in result.output


@pytest.mark.parametrize("family", ["regression", "memorization", "reasoning"])
def test_examples_of_task_files_are_task_files(folder, family):
    """`--example` prints what `--task` reads."""
    result = run("--example", family)
    assert result.exit_code == 0
    Path("example.json").write_text(result.output, encoding="utf-8")
    task, _ = read_task_file("example.json")
    assert type(task).__module__ == f"plumbline.theory.{family}.task"
    assert run("--example", "reasonning").exit_code == 2


def test_without_torch_the_extra_is_named(folder):
    """Exit code 2 and the pip command; the rest of the command line does not need it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "sys.argv = ['plumbline', 'check-model', 'weights.pt', '--task', 'task.json']\n"
        "from plumbline.analysis.commands.app import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 2
    assert "pip install 'plumbline-theory[models]'" in result.stderr


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (BEST, TASK),
        (AttentionOnlyTransformer(3, 2, 1, 2, 2), lookup_table(3, 2)),
        (OneLayerTransformer(ReasoningTask(7, 6, 2, 2, 0.3)), ReasoningTask(7, 6, 2, 2, 0.3)),
    ],
    ids=["regression", "memorization", "reasoning"],
)
def test_reports_speak_of_claims_of_the_catalogue_and_are_json(model, task):
    """Statements are the catalogue's, of the family of the task; everything is a plain value."""
    report = check_model(model, task)
    assert all(claim.statement == catalogue()[claim.name].statement for claim in report.claims)
    assert {catalogue()[claim.name].family for claim in report.claims} == {report.family}
    json.dump(report.to_json(), io.StringIO(), allow_nan=False)


def test_a_name_that_is_not_there_lists_those_that_are():
    """Of references and findings."""
    report = check_model(BEST, TASK)
    with pytest.raises(ValueError, match="name must be one of answering zero"):
        report.gap("optimun")
    with pytest.raises(ValueError, match="name must be one of algorithm"):
        report.finding("step size")


def test_a_number_with_an_error_is_open_at_the_margin():
    """Six errors on either side of the margin: within, open, beyond; of bounds on one side only."""

    def outcome(value, error, relation):
        number = Estimate(value, error, "drawn")
        return held("x", number, relation, 1.0, margin=0.1, scale=1.0).outcome

    assert outcome(1.05, 0.008, "equals") is Outcome.CONSISTENT
    assert outcome(1.05, 0.009, "equals") is Outcome.INCONCLUSIVE
    assert outcome(1.2, 0.01, "equals") is Outcome.REFUTED
    assert outcome(1.2, 0.02, "equals") is Outcome.INCONCLUSIVE
    assert outcome(0.5, 0.0, "at most") is outcome(1.5, 0.0, "at least") is Outcome.CONSISTENT
    assert outcome(0.5, 0.0, "at least") is outcome(1.5, 0.0, "at most") is Outcome.REFUTED
