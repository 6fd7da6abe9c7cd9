"""What training returns: where every run ended, and the course it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Ending = Literal["converged", "stalled", "budget", "diverged", "nan"]


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
    outcomes: tuple[Ending, ...]
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
