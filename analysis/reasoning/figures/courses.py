"""Figures of in-context reasoning: exact curves as lines, trained one-layer transformers as points."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget
from plumbline.analysis.claims.claim import Claim
from plumbline.analysis.drawing.data import FigureData, Panel, Series
from plumbline.analysis.drawing.figure import Drawn
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.cases import BATCH, LEARNING_RATES, NOISE_LEVELS, NOISY, PUBLISHED, ModelCase
from plumbline.analysis.reasoning.claims.dynamics import noiseless_loss_curve, noisy_loss_curve
from plumbline.analysis.reasoning.claims.finite_sample import finite_sample_excess, float32_stall, layer_roles
from plumbline.analysis.reasoning.claims.limits import lone_feed_forward_gap, softmax_limit, softmax_scales_come_apart
from plumbline.analysis.reasoning.claims.rates import rate_constant
from plumbline.analysis.reasoning.claims.unseen import (
    reparameterised_generalise,
    trained_attention_in_between,
    unconstrained_do_not_generalise,
)
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, normalized_descent
from plumbline.analysis.reasoning.published import MODELS, both, on_sample, training
from plumbline.theory.reasoning import (
    Layer,
    bayes_risk,
    convergence_rate,
    excess_risk,
    feed_forward_floor,
    layer_logits,
    normalized_gd_curve,
    output_probabilities,
    population_loss,
    published_rate,
    stall_scale,
    unseen_output_bound,
)
from plumbline.theory.reasoning.model_names import ModelName

ALL_LEVELS = (0.0, *NOISE_LEVELS)
FigurePlan = Generator[Any, Any, FigureData]


def exact_curve(model: ModelName, noise: float, job: TrainReasoner) -> np.ndarray | None:
    """The predicted loss at every step; None for models that train whole matrices."""
    if model.startswith("Origin") or "-W-" in model:
        return None
    task = replace(PUBLISHED, noise=noise)
    batch = None if noise else job.batch
    return normalized_gd_curve(
        task, job.training.steps, job.training.rates[0], ModelCase(task, model).layer, batch_size=batch
    ).losses


def _kind(model: str, noise: float) -> str:
    """Softmax attention without noise is driven off its population path by the batches, see softmax-batch-noise."""
    return "without batch noise" if "Softmax" in model and not noise else "exact"


def unseen_floor(model: ModelName, noise: float) -> float | None:
    """The least unseen-output loss of an unconstrained model."""
    if not model.startswith("Origin"):
        return None
    task = replace(PUBLISHED, noise=noise)
    return unseen_output_bound(task, attention=ModelCase(task, model).layer.attention).loss


def course(model: ModelName, job: TrainReasoner, trained: Any, what: str, *, label: str = "α={:g}") -> list[Series]:
    """Trained points of each noise level, with the exact curve or what bounds it."""
    lines = []
    steps = trained["curve_steps"]
    for run, task in enumerate(job.levels):
        name, noise = label.format(task.noise), task.noise
        curve = exact_curve(model, noise, job)
        ends = np.array([steps[0], steps[-1]])
        if curve is not None:
            lines.append(Series(f"{name}: {_kind(model, noise)}", "theory", np.arange(len(curve)), curve))
        elif what == "unseen" and (floor := unseen_floor(model, noise)) is not None:
            lines.append(Series(f"{name}: lower bound", "baseline", ends, np.full(2, floor)))
        elif what == "population" and model == "Origin-Linear-F":
            lines.append(Series(f"{name}: floor of F alone", "baseline", ends, np.full(2, feed_forward_floor(task))))
        else:
            lines.append(Series(f"{name}: Bayes risk", "baseline", ends, np.full(2, bayes_risk(task))))
        lines.append(Series(f"{name}: trained", "trained", steps, trained[what][:, run]))
    return lines


PAGES: dict[str, tuple[tuple[ModelName, ...], dict[Claim, Drawn]]] = {
    "reparam-linear": (
        ("Reparam-Linear-F", "Reparam-Linear-FA"),
        {noisy_loss_curve: ("linear F, η=0.1", "linear FA, η=0.1")},
    ),
    "reparam-relu": (
        ("Reparam-Relu-F", "Reparam-Relu-FA"),
        {noisy_loss_curve: ("ReLU FA, η=0.5", "ReLU F, η=0.1")},
    ),
    "reparam-softmax": (
        ("Reparam-Softmax-F", "Reparam-Softmax-FA"),
        {softmax_limit: ("no noise", "F, α=0.2", "FA, α=0.5", "FA, α=0.2", "F, α=0.8")},
    ),
    # The case of this claim ends later than the page does, and is of ReLU attention too.
    "reparam-linear-w": (("Reparam-Linear-W-FA",), {trained_attention_in_between: None}),
    "origin-linear": (
        ("Origin-Linear-F", "Origin-Linear-FA"),
        {unconstrained_do_not_generalise: ("linear FA, noise", "linear F, no noise")},
    ),
    "origin-relu": (
        ("Origin-Relu-F", "Origin-Relu-FA"),
        {unconstrained_do_not_generalise: ("ReLU FA, no noise", "ReLU F, noise")},
    ),
    "origin-softmax": (
        ("Origin-Softmax-F", "Origin-Softmax-FA"),
        {unconstrained_do_not_generalise: ("softmax F, noise", "softmax FA, no noise")},
    ),
}
"""The seven published pages of population and unseen-output losses: their models, and the claim that judges each."""


def _losses_of(models: tuple[ModelName, ...], budget: Budget, seed: int) -> FigurePlan:
    panels = []
    for model in models:
        for rate in LEARNING_RATES:
            jobs = both(model, rate, budget, seed)
            results = yield jobs
            bounded = " (lines: lower bound)" if model.startswith("Origin") else ""
            for what, name in (("population", "population loss"), ("unseen", f"unseen-output loss{bounded}")):
                lines = [
                    line for job, result in zip(jobs, results, strict=True) for line in course(model, job, result, what)
                ]
                # The colours are those of the population loss, whose panel has the room for a legend.
                title, first = f"{model}, η={rate:g}", what == "population"
                panels.append(Panel(title, lines, xlabel="steps", ylabel=name, legend=first))
    title = f"{' and '.join(models)}: normalised GD, N=60, H=256, B={jobs[0].batch}"
    return FigureData(title, panels, columns=4)


def _register_pages() -> None:
    for name, (models, claims) in PAGES.items():

        def page(budget: Budget, seed: int, models: tuple[ModelName, ...] = models) -> FigurePlan:
            return (yield from _losses_of(models, budget, seed))

        family.figure(
            caption=f"{' and '.join(models)}: population and unseen-output loss at four noise levels.",
            published="figures 3-9 of 2505.15009",
            claims=claims,
            name=f"losses-{name}",
        )(page)


_register_pages()


@family.figure(
    caption="Five models without and with noise: losses on trained and unseen outputs, and what they say.",
    published="figure 1 of 2505.15009",
    claims={reparameterised_generalise: "linear FA", unconstrained_do_not_generalise: "linear FA, noise"},
)
def comparison_of_models(budget: Budget, seed: int) -> FigurePlan:
    models: tuple[ModelName, ...] = (
        "Reparam-Linear-FA", "Reparam-Softmax-FA", "Reparam-Linear-W-FA", "Origin-Linear-FA", "Origin-Softmax-F",
    )  # fmt: skip
    rate, panels = 0.1, []
    for noisy in (False, True):
        jobs = [training(model, rate, budget, seed, noise=noisy) for model in models]
        results = yield jobs
        noise, title = (NOISE_LEVELS[0], f"α = {NOISE_LEVELS[0]}") if noisy else (0.0, "no noise")
        task = replace(PUBLISHED, noise=noise)
        for what, name in (("population", "population loss"), ("unseen", "unseen-output loss")):
            lines = []
            for model, job, result in zip(models, jobs, results, strict=True):
                curve = exact_curve(model, noise, job)
                if curve is not None:
                    lines.append(Series(f"{model}: {_kind(model, noise)}", "theory", np.arange(len(curve)), curve))
                lines.append(Series(f"{model}: trained", "trained", result["curve_steps"], result[what][:, 0]))
            longest = max(job.training.steps for job in jobs)
            lines.append(Series("Bayes risk", "trivial", [0, longest], np.full(2, bayes_risk(task))))
            panels.append(Panel(title, lines, xlabel="steps", ylabel=name))
        lines = []
        for model, job, result in list(zip(models, jobs, results, strict=True))[:2]:
            layer = ModelCase(task, model).layer
            path = normalized_gd_curve(
                task, job.training.steps, rate, layer, batch_size=None if noisy else job.batch, method="jensen"
            ).scales
            places = np.unique(np.linspace(0, job.training.steps, 40).astype(int))
            said = [output_probabilities(task, path[t], layer) for t in places]
            values = [x.noise_token if noisy else x.output for x in said]
            lines.append(Series(f"{model}: {_kind(model, noise)}", "theory", places, values))
            seen = result["probabilities"][:, 0, 1 if noisy else 0]
            lines.append(Series(f"{model}: trained", "trained", result["curve_steps"], seen))
        lines.append(
            Series("Bayes predictor", "trivial", [0, jobs[0].training.steps], np.full(2, noise if noisy else 1.0))
        )
        said_of = "Pr(noise token)" if noisy else "Pr(output token)"
        panels.append(Panel(title, lines, xlabel="steps", ylabel=said_of))
    lengths = [job.training.steps for job in jobs]
    title = "Normalised GD, η=0.1, N=60, H=256"
    if min(lengths) < max(lengths):
        title += f"; models without a closed form trained for {min(lengths)} of {max(lengths)} steps"
    return FigureData(title, panels, columns=3)


@family.figure(
    caption="A sample of 2,048 sentences: population and unseen-output loss per epoch, ReLU attention.",
    published="figure 2 of 2505.15009",
    claims={finite_sample_excess: "published size, ReLU"},
)
def finite_sample_losses(budget: Budget, seed: int) -> FigurePlan:
    models: tuple[ModelName, ...] = ("Reparam-Relu-FA", "Reparam-Relu-W-FA", "Origin-Relu-FA")
    jobs = [on_sample(model, budget, seed) for model in models]
    results = yield jobs
    panels = []
    for what, name in (("population", "population loss"), ("unseen", "unseen-output loss")):
        for run, noise in enumerate(NOISE_LEVELS):
            task = replace(NOISY, noise=noise)
            epochs = results[0]["curve_steps"] / 4
            share = results[0]["noise_estimates"][run]
            exact = [bayes_risk(task) + excess_risk(task, share, int(step), 0.1) for step in results[0]["curve_steps"]]
            lines = [
                Series("Bayes risk", "trivial", epochs[[0, -1]], np.full(2, bayes_risk(task))),
                Series(f"{models[0]}: exact", "theory", epochs, exact),
            ]
            for model, result in zip(models, results, strict=True):
                lines.append(Series(f"{model}: trained", "trained", result["curve_steps"] / 4, result[what][:, run]))
            panels.append(Panel(f"α={noise:g}, α̂={share:.4f}", lines, xlabel="epochs", ylabel=name))
    return FigureData("Finite sample, m=2048, η=0.1, ReLU attention", panels, columns=3)


def _layers_at(run: int, budget: Budget, seed: int) -> FigurePlan:
    noise = NOISE_LEVELS[run]
    task = replace(NOISY, noise=noise)
    models: tuple[ModelName, ...] = ("Reparam-Linear-FA", "Reparam-Linear-W-FA", "Origin-Linear-FA")
    results = yield [on_sample(model, budget, seed) for model in models]
    panels = []
    for model, result in zip(models, results, strict=True):
        epochs, layers = result["curve_steps"] / 4, result["layers"][:, run]
        share = result["noise_estimates"][run]
        exact = None
        if model == models[0]:
            exact = [layer_logits(task, 0.1 * step, noise_estimate=share) for step in result["curve_steps"]]
        for offset, layer, token in ((0, "attention", "output"), (2, "feed-forward", "noise")):
            lines = []
            for place, name in ((offset, f"{token} token"), (offset + 1, "largest")):
                if exact is not None:
                    values = [
                        (x.attention_output, x.attention_largest, x.feed_forward_noise, x.feed_forward_largest)
                        for x in exact
                    ]
                    lines.append(Series(f"{name}: exact", "theory", epochs, np.array(values)[:, place]))
                lines.append(Series(f"{name}: trained", "trained", epochs, layers[:, place]))
            panels.append(Panel(f"{model}: {layer} logits", lines, xlabel="epochs", ylabel="mean logit"))
        lines = [Series("Bayes risk", "trivial", epochs[[0, -1]], np.full(2, bayes_risk(task)))]
        if exact is not None:
            losses = [bayes_risk(task) + excess_risk(task, share, int(step), 0.1) for step in result["curve_steps"]]
            lines.append(Series("both: exact", "theory", epochs, losses))
        lines += [
            Series("population: trained", "trained", epochs, result["population"][:, run]),
            Series("unseen outputs: trained", "trained", epochs, result["unseen"][:, run]),
        ]
        panels.append(Panel(model, lines, xlabel="epochs", ylabel="loss"))
    return FigureData(f"What each layer says: α={noise:g}, m=2048, η=0.1", panels, columns=3)


def _register_layers() -> None:
    for run, noise in enumerate(NOISE_LEVELS):

        def page(budget: Budget, seed: int, run: int = run) -> FigurePlan:
            return (yield from _layers_at(run, budget, seed))

        family.figure(
            caption=f"Logits by layer on a finite sample, linear attention, α = {noise:g}.",
            published="figures 10-12 of 2505.15009",
            claims={layer_roles: "published size"},
            name=f"layer-logits-{noise:g}",
        )(page)


_register_layers()


@family.figure(
    caption="All thirteen models, theory against training: losses at α = 0.5, η = 0.1.",
    claims={
        noisy_loss_curve: (
            "linear FA, η=0.1",
            "linear F, η=0.1",
            "softmax FA, η=0.1",
            "ReLU F, η=0.1",
            "softmax F, η=0.1",
        ),
        lone_feed_forward_gap: "linear, α=0.5",
        softmax_limit: None,
    },
)
def all_models(budget: Budget, seed: int) -> FigurePlan:
    run, noise = 1, NOISE_LEVELS[1]
    task = replace(PUBLISHED, noise=noise)
    jobs = [training(model, 0.1, budget, seed, noise=True) for model in MODELS]
    results = yield jobs
    panels = []
    for model, job, result in zip(MODELS, jobs, results, strict=True):
        steps, ends = result["curve_steps"], np.array([0, job.training.steps])
        curve = exact_curve(model, noise, job)
        # The trained ones first, so that they have the same two colours in every panel.
        lines = [
            Series("population: trained", "trained", steps, result["population"][:, run]),
            Series("unseen outputs: trained", "trained", steps, result["unseen"][:, run]),
            Series("Bayes risk", "trivial", ends, np.full(2, bayes_risk(task))),
        ]
        if curve is not None:
            lines.append(Series("both: exact", "theory", np.arange(job.training.steps + 1), curve))
        if model == "Origin-Linear-F":
            lines.append(Series("population: floor of F alone", "baseline", ends, np.full(2, feed_forward_floor(task))))
        floor = unseen_floor(model, noise)
        if floor is not None:
            lines.append(Series("unseen outputs: lower bound", "baseline", ends, np.full(2, floor)))
        panels.append(Panel(model, lines, xlabel="steps", ylabel="loss"))
    return FigureData(f"All thirteen models, α={noise:g}, η=0.1, N=60, H=256", panels, columns=4)


@family.figure(
    caption="The linear rate: trained loss on η/√Q, and the two published constants beside it.",
    claims={rate_constant: ("η=0.1", "η=0.5"), noiseless_loss_curve: ("linear, η=0.1", "linear, η=0.5")},
)
def linear_rate(budget: Budget, seed: int) -> FigurePlan:
    panels = []
    for rate in LEARNING_RATES:
        steps = round(45 / rate)
        job = TrainReasoner(
            task=PUBLISHED,
            model="Reparam-Linear-FA",
            training=normalized_descent(rate, steps, record_every=steps // 18),
            data="label counts",
            seeds=8,
            seed=seed,
        )
        trained = yield job
        t = np.arange(steps + 1)
        exact = normalized_gd_curve(PUBLISHED, steps, rate, batch_size=BATCH).losses
        losses = trained["curve_losses"]
        panels.append(
            Panel(
                f"η={rate:g}: decay per step {convergence_rate(PUBLISHED, rate):.4f}",
                [
                    Series("exact: λ = (η/√Q)(1−(Q−1)/2B) t", "theory", t, exact),
                    Series(
                        "rival: published scale, λ = η t/Q", "rival", t,
                        population_loss(PUBLISHED, published_rate(PUBLISHED, rate) * t),
                    ),
                    Series("rival: published bound N e^{−ηt}", "rival", t, PUBLISHED.vocab_size * np.exp(-rate * t)),
                    Series(
                        "trained, 8 seeds", "trained", trained["curve_steps"], np.median(losses, axis=1),
                        losses.min(axis=1), losses.max(axis=1),
                    ),
                ],
                xlabel="steps", ylabel="loss", yscale="log",
            )
        )  # fmt: skip
    return FigureData("Rate without noise, N=60, Q=5, B=512", panels)


@family.figure(
    caption="Softmax attention: batch noise drives the scales of the triggers apart.",
    claims={softmax_scales_come_apart: "η=0.1"},
)
def softmax_batch_noise(budget: Budget, seed: int) -> FigurePlan:
    steps, rate = 300, 0.1
    trained = yield TrainReasoner(
        task=PUBLISHED,
        model="Reparam-Softmax-FA",
        training=normalized_descent(rate, steps),
        data="token counts",
        seed=seed,
    )
    t, every = trained["curve_steps"], slice(None, None, 12)
    curve = normalized_gd_curve(PUBLISHED, steps, rate, Layer("softmax"), batch_size=BATCH)
    scales = trained["scales"][:, 0]
    lines = [Series("one scale for all: (η/√Q)(1−(Q−1)/2B) t", "theory", t, curve.scales)]
    lines += [Series(f"trigger {k}", "trained", t[every], scales[every, k]) for k in range(PUBLISHED.triggers)]
    losses = [
        Series("one scale for all", "theory", t, curve.losses),
        Series("trained", "trained", t[every], trained["curve_losses"][every, 0]),
    ]
    return FigureData(
        "Reparam-Softmax-FA without noise, η=0.1, B=512",
        [Panel("", lines, xlabel="steps", ylabel="scale λ"), Panel("", losses, xlabel="steps", ylabel="batch loss")],
    )


@family.figure(
    caption="Where float32 ends: the trained scale leaves η t at the predicted value.",
    claims={float32_stall: "noise"},
)
def float32_departure(budget: Budget, seed: int) -> FigurePlan:
    rate, steps = 0.25, 112
    job = TrainReasoner(
        task=NOISY,
        model="Reparam-Linear-FA",
        training=normalized_descent(rate, steps),
        batch=64,
        noise_levels=NOISE_LEVELS,
        seed=seed,
        precision="float32",
        loss="standard",
    )
    single, stable = yield [job, replace(job, data="label counts", loss="stable")]
    t, every = single["curve_steps"], slice(None, None, 4)
    panels = []
    for run, noise in enumerate(NOISE_LEVELS):
        lines = [
            Series("η t", "theory", t, rate * t),
            Series("predicted end of float32", "trivial", t, np.full(len(t), stall_scale(job.levels[run]))),
            Series("torch's cross-entropy, float32", "trained", t[every], single["scales"][every, run, 0]),
            Series("label counts, float32", "trained", t[every], stable["scales"][every, run, 0]),
        ]
        panels.append(Panel(f"α={noise:g}", lines, xlabel="steps", ylabel="scale λ"))
    return FigureData("Reparam-Linear-FA in float32, η=0.25", panels, columns=3)
