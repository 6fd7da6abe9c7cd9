"""What is left over: the mass of a Zipf law beyond its first ranks, and of what a sample has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from plumbline.theory import checks

MAX_EXPONENT = 1000.0
"""Beyond it 2^-a is nearly below the smallest positive float64."""


def zipf_tail(exponent: float, rank: int) -> float:
    r"""Return the mass that a Zipf law on the positive integers has beyond its first d ranks.

    .. math:: \sum_{i > d} \frac{i^{-a}}{ζ(a)} = \frac{ζ(a, d+1)}{ζ(a)} ∼ \frac{d^{1-a}}{(a-1)\, ζ(a)}

    Conditions: a > 1 (otherwise the law does not exist). The error of a memory that stores the d likeliest items.

    Args:
        exponent: a, greater than 1, at most 1000.
        rank: d, from 0 up.

    Returns:
        A probability.

    Raises:
        ValueError: on numbers out of range.

    Source:
        Exact here; up to constants in Cabannes, Dohmatob, Bietti 2023 (2310.02984).

    Example:
        >>> round(zipf_tail(2.0, 10), 12)
        0.057854194645
    """
    from scipy.special import zeta

    a = checks.real("exponent", exponent, above=1.0, at_most=MAX_EXPONENT)
    return float(zeta(a, checks.integer("rank", rank, at_least=0, at_most=10**15) + 1) / zeta(a, 1))


def unseen_mass(probabilities: Any, samples: int) -> float:
    r"""Return the expected mass of what n independent samples of a law have not seen.

    .. math:: \sum_i p_i (1 - p_i)^n

    Conditions: independent samples. On contexts of a task (its ``prior``) it is the share of test contexts
    that training on n windows has not met.

    Args:
        probabilities: p (k,), which sums to one.
        samples: n, from 0 up.

    Returns:
        A probability.

    Raises:
        ValueError: if the probabilities are no distribution, or ``samples`` is negative.

    Source:
        Good 1953; exact.

    Example:
        >>> import numpy as np
        >>> round(unseen_mass(np.full(40000, 1 / 40000), 65536), 12)
        0.194286679687
    """
    from scipy.special import xlog1py

    p = checks.probabilities("probabilities", probabilities, (None,))
    n = checks.integer("samples", samples, at_least=0, at_most=10**15)
    with np.errstate(divide="ignore"):
        return float(p @ np.exp(xlog1py(float(n), -np.minimum(p, 1.0))))
