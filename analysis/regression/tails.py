"""How heavy a tail is: a scale-free statistic of small groups, and the exponent of a stretched exponential."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from plumbline.theory import checks

GROUP = 50
"""Values in a group: enough for a maximum in the tail, few enough for many groups."""
TAIL = 0.05
"""Share of the largest values that counts as the tail."""


class TailExponent(NamedTuple):
    """An exponent τ with an approximate 95 % interval."""

    value: float
    low: float
    high: float


def largest_over_median(values: Any, group: int = GROUP) -> np.ndarray:
    """Return the largest value of each group as a multiple of the group's median, (groups,).

    It has no unit, so that noise of any size compares; and a group of heavier-tailed values has the larger one
    more often than not, whatever the law: sample kurtoses of heavy tails never settle.

    Args:
        values: Independent positive values (n,); the last n mod ``group`` are left out.
        group: Values in a group, from 2 up to n.

    Raises:
        ValueError: naming the argument that is out of range.

    Example:
        >>> largest_over_median([1.0, 2.0, 6.0, 3.0, 3.0, 3.0], group=3).tolist()
        [3.0, 1.0]
    """
    values = checks.array("values", values, (None,))
    group = checks.integer("group", group, at_least=2, at_most=len(values))
    rows = values[: len(values) // group * group].reshape(-1, group)
    return rows.max(axis=1) / np.median(rows, axis=1)


def tail_exponent_of_sample(values: Any, share: float = TAIL) -> TailExponent:
    r"""Return the exponent of the tail of a sample, as of a stretched exponential.

    .. math:: P(X > t) = exp(-c t^{τ}), \quad
              \frac1τ = \frac{\sum_{i ≤ k} \log X_{(i)} - \log X_{(k+1)}}
                             {\sum_{i ≤ k} \log\log(n/i) - \log\log(n/(k+1))}

    over the k largest of n values; 1/τ has the relative standard error 1/√k. A normal vector's norm has τ = 2, an
    exponential 1, a product of m normal factors 2/m. The gradients of linear transformers are polynomials of Gaussian
    variables: all their moments exist, and the index of a power law, which Hill's estimator would put a number to,
    does not. The estimate is that of the part of the tail seen; it approaches the limit like 1/log n.

    Args:
        values: Positive values (n,), not all equal.
        share: Share of the values in the tail, above 0 and at most 1/3; at least 10 values.

    Raises:
        ValueError: naming the argument that is out of range.

    Source:
        Beirlant, Broniatowski, Teugels, Vynckier 1995; Gardes, Girard 2008 (Weibull-tail coefficient).

    Example:
        >>> tail_exponent_of_sample(-np.log(np.arange(1, 10_001) / 10_001)).value.__round__(2)
        1.0
    """
    values = checks.array("values", values, (None,))
    share = checks.real("share", share, above=0.0, at_most=1 / 3)
    count = int(share * len(values))
    if count < 10:
        raise ValueError(f"values must hold at least 10 in the tail, got {count} of {len(values)}")
    if values.min() <= 0:
        raise ValueError(f"values must be greater than 0, got {values.min():.6g}")
    top = np.log(np.sort(values)[::-1][: count + 1])
    ranks = np.log(np.log(len(values) / np.arange(1, count + 2)))
    excess = float((top[:-1] - top[-1]).mean())
    if excess == 0:
        raise ValueError(f"values must differ in the tail, got {count + 1} times {values.max():.6g}")
    value = float((ranks[:-1] - ranks[-1]).mean()) / excess
    half = 1.96 / np.sqrt(count)
    return TailExponent(value, value / (1 + half), value / (1 - half))
