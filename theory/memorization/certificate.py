"""Certified lower bounds of the divergence that logits of a given rank can reach."""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from theory import checks
from theory.memorization.codimension import optimal_tilts, sum_zero_basis, tilt_range, tilted_entropy_gains
from theory.memorization.task import table_and_prior

EPS = float(np.finfo(float).eps)
CELL_ENTRIES = 2 * 10**5
"""Tilted probabilities computed in one pass over cells: the arrays stay in the cache."""
MAX_BATCH = 32
"""Cells computed in one pass: more would halve cells that need it not."""
CELL_NEWTON_STEPS = 12
"""Any feasible tilt gives a valid bound: these need not have converged, only nearly."""
PARTITIONS = 64
"""Random partitions of the tokens among which the most promising is certified."""
BISECTIONS = 100
CELL_BUDGET = 5 * 10**6
"""Table entries times cells that a certificate spends: about two seconds."""
LARGEST_BLOCK = 5
"""Tokens beyond which simplicial cells are too many to be of use."""


@dataclass(frozen=True)
class LowerBound:
    """A number below the divergence of every logit matrix of the given rank.

    Attributes:
        value: The bound in nats, an allowance for rounding subtracted.
        method: "exact", "cells", "token blocks", "Eckart-Young", or "trivial" for 0.
        rigorous: Whether it is proved for this table; a bound from a search that may have missed the minimum is not.
    """

    value: float
    method: str
    rigorous: bool = True


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
        0.054
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


def eckart_young_bound(
    task_or_table: Any, rank: int, *, prior: Any = None, upper: float | None = None, group_size: int | None = None
) -> LowerBound:
    r"""Return a certified lower bound from singular values, weighted so that it bounds the divergence.

    .. math:: \mathrm{OPT}(d) ≥ \sum_{k>d} σ_k²\big(\mathrm{diag}\sqrt{ρ_t s_t c_t}\, \log P\, M^{1/2}\big), \quad
              M = \mathrm{diag}\, m - m m^T/Σm, \quad s_t = \min_i P_{ti}/m_i

    for a metric m ≥ 0 over tokens, with c_t ≤ 1/2 the larger of two factors, φ(x) = (e^{-x} − 1 + x)/x²:

    - *From the dual.* Let V be the vectors of sum 0 orthogonal to the token factors. Each w in V gives the lower bound
      H(P_t − w) − H(P_t) = w·log P_t − KL(P_t − w ‖ P_t). A multiple of the projection of the centred log row on V,
      in the metric 1/m, keeps |w_i| below a fraction r of P_ti for every V; the best r is 1 − e^{-x} and gives
      c_t = φ(x_t), x_t = s_t |\log P_t|_M \max_i \sqrt{m_i}/P_{ti}.
    - *From a reached divergence F.* A better model has KL_t ≤ κ_t = F/ρ_t. That bounds max_i log(P_ti/q_ti) ≤ B_t, by
      the binary divergence at the rarest token, and KL_t ≥ log(1 + φ(B_t) Var δ) gives
      c_t = φ(B_t) κ_t/(e^{κ_t} − 1), for δ = log q_t − log P_t. The bound is then at most F.

    Both need m only on the tokens used. Tried are the lower envelope over contexts, the mean law and the uniform
    metric, on the tokens whose envelope is largest: all of them, a half, a quarter, …. The bound also holds within
    groups of contexts and adds up. It is tight as the logits tend to 0 and the rows to the metric.

    Conditions: none; it is 0 where no token is possible in every context of a group.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        rank: d, from 0 up.
        prior: ρ (T,) beside an explicit table; ``None`` is uniform.
        upper: A divergence that some logits of rank d reach, for all contexts together; ``None`` computes one.
        group_size: Number of contexts in a group (similar ones go together); ``None`` is all of them.

    Returns:
        `LowerBound`, method "Eckart-Young".

    Raises:
        ValueError: if rows or prior are no distributions, on a negative rank or upper, or a group_size below 1.

    Source:
        Derived here.

    Example:
        >>> round(eckart_young_bound([[0.5, 0.3, 0.2], [0.4, 0.3, 0.3], [0.3, 0.5, 0.2]], 1).value, 6)
        0.012156
    """
    table, weights = table_and_prior(task_or_table, prior)
    rank = checks.integer("rank", rank, at_least=0)
    if upper is not None:
        upper = checks.real("upper", upper, at_least=0.0)
    rows, weights = table[weights > 0], weights[weights > 0]
    size = len(rows) if group_size is None else checks.integer("group_size", group_size, at_least=1)
    size = min(size, len(rows))
    if size < len(rows):
        upper = None
        logs = np.log(np.maximum(rows, np.finfo(float).tiny))
        order = np.argsort(np.linalg.svd(logs - logs.mean(axis=0), full_matrices=False)[0][:, 0])
        rows, weights = rows[order], weights[order]
    # Contexts left over when the groups are full are dropped: their divergence is not negative.
    groups = len(rows) // size
    rows, weights = rows[: groups * size].reshape(groups, size, -1), weights[: groups * size].reshape(groups, size)
    reached = _reached(rows, weights, rank) if upper is None else np.array([upper])
    return LowerBound(_eckart_young(rows, weights, rank, reached), "Eckart-Young")


def _reached(rows: np.ndarray, weights: np.ndarray, rank: int) -> np.ndarray:
    """Divergences (G,) of truncated log tables, rows (G, T, N)."""
    masses = weights.sum(axis=1)
    mean = np.einsum("gt,gtn->gn", weights, rows) / masses[:, None]
    root = np.sqrt(np.maximum(mean, np.finfo(float).tiny))
    logs = np.log(np.maximum(rows, 1e-3 * mean[:, None] + np.finfo(float).tiny))
    logs -= np.einsum("gtn,gn->gt", logs, mean)[..., None]
    scale = np.sqrt(weights)[..., None]
    u, s, v = np.linalg.svd(scale * logs * root[:, None], full_matrices=False)
    logits = (u[..., :rank] * s[:, None, :rank]) @ v[:, :rank] / scale / root[:, None]
    highest = logits.max(axis=-1, keepdims=True)
    logits -= highest + np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True))
    own = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
    return np.maximum(np.einsum("gt,gtn->g", weights, rows * (own - logits)), 0.0) + 1e-13


def _eckart_young(rows: np.ndarray, weights: np.ndarray, rank: int, reached: np.ndarray) -> float:
    """The sum over groups of the bound, rows (G, T, N), weights (G, T), reached (G,)."""
    kappa = reached[:, None] / weights
    envelope = rows.min(axis=1)
    ordered = -np.sort(-envelope, axis=-1)
    mean = np.einsum("gt,gtn->gn", weights, rows) / weights.sum(axis=1)[:, None]
    n = rows.shape[-1]
    best = np.zeros(len(rows))
    for count in sorted({max(2, rank + 2, n >> halvings) for halvings in range(n.bit_length())} & set(range(n + 1))):
        chosen = ((envelope >= ordered[:, count - 1, None]) & (envelope > 0))[:, None]
        ratio = largest_log_ratio(np.where(chosen, rows, 1.0).min(axis=-1), kappa)
        with np.errstate(over="ignore"):
            bounded = curvature_factor(ratio) * np.where(kappa < 1e-12, 1 - kappa / 2, kappa / np.expm1(kappa))
        logs = np.log(np.where(chosen, rows, 1.0))
        for metric in (envelope, mean, np.ones_like(mean)):
            metric = np.where(chosen, metric[:, None], 0.0)
            share = np.where(chosen, rows / np.where(chosen, metric, 1.0), np.inf).min(axis=-1)
            share = np.where(np.isfinite(share), share, 0.0)
            root = np.sqrt(metric)
            unit = root / np.maximum(np.linalg.norm(root, axis=-1, keepdims=True), np.finfo(float).tiny)
            matrix = logs * root
            matrix -= (matrix @ unit.transpose(0, 2, 1)) * unit
            reach = np.where(chosen, root / np.where(chosen, rows, 1.0), 0.0).max(axis=-1)
            tilted = curvature_factor(np.linalg.norm(matrix, axis=-1) * reach * share)
            matrix *= np.sqrt(weights * np.maximum(bounded, tilted) * share)[..., None]
            best = np.maximum(best, _squared_tail(matrix, rank))
    return float(np.minimum(best, reached).sum()) * (1 - 1e-12)


def _squared_tail(matrices: np.ndarray, rank: int) -> np.ndarray:
    """Σ_{k>d} σ_k² of each matrix (G, T, N), rounded down."""
    if matrices.shape[1] > matrices.shape[2]:
        matrices = matrices.transpose(0, 2, 1)
    squares = np.linalg.eigvalsh(matrices @ matrices.transpose(0, 2, 1))
    kept = squares[:, : max(squares.shape[1] - rank, 0)]
    # Product and eigenvalues are off by less than (T + N)ε of the trace each.
    off = 4 * sum(matrices.shape[1:]) * EPS * squares.sum(axis=1)
    return np.maximum(kept - off[:, None], 0.0).sum(axis=1)


def curvature_factor(x: np.ndarray) -> np.ndarray:
    """φ(x) = (e^{-x} − 1 + x)/x², decreasing from 1/2 at 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x < 1e-4, 0.5 - x / 6, (np.expm1(-x) + x) / x**2)


def largest_log_ratio(probability: np.ndarray, kappa: np.ndarray) -> np.ndarray:
    r"""The largest b = log(p/q) ≥ 0 with p b + (1 − p) log((1 − p)/(1 − p e^{-b})) ≤ κ, rounded up.

    The left-hand side, the binary divergence, increases in b, and in p at a fixed b: the rarest token decides.
    """
    # kl ≥ p b + log(1 − p), so the root is below (κ − log(1 − p))/p.
    with np.errstate(divide="ignore"):
        high = (kappa - (1 - probability) * np.log1p(-np.minimum(probability, 1 - EPS))) / probability + 1e-9
    low = np.zeros_like(high)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        divergence = probability * middle - (1 - probability) * (
            np.log1p(-probability * np.exp(-middle)) - np.log1p(-np.minimum(probability, 1 - EPS))
        )
        above = divergence > kappa * (1 + 1e-12) + 1e-15
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    return high


def best_lower_bound(rows: np.ndarray, weights: np.ndarray, rank: int, upper: float) -> LowerBound:
    """The largest of the bounds that are affordable, for positive weights and a divergence that was reached."""
    contexts, n = rows.shape
    bounds = [LowerBound(0.0, "trivial"), eckart_young_bound(rows, rank, prior=weights, upper=upper)]
    for size in sorted({rank + 1, 2 * (rank + 1), 8 * (rank + 1)}):
        if size < contexts:
            bounds.append(eckart_young_bound(rows, rank, prior=weights, group_size=size))
    budget = CELL_BUDGET // (contexts * n)
    # A bound for a larger rank is one for this rank: the cells of N − 2 serve every rank below.
    if 1 <= rank <= n - 2 <= LARGEST_BLOCK - 2:
        bounds.append(cell_bound(rows, prior=weights, max_cells=min(max(budget, 1), 2000)))
    if rank + 2 <= min(n - 1, LARGEST_BLOCK):
        bounds.append(token_block_bound(rows, rank, prior=weights, max_cells=min(max(budget, 1), 500)))
    return max(bounds, key=lambda bound: bound.value)
