"""The experiments of in-context regression that can be swept over a grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.regression import family
from plumbline.analysis.regression.jobs import TrainAlongLandscape, TrainFeatureTransformer, TrainLinearTransformer
from plumbline.analysis.regression.jobs.linear_transformer import ObjectiveName
from plumbline.analysis.sweeps.experiment import Measured, Unit
from plumbline.models.training import Training
from plumbline.theory.regression import (
    RegressionTask,
    gd_plus_plus_optimum,
    looped_optimum,
    multi_step_optimum,
    noisy_multi_step_optimum,
    one_step_optimum,
)

OptimizerName = Literal["lbfgs", "adam", "sgd"]


def training(
    optimizer: OptimizerName, steps: int, learning_rate: Sequence[float | None], clip: float | None = None
) -> Training:
    """Training that records its two ends only: a sweep keeps no curves."""
    default = 1.0 if optimizer == "lbfgs" else 0.03
    rates = tuple(default if rate is None else rate for rate in learning_rate)
    return Training(
        optimizer=optimizer, steps=steps, learning_rate=rates, clip=clip, tolerance=1e-7, record_every=steps
    )


def theory_of(task: RegressionTask, *, layers: int, value_block: str, heads: int = 1, looped: bool = False) -> str:
    """The name of what predicts the best risk; empty where theory is silent."""
    if layers == 1:
        return "one-step optimum"
    if value_block == "zero" and looped:
        return "" if task.noise_variance else "looped optimum of scalar steps"
    if value_block == "zero":
        return "noisy multi-step optimum" if task.noise_variance else "multi-step optimum"
    return "GD++ optimum" if layers == 2 and heads == 1 and not (looped or task.noise_variance) else ""


@cache
def best_risk(theory: str, task: RegressionTask, layers: int) -> float | None:
    """The risk of that name; computed when the first result is read, for a grid may be long."""
    sizes = (layers, task.dim, task.context_length)
    if theory == "one-step optimum":
        return one_step_optimum(task).loss
    if theory == "noisy multi-step optimum":
        return noisy_multi_step_optimum(*sizes, task.noise_variance).loss
    optima: dict[str, Any] = {
        "multi-step optimum": multi_step_optimum,
        "looped optimum of scalar steps": looped_optimum,
        "GD++ optimum": gd_plus_plus_optimum,
    }
    return optima[theory](*sizes).loss if theory else None


@family.experiment(job=TrainLinearTransformer, fields=("layers", "heads", "value_block", "looped"))
def train_linear_transformer(
    *,
    dim: int = 5,
    context_length: int = 20,
    noise_variance: float = 0.0,
    init_scale: float | None = None,
    objective: ObjectiveName | None = None,
    samples: int | None = None,
    optimizer: OptimizerName = "lbfgs",
    steps: int | None = None,
    learning_rate: tuple[float | None, ...] = (None,),
    clip: float | None = None,
    runs: int,
    seed: int,
    budget: Budget,
    **fields: Any,
) -> Unit:
    """Linear transformers trained on covariates N(0, I); their exact population risk against the optimum of the depth.

    By default on the exact risk (one layer), on a weighted design with its optimum (more layers), or on a fixed sample
    (three layers or more with a free value block).
    """
    task = RegressionTask(dim, context_length, noise_variance=noise_variance)
    layers, value_block = fields["layers"], fields["value_block"]
    # The design of more than two layers with a free value block needs moments that few draws can have.
    exact = value_block == "zero" or layers == 2
    objective = objective or ("population" if layers == 1 else "design" if exact else "symmetrised sample")
    # With fewer draws most starts end in minima that full matrices find on the design alone.
    draws = {"population": 0, "design": 100 if value_block == "zero" else 25}.get(objective, 200)
    job = TrainLinearTransformer(
        task=task,
        init_scale=init_scale or (0.1 if layers == 1 else 0.002 if value_block == "zero" else 0.05),
        objective=objective,
        samples=draws if samples is None else samples,
        training=training(optimizer, steps or of_budget(budget, 500, 1000, 4000), learning_rate, clip),
        runs=runs * len(learning_rate),
        seed=seed,
        **fields,
    )
    theory = theory_of(task, **fields)

    def read(trained: dict[str, Any]) -> Measured:
        best = best_risk(theory, task, layers)
        return Measured(trained["outcomes"], trained["steps"], trained["risks"], trained["risk_errors"], best)

    return Unit((job,), read, "population risk", theory)


@family.experiment(job=TrainAlongLandscape, fields=("layers", "value_block", "init_scale", "batch"))
def train_along_landscape(
    *,
    dim: int = 5,
    context_length: int = 20,
    optimizer: Literal["adam", "sgd"] = "adam",
    steps: int | None = None,
    learning_rate: tuple[float, ...] = (0.02,),
    clip: float | None = None,
    runs: int,
    seed: int,
    budget: Budget,
    **fields: Any,
) -> Unit:
    """Linear transformers trained on fresh prompts at each step, as published; their held-out risk."""
    task = RegressionTask(dim, context_length)
    job = TrainAlongLandscape(
        task=task,
        training=training(optimizer, steps or of_budget(budget, 200, 1000, 4000), learning_rate, clip),
        runs=runs * len(learning_rate),
        seed=seed,
        **fields,
    )
    theory = theory_of(task, layers=fields["layers"], value_block=fields["value_block"])

    def read(trained: dict[str, Any]) -> Measured:
        return _at_the_end(trained, best_risk(theory, task, fields["layers"]))

    return Unit((job,), read, "risk on held-out designs", theory)


@family.experiment(
    job=TrainFeatureTransformer, fields=("dim", "context_length", "layers", "hidden", "init_scale", "batch")
)
def train_feature_transformer(
    *,
    optimizer: Literal["adam", "sgd"] = "adam",
    steps: int | None = None,
    learning_rate: tuple[float, ...] = (0.02,),
    clip: float | None = None,
    runs: int,
    seed: int,
    budget: Budget,
    **fields: Any,
) -> Unit:
    """Linear attention after learned ReLU features, trained on fresh prompts; its loss on held-out prompts."""
    job = TrainFeatureTransformer(
        training=training(optimizer, steps or of_budget(budget, 100, 1000, 4000), learning_rate, clip),
        runs=runs * len(learning_rate),
        seed=seed,
        **fields,
    )
    return Unit((job,), lambda trained: _at_the_end(trained, None), "loss on held-out prompts")


def _at_the_end(trained: dict[str, Any], predicted: float | None) -> Measured:
    """Held-out losses of the final models; their sampling error is not estimated."""
    return Measured(trained["outcomes"], trained["curve_steps"][-1], trained["held_out_losses"][-1], None, predicted)
