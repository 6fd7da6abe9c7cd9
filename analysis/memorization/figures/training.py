"""Figures of memorization: training between bounds, divergence against rank, the capacity staircase."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.drawing.data import FigureData, Panel, Series, mean_spread
from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.claims.accuracy import HEADS, trained_above_the_bound, trained_on_tables
from plumbline.analysis.memorization.claims.capacity import capacity_is_attained
from plumbline.analysis.memorization.claims.low_rank import (
    RankCase,
    encoders,
    low_rank_optimum,
    no_model_below_the_low_rank_bound,
    optimum_decreases_with_rank,
)
from plumbline.analysis.memorization.jobs.constructions import StoreContexts
from plumbline.analysis.memorization.jobs.next_token_model import TrainNextTokenModel
from plumbline.analysis.memorization.jobs.optimal_low_rank import OptimalLowRank
from plumbline.models.training import Training
from plumbline.theory.memorization import (
    accuracy_lower_bound,
    attention_only_capacity,
    geometric_law,
    lookup_table,
    multi_head_capacity,
    small_signal_divergence,
    uniform_divergence,
)


def _training(steps: int) -> Training:
    return Training(
        optimizer="adam", steps=steps, learning_rate=0.05, halve_every=steps // 4, record_every=max(1, steps // 50)
    )


def _in_training(budget: Budget, seed: int, **options: Any) -> TrainNextTokenModel:
    """The published notebook's training: one table, several starts, along the steps."""
    dim, heads = of_budget(budget, (3, 5), (4, 12), (10, 20))
    steps, runs = of_budget(budget, (250, 3), (600, 4), (1000, 5))
    return TrainNextTokenModel(
        architecture="attention only",
        embed_dim=dim,
        heads=heads,
        training=_training(steps),
        runs=runs,
        seed=seed,
        **options,
    )


@family.figure(
    caption="Training on a noisy law: divergence between the uniform predictor and the optimum.",
    published="training-dynamics notebook of 2411.10115",
    claims={no_model_below_the_low_rank_bound: None},
)
def training_divergence(budget: Budget, seed: int) -> Any:
    law = geometric_law(of_budget(budget, 8, 16, 50), 2, ratio=0.5, seed=seed)
    job = _in_training(budget, seed, task=law)
    trained = yield job
    best = yield OptimalLowRank(task=law, rank=job.embed_dim, starts=4, max_iterations=300)
    ends = trained["curve_steps"][[0, -1]]
    found, certified = np.full(2, best["divergence"]), np.full(2, best["lower_bound"])
    lines = [
        Series("uniform predictor", "trivial", ends, np.full(2, uniform_divergence(law))),
        Series("best logits of rank d, band to the certified bound", "theory", ends, found, certified, found),
        Series(
            f"trained, {job.runs} starts",
            "trained",
            trained["curve_steps"],
            **mean_spread(trained["curve_divergences"]),
        ),
    ]
    return FigureData(
        f"Attention only, geometric law, N={law.vocab_size}, S=2, d=d_h={job.embed_dim}, H={job.heads}",
        [Panel("", lines, xlabel="Adam steps on the exact objective", ylabel="divergence (nats)", yscale="log")],
    )


@family.figure(
    caption="Training on a look-up table: accuracy above the bounds, published and corrected.",
    published="training-dynamics notebook of 2411.10115",
    claims={trained_above_the_bound: None},
)
def training_accuracy(budget: Budget, seed: int) -> Any:
    n = of_budget(budget, 12, 20, 50)
    job = _in_training(budget, seed, task=lookup_table(n, 2, seed=seed), accuracy_curve=True)
    trained = yield job
    dim, heads = job.embed_dim, job.heads
    ends = trained["curve_steps"][[0, -1]]

    def level(capacity: int) -> np.ndarray:
        return np.full(2, 1 / n + (1 - 1 / n) * capacity / n**2)

    lines = [
        Series("random answers", "trivial", ends, np.full(2, 1 / n)),
        Series("bound, T₀ = H d_h + d", "theory", ends, np.full(2, accuracy_lower_bound(heads, dim, dim, n, 2))),
        Series(
            "previous bound, as it applies: H + 1", "baseline", ends, level(multi_head_capacity(heads, dim, dim, 2))
        ),
        Series("rival: previous bound as published, H(d_h − 1) + 1", "rival", ends, level(heads * (dim - 1) + 1)),
        Series(
            f"trained, {job.runs} starts", "trained", trained["curve_steps"], **mean_spread(trained["curve_accuracies"])
        ),
    ]
    return FigureData(
        f"Attention only, look-up table, N={n}, S=2, d=d_h={dim}, H={heads}",
        [Panel("", lines, xlabel="Adam steps on the exact objective", ylabel="accuracy")],
    )


def _law_of_ranks(budget: Budget) -> str:
    return of_budget(budget, "geometric law, N=6", "normal logits, N=7", "normal logits, N=7")


@family.figure(
    caption="Divergence against the rank of the logits, between found and certified.",
    claims={optimum_decreases_with_rank: _law_of_ranks, low_rank_optimum: None},
)
def divergence_against_rank(budget: Budget, seed: int) -> Any:
    label = _law_of_ranks(budget)
    law = optimum_decreases_with_rank.cases(budget)[label]
    ranks = list(range(law.vocab_size))
    optima = yield [OptimalLowRank(task=law, rank=rank, starts=6) for rank in ranks]
    inner = ranks[1:-1]
    trained = yield [encoders(RankCase(law, rank), 4, seed) for rank in inner]
    attention = yield [
        TrainNextTokenModel(
            task=law,
            architecture="attention only",
            embed_dim=rank,
            heads=8,
            training=_training(of_budget(budget, 200, 600, 2000)),
            runs=3,
            seed=seed,
        )
        for rank in inner
    ]
    found = np.array([result["divergence"] for result in optima])
    certified = np.array([result["lower_bound"] for result in optima])
    uniform = uniform_divergence(law)
    # The optimum is 0 at rank N − 1, which a logarithmic axis does not show.
    signals = [small_signal_divergence(law, rank) for rank in ranks[:-1]]
    lines = [
        Series("uniform predictor", "trivial", ranks, np.full(len(ranks), uniform)),
        Series(
            "optimum found, band to its certified bound", "theory", ranks[:-1], found[:-1], certified[:-1], found[:-1]
        ),
        Series("rival: small-signal approximation", "rival", ranks[:-1], signals),
        Series(
            "sequence encoder, 4 starts",
            "trained",
            inner,
            **mean_spread([result["divergences"] for result in trained], 1),
        ),
        Series(
            "attention only, 8 heads, 3 starts",
            "trained",
            np.array(inner) + 0.08,
            **mean_spread([result["divergences"] for result in attention], 1),
        ),
    ]
    return FigureData(
        f"Divergence against rank, {label}, S=2 (0 at rank {law.vocab_size - 1})",
        [Panel("", lines, xlabel="rank d", ylabel="divergence (nats)", yscale="log", xticks=ranks)],
    )


@family.figure(
    caption="The capacity staircase: bound, witnesses that attain it, and training.",
    claims={
        capacity_is_attained: "N=10, S=2, d=d_h=2, H=49: the whole table",
        trained_above_the_bound: "N=10, d=d_h=2",
    },
)
def capacity_staircase(budget: Budget, seed: int) -> Any:
    n, dim = 10, 2
    results = yield [trained_on_tables(n, dim, heads, budget, seed) for heads in HEADS]
    stairs = np.arange(0, 50, 7)
    stored = yield [
        StoreContexts(
            vocab_size=n, context_length=2, heads=int(heads), head_dim=dim, embed_dim=dim, tables=3, seed=seed
        )
        for heads in stairs
    ]
    heads = list(range(53))
    right = [result["accuracies"] * n**2 for result in results]
    lines = [
        Series("all contexts", "trivial", heads, np.full(53, n**2)),
        Series(
            "any table: T₀ = H d_h + d", "theory", heads, [attention_only_capacity(h, dim, dim, n, 2) for h in heads]
        ),
        Series("expected for random tables", "baseline", heads, [_expected(h, dim, n) for h in heads]),
        Series("rival: previous bound, H + 1", "rival", heads, np.array(heads) + 1),
        Series("any table: stored by witnesses (worst of 3)", "trained", stairs, [s["stored"].min() for s in stored]),
        Series("right after training, own tables", "trained", HEADS, **mean_spread(right, 1)),
    ]
    return FigureData(
        f"Contexts of a look-up table with N={n}, S=2, d=d_h={dim}",
        [Panel("", lines, xlabel="heads H", ylabel="contexts")],
    )


def _expected(heads: int, dim: int, vocab_size: int) -> float:
    return accuracy_lower_bound(heads, dim, dim, vocab_size, 2) * vocab_size**2
