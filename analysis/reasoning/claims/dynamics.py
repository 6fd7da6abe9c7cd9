"""The course of normalised gradient descent: loss curves in expectation, and batch by batch."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.cases import BATCH, NOISE_LEVELS, NOISY, PAPER, PUBLISHED, ModelCase
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, normalized_descent
from plumbline.analysis.verdict import Identity
from plumbline.theory.reasoning import (
    Layer,
    ReasoningTask,
    batch_loss_deviation,
    normalized_gd_curve,
    population_loss,
    population_loss_derivative,
    published_rate,
    replay_normalized_gd,
)

SIGMAS = 7.0
"""Width of a band around a curve: a normal deviate leaves it with probability 3e-12, some thousand points with 1e-8."""


def steps_of(budget: Budget) -> int:
    """Steps of a published training."""
    return {Budget.QUICK: 300, Budget.STANDARD: 600, Budget.PAPER: 2000}[budget]


def train_curve(case: ModelCase, budget: Budget, seed: int, *, noise_levels: tuple[float, ...] = ()) -> TrainReasoner:
    """The published training of a reparameterised model on fresh batches."""
    return TrainReasoner(
        task=case.task,
        model=case.model,
        training=normalized_descent(case.learning_rate, steps_of(budget)),
        data=case.data,
        noise_levels=noise_levels,
        seed=seed,
    )


def path_deviation(task: ReasoningTask, learning_rate: float, steps: int) -> np.ndarray:
    r"""Standard deviation of the effective scale after 0 … T steps, noiseless.

    Two parts: the speed of the mean scale varies from batch to batch by a χ² of the trigger counts, and scales that
    have come apart by up to s, s² = a log N (Q-1)/B with a = η/√Q (after that the loss pulls them together), are
    weighted with counts that vary.
    """
    others, step = task.triggers - 1, learning_rate / math.sqrt(task.triggers)
    walk = step * math.sqrt(2 * others) / (2 * BATCH) * np.sqrt(np.arange(steps + 1.0))
    apart = step * math.log(task.vocab_size) * others / BATCH
    return np.sqrt(walk**2 + apart / BATCH) + apart / 2


@family.claim(
    statement="Without noise the loss of training on fresh batches follows log(1 + (N−1) e^{−λ_t}) with "
    "λ_t = (η/√Q) (1 − (Q−1)/(2B)) t, point by point within the batch noise.",
    source=f"{PAPER}, Theorem 3.2 (its appendix; the main text has η t/Q); the batch noise is derived here",
    rule=Identity,
    status="corrected",
    published="Theorem 3.2 in the main text: λ_t = η t/Q, and a loss of O(N e^{−ηt}).",
    rivals={
        "published scale": "λ_t = η t/Q, as in the main text",
        "published loss bound": "λ_t = η t, the scale of O(N e^{−ηt})",
    },
    cases=by_budget(
        {
            "linear, η=0.1": ModelCase(PUBLISHED, "Reparam-Linear-FA"),
            "ReLU, η=0.5": ModelCase(PUBLISHED, "Reparam-Relu-F", 0.5),
        },
        {
            "linear, η=0.5": ModelCase(PUBLISHED, "Reparam-Linear-F", 0.5),
            "ReLU, η=0.1": ModelCase(PUBLISHED, "Reparam-Relu-FA"),
        },
    ),
)
def noiseless_loss_curve(case: ModelCase, budget: Budget, seed: int) -> Any:
    trained = yield train_curve(case, budget, seed)
    task, steps, layer = case.task, len(trained["curve_losses"]) - 1, case.layer
    curve = normalized_gd_curve(task, steps, case.learning_rate, layer, batch_size=BATCH)
    slopes = np.array([population_loss_derivative(task, scale, layer) for scale in curve.scales])
    deviation = np.abs(slopes) * path_deviation(task, case.learning_rate, steps)

    def at_speed(speed: float) -> Any:
        return population_loss(task, speed * np.arange(steps + 1), layer)

    return Evidence(
        # In units of the band. The offset of ReLU attention moves the loss by H times 1e-8, relatively.
        rule=Identity(1.0, scale=SIGMAS * deviation + 1e-5 * curve.losses),
        measured=trained["curve_losses"][:, 0],
        predicted=curve.losses,
        rivals=[at_speed(published_rate(task, case.learning_rate)), at_speed(case.learning_rate)],
        note=f"band {SIGMAS * deviation[-1] / curve.losses[-1]:.1%} of the loss at step {steps}",
    )


@family.claim(
    statement="With noise the loss follows H2(α) + log(1 + (1−α)(N−2) e^{−ηt}), that of F and of softmax attention "
    "their own curves, point by point within the noise of the labels of a batch.",
    source=f"{PAPER}, section 5 (linear and ReLU FA, as a bound); the curves are derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "η/√Q": "the speed of a task without noise",
        "the other feed-forward layer": "the curve of F for FA and of FA for F",
    },
    cases=by_budget(
        {
            "linear FA, η=0.1": ModelCase(NOISY, "Reparam-Linear-FA"),
            "linear F, η=0.1": ModelCase(NOISY, "Reparam-Linear-F"),
            "ReLU FA, η=0.5": ModelCase(NOISY, "Reparam-Relu-FA", 0.5),
            "softmax FA, η=0.1": ModelCase(NOISY, "Reparam-Softmax-FA"),
        },
        {
            "ReLU F, η=0.1": ModelCase(NOISY, "Reparam-Relu-F"),
            "softmax F, η=0.1": ModelCase(NOISY, "Reparam-Softmax-F"),
        },
    ),
)
def noisy_loss_curve(case: ModelCase, budget: Budget, seed: int) -> Any:
    trained = yield train_curve(case, budget, seed, noise_levels=NOISE_LEVELS)
    # Training ends where every gradient is 0 in float64: softmax attention at scales of 42, others where e^{−λ} is 0.
    steps, rate, layer = len(trained["curve_losses"]) - 1, case.learning_rate, case.layer
    swapped = replace(layer, feed_forward="F" if layer.feed_forward == "FA" else "FA")
    predicted, band, slower, other = [], [], [], []
    for noise in NOISE_LEVELS:
        task = replace(case.task, noise=noise)
        curve = normalized_gd_curve(task, steps, rate, layer)
        deviation = np.array([batch_loss_deviation(task, scale, BATCH, layer) for scale in curve.scales])
        cycle: Any = 0.0
        if layer.feed_forward == "F" and layer.attention != "softmax":
            # Past the optimum each batch has its own, a few steps of η away: the loss there is flat to second order,
            # and a walk of k steps of η costs at most (kη)²/8, as the curvature of cross-entropy is at most 1/4.
            cycle = (6 * rate) ** 2 / 8 * (np.arange(steps + 1) > np.argmin(curve.losses) - 3)
        predicted.append(curve.losses)
        band.append(SIGMAS * deviation + cycle + 1e-5 * curve.losses)
        slow = curve.scales / math.sqrt(task.triggers)
        slower.append(population_loss(task, slow, layer, method="second-order"))
        other.append(normalized_gd_curve(task, steps, rate, swapped).losses)
    return Evidence(
        rule=Identity(1.0, scale=np.stack(band, axis=1)),
        measured=trained["curve_losses"],
        predicted=np.stack(predicted, axis=1),
        rivals=[np.stack(slower, axis=1), np.stack(other, axis=1)],
    )


@family.claim(
    statement="Without noise, given how often each trigger occurs in each batch, the loss of every batch follows from "
    "λ_k ← λ_k + η g_k/|g| exactly.",
    source="derived here",
    rule=Identity,
    status="derived here",
    rivals={
        "published scale": "λ_t = η t/Q",
        "each scale by itself": "λ_t = η t: every scale's gradient normalised on its own",
        "no batch noise": "equal trigger counts in every batch",
    },
    cases=by_budget(
        {
            "published size, η=0.1": TrainReasoner(
                task=PUBLISHED,
                model="Reparam-Linear-FA",
                training=normalized_descent(0.1, 300),
                data="label counts",
            ),
            "N=20, H=24, from sentences": TrainReasoner(
                task=ReasoningTask(20, 24, 3, 2),
                model="Reparam-Relu-FA",
                training=normalized_descent(0.3, 100),
                batch=64,
            ),
        },
        {
            "published size, η=0.5": TrainReasoner(
                task=PUBLISHED,
                model="Reparam-Linear-FA",
                training=normalized_descent(0.5, 1000),
                data="label counts",
            ),
            "published size, from sentences": TrainReasoner(
                task=PUBLISHED,
                model="Reparam-Linear-F",
                training=normalized_descent(0.1, 200),
            ),
        },
    ),
)
def batch_by_batch(case: TrainReasoner, budget: Budget, seed: int) -> Any:
    trained = yield replace(case, seed=seed)
    counts, task = trained["counts"][:, 0], case.task
    (rate,) = case.training.rates
    predicted = replay_normalized_gd(task, counts, rate).losses
    shares = counts / counts.sum(axis=1, keepdims=True)

    def along(speed: float) -> Any:
        return population_loss(task, speed * np.arange(len(shares)))

    even = replay_normalized_gd(task, np.full_like(counts, case.batch / task.triggers), rate)
    # The offset 1e-8 of ReLU attention, on all positions, against rounding alone.
    return Evidence(
        rule=Identity(1e-6 if "Relu" in case.model else 1e-10, scale=predicted),
        measured=trained["curve_losses"][:, 0],
        predicted=predicted,
        rivals=[along(published_rate(task, rate)), along(rate), even.losses],
    )


@family.claim(
    statement="With noise and FA the scale after t steps is η t exactly, whatever the batches, their order and their "
    "number of noise labels.",
    source="derived here; the linear rate it gives is Theorem 5.4 of " + PAPER,
    rule=Identity,
    status="derived here",
    rivals={
        "plain gradient descent": "steps of length η |dL/dλ|",
        "η/√Q": "the speed of a task without noise",
        "sign of F": "steps that turn back at the optimum of F",
    },
    cases=by_budget(
        {
            "finite sample, 3 orders": TrainReasoner(
                task=ReasoningTask(20, 24, 3, 2, 0.3),
                model="Reparam-Linear-FA",
                training=normalized_descent(0.1, 150),
                data="finite sample",
                batch=32,
                sample_size=128,
                seeds=3,
            ),
            "published size, fresh batches": TrainReasoner(
                task=NOISY,
                model="Reparam-Linear-FA",
                training=normalized_descent(0.1, 300),
                data="label counts",
                noise_levels=NOISE_LEVELS,
            ),
        },
        {
            "ReLU, one sentence a batch": TrainReasoner(
                task=ReasoningTask(20, 24, 3, 2, 0.5),
                model="Reparam-Relu-FA",
                training=normalized_descent(0.05, 300),
                batch=1,
            ),
        },
    ),
)
def any_batch_order(case: TrainReasoner, budget: Budget, seed: int) -> Any:
    trained = yield replace(case, seed=seed)
    (rate,), scales, labels = case.training.rates, trained["scales"][:, :, 0], trained["counts"][:, :, 1]
    path = rate * np.arange(len(scales))

    def repeated(paths: list[np.ndarray]) -> np.ndarray:
        return np.stack(paths, axis=1)

    def plain(task: ReasoningTask) -> np.ndarray:
        scale = [0.0]
        for _ in path[1:]:
            scale.append(scale[-1] - rate * population_loss_derivative(task, scale[-1]))
        return np.array(scale)

    def of_f(task: ReasoningTask) -> np.ndarray:
        return normalized_gd_curve(task, len(path) - 1, rate, Layer(feed_forward="F")).scales

    return Evidence(
        # One rounding of a sum per step.
        rule=Identity(1e-12),
        measured=scales,
        predicted=repeated([path] * case.runs),
        rivals=[
            repeated([plain(task) for task in case.tasks]),
            repeated([path / math.sqrt(task.triggers) for task in case.tasks]),
            repeated([of_f(task) for task in case.tasks]),
        ],
        note=f"{labels.min():.0f} to {labels.max():.0f} noise labels in a batch",
    )
