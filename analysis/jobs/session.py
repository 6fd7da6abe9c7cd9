"""Where jobs run and where their results are kept, as one value."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager, ExitStack, nullcontext

from plumbline.analysis.jobs.compute import Compute
from plumbline.analysis.jobs.executors import process_pool
from plumbline.analysis.jobs.store import Store
from plumbline.theory import checks

Progress = Callable[[int, int, str], None]


class Session:
    """A store, an executor, how torch computes, and who hears of the progress.

    Args:
        store: A `Store`, or the path of one; ``None`` keeps results in memory, for as long as the session lives.
        jobs: Worker processes; 1 runs everything in this one. Left out beside an executor.
        executor: Any executor of ``concurrent.futures`` whose workers can import the jobs.
        compute: How torch computes, here and in the workers.
        progress: Called as ``progress(done, total, label)`` when a job starts and when it has finished.

    Raises:
        ValueError: if ``jobs`` is no positive integer or given beside an executor, or something is of a wrong kind.
        StoreError: if the store cannot be used.

    In a ``with`` statement the session closes what it has opened: a store of which it was given the path, and its
    worker processes.

    Example:
        >>> from plumbline.analysis import catalogue, check
        >>> with Session(jobs=1) as session:
        ...     result, = check([catalogue()["transformer-is-its-algorithm"]], session=session)
        >>> result.verdict.outcome.value
        'consistent'
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        *,
        jobs: int = 1,
        executor: Executor | None = None,
        compute: Compute | None = None,
        progress: Progress | None = None,
    ) -> None:
        checks.integer("jobs", jobs, at_least=1)
        if executor is not None and jobs != 1:
            raise ValueError(f"jobs must be left out beside an executor, got {jobs}")
        for name, value, kind in (("executor", executor, Executor), ("compute", compute, Compute)):
            if value is not None and not isinstance(value, kind):
                raise ValueError(f"{name} must be a {kind.__name__}, got {value!r}")
        if progress is not None and not callable(progress):
            raise ValueError(f"progress must be callable, got {progress!r}")
        self._opened = ExitStack()
        self.closed = False
        self.store = store if isinstance(store, Store) else self._opened.enter_context(Store(store))
        self.executor = executor
        if jobs > 1:
            self.executor = self._opened.enter_context(process_pool(jobs))
        self.compute = compute or Compute()
        self.progress = progress

    def close(self) -> None:
        """End the workers and close the store, where the session has opened them."""
        self.closed = True
        self._opened.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def own_or(session: Session | None) -> AbstractContextManager[Session]:
    """The session given, or one of one's own that is closed at the end."""
    return Session() if session is None else nullcontext(session)
