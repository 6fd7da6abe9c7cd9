"""Claims about accuracy on random look-up tables: constructed and trained transformers above the lower bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.cases import Sizes
from plumbline.analysis.memorization.claims.capacity import DANA
from plumbline.analysis.memorization.jobs.constructions import ConstructedAccuracy
from plumbline.analysis.memorization.jobs.next_token_model import TrainNextTokenModel
from plumbline.analysis.memorization.published import experiment_point, first_experiment
from plumbline.analysis.verdict import BoundForAll, Expectation
from plumbline.models.training import Training
from plumbline.theory.memorization import (
    accuracy_lower_bound,
    attention_only_parameters,
    dimension_upper_bound,
    guaranteed_accuracy,
    lookup_table,
)

HEADS = (1, 5, 9, 13)

CONSTRUCTED = by_budget(
    {
        "N=6, S=2, d=3, d_h=2, H=4": Sizes(vocab_size=6, heads=4, head_dim=2, embed_dim=3),
        "N=10, S=2, d=d_h=2, H=9": Sizes(vocab_size=10, heads=9, head_dim=2, embed_dim=2),
    },
    {"N=4, S=3, d=d_h=3, H=6": Sizes(vocab_size=4, context_length=3, heads=6, head_dim=3, embed_dim=3)},
    {"N=20, S=2, d=d_h=5, H=16": Sizes(vocab_size=20, heads=16, head_dim=5, embed_dim=5)},
)


def trained_on_tables(vocab_size: int, dim: int, heads: int, budget: Budget, seed: int) -> TrainNextTokenModel:
    """Runs that each learn a random look-up table of their own, on the exact objective."""
    steps = {Budget.QUICK: 200, Budget.STANDARD: 400, Budget.PAPER: 1500}[budget]
    return TrainNextTokenModel(
        task=lookup_table(vocab_size, 2, seed=1000 * seed),
        architecture="attention only",
        embed_dim=dim,
        heads=heads,
        own_tables=True,
        training=Training(optimizer="adam", steps=steps, learning_rate=0.1, halve_every=steps // 4, record_every=steps),
        runs={Budget.QUICK: 6, Budget.STANDARD: 10, Budget.PAPER: 20}[budget],
        seed=seed,
    )


@dataclass(frozen=True)
class HeadsCase:
    """Transformers of one dimension d = d_h with several numbers of heads, trained on random tables.

    Args:
        vocab_size, dim, heads: N, d and every H.
        published: Whether they are the code's architecture, trained as in the published experiments.
    """

    vocab_size: int
    dim: int
    heads: tuple[int, ...] = HEADS
    published: bool = False

    def jobs(self, budget: Budget, seed: int) -> list[TrainNextTokenModel]:
        """One training for each number of heads."""
        n, dim = self.vocab_size, self.dim
        if not self.published:
            return [trained_on_tables(n, dim, heads, budget, seed) for heads in self.heads]
        sizes: dict[str, Any] = {"vocab_size": n, "architecture": "compressed", "embed_dim": dim}
        return [experiment_point(budget, seed, heads=heads, **sizes) for heads in self.heads]


TRAINED = by_budget(
    {"N=10, d=d_h=2": HeadsCase(10, 2)}, {"N=14, d=d_h=3": HeadsCase(14, 3)}, {"N=20, d=d_h=2": HeadsCase(20, 2)}
)


def experiment_1_label(budget: Budget) -> str:
    """The curve of experiment 1 in the smallest dimension, as its figure draws it."""
    n, dims, heads = first_experiment(budget)
    return f"experiment 1: N={n}, d=d_h={dims[0]}, H={heads[0]} to {heads[-1]}"


def trained_cases(budget: Budget) -> Mapping[str, HeadsCase]:
    """Small tables, and one curve of experiment 1."""
    n, dims, heads = first_experiment(budget)
    return {**TRAINED(budget), experiment_1_label(budget): HeadsCase(n, dims[0], heads, published=True)}


def constructed(sizes: Sizes, budget: Budget, seed: int) -> ConstructedAccuracy:
    """Transformers that store T₀ contexts of each of many random tables."""
    return ConstructedAccuracy(
        vocab_size=sizes.vocab_size,
        context_length=sizes.context_length,
        heads=sizes.heads,
        head_dim=sizes.head_dim,
        embed_dim=sizes.embed_dim,
        batches=20 if budget is Budget.QUICK else 40,
        seed=seed,
    )


@family.claim(
    statement="A transformer that stores T₀ contexts of a random look-up table has the expected accuracy "
    "1/N + (1 − 1/N) T₀/N^S: outside what is stored its answers are independent of the labels.",
    source=DANA + ", Corollary 2, with the corrected T₀",
    rule=Expectation,
    status="corrected",
    published="The same with T₀ = H·d_h + d for every size; with T₀ = H·d_h in the readme and a notebook.",
    rivals={
        "without the skip": "T₀ = H·d_h: the readme and a notebook of the authors",
        "previous bound": "T₀ = H(min(S, d_h) − 1) + 1",
        "no guesses": "T₀/N^S: nothing right outside what is stored",
    },
    cases=CONSTRUCTED,
)
def expected_accuracy(sizes: Sizes, budget: Budget, seed: int) -> Any:
    result = yield constructed(sizes, budget, seed)
    n, contexts = sizes.vocab_size, sizes.contexts

    def expected(stored: int) -> float:
        return 1 / n + (1 - 1 / n) * stored / contexts

    return Evidence(
        # In units of accuracy; the nearest rival, without the skip, is ten times the margin away or more.
        rule=Expectation(0.003, scale=1.0, draws_per_batch=1000),
        measured=result["batch_means"],
        predicted=accuracy_lower_bound(*sizes.layer),
        rivals=[expected(sizes.heads * sizes.head_dim), expected(sizes.previous_bound), sizes.capacity / contexts],
    )


@family.claim(
    statement="On every look-up table some weights have the accuracy max(1/N, T₀/N^S), and the expectation 1/N + "
    "(1 − 1/N) T₀/N^S is no bound for a single table.",
    source="derived here; the limit of " + DANA + ", Corollary 2",
    rule=BoundForAll,
    status="corrected",
    published="Corollary 2 states the expectation over tables as the accuracy of a model on a table.",
    rivals={"the expectation for every table": "1/N + (1 − 1/N) T₀/N^S, table by table"},
    cases=CONSTRUCTED,
)
def guaranteed_on_every_table(sizes: Sizes, budget: Budget, seed: int) -> Any:
    result = yield constructed(sizes, budget, seed)
    return Evidence(
        # Accuracies are counts over N^S contexts: 1e-9 is rounding of their mean.
        rule=BoundForAll("lower", numerical_error=1e-9),
        measured=np.concatenate([result["accuracies"], result["adversarial"]]),
        predicted=guaranteed_accuracy(*sizes.layer),
        rivals=[accuracy_lower_bound(*sizes.layer)],
        note=f"worst random table {result['accuracies'].min():.3g}, adversarial {result['adversarial'].min():.3g}",
    )


@family.claim(
    statement="Trained transformers exceed the expected accuracy at every number of heads.",
    source=DANA + ", experiments 1 and 6; exact objective here",
    rule=BoundForAll,
    status="as published",
    rivals={
        "parameter count": "T = S + 2N + 4 d_h H contexts stored, as many as there are parameters for each dimension "
        "of the targets: more than training reaches"
    },
    cases=trained_cases,
)
def trained_above_the_bound(case: HeadsCase, budget: Budget, seed: int) -> Any:
    n, dim = case.vocab_size, case.dim
    results = yield case.jobs(budget, seed)
    means = np.array([result["accuracies"].mean() for result in results])
    bounds = np.array([accuracy_lower_bound(heads, dim, dim, n, 2) for heads in case.heads])
    counted = [dimension_upper_bound(attention_only_parameters(heads, dim, dim, n, 2), dim) for heads in case.heads]
    ratios = ", ".join(f"{heads}: {ratio:.2f}" for heads, ratio in zip(case.heads, means / bounds, strict=True))
    return Evidence(
        # A mean over tables against an expectation over tables: training exceeds the bound by ten times the scatter.
        rule=BoundForAll("lower", numerical_error=0.0),
        measured=means,
        predicted=bounds,
        rivals=[1 / n + (1 - 1 / n) * np.minimum(1.0, np.array(counted) / n**2)],
        note=f"trained/bound at H = {ratios}",
    )


@family.claim(
    statement="Each further head adds at least (1 − 1/N) d_h/N^S to the accuracy of trained transformers: their "
    "slope is above that of the bound.",
    source=DANA + ", experiment 6",
    rule=BoundForAll,
    status="as published",
    rivals={"parameter count": "4 (1 − 1/N) d_h/N^S: a context for every d parameters of the head"},
    cases=trained_cases,
)
def slope_above_the_bound(case: HeadsCase, budget: Budget, seed: int) -> Any:
    n, dim = case.vocab_size, case.dim
    results = yield case.jobs(budget, seed)
    means = np.array([result["accuracies"].mean() for result in results])
    slope = np.polyfit(case.heads, means, 1)[0]
    bound = (1 - 1 / n) * dim / n**2
    return Evidence(
        rule=BoundForAll("lower", numerical_error=0.0),
        measured=[slope],
        predicted=bound,
        rivals=[4 * bound],
        note=f"slope {slope:.4f} a head, {slope / bound:.2f} times the bound's",
    )
