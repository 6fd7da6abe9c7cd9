"""The published experiments on look-up tables, with the exact objective: accuracy against each size."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.drawing.data import FigureData, Number, Panel, Role, Series, mean_spread
from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.claims.accuracy import (
    HEADS,
    experiment_1_label,
    slope_above_the_bound,
    trained_above_the_bound,
    trained_on_tables,
)
from plumbline.analysis.memorization.claims.scaling import (
    concave_in_head_dimension,
    experiment_2_label,
    quadratic_by_shared_compression,
    quadratic_in_dimension,
)
from plumbline.analysis.memorization.published import experiment_point, first_experiment, second_experiment
from plumbline.theory.memorization import (
    accuracy_lower_bound,
    compressed_attention_capacity,
    compressed_attention_parameters,
    multi_head_capacity,
)

# Accuracies published with 2411.10115 (its folder "Scaling laws"): N = 50, means of five trainings on one table.
PUBLISHED_1 = ((1, 6, 11, 16, 21, 26, 31), (0.130, 0.324, 0.506, 0.685, 0.861, 0.963, 0.997))
"""Experiment 1, d = 10, against H."""
PUBLISHED_2 = (range(1, 11), (0.0815, 0.1096, 0.1554, 0.2094, 0.2879, 0.3567, 0.4535, 0.5457, 0.6391, 0.8044))
"""Experiment 2, against d_h."""
PUBLISHED_3 = (range(5, 16), (0.264, 0.362, 0.460, 0.578, 0.697, 0.809, 0.777, 0.789, 0.786, 0.812, 0.814))
"""Experiment 3, against d."""
PUBLISHED_SLOPES = (
    range(3, 14),
    (0.001342, 0.003487, 0.007157, 0.011141, 0.016343, 0.022155, 0.027491, 0.036457, 0.044031, 0.051086, 0.061190),
)
"""Slopes of experiment 1 below an accuracy of 0.95: the published fit keeps the first point above, which bends it."""
PUBLISHED_6 = ((1, 5, 9, 13, 17, 21), (0.330, 0.497, 0.633, 0.734, 0.857, 0.858))
"""Experiment 6, N = 10, d = 2."""
SATURATED = 0.95


def accuracies(results: Any) -> dict[str, Any]:
    """Points of a series from the results of one job for each."""
    return mean_spread([result["accuracies"] for result in results])


def bound(capacity: int, vocab_size: int) -> float:
    """Expected accuracy of a capacity, clipped at all contexts."""
    return 1 / vocab_size + (1 - 1 / vocab_size) * min(1.0, capacity / vocab_size**2)


def reference(budget: Budget, label: str, curve: Any) -> list[Series]:
    """Published points, at the published sizes only."""
    return [Series(label, "rival marks", list(curve[0]), list(curve[1]))] if budget is Budget.PAPER else []


def beside(
    budget: Budget, quantity: str, curve: Any, x: Any, y: Any, exact: str = "", values: Any = None
) -> list[Number]:
    """Published points beside ours, and a bound or fit by name, at the published sizes only."""
    if budget is not Budget.PAPER:
        return []
    published = dict(zip(*curve, strict=True))
    notes = [""] * len(x) if values is None else [f"{value:.4g} ({exact})" for value in values]
    return [
        Number(f"{quantity}{size:g}", f"{published[size]:.4g}" if size in published else "", f"{mean:.4g}", note)
        for size, mean, note in zip(x, y, notes, strict=True)
    ]


def _first_experiment(budget: Budget, seed: int) -> Any:
    """Jobs, dimensions and heads of experiment 1."""
    n, dims, heads = first_experiment(budget)
    jobs = [
        experiment_point(budget, seed, vocab_size=n, architecture="compressed", embed_dim=d, heads=h)
        for d in dims
        for h in heads
    ]
    return jobs, n, dims, heads


@family.figure(
    caption="Experiment 1: accuracy against the number of heads, for each dimension.",
    published="experiment 1 of 2411.10115",
    claims={trained_above_the_bound: experiment_1_label, slope_above_the_bound: experiment_1_label},
)
def experiment_1(budget: Budget, seed: int) -> Any:
    jobs, n, dims, heads = _first_experiment(budget, seed)
    results = yield jobs
    shown = of_budget(budget, dims, dims, (3, 6, 10, 13))
    lines = []
    for d in shown:
        first = dims.index(d) * len(heads)
        lines.append(Series(f"d={d}: trained", "trained", heads, **accuracies(results[first : first + len(heads)])))
        lines.append(Series(f"d={d}: bound", "theory", heads, [accuracy_lower_bound(h, d, d, n, 2) for h in heads]))
    d = shown[-1]
    plotted = [bound(h * (d - 1) + 1, n) for h in heads]
    lines.append(Series(f"rival: previous bound as published, d={d}", "rival", heads, plotted))
    applies = [bound(multi_head_capacity(h, d, d, 2), n) for h in heads]
    lines.append(Series("previous bound, as it applies", "baseline", heads, applies))
    lines += reference(budget, "published, d=10", PUBLISHED_1)
    lines.insert(0, Series("random answers", "trivial", heads, np.full(len(heads), 1 / n)))
    first = dims.index(shown[-2]) * len(heads)
    bounds = [accuracy_lower_bound(h, shown[-2], shown[-2], n, 2) for h in heads]
    means = accuracies(results[first : first + len(heads)])["y"]
    return FigureData(
        f"Experiment 1: N={n}, S=2, d=d_h, exact objective",
        [Panel("", lines, xlabel="heads H", ylabel="accuracy", xticks=heads)],
        numbers=beside(budget, "accuracy, d=10, H=", PUBLISHED_1, heads, means, "bound", bounds),
    )


@family.figure(
    caption="Experiment 2: accuracy against the head dimension, for both architectures.",
    published="experiment 2 of 2411.10115",
    claims={
        concave_in_head_dimension: experiment_2_label,
        # At these sizes the last point is near saturation, which bends a parabola down.
        quadratic_by_shared_compression: None,
    },
)
def experiment_2(budget: Budget, seed: int) -> Any:
    n, d, heads, sizes = second_experiment(budget)
    results = yield [
        experiment_point(budget, seed, vocab_size=n, architecture=name, embed_dim=d, heads=heads, head_dim=e)
        for name in ("attention only", "compressed")
        for e in sizes
    ]
    paper, code = results[: len(sizes)], results[len(sizes) :]
    x = np.array(sizes, dtype=float)
    means = accuracies(code)["y"]
    fit = np.polyval(np.polyfit(x**2, means, 1), x**2)
    lines = [
        Series("random answers", "trivial", sizes, np.full(len(sizes), 1 / n)),
        Series("bound", "theory", sizes, [accuracy_lower_bound(heads, e, d, n, 2) for e in sizes]),
        Series("shared compression (the code): a d_h² + b", "baseline", sizes, fit),
        Series("shared compression (the code): trained", "trained", sizes, **accuracies(code)),
        Series("the paper's architecture", "trained", sizes, **accuracies(paper)),
        *reference(budget, "published", PUBLISHED_2),
    ]
    return FigureData(
        f"Experiment 2: N={n}, S=2, d={d}, H={heads}",
        [Panel("", lines, xlabel="head dimension d_h", ylabel="accuracy", xticks=sizes)],
        numbers=beside(budget, "accuracy, d_h=", PUBLISHED_2, sizes, means, "a d_h² + b", fit),
    )


@family.figure(
    caption="Experiment 3: accuracy against the embedding dimension at one head dimension.",
    published="experiment 3 of 2411.10115",
    claims={quadratic_by_shared_compression: None},
)
def experiment_3(budget: Budget, seed: int) -> Any:
    n, width, heads = of_budget(budget, (16, 5, 4), (24, 7, 6), (50, 10, 20))
    dims = of_budget(budget, (3, 5, 7), (3, 5, 7, 9, 11), tuple(range(5, 16)))
    results = yield [
        experiment_point(budget, seed, vocab_size=n, architecture=name, embed_dim=d, heads=heads, head_dim=width)
        for name in ("attention only", "compressed")
        for d in dims
    ]
    published = [bound(heads * width + d, n) for d in dims]
    shared = [bound(compressed_attention_capacity(heads, width, d, n, 2), n) for d in dims]
    means = accuracies(results[len(dims) :])["y"]
    lines = [
        Series("random answers", "trivial", dims, np.full(len(dims), 1 / n)),
        Series(
            "paper's architecture: bound", "theory", dims, [accuracy_lower_bound(heads, width, d, n, 2) for d in dims]
        ),
        Series("paper's architecture: trained", "trained", dims, **accuracies(results[: len(dims)])),
        Series("shared compression: bound", "theory", dims, shared),
        Series("shared compression: trained", "trained", dims, **accuracies(results[len(dims) :])),
        Series("rival: bound as published, H d_h + d", "rival", dims, published),
        *reference(budget, "published", PUBLISHED_3),
    ]
    return FigureData(
        f"Experiment 3: N={n}, S=2, d_h={width}, H={heads}",
        [Panel("", lines, xlabel="embedding dimension d", ylabel="accuracy", xticks=dims)],
        numbers=beside(budget, "accuracy, d=", PUBLISHED_3, dims, means, "bound", shared),
    )


@family.figure(
    caption="Experiment 4: slopes of experiment 1 against the dimension.",
    published="experiment 4 of 2411.10115",
    claims={slope_above_the_bound: experiment_1_label, quadratic_in_dimension: None},
)
def experiment_4(budget: Budget, seed: int) -> Any:
    jobs, n, dims, heads = _first_experiment(budget, seed)
    results = yield jobs
    means = np.array([result["accuracies"].mean() for result in results]).reshape(len(dims), len(heads))
    slopes, kept = [], []
    for d, row in zip(dims, means, strict=True):
        below = row <= SATURATED
        if below.sum() > 1:
            slopes.append(np.polyfit(np.array(heads)[below], row[below], 1)[0])
            kept.append(d)
    x, y = np.array(kept, dtype=float), np.array(slopes)
    lines = [Series("bound: (1 − 1/N) d/N²", "theory", dims, [(1 - 1 / n) * d / n**2 for d in dims])]
    fits: tuple[tuple[int, Role, str], ...] = ((2, "baseline", "fit a d² + b"), (3, "rival", "rival: fit a d³ + b"))
    for power, role, label in fits:
        fitted = np.polyval(np.polyfit(x**power, y, 1), x**power)
        share = 1 - np.sum((fitted - y) ** 2) / np.sum((y - y.mean()) ** 2)
        lines.append(Series(f"{label}, R² = {share:.4f} ({len(kept)} points)", role, kept, fitted))
    lines.append(Series("trained, below accuracy 0.95", "trained", kept, y))
    lines += reference(budget, "published, below accuracy 0.95", PUBLISHED_SLOPES)
    quadratic = np.polyval(np.polyfit(x**2, y, 1), x**2)
    return FigureData(
        f"Experiment 4: accuracy gained by each head, N={n}, S=2, d=d_h",
        [Panel("", lines, xlabel="dimension d", ylabel="slope of accuracy in H", xticks=dims)],
        numbers=beside(budget, "slope, d=", PUBLISHED_SLOPES, kept, y, "fit a d² + b", quadratic),
    )


@family.figure(
    caption="Experiment 5: accuracy against parameters, attention and MLP.",
    published="experiment 5 of 2411.10115",
    claims={slope_above_the_bound: None},
)
def experiment_5(budget: Budget, seed: int) -> Any:
    n = of_budget(budget, 16, 24, 70)
    dims = of_budget(budget, (5,), (5, 7), (7, 10, 13))
    heads = of_budget(budget, (1, 3, 5), (1, 4, 7, 10), tuple(range(1, 32, 5)))
    lines = []
    for d in dims:
        attention = yield [
            experiment_point(budget, seed, vocab_size=n, architecture="compressed", embed_dim=d, heads=h) for h in heads
        ]
        mlp = yield [
            experiment_point(
                budget, seed, vocab_size=n, architecture="mlp", embed_dim=d, heads=1, width=max(1, 2 * d * (h - 1))
            )
            for h in heads
        ]
        counts = [compressed_attention_parameters(h, d, d, n, 2) for h in heads]
        widths = [compressed_attention_parameters(1, d, d, n, 2, mlp_width=max(1, 2 * d * (h - 1))) for h in heads]
        bounds = [accuracy_lower_bound(h, d, d, n, 2) for h in heads]
        lines += [
            Series(f"attention, d={d}: bound", "theory", counts, bounds),
            Series(f"attention, d={d}: trained", "trained", counts, **accuracies(attention)),
            Series(f"one head and an MLP, d={d}", "trained", widths, **accuracies(mlp)),
        ]
    ends = [float(min(s.x[0] for s in lines)), float(max(s.x[-1] for s in lines))]
    lines.insert(0, Series("random answers", "trivial", ends, np.full(2, 1 / n)))
    return FigureData(
        f"Experiment 5: N={n}, S=2, d=d_h",
        [Panel("", lines, xlabel="parameters that the output depends on", ylabel="accuracy")],
    )


@family.figure(
    caption="Experiment 6: two dimensions, accuracy against heads, clipped bounds.",
    published="experiment 6 of 2411.10115",
    claims={slope_above_the_bound: "N=10, d=d_h=2"},
)
def experiment_6(budget: Budget, seed: int) -> Any:
    n, d = 10, 2
    heads = of_budget(budget, HEADS, (*HEADS, 17, 21), (*HEADS, 17, 21))
    results = yield [trained_on_tables(n, d, h, budget, seed) for h in heads]
    means = accuracies(results)
    slope = np.polyfit(heads, means["y"], 1)[0] / ((1 - 1 / n) * d / n**2)
    bounds = [accuracy_lower_bound(h, d, d, n, 2) for h in heads]
    lines = [
        Series("random answers", "trivial", heads, np.full(len(heads), 1 / n)),
        Series("bound", "theory", heads, bounds),
        Series(
            "previous bound, as published and as it applies (d_h = S)",
            "baseline",
            heads,
            [bound(multi_head_capacity(h, d, d, 2), n) for h in heads],
        ),
        Series(f"trained: slope {slope:.2f} times the bound's", "trained", heads, **means),
        *reference(budget, "published", PUBLISHED_6),
    ]
    return FigureData(
        f"Experiment 6: N={n}, S=2, d=d_h={d}",
        [Panel("", lines, xlabel="heads H", ylabel="accuracy", xticks=heads)],
        numbers=beside(budget, "accuracy, H=", PUBLISHED_6, heads, means["y"], "bound", bounds),
    )


@family.figure(
    caption="Experiment 1 in larger dimensions.",
    published="larger dimensions, appendix of 2411.10115",
    claims={quadratic_in_dimension: None},
)
def larger_dimension(budget: Budget, seed: int) -> Any:
    n = of_budget(budget, 24, 40, 200)
    dims = of_budget(budget, (8, 10), (10, 12, 14), (40, 50, 60))
    heads = of_budget(budget, (1, 2), (1, 2, 3), tuple(range(1, 12, 2)))
    # At 0.05 some of the largest models stay where they start.
    rate = of_budget(budget, 0.05, 0.05, 0.01)
    results = yield [
        experiment_point(
            budget, seed, vocab_size=n, learning_rate=rate, architecture="compressed", embed_dim=d, heads=h
        )
        for d in dims
        for h in heads
    ]
    lines = [Series("random answers", "trivial", heads, np.full(len(heads), 1 / n))]
    for index, d in enumerate(dims):
        points = accuracies(results[index * len(heads) : (index + 1) * len(heads)])
        lines.append(Series(f"d={d}: bound", "theory", heads, [accuracy_lower_bound(h, d, d, n, 2) for h in heads]))
        lines.append(Series(f"d={d}: trained", "trained", heads, **points))
    return FigureData(
        f"Larger dimensions: N={n}, S=2, d=d_h, every context seen at each step",
        [Panel("", lines, xlabel="heads H", ylabel="accuracy", xticks=heads)],
    )


@family.figure(
    caption="Experiments 1 and 5 with three layers.",
    published="depth, appendix of 2411.10115",
    claims={slope_above_the_bound: None},
)
def depth(budget: Budget, seed: int) -> Any:
    n, d = of_budget(budget, (16, 4), (24, 5), (70, 10))
    heads = of_budget(budget, (1, 3, 5), (1, 4, 7), tuple(range(1, 22, 4)))
    # At 0.05 three layers get worse with more heads: they stay near where they start.
    rates = {1: 0.05, 3: of_budget(budget, 0.05, 0.03, 0.01)}
    results = yield [
        experiment_point(
            budget, seed, vocab_size=n, learning_rate=rates[layers], architecture="compressed", embed_dim=d, heads=h,
            layers=layers,
        )
        for layers in (1, 3)
        for h in heads
    ]  # fmt: skip
    one, three = results[: len(heads)], results[len(heads) :]
    counts = [[compressed_attention_parameters(h, d, d, n, 2, layers=layers) for h in heads] for layers in (1, 3)]
    lines = [
        Series("random answers", "trivial", [counts[0][0], counts[1][-1]], np.full(2, 1 / n)),
        Series("one layer: bound", "theory", counts[0], [accuracy_lower_bound(h, d, d, n, 2) for h in heads]),
        Series("one layer: trained", "trained", counts[0], **accuracies(one)),
        Series("three layers", "trained", counts[1], **accuracies(three)),
    ]
    return FigureData(
        f"Depth: N={n}, S=2, d=d_h={d}, H per layer = {', '.join(map(str, heads))}",
        [Panel("", lines, xlabel="parameters that the output depends on", ylabel="accuracy")],
    )
