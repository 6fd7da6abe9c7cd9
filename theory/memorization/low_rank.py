"""The best next-token law with logits of low rank, between an achieved divergence and a certified lower bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.cells import cell_bound, token_block_bound
from plumbline.theory.memorization.certificate import LowerBound
from plumbline.theory.memorization.codimension import codimension_one_optimum
from plumbline.theory.memorization.eckart_young import eckart_young_bound
from plumbline.theory.memorization.entropy import row_divergences
from plumbline.theory.memorization.lookup import circle_scale, lookup_divergence
from plumbline.theory.memorization.objective import DivergenceObjective, lbfgs
from plumbline.theory.memorization.task import table_and_prior

LOG_FLOOR = 1e-3
"""Probabilities below it count as it where a table is turned into starting logits."""
ENTRIES_PER_PASS = 2 * 10**5
MANY_STARTS, FEW_STARTS = 32, 2
"""Starts of a small table, and of a large one, where the two truncated log tables are far ahead of random ones."""
SCREENING = 10
"""Each start gets 1/10 of the iterations; the best quarter goes on, and at least two."""
FINALISTS = 4
GRADIENT_TOLERANCE = 1e-10
CIRCLE_DIVERGENCE = 1e-12
"""Divergence of the factors returned for a look-up table, whose infimum 0 is not attained."""
SMALLEST = 1e-300
CELL_BUDGET = 2 * 10**6
"""Table entries times cells that a certificate spends: about two seconds."""
GROUPED_ENTRIES = 2 * 10**4
"""Table entries beyond which groups of contexts are not tried: with many contexts all of them together do better."""
LARGEST_BLOCK = 5
"""Tokens beyond which simplicial cells are too many to be of use."""
CODIMENSION_VOCAB = 8
"""Largest vocabulary whose rank N − 2 is also searched over directions."""


@dataclass(frozen=True)
class LowRankOptimum:
    """The optimum of a rank, enclosed: ``lower_bound`` ≤ infimum ≤ ``divergence``.

    Attributes:
        divergence: The smallest Σ_t ρ_t KL(P_t ‖ softmax(left rightᵀ)_t) found, in nats, rounded up; where a closed
            form exists, the infimum itself.
        lower_bound: A number that no logits of this rank go below.
        factors: (left (T, d), right (N, d)); contexts of prior 0 have a left factor of 0. ``None`` where the
            infimum is a limit with no useful float64 witness (look-up tables at rank 1).
        certificate: Where the lower bound comes from, and whether it is rigorous.
        starts: Divergence that each start reached, in order: after screening, or at the end for those continued.
            Empty for closed forms.
    """

    divergence: float
    lower_bound: float
    factors: tuple[np.ndarray, np.ndarray] | None
    certificate: LowerBound
    starts: tuple[float, ...]


def optimal_low_rank(
    task_or_table: Any,
    rank: int,
    *,
    prior: Any = None,
    starts: int | None = None,
    seed: int = 0,
    max_iterations: int = 500,
) -> LowRankOptimum:
    r"""Return the best logits of rank d for a next-token law, with a certified lower bound.

    .. math:: \mathrm{OPT}(d) = \inf_{X ∈ R^{T×d},\, Y ∈ R^{N×d}} \sum_t ρ_t
              KL\big(P_t \| \mathrm{softmax}(X Y^T)_t\big)

    the divergence of a sequence encoder, and a bound from below for every model whose unembedding has d columns and
    no bias. Joint L-BFGS in float64 from several starts on the exact population objective: the truncated log table in
    the metric of the mean law, the truncated centred log table with a floor under the probabilities, and random
    token factors with fitted contexts. The result depends on the arguments alone.

    Closed forms are used where they exist: rank 0; rank ≥ min(N − 1, number of different rows), where it is 0;
    look-up tables. The infimum over sparse tables may lie at infinite logits; the descent then stops at
    ``max_iterations``.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        rank: d, from 0 up.
        prior: ρ (T,) beside an explicit table; ``None`` is uniform. Contexts of prior 0 are left out.
        starts: Number of starts; ``None`` is 32 for small tables and 2 for large ones.
        seed: Seed of the random starts.
        max_iterations: Iterations for each of the best quarter of the starts, two at least; the others stop at a
            tenth.

    Returns:
        `LowRankOptimum`. The descent is not convex: the gap to ``lower_bound`` is what is not known.

    Raises:
        ValueError: if rows or prior are no distributions, on a negative rank or seed, or a budget below 1.

    Source:
        Derived here. Published baselines (2411.10115, experiments) are training runs that do not reach it.

    Example:
        >>> table = [[0.6, 0.3, 0.1], [0.1, 0.6, 0.3], [0.3, 0.1, 0.6]]
        >>> optimum = optimal_low_rank(table, 1)
        >>> round(optimum.divergence, 9), round(optimum.lower_bound, 6), optimum.certificate.method
        (0.09663325, 0.096633, 'cells')
    """
    table, weights = table_and_prior(task_or_table, prior)
    rank = checks.integer("rank", rank, at_least=0)
    if starts is not None:
        starts = checks.integer("starts", starts, at_least=1)
    generator = np.random.default_rng(checks.integer("seed", seed, at_least=0))
    max_iterations = checks.integer("max_iterations", max_iterations, at_least=1)
    # Equal rows have the same optimal logits: one row of their joint prior stands for them.
    kept = weights > 0
    rows, group = np.unique(table[kept], axis=0, return_inverse=True)
    masses = np.bincount(group.ravel(), weights[kept], minlength=len(rows))
    found = _closed_form(rows, masses, rank)
    if found is None:
        count = starts or min(max(ENTRIES_PER_PASS // rows.size, FEW_STARTS), MANY_STARTS)
        found = _descend(rows, masses, rank, count, generator, max_iterations)
    if found.factors is None:
        return found
    left = np.zeros((len(table), rank))
    left[kept] = found.factors[0][group.ravel()]
    return LowRankOptimum(
        found.divergence, found.lower_bound, (left, found.factors[1]), found.certificate, found.starts
    )


def _closed_form(rows: np.ndarray, masses: np.ndarray, rank: int) -> LowRankOptimum | None:
    from scipy.special import entr

    contexts, n = rows.shape
    if rank == 0:
        value = max(math.log(n) - float(masses @ entr(rows).sum(axis=1)), 0.0)
        return _exact(value, (np.zeros((contexts, 0)), np.zeros((n, 0))), rank)
    if rank >= min(n - 1, contexts):
        logits = np.log(np.maximum(rows, SMALLEST))
        logits -= logits.mean(axis=1, keepdims=True)
        if contexts < n - 1:
            return _exact(0.0, (np.eye(contexts), logits.T), rank)
        basis = np.linalg.qr(np.eye(n)[:, 1:] - 1 / n)[0]
        return _exact(0.0, (logits @ basis, basis), rank)
    if (rows.max(axis=1) == 1).all():
        labels = rows.argmax(axis=1)
        value = lookup_divergence(np.bincount(labels, masses, minlength=n) / masses.sum(), rank)
        if rank == 1:
            return _exact(value, None, rank)
        angles = 2 * math.pi * np.arange(n) / n
        right = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return _exact(value, (circle_scale(CIRCLE_DIVERGENCE, n) * right[labels], right), rank)
    return None


def _exact(value: float, factors: tuple[np.ndarray, np.ndarray] | None, rank: int) -> LowRankOptimum:
    if factors is not None:
        left, right = (np.pad(factor, ((0, 0), (0, rank - factor.shape[1]))) for factor in factors)
        factors = left, right
    return LowRankOptimum(value, value, factors, LowerBound(value, "exact"), ())


def _descend(
    rows: np.ndarray, masses: np.ndarray, rank: int, count: int, generator: np.random.Generator, max_iterations: int
) -> LowRankOptimum:
    objective = DivergenceObjective(rows, masses, rank)
    screening = math.ceil(max_iterations / SCREENING)

    def descend(start: np.ndarray, iterations: int) -> tuple[float, np.ndarray]:
        point, value, _ = lbfgs(objective, start, max_iterations=iterations, tolerance=GRADIENT_TOLERANCE)
        return value, point

    screened = [
        descend(objective.pack(*start), screening) for start in starting_factors(rows, masses, rank, count, generator)
    ]
    reached = [value for value, _ in screened]
    order = sorted(range(len(screened)), key=reached.__getitem__)
    best = screened[order[0]]
    for i in order[: max(2, math.ceil(len(order) / FINALISTS))]:
        final = descend(screened[i][1], max_iterations - screening)
        reached[i] = final[0]
        best = min(best, final, key=lambda pair: pair[0])
    n = rows.shape[1]
    if rank == n - 2 and n <= CODIMENSION_VOCAB:
        direction = codimension_one_optimum(rows, prior=masses / masses.sum()).direction
        right = np.linalg.svd(np.vstack([np.ones(n), direction]))[2][2:].T
        final = descend(objective.pack(_fitted(rows, right), right), max_iterations)
        best = min(best, final, key=lambda pair: pair[0])
    left, right = objective.unpack(best[1])
    divergence = _rounded_up(rows, masses, left, right)
    certificate = best_lower_bound(rows, masses, rank, divergence)
    return LowRankOptimum(
        divergence,
        min(certificate.value, divergence),
        (left, right),
        certificate,
        tuple(max(value, 0.0) for value in reached),
    )


def _rounded_up(rows: np.ndarray, masses: np.ndarray, left: np.ndarray, right: np.ndarray) -> float:
    """The divergence of the factors, with what the rounding of their product can hide added."""
    value = float(masses @ row_divergences(rows, left @ right.T))
    sizes = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1).max()
    return value + float(masses @ sizes) * (left.shape[1] + 2) * float(np.finfo(float).eps)


def _truncated(logs: np.ndarray, masses: np.ndarray, metric: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors of the best approximation of rank d in Σ_t ρ_t Σ_i m_i (·)², the spread shared between them."""
    row, column = np.sqrt(masses), np.sqrt(metric)
    u, s, v = np.linalg.svd(row[:, None] * logs * column, full_matrices=False)
    spread = np.sqrt(s[:rank])
    return u[:, :rank] * spread / row[:, None], v[:rank].T * spread / column[:, None]


def _fitted(rows: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Left factors that fit the centred log table by least squares for given token factors."""
    logs = np.log(np.maximum(rows, LOG_FLOOR))
    centred = right - right.mean(axis=0)
    return np.linalg.lstsq(centred, (logs - logs.mean(axis=1, keepdims=True)).T, rcond=None)[0].T


def starting_factors(
    rows: np.ndarray, masses: np.ndarray, rank: int, count: int, generator: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Starting (X, Y): two truncated log tables, then random token factors with fitted contexts."""
    n = rows.shape[1]
    mean = np.maximum(masses @ rows, SMALLEST)
    floored = np.log(np.maximum(rows, LOG_FLOOR))
    ratio = np.log(np.maximum(rows, LOG_FLOOR * mean))
    starts = [
        _truncated(ratio - (ratio @ mean)[:, None], masses, mean, rank),
        _truncated(floored - floored.mean(axis=1, keepdims=True), masses, np.ones(n), rank),
    ]
    for _ in range(count - 2):
        right = generator.normal(size=(n, rank))
        starts.append((_fitted(rows, right), right))
    return starts[:count]


def best_lower_bound(rows: np.ndarray, weights: np.ndarray, rank: int, upper: float) -> LowerBound:
    """The largest of the bounds that are affordable, for positive weights and a divergence that was reached."""
    contexts, n = rows.shape
    bounds = [LowerBound(0.0, "trivial"), eckart_young_bound(rows, rank, prior=weights, upper=upper)]
    for size in sorted({rank + 1, 2 * (rank + 1), 8 * (rank + 1)}):
        if size < contexts and rows.size <= GROUPED_ENTRIES:
            bounds.append(eckart_young_bound(rows, rank, prior=weights, group_size=size))
    budget = CELL_BUDGET // (contexts * n)
    # A bound for a larger rank is one for this rank: the cells of N − 2 serve every rank below.
    if 1 <= rank <= n - 2 <= LARGEST_BLOCK - 2:
        bounds.append(cell_bound(rows, prior=weights, max_cells=min(max(budget, 1), 2000)))
    if rank + 2 <= min(n - 1, LARGEST_BLOCK):
        bounds.append(token_block_bound(rows, rank, prior=weights, max_cells=min(max(budget, 1), 500)))
    return max(bounds, key=lambda bound: bound.value)
