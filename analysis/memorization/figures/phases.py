"""Phase diagram of memorization: the share of contexts that is stored, over heads and head dimension."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.drawing.data import FigureData, Panel
from plumbline.analysis.drawing.phase import Phase
from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.claims.capacity import capacity_is_attained
from plumbline.analysis.memorization.experiments import train_next_token_model
from plumbline.analysis.memorization.jobs.constructions import StoreContexts
from plumbline.analysis.sweeps.sweep import plan_sweep
from plumbline.theory.memorization import attention_only_capacity


def _upper_corner(budget: Budget) -> str:
    """The widest heads, as many as are drawn below the capacity line."""
    return of_budget(budget, "N=6, S=2, d=d_h=3, H=9", "N=10, S=2, d=d_h=4, H=22", "N=20, S=2, d=d_h=10, H=36")


@family.figure(
    caption="Stored share of a look-up table over heads and head dimension, with the capacity line.",
    claims={capacity_is_attained: _upper_corner},
)
def storage_phases(budget: Budget, seed: int) -> Any:
    n, dim = of_budget(budget, (6, 3), (10, 4), (20, 10))
    heads = of_budget(budget, list(range(1, 12, 2)), list(range(1, 27, 3)), list(range(1, 42, 5)))
    widths = list(range(1, dim + 1))
    sweep = plan_sweep(
        train_next_token_model,
        {
            "vocab_size": n,
            "embed_dim": dim,
            "heads": heads,
            "head_dim": widths,
            "steps": of_budget(budget, 100, 600, 1500),
        },
        seeds=of_budget(budget, 2, 8, 16),
        seed=seed,
        budget=budget,
    )
    trained = yield from sweep.within()
    witnesses = yield [
        StoreContexts(vocab_size=n, context_length=2, heads=h, head_dim=w, embed_dim=dim, tables=2, seed=seed)
        for w in widths
        for h in heads
    ]
    accuracy = trained.over("heads", "head_dim", "measured", np.mean)
    stored = np.array([found["stored"].min() for found in witnesses]).reshape(accuracy.shape)
    shares = {
        "stored by witnesses": ("share stored (worst of 2)", stored / n**2),
        "trained": ("contexts right beyond chance", (accuracy - 1 / n) / (1 - 1 / n)),
    }
    fine = list(range(heads[-1] + heads[1]))
    # Heads of no dimension leave the skip connection alone, as no heads do; wider ones than d add nothing.
    capacity = [[attention_only_capacity(0, 1, dim, n, 2)] * len(fine)]
    capacity += [[attention_only_capacity(h, w, dim, n, 2) for h in fine] for w in [*widths, dim + 1]]
    panels = [
        Panel(
            title,
            phase=Phase(
                label=label,
                x=heads,
                y=widths,
                measured=measured,
                theory_x=fine,
                theory_y=[0, *widths, dim + 1],
                theory=np.array(capacity) / n**2,
                levels=[0.15, 0.25, 0.4, 0.55, 0.75],
                theory_label="share of any table that can be stored, T₀/N²",
                line=1 - 1e-9,
                line_label="capacity line: any table whole, T₀ = N²",
            ),
            xlabel="heads H",
            ylabel="head dimension d_h",
            legend=title == "trained",
        )
        for title, (label, measured) in shares.items()
    ]
    return FigureData(f"Attention only, look-up tables with N={n}, S=2, d={dim}", panels)
