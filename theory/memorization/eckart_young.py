"""A certified lower bound from the singular values of a weighted log table, for any rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.certificate import LowerBound
from plumbline.theory.memorization.task import table_and_prior

EPS = float(np.finfo(float).eps)
BISECTIONS = 100


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
        bounded = curvature_factor(ratio) * relative_divergence(kappa)
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


def relative_divergence(kappa: np.ndarray) -> np.ndarray:
    """κ/(e^κ − 1), decreasing from 1 at 0; taken as 0 from κ = 700 on."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.minimum(kappa, 700.0)
        return np.where(kappa < 700, np.where(inner < 1e-12, 1 - inner / 2, inner / np.expm1(inner)), 0.0)


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
