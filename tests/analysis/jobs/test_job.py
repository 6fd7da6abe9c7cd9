"""Keys of jobs: the same in every process, another for another job or other code."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plumbline.analysis.jobs import job as job_module
from plumbline.analysis.jobs.job import JobError, JobFailed, code_version, job_key
from tests.analysis.jobs.jobs_for_tests import Arrays, Holds, NoRun, NotFrozen, Square

ROOT = Path(__file__).parents[3]


def test_key_is_the_same_in_every_process() -> None:
    """The hash seed of the interpreter has no part in the key."""
    code = (
        "from plumbline.analysis.jobs.job import job_key; from tests.analysis.jobs.jobs_for_tests import Holds;"
        "print(job_key(Holds({'b': 0.1, 'a': ('x', 1)}), version='1'))"
    )
    keys = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert keys == {job_key(Holds({"a": ["x", 1], "b": 0.1}), version="1")}


def test_key_tells_jobs_and_code_apart() -> None:
    """Another field, another class or another version of the code gives another key."""
    jobs: list[Any] = [Square(1, ""), Square(2, ""), Square(1, "log"), Arrays(1), Holds(1), Holds(1.0), Holds(True)]
    keys = {job_key(job, version=version) for job in jobs for version in ("1", "2")}
    assert len(keys) == 2 * len(jobs)
    assert all(len(key) == 64 for key in keys)
    assert job_key(jobs[0]) == job_key(jobs[0], version=code_version())


def test_key_contains_the_source_of_a_job_outside_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of the module that defines a job gives its jobs another key."""
    source = tmp_path / "outside_job.py"
    text = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Outside:\n    def run(self): return {}\n"
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for version in (text, text + "# edited\n"):
        source.write_text(version)
        sys.modules.pop("outside_job", None)
        keys.append(job_key(__import__("outside_job").Outside(), version="1"))
    sys.modules.pop("outside_job", None)
    assert keys[0] != keys[1]


def test_code_version_sees_every_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version changes with the content, the name and the presence of a source, and with nothing else."""
    package = tmp_path / "some_package"
    (package / "inner").mkdir(parents=True)
    source = package / "inner" / "part.py"
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def version() -> str:
        code_version.cache_clear()
        return code_version(("some_package",))

    source.write_text("x = 1\n")
    first = version()
    (package / "notes.txt").write_text("no source")
    assert version() == first
    source.write_text("x = 2\n")
    assert version() != first
    source.write_text("x = 1\n")
    assert version() == first
    source.rename(package / "part.py")
    assert version() != first
    with pytest.raises(ModuleNotFoundError, match="no package named 'no_such_package'"):
        code_version(("no_such_package",))
    code_version.cache_clear()


def test_code_version_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are hashed once per process, not for every key."""
    first = code_version()
    monkeypatch.setattr(job_module.hashlib, "sha256", None)
    assert code_version() == first


@pytest.mark.parametrize("bad", [NotFrozen(), NoRun(), Square, "Square", None, {"value": 1}], ids=repr)
def test_key_refuses_what_is_no_job(bad: Any) -> None:
    """Only an instance of a frozen dataclass with run is a job."""
    with pytest.raises(ValueError, match="job must be an instance of a frozen dataclass with a run method, got"):
        job_key(bad)


def test_key_refuses_a_local_class() -> None:
    """A class inside a function can neither be imported by a worker nor found again."""

    @dataclass(frozen=True)
    class Local:
        def run(self) -> dict[str, Any]:
            return {}

    with pytest.raises(ValueError, match=r"top level of a module file.*test_job.*Local"):
        job_key(Local())


def test_reading_a_failed_result_names_the_failure() -> None:
    """Code that takes an error for a result fails with the error of the job."""
    error = JobError("ZeroDivisionError", "division by zero")
    with pytest.raises(JobFailed, match="no 'loss': ZeroDivisionError: division by zero"):
        error["loss"]
