"""The experiment of in-context reasoning that can be swept over a grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.cases import ModelCase, exact_loss
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, normalized_descent
from plumbline.analysis.sweeps.experiment import Measured, Unit
from plumbline.theory.reasoning import ReasoningTask, bayes_risk, normalized_gd_curve
from plumbline.theory.reasoning.model_names import ModelName


def with_noise(noise: float, learning_rate: float) -> bool:
    """Models with and without noise have other layers, and do not train together."""
    return noise > 0


@family.experiment(alike=with_noise)
def train_reasoner(
    *,
    model: ModelName = "Reparam-Linear-FA",
    vocab_size: int = 60,
    sentence_length: int = 256,
    triggers: int = 5,
    outputs: int = 4,
    noise: tuple[float, ...] = (0.2,),
    learning_rate: tuple[float, ...] = (0.1,),
    batch: int | None = None,
    test: int | None = None,
    exact: bool = False,
    steps: int | None = None,
    runs: int,
    seed: int,
    budget: Budget,
) -> Unit:
    """One-layer transformers under normalised gradient descent: their population loss.

    The loss of reparameterised models follows exactly from their scales, and is held against the closed form of its
    course; that of the others is of test sentences, and is held against the Bayes risk. Noise levels and learning rates
    train together.
    With ``exact`` the steps are along the gradient of the population (linear and ReLU, reparameterised) instead of
    that of a batch.
    """
    task = ReasoningTask(vocab_size, sentence_length, triggers, outputs, noise[0])
    case = ModelCase(task, model)
    scaled = case.data != "sentences"
    count = steps or of_budget(budget, 60, 150, 2000)
    size = batch or of_budget(budget, 128, 256, 512)
    job = TrainReasoner(
        task=task,
        model=model,
        training=normalized_descent(learning_rate, count, record_every=count),
        data="expected counts" if exact else case.data,
        batch=size,
        noise_levels=noise,
        seeds=runs,
        seed=seed,
        test=0 if scaled else test or of_budget(budget, 128, 256, 512),
    )

    def predicted(level: ReasoningTask, rate: float) -> float:
        if not scaled:
            return bayes_risk(level)
        given = None if exact else size
        return float(normalized_gd_curve(level, count, rate, case.layer, batch_size=given).losses[-1])

    def read(trained: dict[str, Any]) -> Measured:
        theory = [predicted(*place) for place in zip(job.levels, learning_rate, strict=True)] * runs
        ends = (trained["outcomes"], trained["steps"])
        if not scaled:
            return Measured(*ends, trained["population"][-1], None, theory)
        ends_of_runs = zip(job.tasks, trained["scales"][-1], strict=True)
        return Measured(*ends, [_loss(level, scales, case) for level, scales in ends_of_runs], 0.0, theory)

    theory = "loss of the exact course" if scaled else "Bayes risk"
    return Unit((job,), read, "population loss (nats)" if scaled else "loss on test sentences (nats)", theory)


def _loss(task: ReasoningTask, scales: np.ndarray, case: ModelCase) -> float:
    """The exact loss of a reparameterised model; without noise each trigger has its scale."""
    return float(np.mean([exact_loss(task, scale, case.layer) for scale in scales.tolist()]))
