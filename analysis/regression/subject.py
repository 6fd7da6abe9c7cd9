"""A given linear transformer: its risk, the algorithm its weights implement, and the claims that apply to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.analysis.regression import family
from plumbline.analysis.regression.claims.multi_step import SHORT_CONTEXT, scalar_loop_is_stable
from plumbline.analysis.regression.reading import MAX_STEPS, ModelReading
from plumbline.analysis.subject.model_report import (
    ModelClaim,
    ModelReport,
    claim_on_model,
    held,
    report_on,
)
from plumbline.analysis.subject.reader import Reader
from plumbline.analysis.verdict import Identity, Verdict
from plumbline.analysis.verdict.levels import LEVELS
from plumbline.models.regression import LinearTransformer, preconditioned_gradient_descent, sample_prompts
from plumbline.models.training.draws import generator
from plumbline.models.weights import fill
from plumbline.theory import checks
from plumbline.theory.regression import (
    Estimate,
    RegressionTask,
    degree_bound,
    gradient_descent_optimum,
    looped_optimum,
)
from plumbline.theory.regression.multi_step import MAX_LOOPS

MAX_SCALAR_LAYERS, SCALAR = 4, 1e-6
"""Depth up to which scalar layers have a bound by their degree, and how near to scalar they then have to be."""
ROUNDING = 1e-9


def build(weights: Mapping[str, Tensor], task: RegressionTask, options: Mapping[str, Any]) -> LinearTransformer:
    """The module of these weights: layers, heads, value block and full weights can be read off the shapes."""
    shape = weights["key_query"].shape if "key_query" in weights else ()
    layers, heads, size, _ = shape if len(shape) == 4 else (1, 1, task.dim, task.dim)
    if len(shape) == 4 and size not in (task.dim, task.dim + 1):
        raise ValueError(f"task must have dim {size} (or {size - 1}, of full weights) as the weights, got {task.dim}")
    full = size == task.dim + 1
    looped = checks.one_of("looped", options.get("looped", False), (False, True))
    if looped and "layers" not in options:
        raise ValueError("layers must be given for a looped model: its weights are those of one layer")
    model = LinearTransformer(
        options.get("layers", layers),
        heads,
        task.dim,
        value_block="free" if full or "value" in weights else "zero",
        activation=options.get("activation"),
        looped=looped,
        full=full,
        init_scale=0.0,
    )
    return fill(model, weights)


def report(model: LinearTransformer, task: RegressionTask, *, margin: float, seed: int) -> ModelReport:
    """What is said about a linear transformer on a regression task, see `plumbline.analysis.check_model`."""
    if model.dim != task.dim:
        raise ValueError(f"task must have dim {model.dim} as the model, got {task.dim}")
    reading = ModelReading(model, task, margin, seed)
    return report_on(reading, _claims, family="regression", quantity="risk E(prediction − w·x)²", loss=reading.risk)


def _claims(reading: ModelReading) -> list[ModelClaim]:
    model, task = reading.model, reading.task
    linear = {"attention is linear (the Gram matrix then decides the prediction)": reading.linear}
    one = {**linear, "one layer": reading.one_layer}
    sparse = {"published (sparse) weights": not model.full}
    zero = {"a zero value block": reading.zero_values, "layers of their own, not looped": not model.looped}
    several = {**linear, "two layers or more": not reading.one_layer}
    isotropic = {"Gaussian covariates and weights N(0, c Σ⁻¹)": reading.inverse_weights}
    clean, noisy = {"no label noise": not task.noise_variance}, {"label noise": task.noise_variance > 0}
    deep = {"a closed form at this depth": reading.optimum is not None}
    scalar = {
        "scalar layers, at most four": model.layers <= MAX_SCALAR_LAYERS
        and reading.algorithm is not None
        and reading.algorithm.distance <= SCALAR
    }

    looped = {"looped": model.looped, f"at most {MAX_LOOPS} layers": model.layers <= MAX_LOOPS}
    if all(looped.values()) and not reading.one_layer:
        looped[SHORT_CONTEXT] = scalar_loop_is_stable(task, model.layers)

    def minimum(name: str, conditions: dict[str, bool]) -> ModelClaim:
        return claim_on_model(name, conditions, lambda: _at_minimum(reading))

    def distance(name: str, conditions: dict[str, bool]) -> ModelClaim:
        return claim_on_model(name, conditions, lambda: _near(reading))

    free = {"a free value block": not reading.zero_values, "layers of their own, not looped": not model.looped}
    return [
        minimum("one-step-optimum-loss", {**one, **sparse}),
        distance("one-step-preconditioner", {**one, **sparse}),
        minimum("one-step-full-weights", {**one, "full (d+1) × (d+1) weights": model.full}),
        minimum("multi-step-loss", {**several, **sparse, **zero, **clean, **isotropic, **deep}),
        distance("multi-step-step-sizes", {**several, **sparse, **zero, **clean, **isotropic, **deep}),
        minimum("noisy-multi-step-loss", {**several, **sparse, **zero, **noisy, **isotropic, **deep}),
        minimum("looped-loss", {**several, **looped, **clean, **isotropic, **deep}),
        minimum("gd-plus-plus-two-layers", {**linear, "two layers": model.layers == 2, **free, **clean, **isotropic}),
        claim_on_model("christoffel-bound", {**linear, **scalar, **clean, **isotropic}, lambda: _christoffel(reading)),
        claim_on_model(
            "bayes-bound",
            {**linear, **noisy, "a Bayes risk in closed form": reading.bayes is not None},
            lambda: _bayes(reading),
        ),
        claim_on_model(
            "depth-beats-gradient-descent",
            {**several, **zero, **clean, **isotropic, **deep, **few_steps(model.layers)},
            lambda: _below_gradient_descent(reading),
        ),
        claim_on_model(
            "transformer-is-its-algorithm",
            {**linear, **sparse, "a zero value block": reading.zero_values},
            lambda: _is_algorithm(reading),
        ),
    ]


def few_steps(layers: int) -> dict[str, bool]:
    """The condition under which plain gradient descent is asked for its optimum."""
    limit = MAX_STEPS["gradient descent"]
    return {f"at most {limit} layers": layers <= limit}


def _at_minimum(reading: ModelReading) -> Verdict:
    assert reading.optimum is not None
    best = reading.optimum.risk.value
    # Of a quadratic loss the way from the optimum to zero weights is in the square of the distance.
    return held("risk", reading.risk, "equals", best, margin=reading.margin**2, scale=reading.zero - best)


def _near(reading: ModelReading) -> Verdict:
    assert reading.distance is not None
    distance = Estimate(reading.distance, 0.0, "exact")
    return held("relative distance from the optimum", distance, "equals", 0.0, margin=reading.margin, scale=1.0)


def _christoffel(reading: ModelReading) -> Verdict:
    degree = (3**reading.model.layers - 1) // 2
    bound = float(degree_bound(degree, reading.task.dim, reading.task.context_length)) * reading.spread
    what = f"risk of scalar layers (degree {degree})"
    return held(what, reading.risk, "at least", bound, margin=ROUNDING, scale=reading.zero)


def _bayes(reading: ModelReading) -> Verdict:
    assert reading.bayes is not None
    return held("risk", reading.risk, "at least", reading.bayes.value, margin=ROUNDING, scale=reading.zero)


def _below_gradient_descent(reading: ModelReading) -> Verdict:
    layers, task = reading.model.layers, reading.task
    preconditioned = looped_optimum(layers, task.dim, task.context_length).loss * reading.spread
    best = min(gradient_descent_optimum(layers, task).loss, preconditioned)
    return held("risk", reading.risk, "at most", best, margin=0.0, scale=reading.zero)


def _is_algorithm(reading: ModelReading) -> Verdict:
    """The answers to prompts of the whole network, token by token, against those of the algorithm read off it."""
    assert reading.algorithm is not None
    prompts = sample_prompts(reading.task, 1000, generator=generator(reading.seed, 1, 0))
    steps = np.ones(reading.model.layers)
    with torch.no_grad():
        answers = reading.model(prompts).numpy()
        predicted = preconditioned_gradient_descent(prompts, steps, reading.algorithm.preconditioners).numpy()
    scale = max(float(np.abs(predicted).max()), 1e-300)
    return Identity(ROUNDING, scale=scale).judge(answers, predicted, **LEVELS)


family.reads(
    Reader(
        models=(LinearTransformer,),
        build=build,
        report=report,
        options={
            "layers": "number of layers of a looped model",
            "looped": "true or false",
            "activation": "softmax or relu",
        },
        without_loss={
            "FeatureTransformer": "its labels are linear in learned features, "
            "and no risk of these is known in closed form"
        },
    )
)
