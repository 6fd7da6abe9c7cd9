"""What an executor adds to a sweep: one worker of each against this process; prints ratios of medians.

    python benchmarks/sweep.py            # some minutes
    python benchmarks/sweep.py --only tasks --rounds 3

The jobs are ensembles as a sweep trains them (16 linear transformers of one layer on the exact risk, Adam), long enough
to take 0.1, 1 and 2 seconds here (``--seconds``). Every executor has a single worker, started and warm, so that nothing
but its overhead is compared; their rounds take turns, so that a busy machine slows all of them. What is spent
outside the jobs is printed beside: it says more than the ratio where other work makes times of equal jobs differ.
Needs the extra ``cluster``.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from plumbline.analysis import Store, dask_executor, process_pool, run_jobs
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.regression import TrainLinearTransformer
from plumbline.models.training import Training
from plumbline.theory.regression import RegressionTask

RUNS = 16
Executors = dict[str, Executor | None]


@dataclass(frozen=True)
class Nothing:
    """A job of no time."""

    seed: int

    def run(self) -> dict[str, Any]:
        """Return its seed."""
        return {"seed": self.seed}


def training(steps: int, seed: int) -> TrainLinearTransformer:
    """An ensemble that takes as many steps, whatever it reaches."""
    return TrainLinearTransformer(
        task=RegressionTask(5, 20),
        training=Training(optimizer="adam", steps=steps, learning_rate=1e-4, tolerance=0.0, record_every=steps),
        runs=RUNS,
        seed=seed,
        exact_risk=False,
    )


@contextmanager
def executors() -> Iterator[Executors]:
    """In this process, a pool, and a Dask cluster, each with one warm worker."""
    from distributed import LocalCluster

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        began = time.perf_counter()
        pool = stack.enter_context(process_pool(1))
        run_jobs([training(1, 0)], session=Session(executor=pool))
        pooled = time.perf_counter() - began
        began = time.perf_counter()
        cluster = stack.enter_context(
            LocalCluster(
                n_workers=1,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=":0",
                local_directory=folder,
            )
        )
        dask = stack.enter_context(dask_executor(cluster.scheduler_address))
        run_jobs([training(1, 0)], session=Session(executor=dask))
        print(f"to start one worker and import torch: pool {pooled:.1f} s, Dask {time.perf_counter() - began:.1f} s")
        run_jobs([training(1, 0)])
        yield {"in process": None, "pool": pool, "Dask": dask}


def timed(jobs: list[Any], executor: Executor | None) -> tuple[float, float]:
    """Wall time of a sweep of the jobs with an empty store, and how much of it was spent inside the jobs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        with Store(path) as store:
            start = time.perf_counter()
            run_jobs(jobs, session=Session(store, executor=executor))
            wall = time.perf_counter() - start
        with closing(sqlite3.connect(path)) as connection:
            (inside,) = connection.execute("SELECT sum(seconds) FROM records").fetchone()
    return wall, inside


def compared(make: Any, executors: Executors, rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall time of each executor, and of what was outside the jobs; in every round each has the same jobs."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in executors}
    for turn in range(rounds):
        for name, executor in executors.items():
            times[name].append(timed(make(turn), executor))
    return {
        name: (median(wall for wall, _ in pairs), median(wall - inside for wall, inside in pairs))
        for name, pairs in times.items()
    }


def overhead(executors: Executors, rounds: int, lengths: list[float]) -> None:
    """Sweeps of trainings of several lengths."""
    steps = 500
    rate = steps / median(timed([training(steps, seed)], None)[0] for seed in range(5))
    for seconds in lengths:
        length, count = max(1, round(rate * seconds)), max(4, round(4 / seconds))

        def make(turn: int, length: int = length, count: int = count) -> list[Any]:
            return [training(length, 1000 * turn + place) for place in range(count)]

        found = compared(make, executors, rounds)
        here, _ = found["in process"]
        print(f"{count} ensembles of {RUNS} runs, {here / count:.2f} s each:")
        for name, (wall, outside) in found.items():
            print(
                f"  {name}: {wall / here:.3f} times in-process (ratio of medians); outside the jobs "
                f"{outside / count * 1e3:.1f} ms each, {100 * outside / here:.1f} % of in-process"
            )


def tasks(executors: Executors, rounds: int, lengths: list[float]) -> None:
    """Jobs of no time: what a task costs."""
    found = compared(lambda turn: [Nothing(1000 * turn + place) for place in range(500)], executors, rounds)
    for name, (value, _) in found.items():
        print(f"jobs of no time, {name}: {500 / value:.0f} a second, {value / 500 * 1e3:.2f} ms each")


def together(executors: Executors, rounds: int, lengths: list[float]) -> None:
    """What the ensemble is worth: 16 runs one by one against together."""
    alone = [replace(training(100, seed), runs=1) for seed in range(RUNS)]
    times = [(timed(alone, None)[0], timed([training(100, turn)], None)[0]) for turn in range(rounds)]
    one, all_ = (median(column) for column in zip(*times, strict=True))
    print(f"{RUNS} runs of 100 steps one by one against together: {one:.2f} / {all_:.2f} s = {one / all_:.1f}×")


PARTS = {"overhead": overhead, "tasks": tasks, "together": together}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", nargs="+", type=float, default=[0.1, 1.0, 2.0], help="lengths of a job")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with executors() as running:
        for part in arguments.only:
            PARTS[part](running, arguments.rounds, arguments.seconds)
