"""Claims about the linear rate: its constant, with noise, against the number of triggers, and under batch noise."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.cases import BATCH, NOISE_LEVELS, NOISY, PAPER, PUBLISHED
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, normalized_descent
from plumbline.analysis.verdict import Expectation, Identity, Rate
from plumbline.theory.reasoning import (
    ReasoningTask,
    bayes_risk,
    convergence_rate,
    published_rate,
)


def _decay(losses: np.ndarray, floor: float = 0.0) -> float:
    """Decay per step of log(e^{excess} − 1), which is linear in the scale, over the second half of a curve."""
    logs = np.log(np.expm1(losses - floor))
    half = len(logs) // 2
    return float((logs[half] - logs[-1]) / (len(logs) - 1 - half))


@family.claim(
    statement="Without noise the loss falls like e^{−rt} with r = η/√Q, and with batches of B slower by (Q−1)/(2B).",
    source=f"{PAPER}, Theorem 3.2 (its appendix; the main text has η/Q in the scale and η in the loss)",
    rule=Identity,
    status="corrected",
    published="Theorem 3.2 in the main text: η/Q in the scale, and η in the loss.",
    rivals={"published scale": "r = η/Q", "published loss bound": "r = η"},
    cases=by_budget({"η=0.1": 0.1, "η=0.5": 0.5}),
)
def rate_constant(rate: float, budget: Budget, seed: int) -> Any:
    def job(data: Any) -> TrainReasoner:
        return TrainReasoner(
            task=PUBLISHED,
            model="Reparam-Linear-FA",
            training=normalized_descent(rate, 300),
            data=data,
            seed=seed,
        )

    exact, sampled = yield [job("expected counts"), job("label counts")]
    measured = np.array([_decay(exact["curve_losses"][:, 0]), _decay(sampled["curve_losses"][:, 0])])
    slower = np.array([1, 1 - (PUBLISHED.triggers - 1) / (2 * BATCH)])
    return Evidence(
        # One percent: the spread of the scales and the walk of their mean, over 150 steps.
        rule=Identity(0.01),
        measured=measured,
        predicted=convergence_rate(PUBLISHED, rate) * slower,
        rivals=[published_rate(PUBLISHED, rate) * slower, rate * slower],
        note=f"decay per step {measured[0]:.5f} exact, {measured[1]:.5f} with batches of {BATCH}",
    )


@family.claim(
    statement="With noise and FA the excess over H2(α) falls like e^{−ηt}, whatever Q and α.",
    source=f"{PAPER}, section 5 (a linear rate); the constant is derived here",
    rule=Identity,
    status="derived here",
    rivals={"η/√Q": "the rate of a task without noise", "(1−α) η": "a rate that knows the noise"},
    cases=by_budget({"η=0.1": 0.1, "η=0.5": 0.5}),
)
def noisy_rate_constant(rate: float, budget: Budget, seed: int) -> Any:
    trained = yield TrainReasoner(
        task=NOISY,
        model="Reparam-Relu-FA",
        # The excess stays above 1e-7, ten million times the rounding of the loss.
        training=normalized_descent(rate, round(20 / rate)),
        data="expected counts",
        noise_levels=NOISE_LEVELS,
        seed=seed,
    )
    measured = [
        _decay(trained["curve_losses"][:, run], bayes_risk(replace(NOISY, noise=noise)))
        for run, noise in enumerate(NOISE_LEVELS)
    ]
    return Evidence(
        rule=Identity(1e-5),
        measured=measured,
        predicted=np.full(3, convergence_rate(NOISY, rate)),
        rivals=[np.full(3, rate / math.sqrt(NOISY.triggers)), (1 - np.array(NOISE_LEVELS)) * rate],
    )


@family.claim(
    statement="The rate scales with the number of triggers as Q^(−1/2).",
    source="derived here; " + PAPER + " has Q⁻¹ in its main text",
    rule=Rate,
    status="corrected",
    published="Theorem 3.2 in the main text: a scale of η t/Q.",
    rivals={"published scale": "Q⁻¹", "published loss bound": "Q⁰"},
    cases=by_budget({"Q=1…32, N=60": 60}, {"Q=1…32, N=200": 200}),
)
def rate_against_triggers(vocab_size: int, budget: Budget, seed: int) -> Any:
    triggers = [1, 2, 3, 5, 8, 13, 21, 32]
    results = yield [
        TrainReasoner(
            task=ReasoningTask(vocab_size, 256, count),
            model="Reparam-Linear-FA",
            training=normalized_descent(0.5, round(40 * math.sqrt(count))),
            data="expected counts",
            seed=seed,
        )
        for count in triggers
    ]
    rates = [_decay(result["curve_losses"][:, 0]) for result in results]
    return Evidence(
        rule=Rate(0.02),
        measured=(triggers, rates),
        predicted=-0.5,
        rivals=[-1.0, 0.0],
    )


@family.claim(
    statement="Batches slow the mean scale to (η/√Q) (1 − (Q−1)/(2B)) per step.",
    source="derived here",
    rule=Expectation,
    status="derived here",
    rivals={"no batch noise": "η/√Q", "twice the correction": "(η/√Q) (1 − (Q−1)/B)"},
    cases=by_budget({"B=512": BATCH}, {"B=128": 128}),
)
def batch_noise_slows(batch: int, budget: Budget, seed: int) -> Generator[Any, Any, Evidence]:
    trained = yield TrainReasoner(
        task=PUBLISHED,
        model="Reparam-Linear-FA",
        training=normalized_descent(0.1, 300, record_every=300),
        data="label counts",
        batch=batch,
        seeds=32,
        seed=seed,
    )
    speeds = trained["scales"][-1].mean(axis=1) / 300 / convergence_rate(PUBLISHED, 0.1)
    correction = (PUBLISHED.triggers - 1) / (2 * batch)
    return Evidence(
        # In units of the correction itself: a fifth covers the next order and five standard errors.
        rule=Expectation(0.2, scale=correction, draws_per_batch=300 * batch),
        measured=speeds,
        predicted=1 - correction,
        rivals=[1.0, 1 - 2 * correction],
    )
