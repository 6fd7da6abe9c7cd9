"""A given linear transformer: its risk, the algorithm its weights implement, and the claims that apply to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plumbline.analysis.engine.model_report import (
    LEVELS,
    ModelClaim,
    ModelReport,
    claim_on_model,
    held,
    report_on,
)
from plumbline.analysis.engine.training import generator
from plumbline.analysis.engine.verdict import Identity, Verdict
from plumbline.analysis.engine.weights import fill
from plumbline.analysis.regression.claims.multi_step import SHORT_CONTEXT, scalar_loop_is_stable
from plumbline.analysis.regression.model_reading import MAX_STEPS, Reading
from plumbline.models.regression import LinearTransformer, preconditioned_gradient_descent, sample_prompts
from plumbline.theory import checks
from plumbline.theory.regression import (
    Estimate,
    RegressionTask,
    degree_bound,
    gradient_descent_optimum,
    looped_optimum,
)
from plumbline.theory.regression.multi_step import MAX_LOOPS

MODELS = (LinearTransformer,)
WITHOUT_LOSS = {
    "FeatureTransformer": "its labels are linear in learned features, and no risk of these is known in closed form"
}
OPTIONS = {"layers": "number of layers of a looped model", "looped": "true or false", "activation": "softmax or relu"}
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
    )
    return fill(model, weights)


def report(model: LinearTransformer, task: RegressionTask, *, margin: float, seed: int) -> ModelReport:
    """What is said about a linear transformer on a regression task, see `plumbline.analysis.check_model`."""
    if model.dim != task.dim:
        raise ValueError(f"task must have dim {model.dim} as the model, got {task.dim}")
    seen = Reading(model, task, margin, seed)
    return report_on(seen, _claims, family="regression", quantity="risk E(prediction − w·x)²", loss=seen.risk)


def _claims(seen: Reading) -> list[ModelClaim]:
    model, task = seen.model, seen.task
    linear = {"attention is linear (the Gram matrix then decides the prediction)": seen.linear}
    one = {**linear, "one layer": seen.one_layer}
    sparse = {"published (sparse) weights": not model.full}
    zero = {"a zero value block": seen.zero_values, "layers of their own, not looped": not model.looped}
    several = {**linear, "two layers or more": not seen.one_layer}
    isotropic = {"Gaussian covariates and weights N(0, c Σ⁻¹)": seen.inverse_weights}
    clean, noisy = {"no label noise": not task.noise_variance}, {"label noise": task.noise_variance > 0}
    deep = {"a closed form at this depth": seen.optimum is not None}
    scalar = {
        "scalar layers, at most four": model.layers <= MAX_SCALAR_LAYERS
        and seen.algorithm is not None
        and seen.algorithm.distance <= SCALAR
    }

    looped = {"looped": model.looped, f"at most {MAX_LOOPS} layers": model.layers <= MAX_LOOPS}
    if all(looped.values()) and not seen.one_layer:
        looped[SHORT_CONTEXT] = scalar_loop_is_stable(task, model.layers)

    def minimum(name: str, conditions: dict[str, bool]) -> ModelClaim:
        return claim_on_model(name, conditions, lambda: _at_minimum(seen))

    def distance(name: str, conditions: dict[str, bool]) -> ModelClaim:
        return claim_on_model(name, conditions, lambda: _near(seen))

    free = {"a free value block": not seen.zero_values, "layers of their own, not looped": not model.looped}
    return [
        minimum("one-step-optimum-loss", {**one, **sparse}),
        distance("one-step-preconditioner", {**one, **sparse}),
        minimum("one-step-full-weights", {**one, "full (d+1) × (d+1) weights": model.full}),
        minimum("multi-step-loss", {**several, **sparse, **zero, **clean, **isotropic, **deep}),
        distance("multi-step-step-sizes", {**several, **sparse, **zero, **clean, **isotropic, **deep}),
        minimum("noisy-multi-step-loss", {**several, **sparse, **zero, **noisy, **isotropic, **deep}),
        minimum("looped-loss", {**several, **looped, **clean, **isotropic, **deep}),
        minimum("gd-plus-plus-two-layers", {**linear, "two layers": model.layers == 2, **free, **clean, **isotropic}),
        claim_on_model("christoffel-bound", {**linear, **scalar, **clean, **isotropic}, lambda: _christoffel(seen)),
        claim_on_model(
            "bayes-bound",
            {**linear, **noisy, "a Bayes risk in closed form": seen.bayes is not None},
            lambda: _bayes(seen),
        ),
        claim_on_model(
            "depth-beats-gradient-descent",
            {**several, **zero, **clean, **isotropic, **deep, **few_steps(model.layers)},
            lambda: _below_gradient_descent(seen),
        ),
        claim_on_model(
            "transformer-is-its-algorithm",
            {**linear, **sparse, "a zero value block": seen.zero_values},
            lambda: _is_algorithm(seen),
        ),
    ]


def few_steps(layers: int) -> dict[str, bool]:
    """The condition under which plain gradient descent is asked for its optimum."""
    limit = MAX_STEPS["gradient descent"]
    return {f"at most {limit} layers": layers <= limit}


def _at_minimum(seen: Reading) -> Verdict:
    assert seen.optimum is not None
    best = seen.optimum.risk.value
    # Of a quadratic loss the way from the optimum to zero weights is in the square of the distance.
    return held("global minimum", "risk", seen.risk, "equals", best, margin=seen.margin**2, scale=seen.zero - best)


def _near(seen: Reading) -> Verdict:
    assert seen.distance is not None
    distance = Estimate(seen.distance, 0.0, "exact")
    return held(
        "convergence", "relative distance from the optimum", distance, "equals", 0.0, margin=seen.margin, scale=1.0
    )


def _christoffel(seen: Reading) -> Verdict:
    degree = (3**seen.model.layers - 1) // 2
    bound = float(degree_bound(degree, seen.task.dim, seen.task.context_length)) * seen.spread
    what = f"risk of scalar layers (degree {degree})"
    return held("bound for all", what, seen.risk, "at least", bound, margin=ROUNDING, scale=seen.zero)


def _bayes(seen: Reading) -> Verdict:
    assert seen.bayes is not None
    return held("bound for all", "risk", seen.risk, "at least", seen.bayes.value, margin=ROUNDING, scale=seen.zero)


def _below_gradient_descent(seen: Reading) -> Verdict:
    layers, task = seen.model.layers, seen.task
    preconditioned = looped_optimum(layers, task.dim, task.context_length).loss * seen.spread
    best = min(gradient_descent_optimum(layers, task).loss, preconditioned)
    return held("bound for all", "risk", seen.risk, "at most", best, margin=0.0, scale=seen.zero)


def _is_algorithm(seen: Reading) -> Verdict:
    """The answers to prompts of the whole network, token by token, against those of the algorithm read off it."""
    assert seen.algorithm is not None
    prompts = sample_prompts(seen.task, 1000, generator=generator(seen.seed, 1, 0))
    steps = np.ones(seen.model.layers)
    with torch.no_grad():
        answers = seen.model(prompts).numpy()
        predicted = preconditioned_gradient_descent(prompts, steps, seen.algorithm.preconditioners).numpy()
    scale = max(float(np.abs(predicted).max()), 1e-300)
    return Identity(ROUNDING, scale=scale).judge(answers, predicted, **LEVELS)
