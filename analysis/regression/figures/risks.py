"""Figures of in-context regression: theory as lines, trained transformers as points."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.drawing.data import FigureData, Panel, Series, median_spread
from plumbline.analysis.regression import family
from plumbline.analysis.regression.cases import rotated_task
from plumbline.analysis.regression.claims.baselines import bayes_bound
from plumbline.analysis.regression.claims.gd_plus_plus import (
    GD_PLUS_PLUS_STARTS,
    PUBLISHED_LOSS,
    PUBLISHED_THREE_LAYERS,
    gd_plus_plus_two_layers,
    published_three_layer_loss,
)
from plumbline.analysis.regression.claims.multi_step import (
    DepthCase,
    best_of,
    depth_beats_gradient_descent,
    multi_step_loss,
    multi_step_step_sizes,
    noisy_multi_step_loss,
    train_layers,
)
from plumbline.analysis.regression.claims.one_step import one_step_preconditioner
from plumbline.analysis.regression.jobs import RareEventRisk, SampledRisk, TrainLinearTransformer
from plumbline.analysis.regression.jobs.linear_transformer import whitened_step_sizes
from plumbline.models.training import Training
from plumbline.theory.regression import (
    RegressionTask,
    bayes_risk,
    gd_plus_plus_optimum,
    gd_plus_plus_risk,
    gradient_descent_optimum,
    least_squares_risk,
    looped_optimum,
    multi_step_limit,
    multi_step_optimum,
    noisy_multi_step_optimum,
    one_step_optimum,
    zero_predictor_risk,
)

SEEDS = 5


@family.figure(
    caption="One layer: trained and predicted preconditioner, and the distance over training.",
    claims={one_step_preconditioner: "rotated covariance, weights N(0, I)"},
)
def preconditioner(budget: Budget, seed: int) -> Any:
    task = one_step_preconditioner.cases(budget)["rotated covariance, weights N(0, I)"]
    trained = yield TrainLinearTransformer(
        task=task,
        training=Training(optimizer="adam", steps=600, learning_rate=0.03, halve_every=150, record_every=5),
        runs=8,
        init_scale=0.5,
        seed=seed,
        snapshots=True,
    )
    best = one_step_optimum(task).preconditioner
    inverse = np.linalg.inv(task.second_moment)
    course = -trained["curve_parameters"]["key_query"][:, :, 0, 0]
    distance = np.linalg.norm(course - best, axis=(2, 3)) / np.linalg.norm(best)
    limit = float(np.abs(best).max())
    return FigureData(
        f"One-step preconditioner, d={task.dim}, n={task.context_length}",
        [
            Panel("trained A (run 1)", matrix=course[-1, 0], limit=limit),
            Panel("predicted A* = [(1+1/n) Σ + (tr Σ/n) I]⁻¹", matrix=best, limit=limit),
            Panel(
                "distance to the prediction",
                [
                    Series("trained, 8 starts", "trained", trained["curve_steps"], **median_spread(distance)),
                    Series(
                        "rival: Σ⁻¹ instead of A*",
                        "rival",
                        trained["curve_steps"],
                        np.full(len(course), np.linalg.norm(inverse - best) / np.linalg.norm(best)),
                    ),
                ],
                xlabel="Adam steps on the exact risk",
                ylabel="|A − A*| / |A*|",
                yscale="log",
            ),
        ],
    )


@family.figure(
    caption="Risk against depth: trained transformers on the exact lines.",
    claims={
        multi_step_loss: ("L=2, rotated", "L=3, rotated"),
        gd_plus_plus_two_layers: "L=2, n=20, d=5",
        depth_beats_gradient_descent: None,
    },
)
def loss_against_depth(budget: Budget, seed: int) -> Any:
    task = rotated_task()
    d, n, depths = task.dim, task.context_length, [1, 2, 3, 4]
    plain = yield [train_layers(DepthCase(task, layers), seed, starts=3) for layers in depths]
    free = yield train_layers(DepthCase(RegressionTask(d, n), 2), seed, starts=GD_PLUS_PLUS_STARTS, value_block="free")
    zero = zero_predictor_risk(task)
    best_free = [gd_plus_plus_optimum(layers, d, n).loss for layers in (1, 2, 3)]
    lines = [
        Series("zero predictor", "trivial", depths, np.full(4, zero)),
        Series(
            "gradient descent, best step", "baseline", depths, [gradient_descent_optimum(k, task).loss for k in depths]
        ),
        Series("preconditioned GD, one step size", "baseline", depths, [looped_optimum(k, d, n).loss for k in depths]),
        Series("zero value block: d λ_L(0)", "theory", depths, [multi_step_optimum(k, d, n).loss for k in depths]),
        Series("GD++: best scalar layers", "theory", depths[:3], best_free),
        Series(
            "rival: Marchenko-Pastur limit", "rival", depths, [zero * multi_step_limit(k, d / n).loss for k in depths]
        ),
        Series("zero value block: trained", "trained", depths, **median_spread([result["risks"] for result in plain])),
        Series("GD++: trained on Σ = I (best start)", "trained", [2], [free["risks"].min()]),
    ]
    return FigureData(
        f"Risk against depth, d={d}, n={n}, rotated covariance",
        [
            Panel("", lines, xlabel="layers L", ylabel="risk E(prediction − w·x)²", yscale="log", xticks=depths),
        ],
    )


@family.figure(
    caption="Risk against context length with three layers, beside three steps of GD.",
    claims={depth_beats_gradient_descent: None, multi_step_loss: "L=3, rotated"},
)
def loss_against_context_length(budget: Budget, seed: int) -> Any:
    lengths = list(range(2, 21, 2))
    tasks = [rotated_task(n) for n in lengths]
    d = tasks[0].dim
    # In the unwhitened frame the last digits take the most steps: a relative gradient of 1e-5 leaves 1e-6 of the loss.
    loose = Training(optimizer="lbfgs", steps=400, tolerance=1e-5)
    trained = yield [
        replace(train_layers(DepthCase(task, 3), seed, starts=SEEDS), training=loose, samples=12) for task in tasks
    ]
    sampled = yield [
        SampledRisk(
            task=task,
            predictor="gradient descent",
            step_sizes=tuple(gradient_descent_optimum(3, task).step_sizes),
            batches=16,
            draws=2000,
            seed=seed,
        )
        for task in tasks
    ]
    means = np.array([result["batch_means"].mean() for result in sampled])
    errors = np.array([2 * result["batch_means"].std(ddof=1) / 4 for result in sampled])
    dropped = [gradient_descent_optimum(3, rotated_task(n - 1)).loss for n in lengths]
    plain = [gradient_descent_optimum(3, task).loss for task in tasks]
    squares = np.array([least_squares_risk(task, whitened=True) for task in tasks])
    lines = [
        Series("zero predictor", "trivial", lengths, np.full(len(lengths), zero_predictor_risk(tasks[0]))),
        Series("GD, 3 steps: exact", "baseline", lengths, plain),
        Series(
            "preconditioned GD, 3 steps: exact", "baseline", lengths, [looped_optimum(3, d, n).loss for n in lengths]
        ),
        Series("least squares (0 from n = d on)", "baseline", lengths, np.where(squares > 0, squares, np.nan)),
        Series("3 layers: exact", "theory", lengths, [multi_step_optimum(3, d, n).loss for n in lengths]),
        Series("rival: published GD baseline, one example dropped", "rival", lengths, dropped),
        Series(
            "3 layers: trained, 5 starts", "trained", lengths, **median_spread([result["risks"] for result in trained])
        ),
        Series("GD, 3 steps: sampled ± 2 s.e.", "trained", lengths, means, means - errors, means + errors),
    ]
    return FigureData(
        "Risk against context length, d=5, three layers with zero value block",
        [Panel("", lines, xlabel="context length n", ylabel="risk", yscale="log", xticks=lengths)],
    )


@family.figure(
    caption="Trained step sizes against the zeros of the orthogonal polynomial.",
    claims={multi_step_step_sizes: ("L=2, n=20, d=5", "L=3, n=20, d=5", "L=4, n=20, d=5")},
)
def step_sizes(budget: Budget, seed: int) -> Any:
    task = RegressionTask(5, 20)
    d, n, depths = task.dim, task.context_length, [1, 2, 3, 4]
    trained = yield [train_layers(DepthCase(task, layers), seed, starts=best_of(layers, budget)) for layers in depths]
    points_x, points_y, zeros_x, zeros_y, rival_y = [], [], [], [], []
    polynomials = []
    t = np.linspace(0, 3, 301)
    for layers, result in zip(depths, trained, strict=True):
        sizes, _ = whitened_step_sizes(result["key_query"], task)
        best = int(np.argmin(result["risks"]))
        points_x += [layers] * layers
        points_y += list(1 / sizes[best])
        optimum = multi_step_optimum(layers, d, n)
        zeros_x += [layers] * layers
        zeros_y += list(1 / optimum.step_sizes)
        rival_y += list(1 / multi_step_limit(layers, d / n).step_sizes)
        polynomials.append(
            Series(f"L={layers}", "theory", t, np.prod(1 - np.multiply.outer(t, optimum.step_sizes), axis=1))
        )
        polynomials.append(Series(f"L={layers}: trained 1/a_l", "trained", np.sort(1 / sizes[best]), np.zeros(layers)))
    return FigureData(
        f"Step sizes and zeros, d={d}, n={n}",
        [
            Panel("residual polynomial p(t) = ∏(1 − a_l t)", polynomials, xlabel="eigenvalue t of V", ylabel="p(t)"),
            Panel(
                "zeros of the orthogonal polynomial of t dμ",
                [
                    Series("rival: Marchenko-Pastur", "rival marks", zeros_x, rival_y),
                    Series("zeros", "theory marks", zeros_x, zeros_y),
                    Series("trained 1/a_l", "trained", points_x, points_y),
                ],
                xlabel="layers L",
                ylabel="t",
                xticks=depths,
            ),
        ],
    )


@family.figure(
    caption="What a sample shows of the published three-layer weights, and what it misses.",
    claims={published_three_layer_loss: "published weights, n=20, d=5"},
)
def rare_events(budget: Budget, seed: int) -> Any:
    sampled = yield RareEventRisk(
        **PUBLISHED_THREE_LAYERS,
        dim=5,
        context_length=20,
        batches=64,
        draws=of_budget(budget, 1000, 4000, 40_000),
        seed=seed,
    )
    exact = gd_plus_plus_risk(**PUBLISHED_THREE_LAYERS, dim=5, context_length=20)
    count = np.arange(1, 65)
    draws = count * of_budget(budget, 1000, 4000, 40_000)

    def running(batch_means: np.ndarray) -> dict[str, Any]:
        mean = np.cumsum(batch_means) / count
        square = np.cumsum(batch_means**2) / count - mean**2
        error = 2 * np.sqrt(np.maximum(square, 0) / np.maximum(count - 1, 1))
        return {"y": mean, "low": mean - error, "high": mean + error}

    return FigureData(
        "Three layers with the published weights (d=5, n=20): the loss is carried by rare events",
        [
            Panel(
                "",
                [
                    Series("population risk: exact", "theory", draws, np.full(64, exact)),
                    Series("reported by the notebook", "rival", draws, np.full(64, PUBLISHED_LOSS)),
                    Series(
                        "population risk: importance sampling ± 2 s.e.",
                        "trained",
                        draws,
                        **running(sampled["weighted"]),
                    ),
                    Series("plain sample mean ± 2 s.e.", "trained", draws, **running(sampled["plain"])),
                ],
                xlabel="number of draws",
                ylabel="risk",
                yscale="log",
            )
        ],
    )


@family.figure(
    caption="Label noise: trained risk against depth, above the Bayes risk.",
    claims={bayes_bound: "L=1…4, σ²=0.1", noisy_multi_step_loss: None},
)
def noise_against_depth(budget: Budget, seed: int) -> Any:
    task = RegressionTask(5, 20, noise_variance=0.1)
    d, n, depths = task.dim, task.context_length, [1, 2, 3, 4]
    trained = yield [train_layers(DepthCase(task, layers), seed, starts=4) for layers in depths]
    optima = [noisy_multi_step_optimum(layers, d, n, 0.1).loss for layers in depths]
    lines = [
        Series("zero predictor", "trivial", depths, np.full(4, zero_predictor_risk(task))),
        Series("Bayes risk", "baseline", depths, np.full(4, bayes_risk(task).value)),
        Series("zero value block: noisy optimum", "theory", depths, optima),
        Series("rival: the optimum without noise", "rival", depths, [multi_step_optimum(k, d, n).loss for k in depths]),
        Series(
            "zero value block: trained", "trained", depths, **median_spread([result["risks"] for result in trained])
        ),
    ]
    return FigureData(
        f"Risk against depth with label noise σ² = 0.1, d={d}, n={n}",
        [Panel("", lines, xlabel="layers L", ylabel="risk", yscale="log", xticks=depths)],
    )
