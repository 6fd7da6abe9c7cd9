"""An experiment of no time, whose jobs worker processes can import."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from plumbline.analysis.budget import Budget
from plumbline.analysis.sweeps.experiment import Experiment, Measured, Unit
from plumbline.analysis.sweeps.grid import keys_of
from tests.analysis.jobs.jobs_for_tests import note


@dataclass(frozen=True)
class Throw:
    """Levels times runs numbers, noted; one that is told to fails, is not finite, or kills its process once."""

    size: int
    levels: tuple[float, ...]
    runs: int
    seed: int
    log: str
    fault: str = "none"

    def run(self) -> dict[str, Any]:
        note(self.log, f"{self.size}:{self.seed}")
        if self.fault == "raise":
            raise ArithmeticError("told to")
        if self.fault == "die" and not Path(self.log + ".died").exists():
            Path(self.log + ".died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        count = len(self.levels) * self.runs
        draws = np.random.default_rng((self.size, self.seed)).normal(size=count)
        losses = draws + self.size + np.tile(self.levels, self.runs)
        outcomes = ["budget"] * count
        if self.fault == "nan":
            losses[0], outcomes[0] = np.nan, "nan"
        return {"losses": losses, "outcomes": outcomes}


def throw(
    *,
    size: int = 1,
    shape: Literal["round", "square"] = "round",
    level: tuple[float, ...] = (0.0,),
    tilt: tuple[int | None, ...] = (None,),
    fair: bool = True,
    log: str = "",
    bad: int = 0,
    fault: Literal["none", "raise", "nan", "die"] = "none",
    runs: int,
    seed: int,
    budget: Budget,
) -> Unit:
    """Numbers around size plus level; the fault is that of the size called bad."""
    if size < 0:
        raise ValueError(f"size must be at least 0, got {size}")
    level = tuple(own + (more or 0) for own, more in zip(level, tilt, strict=True))
    job = Throw(size, level, runs, seed, log, fault if size == bad else "none")

    def read(thrown: dict[str, Any]) -> Measured:
        predicted = np.tile(level, runs) + size if fair else None
        return Measured(thrown["outcomes"], 1, thrown["losses"], 0.0, predicted)

    return Unit((job,), read, "loss", "mean" if fair else "")


def alike(level: float, tilt: int | None) -> bool:
    """Level 0 is thrown alone."""
    return level > 0


THROW = Experiment("throw", "tests", "Numbers.", keys_of(throw, ("runs", "seed", "budget")), alike, throw)
