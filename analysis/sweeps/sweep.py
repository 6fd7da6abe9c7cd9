"""A sweep over a grid: counted before it starts, run ensemble by ensemble, read as a table of runs."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from plumbline.analysis.budget import Budget
from plumbline.analysis.catalogue import experiments
from plumbline.analysis.jobs.job import Job, JobError
from plumbline.analysis.jobs.scheduler import stream_jobs
from plumbline.analysis.jobs.session import Session, own_or
from plumbline.analysis.names import unknown
from plumbline.analysis.sweeps.experiment import Cell, Experiment, Measured, Unit
from plumbline.analysis.sweeps.grid import Point, checked_grid, points
from plumbline.analysis.sweeps.table import Table, exportable
from plumbline.theory import checks

MAX_RUNS = 10**6
"""Runs above which a sweep does not start unless it is told to."""
SEEDS_APART = 2**20
"""Between the seeds of the ensembles of one grid point: sweeps with smaller seeds share no run."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """What `plan_sweep` has laid out; `str` counts it."""

    experiment: Experiment
    budget: Budget
    grid_points: int
    runs: int
    cells: list[Cell] = field(repr=False)

    def __str__(self) -> str:
        sizes = f"{self.grid_points:,} grid points, {self.runs:,} runs in {len(self.cells):,} ensembles"
        return f"{self.experiment.name}: {sizes}"

    def run(self, session: Session | None = None) -> Table:
        """Compute what the store does not have, and return a row for each run.

        A job that fails, by an exception or with its worker, leaves rows with the outcome ``"error"`` and its message;
        the next call tries it again.

        Args:
            session: Where jobs run and their results are kept; by default in this process and its memory. Its progress
                counts jobs.

        Raises:
            StoreError, BrokenExecutor, KeyboardInterrupt: As in `run_jobs`; what is done is in the store.
        """
        found: dict[int, Measured | JobError] = {}
        groups = (cell.unit.jobs for cell in self.cells)
        with own_or(session) as session:
            for number, results in stream_jobs(groups, session=session):
                found[number] = _read(self.cells[number].unit, results)
        return Table(self.experiment, self.budget, [(cell, found[place]) for place, cell in enumerate(self.cells)])

    def within(self) -> Generator[list[Job], list[Any], Table]:
        """The same inside the plan of a figure or a claim: ``table = yield from sweep.within()``."""
        results = iter((yield [job for cell in self.cells for job in cell.unit.jobs]))
        found = [(cell, _read(cell.unit, [next(results) for _ in cell.unit.jobs])) for cell in self.cells]
        return Table(self.experiment, self.budget, found)


def plan_sweep(
    experiment: Experiment,
    grid: Mapping[str, Any] | None = None,
    *,
    seeds: int = 1,
    seed: int = 0,
    budget: Budget = Budget.QUICK,
    runs_together: int = 16,
    max_runs: int = MAX_RUNS,
) -> Sweep:
    """Lay a sweep out, without running anything.

    Args:
        experiment: One of `experiments`.
        grid: Values by key: one, or a sequence of them. Keys left out have their default.
        seeds: Random starts at each grid point.
        seed: All randomness derives from it.
        budget: Size of what the grid does not name: steps, samples.
        runs_together: Largest number of runs in an ensemble, the unit of work.
        max_runs: Refuse more runs than this.

    Raises:
        ValueError: on a key that is not there, a value out of range (with its grid point), or too many runs.
    """
    budget = Budget(checks.one_of("budget", budget, map(str, Budget)))
    seeds = checks.integer("seeds", seeds, at_least=1)
    seed = checks.integer("seed", seed, at_least=0, at_most=SEEDS_APART - 1)
    runs_together = checks.integer("runs_together", runs_together, at_least=1)
    values = checked_grid(grid or {}, experiment.keys)
    grid_points = math.prod(len(options) for options in values.values())
    if grid_points * seeds > max_runs:
        raise ValueError(
            f"grid must make at most max_runs = {max_runs:,} runs, got {grid_points * seeds:,} "
            f"({grid_points:,} points, {seeds:,} seeds each)"
        )
    cells = [
        cell
        for point, joined in _together(experiment, values, runs_together)
        for cell in _cells(experiment, point, joined, seeds, seed, budget, runs_together)
    ]
    return Sweep(experiment, budget, grid_points, grid_points * seeds, cells)


def _together(experiment: Experiment, values: dict[str, list[Any]], most: int) -> Iterator[tuple[Point, list[Point]]]:
    """Points of the keys that cannot be joined, each with points of the keys that can, alike and not too many."""
    groups: dict[Any, list[Point]] = {}
    for joined in points({name: values[name] for name in experiment.joined}):
        groups.setdefault(experiment.alike(**joined), []).append(joined)
    chunks = [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]
    for point in points({name: options for name, options in values.items() if name not in experiment.joined}):
        for chunk in chunks:
            yield point, chunk


def _cells(
    experiment: Experiment, point: Point, joined: list[Point], seeds: int, seed: int, budget: Budget, most: int
) -> Iterator[Cell]:
    places = [{**point, **values} for values in joined]
    given = {**point, **{name: tuple(values[name] for values in joined) for name in experiment.joined}}
    starts = max(1, most // len(places))
    for chunk, first in enumerate(range(0, seeds, starts)):
        own, count = seed + chunk * SEEDS_APART, min(starts, seeds - first)
        try:
            unit = experiment.build(**given, runs=count, seed=own, budget=budget)
        except ValueError as error:
            where = ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)
            raise ValueError(f"{error} (at {where})") from None
        yield Cell(places, own, count * len(places), unit)


def _read(unit: Unit, results: list[Any]) -> Measured | JobError:
    """What the runs came to, or the first error."""
    failed = next((result for result in results if isinstance(result, JobError)), None)
    if failed is not None:
        return failed
    try:
        return unit.read(*results)
    except Exception as error:  # a sweep of days does not end with one result that cannot be read
        return JobError(type(error).__name__, str(error))


def named_experiment(name: str) -> Experiment:
    """The experiment of this name, or ValueError with the nearest names."""
    known = experiments()
    if name not in known:
        raise ValueError(unknown("experiment", name, known))
    return known[name]


def sweep(
    experiment: str | Experiment,
    grid: Mapping[str, Any] | None = None,
    *,
    seeds: int = 1,
    seed: int = 0,
    budget: Budget = Budget.QUICK,
    runs_together: int = 16,
    max_runs: int = MAX_RUNS,
    session: Session | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Table:
    """Train an experiment at every point of a grid; return, and write if asked, a row for each run.

    Args:
        experiment: The name of one of `experiments`, or one of your own.
        grid: Values by key: one, or a sequence of them. Keys left out have their default.
        seeds: Random starts at each grid point.
        seed: All randomness derives from it.
        budget: Size of what the grid does not name: steps, samples.
        runs_together: Largest number of runs in an ensemble, the unit of work.
        max_runs: Refuse more runs than this.
        session: As in `Sweep.run`.
        out: A file to write the table to, .csv or .parquet.

    Raises:
        ValueError: on a name that is not there, a value out of range, too many runs, or an ``out`` of another kind.
        MissingExtra: if something needed is not installed.
        StoreError, BrokenExecutor, KeyboardInterrupt: As in `run_jobs`; what is done is in the store.

    Example:
        >>> table = sweep("train-linear-transformer", {"dim": [2, 3], "context_length": 8}, seeds=2)
        >>> [(row["dim"], row["run"], f"{row['measured']:.6f}", f"{row['predicted']:.6f}") for row in table.rows()]
        [(2, 0, '0.545455', '0.545455'), (2, 1, '0.545455', '0.545455'), \
(3, 0, '1.000000', '1.000000'), (3, 1, '1.000000', '1.000000')]
    """
    chosen = named_experiment(experiment) if isinstance(experiment, str) else experiment
    if out is not None:
        exportable(out)
    plan = plan_sweep(
        chosen, grid, seeds=seeds, seed=seed, budget=budget, runs_together=runs_together, max_runs=max_runs
    )
    table = plan.run(session)
    if out is not None:
        table.write(out)
    return table
