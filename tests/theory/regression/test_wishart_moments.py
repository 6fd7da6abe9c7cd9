"""Moments of the Wishart distribution against brute-force pairings, other formulas and samples."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.theory.regression import spectral_moments, wishart_moment
from tests import references

SIZES = [(1, 1), (1, 4), (2, 1), (2, 5), (3, 2), (5, 20)]


@pytest.mark.parametrize(
    "powers", [[1], [2], [1, 1], [3], [1, 2], [1, 1, 1], [4], [2, 2], [1, 3], [1, 1, 2], [5], [2, 3]]
)
@pytest.mark.parametrize(("dim", "degrees"), SIZES)
def test_products_of_traces_are_sums_over_wick_pairings(powers, dim, degrees):
    """Every mixed moment of total power ≤ 5 equals the sum over all pairings, exactly."""
    eye = np.array(np.eye(dim, dtype=int), dtype=object)
    words = [[eye] * power for power in powers]
    assert wishart_moment(powers, dim, degrees) == references.wick_moment(words, eye, degrees)


@pytest.mark.parametrize(("dim", "degrees"), [*SIZES, (4, 3), (7, 7), (50, 10**6)])
def test_closed_sum_equals_the_sum_over_all_partitions(dim, degrees):
    """The three-parameter sum over (p, q, 1^m) equals the zonal sum over every partition, power by power."""
    for power in range(15):
        assert wishart_moment(power, dim, degrees) == references.trace_moment(power, dim, degrees)


@pytest.mark.parametrize(("dim", "degrees"), [*SIZES, (6, 9)])
def test_closed_sum_equals_the_recursion(dim, degrees):
    """E[tr S^k tr S] of the recursion is (n d + 2k) E tr S^k of the closed sum (derivative by the scale of S)."""
    for power in range(1, 22):
        one = wishart_moment(power, dim, degrees)
        assert wishart_moment([power, 1], dim, degrees) == (degrees * dim + 2 * power) * one


@pytest.mark.parametrize("degrees", [1, 2, 5, 20])
def test_two_dimensions_from_trace_and_determinant(degrees):
    """In two dimensions the joint law of trace and determinant gives every moment in another way."""
    for power in (1, 2, 3, 7, 16, 40):
        expected = references.two_dimensional_moment(power, degrees)
        assert wishart_moment(power, 2, degrees) == expected
        assert wishart_moment(power, degrees, 2) == expected  # X Xᵀ and XᵀX have the same traces


def test_one_dimension_is_chi_squared():
    """d = 1: E S^k = n (n + 2) … (n + 2k − 2), far beyond what the quadratures use."""
    for power in (1, 5, 60, 200):
        assert wishart_moment(power, 1, 7) == math.prod(7 + 2 * i for i in range(power))
    assert wishart_moment([3, 4, 5], 1, 7) == math.prod(7 + 2 * i for i in range(12))
    assert wishart_moment([1] * 30, 1, 7) == math.prod(7 + 2 * i for i in range(30))


@given(
    powers=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    zeros=st.integers(0, 2),
    dim=st.integers(1, 6),
    degrees=st.integers(1, 9),
)
def test_order_of_powers_and_powers_of_zero(powers, zeros, dim, degrees):
    """The order of the traces does not matter, tr S⁰ is d, and swapping d and n changes nothing."""
    value = wishart_moment(powers, dim, degrees)
    assert wishart_moment(powers[::-1] + [0] * zeros, dim, degrees) == dim**zeros * value
    assert wishart_moment(powers, degrees, dim) == value
    assert value.denominator == 1


def test_no_powers():
    """The empty product is 1, and one power may be given as a number."""
    assert wishart_moment([], 3, 4) == 1
    assert wishart_moment(0, 3, 4) == 3
    assert (
        wishart_moment(2, 3, 4) == wishart_moment([2], 3, 4) == wishart_moment(np.int64(2), 3, 4) == 3 * 4 * (4 + 3 + 1)
    )


def test_moments_of_sampled_matrices():
    """Sample means of tr(W²) and tr(W) tr(W²) meet the moments."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(20_000, 6, 3))
    s = np.swapaxes(x, 1, 2) @ x
    t1, t2 = np.trace(s, axis1=1, axis2=2), np.trace(s @ s, axis1=1, axis2=2)
    for sample, powers in [(t2, [2]), (t1 * t2, [1, 2])]:
        # 4.5 standard errors: two-sided error probability 7e-6; the seed is fixed.
        assert abs(sample.mean() - float(wishart_moment(powers, 3, 6))) < 4.5 * sample.std() / math.sqrt(len(sample))


@pytest.mark.parametrize(("dim", "context_length"), [*SIZES, (50, 10**6)])
def test_spectral_moments_are_normalised(dim, context_length):
    """m_k = E tr S^k/(d n^k): m_0 = m_1 = 1, m_2 = 1 + (d + 1)/n."""
    m = spectral_moments(dim, context_length, 12)
    assert m == references.moments(dim, context_length, 12)
    assert m[:3] == [1, 1, 1 + Fraction(dim + 1, context_length)]
    assert spectral_moments(dim, context_length, 1) == [1]


def test_spectral_moments_tend_to_narayana():
    """With d/n = 1/4 fixed the moments tend to those of the Marchenko-Pastur law, with error O(1/n)."""
    m = spectral_moments(10**8, 4 * 10**8, 8)
    limit = references.narayana_moments(Fraction(1, 4), 8)
    # m_k − limit is a polynomial in 1/n with leading coefficient below k² m_k.
    assert all(abs(a / b - 1) < 64 / 10**8 for a, b in zip(m, limit, strict=True))
