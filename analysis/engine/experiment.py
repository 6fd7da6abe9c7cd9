"""Experiments that can be swept: from a grid point to an ensemble, and from its result to one row for each run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plumbline.analysis.engine.grid import Key, keys_of
from plumbline.analysis.engine.job import Job

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


@dataclass(frozen=True, eq=False)
class Experiment:
    """A registered experiment; see `experiment`."""

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


_EXPERIMENTS: dict[str, Experiment] = {}


def all_alike(**joined: Any) -> None:
    """All values train together."""


def experiment(*, family: str, alike: Callable[..., Any] = all_alike) -> Callable[[Callable[..., Unit]], Experiment]:
    """Register the decorated function as an experiment that `plumbline.analysis.sweep` can sweep.

    The function takes keywords only: the keys of the grid, whose types and defaults are read from its signature, and
    ``runs``, ``seed`` and ``budget``. It returns the `Unit` of a grid point. Keys may be annotated
    ``tuple[kind, ...]``: several grid points that differ in nothing else then train together, ``runs`` times each. Each
    of these keys has the values of all of them, and run i of the ensemble is of the point i modulo their number.

    Args:
        family: ``"regression"``, …
        alike: Called with the values of these keys at a point, by name: only points that share what it returns train
            together.
    """

    def register(function: Callable[..., Unit]) -> Experiment:
        name = function.__name__.replace("_", "-")
        if name in _EXPERIMENTS:
            raise ValueError(f"name must be new, got {name!r}, which is registered already")
        summary = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0]
        keys = keys_of(function, GIVEN)
        _EXPERIMENTS[name] = Experiment(name, family, summary, keys, alike, function)
        return _EXPERIMENTS[name]

    return register


def experiment_registry() -> dict[str, Experiment]:
    """All experiments by name."""
    return dict(_EXPERIMENTS)


def of_runs(value: Any, runs: int) -> np.ndarray:
    """A number of all runs, or one number for each, as floats (runs,); ``None`` as NaN."""
    return np.broadcast_to(np.asarray(np.nan if value is None else value, float), (runs,))
