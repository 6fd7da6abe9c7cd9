"""Objectives whose landscape is observed along training: held-out loss, smoothness along the update, condition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.models.ensemble import Ensemble
from plumbline.models.regression.curvature import Curvature, risk_curvature
from plumbline.models.training.trainer import Objective
from plumbline.theory import checks
from plumbline.theory.regression import RegressionTask, robust_condition_number


def published_condition_number(diagonal: Any) -> float:
    r"""Return the robust condition number as the published code counts it.

    .. math:: \max_i |H_{ii}| / \mathrm{median}_i |H_{ii}|

    with the lower of two medians, of all parameters: those without any influence (the value block of the last layer)
    are among them, which makes the number larger than that of `plumbline.theory.regression.robust_condition_number`.

    Args:
        diagonal: The H_ii, (K,).

    Raises:
        ValueError: on a diagonal that is empty or not finite.

    Source:
        The code published with 2310.01082.

    Example:
        >>> published_condition_number([4.0, -2.0, 1.0, 0.0])
        4.0
    """
    sizes = np.sort(np.abs(checks.array("diagonal", diagonal, (None,))))
    middle = sizes[(len(sizes) - 1) // 2]
    return float(sizes[-1] / middle) if middle else np.inf


CONDITIONS: dict[str, Callable[[np.ndarray], float]] = {
    "condition": lambda diagonal: robust_condition_number(diagonal).value,
    "published_condition": published_condition_number,
}


@dataclass(frozen=True, kw_only=True)
class ObservedObjective:
    """An objective for `plumbline.models.training.trainer.train` that also observes the landscape around the runs.

    Args:
        minimised: The objective.
        smoothness: Observe the directional smoothness and the gradient at each recorded step.
        condition_at: Steps at which the condition numbers are taken.
    """

    minimised: Objective
    smoothness: bool
    condition_at: tuple[int, ...]

    def __call__(self, ensemble: Ensemble, step: int) -> Tensor:
        """The losses (R,) that are minimised."""
        return self.minimised(ensemble, step)

    def held_out(self, ensemble: Ensemble) -> Tensor:
        """The held-out losses (R,)."""
        raise NotImplementedError

    def curvatures(self, ensemble: Ensemble) -> list[Curvature]:
        """The curvature of each run's held-out loss, of as much of it as is looked at."""
        raise NotImplementedError

    def observe(self, ensemble: Ensemble, step: int, update: Tensor | None) -> dict[str, Any]:
        """What is seen at a recorded step, arrays (R,) by name.

        ``held_out_losses``; with ``smoothness`` also ``smoothness`` (uᵀHu along the update u; NaN at the end and for a
        run that has ended) and ``gradient_norms``; with ``condition_at`` ``condition`` and ``published_condition``, NaN
        at other steps.
        """
        with torch.no_grad():
            seen: dict[str, Any] = {"held_out_losses": self.held_out(ensemble)}
        nothing = np.full(len(ensemble), np.nan)
        condition = update is not None and step in self.condition_at
        found = self.curvatures(ensemble) if condition or self.smoothness else []
        if self.smoothness:
            seen["gradient_norms"] = np.array([float(curvature.gradient.norm()) for curvature in found])
            seen["smoothness"] = nothing if update is None else along(found, update)
        if self.condition_at:
            diagonals = [curvature.hessian_diagonal().numpy() for curvature in found] if condition else []
            for name, count in CONDITIONS.items():
                seen[name] = np.array([count(diagonal) for diagonal in diagonals]) if condition else nothing
        return seen


def along(curvatures: list[Curvature], update: Tensor) -> np.ndarray:
    """uᵀHu of each run along its update (runs, K); NaN where there is none."""
    return np.array(
        [
            curvature.directional(row) if bool(row.any()) else np.nan
            for curvature, row in zip(curvatures, update, strict=True)
        ]
    )


@dataclass(frozen=True, kw_only=True)
class RiskLandscape(ObservedObjective):
    """Linear transformers, seen on the risk on fixed W: exact over queries and weight vectors.

    Args:
        task: The data distribution.
        wisharts: W of the held-out loss, (N, d, d).
        designs: Number of those, from the first on, of which the curvature is taken.
        minimised, smoothness, condition_at: As in `ObservedObjective`.
    """

    task: RegressionTask
    wisharts: Tensor
    designs: int

    def held_out(self, ensemble: Ensemble) -> Tensor:
        return ensemble.call("mean_risk", self.wisharts, self.task)

    def curvatures(self, ensemble: Ensemble) -> list[Curvature]:
        designs = self.wisharts[: self.designs]
        return [risk_curvature(module, designs, self.task) for module in ensemble.modules()]  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class FeatureLandscape(ObservedObjective):
    """Feature transformers, seen on the loss on fixed prompts of each run's own features.

    Args:
        prompts: Tokens (R, N, n+1, d+1) and answers (R, N) of the held-out loss.
        designs: Number of prompts, from the first on, of which the curvature is taken.
        minimised, smoothness, condition_at: As in `ObservedObjective`.
    """

    prompts: tuple[Tensor, Tensor]
    designs: int

    def held_out(self, ensemble: Ensemble) -> Tensor:
        return ensemble.call("loss", *self.prompts, in_dims=(0, 0))

    def curvatures(self, ensemble: Ensemble) -> list[Curvature]:
        found = []
        for run, module in enumerate(ensemble.modules()):
            loss = module.loss(*(part[run, : self.designs] for part in self.prompts))  # type: ignore[operator]
            found.append(Curvature(loss, module.parameters()))
        return found
