"""Where jobs run: in this process, or in a pool of worker processes that outlives its workers."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.queues import SimpleQueue
from typing import Any

from plumbline.theory import checks

# Whatever linear algebra a worker loads, now or later, finds one thread: the parallelism is that of the jobs.
_THREAD_LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class InProcess(Executor):
    """Runs each call at once in the calling thread; an interrupt passes through to the caller."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call ``fn`` and return its future, already done."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def process_pool(workers: int) -> ProcessPool:
    """Return a pool of worker processes for `run_jobs` and `drive`; use it in a ``with`` statement.

    Workers are spawned, use one thread each (torch as many as the session's `Compute` says), leave Ctrl-C to the
    parent, and end when the parent ends, however it ends.

    Args:
        workers: Number of processes, from 1 up.

    Raises:
        ValueError: if ``workers`` is no positive integer.
    """
    return ProcessPool(checks.integer("workers", workers, at_least=1))


class ProcessPool(Executor):
    """A ``ProcessPoolExecutor`` that can be ended at once and goes on with new workers."""

    def __init__(self, workers: int):
        self.workers = workers
        self._start(workers)

    def _start(self, workers: int) -> None:
        self._context = _Context()
        self._pool = ProcessPoolExecutor(workers, mp_context=self._context, initializer=_begin_worker)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Schedule a call; raises BrokenProcessPool if a worker has died since the last `kill`."""
        # This is where workers are started.
        with _environment(dict.fromkeys(_THREAD_LIMITS, "1")), _interrupts_held():
            return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers when they have finished what is under way."""
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)

    def has_lost_workers(self) -> bool:
        """Whether a worker has ended although nobody asked it to."""
        return any(worker.exitcode is not None for worker in self._context.workers)

    def kill(self, *, workers: int | None = None) -> list[int]:
        """End every worker at once; the next call that is submitted starts new ones.

        Each future of before is then done, with a result that had arrived or as broken.

        Args:
            workers: How many new ones; by default as many as the pool was made with.

        Returns:
            The exit codes of the workers that ended (negative: by that signal).
        """
        ended = self._context
        for worker in ended.workers:
            if worker.pid is not None:
                worker.kill()
        for queue in ended.results:
            queue.hang_up()
        self._pool.shutdown(wait=True)
        self._start(self.workers if workers is None else workers)
        return [worker.exitcode for worker in ended.workers if worker.exitcode is not None]

    def probe(self) -> None:
        """Wait until a worker answers; one that dies before is replaced: it may have been killed from outside.

        Raises:
            BrokenExecutor: if that happens three times in a row, which is no fault of a job.
        """
        for _ in range(3):
            with suppress(BrokenExecutor):
                self.submit(os.getpid).result()
                return
            self.kill(workers=1)
        raise BrokenExecutor(
            "worker processes end before they start to work: a script that uses them must be a file "
            'whose entry is guarded by if __name__ == "__main__"; otherwise run without worker processes'
        )


class _Results(SimpleQueue):
    """The queue of results, whose reader can be told that no more will come.

    A worker that is killed in the middle of sending a long result leaves the pool waiting for the rest of it,
    for ever: the pool's own handle on the writing end keeps the pipe open.
    """

    def hang_up(self) -> None:
        self._writer.close()  # type: ignore[attr-defined]


class _Context(SpawnContext):
    """The spawn context, keeping the handles of what a ProcessPoolExecutor makes with it."""

    def __init__(self) -> None:
        self.workers: list[SpawnProcess] = []
        self.results: list[_Results] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        worker = SpawnProcess(*args, **kwargs)
        self.workers.append(worker)
        return worker

    def SimpleQueue(self) -> _Results:
        queue = _Results(ctx=self.get_context())
        self.results.append(queue)
        return queue


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Nobody is left to take a result: leave at once, whatever the job is doing.
        os._exit(1)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment for what is started inside."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back: a process started inside never hears it, this one does afterwards."""
    heard: list[int] = []
    masks = hasattr(signal, "pthread_sigmask")
    # A process or thread started inside inherits the mask of this thread. Another thread may still hear the
    # signal, and Python then handles it in the main thread: there the handler has to wait as well.
    handles = threading.current_thread() is threading.main_thread()
    if handles:
        handler = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    if masks:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if handles:
            signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)
