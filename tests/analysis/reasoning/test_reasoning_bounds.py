"""The calculators at the shell: a layer is given by the options of its fields."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from plumbline.analysis.commands.app import app
from plumbline.analysis.commands.calculators import plain
from plumbline.theory.reasoning import Layer, ReasoningTask, limit_cycle, minimum_loss, population_loss

TASK = ReasoningTask(noise=0.2)


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ("population-loss --scale 2", population_loss(TASK, 2.0)),
        ("population-loss --scale 2 --attention softmax", population_loss(TASK, 2.0, Layer("softmax"))),
        ("minimum-loss", minimum_loss(TASK)),
        ("minimum-loss --feed-forward F --noise-estimate 0.3", minimum_loss(TASK, Layer("linear", "F", 0.3))),
        # Its layer is F where nothing is said, also where something else is said of it.
        ("limit-cycle --learning-rate 0.1", limit_cycle(TASK, 0.1, Layer("linear", "F"))),
        ("limit-cycle --learning-rate 0.1 --attention relu", limit_cycle(TASK, 0.1, Layer("relu", "F"))),
    ],
)
def test_a_layer_is_given_by_its_fields(arguments, result):
    """Options that are not given stay as the calculator has them."""
    got = CliRunner().invoke(app, ["bound", *arguments.split(), "--noise", "0.2", "--json"])
    assert json.loads(got.stdout) == plain(result)


@pytest.mark.parametrize(
    ("options", "words"),
    [("--attention sofmax", "did you mean 'softmax'"), ("--noise-estimate 1", "noise_estimate must be less than 1")],
)
def test_a_layer_that_is_none_is_refused(options, words):
    """In the words of the library."""
    got = CliRunner().invoke(app, ["bound", "optimal-scale", "--noise", "0.2", *options.split()])
    assert got.exit_code == 2
    assert words in " ".join(got.output.replace("│", " ").split())
