"""``plumbline sweep``: an experiment over a grid, here or on a cluster, and its table."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.table import Table as TextTable

from plumbline.analysis.budget import Budget
from plumbline.analysis.catalogue import experiments
from plumbline.analysis.commands.shared import (
    DEFAULT_JOBS,
    DEFAULT_STORE,
    BudgetOption,
    JobsOption,
    SeedOption,
    StoreOption,
    console,
    fail,
    quiet,
    session,
    with_models,
)
from plumbline.analysis.extras import MissingExtra
from plumbline.analysis.jobs.cluster import dask_executor
from plumbline.analysis.sweeps.grid import parse_grid
from plumbline.analysis.sweeps.sweep import MAX_RUNS, Sweep, named_experiment, plan_sweep
from plumbline.analysis.sweeps.table import Table, exportable

LOG_SECONDS = 30.0
"""Between two lines of progress where there is no terminal."""
MANY_POINTS = 40
"""Grid points of which a table is printed."""


def sweep_command(
    name: Annotated[str | None, typer.Argument(help="The experiment; none: list them with their keys.")] = None,
    grid: Annotated[
        list[str] | None, typer.Option("--grid", help="key=2,5,10 or key=5:50:5; may be given several times.")
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Random starts at each grid point.")] = 1,
    budget: BudgetOption = Budget.QUICK,
    seed: SeedOption = 0,
    together: Annotated[int, typer.Option("--together", min=1, help="Most runs in one ensemble.")] = 16,
    max_runs: Annotated[int, typer.Option("--max-runs", min=1, help="Refuse more runs than this.")] = MAX_RUNS,
    jobs: JobsOption = DEFAULT_JOBS,
    scheduler: Annotated[
        str | None, typer.Option("--scheduler", help="Dask scheduler (tcp://HOST:PORT) whose workers run the jobs.")
    ] = None,
    store: StoreOption = str(DEFAULT_STORE),
    out: Annotated[Path | None, typer.Option("--out", help="Write a row for each run: FILE.csv or .parquet.")] = None,
) -> None:
    """Train an experiment over a grid and hold every run against theory.

    Exit code: 0 every run was computed; 1 some could not be; 2 bad usage.
    """
    if name is None:
        _list()
        return
    with_models()
    plan = _planned(name, grid or [], seeds, seed, budget, together, max_runs, out)
    typer.echo(str(plan), err=True)
    with session(store, 1 if scheduler else jobs, rate=True) as opened:
        if not sys.stderr.isatty():
            opened.progress = Lines()
        try:
            with dask_executor(scheduler) if scheduler else nullcontext(opened.executor) as workers:
                opened.executor = workers
                table = plan.run(opened)
        except (MissingExtra, ValueError) as error:
            fail(str(error))
        except BrokenExecutor as error:
            quiet(opened)
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None
        if out is not None:
            table.write(out)
            quiet(opened)
            typer.echo(f"wrote {len(table):,} rows to {out}", err=True)
    _print(plan, table)
    raise typer.Exit(1 if table.errors() else 0)


def _planned(
    name: str, grid: list[str], seeds: int, seed: int, budget: Budget, together: int, max_runs: int, out: Path | None
) -> Sweep:
    """The sweep laid out; whatever is wrong with it ends with exit code 2 before anything runs."""
    try:
        experiment = named_experiment(name)
        if out is not None:
            exportable(out)
        return plan_sweep(
            experiment,
            parse_grid(grid, experiment.keys),
            seeds=seeds,
            seed=seed,
            budget=budget,
            runs_together=together,
            max_runs=max_runs,
        )
    except (ValueError, MissingExtra) as error:
        fail(str(error))


def _list() -> None:
    table = TextTable(show_lines=True)
    for column in ("experiment", "trains", "keys"):
        table.add_column(column)
    for experiment in experiments().values():
        keys = "\n".join(str(key) for key in experiment.keys.values())
        table.add_row(experiment.name, experiment.summary, keys)
    console().print(table)


def _print(plan: Sweep, table: Table) -> None:
    """Medians at each grid point, where these are few; what failed; and how all runs ended."""
    seen = [point for cell in plan.cells for point in cell.points]
    varied = [name for name in plan.experiment.keys if len({point[name] for point in seen}) > 1]
    if plan.grid_points <= MANY_POINTS:
        console().print(_medians(table, varied))
    for cell, error in islice(table.errors(), 5):
        typer.echo(f"failed: {cell.points[0]}, seed {cell.seed}: {error.type}: {error.message}", err=True)
    counts = ", ".join(f"{count:,} {outcome}" for outcome, count in table.outcomes().most_common())
    typer.echo(f"{len(table):,} runs: {counts}")


def _medians(table: Table, varied: list[str]) -> TextTable:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in table.rows():
        groups[(*(row[name] for name in varied), row["quantity"], row["theory"])].append(row)
    text = TextTable()
    for column in (*varied, "quantity", "theory", "outcomes"):
        text.add_column(column)
    for column in ("measured (median)", "error of a run", "predicted", "gap"):
        text.add_column(column, justify="right")
    for place, rows in groups.items():
        outcomes = Counter(row["outcome"] for row in rows)
        measured, predicted, gap = (
            [row[column] for row in rows if row[column] is not None] for column in ("measured", "predicted", "gap")
        )
        errors = [row["error"] for row in rows if row["measured"] is not None]
        text.add_row(
            *("" if value is None else (f"{value:g}" if isinstance(value, float) else str(value)) for value in place),
            ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()),
            _median(measured),
            _error(errors),
            _median(predicted),
            _median(gap),
        )
    return text


def _median(values: list[float]) -> str:
    return f"{median(values):.4g}" if values else ""


def _error(errors: list[float | None]) -> str:
    """The largest of those known; in words where there is none."""
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return "not estimated"
    if not known:
        return ""
    return f"≤ {max(known):.2g}" if any(known) else "exact"


class Lines:
    """Progress as a line now and then: for log files."""

    def __init__(self) -> None:
        self._began = self._said = time.monotonic()
        self._first: int | None = None

    def __call__(self, done: int, total: int, label: str) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if now - self._said < LOG_SECONDS and done < total:
            return
        rate = (done - self._first) / max(now - self._began, 1e-9)
        left = f", {_duration((total - done) / rate)} left" if rate else ""
        typer.echo(f"{done:,} of {total:,} jobs, {rate:.3g}/s{left}", err=True)
        self._said = now


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
