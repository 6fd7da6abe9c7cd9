"""What is known before any model: the entropy of the next token, and the divergence of predictors without context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plumbline.theory import checks
from plumbline.theory.memorization.task import NgramTask, check_task, table_and_prior

MAX_LOGIT = 1e300
"""Largest logit: the range of the difference of two rows stays finite."""


def conditional_entropy(task: NgramTask) -> float:
    r"""Return the entropy of the next token given its context: the cross-entropy that no model goes below.

    .. math:: \sum_t ρ_t H(P_t), \qquad H(p) = -\sum_i p_i \log p_i

    Conditions: none; probabilities of 0 contribute 0, without an ε inside the logarithm.

    Args:
        task: The next-token law.

    Returns:
        The entropy in nats.

    Raises:
        ValueError: if ``task`` is not an `NgramTask`.

    Source:
        Shannon 1948.

    Example:
        >>> from plumbline.theory.memorization import geometric_law
        >>> round(conditional_entropy(geometric_law(50, ratio=0.5, support=10)), 12)
        1.378541689209
    """
    from scipy.special import entr

    check_task(task)
    return float(task.prior @ entr(task.conditional).sum(axis=1)) + 0.0


def uniform_divergence(task: NgramTask) -> float:
    r"""Return the divergence of the predictor that gives every token the probability 1/N.

    .. math:: \sum_t ρ_t KL(P_t \| 1/N) = \log N - \sum_t ρ_t H(P_t)

    Conditions: none. It is the optimum of a model of embedding dimension 0 without output bias.

    Args:
        task: The next-token law.

    Returns:
        The divergence in nats.

    Raises:
        ValueError: if ``task`` is not an `NgramTask`.

    Source:
        Derived here (immediate).

    Example:
        >>> from plumbline.theory.memorization import lookup_table
        >>> round(uniform_divergence(lookup_table(50)), 12)
        3.912023005428
    """
    from scipy.special import rel_entr

    check_task(task)
    return max(float(task.prior @ rel_entr(task.conditional, 1 / task.vocab_size).sum(axis=1)), 0.0)


def best_constant_divergence(task: NgramTask) -> float:
    r"""Return the divergence of the best predictor that ignores the context: the mutual information.

    .. math:: \min_q \sum_t ρ_t KL(P_t \| q) = H(\bar P) - \sum_t ρ_t H(P_t), \qquad \bar P = \sum_t ρ_t P_t

    Conditions: none. It is the optimum of a model of embedding dimension 0 with an output bias.

    Args:
        task: The next-token law.

    Returns:
        The divergence in nats.

    Raises:
        ValueError: if ``task`` is not an `NgramTask`.

    Source:
        Derived here (classical).

    Example:
        >>> from plumbline.theory.memorization import lookup_table
        >>> round(best_constant_divergence(lookup_table(2, 1, labels=[0, 1])), 12)
        0.69314718056
    """
    from scipy.special import rel_entr

    check_task(task)
    possible = task.prior > 0
    prior, rows = task.prior[possible], task.conditional[possible]
    return max(float(prior @ rel_entr(rows, np.dot(prior, rows)).sum(axis=1)), 0.0)


def divergence(task_or_table: Any, logits: Any, *, prior: Any = None) -> float:
    r"""Return the exact divergence of a model from a next-token law.

    .. math:: \sum_t ρ_t KL(P_t \| softmax f_t)

    Conditions: none; probabilities of 0 contribute 0.

    Args:
        task_or_table: An `NgramTask`, or the conditional table P (T, N).
        logits: f (T, N) of the model in each context.
        prior: ρ (T,) beside a table; ``None`` is uniform.

    Returns:
        The divergence in nats.

    Raises:
        ValueError: if rows or prior are no distributions, or shapes do not fit.

    Source:
        Dana, Pydi, Chevaleyre 2024 (2411.10115), section 2. Their code adds 1e-12 to the probabilities.

    Example:
        >>> round(divergence([[0.9, 0.1]], [[0.0, 0.0]]), 12)
        0.368064207168
    """
    table, weights = table_and_prior(task_or_table, prior)
    return float(weights @ row_divergences(table, check_logits("logits", logits, table.shape)))


def check_logits(name: str, value: Any, shape: Sequence[int | None]) -> np.ndarray:
    """Return ``value`` as an array of the given shape whose differences are finite."""
    logits = checks.array(name, value, shape)
    size = np.abs(logits).max()
    if size > MAX_LOGIT:
        raise ValueError(f"{name} must be at most {MAX_LOGIT:g} in size, got {size:.6g}")
    return logits


def row_divergences(table: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """KL(P_t ‖ softmax f_t) of each row (T,)."""
    from scipy.special import entr, logsumexp

    # Logits relative to the largest, so that P · f and log Σ exp f do not cancel; KL ≥ 0 but for rounding.
    shifted = logits - logits.max(axis=1, keepdims=True)
    rows = logsumexp(shifted, axis=1) - np.sum(table * shifted, axis=1) - entr(table).sum(axis=1)
    return np.maximum(rows, 0.0)
