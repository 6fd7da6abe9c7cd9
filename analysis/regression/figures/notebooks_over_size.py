"""The published notebooks that vary a size: depth and context length, with their baselines and these corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.drawing.data import FigureData, Number, Panel, Series, median_spread
from plumbline.analysis.regression import family
from plumbline.analysis.regression.cases import rotated_task
from plumbline.analysis.regression.figures.notebooks import LAST, NOTEBOOK, listed
from plumbline.analysis.regression.jobs import TrainLinearTransformer
from plumbline.analysis.regression.published import CLIPPED
from plumbline.models.training import Training
from plumbline.theory.regression import (
    RegressionTask,
    gd_plus_plus_optimum,
    gradient_descent_optimum,
    gradient_descent_risk,
    least_squares_risk,
    looped_optimum,
    multi_step_optimum,
    multi_step_risk,
    zero_predictor_risk,
)

# The step sizes, per sum over examples, among which the notebooks choose the best.
GRID = (0.001, 0.002, 0.004, 0.008, 0.01, 0.02, 0.04, 0.08, 0.16)
COARSE_GRID = (0.008, 0.01, 0.02, 0.04, 0.08, 0.16)


@dataclass(frozen=True)
class Baseline:
    """The risk of a baseline as the notebooks compute it, and with what they left out put right."""

    published: float
    corrected: float
    step: float | None = None

    def number(self, quantity: str, context_length: int) -> Number:
        """As a row: what the published procedure gives exactly, and what it should."""
        step = "" if self.step is None else f", step {self.step:g}"
        return Number(
            quantity,
            "plotted only",
            f"{self.published:.6g} (as published: {context_length - 1} examples{step})",
            f"{self.corrected:.6g} (all {context_length})",
        )


def descent(steps: int, task: RegressionTask, grid: Sequence[float]) -> Baseline:
    """Gradient descent: the notebooks use n − 1 examples and the best step of a grid."""
    used = replace(task, context_length=task.context_length - 1)
    risks = {step: gradient_descent_risk(step * used.context_length, steps, used) for step in grid}
    best = min(risks, key=lambda step: risks[step])
    return Baseline(risks[best], gradient_descent_optimum(steps, task).loss, best)


def preconditioned_descent(steps: int, task: RegressionTask, grid: Sequence[float]) -> Baseline:
    """Gradient descent on whitened covariates, in the same way."""
    d, n = task.dim, task.context_length
    risks = {step: multi_step_risk([step * (n - 1)] * steps, d, n - 1) for step in grid}
    best = min(risks, key=lambda step: risks[step])
    return Baseline(risks[best], looped_optimum(steps, d, n).loss, best)


def notebook_job(
    layers: int, task: RegressionTask, training: Training, budget: Budget, seed: int, *, redraw_every: int = 1
) -> TrainLinearTransformer:
    """A training of the two notebooks that vary a size: free value block, small start."""
    return TrainLinearTransformer(
        task=task,
        layers=layers,
        value_block="free",
        objective="fresh wisharts",
        samples=of_budget(budget, 400, 700, 1000),
        redraw_every=redraw_every,
        training=training,
        init_scale=of_budget(budget, 0.02, 0.02, 1e-4),
        runs=of_budget(budget, 2, 3, 5),
        seed=seed,
        exact_risk=False,
    )


def cut_short(steps: int, published: int) -> str:
    """What a title says of trainings that end before the published ones."""
    return (
        ""
        if steps == published
        else f"\ntrained for {steps:,} of the published {published:,} steps: not yet at their end"
    )


def end_of(result: dict[str, Any]) -> np.ndarray:
    """Median loss of the last records of each run; each is on prompts that were not trained on.

    The notebooks keep the best of as many snapshots on other prompts: what a spike does to a mean, neither shows.
    """
    return np.median(result["curve_losses"][-LAST:], axis=0)


def baseline_lines(sizes: Sequence[int], name: str, baselines: Sequence[Baseline]) -> list[Series]:
    """A baseline as published, in grey, and corrected."""
    return [
        Series(f"{name}: best step, all examples", "baseline", sizes, [b.corrected for b in baselines]),
        Series(f"rival: {name} as published", "rival", sizes, [b.published for b in baselines]),
    ]


@family.figure(
    caption="Risk against depth as published: a free value block, and descents on 19 of 20 examples.",
    published=NOTEBOOK.format("variable_L_exp"),
)
def variable_depth(budget: Budget, seed: int) -> Any:
    task, depths = rotated_task(), [1, 2, 3, 4]
    d, n = task.dim, task.context_length
    steps = of_budget(budget, 500, 4000, 20_000)
    training = Training(
        optimizer="adam", steps=steps, learning_rate=of_budget(budget, 0.03, 0.02, 0.01), betas=(0.99, 0.9), clip=0.01,
        halve_every=steps // 5, record_every=steps // 100, divergence=CLIPPED,
    )  # fmt: skip
    redraw = of_budget(budget, 1, 1, 100)
    results = yield [notebook_job(layers, task, training, budget, seed, redraw_every=redraw) for layers in depths]
    ends = [end_of(result) for result in results]
    plain = [descent(layers, task, COARSE_GRID) for layers in depths]
    whitened = [preconditioned_descent(layers, task, GRID) for layers in depths]
    zero_block = [multi_step_optimum(layers, d, n).loss for layers in depths]
    free = [gd_plus_plus_optimum(layers, d, n).loss for layers in depths[:3]]
    numbers = []
    for k, layers in enumerate(depths):
        best = f"{free[k]:.4g} (GD++)" if layers < 4 else f"below {zero_block[k]:.4g} (zero value block)"
        numbers.append(Number(f"transformer, L={layers}", "plotted only", listed(ends[k]), best))
        for name, found in (("GD", plain[k]), ("preconditioned GD", whitened[k])):
            computed = f"{found.published:.6g} (step {found.step:g} on 19 examples)"
            numbers.append(
                Number(f"{name}, {layers} steps", "plotted only", computed, f"{found.corrected:.6g} (20 examples)")
            )
    lines = [
        Series("zero predictor", "trivial", depths, np.full(4, zero_predictor_risk(task))),
        *baseline_lines(depths, "GD", plain),
        *baseline_lines(depths, "preconditioned GD", whitened),
        Series("zero value block: exact", "theory", depths, zero_block),
        Series("free value block: GD++, exact", "theory", depths[:3], free),
        Series("free value block: trained", "trained", depths, **median_spread(ends)),
    ]
    return FigureData(
        f"Published: risk against depth, d={d}, n={n}, rotated covariance{cut_short(steps, 20_000)}",
        [Panel("", lines, xlabel="layers L, or steps", ylabel="risk", yscale="log", xticks=depths)],
        numbers=numbers,
    )


@family.figure(
    caption="Risk against context length as published: a free value block, and baselines with an example dropped.",
    published=NOTEBOOK.format("variable_N_exp"),
)
def variable_context(budget: Budget, seed: int) -> Any:
    lengths = of_budget(budget, [2, 8, 14, 20], list(range(2, 21, 2)), list(range(2, 21, 2)))
    tasks = [rotated_task(n) for n in lengths]
    d, steps = tasks[0].dim, of_budget(budget, 400, 2000, 8000)

    def training(n: int) -> Training:
        rate = of_budget(budget, 0.02, 0.02, 0.001 if n < 5 else 0.01)
        return Training(
            optimizer="adam", steps=steps, learning_rate=rate, betas=(0.99, 0.99), clip=0.001,
            halve_every=steps // 4, record_every=steps // 100, divergence=CLIPPED,
        )  # fmt: skip

    results = yield [notebook_job(3, task, training(n), budget, seed) for n, task in zip(lengths, tasks, strict=True)]
    ends = [end_of(result) for result in results]
    plain = [descent(3, task, GRID) for task in tasks]
    whitened = [preconditioned_descent(3, task, COARSE_GRID) for task in tasks]
    squares = [Baseline(*(least_squares_risk(rotated_task(k), whitened=True) for k in (n - 1, n))) for n in lengths]
    numbers = []
    for k, n in enumerate(lengths):
        numbers.append(Number(f"3 layers, n={n}", "plotted only", listed(ends[k])))
        for name, found in (("GD", plain[k]), ("preconditioned GD", whitened[k]), ("least squares", squares[k])):
            numbers.append(found.number(f"{name}, n={n}", n))
    lines = [
        Series("zero predictor", "trivial", lengths, np.full(len(lengths), zero_predictor_risk(tasks[0]))),
        *baseline_lines(lengths, "GD, 3 steps", plain),
        *baseline_lines(lengths, "preconditioned GD, 3 steps", whitened),
        Series("zero value block: exact", "theory", lengths, [multi_step_optimum(3, d, n).loss for n in lengths]),
        Series("free value block: trained", "trained", lengths, **median_spread(ends)),
    ]
    return FigureData(
        f"Published: risk against context length, d={d}, three layers, rotated covariance{cut_short(steps, 8000)}",
        [Panel("", lines, xlabel="context length n", ylabel="risk", yscale="log", xticks=lengths)],
        numbers=numbers,
    )
