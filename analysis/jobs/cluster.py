"""A Dask cluster as an executor: the only module that knows of Dask, imported when a scheduler is named."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from plumbline.analysis.extras import required

CONNECT_SECONDS = 10.0


@contextmanager
def dask_executor(scheduler: str, *, timeout: float = CONNECT_SECONDS) -> Iterator[Executor]:
    """Connect to the scheduler of a Dask cluster; jobs given to the executor run on its workers.

    A worker that dies takes nothing with it: its jobs run again on others, and one that has ended four workers is
    reported as `KilledWorker`. Workers need this version of the package installed; one with other sources ends the
    sweep. Nothing is left behind when the connection closes, and the cluster goes on.

    Args:
        scheduler: Address of a scheduler that runs, ``tcp://host:port``.
        timeout: Seconds to wait for the connection.

    Raises:
        MissingExtra: if Dask is not installed.
        ValueError: if no scheduler answers at that address.
    """
    distributed = required("distributed", "cluster")
    try:
        client = distributed.Client(scheduler, timeout=timeout, set_as_default=False)
    except (OSError, ValueError) as error:  # a TimeoutError is an OSError
        raise ValueError(
            f"scheduler must be the address of a running one (tcp://host:port), got {scheduler!r}: {error}"
        ) from None
    with client:
        # Equal calls would otherwise be merged into one.
        yield client.get_executor(pure=False)
