"""``plumbline check-model``: what a trained model of one's own is."""

from __future__ import annotations

import math
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from plumbline.analysis.commands.checking import coloured
from plumbline.analysis.commands.shared import SeedOption, console, fail
from plumbline.analysis.extras import MissingExtra
from plumbline.analysis.family import families
from plumbline.analysis.files import write_json
from plumbline.analysis.names import unknown
from plumbline.analysis.subject.check_model import DEFAULT_MARGIN, check_model
from plumbline.analysis.subject.model_report import STANDARD_ERRORS
from plumbline.analysis.subject.task_file import read_task_file, task_file
from plumbline.analysis.verdict import Outcome

if TYPE_CHECKING:
    from plumbline.analysis.subject.model_report import ModelReport

MAX_TASK_TEXT = 1000


def print_example(family: str | None) -> None:
    """Print a task file and end; nothing without a family."""
    if family is None:
        return
    known = {name: one for name, one in families().items() if one.example is not None}
    if family not in known:
        fail(unknown("family", family, known))
    typer.echo(task_file(known[family].example, known[family].example_model))
    raise typer.Exit


def check_model_command(
    weights: Annotated[
        Path, typer.Argument(help="A state dict: what torch.save(model.state_dict(), FILE) wrote, or FILE.safetensors.")
    ],
    task: Annotated[Path, typer.Option("--task", help="JSON file of the task; see --example.")],
    margin: Annotated[
        float, typer.Option("--margin", help="Relative distance that still agrees; of a loss its square.")
    ] = DEFAULT_MARGIN,
    seed: SeedOption = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the whole report to this file.")] = None,
    example: Annotated[
        str | None,
        typer.Option(
            "--example",
            metavar="FAMILY",
            is_eager=True,
            callback=print_example,
            help="Print a task file of this family, and end.",
        ),
    ] = None,
) -> None:
    """Say what a trained model is: its loss, its gaps, the algorithm it implements, the claims it is consistent with.

    The task file is {"task": {…}, "model": {…}}: the task with its type and fields (fields left out have their
    defaults), which decides the family, and what names and shapes of the weights leave open about the model. That is
    "activation", and "looped" with "layers", in regression; always "name" in reasoning, a published name such as
    Reparam-Linear-FA; nothing in memorization. `--example FAMILY > task.json` is one to start from; in Python
    `plumbline.analysis.task_file(task, model)` writes it.

    Exit code: 0 nothing refuted; 1 the model is not what some claim on it says; 2 bad usage.
    """
    try:
        what, options = read_task_file(task)
        report = check_model(weights, what, model=options, margin=margin, seed=seed)
    except (ValueError, MissingExtra) as error:
        fail(str(error))
    _print(report)
    if json_file is not None:
        try:
            write_json(json_file, report.to_json())
        except OSError as error:
            typer.echo(f"error: the report was not written: {error}", err=True)
            raise typer.Exit(1) from None
    raise typer.Exit(1 if Outcome.REFUTED in report.outcomes().values() else 0)


def _print(report: ModelReport) -> None:
    terminal = console()
    plain: dict[str, Any] = {"highlight": False, "soft_wrap": True}
    # A table law has all its probabilities in its fields.
    terminal.print(f"{report.model}\n{shorten(str(report.task), MAX_TASK_TEXT, placeholder=' …')}\n", **plain)
    losses = Table(pad_edge=False)
    losses.add_column(report.quantity)
    losses.add_column("value", justify="right")
    losses.add_column("the model's gap to it", justify="right")
    losses.add_column("how it was obtained")
    losses.add_row("this model", _number(report.loss.value, report.loss.error), "", report.loss.method)
    for name, loss in [(reference.name, reference.loss) for reference in report.references]:
        gap = report.gap(name)
        losses.add_row(name, _number(loss.value, loss.error), _number(gap.value, gap.error, 6), loss.method)
    terminal.print(losses)
    for finding in report.findings:
        value = finding.value
        text = _number(value, finding.error) if isinstance(value, float) else _text(value)
        terminal.print(f"{finding.name}: {text}", **plain)
    judged = [claim for claim in report.claims if claim.verdict.outcome is not Outcome.NOT_APPLICABLE]
    table = Table(pad_edge=False)
    for column in ("claim", "verdict on this model"):
        table.add_column(column)
    sampled = any(claim.verdict.interval for claim in judged)
    table.add_column(f"measured ± {STANDARD_ERRORS} errors" if sampled else "measured", justify="right")
    table.add_column("predicted", justify="right")
    for claim in judged:
        verdict = claim.verdict
        low, high = verdict.interval or (0.0, 0.0)
        measured = _number(verdict.estimate, (high - low) / 2)
        table.add_row(claim.name, coloured(verdict.outcome), measured, _number(verdict.predicted))
    terminal.print(table)
    for claim in judged:
        if claim.verdict.outcome is not Outcome.CONSISTENT:
            terminal.print(f"{claim.name}: {claim.verdict.reason}", **plain)
    for claim in report.claims:
        if claim not in judged:
            terminal.print(f"{claim.name}: not applicable, {claim.verdict.reason}", **plain)
    for sentence in report.missing:
        terminal.print(f"missing: {sentence}", **plain)


def _number(value: float | None, error: float = 0.0, significant: int = 8) -> str:
    """A number, and its error to which then its last digits correspond."""
    if value is None:
        return ""
    if not error:
        return f"{value:.{significant}g}"
    digits = min(max(1 - math.floor(math.log10(error)), 0), 12)
    return f"{value:.{digits}f} ± {error:.2g}"


def _text(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return str(value)
    text = np.array2string(value, precision=6, suppress_small=True, threshold=200)
    return f"\n{text}" if value.ndim > 1 else text
