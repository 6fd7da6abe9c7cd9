"""A noise level estimated from a sample: the price of the estimate, what each layer says, and where float32 ends."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.cases import NOISE_LEVELS, NOISY, PAPER, PUBLISHED
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, normalized_descent
from plumbline.analysis.reasoning.published import on_sample
from plumbline.analysis.verdict import BoundForAll, Expectation, Identity
from plumbline.theory.reasoning import (
    ReasoningTask,
    bayes_risk,
    convergence_rate,
    degenerate_sample_probability,
    excess_risk,
    excess_risk_bound,
    expected_excess_risk,
    layer_logits,
    layer_role_step,
    stall_scale,
)
from plumbline.theory.reasoning.model_names import ModelName


@family.claim(
    statement="Trained on m sentences for T steps, in any order, the population loss and the unseen-output loss exceed "
    "the Bayes risk by KL2(α‖α̂) + log(1 + (1−α̂)(N−2) e^{−ηT}).",
    source=f"{PAPER}, Theorems 5.4 and 5.5 (bounds); the equality is derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "noise known": "the loss of a feed-forward layer built with the true α",
        "the training loss": "H2(α̂) in place of H2(α) + KL2(α‖α̂)",
    },
    cases=by_budget({"published size": "Reparam-Linear-FA", "published size, ReLU": "Reparam-Relu-FA"}),
)
def finite_sample_excess(model: ModelName, budget: Budget, seed: int) -> Any:
    trained = yield on_sample(model, budget, seed)
    steps = [int(step) for step in trained["curve_steps"]]
    predicted, known, training = [], [], []
    for noise, share in zip(NOISE_LEVELS, trained["noise_estimates"], strict=True):
        task = replace(NOISY, noise=noise)
        course = [excess_risk(task, share, step, 0.1) for step in steps]
        predicted.append(bayes_risk(task) + np.array(course))
        known.append(bayes_risk(task) + np.array([excess_risk(task, noise, step, 0.1) for step in steps]))
        training.append(np.array(course) - excess_risk(task, share) + bayes_risk(replace(NOISY, noise=share)))
    columns = [np.stack(rows, axis=1) for rows in (predicted, known, training)]
    return Evidence(
        # Rounding of logits of 40, or the offset of ReLU attention, H times 1e-8. The rivals differ by the KL of some
        # 1e-4, or by γ times the error of α̂.
        rule=Identity(1e-6 if "Relu" in model else 1e-11),
        measured=np.stack([trained["population"], trained["unseen"]]),
        predicted=np.stack([columns[0]] * 2),
        rivals=[np.stack([columns[1]] * 2), np.stack([columns[2]] * 2)],
        note=f"shares of noise labels {trained['noise_estimates'].round(4).tolist()}",
    )


@family.claim(
    statement="The expected excess risk after many steps is 1/(2m) to first order in the sample size.",
    source="derived here",
    rule=Expectation,
    status="derived here",
    rivals={"1/m": "two parameters' worth", "1/√m": "the rate of a Hoeffding bound", "nothing": "no excess"},
    cases=by_budget(
        {"m=2048, α=0.2": (0.2, 2048), "m=64, α=0.5": (0.5, 64)}, {"m=2048, α=0.8": (0.8, 2048)}
    ),
)  # fmt: skip
def expected_finite_sample_excess(case: tuple[float, int], budget: Budget, seed: int) -> Evidence:
    import torch

    from plumbline.models.reasoning import sample_label_counts
    from plumbline.models.reasoning.losses import label_count_loss
    from plumbline.models.training.draws import generator

    noise, size = case
    task = replace(NOISY, noise=noise)
    # A binomial share is degenerate with probability below 1e-15 here.
    assert degenerate_sample_probability(task, size) < 1e-15
    batches, draws = 32, 2000 if budget is Budget.QUICK else 10_000
    labels = sample_label_counts(task, size, size=(batches, draws), generator=generator(seed, 0, 0))
    share = (labels[..., 1] / size).reshape(-1)
    scale, counts = (torch.tensor(values, dtype=torch.float64) for values in ([50.0], [1 - noise, noise]))

    def loss(noise_logit: torch.Tensor) -> torch.Tensor:
        """Of a linear FA model whose feed-forward layer is built with this."""
        return label_count_loss(scale, noise_logit, 1, task.vocab_size, counts)

    losses = torch.func.vmap(loss)(share.log() - (-share).log1p()).reshape(batches, draws)
    expected = expected_excess_risk(task, size)
    return Evidence(
        # A tenth of the excess, whose deviation is √2 times its mean: 64,000 draws know it to 0.6 %.
        rule=Expectation(0.1, scale=expected, draws_per_batch=draws),
        measured=losses.mean(dim=1).numpy() - bayes_risk(task),
        predicted=expected,
        rivals=[1 / size, 1 / math.sqrt(size), 0.0],
    )


@family.claim(
    statement="With probability at least 1 − δ over the sample the excess risk is at most ε²/(α(1−α) − ε), "
    "ε² = log(2/δ)/(2m).",
    source=f"derived here, in the form of {PAPER}, Theorem 5.4",
    rule=BoundForAll,
    status="derived here",
    rivals={"the expectation": "the expected excess as a bound", "a tenth of it": "a tenth of the bound"},
    cases=by_budget({"m=2048 and 20,000, α=0.2, 0.5, 0.8, δ=0.05 and 1e-4": ((2048, 20_000), (0.05, 1e-4))}),
)
def finite_sample_bound(case: tuple[tuple[int, ...], tuple[float, ...]], budget: Budget, seed: int) -> Evidence:
    from scipy.stats import binom

    sizes, failures = case
    quantiles, bounds, means = [], [], []
    for noise in NOISE_LEVELS:
        task = replace(NOISY, noise=noise)
        for size in sizes:
            shares = np.arange(1, size) / size
            risks = np.array([excess_risk(task, share) for share in shares])
            order = np.argsort(risks)
            reached = np.cumsum(binom.pmf(np.arange(1, size), size, noise)[order])
            for failure in failures:
                quantiles.append(risks[order][np.searchsorted(reached, 1 - failure)])
                bounds.append(excess_risk_bound(task, size, failure))
                means.append(expected_excess_risk(task, size))
    return Evidence(
        rule=BoundForAll("upper", numerical_error=1e-9),
        measured=quantiles,
        predicted=bounds,
        rivals=[means, np.array(bounds) / 10],
        note=f"the bound is {np.min(np.array(bounds) / quantiles):.1f} to {np.max(np.array(bounds) / quantiles):.1f} "
        "times the exact quantile",
    )


@family.claim(
    statement="Attention says the output token from step 1 on, with logit η t; the feed-forward layer the noise token "
    "with logit γ̂ + η t, its largest from step log((1−α̂)/α̂)/η on.",
    source=f"{PAPER}, Theorem 5.6 (after enough steps); logits and step are derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "γ omitted": "both layers at η t",
        "from the first step on": "both layers right from step 1 on",
    },
    cases=by_budget({"published size": None}),
)
def layer_roles(case: None, budget: Budget, seed: int) -> Any:
    trained = yield replace(on_sample("Reparam-Linear-FA", budget, seed), training=normalized_descent(0.1, 60))
    steps = trained["curve_steps"]
    predicted, without, first = [], [], []
    for noise, share in zip(NOISE_LEVELS, trained["noise_estimates"], strict=True):
        task = replace(NOISY, noise=noise)
        said = [layer_logits(task, 0.1 * step, noise_estimate=share) for step in steps]
        predicted.append(
            [[x.attention_output, x.attention_largest, x.feed_forward_noise, x.feed_forward_largest] for x in said]
        )
        without.append([[0.1 * step] * 4 for step in steps])
        first.append(layer_role_step(task, 0.1, noise_estimate=share))
    roles = trained["roles"]
    # From the first step on at which every test sentence has the noise token on top: and not before.
    found = [int(np.argmax(roles[1:, run, 1] == 1)) + 1 for run in range(len(NOISE_LEVELS))]
    attention = [int(np.argmax(roles[1:, run, 0] == 1)) + 1 for run in range(len(NOISE_LEVELS))]
    first = [max(step, 1) for step in first]

    def joined(logits: Any, noise_steps: list[int]) -> np.ndarray:
        return np.concatenate([np.ravel(np.swapaxes(np.array(logits), 0, 1)), [1] * len(found), noise_steps])

    return Evidence(
        # Rounding of logits, and steps that are integers.
        rule=Identity(1e-10, scale=1.0),
        measured=np.concatenate([trained["layers"].ravel(), attention, found]),
        predicted=joined(predicted, first),
        rivals=[joined(without, first), joined(predicted, [1] * len(found))],
        note=f"the feed-forward layer turns to the noise token at steps {found}",
    )  # fmt: skip


@family.claim(
    statement="With torch's cross-entropy in float32, as published, the scale leaves η t at log(c/ε), c = (1−α)(N−2) "
    "or N−1, ε = 2⁻²³; with the loss from label counts it does not.",
    source="derived here",
    rule=Identity,
    status="derived here",
    rivals={"float64": "ε = 2⁻⁵²", "half precision": "ε = 2⁻¹⁰"},
    cases=by_budget({"noise": NOISY}, {"no noise": PUBLISHED}),
)
def float32_stall(task: ReasoningTask, budget: Budget, seed: int) -> Any:
    rate = 0.25
    speed = convergence_rate(task, rate)
    levels = NOISE_LEVELS if task.noise else (0.0,)
    steps = round(28 / speed)

    published = TrainReasoner(
        task=task,
        model="Reparam-Linear-FA",
        training=normalized_descent(rate, steps),
        noise_levels=levels,
        seed=seed,
        batch=64 if task.noise else 512,
        precision="float32",
        loss="standard",
    )
    single, stable = yield [published, replace(published, data="label counts", loss="stable")]
    tasks = [replace(task, noise=noise) for noise in levels]

    def departures(trained: Any) -> list[float]:
        """The scale at which each run has fallen behind by more than a step and its batch noise."""
        # Training ends where every gradient has become 0: the scales then stay.
        scales = trained["scales"].mean(axis=2)
        scales = scales[np.minimum(np.arange(steps + 1), len(scales) - 1)]
        path = speed * np.arange(steps + 1)[:, None]
        behind = np.abs(scales - path) > 1.5 * speed + (0.0 if task.noise else 0.02) * path
        return [float(path[np.argmax(late), 0]) if late.any() else math.inf for late in behind.T]

    found, kept = departures(single), departures(stable)
    predicted = np.array([stall_scale(t) for t in tasks])
    spared = np.array([0.0 if math.isinf(x) else x for x in kept])
    return Evidence(
        # A step and a half, and the two binades in which a gradient of rounding errors still points the right way.
        rule=Identity(1.5, scale=1.0),
        measured=np.r_[found, spared],
        predicted=np.r_[predicted, 0 * predicted],
        rivals=[
            np.r_[[stall_scale(t, precision="float64") for t in tasks], 0 * predicted],
            np.r_[predicted - 13 * math.log(2), 0 * predicted],
        ],
        note=f"leaves the path at {np.round(found, 2).tolist()}, predicted {predicted.round(2).tolist()}",
    )
