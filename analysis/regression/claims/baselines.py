"""Claims about the textbook predictors: their exact risks, and the Bayes risk below which nobody goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.regression import family
from plumbline.analysis.regression.cases import random_task, rotated_task
from plumbline.analysis.regression.claims.multi_step import DepthCase, train_layers
from plumbline.analysis.regression.jobs import SampledRisk
from plumbline.analysis.verdict import BoundForAll, Expectation
from plumbline.theory.regression import (
    RegressionTask,
    bayes_risk,
    gradient_descent_optimum,
    gradient_descent_risk,
    least_squares_risk,
    multi_step_risk,
    ridge_risk,
    zero_predictor_risk,
)


@dataclass(frozen=True)
class BaselineCase:
    """A task and a textbook predictor with its parameters."""

    task: RegressionTask
    predictor: str
    step_sizes: tuple[float, ...] = ()
    penalty: float | None = None

    def exact_risk(self) -> float:
        d, n = self.task.dim, self.task.context_length
        if self.predictor == "gradient descent":
            return gradient_descent_risk(self.step_sizes[0], len(self.step_sizes), self.task)
        if self.predictor == "preconditioned gradient descent":
            return multi_step_risk(self.step_sizes, d, n)
        if self.predictor == "least squares":
            return least_squares_risk(self.task)
        return ridge_risk(self.task, self.penalty).value


def _baselines(budget: Budget) -> dict[str, BaselineCase]:
    rotated = rotated_task(8)
    noisy = random_task(4, 12, 81, noise_variance=1.0)
    cases = {
        "three steps of GD, rotated, n=8": BaselineCase(
            rotated, "gradient descent", tuple(gradient_descent_optimum(3, rotated).step_sizes)
        ),
        "two steps of preconditioned GD, n=8": BaselineCase(rotated, "preconditioned gradient descent", (0.4, 0.9)),
        "least squares, n=3 < d=5": BaselineCase(RegressionTask(5, 3), "least squares"),
        "least squares, noise": BaselineCase(noisy, "least squares"),
        "ridge, noise": BaselineCase(replace(noisy, context_length=5), "ridge", penalty=0.3),
    }
    if budget is not Budget.QUICK:
        short = replace(noisy, context_length=4)
        cases["GD, noise, any covariance"] = BaselineCase(short, "gradient descent", (0.2, 0.2))
    return cases


@family.claim(
    statement="Gradient descent, preconditioned gradient descent, least squares and ridge, run in context, have the "
    "closed-form risks of this package.",
    source="classical; exact finite (d, n) values of the descents derived here",
    rule=Expectation,
    status="derived here",
    rivals={
        "one example dropped": "the risk with n − 1 examples: what the published notebooks' baselines compute, because "
        "their slice loses the last example"
    },
    cases=_baselines,
)
def textbook_risks(case: BaselineCase, budget: Budget, seed: int) -> Any:
    draws = 4000 if budget is Budget.QUICK else 12_000
    sampled = yield SampledRisk(
        task=case.task,
        predictor=case.predictor,  # type: ignore[arg-type]
        step_sizes=case.step_sizes,
        penalty=case.penalty,
        batches=32,
        draws=draws,
        seed=seed,
    )
    dropped = replace(case, task=replace(case.task, context_length=case.task.context_length - 1))
    return Evidence(
        # A hundredth of the zero predictor's risk; a dropped example moves these risks by two hundredths or more.
        rule=Expectation(0.01, scale=zero_predictor_risk(case.task), draws_per_batch=draws),
        measured=sampled["batch_means"],
        predicted=case.exact_risk(),
        rivals=[dropped.exact_risk()],
    )


@family.claim(
    statement="With label noise no trained linear transformer goes below the Bayes risk.",
    source="classical (ridge is the posterior mean for Gaussian w); exact value derived here",
    rule=BoundForAll,
    status="as published",
    rivals={"forty times the noise": "the Bayes risk at σ² = 4 instead of 0.1: a bound that is too high"},
    cases=by_budget({"L=1…4, σ²=0.1": RegressionTask(5, 20, noise_variance=0.1)}),
)
def bayes_bound(task: RegressionTask, budget: Budget, seed: int) -> Any:
    trained = yield [train_layers(DepthCase(task, layers), seed, starts=4) for layers in (1, 2, 3, 4)]
    bound = bayes_risk(task)
    risks = np.concatenate([result["risks"] for result in trained])
    return Evidence(
        rule=BoundForAll("lower", numerical_error=1e-6 + bound.error / bound.value),
        measured=risks,
        predicted=bound.value,
        rivals=[bayes_risk(replace(task, noise_variance=4.0)).value],
        note=f"Bayes risk {bound.value:.4g}, best trained {risks.min():.4g}",
    )
