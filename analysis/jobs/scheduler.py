"""Many jobs, each computed once: run a list of them, or drive plans that ask for them step by step."""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future
from concurrent.futures import wait as wait_for
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from plumbline.analysis.jobs.compute import Compute
from plumbline.analysis.jobs.exact_json import encode_result
from plumbline.analysis.jobs.executors import InProcess, ProcessPool
from plumbline.analysis.jobs.job import Job, JobError, TorchJob, code_version, job_key
from plumbline.analysis.jobs.session import Session, own_or
from plumbline.analysis.jobs.store import StoreError

Plan = Generator[Any, Any, Any]

# Futures at a time on an executor whose number of workers is not known: 500 workers have a next job at hand.
FOREIGN_WINDOW = 1024
POLL_SECONDS = 1.0  # how often to look whether a worker has died unnoticed


@dataclass(frozen=True)
class Finished:
    """How a plan ended: the value it returned, or the error it raised."""

    value: Any = None
    error: JobError | None = None


def run_jobs(jobs: Iterable[Job], *, session: Session | None = None) -> list[Any]:
    """Return the results of jobs in their order; what is in the store is read, the rest is computed and kept.

    Each result is put as soon as it is there, by this process alone. Jobs of one key are computed once.

    Args:
        jobs: Frozen dataclasses with ``run(self) -> dict``.
        session: Where they run and their results are kept; by default in this process and its memory. Its progress
            hears the name of a job's class as the label.

    Returns:
        A dict for each job, or a `JobError` where it failed; it will be tried again by the next call.

    Raises:
        ValueError: if one of ``jobs`` is no job.
        StoreError: if the store cannot be written.
        BrokenExecutor: if workers die of an executor that cannot be renewed, or run other code than this process.
        KeyboardInterrupt: at Ctrl-C, at once: pool workers are ended, what is done is in the store.
    """
    with own_or(session) as session, _Run(session) as run:
        keys = [run.ask(job, type(job).__name__) for job in jobs]
        while run.step():
            pass
        return [run.result(key) for key in keys]


def stream_jobs(groups: Iterable[Sequence[Job]], *, session: Session) -> Iterator[tuple[int, list[Any]]]:
    """Yield the results of each group of jobs when the last of them is there, with the number of the group.

    Like `run_jobs`, but no result is kept in memory: for sweeps of any length.

    Args:
        groups: Jobs whose results are read together, at least one; a job may stand in several groups.
        session: As in `run_jobs`.

    Raises:
        ValueError, StoreError, BrokenExecutor, KeyboardInterrupt: As in `run_jobs`.
    """
    with _Run(session) as run:
        keys = [[run.ask(job, type(job).__name__) for job in group] for group in groups]
        missing = [len(set(group)) for group in keys]
        users: dict[str, list[int]] = defaultdict(list)
        for number, group in enumerate(keys):
            for key in set(group):
                users[key].append(number)
        while done := run.step():
            for number in [number for key in done for number in users.pop(key)]:
                missing[number] -= 1
                if not missing[number]:
                    yield number, [run.result(key) for key in keys[number]]


def drive(plans: Mapping[str, Plan], *, session: Session) -> dict[str, Finished]:
    """Advance all plans together until each has ended; return how each ended, by name.

    A plan is a generator that yields a job, or a list or dict of jobs, is sent the results in the same shape
    (a `JobError` where a job failed), and returns a value. It goes on as soon as its own results are there.
    A plan that raises ends with that error; the others go on.

    Args:
        plans: Generators by name.
        session: As in `run_jobs`; the label is the name of the plan that asked first.

    Raises:
        ValueError: if one of ``plans`` is no generator.
        StoreError, BrokenExecutor, KeyboardInterrupt: As in `run_jobs`.
    """
    for name, plan in plans.items():
        if not isinstance(plan, Generator):
            raise ValueError(f"plans must be generators, got {plan!r} for {name!r}")
    finished: dict[str, Finished] = {}
    with _Run(session) as run:
        steps = {name: _PlanStep(name, plan) for name, plan in plans.items()}
        ready = deque(steps.values())
        while True:
            while ready:
                step = ready.popleft()
                end = step.advance(run)
                if end is not None:
                    finished[step.name] = end
                elif not step.missing:
                    ready.append(step)
            done = run.step()
            if not done:
                return {name: finished[name] for name in plans}
            for step in steps.values():
                if step.missing:
                    step.missing -= done
                    if not step.missing:
                        ready.append(step)


class _PlanStep:
    """A plan with what it has asked for last."""

    def __init__(self, name: str, plan: Plan):
        self.name = name
        self.missing: set[str] = set()
        self._plan = plan
        self._keys: Any = None

    def advance(self, run: _Run) -> Finished | None:
        """Send the results, ask for what the plan yields next; return how it ended, if it did."""
        results = self._results(run)
        try:
            with run.compute.active_if_loaded():
                request = self._plan.send(results)
                while True:
                    try:
                        self._ask(request, run)
                        return None
                    except ValueError as refusal:
                        # Raised inside the plan, where the request was made.
                        request = self._plan.throw(refusal)
        except StopIteration as stop:
            return Finished(value=stop.value)
        except Exception as error:
            return Finished(error=_error_record(error))

    def _ask(self, request: Any, run: _Run) -> None:
        ask = run.ask
        if isinstance(request, list):
            self._keys = [ask(job, self.name) for job in request]
            self.missing = set(self._keys)
        elif isinstance(request, dict):
            self._keys = {name: ask(job, self.name) for name, job in request.items()}
            self.missing = set(self._keys.values())
        else:
            self._keys = ask(request, self.name)
            self.missing = {self._keys}
        self.missing = {key for key in self.missing if not run.has_finished(key)}

    def _results(self, run: _Run) -> Any:
        if isinstance(self._keys, list):
            return [run.result(key) for key in self._keys]
        if isinstance(self._keys, dict):
            return {name: run.result(key) for name, key in self._keys.items()}
        return None if self._keys is None else run.result(self._keys)


@dataclass(frozen=True)
class _Answer:
    """What comes back from a worker: the text of a result or an error, never an object that cannot travel."""

    result: str | JobError
    seconds: float


class OtherCode(BrokenExecutor):
    """A worker would compute with other sources than those that are part of the keys."""


def _execute(job: Job, *, compute: Compute, version: str | None) -> _Answer:
    """Run a job wherever this is called; its exception comes back as a record."""
    if version is not None and version != code_version():
        raise OtherCode(
            f"worker process {os.getpid()} on {platform.node()} runs other code: install this version there"
        )
    start = time.perf_counter()
    try:
        with compute.active() if isinstance(job, TorchJob) else compute.active_if_loaded():
            result: str | JobError = encode_result(job.run())
    except (Exception, SystemExit) as error:
        result = _error_record(error)
    return _Answer(result, time.perf_counter() - start)


def _error_record(error: BaseException) -> JobError:
    return JobError(type(error).__name__, str(error), "".join(traceback.format_exception(error)))


def _cause(codes: list[int]) -> str:
    if not codes:
        return ""
    if codes[0] == -9:
        return " (killed by signal 9, often for want of memory)"
    return f" (killed by signal {-codes[0]})" if codes[0] < 0 else f" (exit code {codes[0]})"


class _Run:
    """The jobs that were asked for, those in flight and those that are finished.

    When a worker of a `ProcessPool` dies, each job that was in flight runs again alone: it has the memory to
    itself, and if its worker dies again it is to blame.
    """

    def __init__(self, session: Session):
        if session.closed:
            raise ValueError("session must be open, got one that was closed")
        executor = session.executor
        self._store = session.store
        self._executor = InProcess() if executor is None else executor
        self._pool = executor if isinstance(executor, ProcessPool) else None
        # Workers on other machines may have other sources; those of a pool here are this process's own.
        local = self._pool is not None or isinstance(self._executor, InProcess)
        self._execute = partial(_execute, compute=session.compute, version=None if local else code_version())
        self.compute = session.compute
        self._progress = session.progress
        self._jobs: dict[str, tuple[Job, str]] = {}  # asked for and not finished, by key
        self._queue: deque[str] = deque()
        self._suspects: deque[str] = deque()
        self._in_flight: dict[Future[Any], str] = {}
        self._alone = False  # the pool has one worker, for the suspects
        self._finished: set[str] = set()
        self._errors: dict[str, JobError] = {}
        self._just_finished: set[str] = set()

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if kind is not None:
            self._stop()
        elif self._alone and self._pool is not None:
            self._pool.kill()

    def ask(self, job: Job, label: str) -> str:
        """Queue a job unless it was asked for before; return its key."""
        key = job_key(job)
        if key not in self._jobs and key not in self._finished:
            self._jobs[key] = (job, label)
            self._queue.append(key)
        return key

    def has_finished(self, key: str) -> bool:
        return key in self._finished

    def result(self, key: str) -> Any:
        """The result of a finished job as the store has it, a copy for each caller; or its error."""
        return self._errors[key] if key in self._errors else self._store.get(key)

    def step(self) -> set[str]:
        """Wait until at least one more job has finished; return their keys, none if nothing is left."""
        self._just_finished = set()
        while self._jobs and not self._just_finished:
            self._submit()
            if self._in_flight and not self._just_finished:
                self._wait()
        return self._just_finished

    def _submit(self) -> None:
        """Fill the window, or run the next suspect alone."""
        if self._pool is not None and self._alone and not self._suspects and not self._in_flight:
            self._pool.kill()
            self._alone = False
        if self._suspects or self._alone:
            source, window = self._suspects, 1
        elif self._pool is not None:
            source, window = self._queue, 2 * self._pool.workers
        else:
            source, window = self._queue, 1 if isinstance(self._executor, InProcess) else FOREIGN_WINDOW
        while source and len(self._in_flight) < window:
            key = source.popleft()
            if key in self._store:  # from an earlier call, or by now from another process
                self._finish(key)
                continue
            job, label = self._jobs[key]
            self._report(label)
            try:
                future = self._executor.submit(self._execute, job)
            except BrokenExecutor as error:
                source.appendleft(key)
                self._break(error)
                return
            self._in_flight[future] = key

    def _wait(self) -> None:
        done, _ = wait_for(
            self._in_flight, POLL_SECONDS if self._pool is not None else None, return_when=FIRST_COMPLETED
        )
        if not done and self._pool is not None and self._pool.has_lost_workers():
            self._recover(self._pool)
        broken = [error for future in done if (error := self._collect(future)) is not None]
        if broken:
            self._break(broken[0])

    def _collect(self, future: Future[Any]) -> BrokenExecutor | None:
        """Keep what a future brought; return its exception if the executor broke before it was done."""
        try:
            record = future.result()
        except BrokenExecutor as error:
            return error
        except CancelledError:
            return BrokenExecutor("the connection to its scheduler is lost")  # nobody else cancels
        except Exception as error:
            # The executor could not carry the job or its record.
            record = _Answer(_error_record(error), 0.0)
        self._keep(self._in_flight[future], record)
        del self._in_flight[future]
        return None

    def _keep(self, key: str, record: _Answer) -> None:
        job, _ = self._jobs[key]
        if isinstance(record.result, JobError):
            self._store.put_error(key, job, record.result, record.seconds)
            self._errors[key] = record.result
        else:
            self._store.put(key, job, record.result, record.seconds)
        self._finish(key)

    def _finish(self, key: str) -> None:
        _, label = self._jobs.pop(key)
        self._finished.add(key)
        self._just_finished.add(key)
        self._report(label)

    def _report(self, label: str) -> None:
        if self._progress is not None:
            self._progress(len(self._finished), len(self._finished) + len(self._jobs), label)

    def _break(self, error: BrokenExecutor) -> None:
        if self._pool is None:
            raise BrokenExecutor(
                f"the executor broke ({error}); what is done is in the store: run again with a new executor"
            ) from error
        self._recover(self._pool)

    def _recover(self, pool: ProcessPool) -> None:
        """After the death of a worker: keep what had arrived, suspect the rest, go on with new workers."""
        was_alone = self._alone
        codes = pool.kill(workers=1)
        lost = [self._in_flight[future] for future in list(self._in_flight) if self._collect(future)]
        self._in_flight.clear()
        if was_alone and lost:
            message = f"its worker process died while it ran this job alone{_cause(codes)}"
            self._keep(lost[0], _Answer(JobError("WorkerDied", message), 0.0))
        else:
            self._suspects.extend(lost)
        self._alone = True
        pool.probe()

    def _stop(self) -> None:
        """Give up what is in flight, at once; keep what has arrived."""
        if self._pool is not None:
            self._pool.kill()
        for future in list(self._in_flight):
            if self._pool is None:
                future.cancel()
            if future.done() and not future.cancelled() and future.exception() is None:
                # If it is the store that failed, that error is already on its way to the caller.
                with suppress(StoreError):
                    self._collect(future)
