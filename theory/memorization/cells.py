"""Certified lower bounds by branch and bound over directions: rank N − 2, and blocks of d + 2 tokens."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.certificate import LowerBound
from plumbline.theory.memorization.codimension import optimal_tilts, sum_zero_basis, tilt_range, tilted_entropy_gains
from plumbline.theory.memorization.task import table_and_prior

EPS = float(np.finfo(float).eps)
CELL_ENTRIES = 2 * 10**5
"""Tilted probabilities computed in one pass over cells: the arrays stay in the cache."""
MAX_BATCH = 32
"""Cells computed in one pass: more would halve cells that need it not."""
CELL_NEWTON_STEPS = 25
"""Any feasible tilt gives a valid bound: these need not have converged, only nearly."""
PARTITIONS = 64
"""Random partitions of the tokens among which the most promising is certified."""


def rounding_allowance(contexts: int, vocab_size: int) -> float:
    """What float64 can add to a mean of entropy differences.

    Entries of a tilted row are off by at most 4Nε, and −x log x moves by at most its value at the step; the sums
    over tokens and contexts add (T + N)ε of the size log N.
    """
    off = 4 * vocab_size * EPS
    return -vocab_size * off * math.log(off) + (contexts + vocab_size) * EPS * math.log(vocab_size)


def cell_bound(task_or_table: Any, *, prior: Any = None, tolerance: float = 1e-6, max_cells: int = 2000) -> LowerBound:
    r"""Return a certified lower bound of the optimum of rank N − 2, by branch and bound over directions.

    .. math:: \min_{u ∈ \mathrm{cell}} \sum_t ρ_t [\max_μ H(P_t - μ u) - H(P_t)]
              ≥ \min_{v ∈ \mathrm{vertices}} \sum_t ρ_t [H(P_t - μ_t v) - H(P_t)]

    for any tilts μ_t feasible at all vertices: for fixed μ_t the sum is concave in u, so that its minimum over the
    simplex is at a vertex. The directions, up to sign, are the faces of a cross-polytope in the N − 1 coordinates of
    vectors of sum zero; the simplex with the lowest bound is halved along its longest edge. The gap of a cell is of
    second order in its size, so that near the minimum each halving costs a bounded number of cells.

    Conditions: at least 3 tokens; the cost of an accuracy grows exponentially with N, useful up to N = 5 or so.
    Valid for every budget, and for every rank below N − 2.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        prior: ρ (T,) beside an explicit table; ``None`` is uniform.
        tolerance: Relative gap to the best divergence met, at which to stop.
        max_cells: Number of cells after which to stop.

    Returns:
        `LowerBound`, method "cells".

    Raises:
        ValueError: if rows or prior are no distributions, there are fewer than 3 tokens, or on a tolerance or
            budget that is not positive.

    Source:
        Derived here.

    Example:
        >>> round(cell_bound([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2]]).value, 6)
        0.048698
    """
    table, weights = table_and_prior(task_or_table, prior)
    if table.shape[1] < 3:
        raise ValueError(f"task_or_table must have at least 3 tokens for codimension one, got shape {table.shape}")
    tolerance = checks.real("tolerance", tolerance, above=0.0)
    max_cells = checks.integer("max_cells", max_cells, at_least=1)
    return LowerBound(_cells(table[weights > 0], weights[weights > 0], tolerance, max_cells), "cells")


def _cells(rows: np.ndarray, weights: np.ndarray, tolerance: float, max_cells: int) -> float:
    n = rows.shape[1]
    basis = sum_zero_basis(n)
    signs = itertools.product([1.0, -1.0], repeat=n - 2)
    batch = max(1, min(MAX_BATCH, CELL_ENTRIES // (rows.size * n)))
    pending = [basis.T * np.array([1.0, *sign])[:, None] for sign in itertools.islice(signs, max_cells + 1)]
    if len(pending) > max_cells:
        return 0.0
    best, count, seen = math.inf, 0, 0
    heap: list[tuple[float, int, np.ndarray]] = []
    parents = [0.0] * len(pending)
    while True:
        for first in range(0, len(pending), batch):
            cells = np.array(pending[first : first + batch])
            bounds, met = _cell_values(rows, weights, cells)
            best = min(best, met)
            for bound, parent, cell in zip(bounds, parents[first : first + batch], cells, strict=True):
                heapq.heappush(heap, (max(float(bound), parent), seen, cell))
                seen += 1
        count += len(pending)
        lowest = heap[0][0]
        if best - lowest <= tolerance * best or count >= max_cells:
            break
        split = [heapq.heappop(heap) for _ in range(min(max(1, batch // 2), len(heap)))]
        pending = [half for _, _, cell in split for half in _halves(cell)]
        parents = [bound for bound, _, _ in split for _ in range(2)]
    return max(0.0, lowest - rounding_allowance(*rows.shape))


def _cell_values(rows: np.ndarray, weights: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, float]:
    """Lower bounds (M,) over cells (M, K, N), and the smallest divergence at their centres."""
    tilts = optimal_tilts(rows, cells.mean(axis=1), CELL_NEWTON_STEPS)
    centres = tilted_entropy_gains(rows, tilts, cells.mean(axis=1)) @ weights
    low, high = tilt_range(rows, cells)
    tilts = np.clip(tilts, low.max(axis=1), high.min(axis=1))
    at_vertices = tilted_entropy_gains(rows, np.repeat(tilts[:, None], cells.shape[1], axis=1), cells) @ weights
    return at_vertices.min(axis=1), float(centres.min())


def _halves(cell: np.ndarray) -> list[np.ndarray]:
    """The two simplices on either side of the middle of the longest edge."""
    lengths = np.square(cell[:, None] - cell[None]).sum(axis=-1)
    i, j = np.unravel_index(lengths.argmax(), lengths.shape)
    middle = (cell[i] + cell[j]) / 2
    halves = [cell.copy(), cell.copy()]
    halves[0][i] = halves[1][j] = middle
    return halves


def token_block_bound(
    task_or_table: Any,
    rank: int,
    *,
    prior: Any = None,
    blocks: Any = None,
    tolerance: float = 1e-2,
    max_cells: int = 200,
    seed: int = 0,
) -> LowerBound:
    r"""Return a certified lower bound from disjoint blocks of d + 2 tokens.

    .. math:: \mathrm{OPT}(d) ≥ \sum_b \inf_{\mathrm{rank} ≤ d} \sum_t ρ_t P_t(A_b)\,
              KL\big(P_t(·|A_b) \| \mathrm{softmax}\, L_t|_{A_b}\big)

    by the chain rule of the divergence; each term is a problem of codimension one, bounded by `cell_bound`.

    Conditions: 1 ≤ d ≤ N − 2; the certificate of a block weakens as d grows and is useful for d = 1 and 2.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        rank: d.
        prior: ρ (T,) beside an explicit table; ``None`` is uniform.
        blocks: Token blocks (B, d + 2), disjoint; ``None`` takes the most promising of random partitions.
        tolerance: Relative gap at which the certificate of a block stops.
        max_cells: Number of cells after which the certificate of a block stops.
        seed: Seed of the random partitions.

    Returns:
        `LowerBound`, method "token blocks".

    Raises:
        ValueError: if rows or prior are no distributions, on a rank out of range, or on blocks that overlap.

    Source:
        Derived here.

    Example:
        >>> table = [[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.2, 0.5], [0.1, 0.6, 0.2, 0.1]]
        >>> round(token_block_bound(table, 1, blocks=[[0, 1, 3]]).value, 4)
        0.0544
    """
    table, weights = table_and_prior(task_or_table, prior)
    n = table.shape[1]
    rank = checks.integer("rank", rank, at_least=1, at_most=n - 2)
    tolerance = checks.real("tolerance", tolerance, above=0.0)
    max_cells = checks.integer("max_cells", max_cells, at_least=1)
    generator = np.random.default_rng(checks.integer("seed", seed, at_least=0))
    if blocks is None:
        parts = _promising_blocks(table, weights, rank, generator)
    else:
        parts = checks.tokens("blocks", blocks, (None, rank + 2), n)
        if len(np.unique(parts)) < parts.size:
            raise ValueError(f"blocks must be disjoint, got {parts.tolist()}")
    total = 0.0
    for block in parts:
        rows, masses = _conditioned(table[:, block], weights)
        if len(rows) > rank:
            total += float(masses.sum()) * _cells(rows, masses / masses.sum(), tolerance, max_cells)
    return LowerBound(total * (1 - (len(table) + n) * EPS), "token blocks")


def _conditioned(part: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Conditional rows given a token block, and the masses ρ_t P_t(A) of the contexts in which it can occur."""
    inside = part.sum(axis=1)
    masses = weights * inside
    return part[masses > 0] / inside[masses > 0, None], masses[masses > 0]


def _promising_blocks(table: np.ndarray, weights: np.ndarray, rank: int, generator: np.random.Generator) -> np.ndarray:
    """The partition with the largest small-signal estimate among a few random ones, and tokens by probability."""
    n, size = table.shape[1], rank + 2
    mean = weights @ table
    logs = np.log(np.maximum(table, np.finfo(float).tiny)) * np.sqrt(weights)[:, None]
    gram = logs.T @ logs
    orders = [np.argsort(-mean), *(generator.permutation(n) for _ in range(PARTITIONS - 1))]
    partitions = np.array([order[: n - n % size].reshape(-1, size) for order in orders])
    # The smallest eigenvalue but the null one of C Gram C, C = diag(√p)-weighted centring in the metric of the mean.
    root = np.sqrt(mean)[partitions]
    unit = root / np.maximum(np.linalg.norm(root, axis=-1, keepdims=True), np.finfo(float).tiny)
    centring = np.eye(size) - unit[..., :, None] * unit[..., None, :]
    inner = gram[partitions[..., :, None], partitions[..., None, :]] * root[..., :, None] * root[..., None, :]
    estimates = np.linalg.eigvalsh(centring @ inner @ centring)[..., 1]
    return partitions[estimates.sum(axis=-1).argmax()]
