"""The promised error rates, measured on simulated data whose truth is known.

Every measured rate is held against the binomial quantile that a rule at its level exceeds with probability 1e-6
(or undercuts, for a power), so that a failure means a fault and not bad luck; the seeds are fixed besides. Each
part also feeds a rule known to be wrong to the same measurement, which must find its rate too high.
"""

import math

import numpy as np
import pytest

from plumbline.analysis.verdict import BoundForAll, Convergence, Expectation, GlobalMinimum, Outcome, Rate, Runs, spend
from plumbline.analysis.verdict.decision import (
    confirm_power,
    refutable_discrepancy,
    success_p_values,
    three_zone,
)

ALPHA = 0.01
REPETITIONS = 40_000
DRAWS_PER_BATCH = 1000


def at_most(level, repetitions):
    """The largest count that a rate of ``level`` leaves plausible."""
    from scipy.stats import binom

    return binom.isf(1e-6, repetitions, level)


def at_least(power, repetitions):
    """The smallest count that a rate of ``power`` leaves plausible."""
    from scipy.stats import binom

    return binom.ppf(1e-6, repetitions, power)


def counts(values, predicted, margin):
    """How many rows of ``values`` (repetitions, n), of mean zero, refute and confirm the mean ``predicted``."""
    n = values.shape[1]
    x, se = values.mean(axis=1) - predicted, values.std(axis=1, ddof=1) / math.sqrt(n)
    p_refute, p_confirm = three_zone(x, se, n - 1, margin)
    return int((p_refute <= ALPHA).sum()), int((p_confirm <= ALPHA).sum())


def normal_rows(n, seed, repetitions=REPETITIONS):
    """Rows of n standard normal numbers."""
    return np.random.default_rng(seed).standard_normal((repetitions, n))


def exponential_batch_means(n, seed, repetitions=REPETITIONS):
    """Rows of n means of 1,000 exponential draws (exactly: a gamma variable), centred, in standard deviations."""
    means = np.random.default_rng(seed).standard_gamma(DRAWS_PER_BATCH, (repetitions, n)) / DRAWS_PER_BATCH
    return (means - 1.0) * math.sqrt(DRAWS_PER_BATCH)


def lognormal_batch_means(n, seed, repetitions=4_000):
    """Rows of n means of 1,000 lognormal draws, centred, in standard deviations of a mean."""
    rng = np.random.default_rng(seed)
    means = np.empty(repetitions * n)
    for part in np.array_split(np.arange(means.size), max(1, means.size // 4000)):
        draws = rng.standard_normal((part.size, DRAWS_PER_BATCH), dtype=np.float32)
        means[part] = np.exp(draws, out=draws).mean(axis=1)
    deviation = math.sqrt((math.e - 1) * math.e / DRAWS_PER_BATCH)
    return (means.reshape(repetitions, n) - math.exp(0.5)) / deviation


def raw_exponential(n, seed, repetitions=REPETITIONS):
    """Rows of n single exponential draws, centred: what the rule must never be fed."""
    return np.random.default_rng(seed).standard_exponential((repetitions, n)) - 1.0


def raw_lognormal(n, seed, repetitions=REPETITIONS):
    """Rows of n single lognormal draws, centred, in standard deviations."""
    draws = np.exp(normal_rows(n, seed, repetitions))
    return (draws - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)


# Means


@pytest.mark.parametrize("rows", [normal_rows, exponential_batch_means, lognormal_batch_means])
def test_errors_stay_at_their_levels_with_the_truth_on_the_margin(rows):
    """The margin is the worst place for both errors, on either side of the prediction."""
    values = rows(16, seed=11)
    limit = at_most(ALPHA, len(values))
    for predicted in (-1.0, 1.0):
        refuted, confirmed = counts(values, predicted, 1.0)
        # Skewness leaves 7 % (exponential) and 17 % (lognormal) above the level, less than the limit can see.
        assert refuted <= limit
        assert confirmed <= limit


def test_errors_stay_at_their_levels_inside_and_without_a_margin():
    """Within the margin refutations are rarer still; without one the rule is the two-sided t test, at its level."""
    values = normal_rows(16, seed=12)
    for predicted in (0.0, 0.5, -0.9):
        assert counts(values, predicted, 1.0)[0] <= at_most(ALPHA, len(values))
    refuted, confirmed = counts(values, 0.0, 0.0)
    assert at_least(ALPHA, len(values)) <= refuted <= at_most(ALPHA, len(values))
    assert confirmed == 0


@pytest.mark.parametrize(("rows", "excess"), [(raw_exponential, 4.0), (raw_lognormal, 8.0)])
def test_raw_skewed_losses_break_both_promises(rows, excess):
    """Single draws instead of batch means: the same measurement finds error rates several times too high."""
    values = rows(16, seed=13)
    # Skewed to the right, the mean and its standard error are small together: the errors go to the left.
    assert counts(values, 1.0, 1.0)[0] > at_most(excess * ALPHA, len(values))
    assert counts(values, -1.0, 1.0)[1] > at_most(excess * ALPHA, len(values))


def test_a_standard_error_too_small_is_found_out():
    """Half the standard error, as of batches that share their draws, breaks both promises."""
    x, se = normal_rows(16, seed=14).mean(axis=1) - 1.0, 0.125
    p_refute, p_confirm = three_zone(x, se, 15, 1.0)
    assert min((p_refute <= ALPHA).sum(), (p_confirm <= ALPHA).sum()) > at_most(ALPHA, REPETITIONS)


def test_rare_events_deceive_batch_means_too():
    """A mean carried by events of probability 1e-4: one sample in five contains none, and is sure of itself."""
    rng = np.random.default_rng(15)
    events = rng.binomial(DRAWS_PER_BATCH, 1e-4, (REPETITIONS, 16)) / (DRAWS_PER_BATCH * 1e-4)
    values = 1.0 + events + 1e-3 * rng.standard_normal(events.shape)
    refuted, _ = counts(values, 2.0, 0.5)
    assert refuted > at_most(10 * ALPHA, REPETITIONS)


def test_judging_is_the_vectorised_rule():
    """Expectation.judge gives outcome and p-values of the function whose rates are measured here."""
    rule = Expectation(0.4, scale=2.5, draws_per_batch=DRAWS_PER_BATCH)
    seen = set()
    for row, predicted in zip(normal_rows(16, 16, 60), np.linspace(-2.5, 2.5, 60), strict=True):
        verdict = rule.judge(row, predicted, alpha_refute=ALPHA, alpha_confirm=ALPHA)
        refuted, confirmed = counts(row[None], predicted, 1.0)
        outcome = Outcome.REFUTED if refuted else Outcome.CONSISTENT if confirmed else Outcome.INCONCLUSIVE
        assert verdict.outcome is outcome
        seen.add(outcome)
    assert len(seen) == 3


def test_powers_are_those_promised():
    """At twice the margin nine of ten are refuted; at zero, and at the detectable discrepancy, the powers computed."""
    values = normal_rows(16, seed=17)
    refuted = counts(values, 2.0, 1.0)[0]
    assert at_least(0.89, len(values)) <= refuted <= at_most(0.91, len(values))
    confirmed = counts(values, 0.0, 1.0)[1]
    promised = confirm_power(0.25, 15, 1.0, ALPHA)
    assert at_least(promised - 1e-3, len(values)) <= confirmed <= at_most(promised + 1e-3, len(values))
    for margin in (0.0, 0.1, 1.0):
        detectable = refutable_discrepancy(0.25, 15, margin, ALPHA)
        refuted = counts(values, detectable, margin)[0]
        # The quadrature behind both powers is good to 1e-3.
        assert at_least(0.899, len(values)) <= refuted <= at_most(0.901, len(values))


def test_batches_needed_suffice_and_fewer_do_not():
    """The design step promises CONSISTENT with probability 0.95 at discrepancy zero."""
    rule = Expectation(1.0, scale=1.0, draws_per_batch=DRAWS_PER_BATCH)
    needed = rule.batches_needed(1.5, alpha_confirm=ALPHA)
    values = 1.5 * normal_rows(needed, seed=18)
    assert counts(values, 0.0, 1.0)[1] >= at_least(0.949, len(values))
    assert counts(values[:, : needed - 4], 0.0, 1.0)[1] < at_least(0.949, len(values))


def looks_that_reject(p_values, levels):
    """For each row of p-values at successive looks, whether any look rejects at its level."""
    return (p_values <= np.asarray(levels)).any(axis=1)


def test_doubling_looks_spend_the_level():
    """Six looks at doubling sample sizes keep the level when they spend it, and break it when they do not."""
    repetitions, sizes = 10_000, [16, 32, 64, 128, 256, 512]
    values = normal_rows(sizes[-1], 19, repetitions)
    p_refute, p_confirm = np.empty((2, repetitions, len(sizes)))
    for look, n in enumerate(sizes):
        x, se = values[:, :n].mean(axis=1) - 1.0, values[:, :n].std(axis=1, ddof=1) / math.sqrt(n)
        p_refute[:, look], p_confirm[:, look] = three_zone(x, se, n - 1, 1.0)
    spent = [spend(ALPHA, look) for look in range(1, 7)]
    for p_values in (p_refute, p_confirm):
        assert looks_that_reject(p_values, spent).sum() <= at_most(ALPHA, repetitions)
        assert looks_that_reject(p_values, [ALPHA] * 6).sum() > at_most(ALPHA, repetitions)


# Success fractions, exactly


def binomial_mass(runs, fraction):
    """Probabilities of 0 ... R successes."""
    from scipy.stats import binom

    return binom.pmf(np.arange(runs + 1), runs, fraction)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("alpha", [1e-2, 1e-3])
def test_success_fractions_keep_their_levels_by_enumeration(fraction, alpha):
    """All sample sizes to 150: with the true probability at q, both errors summed over all outcomes."""
    for runs in range(1, 151):
        mass = binomial_mass(runs, fraction)
        p_refute, p_confirm = success_p_values(np.arange(runs + 1), runs, fraction)
        assert mass[p_refute <= alpha].sum() <= alpha
        assert mass[p_confirm <= alpha].sum() <= alpha


def test_success_fraction_by_the_normal_approximation_is_found_out():
    """The textbook interval p ± 2.33 sd is sure of itself when all runs succeed: ten runs confirm 0.9."""
    runs, fraction = 10, 0.9
    share = np.arange(runs + 1) / runs
    confirmed = share - 2.33 * np.sqrt(share * (1 - share) / runs) >= fraction
    assert binomial_mass(runs, fraction)[confirmed].sum() > 30 * ALPHA


def test_convergence_judges_by_the_enumerated_rule():
    """Every outcome of 66 runs at q = 0.9: errors and powers as published for this design."""
    rule = Convergence(0.1, tolerance_stationary=1e-6, fraction=0.9)
    outcomes = []
    for successes in range(67):
        rows = np.where(np.arange(66) < successes, 1.0, 2.0)[:, None]
        verdict = rule.judge(Runs(rows, np.zeros(66)), [1.0], alpha_refute=ALPHA, alpha_confirm=ALPHA)
        outcomes.append(verdict.outcome)
    confirmed, refuted = (np.array([o is name for o in outcomes]) for name in (Outcome.CONSISTENT, Outcome.REFUTED))
    # The published values are rounded to three or four digits.
    assert binomial_mass(66, 0.9)[confirmed].sum() == pytest.approx(0.0080, abs=5e-5)
    assert binomial_mass(66, 0.9)[refuted].sum() == pytest.approx(0.0051, abs=5e-5)
    assert binomial_mass(66, 0.99)[confirmed].sum() == pytest.approx(0.859, abs=5e-4)
    assert binomial_mass(66, 0.7)[refuted].sum() == pytest.approx(0.959, abs=5e-4)


def test_doubling_looks_at_a_success_fraction():
    """Looks at 16, 32, ..., 256 runs with the true fraction at q: spending keeps the level, not spending breaks it."""
    repetitions, sizes = 40_000, [16, 32, 64, 128, 256]
    successes = (np.random.default_rng(20).random((repetitions, sizes[-1])) < 0.9).cumsum(axis=1)
    looks = [success_p_values(successes[:, n - 1], n, 0.9) for n in sizes]
    spent = [spend(ALPHA, look) for look in range(1, 6)]
    for side in (0, 1):
        p_values = np.stack([look[side] for look in looks], axis=1)
        assert looks_that_reject(p_values, spent).sum() <= at_most(ALPHA, repetitions)
        assert looks_that_reject(p_values, [ALPHA] * 5).sum() > at_most(1.5 * ALPHA, repetitions)


# Minima and bounds, exactly


@pytest.mark.parametrize("attained", [0.2, 0.5, 0.9])
def test_not_attained_keeps_its_level_by_enumeration(attained):
    """If stationary runs attain the minimum with probability q, the chance that it is refuted is at most the level."""
    rule = GlobalMinimum(0.01, trivial=1.0, numerical_error=0.0, tolerance_stationary=1e-6, attained=attained)
    for runs in range(1, 41):
        risk = 0.0
        for successes, mass in enumerate(binomial_mass(runs, attained)):
            losses = np.where(np.arange(runs) < successes, 0.2, 0.5)
            verdict = rule.judge(Runs(losses, np.zeros(runs)), 0.2, alpha_refute=ALPHA, alpha_confirm=ALPHA)
            assert (verdict.outcome is Outcome.CONSISTENT) == (successes > 0)
            risk += mass if verdict.outcome is Outcome.REFUTED else 0.0
        assert risk <= ALPHA
        if (1 - attained) ** runs <= ALPHA:
            assert risk == pytest.approx((1 - attained) ** runs)


def test_violation_rate_excluded_by_a_bound_is_exact():
    """A bound violated at the excluded rate slips through n tries with exactly the promised probability."""
    rule = BoundForAll("lower", numerical_error=0.0)
    for tries in (1, 16, 1000):
        verdict = rule.judge(np.ones(tries), 0.5, alpha_refute=ALPHA, alpha_confirm=ALPHA)
        assert (1 - verdict.detectable) ** tries == pytest.approx(ALPHA, rel=1e-9)


# Rates


def slopes(noise, sizes):
    """Least-squares slopes of rows of logarithms with exponent zero, and their standard errors, all rows at once."""
    u = np.log(sizes) - np.log(sizes).mean()
    slope = noise @ u / (u @ u)
    residual = noise - noise.mean(axis=1, keepdims=True) - slope[:, None] * u
    return slope, np.sqrt((residual**2).sum(axis=1) / (len(sizes) - 2) / (u @ u))


@pytest.mark.parametrize("count", [4, 8])
def test_rates_keep_their_levels(count):
    """Scatter of the logarithms about a line whose exponent lies on the margin, at four and at eight sizes."""
    sizes = 2.0 ** np.arange(3, 3 + count)
    noise = 0.1 * normal_rows(count, seed=21)
    slope, se = slopes(noise, sizes)
    for predicted in (-0.05, 0.05):
        p_refute, p_confirm = three_zone(slope - predicted, se, count - 2, 0.05)
        assert (p_refute <= ALPHA).sum() <= at_most(ALPHA, len(noise))
        assert (p_confirm <= ALPHA).sum() <= at_most(ALPHA, len(noise))
    rule = Rate(0.05)
    for row in range(30):
        values = np.exp(noise[row]) / sizes
        verdict = rule.judge((sizes, values), -1.05, alpha_refute=ALPHA, alpha_confirm=ALPHA)
        p_refute, p_confirm = three_zone(slope[row] + 0.05, se[row], count - 2, 0.05)
        # The logarithm of values that were exponentials loses a few roundings.
        assert (verdict.p_refute, verdict.p_confirm) == pytest.approx((p_refute, p_confirm), rel=1e-9)


def test_rates_with_normal_quantiles_are_found_out():
    """The t quantiles matter at few sizes: normal ones refute ten times too often at four."""
    from scipy.special import ndtr

    sizes = 2.0 ** np.arange(3, 7)
    slope, se = slopes(0.1 * normal_rows(4, seed=22), sizes)
    p_refute = 2 * ndtr(-np.abs(slope) / se)
    assert (p_refute <= ALPHA).sum() > at_most(5 * ALPHA, len(slope))
