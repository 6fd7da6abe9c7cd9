"""What a sweep of a million runs costs besides its training: every number of docs/scaling.md.

    python benchmarks/scaling.py                       # some twenty minutes
    python benchmarks/scaling.py --ensembles 5000      # a smaller sweep

The sweep is real but for the training: its 62,500 ensembles of 16 runs are planned by their experiment, their results
have the arrays of real ones (filled with random numbers), and are kept, read, found again, exported, and sent through
Dask as always. Training is timed on real ensembles of each experiment. Needs the extras ``cluster`` and ``parquet``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from plumbline.analysis import Store, dask_executor, experiments, run_jobs
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.sweeps.sweep import Sweep, plan_sweep

RUNS = 16
THIRDS = 3
"""How often the memory of the scheduler is looked at."""


@dataclass(frozen=True)
class Untrained:
    """The result of a `TrainLinearTransformer` of one layer without its training."""

    place: int
    dim: int = 5

    def run(self) -> dict[str, Any]:
        """Random numbers of the right names, shapes and kinds."""
        draws = np.random.default_rng(self.place)
        return {
            "key_query": draws.normal(size=(RUNS, 1, 1, self.dim, self.dim)),
            "value": None,
            "losses": draws.random(RUNS),
            "residuals": draws.random(RUNS),
            "outcomes": ["converged"] * RUNS,
            "steps": draws.integers(100, size=RUNS),
            "curve_steps": np.array([0, 100]),
            "curve_losses": draws.random((2, RUNS)),
            "curve_parameters": {},
            "risks": draws.random(RUNS),
            "risk_errors": np.zeros(RUNS),
        }


def memory(process: str = "self") -> float:
    """Resident memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def planned(ensembles: int) -> Sweep:
    """A sweep of so many ensembles over the context length, without its training."""
    seeds = 256
    points = -(-ensembles * RUNS // seeds)
    grid = {"dim": 5, "context_length": range(1, points + 1)}
    start, before = time.perf_counter(), memory()
    sweep = plan_sweep(experiments()["train-linear-transformer"], grid, seeds=seeds, max_runs=10**7)
    print(f"{sweep}: planned in {time.perf_counter() - start:.1f} s, {memory() - before:.0f} MiB")
    cells = [replace(cell, unit=replace(cell.unit, jobs=(Untrained(place),))) for place, cell in enumerate(sweep.cells)]
    return replace(sweep, cells=cells)


def whole(ensembles: int, folder: Path) -> None:
    """Keep, read, find again and export all of it."""
    sweep = planned(ensembles)
    path = folder / "store.sqlite"
    with Store(path) as store:
        start = time.perf_counter()
        table = sweep.run(Session(store))
        took = time.perf_counter() - start
        each = took / len(sweep.cells) * 1e3
        print(f"computed without training, kept and read: {took:.0f} s, {each:.2f} ms an ensemble")
        print(f"memory of this process, torch included: {memory():.0f} MiB")
        start = time.perf_counter()
        sweep.run(Session(store))
        print(f"found again: {time.perf_counter() - start:.0f} s")
    size = path.stat().st_size
    print(f"store: {size / 2**20:.0f} MiB, {size / len(sweep.cells) / 2**10:.1f} KiB an ensemble")
    for suffix in ("csv", "parquet"):
        out = folder / f"rows.{suffix}"
        start = time.perf_counter()
        table.write(out)
        took, size = time.perf_counter() - start, out.stat().st_size / 2**20
        print(f"{suffix}: {len(table):,} rows in {took:.0f} s, {size:.0f} MiB")


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, str]]:
    """Address and process id of a scheduler with one worker, both gone afterwards."""
    file = folder / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    started = [subprocess.Popen([*command, "--no-dashboard", "--scheduler-file", str(file)], cwd=folder, stderr=-3)]
    try:
        while not (file.exists() and file.read_text()):
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny"]
        started.append(
            subprocess.Popen([*command, "--no-dashboard", "--local-directory", str(folder)], cwd=folder, stderr=-3)
        )
        yield address, str(started[0].pid)
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def through_dask(ensembles: int, folder: Path) -> None:
    """All results through a scheduler: rate, and how its memory grows."""
    length = ensembles // THIRDS
    with cluster(folder) as (address, scheduler), dask_executor(address) as workers:
        run_jobs([Untrained(-1)], session=Session(executor=workers))
        sizes = [memory(scheduler)]
        rates = []
        for part in range(THIRDS):
            jobs = [Untrained(part * length + place) for place in range(length)]
            with Store(folder / "dask.sqlite") as store:
                start = time.perf_counter()
                run_jobs(jobs, session=Session(store, executor=workers))
                rates.append(len(jobs) / (time.perf_counter() - start))
            sizes.append(memory(scheduler))
        done = ", ".join(f"{size:.0f}" for size in sizes)
        print(f"Dask, one worker: {median(rates):.0f} results a second, kept")
        print(f"memory of the scheduler after 1 task and after every {length:,}: {done} MiB")


REAL: dict[str, dict[str, Any]] = {
    "train-linear-transformer": {"layers": [1, 2, 3]},
    "train-along-landscape": {},
    "train-next-token-model": {},
    "train-reasoner": {"model": ["Reparam-Linear-FA", "Origin-Linear-FA"]},
}


def trained(folder: Path) -> None:
    """Real ensembles of default sizes at the quick budget: time on one core, and what the store keeps."""
    for name, grid in REAL.items():
        for cell in plan_sweep(experiments()[name], grid, seeds=RUNS).cells:
            path = folder / f"real-{name}.sqlite"
            path.unlink(missing_ok=True)
            job = cell.unit.jobs[0]
            replace(job, seed=1).run()  # type: ignore[type-var]  # imports and caches
            start = time.process_time()
            with Store(path) as store:
                run_jobs([job], session=Session(store))
                took = time.process_time() - start
                (length,) = store._connection.execute("SELECT length(job) + length(result) FROM records").fetchone()
            point = ", ".join(f"{key}={cell.points[0][key]}" for key in grid)
            print(
                f"{name} {point}: {took:.2f} s of a core for an ensemble of {RUNS}, {length / 2**10:.0f} KiB; "
                f"a million runs: {took * 10**6 / RUNS / 3600:.3g} core hours"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ensembles", type=int, default=62_500)
    parser.add_argument("--only", nargs="+", choices=("whole", "dask", "trained"), default=["whole", "dask", "trained"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        if "whole" in arguments.only:
            whole(arguments.ensembles, Path(name))
        if "dask" in arguments.only:
            through_dask(arguments.ensembles, Path(name))
        if "trained" in arguments.only:
            trained(Path(name))
