"""Every rule and every branch of the verdicts on small measurements whose verdict is known beforehand."""

import json
import math
import subprocess
import sys
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from plumbline.analysis.verdict import (
    BoundForAll,
    Convergence,
    Expectation,
    GlobalMinimum,
    Identity,
    Outcome,
    Rate,
    Runs,
    combine,
    not_applicable,
    spend,
    worst_case,
)
from plumbline.analysis.verdict.decision import (
    confirm_power,
    refutable_discrepancy,
    success_bounds,
    success_p_values,
    three_zone,
)

CONSISTENT, REFUTED, INCONCLUSIVE, NOT_APPLICABLE = Outcome
LEVELS = {"alpha_refute": 1e-3, "alpha_confirm": 1e-2}
WAVE = np.sin(np.arange(1, 33))  # 32 numbers of mean near 0 and standard deviation near 0.7

EXPECTATION = Expectation(0.1, scale=2.0, draws_per_batch=1000)
MINIMUM = GlobalMinimum(0.01, trivial=1.0, numerical_error=1e-12, tolerance_stationary=1e-6)
ATTAINED = GlobalMinimum(0.01, trivial=1.0, numerical_error=1e-12, tolerance_stationary=1e-6, attained=0.9)
LOWER = BoundForAll("lower", numerical_error=1e-9)
CONVERGENCE = Convergence(0.01, tolerance_stationary=1e-6, fraction=0.5)
RATE = Rate(0.1)
SIZES = np.array([8, 16, 32, 64, 128, 256, 512, 1024])


def ends(values, residual=1e-9):
    """Runs with these values, all equally stationary."""
    return Runs(values, np.full(len(values), residual))


# The verdict itself


def example_verdicts():
    """One verdict of every rule and outcome, several with measurements that are not finite."""
    with_nan = np.where(np.arange(32) == 5, np.nan, WAVE)
    target = np.array([1.0, 2.0])
    near, far = np.tile(target, (12, 1)), np.tile(2 * target, (12, 1))
    return [
        Identity(1e-12).judge([1.0, 2.0], [1.0, 2.0], **LEVELS),
        Identity(1e-12).judge([1.0, np.nan], [1.0, 2.0], **LEVELS),
        Identity(exact=True).judge([Fraction(1, 3)], [Fraction(1, 3)], **LEVELS),
        EXPECTATION.judge(WAVE / 100, 0.0, **LEVELS),
        EXPECTATION.judge(WAVE / 100, 1.0, **LEVELS),
        EXPECTATION.judge(WAVE, 0.1, **LEVELS),
        EXPECTATION.judge(with_nan, 0.0, **LEVELS),
        EXPECTATION.judge(WAVE * 1e308, 0.0, **LEVELS),
        MINIMUM.judge(ends([0.2, np.nan]), 0.2, **LEVELS),
        MINIMUM.judge(ends([0.2]), 0.3, **LEVELS),
        MINIMUM.judge(ends([np.nan, np.inf]), 0.3, **LEVELS),
        ATTAINED.judge(ends([0.2] * 8), 0.1, **LEVELS),
        LOWER.judge([0.3, 0.4], 0.3, **LEVELS),
        LOWER.judge([0.3, np.inf], 0.3, **LEVELS),
        LOWER.judge([0.3, np.nan, 0.1], 0.3, **LEVELS),
        CONVERGENCE.judge(ends(near), target, **LEVELS),
        CONVERGENCE.judge(ends(far), target, **LEVELS),
        CONVERGENCE.judge(ends(np.full((12, 2), np.nan)), target, **LEVELS),
        RATE.judge((SIZES, 1.0 / SIZES), -1.0, **LEVELS),
        RATE.judge((SIZES, 0.0 / SIZES), -1.0, **LEVELS),
        not_applicable("softmax is not linear"),
    ]


@pytest.mark.parametrize("index", range(21))
def test_every_verdict_is_strict_json_with_one_sentence_of_reason(index):
    """Numbers are finite or absent, the outcome is a plain string, and the reason is one line that names a number."""
    verdict = example_verdicts()[index]
    record = json.loads(json.dumps(asdict(verdict), allow_nan=False))
    assert record["outcome"] == str(verdict.outcome)
    assert "\n" not in verdict.reason
    assert verdict.outcome is NOT_APPLICABLE or any(letter.isdigit() for letter in verdict.reason)
    assert verdict.passed == (verdict.outcome is CONSISTENT)


@pytest.mark.parametrize("name", ["alpha_refute", "alpha_confirm"])
@pytest.mark.parametrize("value", [0.0, -0.1, 0.6, math.nan, "0.01", None])
@pytest.mark.parametrize(
    ("rule", "measured", "predicted"),
    [
        (Identity(1e-12), [1.0], [1.0]),
        (EXPECTATION, WAVE, 0.0),
        (MINIMUM, ends([0.2]), 0.2),
        (LOWER, [0.2], 0.2),
        (CONVERGENCE, ends([[1.0]]), [1.0]),
        (RATE, (SIZES, 1.0 / SIZES), -1.0),
    ],
)
def test_levels_outside_zero_to_one_half_are_refused(rule, measured, predicted, name, value):
    """A level above one half would let a claim be refuted and consistent at once."""
    with pytest.raises(ValueError, match=name):
        rule.judge(measured, predicted, **{**LEVELS, name: value})


@pytest.mark.parametrize(("module", "loaded"), [("plumbline.analysis.verdict", []), ("sympy", ["sympy"])])
def test_import_is_light(module, loaded):
    """Every command imports the verdicts: neither scipy.stats nor torch comes with them (and the check sees it)."""
    code = (
        f"import sys, {module};"
        "print([name for name in ('torch', 'scipy.stats', 'sympy', 'matplotlib') if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == str(loaded)


# Identity


def test_identity_names_the_worst_point():
    """The reason starts with the worst point, what was there and what should have been."""
    verdict = Identity(1e-6).judge([[1.0, 2.0], [3.0, 4.4]], [[1.0, 2.0], [3.1, 4.0]], **LEVELS)
    assert verdict.outcome is REFUTED
    assert "worst of 4 points at index (1, 1): got 4.4, want 4" in verdict.reason
    assert (verdict.predicted, verdict.estimate, verdict.witness, verdict.n) == (4.0, 4.4, 3, 4)
    assert verdict.discrepancy == pytest.approx(0.1)  # 0.4 of the largest prediction, 4


def test_identity_within_tolerance_of_the_arrays_own_magnitude():
    """Rounding next to a large entry is no difference; the same difference in a small array is one."""
    assert Identity(1e-12).judge([1e-14, 1.0], [0.0, 1.0], **LEVELS).outcome is CONSISTENT
    assert Identity(1e-12).judge([1e-14, 1e-10], [0.0, 1e-10], **LEVELS).outcome is REFUTED


def test_identity_with_its_own_scale():
    """A scale per point decides point by point; a prediction of zero needs one."""
    measured, predicted = [1.0 + 1e-9, 1e-14], [1.0, 0.0]
    assert Identity(1e-12, scale=[1e4, 1.0]).judge(measured, predicted, **LEVELS).outcome is CONSISTENT
    assert Identity(1e-12, scale=[1.0, 1.0]).judge(measured, predicted, **LEVELS).witness == 0
    assert Identity(1e-12).judge([1e-300], [0.0], **LEVELS).outcome is REFUTED
    assert Identity(1e-12).judge([0.0], [0.0], **LEVELS).outcome is CONSISTENT
    assert Identity(1e-12, scale=1.0).judge([1e-300], [0.0], **LEVELS).outcome is CONSISTENT


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_identity_never_passes_what_is_not_finite(bad):
    """A value that is not a number equals nothing, wherever it stands."""
    for place in range(3):
        measured = np.ones(3)
        measured[place] = bad
        verdict = Identity(1e-3).judge(measured, np.ones(3), **LEVELS)
        assert (verdict.outcome, verdict.witness, verdict.estimate) == (REFUTED, place, None)


def test_exact_identity_sees_what_floats_do_not():
    """Fractions that agree to 60 digits differ; sympy rationals and huge integers are compared as they are."""
    third = Fraction(1, 3)
    close = third + Fraction(1, 10**60)
    assert Identity(1e-15).judge([float(close)], [float(third)], **LEVELS).outcome is CONSISTENT
    verdict = Identity(exact=True).judge([third, close], [third, third], **LEVELS)
    assert (verdict.outcome, verdict.witness) == (REFUTED, 1)
    assert "1 of 2 points differ, the first at index (1,)" in verdict.reason
    assert Identity(exact=True).judge([sympy.Rational(1, 3)], [sympy.Rational(2, 6)], **LEVELS).passed
    assert Identity(exact=True).judge(sympy.Symbol("x") * 2, sympy.Symbol("x") * 2, **LEVELS).passed
    huge = Identity(exact=True).judge([10**400], [10**400 + 1], **LEVELS)
    assert (huge.outcome, huge.estimate) == (REFUTED, None)
    assert not Identity(exact=True).judge([math.nan], [math.nan], **LEVELS).passed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "tolerance must be given"),
        ({"tolerance": 0.0}, "tolerance must be greater than 0"),
        ({"tolerance": math.nan}, "tolerance must be finite"),
        ({"tolerance": 1e-9, "exact": True}, "tolerance and scale must be left out"),
        ({"exact": True, "scale": 1.0}, "tolerance and scale must be left out"),
        ({"tolerance": 1e-9, "scale": 0.0}, "scale must be greater than 0"),
        ({"tolerance": 1e-9, "scale": [1.0, math.inf]}, "scale must be finite"),
    ],
)
def test_identity_refuses_bad_arguments(arguments, message):
    """Each message names the argument."""
    with pytest.raises(ValueError, match=message):
        Identity(**arguments)


@pytest.mark.parametrize(
    ("rule", "measured", "predicted", "message"),
    [
        (Identity(1e-9), [1.0, 2.0], [1.0], r"measured must have the shape of predicted.*\(2,\) and \(1,\)"),
        (Identity(1e-9), [1.0], [math.nan], "predicted must be finite"),
        (Identity(1e-9), [], [], "measured must hold at least one number"),
        (Identity(exact=True), [], [], "not empty"),
        (Identity(1e-9), ["1"], [1.0], "measured must be an array of real numbers"),
        (Identity(1e-9), [1j], [1.0], "measured must be an array of real numbers"),
        (Identity(1e-9), [[1.0], [1.0, 2.0]], [1.0], "measured must be an array of real numbers"),
        (Identity(1e-9, scale=[1.0, 1.0]), [1.0] * 3, [1.0] * 3, "scale must be one number or one per point"),
    ],
)
def test_identity_refuses_what_it_cannot_compare(rule, measured, predicted, message):
    """Shapes, empty arrays, text and complex numbers are bad input, not refutations."""
    with pytest.raises(ValueError, match=message):
        rule.judge(measured, predicted, **LEVELS)


# Three zones and expectations


def test_three_zone_matches_the_formula_in_plain_scipy():
    """The vectorised rule is the two sums of survival functions, computed one by one with scipy.stats."""
    from scipy.stats import t

    for x, se, df, margin in [(0.3, 0.1, 15, 0.2), (-0.3, 0.1, 15, 0.2), (0.05, 0.2, 3, 0.1), (2.0, 0.1, 99, 0.0)]:
        p_refute, p_confirm = three_zone(x, se, df, margin)
        # Both sides are sums of two library values: a few roundings.
        assert p_refute == pytest.approx(t.sf((abs(x) - margin) / se, df) + t.sf((abs(x) + margin) / se, df), rel=1e-12)
        assert p_confirm == pytest.approx(t.sf((margin - abs(x)) / se, df), rel=1e-12)


def test_three_zone_without_margin_is_the_two_sided_t_test():
    """With margin zero the p-value of the refutation is that of the ordinary t test."""
    from scipy.stats import ttest_1samp

    p_refute, _ = three_zone(WAVE.mean() - 0.2, WAVE.std(ddof=1) / math.sqrt(32), 31, 0.0)
    assert p_refute == pytest.approx(ttest_1samp(WAVE, 0.2).pvalue, rel=1e-12)


def test_three_zone_without_scatter_decides_by_comparison():
    """A standard error of zero leaves no doubt, except exactly on the margin."""
    p_refute, p_confirm = three_zone([0.05, 0.1, 0.2, -0.2], 0.0, 15, 0.1)
    assert p_refute.tolist() == [1.0, 0.5, 0.0, 0.0]
    assert p_confirm.tolist() == [0.0, 0.5, 1.0, 1.0]


@given(
    x=st.floats(-10, 10),
    se=st.floats(0, 10),
    df=st.integers(1, 1000),
    margin=st.floats(0, 5),
)
def test_three_zone_never_says_both(x, se, df, margin):
    """No estimate is refuted and consistent at levels below one half, and both p-values are probabilities."""
    p_refute, p_confirm = three_zone(x, se, df, margin)
    assert 0 <= p_refute <= 1
    assert 0 <= p_confirm <= 1
    assert max(p_refute, p_confirm) >= 0.5


def test_expectation_has_three_zones():
    """Within, beyond and in between, with the estimate in its units and the discrepancy in those of the scale."""
    inside = EXPECTATION.judge(3.0 + WAVE / 100, 3.02, **LEVELS)
    assert inside.outcome is CONSISTENT
    assert inside.discrepancy == pytest.approx((inside.estimate - 3.02) / 2.0)
    assert inside.interval[0] < inside.estimate < inside.interval[1]
    beyond = EXPECTATION.judge(3.0 + WAVE / 100, 3.3, **LEVELS)
    assert beyond.outcome is REFUTED
    assert "beyond the margin 0.1" in beyond.reason
    open_ = EXPECTATION.judge(3.0 + WAVE, 3.0, **LEVELS)
    assert open_.outcome is INCONCLUSIVE
    assert f"({open_.detectable:.3g} would be refuted" in open_.reason
    assert open_.detectable > EXPECTATION.margin


def test_expectation_interval_lies_within_the_margin_exactly_when_consistent():
    """The reported interval is the one that decides CONSISTENT."""
    for shift in np.linspace(0.0, 0.4, 41):
        verdict = EXPECTATION.judge(WAVE / 10, shift, **LEVELS)
        low, high = ((end - shift) / EXPECTATION.scale for end in verdict.interval)
        assert (low >= -0.1 and high <= 0.1) == (verdict.outcome is CONSISTENT)


def test_expectation_without_scatter_is_decided_exactly():
    """Equal batch means leave no doubt; exactly on the margin nothing is said."""
    for predicted, outcome in [(1.0, CONSISTENT), (1.25, REFUTED), (0.75, REFUTED), (1.125, INCONCLUSIVE)]:
        rule = Expectation(0.125, scale=1.0, draws_per_batch=1000)
        verdict = rule.judge(np.ones(16), predicted, **LEVELS)
        assert verdict.outcome is outcome
        assert verdict.detectable == 0.125


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_expectation_with_one_bad_batch_is_inconclusive(bad):
    """One batch that is not finite leaves the mean unknown; the reason says which."""
    verdict = EXPECTATION.judge(np.where(np.arange(32) == 7, bad, 0.0), 0.0, **LEVELS)
    assert verdict.outcome is INCONCLUSIVE
    assert f"1 of 32 measured values are not finite; the first, batch 7, is {bad}" in verdict.reason


def test_expectation_needs_sixteen_batches_of_a_thousand_draws():
    """Fewer are refused, because the error rates would not hold."""
    with pytest.raises(ValueError, match="at least 16 batch means, got shape \\(15,\\)"):
        EXPECTATION.judge(np.zeros(15), 0.0, **LEVELS)
    with pytest.raises(ValueError, match="at least 16 batch means, got shape \\(32, 1\\)"):
        EXPECTATION.judge(np.zeros((32, 1)), 0.0, **LEVELS)
    with pytest.raises(ValueError, match="draws_per_batch must be at least 1000, got 999"):
        Expectation(0.1, scale=1.0, draws_per_batch=999)
    with pytest.raises(ValueError, match="predicted must be finite, got nan"):
        EXPECTATION.judge(WAVE, math.nan, **LEVELS)


@pytest.mark.parametrize("name", ["margin", "scale"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan, "1", None])
def test_expectation_refuses_bad_margins_and_scales(name, value):
    """A margin of zero could never be confirmed; a scale of zero measures nothing."""
    with pytest.raises(ValueError, match=f"{name} must be"):
        Expectation(**{"margin": 0.1, "scale": 1.0, "draws_per_batch": 1000, name: value})


def test_design_agrees_with_published_sample_sizes():
    """Sizes for power near 0.95 at level 1e-3, margin in standard deviations, as known from simulation."""
    # The simulated table gives 10, 29, 106, 412 for powers between 0.87 and 0.955: within a quarter.
    for margin, published in [(1.0, 29), (0.5, 106), (0.25, 412)]:
        needed = Expectation(margin, scale=1.0, draws_per_batch=1000).batches_needed(1.0, alpha_confirm=1e-3)
        assert published <= needed <= 1.25 * published
    assert Expectation(0.5, scale=1.0, draws_per_batch=1000).batches_needed(0.0, alpha_confirm=1e-3) == 16


def test_design_returns_the_smallest_number():
    """The number of batches reaches the power at its own degrees of freedom, and one batch fewer does not."""
    rule = Expectation(1.0, scale=1.0, draws_per_batch=1000)
    for sd in np.linspace(1.0, 1.5, 11):
        needed = rule.batches_needed(sd, alpha_confirm=1e-3)
        assert confirm_power(sd / math.sqrt(needed), needed - 1, 1.0, 1e-3) >= 0.95
        assert confirm_power(sd / math.sqrt(needed - 1), needed - 2, 1.0, 1e-3) < 0.95


def test_underpowered_designs_are_refused_before_sampling():
    """The message names what was planned and what is needed; the number needed passes."""
    rule = Expectation(0.1, scale=1.0, draws_per_batch=1000)
    with pytest.raises(ValueError, match=r"underpowered by design: 30 batches .* take 31"):
        rule.require_power(30, 0.1, alpha_confirm=1e-3)
    rule.require_power(31, 0.1, alpha_confirm=1e-3)
    with pytest.raises(ValueError, match=r"underpowered by design: .* takes more than 1000000000 values"):
        rule.batches_needed(1e9, alpha_confirm=1e-3)
    for arguments in [(-1.0, 0.01, 0.95), (1.0, 0.0, 0.95), (1.0, 0.01, 1.0), (math.nan, 0.01, 0.95)]:
        sd, alpha, power = arguments
        with pytest.raises(ValueError):
            rule.batches_needed(sd, alpha_confirm=alpha, power=power)


def test_power_and_detectable_discrepancy_against_integration():
    """Both are integrals over the law of the estimated standard error, done here by adaptive integration."""
    from scipy.integrate import quad
    from scipy.stats import chi, nct, norm, t

    df, alpha, margin, se = 15, 1e-3, 1.0, 0.2
    quantile = t.isf(alpha, df)

    def confirmed(ratio):
        room = margin / se - quantile * ratio
        return max(2 * norm.cdf(room) - 1, 0.0) * chi.pdf(ratio * math.sqrt(df), df) * math.sqrt(df)

    expected, _ = quad(confirmed, 0.0, margin / se / quantile)
    # The quadrature in the quantile of the standard error is good to about 1e-4.
    assert confirm_power(se, df, margin, alpha) == pytest.approx(expected, abs=5e-4)
    # With a margin of five standard errors the far side adds nothing: a noncentral t.
    discrepancy = refutable_discrepancy(se, df, margin, alpha)
    assert nct.sf(quantile, df, (discrepancy - margin) / se) == pytest.approx(0.9, abs=5e-4)


def test_detectable_discrepancy_with_tiny_standard_errors():
    """A standard error below the rounding of the margin detects the margin itself, and does not hang."""
    assert refutable_discrepancy(1e-300, 15, 0.1, 1e-3) == 0.1
    assert refutable_discrepancy(0.0, 15, 0.1, 1e-3) == 0.1
    assert 0.1 < refutable_discrepancy(1e-9, 2, 0.1, 1e-9) < 0.2


# Global minima


def test_global_minimum_reached_and_stationary():
    """One stationary run within the margin is enough; the others may be stuck or broken."""
    verdict = MINIMUM.judge(ends([0.9, np.nan, 0.2004, np.inf]), 0.2, **LEVELS)
    assert verdict.outcome is CONSISTENT
    assert (verdict.witness, verdict.n) == (2, 4)
    assert "1 of 4 runs (2 without a finite loss) end stationary within the margin" in verdict.reason
    assert verdict.discrepancy == pytest.approx(0.0004 / 0.8)


def test_global_minimum_needs_stationarity():
    """A run that passes by, or whose gradient is unknown, has not arrived."""
    for residual in (1e-3, np.nan, np.inf):
        assert MINIMUM.judge(ends([0.2], residual), 0.2, **LEVELS).outcome is INCONCLUSIVE


def test_global_minimum_margin_is_a_share_of_what_can_be_gained():
    """With 0.8 between the trivial loss and the minimum, the margin 0.01 ends at 0.208; limits are included."""
    assert MINIMUM.judge(ends([0.2079], 1e-6), 0.2, **LEVELS).outcome is CONSISTENT
    assert MINIMUM.judge(ends([0.2081], 1e-6), 0.2, **LEVELS).outcome is INCONCLUSIVE
    assert CONVERGENCE.judge(ends(np.ones((8, 1)), 1e-6), [1.0], **LEVELS).outcome is CONSISTENT


def test_global_minimum_refuted_by_a_witness_below():
    """A loss below the minimum refutes whatever its gradient, and the run is named."""
    verdict = MINIMUM.judge(Runs([0.3, 0.19], [1e-9, 5.0]), 0.2, **LEVELS)
    assert (verdict.outcome, verdict.witness, verdict.estimate) == (REFUTED, 1, 0.19)
    assert "run 1 of 2 runs has the exact loss 0.19, below the predicted minimum 0.2 by 0.01" in verdict.reason


def test_global_minimum_forgives_rounding_only():
    """A loss below by less than the numerical error is rounding."""
    assert MINIMUM.judge(ends([0.2 - 5e-13]), 0.2, **LEVELS).outcome is CONSISTENT
    assert MINIMUM.judge(ends([0.2 - 2e-12]), 0.2, **LEVELS).outcome is REFUTED


def test_training_that_stops_higher_refutes_no_minimum():
    """A thousand bad runs leave the theorem open, and no infinity counts as a witness."""
    assert MINIMUM.judge(ends(np.full(1000, 0.5)), 0.2, **LEVELS).outcome is INCONCLUSIVE
    verdict = MINIMUM.judge(ends([np.nan, -np.inf]), 0.2, **LEVELS)
    assert verdict.outcome is INCONCLUSIVE
    assert "none of 2 runs ended with a finite loss" in verdict.reason


def test_rivals_on_both_sides_are_refuted_by_the_measurement_that_confirms_the_truth():
    """Above the truth by the witness, below it because the statement says that the minimum is attained."""
    measured = ends(np.full(8, 0.25))
    outcomes = [ATTAINED.judge(measured, minimum, **LEVELS).outcome for minimum in (0.25, 0.275, 0.225, 1.5, -1.0)]
    assert outcomes == [CONSISTENT, REFUTED, REFUTED, REFUTED, REFUTED]
    assert MINIMUM.judge(measured, 0.225, **LEVELS).outcome is INCONCLUSIVE


def test_not_attained_counts_stationary_runs_only():
    """Runs that broke or had not settled say nothing; (1 - q)^n is held against the level."""
    losses, residuals = np.full(8, 0.25), np.full(8, 1e-9)
    residuals[2:] = 1.0
    few = ATTAINED.judge(Runs(losses, residuals), 0.2, **LEVELS)
    assert few.outcome is INCONCLUSIVE
    assert few.p_refute == pytest.approx(0.1**2)
    assert "too few" in few.reason
    residuals[2] = 1e-9
    enough = ATTAINED.judge(Runs(losses, residuals), 0.2, alpha_refute=1.01e-3, alpha_confirm=1e-2)
    assert enough.outcome is REFUTED
    assert "not attained" in enough.reason
    losses[:] = np.nan
    assert ATTAINED.judge(Runs(losses, residuals), 0.2, **LEVELS).outcome is INCONCLUSIVE


def test_one_run_that_comes_near_blocks_not_attained():
    """Seven runs in local minima and one near the prediction do not refute it, even if that one had not settled."""
    losses = np.full(8, 0.5)
    losses[3] = 0.2
    residuals = np.full(8, 1e-9)
    assert ATTAINED.judge(Runs(losses, residuals), 0.2, **LEVELS).outcome is CONSISTENT
    residuals[3] = 1e-3
    assert ATTAINED.judge(Runs(losses, residuals), 0.2, **LEVELS).outcome is INCONCLUSIVE


def test_convex_problems_are_refuted_by_one_stationary_run():
    """attained=1 says that every stationary point is a global minimum."""
    rule = GlobalMinimum(0.01, trivial=1.0, numerical_error=0.0, tolerance_stationary=1e-6, attained=1.0)
    assert rule.judge(ends([0.25]), 0.2, **LEVELS).outcome is REFUTED
    assert rule.judge(ends([0.25], 1.0), 0.2, **LEVELS).outcome is INCONCLUSIVE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("margin", 0.0),
        ("trivial", 0.0),
        ("trivial", math.nan),
        ("numerical_error", -1e-12),
        ("tolerance_stationary", 0.0),
        ("attained", 0.0),
        ("attained", 1.1),
        ("attained", True),
    ],
)
def test_global_minimum_refuses_bad_arguments(name, value):
    """Each message names the argument."""
    good = {"margin": 0.01, "trivial": 1.0, "numerical_error": 0.0, "tolerance_stationary": 1e-6}
    with pytest.raises(ValueError, match=f"{name} must be"):
        GlobalMinimum(**{**good, name: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MINIMUM.judge([0.2], 0.2, **LEVELS), r"measured must be a Runs\(values, residuals\)"),
        (lambda: MINIMUM.judge(ends([[0.2]]), 0.2, **LEVELS), "one loss per run"),
        (lambda: MINIMUM.judge(ends([0.2]), math.nan, **LEVELS), "predicted must be finite"),
        (lambda: Runs([1.0, 2.0], [0.0]), "residuals must have one entry per run"),
        (lambda: Runs(1.0, 1.0), "residuals must have one entry per run"),
        (lambda: Runs([1.0, 2.0], [np.nan, -1.0]), "residuals must be at least 0, got -1.0"),
        (lambda: Runs([], []), "values must hold at least one number"),
        (lambda: Runs([True], [0.0]), "values must be an array of real numbers"),
    ],
)
def test_runs_are_checked(call, message):
    """Runs with the wrong shape or sign are refused before they are judged."""
    with pytest.raises(ValueError, match=message):
        call()


# Bounds for all


def test_bound_names_the_nearest_try_and_the_rate_it_excludes():
    """Not violated in n tries is all that is said, with the exact bound on the violation rate."""
    verdict = LOWER.judge(np.linspace(0.3, 1.0, 300), 0.2, **LEVELS)
    assert (verdict.outcome, verdict.witness) == (CONSISTENT, 0)
    assert verdict.detectable == pytest.approx(success_bounds(0, 300, alpha_low=0.5, alpha_high=0.01)[1])
    assert "not violated in 300 tries" in verdict.reason
    assert "violation rate < 0.0152 at level 0.01" in verdict.reason


def test_one_violation_refutes_a_bound():
    """The worst try is the witness; an upper bound turns the sign; one bound per try is allowed."""
    verdict = LOWER.judge([0.3, 0.15, 0.1, 0.4], 0.2, **LEVELS)
    assert (verdict.outcome, verdict.witness, verdict.estimate) == (REFUTED, 2, 0.1)
    assert "violated in 2 of 4 tries (worst, try 2: 0.1 against 0.2)" in verdict.reason
    upper = BoundForAll("upper", numerical_error=0.0)
    assert upper.judge([1.0, 2.0], [1.0, 2.0], **LEVELS).outcome is CONSISTENT
    assert upper.judge([1.0, 2.1], [1.0, 2.0], **LEVELS).outcome is REFUTED
    assert upper.judge([1.0, 2.1], 2.1, **LEVELS).outcome is CONSISTENT


def test_bound_forgives_rounding_relative_to_its_scale():
    """Rounding is measured by the bound of that try, or by the scale the claim gives."""
    assert LOWER.judge([1e6 - 1e-4], 1e6, **LEVELS).outcome is CONSISTENT
    assert LOWER.judge([1.0 - 1e-4], 1.0, **LEVELS).outcome is REFUTED
    assert LOWER.judge([-1e-17], 0.0, **LEVELS).outcome is REFUTED
    assert BoundForAll("lower", numerical_error=1e-9, scale=1.0).judge([-1e-17], 0.0, **LEVELS).passed
    per_try = BoundForAll("lower", numerical_error=1e-9, scale=[1.0, 1e9])
    assert per_try.judge([0.0, -0.5], 0.0, **LEVELS).passed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_bound_is_not_held_by_what_is_not_finite(bad):
    """A try without a value was not a try; a violation elsewhere still refutes."""
    verdict = LOWER.judge([0.3, bad], 0.2, **LEVELS)
    assert verdict.outcome is INCONCLUSIVE
    assert "the first, try 1, is" in verdict.reason
    assert LOWER.judge([0.1, bad], 0.2, **LEVELS).outcome is REFUTED
    assert LOWER.judge([0.1, bad], 0.0, **LEVELS).outcome is INCONCLUSIVE


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BoundForAll("below", numerical_error=0.0), "side must be one of 'lower', 'upper'"),
        (lambda: BoundForAll("lower", numerical_error=-1.0), "numerical_error must be at least 0"),
        (lambda: BoundForAll("lower", numerical_error=0.0, scale=-1.0), "scale must be greater than 0"),
        (lambda: LOWER.judge(0.3, 0.2, **LEVELS), "measured must be one row of tries"),
        (lambda: LOWER.judge([0.3, 0.4], [0.2, 0.2, 0.2], **LEVELS), "measured must be one row of tries"),
        (lambda: LOWER.judge([0.3], math.inf, **LEVELS), "predicted must be finite"),
        (lambda: LOWER.judge([], 0.2, **LEVELS), "measured must hold at least one number"),
    ],
)
def test_bound_refuses_bad_arguments(call, message):
    """Each message names the argument."""
    with pytest.raises(ValueError, match=message):
        call()


# Convergence


def test_clopper_pearson_by_enumeration():
    """The p-values are sums of binomial probabilities, and the bounds cross q exactly where they cross the level."""
    for runs, fraction in [(1, 0.5), (8, 0.5), (13, 0.9)]:
        mass = [math.comb(runs, s) * fraction**s * (1 - fraction) ** (runs - s) for s in range(runs + 1)]
        for successes in range(runs + 1):
            p_refute, p_confirm = success_p_values(successes, runs, fraction)
            assert p_refute == pytest.approx(sum(mass[: successes + 1]), rel=1e-10)
            assert p_confirm == pytest.approx(sum(mass[successes:]), rel=1e-10)
            for level in (0.001, 0.04):
                low, high = success_bounds(successes, runs, alpha_low=level, alpha_high=level)
                assert (high <= fraction) == (p_refute <= level)
                assert (low >= fraction) == (p_confirm <= level)


def test_runs_needed_are_the_zero_failure_counts():
    """Known table: q = 0.8, 0.9, 0.95 at levels 0.05, 0.01, 0.001; one run fewer is not enough."""
    table = {0.8: (14, 21, 31), 0.9: (29, 44, 66), 0.95: (59, 90, 135)}
    for fraction, counts in table.items():
        for alpha, count in zip((0.05, 0.01, 0.001), counts, strict=True):
            assert Convergence.runs_needed(fraction, alpha) == count
            assert fraction**count <= alpha < fraction ** (count - 1)
    assert Convergence.runs_needed(0.5, 0.25) == 2  # exactly at the level counts
    assert Convergence.runs_needed(0.001, 0.01) == 1
    for fraction, alpha in [(0.0, 0.01), (1.0, 0.01), (0.5, 0.0), (0.5, 1.0), (math.nan, 0.01)]:
        with pytest.raises(ValueError):
            Convergence.runs_needed(fraction, alpha)


def test_convergence_confirms_refutes_and_leaves_open():
    """All of 8 runs confirm one half at 0.01, none of 10 refutes it at 0.001, four of 8 leave it open."""
    target = np.array([3.0, 4.0])
    good, bad = target + np.array([0.03, 0.0]), target + np.array([0.06, 0.0])
    reached = CONVERGENCE.judge(ends(np.tile(good, (8, 1))), target, **LEVELS)
    assert (reached.outcome, reached.estimate, reached.predicted) == (CONSISTENT, 1.0, 0.5)
    assert reached.discrepancy == pytest.approx(0.006)
    missed = CONVERGENCE.judge(ends(np.tile(bad, (10, 1))), target, **LEVELS)
    assert (missed.outcome, missed.estimate) == (REFUTED, 0.0)
    assert "0 of 10 runs end stationary within the margin 0.01" in missed.reason
    mixed = CONVERGENCE.judge(ends([good] * 4 + [bad] * 4), target, **LEVELS)
    assert mixed.outcome is INCONCLUSIVE
    assert "leaves 0.5 open" in mixed.reason
    assert mixed.interval[0] < 0.5 < mixed.interval[1]


def test_a_p_value_equal_to_the_level_decides():
    """All or none of 8 runs at q = 1/2 have the p-value 2^-8 exactly; the level itself is promised, so it counts."""
    levels = {"alpha_refute": 0.5**8, "alpha_confirm": 0.5**8}
    assert CONVERGENCE.judge(ends(np.ones((8, 1))), [1.0], **levels).outcome is CONSISTENT
    assert CONVERGENCE.judge(ends(np.zeros((8, 1))), [1.0], **levels).outcome is REFUTED
    assert CONVERGENCE.judge(ends(np.ones((7, 1))), [1.0], **levels).outcome is INCONCLUSIVE
    halves = GlobalMinimum(0.01, trivial=1.0, numerical_error=0.0, tolerance_stationary=1e-6, attained=0.5)
    assert halves.judge(ends([0.5] * 8), 0.2, **levels).outcome is REFUTED
    assert halves.judge(ends([0.5] * 7), 0.2, **levels).outcome is INCONCLUSIVE


def test_convergence_needs_stationarity_and_finite_parameters():
    """Runs that have not settled, or lost a parameter, are failures and not passes."""
    target = np.array([3.0, 4.0])
    rows = np.tile(target, (10, 1))
    assert CONVERGENCE.judge(ends(rows, 1.0), target, **LEVELS).outcome is REFUTED
    assert CONVERGENCE.judge(ends(rows, np.nan), target, **LEVELS).outcome is REFUTED
    rows[:, 0] = np.nan
    verdict = CONVERGENCE.judge(ends(rows), target, **LEVELS)
    assert (verdict.outcome, verdict.discrepancy) == (REFUTED, None)


def test_convergence_underpowered_by_design():
    """Too few runs to ever confirm: said before the training by an error, after it in the reason."""
    rule = Convergence(0.01, tolerance_stationary=1e-6, fraction=0.9)
    with pytest.raises(ValueError, match=r"underpowered by design: 8 runs .* take 44"):
        rule.require_power(8, alpha_confirm=0.01)
    rule.require_power(44, alpha_confirm=0.01)
    verdict = rule.judge(ends(np.ones((8, 1))), [1.0], **LEVELS)
    assert verdict.outcome is INCONCLUSIVE
    assert "underpowered by design, 44 runs without a failure would be needed" in verdict.reason
    assert rule.judge(ends(np.zeros((8, 1))), [1.0], **LEVELS).outcome is REFUTED


def test_convergence_modulo_a_symmetry():
    """A distance that knows the symmetry replaces the Euclidean one; matrices are compared as a whole."""
    rows = np.array([[1.0, -2.0], [-1.0, 2.0]] * 8)
    signless = Convergence(
        0.01,
        tolerance_stationary=1e-6,
        fraction=0.5,
        distance=lambda row, target: min(np.abs(row - target).max(), np.abs(row + target).max()),
    )
    assert signless.judge(ends(rows), rows[0], **LEVELS).outcome is CONSISTENT
    assert CONVERGENCE.judge(ends(rows), rows[0], **LEVELS).outcome is INCONCLUSIVE
    assert CONVERGENCE.judge(ends(np.tile(np.eye(3), (8, 1, 1))), np.eye(3), **LEVELS).outcome is CONSISTENT
    undefined = Convergence(0.01, tolerance_stationary=1e-6, fraction=0.5, distance=lambda row, target: math.nan)
    assert undefined.judge(ends(rows), rows[0], **LEVELS).outcome is REFUTED


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Convergence(0.0, tolerance_stationary=1e-6), "margin must be greater than 0"),
        (lambda: Convergence(0.1, tolerance_stationary=0.0), "tolerance_stationary must be greater than 0"),
        (lambda: Convergence(0.1, tolerance_stationary=1e-6, fraction=1.0), "fraction must be less than 1"),
        (lambda: Convergence(0.1, tolerance_stationary=1e-6, fraction=0), "fraction must be greater than 0"),
        (lambda: CONVERGENCE.judge(ends([[1.0]]), [0.0], **LEVELS), "predicted must not be zero"),
        (lambda: CONVERGENCE.judge(ends([[1.0]]), [1.0, 2.0], **LEVELS), r"shape \(2,\) per run, got \(1,\)"),
        (lambda: CONVERGENCE.judge(ends([[1.0]]), [math.nan], **LEVELS), "predicted must be finite"),
        (lambda: CONVERGENCE.judge(np.ones((4, 1)), [1.0], **LEVELS), "measured must be a Runs"),
        (
            lambda: Convergence(0.1, tolerance_stationary=1e-6, distance=lambda row, target: -1.0).judge(
                ends([[1.0]]), [1.0], **LEVELS
            ),
            "distance must be at least 0, got -1",
        ),
    ],
)
def test_convergence_refuses_bad_arguments(call, message):
    """Each message names the argument."""
    with pytest.raises(ValueError, match=message):
        call()


# Rates


def test_rate_of_an_exact_power_law():
    """A power law without scatter is decided exactly, for the truth and for a rival."""
    assert RATE.judge((SIZES, 7.0 * SIZES**-0.5), -0.5, **LEVELS).outcome is CONSISTENT
    verdict = RATE.judge((SIZES, 7.0 * SIZES**-0.5), -1.0, **LEVELS)
    assert verdict.outcome is REFUTED
    assert verdict.estimate == pytest.approx(-0.5, abs=1e-12)
    assert RATE.judge((SIZES, np.ones(8)), 0.0, **LEVELS).outcome is CONSISTENT


def test_rate_with_scatter_agrees_with_least_squares():
    """Slope and standard error are those of scipy's regression, and noise leaves the exponent open."""
    from scipy.stats import linregress, t

    noise = np.array([0.3, -0.2, 0.1, 0.4, -0.5, 0.2, -0.3, 0.1])
    values = np.exp(noise) / SIZES
    fit = linregress(np.log(SIZES), np.log(values))
    verdict = RATE.judge((SIZES, values), -1.0, **LEVELS)
    half = t.isf(0.01, 6) * fit.stderr
    assert verdict.outcome is INCONCLUSIVE
    assert verdict.estimate == pytest.approx(fit.slope, rel=1e-10)
    assert verdict.interval == pytest.approx((fit.slope - half, fit.slope + half), rel=1e-9)
    assert RATE.judge((SIZES, values), -4.0, **LEVELS).outcome is REFUTED


def test_rate_is_not_fooled_by_curvature():
    """A curve that bends by far through two exponents has a fitted slope and no rate: nothing is confirmed."""
    values = 1.0 / SIZES + 30.0 / SIZES**2
    slope = RATE.judge((SIZES, values), -1.3, **LEVELS).estimate
    assert RATE.judge((SIZES, values), slope, **LEVELS).outcome is INCONCLUSIVE


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_rate_needs_positive_values(bad):
    """A value without a logarithm leaves the rate open; the reason names it."""
    values = np.where(np.arange(8) == 3, bad, 1.0 / SIZES)
    verdict = RATE.judge((SIZES, values), -1.0, **LEVELS)
    assert verdict.outcome is INCONCLUSIVE
    assert "the logarithm of value 3" in verdict.reason


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        (([1, 2, 4], [1, 2, 4]), "sizes must hold at least 4 different ones, got 3"),
        (([1, 2, 4, 4], [1, 2, 4, 4]), "sizes must hold at least 4 different ones, got 3"),
        (([0, 1, 2, 4], [1, 1, 2, 4]), "sizes must be greater than 0"),
        (([1, 2, 4, math.nan], [1, 2, 4, 8]), "sizes must be finite"),
        (([1, 2, 4, 8], [1, 2, 4]), "rows of one length"),
        ([1, 2, 4, 8], "measured must be a pair"),
    ],
)
def test_rate_refuses_bad_measurements(measured, message):
    """Each message names the argument."""
    with pytest.raises(ValueError, match=message):
        RATE.judge(measured, 1.0, **LEVELS)
    with pytest.raises(ValueError, match="margin must be greater than 0"):
        Rate(0.0)


# Several cases, several looks


def verdicts(*outcomes):
    """Verdicts of an identity with these outcomes; the discrepancy grows with the place."""
    table = {
        CONSISTENT: lambda i: Identity(1.0).judge([1.0 + i / 100], [1.0], **LEVELS),
        REFUTED: lambda i: Identity(1.0).judge([3.0 + i], [1.0], **LEVELS),
        INCONCLUSIVE: lambda i: EXPECTATION.judge(WAVE + 0.1 * i, 0.0, **LEVELS),
        NOT_APPLICABLE: lambda i: not_applicable(f"condition {i}"),
    }
    return [table[outcome](i) for i, outcome in enumerate(outcomes)]


@pytest.mark.parametrize(
    ("outcomes", "combined", "case"),
    [
        ((CONSISTENT, REFUTED, INCONCLUSIVE, NOT_APPLICABLE), REFUTED, 1),
        ((CONSISTENT, INCONCLUSIVE, NOT_APPLICABLE), INCONCLUSIVE, 1),
        ((CONSISTENT, NOT_APPLICABLE), CONSISTENT, 0),
        ((NOT_APPLICABLE, NOT_APPLICABLE), NOT_APPLICABLE, 0),
        ((REFUTED, CONSISTENT, REFUTED), REFUTED, 2),
        ((CONSISTENT, CONSISTENT), CONSISTENT, 1),
        ((INCONCLUSIVE,), INCONCLUSIVE, 0),
    ],
)
def test_combine_takes_the_worst_case(outcomes, combined, case):
    """The gravest outcome decides, then the largest discrepancy, and the numbers are those of that case."""
    cases = verdicts(*outcomes)
    result = combine(iter(cases))
    assert result.outcome is combined
    assert worst_case(cases) == case
    assert (result.estimate, result.discrepancy, result.n) == (
        cases[case].estimate,
        cases[case].discrepancy,
        cases[case].n,
    )
    assert result.reason.endswith(cases[case].reason)


def test_combine_counts_the_cases():
    """The reason says how many cases there were, how many decided, and which was the worst."""
    many = combine(verdicts(REFUTED, CONSISTENT, REFUTED, NOT_APPLICABLE))
    assert many.reason.startswith("2 of 4 cases refuted (1 not applicable); the worst, case 3: ")
    [single] = verdicts(CONSISTENT)
    assert combine([single]) == single
    with pytest.raises(ValueError, match="at least one verdict"):
        combine([])


def test_combine_ranks_a_missing_discrepancy_as_the_worst():
    """A case that produced no number at all stands above those that nearly held."""
    runs = [ends([0.21] * 3), ends([np.nan] * 3), ends([0.9] * 3)]
    assert worst_case(MINIMUM.judge(measured, 0.2 - 0.01, **LEVELS) for measured in runs) == 1


def test_combine_compares_discrepancies_in_units_of_their_margins():
    """Half of a narrow margin is nearer to refutation than a tenth of a wide one."""
    wide = Identity(1.0).judge([1.1], [1.0], **LEVELS)
    narrow = Identity(1e-6).judge([1.0 + 5e-7], [1.0], **LEVELS)
    assert worst_case([wide, narrow]) == 1


def test_spending_sums_to_the_level():
    """The levels of all looks together stay below the level; looks count from one."""
    assert sum(spend(0.01, look) for look in range(1, 60)) <= 0.01
    assert spend(0.01, 1) == 0.005
    for alpha, look in [(0.0, 1), (0.6, 1), (0.01, 0), (0.01, 1.5), (math.nan, 1)]:
        with pytest.raises(ValueError):
            spend(alpha, look)
