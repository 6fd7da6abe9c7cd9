"""What training returns: where every run ended, and the course it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from plumbline.models.ensemble import Ensemble

Outcome = Literal["converged", "stalled", "budget", "diverged", "nan"]


@dataclass(frozen=True, eq=False)
class Curve:
    """The course of training at K recorded steps, the first and the last among them.

    A run that has ended keeps its final values to the end of the curve.

    Args:
        steps: (K,) steps taken.
        losses: (K, R) losses, as the objective returned them.
        gradient_norms: (K, R) Frobenius norms of a run's whole gradient before clipping.
        parameters: By name (K, R, ...) parameters, if snapshots were asked for; otherwise empty.
        observed: By name (K, R, ...) what was observed, if an observer was given; otherwise empty.
    """

    steps: np.ndarray
    losses: np.ndarray
    gradient_norms: np.ndarray
    parameters: dict[str, np.ndarray]
    observed: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trained:
    """What became of the R runs; losses and gradient norms are those of the parameters that were kept.

    Outcomes: ``"converged"`` the gradient norm fell to the tolerance (a stationary point, not necessarily a
    minimum), or, for L-BFGS, float64 allows no further progress and the gradient is below 1e-6 of the first;
    ``"stalled"`` no further progress, the gradient is not that small; ``"budget"`` the steps were used up;
    ``"diverged"`` the loss grew beyond bounds; ``"nan"`` loss or gradient were not finite. A run of the last
    two is taken back to the parameters of its lowest finite loss; only a run that began without a finite
    loss or gradient has none.

    Args:
        losses: (R,) final losses. For a sampled objective, of one sample.
        gradient_norms: (R,) final gradient norms.
        relative_gradient_norms: (R,) the same as multiples of the first gradient norm, the stationarity
            residual; 0 for a run that started where the gradient vanishes.
        outcomes: R words.
        steps: (R,) optimizer steps after which the run ended.
        curve: The course of training.
        parameters: By name (R, ...) the parameters kept, equal to those the ensemble now holds.
    """

    losses: np.ndarray
    gradient_norms: np.ndarray
    relative_gradient_norms: np.ndarray
    outcomes: tuple[Outcome, ...]
    steps: np.ndarray
    curve: Curve
    parameters: dict[str, np.ndarray]

    @property
    def converged(self) -> np.ndarray:
        """(R,) booleans: the outcome is ``"converged"``."""
        return np.array([outcome == "converged" for outcome in self.outcomes])

    def __str__(self) -> str:
        counts = {outcome: self.outcomes.count(outcome) for outcome in dict.fromkeys(self.outcomes)}
        words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        lowest = float(np.fmin.reduce(self.losses))
        return f"{len(self.outcomes)} runs: {words}; lowest loss {lowest:.6g}, {self.steps.max()} steps"


@dataclass
class End:
    """Per run (R,): where it ended."""

    losses: torch.Tensor
    norms: torch.Tensor
    first_norms: torch.Tensor
    outcomes: list[Outcome]
    steps: torch.Tensor


class Record:
    """Losses, gradient norms and parameters at recorded steps, kept as tensors until the end."""

    def __init__(self, ensemble: Ensemble, *, steps: int, every: int, snapshots: bool) -> None:
        self.ensemble = ensemble
        self.every = every
        rows = steps // every + 1
        self.marks = ensemble.vector.new_empty((rows, 2, len(ensemble)))
        self.vectors = ensemble.vector.new_empty((rows, *ensemble.vector.shape)) if snapshots else None
        self.observed: list[dict[str, torch.Tensor]] = []

    def write(self, step: int, marks: torch.Tensor, run: int | slice = slice(None)) -> bool:
        """Note losses and gradient norms, stacked, of a run or of all, if the step is one to be recorded."""
        if step % self.every:
            return False
        row = step // self.every
        self.marks[row, :, run] = marks
        if self.vectors is not None:
            self.vectors[row, run] = self.ensemble.vector[run]
        return True

    def keep(self, observed: Mapping[str, Any]) -> None:
        """Note what was observed at the step just recorded, or last of all at the end: arrays (R, ...) by name."""
        row = {name: torch.as_tensor(values).detach().to("cpu", torch.float64) for name, values in observed.items()}
        for name, values in row.items():
            if values.shape[:1] != (len(self.ensemble),):
                raise ValueError(
                    f"observe must return arrays with {len(self.ensemble)} runs in front, got shape "
                    f"{tuple(values.shape)} for {name!r}"
                )
        if self.observed and row.keys() != self.observed[0].keys():
            raise ValueError(
                f"observe must return the same names each time, got {sorted(row)} after {sorted(self.observed[0])}"
            )
        self.observed.append(row)

    def close(self, end: End) -> Trained:
        steps = end.steps.cpu().numpy()
        last = int(steps.max())
        recorded = np.append(np.arange(0, last, self.every), last)
        ended = recorded[:, None] >= steps[None, :]

        def course(buffer: torch.Tensor, final: np.ndarray) -> np.ndarray:
            rows = np.concatenate([_numpy(buffer[: len(recorded) - 1]), final[None]])
            return np.where(ended.reshape(ended.shape + (1,) * (final.ndim - 1)), final, rows)

        losses, norms, first = _numpy(end.losses), _numpy(end.norms), _numpy(end.first_norms)
        parameters = {name: _numpy(tensor) for name, tensor in self.ensemble.parameters().items()}
        snapshots = {} if self.vectors is None else self.ensemble.split(self.vectors)
        observed = {
            name: course(torch.stack([row[name] for row in self.observed]), _numpy(final))
            for name, final in (self.observed[-1].items() if self.observed else ())
        }
        return Trained(
            losses=losses,
            gradient_norms=norms,
            relative_gradient_norms=np.divide(norms, first, out=np.zeros_like(norms), where=first != 0),
            outcomes=tuple(end.outcomes),
            steps=steps,
            curve=Curve(
                steps=recorded,
                losses=course(self.marks[:, 0], losses),
                gradient_norms=course(self.marks[:, 1], norms),
                parameters={name: course(buffer, parameters[name]) for name, buffer in snapshots.items()},
                observed=observed,
            ),
            parameters=parameters,
        )


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to("cpu", torch.float64, copy=True).numpy()
