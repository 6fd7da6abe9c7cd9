"""The optimal logits of rank N − 2: a search over one direction, by the entropies of tilted rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.objective import DivergenceObjective, ValueAndGradient, lbfgs
from plumbline.theory.memorization.task import table_and_prior

NEWTON_STEPS = 60
"""Steps for the tilts of all rows: Newton needs ten, halving the bracket at each failure sixty."""
TILT_TOLERANCE = 1e-13
"""Accuracy of a tilt in units of its range: its square is what the entropy, at its maximum, is off by."""
SUM_TOLERANCE = 1e-9
"""Largest |Σ y| / |y| taken for rounding in a direction."""
GRADIENT_TOLERANCE = 1e-10
DESCENT_STEPS = 500


@dataclass(frozen=True)
class CodimensionOneOptimum:
    """The best logits of rank N − 2 that a search over all directions found.

    Attributes:
        divergence: Σ_t ρ_t KL(P_t ‖ model), attained or approached by logits orthogonal to ``direction``.
        direction: y (N,), of length 1 and sum 0.
    """

    divergence: float
    direction: np.ndarray


def sum_zero_basis(vocab_size: int) -> np.ndarray:
    """Orthonormal columns (N, N − 1) that span the vectors of sum zero (Helmert)."""
    n = vocab_size
    basis = np.triu(np.ones((n, n - 1)))
    basis[np.arange(1, n), np.arange(n - 1)] = -np.arange(1, n)
    return basis / np.sqrt(np.arange(1, n) * np.arange(2, n + 1))


def tilt_range(rows: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and largest μ (…, T) at which P_t − μ y ≥ 0, for rows (T, N) and directions (…, N)."""
    y = directions[..., None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = rows / y
    low = np.where(y < 0, ratio, -np.inf).max(axis=-1)
    high = np.where(y > 0, ratio, np.inf).min(axis=-1)
    return low, high


def optimal_tilts(rows: np.ndarray, directions: np.ndarray, steps: int = NEWTON_STEPS) -> np.ndarray:
    """The μ (…, T) that maximise the entropy of P_t − μ y: Newton on Σ_i y_i log(P_ti − μ y_i), within brackets.

    Every μ returned is feasible, so that the entropy of the tilted row is a lower bound of the maximum even where
    Newton has not converged.
    """
    y = directions[..., None, :]
    low, high = tilt_range(rows, directions)
    close = TILT_TOLERANCE * (high - low)
    tilt = np.where((low < 0) & (high > 0), 0.0, (low + high) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(steps):
            tilted = rows - tilt[..., None] * y
            slope = np.where(y == 0, 0.0, y * np.log(np.maximum(tilted, 0.0))).sum(axis=-1)
            low = np.where(slope > 0, tilt, low)
            high = np.where(slope < 0, tilt, high)
            step = slope / np.where(y == 0, 0.0, y * y / tilted).sum(axis=-1)
            proposal = tilt + step
            inside = (proposal > low) & (proposal < high)
            proposal = np.where(inside, proposal, (low + high) / 2)
            moved = np.abs(proposal - tilt) > close
            tilt = np.where((slope != 0) & moved, proposal, tilt)
            if not moved.any():
                break
    return tilt


def tilted_entropy_gains(rows: np.ndarray, tilts: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """H(P_t − μ_t y) − H(P_t), shape (…, T), for tilts (…, T)."""
    from scipy.special import entr

    tilted = np.maximum(rows - tilts[..., None] * directions[..., None, :], 0.0)
    return entr(tilted).sum(axis=-1) - entr(rows).sum(axis=-1)


def codimension_one_divergence(task_or_table: Any, direction: Any, *, prior: Any = None) -> float:
    r"""Return the smallest divergence of logits orthogonal to a given direction.

    .. math:: F(y) = \sum_t ρ_t k_t(y), \qquad k_t(y) = \max_μ H(P_t - μ y) - H(P_t)

    By max-entropy duality: the infimum of KL(P_t ‖ softmax L) over all L with L·y = 0 is the largest entropy among
    distributions P_t − μy, less H(P_t). The maximum is at the root of Σ_i y_i log(P_ti − μ y_i), which decreases in
    μ. F(y) depends on the line of y only.

    Conditions: Σ y = 0, y ≠ 0. Zeros in P are allowed; the infimum may then not be attained.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        direction: y (N,).
        prior: ρ (T,) beside an explicit table; ``None`` is uniform.

    Returns:
        The divergence in nats.

    Raises:
        ValueError: if rows or prior are no distributions, or the direction is zero or does not sum to zero.

    Source:
        Derived here.

    Example:
        >>> round(codimension_one_divergence([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], [1, -1, 0]), 9)
        0.021128529
    """
    table, weights = table_and_prior(task_or_table, prior)
    y = checks.array("direction", direction, (table.shape[1],))
    size = np.abs(y).max()
    if size == 0 or abs((y / size).sum()) > SUM_TOLERANCE * len(y):
        raise ValueError(f"direction must be nonzero and sum to 0, got {y}")
    y = y / size
    y -= y.mean()
    gains = tilted_entropy_gains(table, optimal_tilts(table, y), y)
    return max(float(weights @ gains), 0.0)


def codimension_one_optimum(
    task_or_table: Any, *, prior: Any = None, starts: int = 16, seed: int = 0
) -> CodimensionOneOptimum:
    r"""Search the direction y whose orthogonal logits have the smallest divergence: the optimum of rank N − 2.

    .. math:: \mathrm{OPT}(N-2) = \inf_{y ≠ 0,\, Σy = 0} \sum_t ρ_t \big[\max_μ H(P_t - μ y) - H(P_t)\big], \qquad
              ∂F/∂y_i = \sum_t ρ_t μ_t \log(P_{ti} - μ_t y_i)

    A search in N − 2 dimensions instead of (T + N)(N − 2): L-BFGS from several starts, and a polish over the
    logits themselves, because the gradient is inaccurate where a tilted probability is nearly 0.

    Conditions: at least 3 tokens. The value is attained or approached, an upper bound of the optimum; for a lower
    bound see `cell_bound`.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        prior: ρ (T,) beside an explicit table; ``None`` is uniform.
        starts: Number of starting directions.
        seed: Seed of the starting directions.

    Returns:
        `CodimensionOneOptimum`.

    Raises:
        ValueError: if rows or prior are no distributions, there are fewer than 3 tokens, or starts < 1.

    Source:
        Derived here.

    Example:
        >>> optimum = codimension_one_optimum([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.2, 0.6, 0.2]])
        >>> round(optimum.divergence, 9)
        0.048698523
    """
    table, weights = table_and_prior(task_or_table, prior)
    n = table.shape[1]
    if n < 3:
        raise ValueError(f"task_or_table must have at least 3 tokens for codimension one, got shape {table.shape}")
    starts = checks.integer("starts", starts, at_least=1)
    generator = np.random.default_rng(checks.integer("seed", seed, at_least=0))
    rows, weights = table[weights > 0], weights[weights > 0]
    basis = sum_zero_basis(n)
    objective = direction_objective(rows, weights)
    logs = np.log(np.maximum(rows, np.finfo(float).tiny)) @ basis * np.sqrt(weights)[:, None]
    first = np.linalg.svd(logs, full_matrices=True)[2][-1]
    best, value = first, np.inf
    for start in [first, *generator.normal(size=(starts - 1, n - 1))]:
        point, reached, _ = lbfgs(
            objective, start / np.linalg.norm(start), max_iterations=DESCENT_STEPS, tolerance=GRADIENT_TOLERANCE
        )
        if reached < value:
            best, value = point, reached
    y = basis @ (best / np.linalg.norm(best))
    return _polish(rows, weights, y, value)


def direction_objective(rows: np.ndarray, weights: np.ndarray) -> ValueAndGradient:
    """F(y) and its gradient as a function of the coordinates of y among the vectors of sum zero."""
    basis = sum_zero_basis(rows.shape[1])

    def objective(coordinates: np.ndarray) -> tuple[float, np.ndarray]:
        y = basis @ coordinates
        tilts = optimal_tilts(rows, y)
        tilted = np.maximum(rows - tilts[:, None] * y, np.finfo(float).tiny)
        return float(weights @ tilted_entropy_gains(rows, tilts, y)), basis.T @ (np.log(tilted).T @ (weights * tilts))

    return objective


def _polish(rows: np.ndarray, weights: np.ndarray, y: np.ndarray, value: float) -> CodimensionOneOptimum:
    """Descend over logits of rank N − 2 from the space orthogonal to y."""
    n = len(y)
    right = np.linalg.svd(np.vstack([np.ones(n), y]))[2][2:].T
    tilted = np.maximum(rows - optimal_tilts(rows, y)[:, None] * y, np.finfo(float).tiny)
    objective = DivergenceObjective(rows, weights, n - 2)
    point, polished, _ = lbfgs(
        objective, objective.pack(np.log(tilted) @ right, right), max_iterations=DESCENT_STEPS, tolerance=1e-12
    )
    if polished < value:
        y = np.linalg.svd(np.vstack([np.ones(n), objective.unpack(point)[1].T]))[2][-1]
        value = polished
    return CodimensionOneOptimum(max(value, 0.0), y)
