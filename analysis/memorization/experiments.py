"""The experiments of memorization that can be swept over a grid."""

from __future__ import annotations

from typing import Any, Literal

from plumbline.analysis.budget import Budget, of_budget
from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.jobs.next_token_model import Architecture, TrainNextTokenModel
from plumbline.analysis.memorization.jobs.optimal_low_rank import OptimalLowRank
from plumbline.analysis.sweeps.experiment import Measured, Unit
from plumbline.models.training import Training
from plumbline.theory.memorization import (
    NgramTask,
    accuracy_lower_bound,
    geometric_law,
    lookup_table,
    uniform_law,
    zipf_law,
)

Law = Literal["lookup", "geometric", "zipf", "uniform"]


def law_of(name: Law, vocab_size: int, context_length: int, ratio: float, exponent: float, seed: int) -> NgramTask:
    """The next-token law of this name."""
    if name == "lookup":
        return lookup_table(vocab_size, context_length, seed=seed)
    if name == "geometric":
        return geometric_law(vocab_size, context_length, ratio=ratio, seed=seed)
    if name == "zipf":
        return zipf_law(vocab_size, context_length, exponent=exponent, seed=seed)
    return uniform_law(vocab_size, context_length, support=max(1, vocab_size // 2), seed=seed)


@family.experiment(job=TrainNextTokenModel, fields=("head_dim", "layers", "init_scale", "samples", "precision"))
def train_next_token_model(
    *,
    law: Law = "lookup",
    vocab_size: int = 10,
    context_length: int = 2,
    ratio: float = 0.5,
    exponent: float = 1.0,
    architecture: Architecture = "attention only",
    embed_dim: int = 3,
    heads: int = 4,
    width: int = 32,
    optimizer: Literal["adam", "sgd", "lbfgs"] = "adam",
    steps: int | None = None,
    learning_rate: tuple[float | None, ...] = (None,),
    runs: int,
    seed: int,
    budget: Budget,
    **fields: Any,
) -> Unit:
    """Models trained on a next-token law: accuracy on look-up tables, otherwise divergence, exact over all contexts.

    Look-up tables are random, one for each start, and the accuracy is held against the lower bound of its expectation
    (attention only). A noisy law is one for all runs of an ensemble, and its divergence is held against the best found
    for any logits of rank ``embed_dim``. ``ratio`` is of the geometric law, ``exponent`` of Zipf's; the uniform one has
    half the vocabulary as its support.
    """
    task = law_of(law, vocab_size, context_length, ratio, exponent, seed)
    count = steps or of_budget(budget, 200, 600, 1500)
    default = 1.0 if optimizer == "lbfgs" else 0.1
    rates = tuple(default if rate is None else rate for rate in learning_rate)
    halve: dict[str, Any] = {} if optimizer == "lbfgs" else {"halve_every": max(1, count // 4)}
    job = TrainNextTokenModel(
        task=task,
        architecture=architecture,
        embed_dim=embed_dim,
        heads=heads,
        width=width,
        own_tables=law == "lookup",
        training=Training(optimizer=optimizer, steps=count, learning_rate=rates, record_every=count, **halve),
        runs=runs * len(rates),
        seed=seed,
        **fields,
    )
    if law == "lookup":
        bound = None
        if architecture == "attention only" and job.layers == 1:
            bound = accuracy_lower_bound(heads, job.head_dim or embed_dim, embed_dim, vocab_size, context_length)

        def accuracies(trained: dict[str, Any]) -> Measured:
            return Measured(trained["outcomes"], trained["steps"], trained["accuracies"], 0.0, bound)

        return Unit((job,), accuracies, "accuracy", "" if bound is None else "lower bound of the expected accuracy")

    def divergences(trained: dict[str, Any], best: dict[str, Any]) -> Measured:
        return Measured(trained["outcomes"], trained["steps"], trained["divergences"], 0.0, best["divergence"])

    best = OptimalLowRank(task=task, rank=embed_dim, starts=4, max_iterations=300)
    return Unit((job, best), divergences, "divergence (nats)", "best found of rank d")
