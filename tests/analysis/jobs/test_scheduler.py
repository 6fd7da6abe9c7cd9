"""Jobs are computed once, plans advance together, errors come back as records."""

from __future__ import annotations

import importlib.util
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import closing
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from plumbline.analysis.jobs.exact_json import encode_result
from plumbline.analysis.jobs.executors import ProcessPool, process_pool
from plumbline.analysis.jobs.job import JobError, job_key
from plumbline.analysis.jobs.scheduler import Finished, drive, run_jobs, stream_jobs
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.jobs.store import Store, StoreError
from tests.analysis.jobs.jobs_for_tests import (
    Arrays,
    Complex,
    Exits,
    Interrupts,
    NoRun,
    Raises,
    Square,
    Threads,
    Waits,
    noted,
)

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPool]:
    """Two workers for the whole file: starting them costs more than most tests."""
    with process_pool(2) as pool:
        yield pool


@pytest.fixture(params=["in process", "threads", "processes"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor | None]:
    """The kinds of executor, which must not differ in what comes out."""
    if request.param == "in process":
        yield None
    elif request.param == "threads":
        with ThreadPoolExecutor(2) as threads:
            yield threads
    else:
        yield request.getfixturevalue("pool")


def test_results_in_order_each_computed_once(tmp_path: Path, executor: Executor | None) -> None:
    """Equal jobs are one job; the next call and the next process of the same store compute nothing."""
    log = tmp_path / "log"
    jobs = [Square(value, str(log)) for value in (3, 1, 2, 3, 1)]
    for _ in range(2):
        with Store(tmp_path / "s") as store:
            for _ in range(2):
                results = run_jobs(jobs, session=Session(store, executor=executor))
                assert results == [{"square": value} for value in (9, 1, 4, 9, 1)]
            assert len(store) == 3
    assert sorted(noted(log)) == ["1", "2", "3"]


def test_more_jobs_are_computed_as_the_list_grows(tmp_path: Path) -> None:
    """Only what is new is computed."""
    log = tmp_path / "log"
    with Store(None) as store:
        for count in (2, 5):
            run_jobs([Square(value, str(log)) for value in range(count)], session=Session(store))
    assert noted(log) == ["0", "1", "2", "3", "4"]


def test_results_are_the_same_from_memory_and_from_the_store(tmp_path: Path, executor: Executor | None) -> None:
    """Whether computed now or read back: the same types, bits, dtypes and shapes."""
    with Store(tmp_path / "s") as store:
        computed = run_jobs([Arrays(1)], session=Session(store, executor=executor))[0]
        found = run_jobs([Arrays(1)], session=Session(store, executor=executor))[0]
    assert encode_result(computed) == encode_result(found) == encode_result(Arrays(1).run())
    assert type(computed["pair"]) is type(found["pair"]) is list
    assert type(computed["scalar"]) is type(found["scalar"]) is float


def test_equal_jobs_get_copies(tmp_path: Path) -> None:
    """A caller may change one result without changing another."""
    with Store(None) as store:
        one, other = run_jobs([Arrays(1), Arrays(1)], session=Session(store))
    one["matrix"][0, 0] = 0.0
    assert other["matrix"][0, 0] != 0.0


def test_no_jobs() -> None:
    """Nothing to do is done."""
    with Store(None) as store:
        assert run_jobs([], session=Session(store)) == []
        assert drive({}, session=Session(store)) == {}


def test_an_error_is_a_record_and_is_tried_again(tmp_path: Path, executor: Executor | None) -> None:
    """The other jobs complete; the error stands in the file until the job succeeds."""
    log, cure, path = tmp_path / "log", tmp_path / "cure", tmp_path / "s"
    jobs: list[Any] = [Square(1, str(log)), Raises(str(log), str(cure)), Square(2, str(log))]
    with Store(path) as store:
        first, error, second = run_jobs(jobs, session=Session(store, executor=executor))
        assert (first, second) == ({"square": 1}, {"square": 4})
        assert isinstance(error, JobError)
        assert (error.type, error.message) == ("ArithmeticError", "no cure yet")
        assert "in run" in error.traceback
        with closing(sqlite3.connect(path)) as reader:
            (status,) = reader.execute("SELECT status FROM records WHERE key = ?", [job_key(jobs[1])]).fetchone()
        assert status == "error"
        cure.touch()
        assert run_jobs(jobs, session=Session(store, executor=executor))[1] == {"cured": True}
        assert len(store) == 3
    assert sorted(noted(log)) == ["1", "2", "raises", "raises"]


@pytest.mark.parametrize(
    ("job", "error", "message"),
    [
        (Complex(), "ValueError", "result.root[1] must be a number"),
        (Exits(), "SystemExit", "3"),
    ],
)
def test_results_that_cannot_be_kept_are_errors(executor: Executor | None, job: Any, error: str, message: str) -> None:
    """A complex result and a job that exits are errors of the job, not of the sweep."""
    with Store(None) as store:
        result = run_jobs([job], session=Session(store, executor=executor))[0]
    assert isinstance(result, JobError)
    assert result.type == error
    assert result.message.startswith(message)


@pytest.mark.parametrize("bad", [None, NoRun(), Square, {"value": 1}], ids=repr)
def test_what_is_no_job_is_refused(tmp_path: Path, bad: Any) -> None:
    """Before anything is computed."""
    log = tmp_path / "log"
    with Store(None) as store, pytest.raises(ValueError, match="job must be an instance of a frozen dataclass"):
        run_jobs([Square(1, str(log)), bad], session=Session(store))
    assert noted(log) == []


def test_progress(tmp_path: Path, executor: Executor | None) -> None:
    """Every start and every end is reported, what is found counts as done, the last report is complete."""
    reports: list[tuple[int, int, str]] = []
    jobs = [Square(value, str(tmp_path / "log")) for value in (1, 2, 2, 3)]
    with Store(None) as store:
        run_jobs(jobs[:1], session=Session(store))
        run_jobs(jobs, session=Session(store, executor=executor, progress=lambda *report: reports.append(report)))
    assert {total for _, total, _ in reports} == {3}
    assert {label for *_, label in reports} == {"Square"}
    done = [done for done, *_ in reports]
    assert done == sorted(done)
    assert set(done) == {1, 2, 3}
    assert len(done) == 3 + 2  # one end each, and one start each of the two that were not found


def test_groups_come_when_they_are_whole(tmp_path: Path, executor: Executor | None) -> None:
    """Each once, with its results in its order; a job of several groups runs once, a failed one is an error."""
    log = tmp_path / "log"
    one, two, three = (Square(value, str(log)) for value in (1, 2, 3))
    bad = Raises(str(log), str(tmp_path / "cure"))
    groups: list[list[Any]] = [[three, one, three], [two, one], [one], [bad, two]]
    with Store(None) as store:
        found = dict(stream_jobs(groups, session=Session(store, executor=executor)))
        again = list(stream_jobs(groups[:3], session=Session(store, executor=executor)))
    squares = [[{"square": 9}, {"square": 1}, {"square": 9}], [{"square": 4}, {"square": 1}], [{"square": 1}]]
    assert [found[number] for number in range(3)] == squares
    assert isinstance(found[3][0], JobError)
    assert found[3][1] == {"square": 4}
    assert sorted(number for number, _ in again) == [0, 1, 2]
    assert sorted(noted(log)) == ["1", "2", "3", "raises"]


def test_a_group_does_not_wait_for_the_others(tmp_path: Path) -> None:
    """It is there before the next job has started, and a reader that goes leaves the rest uncomputed."""
    log = tmp_path / "log"
    groups = [[Square(value, str(log))] for value in range(5)]
    with Store(None) as store:
        reader = stream_jobs(groups, session=Session(store))
        assert next(reader) == (0, [{"square": 0}])
        assert noted(log) == ["0"]
        reader.close()  # type: ignore[attr-defined]
    assert noted(log) == ["0"]


def test_few_jobs_are_in_flight(tmp_path: Path, pool: ProcessPool) -> None:
    """Two workers have two jobs each, so that a death puts few of them under suspicion."""
    in_flight = []
    reports = 0

    def count(done: int, total: int, label: str) -> None:
        nonlocal reports
        reports += 1
        in_flight.append(reports - 2 * done)  # a report at each start, and one at each end

    with Store(None) as store:
        jobs = [Square(value, str(tmp_path / "log")) for value in range(20)]
        run_jobs(jobs, session=Session(store, executor=pool, progress=count))
    assert max(in_flight) == 4


def test_a_store_that_fails_stops_the_sweep(tmp_path: Path, executor: Executor | None) -> None:
    """Computing on without keeping anything would be wasted."""
    store = Store(tmp_path / "s")
    log = tmp_path / "log"

    def close_after_the_first(done: int, total: int, label: str) -> None:
        if done == 1:
            store.close()

    with pytest.raises(StoreError, match="closed"):
        run_jobs(
            [Square(value, str(log), 0.02) for value in range(50)],
            session=Session(store, executor=executor, progress=close_after_the_first),
        )
    with Store(tmp_path / "s") as again:
        assert len(again) == 1
        assert run_jobs([Square(60, str(log))], session=Session(again, executor=executor)) == [{"square": 3600}]
    assert len(noted(log)) <= 10  # of 51: those that had started, the others were withdrawn


def test_interrupt_in_this_process_keeps_what_is_done(tmp_path: Path) -> None:
    """Ctrl-C in a job passes through; the jobs before it are in the store."""
    log = tmp_path / "log"
    with Store(tmp_path / "s") as store:
        with pytest.raises(KeyboardInterrupt):
            run_jobs([Square(1, str(log)), Interrupts(), Square(2, str(log))], session=Session(store))
        assert len(store) == 1
    assert noted(log) == ["1"]


class Carrier(Executor):
    """An executor of a foreign make, which reports trouble in its own way."""

    def __init__(self, trouble: Exception):
        self.trouble = trouble

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Fail with the second job; a job comes as one positional argument."""
        assert len(args) == 1
        assert not kwargs
        future: Future[Any] = Future()
        if args[0].value == 2:
            future.set_exception(self.trouble)
        else:
            future.set_result(fn(*args))
        return future


def test_interrupt_keeps_what_has_arrived(tmp_path: Path) -> None:
    """Results that are there when Ctrl-C comes are put before it goes on to the caller."""
    jobs = [Square(value, str(tmp_path / "log")) for value in (1, 3, 2, 4)]

    class Interrupted(Carrier):
        """Hears Ctrl-C while the third job is submitted."""

        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            if args[0].value == 2:
                raise KeyboardInterrupt
            return super().submit(fn, *args, **kwargs)

    with Store(None) as store:
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs, session=Session(store, executor=Interrupted(LostWorker())))
        assert [store.get(job_key(job)) for job in jobs] == [{"square": 1}, {"square": 9}, None, None]


class LostWorker(Exception):
    """What a cluster says when a job has killed its workers."""


def test_trouble_of_a_foreign_executor_with_one_job(tmp_path: Path) -> None:
    """An exception of the executor for one job is an error of that job."""
    jobs = [Square(value, str(tmp_path / "log")) for value in (1, 2, 3)]
    with Store(None) as store:
        first, error, third = run_jobs(jobs, session=Session(store, executor=Carrier(LostWorker("gone"))))
    assert (first, third) == ({"square": 1}, {"square": 9})
    assert isinstance(error, JobError)
    assert (error.type, error.message) == ("LostWorker", "gone")


def test_a_broken_foreign_executor(tmp_path: Path) -> None:
    """It cannot be renewed: what is done is kept, and the message says what to do."""
    jobs = [Square(value, str(tmp_path / "log")) for value in (1, 2)]
    with Store(None) as store:
        with pytest.raises(BrokenExecutor, match=r"the executor broke \(gone\).*run again with a new executor"):
            run_jobs(jobs, session=Session(store, executor=Carrier(BrokenExecutor("gone"))))
        assert len(store) == 1


def squares(log: Path, *values: int) -> Generator[Any, Any, int]:
    """Ask for one job after the other; return the sum."""
    total = 0
    for value in values:
        result = yield Square(value, str(log))
        total += result["square"]
    return total


def test_plans_share_jobs(tmp_path: Path, executor: Executor | None) -> None:
    """A job that several plans ask for runs once, whenever they ask."""
    log = tmp_path / "log"
    with Store(None) as store:
        ends = drive(
            {"one": squares(log, 1, 2, 3), "two": squares(log, 3, 2), "three": squares(log, 2, 2)},
            session=Session(store, executor=executor),
        )
    assert ends == {"one": Finished(14), "two": Finished(13), "three": Finished(8)}
    assert list(ends) == ["one", "two", "three"]
    assert sorted(noted(log)) == ["1", "2", "3"]


def test_plans_ask_in_any_shape(tmp_path: Path, executor: Executor | None) -> None:
    """Results come in the shape of the request: one, a list, a dict, and none at all."""
    log = str(tmp_path / "log")

    def shapes() -> Generator[Any, Any, list[Any]]:
        one = yield Square(1, log)
        many = yield [Square(2, log), Square(1, log), Square(2, log)]
        named = yield {"a": Square(3, log), "b": Square(1, log)}
        nothing = yield []
        no_names = yield {}
        return [one, many, named, nothing, no_names]

    with Store(None) as store:
        (end,) = drive({"shapes": shapes()}, session=Session(store, executor=executor)).values()
    assert end.value == [
        {"square": 1},
        [{"square": 4}, {"square": 1}, {"square": 4}],
        {"a": {"square": 9}, "b": {"square": 1}},
        [],
        {},
    ]


def test_plans_advance_together(tmp_path: Path, pool: ProcessPool) -> None:
    """A plan takes all its steps while another waits for its job, which waits for the last of these steps."""
    log, signal_file = tmp_path / "log", tmp_path / "signal"

    def slow() -> Generator[Any, Any, Any]:
        return (yield Waits(str(signal_file)))

    def quick() -> Generator[Any, Any, None]:
        for value in (2, 3, 4):
            yield Square(value, str(log))
        signal_file.touch()

    with Store(None) as store:
        ends = drive({"slow": slow(), "quick": quick()}, session=Session(store, executor=pool))
    assert ends == {"slow": Finished({"appeared": True}), "quick": Finished(None)}


def test_a_plan_without_jobs() -> None:
    """A generator that returns before its first yield is finished."""

    def immediate() -> Generator[Any, Any, str]:
        return "at once"
        yield

    with Store(None) as store:
        assert drive({"plan": immediate()}, session=Session(store)) == {"plan": Finished("at once")}


def test_a_plan_that_raises_does_not_stop_others(tmp_path: Path, executor: Executor | None) -> None:
    """At its start, in the middle, or by reading the result of a failed job."""
    log = tmp_path / "log"

    def early() -> Generator[Any, Any, None]:
        raise RuntimeError("at the start")
        yield

    def late() -> Generator[Any, Any, None]:
        yield Square(1, str(log))
        raise RuntimeError("in the middle")

    def unaware() -> Generator[Any, Any, float]:
        result = yield Raises(str(log), str(tmp_path / "cure"))
        return result["loss"]

    def aware() -> Generator[Any, Any, str]:
        results = yield [Raises(str(log), str(tmp_path / "cure")), Square(1, str(log))]
        return results[0].message

    with Store(None) as store:
        ends = drive(
            {"early": early(), "late": late(), "unaware": unaware(), "aware": aware(), "good": squares(log, 1, 2)},
            session=Session(store, executor=executor),
        )
    errors = {name: end.error for name, end in ends.items() if end.error is not None}
    assert {name: error.message for name, error in errors.items()} == {
        "early": "at the start",
        "late": "in the middle",
        "unaware": "the job failed, so it has no 'loss': ArithmeticError: no cure yet",
    }
    assert "in late" in errors["late"].traceback
    assert ends["aware"] == Finished("no cure yet")
    assert ends["good"] == Finished(5)
    assert noted(log).count("raises") == 1  # not tried again within one call


def test_a_plan_that_asks_for_what_is_no_job(tmp_path: Path) -> None:
    """The refusal is raised where the plan asks, and may be caught there."""
    log = tmp_path / "log"

    def wrong() -> Generator[Any, Any, None]:
        yield [Square(1, str(log)), "not a job"]

    def careful() -> Generator[Any, Any, int]:
        try:
            yield NoRun()
        except ValueError:
            result = yield Square(2, str(log))
        return result["square"]

    with Store(None) as store:
        ends = drive({"wrong": wrong(), "careful": careful()}, session=Session(store))
    error = ends["wrong"].error
    assert error is not None
    assert error.message == "job must be an instance of a frozen dataclass with a run method, got 'not a job'"
    assert "in wrong" in error.traceback
    assert ends["careful"] == Finished(4)


@pytest.mark.parametrize("bad", [squares, None, [Square(1, "")]], ids=["function", "None", "list"])
def test_plans_must_be_generators(bad: Any) -> None:
    """A forgotten call or yield is named with its plan."""
    with Store(None) as store, pytest.raises(ValueError, match=r"plans must be generators, got .* for 'claim'"):
        drive({"claim": bad}, session=Session(store))


def test_drive_resumes(tmp_path: Path) -> None:
    """The jobs of plans are found again like any others."""
    log = tmp_path / "log"
    for _ in range(2):
        with Store(tmp_path / "s") as store:
            assert drive({"plan": squares(log, 1, 2)}, session=Session(store)) == {"plan": Finished(5)}
    assert noted(log) == ["1", "2"]


def test_drive_labels_jobs_by_plan(tmp_path: Path) -> None:
    """Progress names the plan for which a job runs."""
    labels = []
    with Store(None) as store:
        drive(
            {"one": squares(tmp_path / "log", 1), "two": squares(tmp_path / "log", 2)},
            session=Session(store, progress=lambda done, total, label: labels.append((done, total, label))),
        )
    assert labels == [(0, 2, "one"), (1, 2, "one"), (1, 2, "two"), (2, 2, "two")]


def test_another_process_may_be_faster(tmp_path: Path) -> None:
    """What another process has put meanwhile is not computed here."""
    log = tmp_path / "log"
    jobs = [Square(value, str(log)) for value in (1, 2)]

    with Store(tmp_path / "s") as store, Store(tmp_path / "s") as other:

        def put_the_second(done: int, total: int, label: str) -> None:
            if done == 0:
                other.put(job_key(jobs[1]), jobs[1], {"square": 4}, 0.0)

        assert run_jobs(jobs, session=Session(store, progress=put_the_second)) == [{"square": 1}, {"square": 4}]
    assert noted(log) == ["1"]


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, None, "2"])
def test_process_pool_refuses(workers: Any) -> None:
    """The number of workers is a positive integer."""
    with pytest.raises(ValueError, match="workers must be"):
        process_pool(workers)


def test_workers_use_one_thread_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parallelism is that of the jobs, whatever the environment says."""
    if importlib.util.find_spec("torch") is None:  # importing it here would take seconds
        pytest.skip("torch is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with Store(None) as store, process_pool(1) as pool:
        assert run_jobs([Threads()], session=Session(store, executor=pool)) == [{"threads": 1}]


@pytest.mark.skipif(sys.platform == "win32", reason="no signal masks")
def test_workers_do_not_hear_interrupts(pool: ProcessPool) -> None:
    """Ctrl-C is blocked before the first import of a worker, and ignored afterwards; here it is heard as before."""
    handler = signal.getsignal(signal.SIGINT)
    assert pool.submit(signal.getsignal, signal.SIGINT).result() is signal.SIG_IGN
    assert signal.SIGINT in pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, ()).result()
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_an_interrupt_while_a_worker_starts_is_heard_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a start would leave a process without its handle or a pool without its thread."""
    launched = []

    def launch(process: SpawnProcess) -> Any:
        signal.raise_signal(signal.SIGINT)
        launched.append(process)
        return original(process)

    original = SpawnProcess._Popen
    monkeypatch.setattr(SpawnProcess, "_Popen", staticmethod(launch))
    with process_pool(1) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.submit(os.getpid)
        assert [process.pid is not None for process in launched] == [True]
        pool.kill()
        assert not launched[0].is_alive()


def test_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a worker caps the threads of the worker, not those of this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with process_pool(1) as pool:
        pids = {pool.submit(os.getpid).result(), os.getpid()}
        limits = [pool.submit(os.getenv, name).result() for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]
    assert len(pids) == 2
    assert limits == ["1", "1"]
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ


def test_import_is_light() -> None:
    """Jobs without torch do not pay for it."""
    code = "import sys, plumbline.analysis.jobs.scheduler; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
