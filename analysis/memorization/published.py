"""The published trainings on look-up tables at the size of each budget: what figures draw and some claims measure."""

from __future__ import annotations

from typing import Any

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.memorization.jobs.next_token_model import TrainNextTokenModel
from plumbline.models.training import Training
from plumbline.theory.memorization import lookup_table


def experiment_point(
    budget: Budget, seed: int, *, vocab_size: int, learning_rate: float = 0.05, **sizes: Any
) -> TrainNextTokenModel:
    """One point of an experiment: runs on a table each, whole-table objective."""
    steps = of_budget(budget, 120, 300, 400)
    return TrainNextTokenModel(
        task=lookup_table(vocab_size, 2, seed=1000 * seed),
        own_tables=True,
        training=Training(
            optimizer="adam", steps=steps, learning_rate=learning_rate, halve_every=steps // 4, record_every=steps
        ),
        runs=of_budget(budget, 2, 3, 5),
        seed=seed,
        # As published. An accuracy is a count over contexts, and the largest tables take half the time.
        precision="float32",
        **sizes,
    )


def first_experiment(budget: Budget) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """N, the dimensions d = d_h and the numbers of heads of experiment 1."""
    return of_budget(
        budget,
        (16, (3, 5, 7), (1, 3, 5)),
        (24, (3, 5, 7, 9), (1, 4, 7, 10)),
        (50, tuple(range(3, 14)), tuple(range(1, 32, 5))),
    )


def second_experiment(budget: Budget) -> tuple[int, int, int, tuple[int, ...]]:
    """N, d, H and the head dimensions of experiment 2."""
    return of_budget(
        budget,
        (16, 7, 4, (1, 4, 7)),
        (24, 9, 6, (1, 3, 5, 7, 9)),
        (50, 10, 20, tuple(range(1, 11))),
    )
