"""Phase diagram of reasoning: how far the lone feed-forward layer stays above the Bayes risk."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.drawing.data import FigureData, Panel
from plumbline.analysis.drawing.phase import Phase
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.claims.limits import lone_feed_forward_gap
from plumbline.analysis.reasoning.experiments import train_reasoner
from plumbline.analysis.sweeps.sweep import plan_sweep
from plumbline.theory.reasoning import ReasoningTask, bayes_risk, feed_forward_gap

TRIGGERS, OUTPUTS = 5, 4


@family.figure(
    caption="Excess loss of the lone feed-forward layer over noise and vocabulary, with its exact gap.",
    claims={lone_feed_forward_gap: None},
)
def excess_phases(budget: Budget, seed: int) -> Any:
    tenths, twentieths = [k / 10 for k in range(1, 10)], [k / 20 for k in range(1, 20)]
    noise = of_budget(budget, tenths, twentieths, twentieths)
    sizes = of_budget(budget, [16, 32, 64, 128, 256, 512], [2**k for k in range(4, 11)], [2**k for k in range(4, 13)])
    sweep = plan_sweep(
        train_reasoner,
        {
            "model": "Reparam-Linear-F",
            "vocab_size": sizes,
            "noise": noise,
            "learning_rate": 0.05,
            "steps": of_budget(budget, 300, 400, 800),
        },
        seeds=of_budget(budget, 1, 4, 8),
        seed=seed,
        budget=budget,
    )
    table = yield from sweep.within()

    def task(size: float, level: float) -> ReasoningTask:
        return ReasoningTask(round(size), 256, TRIGGERS, OUTPUTS, level)

    bayes = np.array([[bayes_risk(task(sizes[0], level)) for level in noise]])
    fine_x = np.linspace(0.005, 0.995, 100)
    fine_y = np.unique(np.geomspace(sizes[0] / 1.5, sizes[-1] * 1.5, 40).round())
    phase = Phase(
        label="loss − Bayes risk (nats)",
        x=noise,
        y=sizes,
        measured=table.over("noise", "vocab_size", "measured", np.mean) - bayes,
        theory_x=fine_x,
        theory_y=fine_y,
        theory=np.array([[feed_forward_gap(task(size, level)) for level in fine_x] for size in fine_y]),
        levels=[0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0],
        theory_label="exact gap α log(1 + (1 − α)(N − 2)/α)",
    )
    return FigureData(
        "Reparam-Linear-F after normalised gradient descent on sentences: excess over the Bayes risk",
        [Panel("", phase=phase, xlabel="noise α", ylabel="vocabulary N", yscale="log")],
    )
