"""Jobs that worker processes can import; those with a log note each start of a run there."""

from __future__ import annotations

import multiprocessing.connection
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


def note(log: str, word: object) -> None:
    """Append one line in one write, so that processes do not mix theirs."""
    with open(log, "ab", buffering=0) as file:
        file.write(f"{word} {os.getpid()}\n".encode())


def noted(log: Path) -> list[str]:
    """The words noted so far."""
    return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []


def noted_processes(log: Path) -> set[int]:
    """The processes that noted them."""
    return {int(line.split()[1]) for line in log.read_text().splitlines()} if log.exists() else set()


@dataclass(frozen=True)
class Square:
    """Squares a number, after a while."""

    value: int
    log: str
    seconds: float = 0.0

    def run(self) -> dict[str, Any]:
        note(self.log, self.value)
        time.sleep(self.seconds)
        return {"square": self.value**2}


@dataclass(frozen=True)
class Waits:
    """Makes one file, waits for another to appear, and raises if it does not."""

    file: str
    made: str | None = None

    def run(self) -> dict[str, Any]:
        if self.made is not None:
            Path(self.made).touch()
        deadline = time.monotonic() + 20.0
        while not Path(self.file).exists():
            if time.monotonic() > deadline:
                raise TimeoutError(self.file)
            time.sleep(0.01)
        return {"appeared": True}


@dataclass(frozen=True)
class Raises:
    """Raises until the file ``cure`` exists."""

    log: str
    cure: str

    def run(self) -> dict[str, Any]:
        note(self.log, "raises")
        if not Path(self.cure).exists():
            raise ArithmeticError("no cure yet")
        return {"cured": True}


@dataclass(frozen=True)
class Exits:
    """Calls sys.exit."""

    def run(self) -> dict[str, Any]:
        sys.exit(3)


@dataclass(frozen=True)
class Dies:
    """Kills its process after a while, each time or only while the file ``once`` does not exist."""

    log: str
    once: str | None = None
    seconds: float = 0.0

    def run(self) -> dict[str, Any]:
        note(self.log, "dies")
        time.sleep(self.seconds)
        if self.once is None or not Path(self.once).exists():
            if self.once is not None:
                Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"survived": True}


@dataclass(frozen=True)
class DiesWhileSending:
    """Arranges that its process is killed when half of its result has been sent."""

    def run(self) -> dict[str, Any]:
        def send_half(connection: Any, message: Any, write: Any = None) -> None:
            os.write(connection.fileno(), bytes(message[: len(message) // 2]))
            os.kill(os.getpid(), signal.SIGKILL)

        multiprocessing.connection.Connection._send = send_half  # type: ignore[attr-defined]
        return {"text": "long" * 1000}


@dataclass(frozen=True)
class Interrupts:
    """Raises KeyboardInterrupt, as Ctrl-C does in a job of this process."""

    def run(self) -> dict[str, Any]:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class Threads:
    """Tells how many threads torch would use."""

    def run(self) -> dict[str, Any]:
        import torch

        return {"threads": torch.get_num_threads()}


@dataclass(frozen=True)
class Arrays:
    """Returns one of everything that a result may hold."""

    seed: int

    def run(self) -> dict[str, Any]:
        generator = np.random.default_rng(self.seed)
        return {
            "matrix": generator.standard_normal((3, 2)),
            "single": generator.standard_normal(4).astype(np.float32),
            "special": np.array([np.nan, np.inf, -np.inf, -0.0]),
            "counts": np.arange(3, dtype=np.int16),
            "point": np.array(0.1),
            "empty": np.zeros((0, 3)),
            "names": np.array(["a", "bcd"]),
            "scalar": np.float64(1 / 3),
            "pair": (1, 2.0),
            "nested": {"list": [None, True, "text", {"array": np.eye(2, dtype=bool)}]},
        }


@dataclass(frozen=True)
class Holds:
    """Holds any value, returned or not."""

    value: Any
    hand_out: bool = False

    def run(self) -> dict[str, Any]:
        return {"value": self.value} if self.hand_out else {}


@dataclass(frozen=True)
class Complex:
    """Returns what no store can keep."""

    def run(self) -> dict[str, Any]:
        return {"root": [1.0, 1j]}


@dataclass
class NotFrozen:
    """A dataclass that could change under its key."""

    value: int = 0

    def run(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class NoRun:
    """A frozen dataclass without run."""

    value: int = 0
