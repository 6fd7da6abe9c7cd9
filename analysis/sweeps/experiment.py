"""Experiments that can be swept: from a grid point to an ensemble, and from its result to one row for each run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plumbline.analysis.jobs.job import Job
from plumbline.analysis.sweeps.grid import Key, Point, keys_of
from plumbline.theory import checks

GIVEN = ("runs", "seed", "budget")
"""What a sweep gives every experiment besides the keys of the grid."""


@dataclass(frozen=True, eq=False)
class Measured:
    """What the runs of an ensemble came to; a single number holds for all of them.

    Args:
        outcomes: How each run ended, in the words of the trainer.
        steps: Steps taken.
        measured: What was measured; of a run without a finite value NaN.
        error: Of the measured numbers; 0 where they are exact to rounding, ``None`` where it is not estimated.
        predicted: What theory says; ``None`` where it is silent.
    """

    outcomes: Sequence[str]
    steps: Any
    measured: Any
    error: Any = 0.0
    predicted: Any = None


@dataclass(frozen=True, eq=False)
class Unit:
    """The unit of work of a sweep: runs of one shape, trained in one tensor program.

    Args:
        jobs: The training first, then what else is needed to read it.
        read: From the results of the jobs to what the runs came to.
        quantity: What is measured.
        theory: What the prediction is; empty where theory is silent.
    """

    jobs: tuple[Job, ...]
    read: Callable[..., Measured]
    quantity: str
    theory: str = ""

    def __post_init__(self) -> None:
        if not self.jobs:
            raise ValueError(f"jobs must hold at least one, the training, got {self.jobs!r}")


@dataclass(frozen=True, eq=False)
class Cell:
    """One ensemble of a sweep: its grid points (several where their values are joined), its seed and its runs."""

    points: list[Point]
    seed: int
    runs: int
    unit: Unit


@dataclass(frozen=True, eq=False)
class Experiment:
    """An experiment of a family; see `Family.experiment`."""

    name: str
    family: str
    summary: str
    keys: Mapping[str, Key]
    alike: Callable[..., Any] = field(repr=False)
    build: Callable[..., Unit] = field(repr=False)

    @property
    def joined(self) -> tuple[str, ...]:
        """The keys whose values train together."""
        return tuple(key.name for key in self.keys.values() if key.joined)


def all_alike(**joined: Any) -> None:
    """All values train together."""


def make_experiment(
    function: Callable[..., Unit],
    *,
    family: str,
    job: type | None = None,
    fields: Sequence[str] = (),
    alike: Callable[..., Any] = all_alike,
) -> Experiment:
    """The experiment of a function; see `Family.experiment`.

    Raises:
        ValueError: on a field that the job does not have, or whose values cannot be written at the shell, and on a key
            without a default.
    """
    keys = keys_of(function, GIVEN)
    if job is not None:
        own = keys_of(job, set(inspect.signature(job).parameters) - set(fields))
        keys |= {name: own[checks.one_of(f"a field of {job.__name__}", name, own)] for name in fields}
    for key in keys.values():
        if key.default is inspect.Parameter.empty:
            raise ValueError(f"{key.name} must have a default, as every key of an experiment, got none")
    summary = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0]
    return Experiment(function.__name__.replace("_", "-"), family, summary, keys, alike, function)


def of_runs(value: Any, runs: int) -> np.ndarray:
    """A number of all runs, or one number for each, as floats (runs,); ``None`` as NaN."""
    return np.broadcast_to(np.asarray(np.nan if value is None else value, float), (runs,))
