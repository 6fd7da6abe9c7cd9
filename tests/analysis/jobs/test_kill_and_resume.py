"""Workers and parents that are killed or interrupted lose no more than what was in flight."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from plumbline.analysis.jobs import scheduler
from plumbline.analysis.jobs.executors import ProcessPool, process_pool
from plumbline.analysis.jobs.job import JobError
from plumbline.analysis.jobs.scheduler import Finished, drive, run_jobs
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.jobs.store import Store
from tests.analysis.jobs.jobs_for_tests import (
    Dies,
    DiesWhileSending,
    Raises,
    Square,
    Waits,
    noted,
    noted_processes,
)
from tests.analysis.jobs.processes_for_tests import PATIENCE, ROOT, members, stored, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

WINDOW = 4  # jobs in flight on two workers: two run, two are on their way to them

# Squares of 0…count-1, each after so many seconds, on so many workers (0: in this process).
SCRIPT = """
import sys
from contextlib import nullcontext
from plumbline.analysis.jobs import scheduler
from plumbline.analysis.jobs.executors import process_pool
from plumbline.analysis.jobs.scheduler import run_jobs
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.jobs.store import Store
from tests.analysis.jobs.jobs_for_tests import Square

def main(path, log, workers, count, seconds):
    jobs = [Square(value, log, float(seconds)) for value in range(int(count))]
    with Store(path) as store, process_pool(int(workers)) if int(workers) else nullcontext() as pool:
        print([result["square"] for result in run_jobs(jobs, session=Session(store, executor=pool))])

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    """Two workers."""
    with process_pool(2) as pool:
        yield pool


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the script in a process group of its own; nothing of it outlives the test."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    started = []

    def start(*arguments: object, script: Path = script) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if members(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize(("workers", "in_flight"), [(0, 1), (2, WINDOW)])
def test_kill_the_parent_and_run_again(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], workers: int, in_flight: int
) -> None:
    """Only what was in flight at the kill is computed again, and no worker stays behind."""
    path, log = tmp_path / "s", tmp_path / "log"
    count = 30
    first = start(path, log, workers, count, 0.08)
    until(lambda: len(stored(path)) >= 5, "five results")
    first.kill()
    first.wait()
    done = stored(path)
    assert 5 <= len(done) < count
    until(lambda: not members(first.pid), "end of the workers")

    before = Counter(noted(log))
    second = start(path, log, workers, count, 0.08)
    output, errors = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0, errors
    assert output == f"{[value**2 for value in range(count)]}\n"
    runs = Counter(noted(log))
    assert all(runs[str(value)] == 1 for value in done)
    assert all(runs[str(value)] - before[str(value)] == 1 for value in range(count) if value not in done)
    assert sum(runs.values()) <= count + in_flight


@pytest.mark.parametrize("workers", [0, 2])
def test_interrupt_ends_at_once_and_keeps_what_is_done(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], workers: int
) -> None:
    """Ctrl-C reaches the whole process group, as at a terminal: no word from workers, none left."""
    path, log = tmp_path / "s", tmp_path / "log"
    count = 40
    process = start(path, log, workers, count, 1.0)
    until(lambda: len(stored(path)) >= 1, "first result")
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert time.monotonic() - began < 10.0  # the jobs that are left would take 19 or more
    assert process.returncode == -signal.SIGINT, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "spawn_main" not in errors, errors  # nothing from the workers
    until(lambda: not members(process.pid), "end of the workers")
    done = stored(path)
    assert 1 <= len(done) < count
    with Store(path) as store:
        assert len(store) == len(done)


def test_interrupt_while_workers_start(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """A worker does not hear Ctrl-C even before it has begun to work."""
    log = tmp_path / "log"
    process = start(tmp_path / "s", log, 2, 4, 30.0)
    # The parent, the tracker of the multiprocessing module, and a first worker that has had no time to import.
    until(lambda: len(members(process.pid)) >= 3, "worker")
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGINT, errors
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "spawn_main" not in errors, errors  # nothing from the workers
    until(lambda: not members(process.pid), "end of the workers")


def test_a_job_that_kills_its_worker_is_named(tmp_path: Path, pool: ProcessPool) -> None:
    """It becomes an error; the others complete, and only those in flight with it run again."""
    log = tmp_path / "log"
    jobs: list[Any] = [Square(value, str(log), 0.02) for value in range(12)]
    jobs.insert(5, Dies(str(log)))
    with Store(tmp_path / "s") as store:
        results = run_jobs(jobs, session=Session(store, executor=pool))
        error = results.pop(5)
        assert results == [{"square": value**2} for value in range(12)]
        assert error == JobError(
            "WorkerDied",
            "its worker process died while it ran this job alone (killed by signal 9, often for want of memory)",
        )
        runs = Counter(noted(log))
        assert runs.pop("dies") == 2  # with others, then alone
        assert set(runs.values()) <= {1, 2}
        assert sum(runs.values()) <= 12 + WINDOW - 1
        # The pool is whole again, and the next call tries the killer again.
        assert isinstance(run_jobs(jobs, session=Session(store, executor=pool))[5], JobError)
        assert Counter(noted(log))["dies"] == 4
        one, other = str(tmp_path / "one"), str(tmp_path / "other")
        meeting = run_jobs([Waits(one, made=other), Waits(other, made=one)], session=Session(store, executor=pool))
        assert meeting == [{"appeared": True}] * 2  # each ran while the other did, on a worker of its own


def test_suspects_run_alone(tmp_path: Path, pool: ProcessPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the last suspect takes its time, no other job is put at its side."""
    monkeypatch.setattr(scheduler, "POLL_SECONDS", 0.01)
    log = str(tmp_path / "log")
    killers = [Dies(log, seconds=0.1), Dies(log, seconds=0.2)]
    jobs: list[Any] = [killers[0], Square(0, log, 0.5), Square(1, log), killers[1]]
    jobs += [Square(value, log) for value in range(2, 8)]
    with Store(None) as store:
        results = run_jobs(jobs, session=Session(store, executor=pool))
    assert [isinstance(result, JobError) for result in results] == [job in killers for job in jobs]


def test_several_killers_and_other_errors(tmp_path: Path, pool: ProcessPool) -> None:
    """Each is named; plans that do not need them finish."""
    log = tmp_path / "log"

    def plan(*jobs: Any) -> Any:
        results = yield list(jobs)
        return [result.type if isinstance(result, JobError) else result["square"] for result in results]

    square, cure = Square(2, str(log)), str(tmp_path / "cure")
    plans = {
        "killers": plan(Dies(str(log)), square, DiesWhileSending()),
        "raises": plan(Raises(str(log), cure), square),
        "good": plan(square, Square(3, str(log))),
    }
    with Store(None) as store:
        assert drive(plans, session=Session(store, executor=pool)) == {
            "killers": Finished(["WorkerDied", 4, "WorkerDied"]),
            "raises": Finished(["ArithmeticError", 4]),
            "good": Finished([4, 9]),
        }


def test_a_death_that_does_not_repeat_costs_nothing(tmp_path: Path, pool: ProcessPool) -> None:
    """A job whose worker died among others succeeds when it runs alone."""
    jobs: list[Any] = [Dies(str(tmp_path / "log"), once=str(tmp_path / "once")), Square(1, str(tmp_path / "log"))]
    with Store(None) as store:
        assert run_jobs(jobs, session=Session(store, executor=pool)) == [{"survived": True}, {"square": 1}]


def test_a_worker_killed_from_outside(tmp_path: Path, pool: ProcessPool) -> None:
    """`kill -9` of a worker in the middle: all results arrive, none that was stored is computed again."""
    log, path = tmp_path / "log", tmp_path / "s"
    done: set[int] = set()

    def kill_one() -> None:
        until(lambda: len(stored(path)) >= 4, "four results")
        worker = next(iter(noted_processes(log)))
        done.update(stored(path))
        os.kill(worker, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with Store(path) as store:
        results = run_jobs([Square(value, str(log), 0.1) for value in range(12)], session=Session(store, executor=pool))
    killer.join()
    assert results == [{"square": value**2} for value in range(12)]
    runs = Counter(noted(log))
    assert len(done) >= 4
    assert all(runs[str(value)] == 1 for value in done)
    assert sum(runs.values()) <= 12 + WINDOW


def test_workers_killed_between_two_calls(tmp_path: Path, pool: ProcessPool) -> None:
    """A pool whose workers died at rest goes on with new ones, and suspects no job."""
    log = tmp_path / "log"
    with Store(None) as store:
        run_jobs([Square(value, str(log), 0.1) for value in (1, 2)], session=Session(store, executor=pool))
        for worker in noted_processes(log):
            os.kill(worker, signal.SIGKILL)
        until(pool.has_lost_workers, "death of a worker")
        assert run_jobs([Square(3, str(log))], session=Session(store, executor=pool)) == [{"square": 9}]


def test_a_plain_pool_that_breaks(tmp_path: Path) -> None:
    """It is not ours to renew: the error says so, and what was done is kept."""
    log = str(tmp_path / "log")
    with Store(None) as store, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as plain:
        with pytest.raises(BrokenExecutor, match="what is done is in the store: run again with a new executor"):
            run_jobs([Square(1, log), Dies(log)], session=Session(store, executor=plain))
        assert len(store) == 1


def test_a_script_without_guard_is_told_so(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    """Workers that cannot start are not blamed on the jobs."""
    script = tmp_path / "unguarded.py"
    script.write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    process = start(tmp_path / "s", tmp_path / "log", 1, 3, 0.0, script=script)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "worker processes end before they start to work" in errors
    assert 'guarded by if __name__ == "__main__"' in errors
    assert stored(tmp_path / "s") == set()
