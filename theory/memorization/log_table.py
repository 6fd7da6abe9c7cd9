"""What the singular values of a log table say about low-rank logits: when they are exact, and small signals."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.task import table_and_prior


def _full_support(task_or_table: Any, prior: Any) -> tuple[np.ndarray, np.ndarray]:
    table, weights = table_and_prior(task_or_table, prior)
    rows = table[weights > 0]
    if (rows == 0).any():
        where = tuple(int(i) for i in np.argwhere((table == 0) & (weights > 0)[:, None])[0])
        raise ValueError(f"task_or_table must have no zero probability for its logarithm, got 0 at index {where}")
    return rows, weights[weights > 0]


def rank_for_zero_divergence(task_or_table: Any, *, prior: Any = None, tolerance: float | None = None) -> int:
    r"""Return the smallest rank of logits that equal a table of full support exactly.

    .. math:: \mathrm{OPT}(d) = 0 ⟺ \mathrm{rank}\big(\log P\, (I - 11^T/N)\big) ≤ d

    because softmax L = P means L = log P up to a constant in each row. It is at most min(N − 1, number of different
    rows). The rank of log P itself can be larger by one.

    Conditions: full support in every context of positive prior. With zeros the divergence may have the infimum 0 at a
    far smaller rank (2, for every look-up table), and a number here would be wrong.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        prior: ρ (T,) beside an explicit table; ``None`` is uniform. Contexts of prior 0 do not count.
        tolerance: Singular values up to this fraction of the norm of log P count as 0; ``None`` is 4 max(T, N) ε.

    Returns:
        The numerical rank.

    Raises:
        ValueError: if rows or prior are no distributions, or a probability is 0.

    Source:
        Derived here; the bound N − 1 is Proposition 2 of Dana, Pydi, Chevaleyre 2024 (2411.10115).

    Example:
        >>> rank_for_zero_divergence([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5], [0.2, 0.4, 0.4]])
        2
    """
    rows, _ = _full_support(task_or_table, prior)
    logs = np.log(rows)
    values = np.linalg.svd(logs - logs.mean(axis=1, keepdims=True), compute_uv=False)
    if tolerance is None:
        fraction = 4 * max(rows.shape) * np.finfo(float).eps
    else:
        fraction = checks.real("tolerance", tolerance, at_least=0.0)
    # Relative to log P: rounding of its entries and of its centring is, whatever is left after centring.
    return int((values > fraction * np.linalg.norm(logs)).sum())


def small_signal_divergence(task_or_table: Any, rank: int, *, prior: Any = None) -> float:
    r"""Return the second-order approximation of the optimum of rank d, for rows near their mean.

    .. math:: \mathrm{OPT}(d) ≈ \tfrac12 \sum_{k>d} σ_k²\Big(\mathrm{diag}(\sqrt ρ)\,
              \big(\log P - (\log P\, \bar p) 1^T\big)\, \mathrm{diag}(\sqrt{\bar p})\Big), \qquad
              \bar p = \sum_t ρ_t P_t

    Conditions: full support, rows that are near the uniform law (the best constant must itself be near rank 0). It
    is an approximation, neither an upper nor a lower bound: its relative error vanishes as the logits shrink; for
    Gaussian logits it is 0.1 % at a scale of 0.05, tens of percent at 1.

    Args:
        task_or_table: An `NgramTask`, or P (T, N).
        rank: d, from 0 up.
        prior: ρ (T,) beside an explicit table; ``None`` is uniform.

    Returns:
        The approximation in nats.

    Raises:
        ValueError: if rows or prior are no distributions, a probability is 0, or on a negative rank.

    Source:
        Derived here (Eckart-Young).

    Example:
        >>> round(small_signal_divergence([[0.35, 0.33, 0.32], [0.33, 0.35, 0.32]], 1), 9)
        0.000294287
    """
    rows, weights = _full_support(task_or_table, prior)
    rank = checks.integer("rank", rank, at_least=0)
    mean = weights @ rows
    logs = np.log(rows)
    centred = logs - (logs @ mean)[:, None]
    values = np.linalg.svd(np.sqrt(weights)[:, None] * centred * np.sqrt(mean), compute_uv=False)
    return float(np.square(values[rank:]).sum()) / 2
