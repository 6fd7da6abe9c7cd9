"""Phase diagram of in-context regression: the risk over context length and depth."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.drawing.data import FigureData, Panel
from plumbline.analysis.drawing.phase import Phase
from plumbline.analysis.regression import family
from plumbline.analysis.regression.claims.multi_step import multi_step_loss
from plumbline.analysis.regression.experiments import train_linear_transformer
from plumbline.analysis.sweeps.sweep import plan_sweep
from plumbline.theory.regression import multi_step_optimum


def drawn_cases(budget: Budget) -> tuple[str, ...]:
    """The squares of the diagram that are cases of the claim: none at the quick budget, whose dimension is none."""
    return () if budget is Budget.QUICK else tuple(f"L={layers}, n=20, d=5" for layers in (1, 2, 3, 4))


@family.figure(
    caption="Risk over context length and depth: trained transformers under exact contours.",
    claims={multi_step_loss: drawn_cases},
)
def risk_phases(budget: Budget, seed: int) -> Any:
    dim = of_budget(budget, 4, 5, 5)
    ratios: list[float] = of_budget(
        budget, [1, 2, 4, 8, 16], [1, 2, 3, 4, 6, 8, 12, 16], [1, 1.4, 2, 2.8, 4, 5.6, 8, 11.2, 16, 22.4]
    )
    depths = list(range(1, of_budget(budget, 4, 5, 5) + 1))
    lengths = [round(ratio * dim) for ratio in ratios]
    sweep = plan_sweep(
        train_linear_transformer,
        {"dim": dim, "context_length": lengths, "layers": depths},
        seeds=of_budget(budget, 2, 4, 8),
        seed=seed,
        budget=budget,
    )
    table = yield from sweep.within()
    fine = np.unique(np.geomspace(lengths[0] * 0.5, lengths[-1] * 1.5, 50).round().astype(int))

    def exact(depth: int) -> np.ndarray:
        return np.array([multi_step_optimum(depth, dim, int(n)).loss / dim for n in fine])

    phase = Phase(
        label="risk / d",
        x=np.array(lengths) / dim,
        y=depths,
        measured=table.over("context_length", "layers", "measured", min) / dim,
        theory_x=fine / dim,
        theory_y=[0, *depths, depths[-1] + 1],
        theory=np.array([np.ones(len(fine)), *(exact(depth) for depth in [*depths, depths[-1] + 1])]),
        levels=[0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5],
        theory_label="exact optimum of depth L",
        scale="log",
    )
    return FigureData(
        f"Linear transformers, d={dim}, zero value block: risk, best of {sweep.runs // sweep.grid_points} starts",
        [Panel("", phase=phase, xlabel="context length / dimension, n/d", ylabel="layers L", xscale="log")],
    )
