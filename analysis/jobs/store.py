"""What has been computed, kept in one SQLite file under the key of the job that computed it."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plumbline.analysis.jobs.exact_json import canonical_json, decode_result, encode_result
from plumbline.analysis.jobs.job import JobError

APPLICATION_ID = 0x504C4D42  # "PLMB" in the header of the file
FORMAT = 1  # goes up when the table or the encoding of results changes
BUSY_SECONDS = 30.0  # how long to wait for another process that is writing


class StoreError(RuntimeError):
    """A store cannot be opened, read or written; the message says what to do."""


class Store:
    """Results of jobs by key, in one SQLite file that several processes may use at a time.

    A result is written once and never changed; a job that failed leaves its error, which the next result
    replaces. Every write is one transaction: a process that is killed loses nothing that was put.

    Args:
        path: The file, made with its folders if it does not exist; ``None`` keeps everything in memory.

    Raises:
        StoreError: if the file cannot be used: a folder, not writable, another program's database, or a store
            of another format.

    Example:
        >>> from plumbline.theory.regression.task import RegressionTask
        >>> with Store(None) as store:
        ...     store.put("key", RegressionTask(1, 2), {"loss": 0.25}, seconds=0.1)
        ...     print(store.get("key"), len(store))
        {'loss': 0.25} 1
    """

    def __init__(self, path: str | os.PathLike[str] | None):
        self.path = None if path is None else Path(path).absolute()
        self._name = "the store in memory" if path is None else f"the store {self.path}"
        if self.path is not None:
            if self.path.is_dir():
                raise StoreError(f"{self._name} is a folder: give the path of a file in it")
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{self._name} cannot be made ({error}): choose another path") from error
        with self._explained():
            # isolation_level=None: every statement is its own transaction.
            self._connection = sqlite3.connect(self.path or ":memory:", timeout=BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        """Check whose file it is before anything is written to it; make the table in a new one."""
        execute = self._connection.execute
        # The write lock, even where there is nothing to write: a file that is read-only is refused now, and of
        # several processes that open a new file one makes the table and the others find it whole.
        execute("BEGIN IMMEDIATE")
        try:
            if self._is_new():
                execute(
                    "CREATE TABLE records (key TEXT PRIMARY KEY, status TEXT NOT NULL, job TEXT NOT NULL,"
                    " result TEXT NOT NULL, seconds REAL NOT NULL)"
                )
                execute(f"PRAGMA application_id = {APPLICATION_ID}")
                execute(f"PRAGMA user_version = {FORMAT}")
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        self._use_write_ahead_log()
        execute("PRAGMA synchronous = NORMAL")

    def _is_new(self) -> bool:
        """Whether the file is empty; StoreError if it is neither empty nor ours."""

        def number(query: str) -> int:
            return self._connection.execute(query).fetchone()[0]

        owner, found = number("PRAGMA application_id"), number("PRAGMA user_version")
        if owner == APPLICATION_ID:
            if found != FORMAT:
                raise StoreError(
                    f"{self._name} was written by another version of Plumbline (format {found}, this version "
                    f"uses format {FORMAT}): choose another path, or delete the file to compute anew"
                )
            return False
        if owner or found or number("SELECT count(*) FROM sqlite_master"):
            raise StoreError(f"{self._name} is the database of another program: choose another path")
        return True

    def _use_write_ahead_log(self) -> None:
        # The switch needs the file alone for a moment, and SQLite does not always wait for that by itself.
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a fresh copy of the result under ``key``, or None where there is none, or only an error."""
        with self._explained():
            row = self._connection.execute(
                "SELECT result FROM records WHERE key = ? AND status = 'done'", (key,)
            ).fetchone()
        return None if row is None else decode_result(row[0])

    def put(self, key: str, job: Any, result: Mapping[str, Any] | str, seconds: float) -> None:
        """Keep the result of a job, unless there is one already.

        Args:
            key: `job_key` of the job.
            job: The job, kept as canonical JSON so that the file can be read without this package.
            result: The result, or its text from `encode_result`.
            seconds: How long it took.

        Raises:
            ValueError: if the result is none that `encode_result` takes.
            StoreError: if the file cannot be written.
        """
        text = result if isinstance(result, str) else encode_result(result)
        self._write(key, "done", job, text, seconds)

    def put_error(self, key: str, job: Any, error: JobError, seconds: float) -> None:
        """Keep the error of a job, unless there is a result already; `get` does not return it."""
        self._write(key, "error", job, json.dumps(asdict(error)), seconds)

    def _write(self, key: str, status: str, job: Any, text: str, seconds: float) -> None:
        row = (key, status, canonical_json(job), text, seconds)
        with self._explained():
            self._connection.execute(
                "INSERT INTO records (key, status, job, result, seconds) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET status = excluded.status, result = excluded.result,"
                " seconds = excluded.seconds WHERE records.status = 'error'",
                row,
            )

    def __contains__(self, key: str) -> bool:
        with self._explained():
            row = self._connection.execute("SELECT 1 FROM records WHERE key = ? AND status = 'done'", (key,)).fetchone()
        return row is not None

    def __len__(self) -> int:
        """The number of results; errors do not count."""
        with self._explained():
            row = self._connection.execute("SELECT count(*) FROM records WHERE status = 'done'").fetchone()
        return row[0]

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        with self._explained():
            self._connection.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an error of SQLite into a StoreError that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            # The low byte is the error, the rest its circumstances; absent where Python itself complains.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            advice = _ADVICE.get(code, "cannot be used")
            raise StoreError(f"{self._name} {advice} (SQLite: {error})") from error


_UNREACHABLE = "cannot be opened or written: check its permissions and its folder's, or choose another path"
_ADVICE = {
    sqlite3.SQLITE_NOTADB: "is a file of another kind, not a database: choose another path",
    sqlite3.SQLITE_CORRUPT: "is damaged: move the file away, and its results will be computed again",
    sqlite3.SQLITE_BUSY: f"is locked by another process for more than {BUSY_SECONDS:.0f} s: "
    "wait for that process to end, or choose another path",
    sqlite3.SQLITE_FULL: "has no space left on its disk: free some and run again; what was written is kept",
    sqlite3.SQLITE_IOERR: "cannot be read or written: check the disk; what was written is kept",
    sqlite3.SQLITE_READONLY: _UNREACHABLE,
    sqlite3.SQLITE_CANTOPEN: _UNREACHABLE,
    sqlite3.SQLITE_PERM: _UNREACHABLE,
}
