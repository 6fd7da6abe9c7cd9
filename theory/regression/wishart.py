"""Exact moments of the real Wishart distribution, as rational numbers."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from math import factorial
from typing import Any

from plumbline.theory import checks

MAX_TRACE_POWER = 400
"""Largest power of a single trace: the closed sum has O(power²) terms of O(power) factors each."""
MAX_TOTAL_POWER = 30
"""Largest total power of a product of traces: the recursion visits every partition below it."""


def wishart_moment(powers: int | Iterable[int], dim: int, degrees: int) -> Fraction:
    r"""Return the exact mixed moment E ∏ᵢ tr(S^{kᵢ}) of S ~ Wishart_d(n, I), real and *not* divided by n.

    One trace uses the zonal closed sum, products of traces the Stein-Haff recursion

    .. math:: E[tr S^k ∏_j tr S^{q_j}] = (n+k-1) E[tr S^{k-1} ∏_j …] + ∑_{i=1}^{k-1} E[tr S^i tr S^{k-1-i} ∏_j …]
              + 2 ∑_j q_j E[tr S^{k-1+q_j} ∏_{others}].

    Holds for every d, n ≥ 1 (no d ≤ n needed).

    Args:
        powers: The power k ≥ 0, or several of them; tr S⁰ = d.
        dim: Dimension d ≥ 1.
        degrees: Degrees of freedom n ≥ 1 (the context length).

    Returns:
        The moment, exact.

    Raises:
        ValueError: on negative or non-integer powers, or powers beyond the exact range
            (`MAX_TRACE_POWER` for one trace, `MAX_TOTAL_POWER` in total for a product).

    Source:
        Haff 1979 (recursion); Hanlon, Stanley, Stembridge 1992 (closed sum).

    Example:
        >>> wishart_moment(2, dim=5, degrees=20), wishart_moment([1, 1], dim=5, degrees=20)
        (Fraction(2600, 1), Fraction(10200, 1))
    """
    d = checks.integer("dim", dim, at_least=1)
    n = checks.integer("degrees", degrees, at_least=1)
    try:
        values: list[Any] = list(powers)  # type: ignore[arg-type]
    except TypeError:
        values = [powers]
    parts = [checks.integer("powers", power, at_least=0) for power in values]
    scale = d ** parts.count(0)
    parts = sorted(power for power in parts if power)
    if len(parts) == 1:
        checks.integer("powers", parts[0], at_most=MAX_TRACE_POWER)
        return Fraction(scale * _trace_moment(parts[0], d, n))
    if sum(parts) > MAX_TOTAL_POWER:
        raise ValueError(f"powers must add up to at most {MAX_TOTAL_POWER} for a product of traces, got {sum(parts)}")
    return Fraction(scale * _product_moment(tuple(parts), d, n))


@lru_cache(maxsize=4096)
def _trace_moment(k: int, d: int, n: int) -> int:
    """E tr S^k = 2k Σ_λ [∏' c] ∏ (d+c)(n+c) / ∏ (2·arm+leg+1)(2·arm+leg+2) over the boxes of λ ⊢ k.

    c = 2·column − row (from 0), and ∏' leaves the corner out. Only λ = (p, q, 1^m) count, as every other partition
    has a box of content 0; for these the products over boxes are the factorials below.
    """
    if k == 0:
        return d
    total = Fraction(0)
    for p in range(1, k + 1):
        for q in range(0 if p == k else 1, min(p, k - p) + 1):
            m = k - p - q
            top = _contents(0, p, d, n) * _contents(1, q, d, n) * _column(m, d, n)
            leg = m + (q > 0)
            bottom = (2 * p - 1 + leg) * (2 * p + leg) * factorial(2 * (p - max(q, 1)))
            if q:
                bottom *= factorial(2 * p - 1) // factorial(2 * (p - q) + 1)
                bottom *= (2 * q - 1 + m) * (2 * q + m) * factorial(2 * (q - 1))
            bottom *= factorial(m) * factorial(m + 1)
            total += Fraction(top, bottom)
    value = 2 * k * total
    assert value.denominator == 1
    return value.numerator


@lru_cache(maxsize=4096)
def _contents(row: int, length: int, d: int, n: int) -> int:
    """∏ c (d+c)(n+c) over the first boxes of row 0 (its corner without the factor c) or row 1."""
    if length == 0:
        return 1
    c = 2 * (length - 1) - row
    return (c or 1) * (d + c) * (n + c) * _contents(row, length - 1, d, n)


@lru_cache(maxsize=4096)
def _column(length: int, d: int, n: int) -> int:
    """∏ c (d+c)(n+c) over the boxes of the first column below row 1: c = −2, −3, …"""
    if length == 0:
        return 1
    c = -1 - length
    return c * (d + c) * (n + c) * _column(length - 1, d, n)


@lru_cache(maxsize=200_000)
def _product_moment(parts: tuple[int, ...], d: int, n: int) -> int:
    """E ∏ tr S^{k} over ascending positive parts, by the Stein-Haff recursion on the largest part."""
    if not parts:
        return 1
    *rest, k = parts

    def moment(*extra: int) -> int:
        scale = d ** extra.count(0)
        return scale * _product_moment(tuple(sorted([*rest, *(power for power in extra if power)])), d, n)

    total = (n + k - 1) * moment(k - 1)
    total += sum(moment(i, k - 1 - i) for i in range(1, k))
    for j, q in enumerate(rest):
        others = rest[:j] + rest[j + 1 :]
        total += 2 * q * _product_moment(tuple(sorted([*others, k - 1 + q])), d, n)
    return total


def spectral_moments(dim: int, context_length: int, count: int) -> list[Fraction]:
    r"""Return m_0 … m_{count−1}, the moments m_k = E tr(V^k)/d of V = S/n, S ~ Wishart_d(n, I).

    These are the moments of the expected spectral distribution μ on which every multi-step risk rests.

    Args:
        dim: Dimension d ≥ 1.
        context_length: n ≥ 1.
        count: How many moments, from 1 to `MAX_TRACE_POWER` + 1.

    Raises:
        ValueError: on arguments outside these ranges.

    Example:
        >>> [str(moment) for moment in spectral_moments(5, 20, 3)]
        ['1', '1', '13/10']
    """
    d = checks.integer("dim", dim, at_least=1)
    n = checks.integer("context_length", context_length, at_least=1)
    count = checks.integer("count", count, at_least=1, at_most=MAX_TRACE_POWER + 1)
    return [Fraction(_trace_moment(k, d, n), d * n**k) for k in range(count)]
