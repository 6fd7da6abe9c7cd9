"""``plumbline check-model``: what a trained model of one's own is."""

from __future__ import annotations

from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.table import Table

from analysis.commands.checking import coloured
from analysis.commands.shared import SeedOption, console, fail
from analysis.engine.claim import unknown
from analysis.engine.extras import MissingExtra
from analysis.engine.files import write_json
from analysis.engine.verdict import Outcome
from analysis.model_check import DEFAULT_MARGIN, check_model, read_task_file, task_file
from theory.memorization import lookup_table
from theory.reasoning import ReasoningTask
from theory.regression import RegressionTask

if TYPE_CHECKING:
    from analysis.engine.model_report import ModelReport

MAX_TASK_TEXT = 1000
EXAMPLES = {
    "regression": task_file(RegressionTask(5, 20)),
    "memorization": task_file(lookup_table(10, 2)),
    "reasoning": task_file(ReasoningTask(noise=0.2), {"name": "Reparam-Linear-FA"}),
}


def print_example(family: str | None) -> None:
    """Print a task file and end; nothing without a family."""
    if family is None:
        return
    if family not in EXAMPLES:
        fail(unknown("family", family, EXAMPLES))
    typer.echo(EXAMPLES[family])
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
    `analysis.task_file(task, model)` writes it.

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
    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    # A table law has all its probabilities in its fields.
    terminal.print(f"{report.model}\n{shorten(str(report.task), MAX_TASK_TEXT, placeholder=' …')}\n", **plain)
    losses = Table(pad_edge=False)
    losses.add_column(report.quantity)
    losses.add_column("value", justify="right")
    losses.add_column("the model's gap to it", justify="right")
    losses.add_column("how it was obtained")
    gaps = {reference.name: f"{report.gap(reference.name):.6g}" for reference in report.references}
    for name, loss in [("this model", report.loss), *((r.name, r.loss) for r in report.references)]:
        error = f" ± {loss.error:.1g}" if loss.error else ""
        losses.add_row(name, f"{loss.value:.8g}{error}", gaps.get(name, ""), loss.method)
    terminal.print(losses)
    for finding in report.findings:
        terminal.print(f"{finding.name}: {_text(finding.value)}", **plain)
    judged = [claim for claim in report.claims if claim.verdict.outcome is not Outcome.NOT_APPLICABLE]
    table = Table(pad_edge=False)
    for column in ("claim", "verdict on this model", "measured", "predicted"):
        table.add_column(column, justify="right" if column in ("measured", "predicted") else "left")
    for claim in judged:
        verdict = claim.verdict
        table.add_row(claim.name, coloured(verdict.outcome), _number(verdict.estimate), _number(verdict.predicted))
    terminal.print(table)
    for claim in judged:
        if claim.verdict.outcome is not Outcome.CONSISTENT:
            terminal.print(f"{claim.name}: {claim.verdict.reason}", **plain)
    for claim in report.claims:
        if claim not in judged:
            terminal.print(f"{claim.name}: not applicable, {claim.verdict.reason}", **plain)
    for sentence in report.missing:
        terminal.print(f"missing: {sentence}", **plain)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.8g}"


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        text = np.array2string(value, precision=6, suppress_small=True, threshold=200)
        return f"\n{text}" if value.ndim > 1 else text
    return f"{value:.8g}" if isinstance(value, float) else str(value)
