"""Sweeps from Python: a grid over an experiment, as many runs as wanted, one table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

from plumbline.analysis.catalogue import experiments
from plumbline.analysis.engine.claim import Budget, unknown
from plumbline.analysis.engine.experiment import Experiment
from plumbline.analysis.engine.grid_sweep import MAX_RUNS, plan_sweep
from plumbline.analysis.engine.store import Store
from plumbline.analysis.engine.sweep import Progress
from plumbline.analysis.engine.table import Table, exportable


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
    store: Store,
    executor: Executor | None = None,
    progress: Progress | None = None,
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
        store: Where results are looked up and kept.
        executor: ``None`` runs in this process; `process_pool`, `dask_executor`, or any other executor of
            ``concurrent.futures``.
        progress: Called as ``progress(done, total, label)`` with numbers of jobs.
        out: A file to write the table to, .csv or .parquet.

    Raises:
        ValueError: on a name that is not there, a value out of range, too many runs, or an ``out`` of another kind.
        MissingExtra: if something needed is not installed.
        StoreError, BrokenExecutor, KeyboardInterrupt: As in `run_jobs`; what is done is in the store.

    Example:
        >>> with Store(None) as store:
        ...     table = sweep("train-linear-transformer", {"dim": [2, 3], "context_length": 8}, seeds=2, store=store)
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
    table = plan.run(store=store, executor=executor, progress=progress)
    if out is not None:
        table.write(out)
    return table
