"""Claims about a free value block: GD++, its bound, and the rare events that samples do not see."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.regression import family
from plumbline.analysis.regression.cases import rotated_task
from plumbline.analysis.regression.claims.multi_step import STATIONARY, DepthCase, train_layers
from plumbline.analysis.regression.jobs import RareEventRisk, TrainLinearTransformer
from plumbline.analysis.verdict import BoundForAll, Expectation, GlobalMinimum, Runs
from plumbline.models.training import Training
from plumbline.theory.regression import (
    RegressionTask,
    degree_bound,
    gd_plus_plus_optimum,
    gd_plus_plus_risk,
    multi_step_optimum,
    zero_predictor_risk,
)
from plumbline.theory.regression.gd_plus_plus import residual_polynomial

PUBLISHED_THREE_LAYERS = {"step_sizes": (0.38, 2.40, 9.54), "shrinkages": (0.904, 0.566)}
"""Whitened weights that the published notebook of the rotated task (three layers, Adam) ends with."""
GD_PLUS_PLUS_STARTS = 12
"""Most starts reach the optimum, some a local minimum; at 0.7 each, twelve starts without success refute at 6e-7."""
PUBLISHED_LOSS = 0.0007
"""The loss that notebook reports for them, a mean over sampled prompts (0.000697 and 0.000725)."""


@family.claim(
    statement="Two layers with a free value block reach the GD++ optimum, a sixth of the zero value block's risk, and "
    "no run goes below it.",
    source="Ahn, Cheng, Daneshmand, Sra 2023 (2306.00297), Theorem 4; von Oswald et al. 2023 (2212.07677); the exact "
    "risk is derived here",
    rule=GlobalMinimum,
    status="derived here",
    rivals={
        "zero value block": "the value block does not help: the optimum of two plain steps",
        "degree bound": "every polynomial of degree 4 is available, not only GD++'s",
    },
    cases=by_budget(
        {"L=2, n=20, d=5": DepthCase(RegressionTask(5, 20), 2)}, {"L=2, rotated": DepthCase(rotated_task(), 2)}
    ),
)
def gd_plus_plus_two_layers(case: DepthCase, budget: Budget, seed: int) -> Any:
    trained = yield train_layers(case, seed, starts=GD_PLUS_PLUS_STARTS, value_block="free")
    d, n, zero = case.task.dim, case.task.context_length, zero_predictor_risk(case.task)
    optimum = gd_plus_plus_optimum(2, d, n)
    error = 1e-9 + 6 * float(np.max(trained["risk_errors"])) / zero
    return Evidence(
        # The degree bound lies 5e-4 of the scale below: the margin is a tenth of that.
        rule=GlobalMinimum(5e-5, trivial=zero, numerical_error=error, tolerance_stationary=STATIONARY, attained=0.7),
        measured=Runs(trained["risks"], trained["residuals"]),
        predicted=optimum.loss,
        rivals=[multi_step_optimum(2, d, n).loss, optimum.lower_bound],
    )


@family.claim(
    statement="Three layers with a free value block, trained on a sample, meet the GD++ optimum of that sample, not "
    "that of the population.",
    source="Ahn, Cheng, Daneshmand, Sra 2023 (2306.00297), experiments; the gap is derived here",
    rule=GlobalMinimum,
    status="corrected",
    published="The notebooks report the mean loss of some 20,000 prompts as that of the trained weights.",
    rivals={
        "population optimum": "training on a sample finds the minimum of the population risk",
        "zero value block": "three plain steps, on the same sample",
    },
    cases=by_budget({"L=3, n=10, d=2": RegressionTask(2, 10)}, {"L=3, n=20, d=5": RegressionTask(5, 20)}),
)
def gd_plus_plus_three_layers(task: RegressionTask, budget: Budget, seed: int) -> Any:
    from plumbline.models.regression import wishart_design

    samples = {Budget.QUICK: 50, Budget.STANDARD: 50, Budget.PAPER: 2000}[budget]
    job = TrainLinearTransformer(
        task=task,
        layers=3,
        value_block="free",
        objective="symmetrised sample",
        samples=samples,
        training=Training(optimizer="lbfgs", steps=3000, tolerance=1e-6),
        init_scale=0.05,
        runs=2,
        seed=seed,
        exact_risk=False,
    )
    trained = yield job
    wisharts, _ = wishart_design(task, samples, degree=0, seed=seed)
    eigenvalues = np.linalg.eigvalsh(wisharts.numpy())
    loss, a, b = sample_optimum(eigenvalues, layers=3)
    plain, _, _ = sample_optimum(eigenvalues, layers=3, free=False)
    population = gd_plus_plus_optimum(3, task.dim, task.context_length)
    exact = gd_plus_plus_risk(a, b, task.dim, task.context_length)
    on_sample = float(
        (residual_polynomial(population.step_sizes, population.shrinkages, eigenvalues) ** 2).sum(-1).mean()
    )
    return Evidence(
        rule=GlobalMinimum(
            # A thousandth of what the third layer gains over plain steps on this sample.
            1e-3,
            trivial=plain,
            numerical_error=1e-6,
            tolerance_stationary=1e-4,
            attained=None,
        ),
        measured=Runs(trained["losses"], trained["residuals"]),
        predicted=loss,
        rivals=[on_sample, plain],
        note=f"sampled loss {loss:.3g}; exact population risk of the same weights {exact:.3g}",
    )


def sample_optimum(eigenvalues: np.ndarray, *, layers: int, free: bool = True) -> tuple[float, np.ndarray, np.ndarray]:
    """Best scalar network on a sample of Wisharts with these eigenvalues (draws, d): loss, step sizes, shrinkages."""
    from scipy.optimize import least_squares  # half a second, which a listing of the claims does not need

    t = eigenvalues.ravel()
    scale = np.sqrt(1 / len(eigenvalues))
    rng = np.random.default_rng(0)

    def residuals(x: np.ndarray) -> np.ndarray:
        return scale * residual_polynomial(x[:layers], x[layers:], t)

    fits = []
    for _ in range(12):
        a = 0.4 * (3.0 if free else 2.0) ** np.arange(layers) * np.exp(0.3 * rng.normal(size=layers))
        b = rng.uniform(0.3, 1.0, size=layers - 1 if free else 0)
        fits.append(least_squares(residuals, np.r_[a, b], method="lm", max_nfev=2000))
    best = min(fits, key=lambda fit: fit.cost)
    return 2 * float(best.cost), best.x[:layers], best.x[layers:]


@family.claim(
    statement="The scalars that the published three-layer notebook prints for its final weights have population risk "
    "0.0578 (0.034 to 0.098 within their last digits); the loss of 0.0007 it reports is what a sample shows, because "
    "events of probability below 1e-7 carry the expectation.",
    source="published notebook of the rotated task beside Ahn et al. 2023 (2306.00297); exact risk derived here",
    rule=Expectation,
    status="corrected",
    published="The notebook reports a loss of 0.0007 for these weights.",
    rivals={"reported loss": "the loss of 0.0007 that the notebook reports"},
    cases=by_budget({"published weights, n=20, d=5": PUBLISHED_THREE_LAYERS}),
)
def published_three_layer_loss(weights: dict[str, tuple[float, ...]], budget: Budget, seed: int) -> Any:
    batches, draws = {Budget.QUICK: (32, 1000), Budget.STANDARD: (64, 2000), Budget.PAPER: (64, 20_000)}[budget]
    sampled = yield RareEventRisk(**weights, dim=5, context_length=20, batches=batches, draws=draws, seed=seed)
    exact = gd_plus_plus_risk(**weights, dim=5, context_length=20)
    plain = sampled["plain"]
    error = plain.std(ddof=1) / np.sqrt(len(plain))
    return Evidence(
        # Importance sampling has a standard error of about 1 %; the reported loss is off by 99 %.
        rule=Expectation(0.1, scale=exact, draws_per_batch=draws),
        measured=sampled["weighted"],
        predicted=exact,
        rivals=[PUBLISHED_LOSS],
        note=f"plain sampling of the same weights: {plain.mean():.2g} ± {error:.1g}",
    )


@family.claim(
    statement="No network of L scalar layers has a risk below d λ_k(0), the Christoffel bound of its degree "
    "k = (3^L − 1)/2.",
    source="derived here",
    rule=BoundForAll,
    status="derived here",
    rivals={"one degree less": "the bound of degree k − 1", "ten percent higher": "1.1 times the bound"},
    cases=by_budget(
        # d/n = 1/2: there two layers come within 3 % of their bound, so that a wrong bound shows.
        {"d=5, n=10": (5, 10)},
        {"d=5, n=20": (5, 20), "d=2, n=2": (2, 2)},
    ),
)
def christoffel_bound(case: tuple[int, int], budget: Budget, seed: int) -> Any:
    d, n = case
    trained = yield train_layers(DepthCase(RegressionTask(d, n), 2), seed, starts=2, value_block="free")
    rng = np.random.default_rng(seed)
    tries: list[tuple[int, float]] = [(2, risk) for risk in trained["risks"]]
    for layers in (1, 2, 3):
        # Gradient search: every local minimum that Levenberg-Marquardt finds.
        found = gd_plus_plus_optimum(layers, d, n, starts=20, seed=seed)
        tries += [(layers, float(loss)) for loss in found.minima]
        for _ in range(200):
            a = found.step_sizes * np.exp(0.2 * rng.normal(size=layers))
            b = found.shrinkages * np.exp(0.2 * rng.normal(size=layers - 1))
            tries.append((layers, gd_plus_plus_risk(a, b, d, n)))

    def bounds(less: int) -> np.ndarray:
        return np.array([float(degree_bound((3**layers - 1) // 2 - less, d, n)) for layers, _ in tries])

    return Evidence(
        # Trained weights are scalar to 1e-6 relative; their risk is known to far better than 1e-5 of the bound.
        rule=BoundForAll("lower", numerical_error=1e-5),
        measured=np.array([risk for _, risk in tries]),
        predicted=bounds(0),
        rivals=[bounds(1), 1.1 * bounds(0)],
    )
