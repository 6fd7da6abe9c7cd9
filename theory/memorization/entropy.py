"""What is known before any model: the entropy of the next token, and the divergence of predictors without context."""

from __future__ import annotations

import numpy as np

from theory.memorization.task import NgramTask, check_task


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
        >>> from theory.memorization import geometric_law
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
        >>> from theory.memorization import lookup_table
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
        >>> from theory.memorization import lookup_table
        >>> round(best_constant_divergence(lookup_table(2, 1, labels=[0, 1])), 12)
        0.69314718056
    """
    from scipy.special import rel_entr

    check_task(task)
    possible = task.prior > 0
    prior, rows = task.prior[possible], task.conditional[possible]
    return max(float(prior @ rel_entr(rows, np.dot(prior, rows)).sum(axis=1)), 0.0)
