"""The settings of 2310.01082 at the size of each budget: what figures draw and claims measure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.regression.jobs import TrainAlongLandscape, TrainFeatureTransformer
from plumbline.models.training import Training
from plumbline.theory.regression import RegressionTask

Optimizer = Literal["SGDM", "Adam"]
OPTIMIZERS: tuple[Optimizer, ...] = ("SGDM", "Adam")


@dataclass(frozen=True)
class Mode:
    """One published setting: the task, the bound on the gradient's norm, and the tuned learning rates."""

    task: RegressionTask
    clip: float | None
    sgdm_rate: float
    adam_rate: float

    def rate(self, optimizer: Optimizer) -> float:
        """The published learning rate."""
        return self.sgdm_rate if optimizer == "SGDM" else self.adam_rate


MODES = {
    "normal, n=20": Mode(RegressionTask(5, 20), 1.0, 0.02, 0.02),
    "normal, n=5": Mode(RegressionTask(5, 5), 1.0, 0.01, 0.005),
    "sphere, n=20": Mode(RegressionTask(5, 20, covariate_law="sphere"), 0.1, 5.0, 0.1),
    "gamma, n=20": Mode(RegressionTask(5, 20, covariate_law="gamma", gamma_shape=0.1), 1.0, 0.02, 0.02),
}
CLIPPED = 1e100
"""Divergence of trainings with clipped steps: spikes of a batch's loss, beyond 1e9 times the first, do not end them."""
PUBLISHED_RATIOS = ((0, 1.0, 0.0), (750, 2.569, 0.915), (1250, 1.298, 0.781))
"""Robust condition number of SGDM over Adam's: iteration, mean, standard deviation over 6 seeds (its notebook)."""


def training(optimizer: Optimizer, rate: float, *, clip: float | None, steps: int, record_every: int) -> Training:
    """SGD with momentum 0.9, or AdamW with betas (0.9, 0.9) and no decay; the whole gradient is clipped."""
    options: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.9}
    if optimizer == "Adam":
        options = {"optimizer": "adam", "betas": (0.9, 0.9)}
    return Training(
        steps=steps,
        learning_rate=rate,
        clip=clip,
        clip_by="run",
        tolerance=0.0,  # sampled gradients never vanish
        divergence=1e9 if clip is None else CLIPPED,
        record_every=record_every,
        **options,
    )


def course(
    mode: Mode, optimizer: Optimizer, budget: Budget, seed: int, *, rate: float | None = None, layers: int = 3
) -> TrainAlongLandscape:
    """One published training with everything observed.

    Published: 10,000 iterations with 1,000 prompts each, 6 seeds. Quick: 250 iterations with 100 prompts, 3 seeds,
    where SGDM and Adam have left the first plateau and the rare large gradients have been met.
    """
    steps, every = of_budget(budget, (250, 10), (1300, 25), (10_000, 25))
    watched = of_budget(
        budget,
        (0, 80, 160, 240),
        (0, 250, 500, 750, 1000, 1250),
        (0, 250, 500, 750, 1000, 1250, 1500, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000),
    )
    return TrainAlongLandscape(
        task=mode.task,
        layers=layers,
        training=training(optimizer, rate or mode.rate(optimizer), clip=mode.clip, steps=steps, record_every=every),
        batch=of_budget(budget, 100, 500, 1000),
        runs=of_budget(budget, 3, 4, 6),
        held_out=of_budget(budget, 500, 1000, 1000),
        designs=of_budget(budget, 50, 200, 500),
        smoothness=True,
        condition_at=watched,
        seed=seed,
    )


def rate_sweep(
    mode: Mode, optimizer: Optimizer, rate: float, budget: Budget, seed: int, *, layers: int = 3
) -> TrainAlongLandscape:
    """A shorter training without curvature, for grids of learning rates and depths."""
    steps = of_budget(budget, 100, 500, 1000)
    return TrainAlongLandscape(
        task=mode.task,
        layers=layers,
        training=training(optimizer, rate, clip=mode.clip, steps=steps, record_every=steps // 50),
        batch=of_budget(budget, 50, 200, 1000),
        runs=of_budget(budget, 2, 3, 6),
        held_out=500,
        designs=1,
        seed=seed,
    )


def with_features(optimizer: Optimizer, budget: Budget, seed: int) -> TrainFeatureTransformer:
    """The non-linear variant at its published rates, clipped at 1.

    Published: 10,000 iterations with 2,000 prompts, 5 seeds, in float32.
    """
    steps, every = of_budget(budget, (150, 5), (500, 10), (10_000, 10))
    return TrainFeatureTransformer(
        training=training(
            optimizer, {"SGDM": 0.05, "Adam": 0.01}[optimizer], clip=1.0, steps=steps, record_every=every
        ),
        batch=of_budget(budget, 50, 200, 2000),
        runs=of_budget(budget, 2, 3, 5),
        held_out=of_budget(budget, 200, 500, 1000),
        designs=of_budget(budget, 20, 100, 200),
        smoothness=True,
        condition_at=of_budget(budget, (0, 100), (0, 250), (0, 750, 1250)),
        seed=seed,
        precision="float32",
    )
