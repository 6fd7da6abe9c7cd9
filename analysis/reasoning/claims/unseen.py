"""Outputs that never were a label: who generalises to them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.reasoning import family
from plumbline.analysis.reasoning.cases import NOISE_LEVELS, NOISY, PAPER, PUBLISHED, ModelCase
from plumbline.analysis.reasoning.jobs.reasoner import TrainReasoner, normalized_descent
from plumbline.analysis.reasoning.published import training
from plumbline.analysis.verdict import BoundForAll, Identity
from plumbline.theory.reasoning import ReasoningTask, bayes_risk, normalized_gd_curve, unseen_output_bound


@family.claim(
    statement="Reparameterised linear and ReLU models answer unseen outputs like trained ones: at every step their "
    "unseen-output loss is the population loss.",
    source=f"{PAPER}, Theorems 3.3 and 5.5",
    rule=Identity,
    status="as published",
    rivals={
        "no generalisation": "the bound of unconstrained models",
        "one step late": "the loss one step earlier",
    },
    cases=by_budget(
        {
            "linear FA": ModelCase(NOISY, "Reparam-Linear-FA"),
            "ReLU F": ModelCase(NOISY, "Reparam-Relu-F"),
            "linear, no noise": ModelCase(PUBLISHED, "Reparam-Linear-FA", 0.5),
        },
        {"ReLU FA": ModelCase(NOISY, "Reparam-Relu-FA", 0.5)},
    ),
)
def reparameterised_generalise(case: ModelCase, budget: Budget, seed: int) -> Any:
    noisy = bool(case.task.noise)
    levels = NOISE_LEVELS if noisy else (0.0,)
    # F only up to its optimum: beyond it the step depends on the batch.
    steps = 25 if noisy and case.layer.feed_forward == "F" else 120
    trained = yield TrainReasoner(
        task=case.task,
        model=case.model,
        training=normalized_descent(case.learning_rate, steps, record_every=5),
        data="expected counts",
        noise_levels=levels,
        test=128,
        seed=seed,
    )
    tasks = [replace(case.task, noise=noise) for noise in levels]

    def curves(shift: int = 0) -> np.ndarray:
        places = np.maximum(trained["curve_steps"] - shift, 0)
        predicted = [normalized_gd_curve(task, steps, case.learning_rate, case.layer).losses for task in tasks]
        return np.stack(predicted, axis=1)[places]

    bounds = np.array([[unseen_output_bound(task).loss for task in tasks]])
    return Evidence(
        # The offset of ReLU attention moves logits by H times 1e-8; rounding is far below.
        rule=Identity(1e-5),
        measured=trained["unseen"],
        predicted=curves(),
        rivals=[np.broadcast_to(bounds, trained["unseen"].shape), curves(1)],
    )


@family.claim(
    statement="No unconstrained model generalises: trained from zero by any number of normalised steps, it gives an "
    "unseen output at most the probability 1/N that it had untrained, with linear attention 1/(N − |labels|). For all "
    "tokens that never were a label have the same rows in V and F, and the logits sum to zero.",
    source=f"derived here; {PAPER} shows it in its figures only",
    rule=BoundForAll,
    status="derived here",
    rivals={
        "learning by elimination": "at most 1/(2N): unseen outputs always below chance",
        "ten percent more": "a loss of at least 1.1 log N",
    },
    cases=by_budget(
        {
            "ReLU FA, no noise": ModelCase(PUBLISHED, "Origin-Relu-FA"),
            "softmax F, noise": ModelCase(NOISY, "Origin-Softmax-F", 0.5),
            "linear FA, noise": ModelCase(NOISY, "Origin-Linear-FA"),
        },
        {
            "softmax FA, no noise": ModelCase(PUBLISHED, "Origin-Softmax-FA", 0.5),
            "ReLU F, noise": ModelCase(NOISY, "Origin-Relu-F"),
            "linear F, no noise": ModelCase(PUBLISHED, "Origin-Linear-F"),
        },
    ),
)
def unconstrained_do_not_generalise(case: ModelCase, budget: Budget, seed: int) -> Any:
    trained = yield training(case.model, case.learning_rate, budget, seed, noise=bool(case.task.noise))
    losses, task = trained["unseen_output"].ravel(), case.task
    bound = unseen_output_bound(task, attention=case.layer.attention).output_loss
    return Evidence(
        # Sums of logits of a few tens in float64; untrained models sit at log N, exactly on the bound.
        rule=BoundForAll("lower", numerical_error=1e-9),
        measured=losses,
        predicted=bound,
        rivals=[bound + math.log(2), 1.1 * math.log(task.vocab_size)],
        note=f"smallest unseen-output loss after training {trained['unseen_output'][-1].min():.3f}, log N = "
        f"{math.log(task.vocab_size):.3f}",
    )


@family.claim(
    statement="The logits of an unconstrained model sum to zero on every sentence, at every step of training.",
    source="derived here",
    rule=Identity,
    status="derived here",
    rivals={"any sum": "a mean logit of one"},
    cases=by_budget(
        {"ReLU FA, no noise": ModelCase(PUBLISHED, "Origin-Relu-FA")},
        {"softmax FA, no noise": ModelCase(PUBLISHED, "Origin-Softmax-FA", 0.5)},
    ),
)
def unconstrained_logits_sum_to_zero(case: ModelCase, budget: Budget, seed: int) -> Any:
    trained = yield training(case.model, case.learning_rate, budget, seed, noise=bool(case.task.noise))
    sums = trained["logit_sums"].ravel()
    return Evidence(
        # Rounding of N logits of some tens.
        rule=Identity(1e-10, scale=float(case.task.vocab_size)),
        measured=sums,
        predicted=np.zeros_like(sums),
        rivals=[np.full_like(sums, case.task.vocab_size)],
    )


@family.claim(
    statement="Models that train W alone stand in between: their unseen-output loss falls below what any unconstrained "
    "model can reach, and stays above the Bayes risk.",
    source=f"{PAPER}, figures 1 and 2 (observation)",
    rule=BoundForAll,
    status="as published",
    rivals={
        "as good as reparameterised": "within 0.05 of the Bayes risk on unseen outputs",
        "ReLU and linear alike": "the midpoint between the Bayes risk and the loss of linear attention",
    },
    cases=by_budget({"noise": NOISY}),
)
def trained_attention_in_between(task: ReasoningTask, budget: Budget, seed: int) -> Any:
    def job(model: str) -> TrainReasoner:
        quick = budget is Budget.QUICK
        return TrainReasoner(
            task=task,
            model=model,
            training=normalized_descent(0.1, 200 if quick else 400, record_every=20),
            batch=256 if quick else 512,
            noise_levels=(0.2, 0.5),
            test=256,
            seed=seed,
        )

    linear, relu = yield [job("Reparam-Linear-W-FA"), job("Reparam-Relu-W-FA")]
    tasks = [replace(task, noise=noise) for noise in (0.2, 0.5)]
    floor = np.array([bayes_risk(t) for t in tasks])
    best = np.array([unseen_output_bound(t, attention="linear").loss for t in tasks])
    ends = np.concatenate([linear["unseen"][-1], relu["unseen"][-1]])
    return Evidence(
        rule=BoundForAll("upper", numerical_error=1e-9),
        measured=ends,
        predicted=np.tile(best, 2),
        rivals=[np.tile(floor + 0.05, 2), np.tile((floor + linear["unseen"][-1]) / 2, 2)],
        note=f"unseen-output loss at α = 0.2, 0.5: linear {ends[:2].round(3).tolist()}, ReLU "
        f"{ends[2:].round(3).tolist()}, Bayes {floor.round(3).tolist()}, unconstrained at best "
        f"{best.round(3).tolist()}",
    )
