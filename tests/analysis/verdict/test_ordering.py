"""The sign test: known counts, stated error rates, and what it leaves open."""

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumbline.analysis.verdict import Ordering, Outcome
from plumbline.analysis.verdict.ordering import FIRST, SECOND

LEVELS = {"alpha_refute": 1e-5, "alpha_confirm": 1e-2}
RULE = Ordering(0.7)


def pairs(first, second=0, ties=0):
    """Pairs in either order, and ties."""
    return np.array([[2.0, 1.0]] * first + [[1.0, 2.0]] * second + [[1.0, 1.0]] * ties)


def binomial_tail(total, least, fraction):
    return sum(math.comb(total, k) * fraction**k * (1 - fraction) ** (total - k) for k in range(least, total + 1))


def test_one_order_confirmed_is_the_other_refuted():
    """Fourteen pairs of one order; the interval and both p-values are binomial sums."""
    verdict, rival = (RULE.judge(pairs(14), order, **LEVELS) for order in (FIRST, SECOND))
    assert (verdict.outcome, rival.outcome) == (Outcome.CONSISTENT, Outcome.REFUTED)
    assert (verdict.estimate, rival.estimate, verdict.n) == (1.0, 0.0, 14)
    assert verdict.p_confirm == pytest.approx(0.7**14)
    assert rival.p_refute == pytest.approx(0.3**14)
    assert f"p = {0.5**14:.2g} without any order" in verdict.reason
    mirrored = RULE.judge(pairs(0, 14), SECOND, **LEVELS)
    assert (mirrored.outcome, mirrored.interval) == (Outcome.CONSISTENT, verdict.interval)


def test_in_between_stays_open():
    """Neither order is confirmed by even counts; too few pairs say so."""
    assert RULE.judge(pairs(10, 10), FIRST, **LEVELS).outcome is Outcome.INCONCLUSIVE
    few = RULE.judge(pairs(6), FIRST, **LEVELS)
    assert few.outcome is Outcome.INCONCLUSIVE
    assert few.reason.endswith("underpowered by design, 13 pairs without exception would be needed")


def test_ties_and_nan_are_in_neither_order():
    """They count against both; infinities compare as they should."""
    for order in (FIRST, SECOND):
        assert RULE.judge(pairs(0, 0, 14), order, **LEVELS).outcome is Outcome.REFUTED
        assert RULE.judge(np.full((14, 2), np.nan), order, **LEVELS).outcome is Outcome.REFUTED
        assert RULE.judge(np.full((14, 2), np.inf), order, **LEVELS).outcome is Outcome.REFUTED
    infinite = np.column_stack([np.full(14, np.inf), np.ones(14)])
    assert RULE.judge(infinite, FIRST, **LEVELS).outcome is Outcome.CONSISTENT


@given(total=st.integers(1, 120), fraction=st.floats(0.55, 0.95), ordered=st.data())
def test_outcomes_keep_their_error_rates(total, fraction, ordered):
    """Each outcome comes exactly where its binomial tail is at most the level, so the rates hold at the boundary."""
    count = ordered.draw(st.integers(0, total))
    rule = Ordering(fraction)
    outcome = rule.judge(pairs(count, total - count), FIRST, **LEVELS).outcome
    confirm, refute = binomial_tail(total, count, fraction), 1 - binomial_tail(total, count + 1, fraction)
    if abs(confirm / 1e-2 - 1) > 1e-6 and abs(refute - 1e-5) > 1e-12:
        assert (outcome is Outcome.CONSISTENT) == (confirm <= 1e-2)
        assert (outcome is Outcome.REFUTED) == (refute <= 1e-5)


def test_false_alarm_and_pairs_needed_by_sums():
    """The least confirming count and its tail at one half, by brute force."""
    least = next(k for k in range(101) if binomial_tail(100, k, 0.7) <= 1e-2)
    assert RULE.false_alarm(100, alpha_confirm=1e-2) == pytest.approx(binomial_tail(100, least, 0.5), rel=1e-9)
    assert RULE.false_alarm(5, alpha_confirm=1e-2) == 0
    assert RULE.pairs_needed(**LEVELS) == 13
    assert Ordering(0.9).pairs_needed(**LEVELS) == 44


def test_exchangeable_pairs_are_hardly_ever_called_ordered():
    """Ten thousand experiments of 40 heavy-tailed pairs: the share of CONSISTENT is the stated false alarm."""
    rng = np.random.default_rng(0)
    ordered = (rng.standard_cauchy((10_000, 40)) > rng.standard_cauchy((10_000, 40))).sum(1)
    rule = Ordering(0.51)
    outcomes = {count: rule.judge(pairs(count, 40 - count), FIRST, **LEVELS).outcome for count in set(ordered.tolist())}
    share = np.mean([outcomes[count] is Outcome.CONSISTENT for count in ordered.tolist()])
    expected = rule.false_alarm(40, alpha_confirm=1e-2)
    # Five standard errors: a false alarm in two million.
    assert abs(share - expected) < 5 * math.sqrt(expected / 10_000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Ordering(0.5), "fraction must be greater than 0.5, got 0.5"),
        (lambda: Ordering(1.0), "fraction must be less than 1, got 1.0"),
        (lambda: RULE.judge(np.ones(4), FIRST, **LEVELS), "measured must hold pairs, shape (n, 2), got shape (4,)"),
        (lambda: RULE.judge(pairs(3), "larger", **LEVELS), "predicted must be one of"),
        (lambda: RULE.false_alarm(0, alpha_confirm=1e-2), "pairs must be"),
    ],
)
def test_bad_input_is_named(call, message):
    """The error says which argument, its value and what is allowed."""
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
