"""What trainings share: the ensemble, its starts, the training, and the columns that all results have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from plumbline.analysis.jobs.job import TorchJob
from plumbline.models.training import Trained, Training
from plumbline.theory import checks

if TYPE_CHECKING:
    import torch
    from torch import nn

    from plumbline.models.ensemble import Ensemble
    from plumbline.models.training.trainer import Objective

INITIAL_STREAM = 2**31
"""A step that no training reaches, so that the initial weights have a stream of their own."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob(TorchJob):
    """An ensemble trained on an objective; a family writes `module`, `minimised` and `read`.

    The description is free of torch, which is imported where something is computed.

    Args:
        training: Optimizer and schedule.
        runs: Number of runs: random starts times learning rates.
        seed: Of starts and samples.
        precision: Of the parameters while they train.
    """

    training: Training
    runs: int = 1
    seed: int = 0
    precision: Literal["float64", "float32"] = "float64"

    def __post_init__(self) -> None:
        checks.integer("runs", self.runs, at_least=1)
        checks.one_of("precision", self.precision, ("float64", "float32"))

    def module(self, run: int) -> nn.Module:
        """The model of a run with its initial weights."""
        raise NotImplementedError

    def minimised(self, ensemble: Ensemble) -> Objective:
        """The objective, as `train` takes it.

        Where it has a method ``observe``, that is shown the recorded steps, as `train` does.
        """
        raise NotImplementedError

    def read(self, ensemble: Ensemble, trained: Trained, objective: Any) -> dict[str, Any]:
        """The columns of this kind of training, beside or instead of those that all have."""
        raise NotImplementedError

    @property
    def keeps_parameters(self) -> bool:
        """Whether the curve also holds the parameters."""
        return False

    @property
    def dtype(self) -> torch.dtype:
        """The precision, as torch names it."""
        import torch

        dtype: torch.dtype = getattr(torch, self.precision)
        return dtype

    def initial_draws(self, run: int) -> torch.Generator:
        """The source of a run's initial weights."""
        return self.training.draws(self.seed, run, INITIAL_STREAM)

    def run(self) -> dict[str, Any]:
        """Train, and return what became of the runs.

        ``outcomes``, ``steps``, ``losses`` and ``residuals`` (relative gradient norms) of the runs, ``curve_steps``
        (K,) and ``curve_losses`` (K, runs), and what `read` adds or puts in their place.
        """
        from plumbline.models.ensemble import Ensemble
        from plumbline.models.training.trainer import train

        ensemble = Ensemble([self.module(run) for run in range(self.runs)], dtype=self.dtype)
        objective = self.minimised(ensemble)
        trained = train(
            ensemble,
            objective,
            self.training,
            snapshots=self.keeps_parameters,
            observe=getattr(objective, "observe", None),
        )
        return {
            "outcomes": list(trained.outcomes),
            "steps": trained.steps,
            "losses": trained.losses,
            "residuals": trained.relative_gradient_norms,
            "curve_steps": trained.curve.steps,
            "curve_losses": trained.curve.losses,
            **self.read(ensemble, trained, objective),
        }
