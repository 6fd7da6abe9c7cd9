"""Decision rules with stated error rates, as pure functions of arrays: what the verdicts are made of.

Two promises are kept apart throughout. A false refutation (the claim holds within its margin and is refuted)
happens at most at the rate α_refute; a false confirmation (the discrepancy is the margin or more, and the
claim is called consistent) at most at α_confirm. Nothing is promised in between.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from plumbline.theory import checks

# Gauss-Legendre nodes in the quantile of the estimated standard error; 64 give powers to about 1e-4, and a
# power is used to choose a sample size, never to decide.
QUADRATURE_NODES = 64


def three_zone(x: Any, se: Any, df: Any, margin: Any) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the p-values of the three-zone t rule: refuted, consistent, or neither.

    .. math:: p_R = S((|x|-Δ)/s) + S((|x|+Δ)/s),\qquad p_C = S((Δ-|x|)/s)

    with S the survival function of Student's t. A claim is refuted if p_R ≤ α_refute and consistent if
    p_C ≤ α_confirm; for levels below 1/2 never both. Holds for normal estimates, and so for means of means
    of many draws; on single skewed losses the error rates are wrong by factors of ten to several hundred.

    Args:
        x: Estimated discrepancy, in the scale of the margin; any shape.
        se: Its standard error, at least 0; 0 decides without doubt. Broadcasts with ``x``.
        df: Degrees of freedom of the standard error.
        margin: Δ ≥ 0.

    Returns:
        The arrays (p_R, p_C) in the broadcast shape.

    Source: two one-sided tests (Schuirmann 1987) for p_C; the point of the interval nearest to x for p_R.

    Example:
        >>> p_refute, p_confirm = three_zone([0.0, 3.0], 0.2, 15, 1.0)
        >>> [f"{p:.1e}" for p in p_refute], [f"{p:.1e}" for p in p_confirm]
        (['1.0e+00', '2.5e-08'], ['7.9e-05', '1.0e+00'])
    """
    from scipy.special import stdtr

    size, se, df, margin = np.broadcast_arrays(np.abs(x), se, df, margin)
    size, se, margin = (np.asarray(part, dtype=float) for part in (size, se, margin))

    def survival(distance: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            # Exactly on the margin with no scatter (0/0): neither refuted nor consistent.
            ratio = np.where(distance == 0, 0.0, distance / se)
        return stdtr(df, -ratio)

    return np.minimum(survival(size - margin) + survival(size + margin), 1.0), survival(margin - size)


def confirm_power(se: float, df: float, margin: float, alpha: float) -> float:
    """Return the probability that `three_zone` says consistent when the discrepancy is zero.

    Args:
        se: True standard error of the estimate, in the scale of the margin.
        df: Degrees of freedom of the estimated standard error.
        margin: Δ.
        alpha: α_confirm.

    Example:
        >>> round(confirm_power(1 / 4, 15, 1.0, 0.01), 2)  # 16 values, margin of one standard deviation
        0.81
    """
    from scipy.special import ndtr, stdtrit

    if se == 0:
        return 1.0
    ratio, weight = _error_ratios(df)
    # |x| must stay below the margin less the quantile times the *estimated* standard error.
    room = margin / se + stdtrit(df, alpha) * ratio
    return float(np.sum(weight * np.clip(2 * ndtr(room) - 1, 0.0, None)))


def values_needed(relative_sd: float, margin: float, alpha: float, power: float, at_least: int, at_most: int) -> int:
    """Return the number of values for which `confirm_power` reaches ``power``.

    Args:
        relative_sd: Standard deviation of one value, in the scale of the margin.
        margin: Δ.
        alpha: α_confirm.
        power: Probability to be reached.
        at_least: Smallest number to return.
        at_most: Largest number to try.

    Raises:
        ValueError: "underpowered by design" if more than ``at_most`` are needed.

    Example:
        >>> values_needed(1.0, 1.0, 0.01, 0.95, 2, 1000)
        22
    """

    def suffices(number: int) -> bool:
        return confirm_power(relative_sd / math.sqrt(number), number - 1, margin, alpha) >= power

    low, high = at_least - 1, at_least
    while not suffices(high):
        low, high = high, 2 * high
        if high > at_most:
            raise ValueError(
                f"underpowered by design: a relative standard deviation of {relative_sd:.3g} takes more than "
                f"{at_most} values to confirm a margin of {margin:.3g}"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def refutable_discrepancy(se: float, df: float, margin: float, alpha: float, power: float = 0.9) -> float:
    """Return the true discrepancy that `three_zone` refutes with the given probability.

    Args:
        se: Standard error of the estimate, in the scale of the margin.
        df: Degrees of freedom of the estimated standard error.
        margin: Δ.
        alpha: α_refute.
        power: Probability of the refutation.

    Example:
        >>> round(refutable_discrepancy(1 / 4, 15, 1.0, 0.01), 2)
        1.99
    """
    from scipy.special import ndtr, stdtr, stdtrit

    if se == 0:
        return float(margin)
    # Everything in standard errors beyond the margin, so that a tiny standard error loses no digits.
    ratio, weight = _error_ratios(df)
    width = 2 * margin / se

    def p_refute(excess: np.ndarray) -> np.ndarray:
        return stdtr(df, -excess / ratio) + stdtr(df, -(excess + width) / ratio)

    # For each estimated standard error, the excess that is just refuted.
    critical = _bisect(lambda excess: p_refute(excess) <= alpha, 0.0 * ratio, -stdtrit(df, alpha / 2) * ratio)

    def refuted(excess: np.ndarray) -> np.ndarray:
        return weight @ (ndtr(excess - critical) + ndtr(-excess - width - critical))

    # Refuted even with the largest of the estimated standard errors, by ten true ones to spare.
    sure = critical.max() + 10.0
    return float(margin + se * _bisect(lambda excess: refuted(excess) >= power, np.zeros(()), sure))


def success_p_values(successes: Any, runs: Any, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the exact p-values of "the success probability is at least ``fraction``".

    .. math:: p_R = P(X ≤ s),\qquad p_C = P(X ≥ s),\qquad X ∼ Binomial(R, q)

    p_R ≤ α_refute is the same as a Clopper-Pearson upper bound at or below q, p_C ≤ α_confirm as a lower
    bound at or above q.

    Args:
        successes: s, from 0 to R; any shape.
        runs: R.
        fraction: q.

    Returns:
        The arrays (p_R, p_C).

    Example:
        >>> [float(p) for p in success_p_values(8, 8, 0.5)]
        [1.0, 0.00390625]
    """
    from scipy.special import bdtr, bdtrc

    successes = np.asarray(successes, dtype=float)
    return bdtr(successes, runs, fraction), bdtrc(successes - 1, runs, fraction)


def success_bounds(successes: int, runs: int, *, alpha_low: float, alpha_high: float) -> tuple[float, float]:
    """Return the Clopper-Pearson lower and upper bound of a success probability, each at its own level.

    Example:
        >>> [round(bound, 4) for bound in success_bounds(8, 8, alpha_low=0.01, alpha_high=0.01)]
        [0.5623, 1.0]
    """
    from scipy.special import betainccinv, betaincinv

    low = betaincinv(successes, runs - successes + 1, alpha_low) if successes > 0 else 0.0
    high = betainccinv(successes + 1, runs - successes, alpha_high) if successes < runs else 1.0
    return float(low), float(high)


def runs_without_failure(fraction: float, alpha: float) -> int:
    """Return the smallest R with q^R ≤ α: the successes in a row that show a probability of at least q.

    Args:
        fraction: q, strictly between 0 and 1.
        alpha: α, strictly between 0 and 1.

    Example:
        >>> runs_without_failure(0.9, 0.01)
        44
    """
    runs = max(1, math.floor(math.log(alpha) / math.log(fraction)) - 1)
    while fraction**runs > alpha:
        runs += 1
    return runs


def spend(alpha: float, look: int) -> float:
    r"""Return the level of one look at doubling sample sizes: α / 2^look, which sums to at most α.

    Args:
        alpha: Level of all looks together, above 0 and below 1.
        look: Number of the look: 1, 2, ….

    Raises:
        ValueError: naming the argument that is out of range.

    Example:
        >>> [spend(0.01, look) for look in (1, 2, 3)]
        [0.005, 0.0025, 0.00125]
    """
    alpha = checks.real("alpha", alpha, above=0.0, at_most=0.5)
    return alpha / 2.0 ** checks.integer("look", look, at_least=1)


def _bisect(holds: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the point between ``low`` and ``high`` from which on ``holds`` is true, entry by entry."""
    for _ in range(60):
        middle = (low + high) / 2
        true = holds(middle)
        low, high = np.where(true, low, middle), np.where(true, middle, high)
    return high


def _error_ratios(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of the ratio of estimated to true standard error, sqrt(χ²_df / df)."""
    from scipy.special import chdtri

    node, weight = np.polynomial.legendre.leggauss(QUADRATURE_NODES)
    return np.sqrt(chdtri(df, (1 - node) / 2) / df), weight / 2
