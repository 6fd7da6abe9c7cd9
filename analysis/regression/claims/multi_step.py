"""Claims about several layers with zero value block: optimal multi-step preconditioned gradient descent."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.regression import family
from plumbline.analysis.regression.cases import rotated_task
from plumbline.analysis.regression.jobs.linear_transformer import TrainLinearTransformer, whitened_step_sizes
from plumbline.analysis.verdict import AtMost, BoundExists, BoundForAll, Convergence, GlobalMinimum, Rate, Runs
from plumbline.models.training import Training
from plumbline.theory.regression import (
    RegressionTask,
    gradient_descent_optimum,
    looped_optimum,
    looped_rotation_curvature,
    multi_step_limit,
    multi_step_optimum,
    multi_step_risk,
    noisy_multi_step_optimum,
    noisy_multi_step_risk,
    spectral_quadrature,
    zero_predictor_risk,
)

AHN_DEPTH = "Ahn, Cheng, Daneshmand, Sra 2023 (2306.00297), Theorem 3"
STATIONARY = 1e-6
# From four layers on, small starts can still end in a non-scalar local minimum: the claims are about half of the
# starts. With 20 of them four failures leave CONSISTENT within reach, and no success refutes at 1e-6: the level of one
# case in a catalogue of a thousand.
FRACTION = 0.5
STARTS = {Budget.QUICK: 20, Budget.STANDARD: 24, Budget.PAPER: 50}
# The scalar optimum of the weighted design is that of the population, so that converged runs are at rounding distance;
# the margins are set by the nearest rival instead.
LOSS_MARGIN, STEP_MARGIN = 1e-4, 1e-3
SHORT_CONTEXT = "no rotation lowers the loss (short contexts)"
GAINED = 1e-3  # of the loss, by leaving the multiples of Σ⁻¹: far above rounding, below what all cases show


@dataclass(frozen=True)
class DepthCase:
    """A task and a number of layers."""

    task: RegressionTask
    layers: int


def train_layers(
    case: DepthCase, seed: int, *, starts: int, value_block: str = "zero", looped: bool = False
) -> TrainLinearTransformer:
    """Train on the weighted design, from small starts (larger ones end in non-scalar local minima more often)."""
    return TrainLinearTransformer(
        task=case.task,
        layers=case.layers,
        value_block=value_block,  # type: ignore[arg-type]
        looped=looped,
        objective="population" if case.layers == 1 else "design",
        samples=12 if case.layers == 2 and value_block == "zero" else 25,
        training=Training(optimizer="lbfgs", steps=1000, tolerance=1e-7),
        init_scale=0.002 if value_block == "zero" else 0.05,
        runs=starts,
        seed=seed,
    )


def scalar_loop_is_stable(task: RegressionTask, layers: int) -> bool:
    """Whether no rotation lowers the loss of the best looped A = a Σ⁻¹; one dimension has none."""
    return task.dim == 1 or looped_rotation_curvature(layers, task.dim, task.context_length) > 0


def best_of(layers: int, budget: Budget) -> int:
    """Starts where only the best one counts: those trained for `multi_step_loss` anyway, or a few."""
    return STARTS[budget] if layers < 4 or budget is not Budget.QUICK else 3


def depth_cases(budget: Budget) -> dict[str, DepthCase]:
    cases = {f"L={layers}, n=20, d=5": DepthCase(RegressionTask(5, 20), layers) for layers in (1, 2, 3)}
    cases |= {"L=4, n=12, d=3": DepthCase(RegressionTask(3, 12), 4), "L=2, rotated": DepthCase(rotated_task(), 2)}
    if budget is not Budget.QUICK:
        cases |= {"L=4, n=20, d=5": DepthCase(RegressionTask(5, 20), 4), "L=3, rotated": DepthCase(rotated_task(), 3)}
        cases |= {f"L={layers}, n=4, d=3": DepthCase(RegressionTask(3, 4), layers) for layers in (2, 3)}
    return cases


def loss_rule(case: DepthCase, trained: Any) -> GlobalMinimum:
    zero = zero_predictor_risk(case.task)
    # The risk of nearly scalar weights has a standard error (control variate) far below the margin: six of them.
    error = 1e-9 + 6 * float(np.max(trained["risk_errors"])) / zero
    return GlobalMinimum(
        LOSS_MARGIN, trivial=zero, numerical_error=error, tolerance_stationary=STATIONARY, attained=FRACTION
    )


@family.claim(
    statement="The trained L-layer transformer with zero value block has the risk d λ_L(0), the Christoffel function "
    "at 0 of the expected Wishart spectrum, and no run goes below it.",
    source=AHN_DEPTH + " (critical points); the value is derived here",
    rule=GlobalMinimum,
    status="derived here",
    rivals={
        "one step fewer": "the optimum of L − 1 steps",
        "one step more": "the optimum of L + 1 steps",
        "Marchenko-Pastur": "the limit n, d → ∞ at the same d/n, as if the task were large",
    },
    cases=depth_cases,
)
def multi_step_loss(case: DepthCase, budget: Budget, seed: int) -> Any:
    trained = yield train_layers(case, seed, starts=STARTS[budget])
    d, n = case.task.dim, case.task.context_length
    zero = zero_predictor_risk(case.task)
    fewer = multi_step_optimum(case.layers - 1, d, n).loss if case.layers > 1 else zero
    return Evidence(
        rule=loss_rule(case, trained),
        measured=Runs(trained["risks"], trained["residuals"]),
        predicted=multi_step_optimum(case.layers, d, n).loss,
        rivals=[
            fewer,
            multi_step_optimum(case.layers + 1, d, n).loss,
            zero * multi_step_limit(case.layers, d / n).loss,
        ],
    )


@family.claim(
    statement="Its layers are a_l Σ⁻¹ in any order, 1/a_l the zeros of the degree-L orthogonal polynomial of t dμ.",
    source=AHN_DEPTH + " (form of the critical points); the step sizes are derived here",
    rule=Convergence,
    status="derived here",
    rivals={
        "zeros of μ": "reciprocals of the zeros of the orthogonal polynomial of μ, not of t dμ",
        "Marchenko-Pastur": "the step sizes of the limit n, d → ∞",
        "equal step sizes": "the looped optimum",
    },
    # In three dimensions four layers often end in a non-scalar local minimum: their step sizes are checked in five.
    cases=lambda budget: {
        label: case for label, case in depth_cases(budget).items() if case.layers > 1 and label != "L=4, n=12, d=3"
    },
)
def multi_step_step_sizes(case: DepthCase, budget: Budget, seed: int) -> Any:
    trained = yield train_layers(case, seed, starts=STARTS[budget])
    d, n, layers = case.task.dim, case.task.context_length, case.layers
    sizes, rest = whitened_step_sizes(trained["key_query"], case.task)

    def prediction(step_sizes: np.ndarray) -> np.ndarray:
        return np.r_[np.sort(step_sizes), 0.0]  # nothing beside the multiples of Σ⁻¹

    return Evidence(
        rule=Convergence(STEP_MARGIN, tolerance_stationary=STATIONARY, fraction=FRACTION),
        measured=Runs(np.c_[sizes, rest], trained["residuals"]),
        predicted=prediction(multi_step_optimum(layers, d, n).step_sizes),
        rivals=[
            prediction(1 / spectral_quadrature(layers, d, n).nodes),
            prediction(multi_step_limit(layers, d / n).step_sizes),
            prediction(looped_optimum(layers, d, n).step_sizes),
        ],
    )


@family.claim(
    statement="In short contexts a looped transformer (all layers equal) learns A = a Σ⁻¹ with a minimising "
    "∫ (1 − a t)^{2L} dμ.",
    source="Gatmiry et al. 2024 (2410.08292); the exact step size is derived here",
    rule=GlobalMinimum,
    status="derived here",
    conditions={SHORT_CONTEXT: lambda case: scalar_loop_is_stable(case.task, case.layers)},
    rivals={
        "free layers": "the optimum with a step size of its own for each layer",
        "one-step size looped": "the one-layer optimum repeated L times",
    },
    cases=by_budget(
        {f"L={layers}, n=20, d=5": DepthCase(RegressionTask(5, 20), layers) for layers in (2, 3)},
        {"L=3, rotated": DepthCase(rotated_task(), 3), "L=2, n=4, d=3": DepthCase(RegressionTask(3, 4), 2)},
    ),
)
def looped_loss(case: DepthCase, budget: Budget, seed: int) -> Any:
    trained = yield train_layers(case, seed, starts=STARTS[budget], looped=True)
    d, n, layers = case.task.dim, case.task.context_length, case.layers
    one = multi_step_optimum(1, d, n).step_sizes
    return Evidence(
        rule=loss_rule(case, trained),
        measured=Runs(trained["risks"], trained["residuals"]),
        predicted=looped_optimum(layers, d, n).loss,
        rivals=[multi_step_optimum(layers, d, n).loss, multi_step_risk(np.repeat(one, layers), d, n)],
    )


@family.claim(
    statement="In long contexts a looped transformer does better than with any A = a Σ⁻¹: at the best of these the "
    "curvature along rotations is negative, and trained weights have an antisymmetric part.",
    source="derived here",
    rule=BoundExists,
    status="derived here",
    rivals={"scalars are best": "nothing goes below the best multiple of Σ⁻¹, as in short contexts"},
    conditions={
        "a rotation lowers the loss (long contexts)": lambda case: not scalar_loop_is_stable(case.task, case.layers)
    },
    cases=by_budget(
        {
            "L=2, n=50, d=3": DepthCase(RegressionTask(3, 50), 2),
            "L=2, n=200, d=2": DepthCase(RegressionTask(2, 200), 2),
        },
        {
            "L=3, n=60, d=3": DepthCase(RegressionTask(3, 60), 3),
            "L=2, n=150, d=5": DepthCase(RegressionTask(5, 150), 2),
        },
    ),
)
def looped_rotations(case: DepthCase, budget: Budget, seed: int) -> Any:
    # A hundred draws: on fewer, what is best for the sample is not scalar even where the population is.
    trained = yield replace(train_layers(case, seed, starts=4, looped=True), samples=100)
    best = looped_optimum(case.layers, case.task.dim, case.task.context_length).loss
    # Weights that are not scalar have a risk with a standard error: six of them to be sure.
    gained = (best - trained["risks"] - 6 * np.asarray(trained["risk_errors"])) / best
    return Evidence(
        rule=BoundExists(),
        measured=gained,
        predicted=GAINED,
        rivals=[AtMost(0.0)],
        note=f"at least {100 * gained.max():.2g} % below the best multiple of Σ⁻¹",
    )


@family.claim(
    statement="L ≥ 2 trained layers do better, by at least 1 %, than L steps of gradient descent at its best step size "
    "and of preconditioned gradient descent at its best; one layer is as good as one step.",
    source="Ahn, Cheng, Daneshmand, Sra 2023 (2306.00297), Section 4; exact values derived here",
    rule=BoundForAll,
    status="as published",
    rivals={"one layer more than steps": "L layers are as good as the best L + 1 steps of their own kind"},
    cases=by_budget({"L=1…4, n=20, d=5": RegressionTask(5, 20)}),
)
def depth_beats_gradient_descent(task: RegressionTask, budget: Budget, seed: int) -> Any:
    depths = [1, 2, 3, 4]
    trained = yield [train_layers(DepthCase(task, layers), seed, starts=best_of(layers, budget)) for layers in depths]
    measured = np.array([result["risks"].min() for result in trained])
    d, n = task.dim, task.context_length
    plain = np.array([gradient_descent_optimum(layers, task).loss for layers in depths])
    # From two layers on even the best equal preconditioned steps are beaten; at one layer they are the optimum.
    looped = np.array([looped_optimum(layers, d, n).loss for layers in depths])
    bounds = np.minimum(plain, looped)
    # "Strictly": at least 1 % below, except at L = 1, where the two coincide for the whitened descent.
    strict = np.where(np.array(depths) > 1, 0.99, 1 + 1e-6) * bounds
    more = np.array([multi_step_optimum(layers + 1, d, n).loss for layers in depths])
    return Evidence(
        rule=BoundForAll("upper", numerical_error=1e-6),
        measured=measured,
        predicted=strict,
        rivals=[more],
        note="best plain GD: " + ", ".join(f"{loss:.4g}" for loss in plain),
    )


@family.claim(
    statement="Each further layer lowers the trained risk.",
    source="derived here (strict monotonicity of the Christoffel function in the degree)",
    rule=BoundForAll,
    status="derived here",
    rivals={"tenfold": "each further layer lowers the risk tenfold"},
    cases=by_budget({"L=1…4, n=20, d=5": RegressionTask(5, 20)}),
)
def depth_monotonicity(task: RegressionTask, budget: Budget, seed: int) -> Any:
    trained = yield [
        train_layers(DepthCase(task, layers), seed, starts=best_of(layers, budget)) for layers in (1, 2, 3, 4)
    ]
    losses = np.array([result["risks"].min() for result in trained])
    before = np.r_[zero_predictor_risk(task), losses[:-1]]
    return Evidence(
        rule=BoundForAll("upper", numerical_error=1e-9),
        measured=losses,
        predicted=before,
        rivals=[before / 10],
    )


@family.claim(
    statement="As n grows, the risk of L trained layers falls like n^(−L).",
    source="derived here",
    rule=Rate,
    status="derived here",
    rivals={"one power less": "n^(−L+1)", "parametric rate": "n^(−1/2)"},
    cases=by_budget({"L=1": DepthCase(RegressionTask(3, 1), 1), "L=2": DepthCase(RegressionTask(3, 1), 2)}),
)
def depth_rate(case: DepthCase, budget: Budget, seed: int) -> Any:
    # From n = 400 the next order bends the slope by less than 0.03.
    lengths = [400 * 2**k for k in range(8)]
    results = yield [
        train_layers(DepthCase(RegressionTask(case.task.dim, n), case.layers), seed, starts=1) for n in lengths
    ]
    return Evidence(
        rule=Rate(0.08),
        measured=(lengths, [result["risks"][0] for result in results]),
        predicted=-float(case.layers),
        rivals=[-float(case.layers) + 1, -0.5],
    )


@family.claim(
    statement="With label noise the best real step sizes are those of the noisy optimum; where the unconstrained "
    "polynomial has complex zeros they merge, and its lower value is not reached.",
    source="derived here",
    rule=GlobalMinimum,
    status="derived here",
    rivals={
        "noise-free step sizes": "the risk of the step sizes that are best without noise",
        "noise-free value": "the optimum without noise",
        "unconstrained": "where zeros are complex: the unconstrained minimum; elsewhere: 2 % of tr ΨΣ lower",
    },
    cases=by_budget(
        {
            "L=2, σ²=1": DepthCase(RegressionTask(5, 20, noise_variance=1.0), 2),
            "L=2, σ²=5: the two steps merge": DepthCase(RegressionTask(5, 20, noise_variance=5.0), 2),
            "L=3, σ²=0.1, d=3": DepthCase(RegressionTask(3, 12, noise_variance=0.1), 3),
        },
        {"L=2, σ²=1, rotated": DepthCase(rotated_task(noise_variance=1.0), 2)},
    ),
)
def noisy_multi_step_loss(case: DepthCase, budget: Budget, seed: int) -> Any:
    trained = yield train_layers(case, seed, starts=STARTS[budget])
    d, n, noise = case.task.dim, case.task.context_length, case.task.noise_variance
    optimum = noisy_multi_step_optimum(case.layers, d, n, noise)
    clean = multi_step_optimum(case.layers, d, n)
    lower = optimum.loss - 0.02 * zero_predictor_risk(case.task) if optimum.attained else optimum.unconstrained_loss
    return Evidence(
        rule=loss_rule(case, trained),
        measured=Runs(trained["risks"], trained["residuals"]),
        predicted=optimum.loss,
        rivals=[noisy_multi_step_risk(clean.step_sizes, d, n, noise), clean.loss, lower],
    )
