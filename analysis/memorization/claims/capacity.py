"""Claims about capacity: what the witness stores, what frozen features cannot, and where the published form fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np

from plumbline.analysis.budget import Budget, by_budget
from plumbline.analysis.claims.claim import Evidence
from plumbline.analysis.memorization import family
from plumbline.analysis.memorization.cases import Sizes
from plumbline.analysis.memorization.jobs.constructions import StoreContexts, contexts_with_last_tokens
from plumbline.analysis.verdict import AtMost, BoundExists, BoundForAll, Identity
from plumbline.theory.memorization import attention_only_capacity, multi_head_capacity, published_capacity

DANA = "Dana, Pydi, Chevaleyre 2024 (2411.10115)"
# Columns have length one; a rank that is not full shows as singular values of 1e-16 of the largest. Dependent draws
# of small features come near 1e-10 once in some hundred, so that the best of a few draws is taken: no draw has more
# than the generic rank.
RANK_TOLERANCE = 1e-10
DRAWS = 4


def numerical_rank(matrix: np.ndarray) -> int:
    """Singular values above `RANK_TOLERANCE` of the largest."""
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > RANK_TOLERANCE * values[0]).sum())


def generic_feature_rank(sizes: Sizes, contexts: np.ndarray, seed: int) -> int:
    """Largest rank of the softmax features of contexts over a few random weights."""
    from plumbline.models.memorization.random_features import random_features

    seeds = range(DRAWS * seed, DRAWS * (seed + 1))
    return max(numerical_rank(random_features(*sizes.layer, contexts, seed=draw)) for draw in seeds)


def ending_in(sizes: Sizes, last_tokens: int) -> np.ndarray:
    """All contexts whose last token is one of the first L."""
    n, length = sizes.vocab_size, sizes.context_length
    contexts = np.indices((n,) * length).reshape(length, -1).T
    return contexts[contexts[:, -1] < last_tokens]


def _grid(vocab_size: int, context_length: int, last_tokens: Iterable[int]) -> list[tuple[Sizes, int]]:
    """Sizes on both sides of every minimum in the formula, with the number of last tokens."""
    return [
        (Sizes(vocab_size=vocab_size, context_length=context_length, heads=h, head_dim=e, embed_dim=d), last)
        for h, e, d, last in product((0, 1, 2, 4), (1, 2, 3, 5), (2, 3, 5), last_tokens)
    ]


def _rank_evidence(grid: list[tuple[Sizes, int]], seed: int, rivals: Sequence[Callable[[Sizes], int]]) -> Evidence:
    """Ranks over a grid of sizes against the formula; a rival is a function of sizes, clipped at all contexts."""
    measured, predicted = [], []
    wrong: list[list[int]] = [[] for _ in rivals]
    for sizes, last in grid:
        contexts = ending_in(sizes, last)
        measured.append(generic_feature_rank(sizes, contexts, seed))
        predicted.append(attention_only_capacity(*sizes.layer, contexts=len(contexts), last_tokens=last))
        for formula, values in zip(rivals, wrong, strict=True):
            values.append(min(len(contexts), formula(sizes)))
    return Evidence(rule=Identity(exact=True), measured=measured, predicted=predicted, rivals=wrong)


def _published(sizes: Sizes) -> int:
    return published_capacity(sizes.heads, sizes.head_dim, sizes.embed_dim)


@family.claim(
    statement="Attention-only transformers store T₀ = H·min(d_h, d) + min(d, L) random contexts with any labels: "
    "weights exist, with ordinary softmax attention and no limit taken.",
    source=DANA + ", Theorem 1 and Corollary 1; corrected and constructed here",
    rule=BoundExists,
    status="corrected",
    published="H·d_h + d associations, for every context length, d_h and number of distinct last tokens; without "
    "the d in the readme and a notebook.",
    rivals={
        "previous bound": "at most H(min(S, d_h) − 1) + 1 contexts: the bound of Mahdavi et al. taken for the capacity",
        "without the skip": "at most H·d_h contexts: the readme and a notebook of the authors drop the d",
    },
    cases=by_budget(
        {
            "N=10, S=2, d=d_h=2, H=20": Sizes(vocab_size=10, heads=20, head_dim=2, embed_dim=2),
            "N=6, S=3, d=4, d_h=3, H=20": Sizes(vocab_size=6, context_length=3, heads=20, head_dim=3, embed_dim=4),
            "N=5, S=5 > d=3, d_h=2, H=30": Sizes(vocab_size=5, context_length=5, heads=30, head_dim=2, embed_dim=3),
            "N=10, S=2, d=d_h=2, H=49: the whole table": Sizes(vocab_size=10, heads=49, head_dim=2, embed_dim=2),
            "N=6, S=2, d=d_h=3, H=9": Sizes(vocab_size=6, heads=9, head_dim=3, embed_dim=3),
        },
        {
            "N=50, S=2, d=d_h=10, H=31": Sizes(vocab_size=50, heads=31, head_dim=10, embed_dim=10),
            "N=10, S=2, d=d_h=4, H=22": Sizes(vocab_size=10, heads=22, head_dim=4, embed_dim=4),
        },
        {
            "N=50, S=2, d=d_h=10, H=249: the whole table": Sizes(vocab_size=50, heads=249, head_dim=10, embed_dim=10),
            "N=20, S=2, d=d_h=10, H=36": Sizes(vocab_size=20, heads=36, head_dim=10, embed_dim=10),
        },
    ),
)
def capacity_is_attained(sizes: Sizes, budget: Budget, seed: int) -> Any:
    stored = yield StoreContexts(
        vocab_size=sizes.vocab_size,
        context_length=sizes.context_length,
        heads=sizes.heads,
        head_dim=sizes.head_dim,
        embed_dim=sizes.embed_dim,
        tables=1 if sizes.heads > 100 else 5,
        seed=seed,
    )
    return Evidence(
        rule=BoundExists(),
        # The worst of the tables: each has to be stored.
        measured=[float(stored["stored"].min())],
        predicted=sizes.capacity,
        rivals=[AtMost(sizes.previous_bound), AtMost(min(sizes.heads * sizes.head_dim, sizes.capacity - 1))],
        note=f"{len(stored['stored'])} tables, condition up to {stored['conditions'].max():.1e}, "
        f"margin from {stored['margins'].min():.2g}",
    )


@family.claim(
    statement="The published code's architecture stores as many contexts, where d_h ≤ d.",
    source=DANA + "; constructed here",
    rule=BoundExists,
    status="derived here",
    rivals={"previous bound": "at most H(min(S, d_h) − 1) + 1 contexts"},
    cases=by_budget(
        {
            "N=10, S=2, d=d_h=4, H=12": Sizes(vocab_size=10, heads=12, head_dim=4, embed_dim=4),
            "N=12, S=2, d=5, d_h=3, H=20": Sizes(vocab_size=12, heads=20, head_dim=3, embed_dim=5),
        },
        {"N=50, S=2, d=d_h=10, H=31": Sizes(vocab_size=50, heads=31, head_dim=10, embed_dim=10)},
    ),
)
def compressed_capacity_is_attained(sizes: Sizes, budget: Budget, seed: int) -> Any:
    stored = yield StoreContexts(
        vocab_size=sizes.vocab_size,
        context_length=sizes.context_length,
        heads=sizes.heads,
        head_dim=sizes.head_dim,
        embed_dim=sizes.embed_dim,
        architecture="compressed",
        tables=3,
        seed=seed,
    )
    return Evidence(
        rule=BoundExists(),
        measured=[float(stored["stored"].min())],
        predicted=sizes.capacity,
        rivals=[AtMost(sizes.previous_bound)],
        note=f"condition up to {stored['conditions'].max():.1e}",
    )


@family.claim(
    statement="With frozen attention T₀ + 1 contexts cannot be given arbitrary targets: their features have rank T₀ at "
    "most, and a part of random targets is left over.",
    source="derived here",
    rule=BoundForAll,
    status="derived here",
    rivals={
        "previous bound": "a rank of at most H(min(S, d_h) − 1) + 1",
        "without the skip": "a rank of at most H·d_h",
    },
    cases=by_budget(
        {
            "N=6, S=2, d=d_h=2, H=6": Sizes(vocab_size=6, heads=6, head_dim=2, embed_dim=2),
            "N=4, S=3, d=3, d_h=2, H=7": Sizes(vocab_size=4, context_length=3, heads=7, head_dim=2, embed_dim=3),
        },
        {"N=12, S=2, d=4, d_h=3, H=10": Sizes(vocab_size=12, heads=10, head_dim=3, embed_dim=4)},
    ),
)
def no_more_with_frozen_features(sizes: Sizes, budget: Budget, seed: int) -> Evidence:
    from plumbline.models.memorization.random_features import random_features

    rng = np.random.default_rng(seed)
    count = sizes.capacity + 1
    ranks, left_over = [], []
    for attempt in range(30):
        contexts = contexts_with_last_tokens(rng, sizes.vocab_size, sizes.context_length, count, sizes.embed_dim)
        z = random_features(*sizes.layer, contexts, seed=30 * seed + attempt)
        ranks.append(numerical_rank(z))
        targets = rng.normal(size=(count, sizes.embed_dim))
        solution = np.linalg.lstsq(z.T, targets, rcond=None)[0]
        left_over.append(np.sum((z.T @ solution - targets) ** 2) / np.sum(targets**2))
    return Evidence(
        rule=BoundForAll("upper", numerical_error=0.0),
        measured=np.array(ranks, dtype=float),
        predicted=float(sizes.capacity),
        rivals=[float(sizes.previous_bound), float(sizes.heads * sizes.head_dim)],
        note=f"of random targets {np.mean(left_over):.3g} is left over, expected 1/(T₀+1) = {1 / count:.3g}",
    )


@family.claim(
    statement="The features of one layer have the generic rank min(T, H·min(d_h, d, N+S−2) + min(d, L)) over contexts "
    "with L distinct last tokens.",
    source=DANA + ", Lemma 2; corrected here",
    rule=Identity,
    status="corrected",
    published="Rank H·d_h + d, clipped at T, whatever d_h and the last tokens.",
    rivals={
        "as published": "H·d_h + d, clipped at T: wrong where d_h > d or L < d",
        "previous bound": "H(min(S, d_h) − 1) + 1",
    },
    cases=by_budget(
        {"S=2, N=6": _grid(6, 2, (2, 6)), "S=3, N=4": _grid(4, 3, (1, 4))},
        {"S=2, N=9": _grid(9, 2, (1, 2, 9))},
    ),
)
def feature_rank(grid: list[tuple[Sizes, int]], budget: Budget, seed: int) -> Evidence:
    return _rank_evidence(
        grid,
        seed,
        [_published, lambda sizes: sizes.previous_bound],
    )


@family.claim(
    statement="At context length 1 heads add nothing, since softmax over one token is 1: the rank is min(d, N).",
    source="derived here; a counterexample to " + DANA + ", Lemma 2 and Theorem 1",
    rule=Identity,
    status="corrected",
    published="Lemma 2 and Theorem 1 are stated for every context length.",
    rivals={"as published": "H·d_h + d, clipped at T"},
    cases=by_budget({"N=6": _grid(6, 1, (6,))}, {"N=12": _grid(12, 1, (12,))}),
)
def context_length_one(grid: list[tuple[Sizes, int]], budget: Budget, seed: int) -> Evidence:
    return _rank_evidence(grid, seed, [_published])


@family.claim(
    statement="Contexts that share one last token give the skip connection one dimension, not d: contexts (0,0), (1,0) "
    "with H = 0, d = 2 cannot have different labels.",
    source="derived here; a counterexample to " + DANA + ", Corollary 1",
    rule=Identity,
    status="corrected",
    published="Corollary 1 stores H·d_h + d contexts, whatever their last tokens.",
    rivals={"as published": "H·d_h + d, clipped at T"},
    cases=by_budget({"S=2, N=6": _grid(6, 2, (1,))}, {"S=3, N=4": _grid(4, 3, (1,))}),
)
def one_shared_last_token(grid: list[tuple[Sizes, int]], budget: Budget, seed: int) -> Evidence:
    return _rank_evidence(grid, seed, [_published])


@family.claim(
    statement="H softmax matrices over n shared keys, stacked, have rank H(n − 1) + 1, with n the number of keys.",
    source="Mahdavi, Liao, Thrampoulidis 2023 (2306.02010), Theorem 1",
    rule=Identity,
    status="as published",
    rivals={
        "as plotted": "H(d_h − 1) + 1: the figures of 2411.10115 put the head dimension for the context size, d_h = 10",
        "no common constant": "H·n: the rows of each softmax sum to one, which the heads share",
    },
    cases=by_budget(
        {"n=2, the experiments of 2411.10115": (2, (1, 6, 11, 31)), "n=6": (6, (1, 2, 5))},
        {"n=9": (9, (1, 3, 7))},
    ),
)
def multi_head_rank(case: tuple[int, tuple[int, ...]], budget: Budget, seed: int) -> Evidence:
    size, numbers = case
    rng = np.random.default_rng(seed)
    width = 10
    ranks = []
    for heads in numbers:
        keys = rng.normal(size=(size, width))
        scores = rng.normal(size=(400, width)) @ rng.normal(size=(heads, width, width)) @ keys.T / width
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        ranks.append(numerical_rank(np.concatenate(list(weights), axis=1)))
    return Evidence(
        rule=Identity(exact=True),
        measured=ranks,
        predicted=[multi_head_capacity(heads, width, width, size) for heads in numbers],
        rivals=[[heads * (width - 1) + 1 for heads in numbers], [heads * size for heads in numbers]],
    )
