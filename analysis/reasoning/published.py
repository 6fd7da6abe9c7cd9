"""The published trainings at the size of each budget: what the figures draw and some claims measure."""

from __future__ import annotations

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.reasoning.cases import NOISE_LEVELS, NOISY, PUBLISHED, ModelCase
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, normalized_descent
from plumbline.theory.reasoning.model_names import MODEL_NAMES, ModelName

MODELS = tuple(name for name in MODEL_NAMES if name != "Reparam-Relu-W-FA")
"""The thirteen models of the published figures."""


def training(model: ModelName, rate: float, budget: Budget, seed: int, *, noise: bool) -> TrainReasoner:
    """Fresh batches at each step, without noise or at all three noise levels; twenty measurements, or a hundred."""
    case = ModelCase(NOISY if noise else PUBLISHED, model, rate)
    free = case.data == "sentences"
    steps = of_budget(budget, 60, 150, 2000) if free else of_budget(budget, 200, 400, 2000)
    return TrainReasoner(
        task=case.task,
        model=model,
        # At the published length most steps come after the models with a large step have converged.
        training=normalized_descent(rate, steps, record_every=steps // (100 if budget is Budget.PAPER else 20)),
        data=case.data,
        batch=of_budget(budget, 128, 256, 512),
        noise_levels=NOISE_LEVELS if noise else (),
        test=of_budget(budget, 128, 256, 512),
        seed=seed,
    )


def both(model: ModelName, rate: float, budget: Budget, seed: int) -> list[TrainReasoner]:
    """The training without noise and the one at the three noise levels."""
    return [training(model, rate, budget, seed, noise=noise) for noise in (False, True)]


def on_sample(model: ModelName, budget: Budget, seed: int) -> TrainReasoner:
    """The finite-sample training: 2,048 sentences, 4 steps an epoch, 100 epochs, η = 0.1, all noise levels."""
    steps = of_budget(budget, 80, 160, 400)
    return TrainReasoner(
        task=NOISY,
        model=model,
        training=normalized_descent(0.1, steps, record_every=steps // 20),
        data="finite sample",
        sample_size=2048,
        noise_levels=NOISE_LEVELS,
        test=of_budget(budget, 256, 256, 2048),
        seed=seed,
    )
