"""Orthogonal polynomials and Gauss quadrature of the expected Wishart spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from plumbline.theory import checks
from plumbline.theory.regression.task import MAX_SIZE
from plumbline.theory.regression.wishart import spectral_moments

MAX_NODES = 48
"""Largest number of quadrature nodes (and of steps): the rational recursion stays below a few seconds."""


@dataclass(frozen=True, eq=False)
class SpectralQuadrature:
    """Nodes (ascending) and weights with Σ w f(t) = ∫ f dμ for every polynomial f of degree ≤ `degree`."""

    nodes: np.ndarray
    weights: np.ndarray
    degree: int


def spectral_quadrature(nodes: int, dim: int, context_length: int, *, radau: bool = False) -> SpectralQuadrature:
    r"""Return the Gauss rule of μ, the expected spectral distribution of V = Wishart_d(n, I)/n.

    .. math:: ∫ f dμ = (1/d) E tr f(V) = ∑_i w_i f(t_i)  for deg f ≤ 2·nodes − 1

    The recursion coefficients are exact rationals and the nodes are refined in multiple precision, so that
    nodes and weights, also the tiny ones of rare large eigenvalues, are correct to float64 rounding.

    Args:
        nodes: Number of free nodes, 1 to `MAX_NODES`.
        dim: Dimension d ≥ 1.
        context_length: n ≥ 1.
        radau: Add a node at 0 (Gauss-Radau, exact to degree 2·nodes). For f with derivatives of alternating
            sign (completely monotone), Gauss is a lower and Gauss-Radau an upper bound of the integral.

    Raises:
        ValueError: on arguments outside these ranges.

    Example:
        >>> rule = spectral_quadrature(2, dim=5, context_length=20)
        >>> round(float(rule.weights @ rule.nodes**2), 12)
        1.3
    """
    count = checks.integer("nodes", nodes, at_least=1, at_most=MAX_NODES)
    d = checks.integer("dim", dim, at_least=1, at_most=MAX_SIZE)
    n = checks.integer("context_length", context_length, at_least=1, at_most=MAX_SIZE)
    t, w = _gauss(d, n, count, int(radau))
    if radau:  # the free nodes are those of t dμ, and their weights carry the factor 1/t
        w = w / t
        # λ(0), the Christoffel function, is the weight at 0; a difference 1 − Σw would cancel.
        t, w = np.r_[0.0, t], np.r_[float(christoffel_at_zero(count, d, n)), w]
    return SpectralQuadrature(t, w, 2 * count - 1 + int(radau))


def christoffel_at_zero(degree: int, dim: int, context_length: int) -> Fraction:
    r"""Return λ(0) = min ∫ p² dμ over polynomials of the given degree with p(0) = 1, exactly.

    .. math:: λ_L(0) = 1 / ∑_{k=0}^{L} π_k(0)²/h_k,  π_k monic orthogonal polynomials of μ, h_k = ∫ π_k² dμ

    Example:
        >>> christoffel_at_zero(2, dim=5, context_length=20)
        Fraction(359, 4969)
    """
    alpha, beta = recursion_coefficients(dim, context_length, degree + 1)
    total, norm = Fraction(0), Fraction(1)
    before, value = Fraction(0), Fraction(1)
    for k in range(degree + 1):
        norm *= beta[k]
        total += value * value / norm
        before, value = value, -alpha[k] * value - (beta[k] * before if k else 0)
    return 1 / total


@lru_cache(maxsize=512)
def recursion_coefficients(
    dim: int, context_length: int, count: int, shift: int = 0
) -> tuple[tuple[Fraction, ...], tuple[Fraction, ...]]:
    """Return (α_k, β_k), k < count, of the monic orthogonal polynomials of t^shift dμ, by Chebyshev's algorithm.

    π_{k+1}(t) = (t − α_k) π_k(t) − β_k π_{k−1}(t), β_0 = ∫ t^shift dμ. Exact, from the rational moments.
    """
    row: Sequence[Fraction] = spectral_moments(dim, context_length, 2 * count + shift)[shift:]
    alpha, beta = [row[1] / row[0]], [row[0]]
    before: Sequence[Fraction] = [Fraction(0)] * (2 * count)
    for k in range(1, count):
        # row[i] = ∫ π_{k−1} t^{k−1+i} dμ becomes ∫ π_k t^{k+i} dμ; `before` is one step further back.
        new = [
            row[i + 2] - alpha[-1] * row[i + 1] - (beta[-1] * before[i + 2] if k > 1 else 0)
            for i in range(len(row) - 2)
        ]
        alpha.append(new[1] / new[0] - row[1] / row[0])
        beta.append(new[0] / row[0])
        before, row = row, new
    return tuple(alpha), tuple(beta)


@lru_cache(maxsize=512)
def _gauss(dim: int, context_length: int, count: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss nodes and weights of t^shift dμ, refined by Newton's method in multiple precision."""
    import mpmath
    from scipy.linalg import eigvalsh_tridiagonal

    alpha, beta = recursion_coefficients(dim, context_length, count, shift)
    # Centre and scale before rounding: at large n the spectrum is a narrow band around 1.
    centre = sum(alpha, Fraction(0)) / count
    start = eigvalsh_tridiagonal(
        [float(a - centre) for a in alpha], [float(b) ** 0.5 for b in beta[1:]], check_finite=False
    )
    nodes, weights = [], []
    with mpmath.workdps(40 + 2 * count):
        a = [mpmath.mpf(x.numerator) / x.denominator for x in alpha]
        b = [mpmath.mpf(x.numerator) / x.denominator for x in beta]
        root = [mpmath.sqrt(x) for x in b]
        for guess in start:
            t = mpmath.mpf(centre.numerator) / centre.denominator + mpmath.mpf(float(guess))
            for _ in range(8):
                before, value = mpmath.mpf(0), 1 / root[0]
                before_slope, slope = mpmath.mpf(0), mpmath.mpf(0)
                squares = mpmath.mpf(0)
                for k in range(count):  # orthonormal polynomials, the last one left monic in its last step
                    squares += value * value
                    scale = root[k + 1] if k + 1 < count else mpmath.mpf(1)
                    drag = root[k] if k else mpmath.mpf(0)
                    value, before, slope, before_slope = (
                        ((t - a[k]) * value - drag * before) / scale,
                        value,
                        (value + (t - a[k]) * slope - drag * before_slope) / scale,
                        slope,
                    )
                step = value / slope
                t -= step
                if abs(step) < abs(t) * mpmath.mpf(10) ** (-25):
                    break
            nodes.append(float(t))
            weights.append(float(1 / squares))
    result = np.array(nodes), np.array(weights)
    for part in result:
        part.flags.writeable = False
    return result


def orthonormal_polynomials(t: np.ndarray, degree: int, dim: int, context_length: int) -> np.ndarray:
    """Return p_0(t) … p_degree(t), the polynomials orthonormal under μ, shape (degree + 1, *t.shape).

    ∫ p_j p_k dμ = δ_jk, so that (1/d) E tr p_k(V) = 0 for k ≥ 1.
    """
    alpha, beta = recursion_coefficients(dim, context_length, degree + 1)
    values = [np.ones_like(t)]
    before = np.zeros_like(t)
    for k in range(degree):
        drag = float(beta[k]) ** 0.5 * before if k else 0.0
        before = values[-1]
        values.append(((t - float(alpha[k])) * before - drag) / float(beta[k + 1]) ** 0.5)
    return np.array(values)
