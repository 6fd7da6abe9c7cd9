"""The store keeps results exactly, and refuses files that are not its own."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plumbline.analysis.jobs import store as store_module
from plumbline.analysis.jobs.exact_json import decode_result, encode_result
from plumbline.analysis.jobs.job import JobError
from plumbline.analysis.jobs.store import APPLICATION_ID, FORMAT, Store, StoreError
from tests.analysis.jobs.jobs_for_tests import Arrays, Square

ROOT = Path(__file__).parents[3]
JOB = Square(3, "")


def rows(path: Path, query: str) -> list[Any]:
    """Read the file as any other program would."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_put_and_get(tmp_path: Path) -> None:
    """A result is there again when the file is opened again, in folders that were made for it."""
    path = tmp_path / "new" / "folder" / "results.sqlite"
    with Store(path) as store:
        assert store.get("key") is None
        assert "key" not in store
        assert len(store) == 0
        store.put("key", JOB, {"square": 9}, 0.5)
        assert "key" in store
    with Store(path) as store:
        assert store.get("key") == {"square": 9}
        assert len(store) == 1
    assert rows(path, "SELECT key, status, job, result, seconds FROM records") == [
        (
            "key",
            "done",
            '{"log":"","seconds":0.0,"type":"tests.analysis.jobs.jobs_for_tests.Square","value":3}',
            '{"square":9}',
            0.5,
        )
    ]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


def test_results_from_the_file_are_exact(tmp_path: Path) -> None:
    """What is read is what was put, to the bit."""
    text = encode_result(Arrays(1).run())
    with Store(tmp_path / "s") as store:
        store.put("from result", Arrays(1), Arrays(1).run(), 0.0)
        store.put("from text", Arrays(1), text, 0.0)
        for key in ("from result", "from text"):
            back = store.get(key)
            assert back is not None
            assert encode_result(back) == text
            assert np.signbit(back["special"][3])
    assert decode_result(text)["matrix"].shape == (3, 2)


def test_get_returns_a_copy() -> None:
    """A caller that changes its result does not change the store's."""
    with Store(None) as store:
        store.put("key", JOB, {"list": [1]}, 0.0)
        first = store.get("key")
        assert first is not None
        first["list"].append(2)
        assert store.get("key") == {"list": [1]}


def test_a_result_is_written_once() -> None:
    """The first result stays; an error never takes its place."""
    with Store(None) as store:
        store.put("key", JOB, {"square": 9}, 0.0)
        store.put("key", JOB, {"square": 10}, 0.0)
        store.put_error("key", JOB, JobError("ValueError", "late"), 0.0)
        assert store.get("key") == {"square": 9}


def test_an_error_is_kept_until_there_is_a_result(tmp_path: Path) -> None:
    """An error is in the file for a reader, but it is no result."""
    path = tmp_path / "s"
    with Store(path) as store:
        store.put_error("key", JOB, JobError("ValueError", "first"), 0.0)
        store.put_error("key", JOB, JobError("ValueError", "second", "lines"), 0.0)
        assert store.get("key") is None
        assert "key" not in store
        assert len(store) == 0
        assert rows(path, "SELECT status, result FROM records") == [
            ("error", '{"type": "ValueError", "message": "second", "traceback": "lines"}')
        ]
        store.put("key", JOB, {"square": 9}, 0.0)
        assert store.get("key") == {"square": 9}


def test_a_bad_result_is_refused_before_anything_is_written() -> None:
    """ValueError, and the store is as before."""
    with Store(None) as store:
        with pytest.raises(ValueError, match=r"result\.root must be"):
            store.put("key", JOB, {"root": 1j}, 0.0)
        assert len(store) == 0


def test_memory_stores_are_apart() -> None:
    """Each Store(None) is its own."""
    with Store(None) as one, Store(None) as other:
        one.put("key", JOB, {}, 0.0)
        assert len(other) == 0


def test_special_names_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is a file, whatever SQLite would make of its name; an empty file is a new store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").touch()
    for name in (":memory:", "file:x?mode=ro", "empty"):
        with Store(name) as store:
            store.put("key", JOB, {}, 0.0)
        assert (tmp_path / name).stat().st_size > 0


def refused(path: Path | str, message: str) -> None:
    """Opening must fail and leave the file as it was, with nothing beside it."""
    path = Path(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=message):
        Store(path)
    if before is not None:
        assert path.read_bytes() == before
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is no store."""
    refused(tmp_path, "is a folder: give the path of a file in it")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file stands where a folder is needed."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be made .*: choose another path"):
        Store(tmp_path / "file" / "results.sqlite")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """At opening, not at the first result."""
    path = tmp_path / "s"
    Store(path).close()
    path.chmod(0o444)
    refused(path, "cannot be opened or written: check its permissions")


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    """A text file is no database."""
    path = tmp_path / "notes.txt"
    path.write_text("Dear diary, " * 100)
    refused(path, "is a file of another kind, not a database: choose another path")


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE bills (amount REAL)", "PRAGMA user_version = 3", "PRAGMA application_id = 1"]
)
def test_the_database_of_another_program_is_refused(tmp_path: Path, statement: str) -> None:
    """A database without our mark is not written to, not even its journal mode."""
    path = tmp_path / "bills.sqlite"
    rows(path, statement)
    refused(path, "is the database of another program: choose another path")


@pytest.mark.parametrize("version", [FORMAT + 1, 0])
def test_another_format_is_refused(tmp_path: Path, version: int) -> None:
    """The message names both formats and both ways out."""
    path = tmp_path / "s"
    rows(path, f"PRAGMA application_id = {APPLICATION_ID}")
    rows(path, f"PRAGMA user_version = {version}")
    refused(path, rf"another version of Plumbline \(format {version}, .* {FORMAT}\): choose another path, or delete")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """Garbage behind a sound header is found when it is read."""
    path = tmp_path / "s"
    with Store(path) as store:
        for i in range(300):
            store.put(f"key {i}", JOB, {"text": "x" * 100}, 0.0)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is damaged: move the file away"), Store(path) as store:
        store.get("key 100")


def test_a_locked_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that does not let go ends in a clear message; readers are not held up."""
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    path = tmp_path / "s"
    with Store(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        store.put("key", JOB, {}, 0.0)
        other.execute("BEGIN IMMEDIATE")
        assert store.get("key") == {}
        with pytest.raises(StoreError, match=r"is locked by another process .*: wait for that process to end"):
            store.put("other", JOB, {}, 0.0)
        with pytest.raises(StoreError, match="is locked by another process"):
            Store(path)
        other.execute("COMMIT")
        store.put("other", JOB, {}, 0.0)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """What was written before is kept."""
    path = tmp_path / "s"
    with Store(path) as store:
        store.put("key", JOB, {}, 0.0)
        store._connection.execute("PRAGMA max_page_count = 8")
        with pytest.raises(StoreError, match="has no space left on its disk: free some and run again"):
            store.put("large", JOB, {"text": "x" * 100_000}, 0.0)
        store.put("small", JOB, {}, 0.0)
        assert len(store) == 2


def test_a_closed_store_is_named(tmp_path: Path) -> None:
    """Closing twice is harmless; using it afterwards is an error of its own kind."""
    store = Store(tmp_path / "s")
    store.close()
    store.close()
    with pytest.raises(StoreError, match=r"cannot be used .*closed"):
        store.get("key")


WRITER = """
import sys, time
from pathlib import Path
from plumbline.analysis.jobs.store import Store
from tests.analysis.jobs.jobs_for_tests import Square

name, path, start = sys.argv[1], sys.argv[2], Path(sys.argv[3])
Path(path + name).touch()
while not start.exists():
    time.sleep(0.001)
for _ in range(10):  # opening is part of the contest
    with Store(path) as store:
        for i in range(15):
            store.put(f"shared {i}", Square(i, ""), {"text": "y" * 5000, "i": i}, 0.0)
            store.put(f"{name} {i}", Square(i, ""), {"text": "x" * 5000, "i": i}, 0.0)
            assert store.get(f"shared {i}")["i"] == i
"""


def test_several_processes_write_one_new_store(tmp_path: Path) -> None:
    """Four processes open a store that does not exist yet at one moment and write the same and other keys."""
    path, start = tmp_path / "s", tmp_path / "start"
    names = "abcd"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(path), str(start)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        for name in names
    ]
    while not all(Path(f"{path}{name}").exists() for name in names):
        assert all(writer.poll() is None for writer in writers), "a writer ended before the start"
    start.touch()
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]
    with Store(path) as store:
        assert len(store) == 15 * 5
        assert all(store.get(f"{name} {i}") == {"text": "x" * 5000, "i": i} for name in names for i in range(15))
