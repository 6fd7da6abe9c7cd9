"""Processes that tests start, kill and wait for."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0  # seconds for what takes one or two on an idle machine; only a hang takes as long


def members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue  # it has just ended
            if int(its_group) == group and state not in "ZX":
                found.append(int(entry.name))
    return found


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, not for a time."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {PATIENCE} s"
        time.sleep(0.01)


def stored(path: Path) -> set[int]:
    """The numbers whose squares are in the file."""
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path)) as connection:
        try:
            found = connection.execute(
                "SELECT json_extract(job, '$.value') FROM records WHERE status = 'done'"
            ).fetchall()
        except sqlite3.OperationalError:
            return set()  # the file has just been made
    return {value for (value,) in found}
