"""What the commands share: options, the session with its store and workers, the terminal, bad usage."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from plumbline.analysis.budget import Budget
from plumbline.analysis.catalogue import catalogue
from plumbline.analysis.claims.check import BadClaim
from plumbline.analysis.claims.claim import Claim, select
from plumbline.analysis.claims.own import load_claims
from plumbline.analysis.extras import MissingExtra, present
from plumbline.analysis.family import broken
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.jobs.store import StoreError

DEFAULT_STORE = Path(".plumbline") / "store.sqlite"
INTERRUPTED = 130

BudgetOption = Annotated[Budget, typer.Option("--budget", help="quick: seconds; standard: minutes; paper: full size.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="All randomness derives from it.")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Worker processes; 1 runs in this process.")]
# Beyond four, starting a worker (it imports torch) costs more than the catalogue's jobs are worth.
DEFAULT_JOBS = min(os.cpu_count() or 1, 4)
StoreOption = Annotated[str, typer.Option("--store", help="SQLite file of results; 'none' keeps nothing.")]


class Bar:
    """A progress bar on a terminal's standard error, nothing elsewhere.

    Args:
        rate: Also show jobs a second and the time left: where all jobs are known from the start.
    """

    def __init__(self, *, rate: bool = False) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            Task,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        class Rate(ProgressColumn):
            def render(self, task: Task) -> str:
                return f"{task.speed:.3g}/s" if task.speed else ""

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            *((Rate(), TimeRemainingColumn()) if rate else ()),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: Any = None

    def __call__(self, done: int, total: int, label: str) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(label, total=total)
        self._progress.update(self._task, completed=done, total=total, description=label)

    def close(self) -> None:
        """Take the bar off the screen; the next call starts a new one."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._progress.stop()
            self._task = None


def quiet(opened: Session) -> None:
    """Take the progress bar off the screen, so that something can be printed."""
    if isinstance(opened.progress, Bar):
        opened.progress.close()


@contextmanager
def session(store: str, jobs: int, *, rate: bool = False) -> Iterator[Session]:
    """The session of a command, with a progress bar; Ctrl-C and files that cannot be written end it in a sentence."""
    bar = Bar(rate=rate)
    where = "nothing was kept (--store none)" if store == "none" else f"what is done is kept in {store}"
    try:
        with Session(None if store == "none" else store, jobs=jobs, progress=bar) as opened, closing(bar):
            yield opened
    except (StoreError, BadClaim) as error:
        fail(str(error))
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of our output has gone: no fault to report
            raise
        typer.echo(f"error: {error}; {where}; run the same command again to go on", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        typer.echo(f"\ninterrupted: {where}; run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None


def chosen_claims(names: list[str], family: str | None) -> list[Claim]:
    """The named claims, those in the named files, or all; what cannot be chosen ends with exit code 2."""
    files = [name for name in names if name.endswith(".py")]
    plain = [name for name in names if name not in files]
    own = list(dict.fromkeys(usage(lambda: [claim for file in files for claim in load_claims(file)])))
    if own and not plain:
        return usage(lambda: select(own, family=family))
    return list(dict.fromkeys([*own, *usage(lambda: select(list(catalogue().values()), plain, family))]))


def say_what_is_broken() -> None:
    """Name the families, or parts of them, that could not be registered; the others go on."""
    for name, trace in broken():
        typer.echo(f"warning: {name} could not be registered: {trace.strip().splitlines()[-1]}", err=True)


def with_models() -> None:
    """End with exit code 2 where torch is not installed: what trains needs it. It is not imported yet."""
    try:
        present("torch", "models")
    except MissingExtra as error:
        fail(str(error))


def usage(choose: Callable[[], list[Any]]) -> list[Any]:
    """Bad names end with exit code 2."""
    try:
        return choose()
    except ValueError as error:
        fail(str(error))


def make_folder(out: Path) -> None:
    """Make the folder of ``--out``; where there can be none, the command ends with exit code 2."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"--out must be a folder that can be written, got {out}: {error.strerror}")


def fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def console() -> Console:
    """The terminal's width; where there is none, wide enough that tables do not wrap."""
    # Words of claims in brackets are no markup.
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120, markup=False)
