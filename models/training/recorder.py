"""What is written down while an ensemble trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from plumbline.models.ensemble import Ensemble
from plumbline.models.training.trained import Curve, Ending, Trained


@dataclass
class End:
    """Per run (R,): where it ended."""

    losses: torch.Tensor
    norms: torch.Tensor
    first_norms: torch.Tensor
    outcomes: list[Ending]
    steps: torch.Tensor


class Recorder:
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
        # Copies: what is observed may be the parameters themselves, which go on changing.
        row = {
            name: torch.as_tensor(values).detach().to("cpu", torch.float64, copy=True)
            for name, values in observed.items()
        }
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
