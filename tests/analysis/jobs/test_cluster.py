"""A Dask scheduler and two workers on this machine: the same results, and nothing lost when processes die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest
from distributed import Client
from typer.testing import CliRunner

from plumbline.analysis import Store, dask_executor, experiments
from plumbline.analysis.commands.app import app
from plumbline.analysis.jobs import scheduler as sweep
from plumbline.analysis.jobs.exact_json import encode_result
from plumbline.analysis.jobs.job import JobError
from plumbline.analysis.jobs.scheduler import run_jobs
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.sweeps.sweep import plan_sweep
from tests.analysis.jobs.jobs_for_tests import Dies, Square, noted, noted_processes
from tests.analysis.jobs.processes_for_tests import PATIENCE, ROOT, members, stored, until
from tests.analysis.jobs.sweep_for_tests import THROW

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes through /proc")

# The squares of 0…count-1 on a cluster.
SCRIPT = """
import sys
from plumbline.analysis import Session, dask_executor, run_jobs
from tests.analysis.jobs.jobs_for_tests import Square

path, log, scheduler, count = sys.argv[1:]
with dask_executor(scheduler) as workers, Session(path, executor=workers) as session:
    run_jobs([Square(value, log, 0.05) for value in range(int(count))], session=session)
"""


class Cluster:
    """A scheduler and its workers, all in one folder and out of this process's group."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)
        )
        until(lambda: file.exists() and file.read_text(), "scheduler")
        self.address = json.loads(file.read_text())["address"]
        self.workers: list[subprocess.Popen[bytes]] = []

    def _start(self, command: str, *options: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", f"distributed.cli.{command}", *options],
            cwd=self.folder,
            # One worker killed is an accident, with the second the job is to blame.
            env={**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def have(self, workers: int) -> None:
        """Start so many workers less those that live, and wait for the scheduler to know them."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        for _ in range(workers - len(self.workers)):
            folder = str(self.folder)
            options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder)
            self.workers.append(self._start("dask_worker", self.address, *options))
        with Client(self.address, set_as_default=False) as client:
            until(lambda: len(client.nthreads()) == workers, "workers")

    def end(self) -> None:
        """Kill everything that is left, and wait until it is gone."""
        for process in self.processes:
            if members(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
            until(lambda group=process.pid: not members(group), "end")  # type: ignore[misc]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One scheduler for all tests; none of them leaves a process or a folder behind."""
    before = set(ROOT.iterdir())
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.end()
    assert not {path.name for path in set(ROOT.iterdir()) - before if "dask" in path.name}


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    """With two workers that live."""
    started.have(2)
    return started


def test_results_are_the_same_bit_for_bit(cluster: Cluster) -> None:
    """Trainings of two families, there and in this process: the same texts in the store, the same rows."""
    small = {"vocab_size": 12, "sentence_length": 16, "triggers": 2, "outputs": 3, "steps": 5, "noise": [0.2, 0.5]}
    plans = [
        plan_sweep(experiments()["train-linear-transformer"], {"dim": [2, 3], "context_length": 6}, seeds=3),
        plan_sweep(experiments()["train-reasoner"], {"model": "Origin-Linear-FA", **small}, seeds=2),
    ]
    for plan in plans:
        with Store(None) as here, Store(None) as there, dask_executor(cluster.address) as workers:
            expected = list(plan.run(Session(here)).rows())
            assert list(plan.run(Session(there, executor=workers)).rows()) == expected
            jobs = [job for cell in plan.cells for job in cell.unit.jobs]
            texts = [
                [encode_result(result) for result in run_jobs(jobs, session=Session(store))] for store in (here, there)
            ]
        assert texts[0] == texts[1]
        assert {row["outcome"] for row in expected} <= {"converged", "budget"}


def test_an_exception_and_a_nan_are_records(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing lost, nothing doubled: the rows are those of this process, the bad ones among them."""
    for fault in ("raise", "nan"):
        log = tmp_path / fault
        grid = {"size": range(1, 9), "bad": 3, "fault": fault, "log": str(log)}
        plan = plan_sweep(THROW, grid, seeds=2)
        with Store(None) as store, dask_executor(cluster.address) as workers:
            rows = list(plan.run(Session(store, executor=workers)).rows())
            assert Counter(noted(log)) == {f"{size}:0": 1 for size in range(1, 9)}
            assert os.getpid() not in noted_processes(log)
            assert len(store) == (7 if fault == "raise" else 8)
        with Store(None) as store:
            assert rows == list(plan.run(Session(store)).rows())
        assert {row["size"] for row in rows if row["outcome"] not in ("budget",)} == {3}


def test_equal_calls_are_two_calls(cluster: Cluster) -> None:
    """Dask would take the second of two for the first one, and two unseeded draws for one."""
    with dask_executor(cluster.address) as workers:
        first, second = workers.submit(os.urandom, 8), workers.submit(os.urandom, 8)
        assert first.result(PATIENCE) != second.result(PATIENCE)


def test_kill_a_worker_in_the_middle(cluster: Cluster, tmp_path: Path) -> None:
    """The other one finishes; each result is there once, and only what the dead one had runs again."""
    log, count = tmp_path / "log", 30
    killed: list[int] = []

    def kill(done: int, total: int, label: str) -> None:
        if done >= 5 and not killed:
            killed.append(cluster.workers[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    jobs = [Square(value, str(log), 0.05) for value in range(count)]
    with Store(tmp_path / "s") as store, dask_executor(cluster.address) as workers:
        results = run_jobs(jobs, session=Session(store, executor=workers, progress=kill))
        assert len(store) == count
    assert results == [{"square": value**2} for value in range(count)]
    assert len(noted_processes(log)) == 2
    runs = Counter(noted(log))
    assert set(runs) == set(map(str, range(count)))
    assert max(runs.values()) <= 2
    assert cluster.workers[0].wait(PATIENCE) == -signal.SIGKILL


def test_a_job_that_kills_its_workers_is_named(cluster: Cluster, tmp_path: Path) -> None:
    """It is a record; the cluster goes on with whom it has left."""
    cluster.have(3)
    with Store(None) as store, dask_executor(cluster.address) as workers:
        (error,) = run_jobs([Dies(str(tmp_path / "dies"))], session=Session(store, executor=workers))
        assert isinstance(error, JobError)
        assert error.type == "KilledWorker"
        assert len(noted(tmp_path / "dies")) == 2
        assert run_jobs([Square(3, str(tmp_path / "log"))], session=Session(store, executor=workers)) == [{"square": 9}]


def test_kill_the_parent_and_run_again(cluster: Cluster, tmp_path: Path) -> None:
    """What is in the store is not computed again; the cluster takes the next sweep."""
    path, log, count = tmp_path / "s", tmp_path / "log", 60
    first = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(log), cluster.address, str(count)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    cluster.processes.append(first)
    until(lambda: len(stored(path)) >= 5, "five results")
    first.kill()
    first.wait(PATIENCE)
    done = stored(path)
    assert 5 <= len(done) < count

    before = Counter(noted(log))
    jobs = [Square(value, str(log), 0.05) for value in range(count)]
    with Store(path) as store, dask_executor(cluster.address) as workers:
        results = run_jobs(jobs, session=Session(store, executor=workers))
    assert results == [{"square": value**2} for value in range(count)]
    runs = Counter(noted(log))
    assert all(runs[str(value)] == before[str(value)] for value in done)
    assert all(runs[str(value)] > before[str(value)] for value in set(range(count)) - done)


def test_workers_with_other_sources_end_the_sweep(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their results would stand under the keys of sources that did not compute them."""
    monkeypatch.setattr(sweep, "code_version", lambda: "other")
    with (
        Store(None) as store,
        dask_executor(cluster.address) as workers,
        pytest.raises(BrokenExecutor, match=r"worker process \d+ on .* runs other code: install this version there"),
    ):
        run_jobs([Square(1, str(tmp_path / "log"))], session=Session(store, executor=workers))
    assert not noted(tmp_path / "log")


def test_the_command_line_takes_a_scheduler(cluster: Cluster, tmp_path: Path) -> None:
    """The same file as from this process."""
    words = ["sweep", "train-linear-transformer", "--grid", "dim=2,3", "--seeds", "2", "--store", "none", "--jobs", "1"]
    for file, options in (("here.csv", []), ("there.csv", ["--scheduler", cluster.address])):
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / file), *options])
        assert result.exit_code == 0, result.output
    here, there = ((tmp_path / file).read_text(encoding="utf-8") for file in ("here.csv", "there.csv"))
    assert here == there
    assert len(here.splitlines()) == 5


def test_a_lost_scheduler_ends_the_sweep(tmp_path: Path) -> None:
    """With a sentence that says what to do; what was done is in the store."""
    cluster = Cluster(tmp_path)
    try:
        cluster.have(1)
        jobs = [Square(value, str(tmp_path / "log"), 0.05) for value in range(100)]

        def kill(done: int, total: int, label: str) -> None:
            if done == 3:
                cluster.scheduler.kill()

        with Store(None) as store:
            with (
                dask_executor(cluster.address, timeout=5.0) as workers,
                pytest.raises(BrokenExecutor, match=r"scheduler is lost\); what is done is in the store: run again"),
            ):
                run_jobs(jobs, session=Session(store, executor=workers, progress=kill))
            assert 3 <= len(store) < 100
    finally:
        cluster.end()
