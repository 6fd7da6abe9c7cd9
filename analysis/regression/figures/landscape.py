"""Figures of 2310.01082: loss, gradient noise, condition and smoothness along training, and the non-linear variant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.drawing.data import FigureData, Panel, Series
from plumbline.analysis.regression import family
from plumbline.analysis.regression.claims.landscape import (
    adam_path_is_better_conditioned,
    adam_reaches_the_target_first,
    covariates_make_noise_heavier,
    depth_makes_noise_heavier,
    heavy_tailed_noise,
)
from plumbline.analysis.regression.jobs import SampledGradientNoise
from plumbline.analysis.regression.published import (
    MODES,
    OPTIMIZERS,
    PUBLISHED_RATIOS,
    course,
    rate_sweep,
    with_features,
)
from plumbline.analysis.regression.tails import tail_exponent_of_sample
from plumbline.theory.regression import gd_plus_plus_optimum, multi_step_optimum, tail_exponent, zero_predictor_risk

DEPTHS = (1, 2, 3, 4)
MAIN = "normal, n=20"


def band(values: Any) -> dict[str, Any]:
    """Median over runs (points, runs) with lowest and highest; a run that is lost counts as no number."""
    values = np.where(np.isfinite(values), values, np.nan)
    rows = ~np.isnan(values).all(axis=1)
    median, low, high = (np.full(len(values), np.nan) for _ in range(3))
    median[rows] = np.nanmedian(values[rows], axis=1)
    low[rows], high[rows] = np.nanmin(values[rows], axis=1), np.nanmax(values[rows], axis=1)
    return {"y": median, "low": low, "high": high}


def courses(budget: Budget, seed: int) -> Any:
    """The published trainings of all modes, by (mode, optimizer): jobs that three figures share."""
    return {
        f"{name}: {optimizer}": course(mode, optimizer, budget, seed)
        for name, mode in MODES.items()
        for optimizer in OPTIMIZERS
    }


@family.figure(
    caption="Adam and SGD with momentum on linear transformers: loss in each setting, over learning rates and depths.",
    published="figures of 2310.01082 and its notebooks",
    claims={adam_reaches_the_target_first: None},
)
def loss(budget: Budget, seed: int) -> Any:
    results = yield courses(budget, seed)
    panels = []
    for name, mode in MODES.items():
        # The optimizers come first in each panel, and so have the same colours in all.
        lines = []
        for optimizer in OPTIMIZERS:
            rate, course_ = mode.rate(optimizer), results[f"{name}: {optimizer}"]
            lines.append(
                Series(
                    f"{optimizer}, η={rate:g}", "trained", course_["curve_steps"], **band(course_["held_out_losses"])
                )
            )
        last = results[f"{name}: SGDM"]["curve_steps"][-1]
        lines.append(Series("zero predictor", "trivial", [0, last], np.full(2, zero_predictor_risk(mode.task))))
        if mode.task.covariate_law == "gaussian":
            d, n = mode.task.dim, mode.task.context_length
            for label, best in (
                ("zero value block: exact optimum", multi_step_optimum(3, d, n).loss),
                ("GD++: exact optimum", gd_plus_plus_optimum(3, d, n).loss),
            ):
                lines.append(Series(label, "baseline", [0, last], np.full(2, best)))
        panels.append(Panel(name, lines, xlabel="iteration", ylabel="held-out risk", yscale="log"))

    mode = MODES[MAIN]
    free = replace(mode, clip=None)
    rates = of_budget(budget, (0.005, 0.02, 0.08), *((0.0025, 0.005, 0.01, 0.02, 0.04, 0.08),) * 2)
    swept = yield {
        f"{optimizer}, {label} {rate:g}": rate_sweep(setting, optimizer, rate, budget, seed)
        for optimizer in OPTIMIZERS
        for label, setting in (("clipped", mode), ("unclipped", free))
        for rate in rates
    }
    last = rate_sweep(mode, "Adam", rates[0], budget, seed).training.steps
    lines = [Series("zero predictor", "trivial", [rates[0], rates[-1]], np.full(2, zero_predictor_risk(mode.task)))]
    for optimizer in OPTIMIZERS:
        for label in ("clipped", "unclipped"):
            ends = [lowest_lately(swept[f"{optimizer}, {label} {rate:g}"]) for rate in rates]
            lines.append(Series(f"{optimizer}, {label}", "trained", rates, **band(ends)))
    panels.append(
        Panel(
            f"after {last} iterations, {MAIN} (diverged: not shown)",
            lines,
            xlabel="learning rate η",
            ylabel="held-out risk, last fifth",
            xscale="log",
            yscale="log",
            xticks=rates,
        )
    )
    deep = yield {
        f"{optimizer} {layers}": rate_sweep(mode, optimizer, mode.rate(optimizer), budget, seed, layers=layers)
        for optimizer in OPTIMIZERS
        for layers in DEPTHS
    }
    exact = [multi_step_optimum(layers, mode.task.dim, mode.task.context_length).loss for layers in DEPTHS]
    lines = []
    for optimizer in OPTIMIZERS:
        ends = [lowest_lately(deep[f"{optimizer} {layers}"]) for layers in DEPTHS]
        lines.append(Series(optimizer, "trained", DEPTHS, **band(ends)))
    lines.append(Series("zero value block: exact optimum", "theory", DEPTHS, exact))
    panels.append(
        Panel(
            f"depth, after {last} iterations, {MAIN}",
            lines,
            xlabel="layers L",
            ylabel="held-out risk, last fifth",
            yscale="log",
            xticks=DEPTHS,
        )
    )
    return FigureData("Linear transformers, L=3, d=5: Adam and SGD with momentum (SGDM)", panels, columns=3)


def lowest_lately(result: Any) -> np.ndarray:
    """Median held-out loss of the last fifth of a training, run by run; infinite for a run that diverged."""
    late = np.median(result["held_out_losses"][-len(result["curve_steps"]) // 5 :], axis=0)
    lost = np.array([outcome in ("diverged", "nan") for outcome in result["outcomes"]])
    return np.where(lost, np.inf, late)


@family.figure(
    caption="Noise of the gradient at random weights: quantiles against normal noise, and the exponent of its tail.",
    published="figures of 2310.01082 and its notebooks",
    # Batches of 1000 are drawn at the paper budget, and so are these cases there only.
    claims={
        heavy_tailed_noise: "normal, n=20, L=3, B=1000",
        covariates_make_noise_heavier: "n=20, L=3, B=1000",
        depth_makes_noise_heavier: None,
    },
)
def stochastic_noise(budget: Budget, seed: int) -> Any:
    batch, batches = of_budget(budget, (100, 2000), (200, 4000), (1000, 10_000))
    cases = {f"{name}, L={layers}": (name, layers) for name in (MAIN, "gamma, n=20") for layers in (1, 3)}
    noise = yield {
        label: SampledGradientNoise(task=MODES[name].task, layers=layers, batch=batch, batches=batches, seed=seed)
        for label, (name, layers) in cases.items()
    }
    ranks = (np.arange(200) + 0.5) / 200
    ranks = np.concatenate([ranks[:-1], 1 - np.geomspace(1 / 200, 2 / batches, 20)])
    quantiles, survival = [], []
    for label, result in noise.items():
        norms, normal = result["norms"], result["normal"].ravel()
        middle, spread = np.median(normal), normal.std()
        x, y = ((np.quantile(values, ranks) - middle) / spread for values in (normal, norms))
        quantiles.append(Series(label, "cloud", x, y))
        ordered = np.sort(norms)[::-1] / np.median(norms)
        keep = np.unique(np.geomspace(1, batches // 2, 60).astype(int)) - 1
        survival.append(Series(label, "cloud", ordered[keep], (keep + 1) / batches))
    low, high = min(s.x.min() for s in quantiles), max(s.x.max() for s in quantiles)
    quantiles.insert(0, Series("normal noise", "trivial", [low, high], [low, high]))
    twin = np.sort(noise[f"{MAIN}, L=3"]["normal"].ravel())[::-1]
    keep = np.unique(np.geomspace(1, len(twin) // 2, 40).astype(int)) - 1
    survival.insert(0, Series("normal noise", "trivial", twin[keep] / np.median(twin), (keep + 1) / len(twin)))

    prompts = of_budget(budget, 20_000, 50_000, 200_000)
    depths = of_budget(budget, (1, 2, 4), (1, 2, 3, 4, 6, 8), (1, 2, 3, 4, 6, 8))
    single = yield {
        f"{name} {layers}": SampledGradientNoise(
            task=MODES[name].task, layers=layers, batch=1, batches=prompts, reference=10_000, seed=seed
        )
        for name in (MAIN, "gamma, n=20")
        for layers in depths
    }
    lines = [
        Series("normal noise: 2", "trivial", depths, [2.0] * len(depths)),
        Series(
            "limit at zero weights: 1/3", "theory", depths, [tail_exponent(layers, at_zero=True) for layers in depths]
        ),
    ]
    for name in (MAIN, "gamma, n=20"):
        tails = [tail_exponent_of_sample(single[f"{name} {layers}"]["norms"]) for layers in depths]
        lines.append(
            Series(name, "trained", depths, [t.value for t in tails], [t.low for t in tails], [t.high for t in tails])
        )
    return FigureData(
        f"Gradient noise |g_B − g_100B| at random weights, d=5, {batches} batches",
        [
            Panel(
                f"quantiles, B={batch}",
                quantiles,
                xlabel="normal noise (standard deviations from its median)",
                ylabel="gradient noise (same units)",
            ),
            Panel(
                f"tails, B={batch}",
                survival,
                xlabel="|noise| / median",
                ylabel="share of batches beyond",
                xscale="log",
                yscale="log",
            ),
            Panel(
                "tail exponent τ of single prompts",
                lines,
                xlabel=f"layers L (largest 5 % of {prompts} prompts)",
                ylabel="τ in P(> t) = exp(−c t^τ)",
                yscale="log",
                xticks=depths,
            ),
        ],
    )


@family.figure(
    caption="Robust condition number of the Hessian along training, and its ratio between the optimizers.",
    published="figures of 2310.01082 and its notebooks",
    # At the paper budget only are these iterations, with this batch, on the picture.
    claims={adam_path_is_better_conditioned: ("iteration 750, B=1000", "iteration 1250, B=1000")},
)
def condition_number(budget: Budget, seed: int) -> Any:
    results = yield courses(budget, seed)
    panels = []
    for name in MODES:
        lines = []
        for optimizer in OPTIMIZERS:
            result = results[f"{name}: {optimizer}"]
            taken = np.isfinite(result["condition"]).all(axis=1)
            steps = result["curve_steps"][taken]
            lines.append(Series(optimizer, "trained", steps, **band(result["condition"][taken])))
            counted = np.median(result["published_condition"][taken], axis=1)
            lines.append(Series(f"{optimizer}, zeros counted as published", "rival", steps, counted))
        panels.append(Panel(name, lines, xlabel="iteration", ylabel="max |H_ii| / median |H_ii|", yscale="log"))
    lines = [Series("equal", "trivial", [0, steps[-1]], [1, 1])]
    for name in MODES:
        pair = [results[f"{name}: {optimizer}"]["condition"] for optimizer in OPTIMIZERS]
        both = min(map(len, pair))  # a training ends where its last run does
        sgdm, adam = (condition[:both] for condition in pair)
        taken = np.isfinite(sgdm).all(axis=1) & np.isfinite(adam).all(axis=1)
        logs = np.log(sgdm[taken] / adam[taken])
        mean, half = logs.mean(axis=1), 2 * logs.std(axis=1, ddof=1) / np.sqrt(logs.shape[1])
        steps = results[f"{name}: SGDM"]["curve_steps"][:both][taken]
        lines.append(Series(name, "trained", steps, np.exp(mean), np.exp(mean - half), np.exp(mean + half)))
    if budget is Budget.PAPER:
        at, means, _ = zip(*PUBLISHED_RATIOS, strict=True)
        lines.append(Series("published", "rival marks", at, means))
    panels.append(
        Panel("SGDM over Adam (geometric mean ± 2 s.e.)", lines, xlabel="iteration", ylabel="ratio", yscale="log")
    )
    return FigureData("Robust condition number along training, L=3, d=5", panels, columns=3)


def against_gradient(result: Any, label: str, *, until: int) -> tuple[list[Series], str]:
    """Smoothness against gradient norm of all runs and recorded steps: the cloud, a fitted power, and what is left out.

    Negative curvature has no logarithm: such points are counted in the text.
    """
    rows = result["curve_steps"] <= until
    size, curvature = result["gradient_norms"][rows].ravel(), result["smoothness"][rows].ravel()
    seen = np.isfinite(curvature) & np.isfinite(size)
    positive = seen & (curvature > 0)
    x, y = size[positive], curvature[positive]
    power, constant = np.polyfit(np.log(x), np.log(y), 1)
    ends = np.array([x.min(), x.max()])
    text = f"{int((seen & ~positive).sum())} of {int(seen.sum())} negative"
    return (
        [
            Series(f"{label}: update by update", "cloud", x, y),
            Series(f"{label}: power {power:.2f}", "baseline", ends, np.exp(constant) * ends**power),
        ],
        text,
    )


@family.figure(
    caption="Directional smoothness along the update: over iterations, and against the norm of the gradient.",
    published="figures of 2310.01082 and its notebooks",
)
def smoothness(budget: Budget, seed: int) -> Any:
    results = yield courses(budget, seed)
    panels = []
    for name in (MAIN, "gamma, n=20"):
        mode = MODES[name]
        lines = []
        for optimizer in OPTIMIZERS:
            result = results[f"{name}: {optimizer}"]
            # Negative curvature has no place on a logarithmic axis; the panels below count it.
            positive = np.where(result["smoothness"] > 0, result["smoothness"], np.nan)
            lines.append(Series(optimizer, "trained", result["curve_steps"], **band(positive)))
        # On a quadratic the largest stable step and the largest curvature have the product 2 (1 + β).
        edge = 2 * (1 + 0.9) / mode.sgdm_rate
        ends = result["curve_steps"][[0, -1]]
        lines.append(Series("SGDM: largest stable curvature, unclipped", "baseline", ends, [edge, edge]))
        panels.append(Panel(f"along the update, {name}", lines, xlabel="iteration", ylabel="uᵀHu", yscale="log"))
    until = of_budget(budget, 250, 1300, 2000)
    for name in (MAIN, "gamma, n=20"):
        clouds, notes = [], []
        for optimizer in OPTIMIZERS:
            series, note = against_gradient(results[f"{name}: {optimizer}"], optimizer, until=until)
            clouds += series
            notes.append(f"{optimizer} {note}")
        panels.append(
            Panel(
                f"{name}, first {until} iterations\n({', '.join(notes)})",
                clouds,
                xlabel="norm of the gradient of the risk",
                ylabel="uᵀHu",
                xscale="log",
                yscale="log",
            )
        )
    return FigureData("Directional smoothness along the update u, L=3, d=5", panels, columns=2)


@family.figure(
    caption="The non-linear variant: learned ReLU features before linear attention; loss, smoothness, condition.",
    published="figures of 2310.01082 and its notebooks",
)
def nonlinear(budget: Budget, seed: int) -> Any:
    results = yield {optimizer: with_features(optimizer, budget, seed) for optimizer in OPTIMIZERS}
    losses, conditions, clouds, notes = [], [], [], []
    for optimizer, result in results.items():
        losses.append(Series(optimizer, "trained", result["curve_steps"], **band(result["held_out_losses"])))
        taken = np.isfinite(result["condition"]).all(axis=1)
        conditions.append(
            Series(optimizer, "trained", result["curve_steps"][taken], **band(result["condition"][taken]))
        )
        series, note = against_gradient(result, optimizer, until=int(result["curve_steps"][-1]))
        clouds += series
        notes.append(f"{optimizer} {note}")
    job = with_features("Adam", budget, seed)
    return FigureData(
        f"Non-linear regression: d → {job.hidden} → d ReLU features, L=3, B={job.batch}, {job.runs} seeds",
        [
            Panel("loss", losses, xlabel="iteration", ylabel="held-out squared error", yscale="log"),
            Panel(
                f"smoothness along the update\n({', '.join(notes)})",
                clouds,
                xlabel="norm of the gradient",
                ylabel="uᵀHu",
                xscale="log",
                yscale="log",
            ),
            Panel(
                "robust condition number", conditions, xlabel="iteration", ylabel="max / median |H_ii|", yscale="log"
            ),
        ],
    )
