"""A job: what is computed once, known by a key made of its fields and of the code that computes it."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol

from plumbline import FLOORS
from plumbline.analysis.jobs.exact_json import canonical_json

PACKAGES = tuple(f"plumbline.{room}" for room in FLOORS)


class Job(Protocol):
    """A frozen dataclass at the top level of a module, whose fields (the seed among them) fix its result."""

    def run(self) -> dict[str, Any]:
        """Compute the result: numbers, strings, bools, None, numpy arrays, and lists and dicts of these."""
        ...


@dataclass(frozen=True)
class TorchJob:
    """A job that computes with torch: its threads are set before it runs, and put back afterwards.

    A job of your own that is no TorchJob computes as its process does.
    """


@dataclass(frozen=True)
class JobError:
    """What stands in the place of a result that could not be computed.

    Reading it like a result (``error["loss"]``) raises `JobFailed` with the message of the job.

    Args:
        type: Name of the exception's class.
        message: Its text.
        traceback: The formatted traceback, empty where there is none.
    """

    type: str
    message: str
    traceback: str = ""

    def __getitem__(self, name: str) -> Any:
        raise JobFailed(f"the job failed, so it has no {name!r}: {self.type}: {self.message}")


class JobFailed(RuntimeError):
    """The result of a failed job was read."""


def job_key(job: Job, *, version: str | None = None) -> str:
    """Return the key of a job: the SHA-256 of its canonical JSON and of the code that computes it.

    Args:
        job: An instance of a frozen dataclass that is defined at the top level of a module.
        version: The version of the code; by default `code_version`. The source of the job's own module is
            always part of the key where it lies outside the packages.

    Returns:
        64 hexadecimal digits, the same in every process.

    Raises:
        ValueError: if ``job`` is no such instance, or a field has no canonical JSON.
    """
    kind = type(job)
    parameters = getattr(kind, "__dataclass_params__", None)
    if parameters is None or not (parameters.frozen and callable(getattr(job, "run", None))):
        raise ValueError(f"job must be an instance of a frozen dataclass with a run method, got {job!r}")
    code = code_version() if version is None else version
    return hashlib.sha256(f"{code}\n{_own_source(kind)}\n{canonical_json(job)}".encode()).hexdigest()


@cache
def code_version(packages: tuple[str, ...] = PACKAGES) -> str:
    """Return the SHA-256 over names and contents of the Python sources of packages, read once per process.

    Raises:
        ModuleNotFoundError: if a package is not installed.
    """
    digest = hashlib.sha256()
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"no package named {package!r}", name=package)
        for root in sorted(map(Path, spec.submodule_search_locations)):
            for source in sorted(root.rglob("*.py")):
                content = hashlib.sha256(source.read_bytes()).hexdigest()
                digest.update(f"{package}/{source.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _own_source(kind: type) -> str:
    """The hash of the module of a job class outside the packages, whose code `code_version` does not see."""
    if kind.__module__.partition(".")[0] == "plumbline":
        return ""
    source = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if "<locals>" in kind.__qualname__ or source is None:
        raise ValueError(
            f"job must be of a class at the top level of a module file, so that its code is known, "
            f"got {kind.__module__}.{kind.__qualname__}"
        )
    return hashlib.sha256(Path(source).read_bytes()).hexdigest()
