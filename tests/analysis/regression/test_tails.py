"""Statistics of tails, against laws whose tails are known."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plumbline.analysis.regression.tails import GROUP, largest_over_median, tail_exponent_of_sample
from tests.strategies import generators


def test_largest_over_median_by_hand():
    """Group by group in order; what is left over is not used."""
    assert largest_over_median([1, 2, 6, 3, 3, 3, 9], group=3).tolist() == [3, 1]
    assert largest_over_median([4.0, 2.0], group=2).tolist() == [4 / 3]


@given(rng=generators(), scale=st.floats(1e-6, 1e6))
def test_the_statistic_has_no_unit(rng, scale):
    """Noise of any size compares."""
    values = rng.exponential(size=3 * GROUP)
    np.testing.assert_allclose(largest_over_median(scale * values), largest_over_median(values), rtol=1e-12)


def test_heavier_tails_have_the_larger_statistic_more_often():
    """An exponential against a half-normal variable, and never more often than half against itself."""
    rng = np.random.default_rng(1)
    heavy, light, again = (
        largest_over_median(values) for values in (rng.exponential(size=50_000), *abs(rng.normal(size=(2, 50_000))))
    )
    assert (heavy > light).mean() > 0.8
    # 1,000 pairs: five standard errors around one half.
    assert abs((light > again).mean() - 0.5) < 5 / np.sqrt(4000)


@pytest.mark.parametrize("exponent", [0.25, 1 / 3, 1.0, 2.0])
def test_stretched_exponentials_have_their_exponent(exponent):
    """Exact in the limit for P(X > t) = exp(-t^τ); the interval covers τ in nearly all of 200 samples."""
    rng = np.random.default_rng(2)
    found = [tail_exponent_of_sample(rng.exponential(size=4000) ** (1 / exponent)) for _ in range(200)]
    assert np.mean([tail.value for tail in found]) == pytest.approx(exponent, rel=0.03)
    covered = np.mean([tail.low <= exponent <= tail.high for tail in found])
    # Nominally 95 %, less a small bias; five standard errors of a binomial of 200.
    assert covered > 0.95 - 5 * np.sqrt(0.05 * 0.95 / 200)


@settings(max_examples=20)
@given(rng=generators(), scale=st.floats(1e-6, 1e6))
def test_the_exponent_has_no_unit(rng, scale):
    """Only ratios of the largest values count."""
    values = rng.exponential(size=1000)
    assert tail_exponent_of_sample(scale * values).value == pytest.approx(
        tail_exponent_of_sample(values).value, rel=1e-9
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: largest_over_median([1.0, 2.0], group=3), "group must be at most 2, got 3"),
        (lambda: largest_over_median([1.0, 2.0], group=1), "group must be at least 2, got 1"),
        (lambda: largest_over_median([1.0, np.nan], group=2), "values must be finite"),
        (lambda: tail_exponent_of_sample(np.ones(100)), "values must hold at least 10 in the tail, got 5 of 100"),
        (lambda: tail_exponent_of_sample(np.ones(1000)), "values must differ in the tail, got 51 times 1"),
        (lambda: tail_exponent_of_sample(np.arange(1000.0)), "values must be greater than 0, got 0"),
        (lambda: tail_exponent_of_sample(np.ones(1000), share=0.5), "share must be at most"),
    ],
)
def test_bad_input_is_named(call, message):
    """The error says which argument, its value and what is allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
