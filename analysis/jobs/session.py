"""Where jobs run and where their results are kept, as one value."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack

from plumbline.analysis.jobs.compute import Compute
from plumbline.analysis.jobs.executors import process_pool
from plumbline.analysis.jobs.store import Store

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
        ValueError: if ``jobs`` is no positive integer.
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
        self._opened = ExitStack()
        self.store = store if isinstance(store, Store) else self._opened.enter_context(Store(store))
        self.executor = executor
        if executor is None and jobs != 1:
            self.executor = self._opened.enter_context(process_pool(jobs))
        self.compute = compute or Compute()
        self.progress = progress

    def close(self) -> None:
        """End the workers and close the store, where the session has opened them."""
        self._opened.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
