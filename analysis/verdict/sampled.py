"""Rules decided by samples at stated error rates: expectations, convergence of training, rates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from plumbline.analysis.verdict.decision import (
    refutable_discrepancy,
    runs_without_failure,
    success_bounds,
    success_p_values,
    three_zone,
    values_needed,
)
from plumbline.analysis.verdict.outcome import Outcome, Verdict
from plumbline.analysis.verdict.samples import (
    Runs,
    finite_numbers,
    levels,
    not_finite,
    numbers,
    probability,
    runs,
)
from plumbline.theory import checks

MINIMUM_BATCHES = 16
MINIMUM_DRAWS = 1000
MINIMUM_SIZES = 4
# A design that asks for more batches than this is refused.
MAXIMUM_BATCHES = 10**9


@dataclass(frozen=True)
class Expectation:
    """A mean has a predicted value: decided by the three-zone t rule on means of batches of many draws.

    The discrepancy is (mean of the batch means - predicted) / scale. At least 16 batches of at least 1,000
    draws each are asked for: on single lognormal losses the t rule errs ten times as often as the level 0.01
    promises and 900 times as often as 1e-5; on their batch means 1.2 and about 2 times. No sample warns of an
    expectation carried by events too rare to be in it: use an exact expectation there.

    Args:
        margin: Largest discrepancy that still counts as agreement, in units of ``scale``, above 0.
        scale: The theory's own scale, e.g. the trivial loss less the predicted one, above 0.
        draws_per_batch: Number of draws in each batch mean, at least 1,000.

    Raises:
        ValueError: naming the argument that is out of range; fewer than 16 batches.

    Example:
        >>> means = 0.5 + 0.001 * np.sin(np.arange(32))
        >>> rule = Expectation(margin=0.01, scale=1.0, draws_per_batch=1000)
        >>> rule.judge(means, 0.5, alpha_refute=1e-3, alpha_confirm=1e-2).outcome.value
        'consistent'
        >>> rule.judge(means, 0.55, alpha_refute=1e-3, alpha_confirm=1e-2).outcome.value
        'refuted'
    """

    kind: ClassVar[str] = "expectation"

    margin: float
    _: KW_ONLY
    scale: float
    draws_per_batch: int

    def __post_init__(self) -> None:
        checks.real("margin", self.margin, above=0.0)
        checks.real("scale", self.scale, above=0.0)
        checks.integer("draws_per_batch", self.draws_per_batch, at_least=MINIMUM_DRAWS)

    def judge(self, measured: Any, predicted: float, *, alpha_refute: float, alpha_confirm: float) -> Verdict:
        """Return the verdict on the mean of the batch means ``measured`` (n,) against ``predicted``."""
        levels(alpha_refute, alpha_confirm)
        means = numbers("measured", measured)
        predicted = checks.real("predicted", predicted)
        if means.ndim != 1 or means.size < MINIMUM_BATCHES:
            raise ValueError(
                f"measured must be one row of at least {MINIMUM_BATCHES} batch means, got shape {means.shape}"
            )
        if not np.isfinite(means).all():
            return not_finite(
                kind=self.kind,
                what="batch",
                values=means,
                predicted=predicted,
                alpha_refute=alpha_refute,
                alpha_confirm=alpha_confirm,
            )
        with np.errstate(over="ignore", invalid="ignore"):
            estimate, deviation = float(means.mean()), float(means.std(ddof=1))
        return _three_zone_verdict(
            kind=self.kind,
            unit=" of the scale",
            what=f"the mean of {means.size} batches of {self.draws_per_batch} draws",
            estimate=estimate,
            se=deviation / math.sqrt(means.size),
            df=means.size - 1,
            n=means.size,
            predicted=predicted,
            margin=self.margin,
            scale=self.scale,
            alpha_refute=alpha_refute,
            alpha_confirm=alpha_confirm,
        )

    def batches_needed(self, relative_sd: float, *, alpha_confirm: float, power: float = 0.95) -> int:
        """Return the number of batches that gives CONSISTENT with probability ``power`` at discrepancy zero.

        Args:
            relative_sd: Standard deviation of one batch mean, in units of ``scale``, at least 0.
            alpha_confirm: The level the rule will be asked for.
            power: Probability to be reached, at most 0.999.

        Raises:
            ValueError: naming the argument that is out of range; more than 10⁹ batches needed.

        Example:
            >>> rule = Expectation(0.1, scale=1.0, draws_per_batch=1000)
            >>> rule.batches_needed(0.1, alpha_confirm=1e-3)
            31
        """
        relative_sd = checks.real("relative_sd", relative_sd, at_least=0.0)
        levels(alpha_confirm, alpha_confirm)
        checks.real("power", power, above=0.0, at_most=0.999)

        return values_needed(relative_sd, self.margin, alpha_confirm, power, MINIMUM_BATCHES, MAXIMUM_BATCHES)

    def require_power(self, batches: int, relative_sd: float, *, alpha_confirm: float) -> None:
        """Raise ValueError if so many batches are too few to expect CONSISTENT of a true claim."""
        needed = self.batches_needed(relative_sd, alpha_confirm=alpha_confirm)
        if checks.integer("batches", batches, at_least=1) < needed:
            raise ValueError(
                f"underpowered by design: {batches} batches of relative standard deviation {relative_sd:.3g} "
                f"cannot be expected to confirm a margin of {self.margin:.3g}; take {needed}"
            )


@dataclass(frozen=True)
class Convergence:
    """Training reaches the predicted parameters from at least a fraction q of the starts: exact binomial.

    A run succeeds when it is stationary and its distance to the prediction is at most the margin; a run with
    a parameter that is not finite fails. REFUTED if P(at most so many successes) ≤ α_refute at probability q,
    CONSISTENT if P(at least so many) ≤ α_confirm: the Clopper-Pearson bounds. The discrepancy is the distance
    within which a fraction q of the runs ends.

    Args:
        margin: Largest distance of a success, above 0.
        fraction: q, strictly between 0 and 1. It takes ``runs_needed(q, alpha_confirm)`` runs without a
            failure to confirm it, and ``runs_needed(1 - q, alpha_refute)`` without a success to refute it.
        tolerance_stationary: Largest relative gradient norm of a stationary run, above 0.
        distance: Function (parameters of one run, predicted) -> float, for distances modulo symmetries;
            by default |row - predicted| / |predicted| in the Euclidean norm.

    Raises:
        ValueError: naming the argument that is out of range; a predicted norm of zero without ``distance``.

    Example:
        >>> rule = Convergence(0.01, fraction=0.5, tolerance_stationary=1e-6)
        >>> ends = Runs(np.tile([1.0, 2.0], (20, 1)), np.zeros(20))
        >>> rule.judge(ends, [1.0, 2.0], alpha_refute=1e-5, alpha_confirm=1e-2).outcome.value
        'consistent'
        >>> rule.judge(ends, [1.1, 2.2], alpha_refute=1e-5, alpha_confirm=1e-2).outcome.value
        'refuted'
    """

    kind: ClassVar[str] = "convergence"

    margin: float
    _: KW_ONLY
    tolerance_stationary: float
    fraction: float = 0.9
    distance: Callable[[np.ndarray, np.ndarray], float] | None = None

    def __post_init__(self) -> None:
        checks.real("margin", self.margin, above=0.0)
        checks.real("tolerance_stationary", self.tolerance_stationary, above=0.0)
        probability("fraction", self.fraction)

    @staticmethod
    def runs_needed(fraction: float, alpha: float) -> int:
        """Return the number of runs that, all successful, show a success probability of ``fraction``.

        Example:
            >>> Convergence.runs_needed(0.9, 0.01), Convergence.runs_needed(0.5, 0.01)
            (44, 7)
        """
        return runs_without_failure(probability("fraction", fraction), probability("alpha", alpha))

    def require_power(self, runs: int, *, alpha_confirm: float) -> None:
        """Raise ValueError if so many runs could not give CONSISTENT even if all succeeded."""
        needed = self.runs_needed(self.fraction, alpha_confirm)
        if checks.integer("runs", runs, at_least=1) < needed:
            raise ValueError(
                f"underpowered by design: {runs} runs cannot show a success fraction of {self.fraction:.3g} "
                f"at level {alpha_confirm:.3g} even if all succeed; take {needed}"
            )

    def judge(self, measured: Runs, predicted: Any, *, alpha_refute: float, alpha_confirm: float) -> Verdict:
        """Return the verdict on the runs ``measured`` (parameters (R, ...)) against ``predicted`` (...)."""
        levels(alpha_refute, alpha_confirm)
        rows, target = runs("measured", measured).values, finite_numbers("predicted", predicted)
        if rows.shape[1:] != target.shape:
            raise ValueError(f"measured must hold parameters of shape {target.shape} per run, got {rows.shape[1:]}")
        distances = self._distances(rows, target)
        total = len(rows)
        ended = np.where(measured.residuals <= self.tolerance_stationary, distances, np.inf)
        successes = int((ended <= self.margin).sum())
        p_refute, p_confirm = (float(p) for p in success_p_values(successes, total, self.fraction))
        needed = self.runs_needed(self.fraction, alpha_confirm)
        low, high = success_bounds(successes, total, alpha_low=alpha_confirm, alpha_high=alpha_refute)
        reason = (
            f"{successes} of {total} runs end stationary within the margin {self.margin:.3g} "
            f"(median distance {np.median(distances):.3g}); success fraction in [{low:.3g}, {high:.3g}]"
        )
        if p_refute <= alpha_refute:
            outcome, reason = Outcome.REFUTED, f"{reason}, below {self.fraction:.3g} (p = {p_refute:.2g})"
        elif p_confirm <= alpha_confirm:
            outcome = Outcome.CONSISTENT
            reason = f"{reason}, at least {self.fraction:.3g} (p = {p_confirm:.2g})"
        else:
            outcome, reason = Outcome.INCONCLUSIVE, f"{reason} leaves {self.fraction:.3g} open"
            if total < needed:
                reason += f"; underpowered by design, {needed} runs without a failure would be needed"
        return Verdict(
            outcome=outcome,
            kind=self.kind,
            reason=reason,
            predicted=self.fraction,
            estimate=successes / total,
            interval=(low, high),
            discrepancy=np.sort(ended)[math.ceil(self.fraction * total) - 1],
            margin=self.margin,
            n=total,
            alpha_refute=alpha_refute,
            alpha_confirm=alpha_confirm,
            p_refute=p_refute,
            p_confirm=p_confirm,
        )

    def _distances(self, rows: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Return the distance of every run, infinite where a parameter or the distance is not finite."""
        finite = np.isfinite(rows.reshape(len(rows), -1)).all(axis=1)
        measure = self.distance or _relative_distance
        distances = np.array([measure(row, target) if good else np.inf for row, good in zip(rows, finite, strict=True)])
        if (distances < 0).any():
            raise ValueError(f"distance must be at least 0, got {distances.min():.6g}")
        return np.where(np.isfinite(distances), distances, np.inf)


@dataclass(frozen=True)
class Rate:
    """A quantity scales as a power of a size: decided by the three-zone t rule on the slope of its logarithm.

    The standard error comes from the scatter about the fitted line, so curvature widens it; with k values it
    has k - 2 degrees of freedom. Values that are not positive have no logarithm and leave it INCONCLUSIVE. At
    four sizes the t quantiles are enormous (224 at the level 1e-5, against 11 at eight): take more where the
    points do not lie on a line.

    Args:
        margin: Largest difference of the exponent that still counts as agreement, above 0.

    Raises:
        ValueError: naming the argument that is out of range; fewer than 4 different sizes.

    Example:
        >>> sizes = np.array([10, 20, 40, 80])
        >>> verdict = Rate(0.05).judge((sizes, 3.0 / sizes), -1.0, alpha_refute=1e-3, alpha_confirm=1e-2)
        >>> verdict.outcome.value, round(verdict.estimate, 6)
        ('consistent', -1.0)
    """

    kind: ClassVar[str] = "rate"

    margin: float

    def __post_init__(self) -> None:
        checks.real("margin", self.margin, above=0.0)

    def judge(
        self,
        measured: tuple[Any, Any],
        predicted: float,
        *,
        alpha_refute: float,
        alpha_confirm: float,
    ) -> Verdict:
        """Return the verdict on ``measured`` = (sizes (k,), values (k,)) against the slope ``predicted``."""
        levels(alpha_refute, alpha_confirm)
        if not isinstance(measured, tuple) or len(measured) != 2:
            raise ValueError(f"measured must be a pair (sizes, values), got {measured!r}")
        sizes, values = finite_numbers("sizes", measured[0]), numbers("values", measured[1])
        predicted = checks.real("predicted", predicted)
        if sizes.ndim != 1 or sizes.shape != values.shape:
            raise ValueError(
                f"sizes and values must be rows of one length, got shapes {sizes.shape} and {values.shape}"
            )
        if (sizes <= 0).any():
            raise ValueError(f"sizes must be greater than 0, got {sizes.min():.6g}")
        different = len(np.unique(sizes))
        if different < MINIMUM_SIZES:
            raise ValueError(f"sizes must hold at least {MINIMUM_SIZES} different ones, got {different}")
        logs = np.log(np.where(values > 0, values, np.nan))
        if not np.isfinite(logs).all():
            return not_finite(
                kind=self.kind,
                what="the logarithm of value",
                values=logs,
                predicted=predicted,
                alpha_refute=alpha_refute,
                alpha_confirm=alpha_confirm,
            )
        u = np.log(sizes) - np.log(sizes).mean()
        slope = float(u @ logs / (u @ u))
        residual = logs - logs.mean() - slope * u
        return _three_zone_verdict(
            kind=self.kind,
            unit="",
            what=f"the slope of the logarithm over {different} sizes",
            estimate=slope,
            se=math.sqrt(float(residual @ residual) / (sizes.size - 2) / float(u @ u)),
            df=sizes.size - 2,
            n=sizes.size,
            predicted=predicted,
            margin=self.margin,
            scale=1.0,
            alpha_refute=alpha_refute,
            alpha_confirm=alpha_confirm,
        )


def _relative_distance(row: np.ndarray, target: np.ndarray) -> float:
    """Return |row - target| / |target| in the Euclidean norm of all entries."""
    size = float(np.linalg.norm(target))
    if size == 0:
        raise ValueError("predicted must not be zero for a relative distance: give a distance function")
    return float(np.linalg.norm(row - target)) / size


def _three_zone_verdict(
    *,
    kind: str,
    what: str,
    unit: str,
    estimate: float,
    se: float,
    df: int,
    n: int,
    predicted: float,
    margin: float,
    scale: float,
    alpha_refute: float,
    alpha_confirm: float,
) -> Verdict:
    """Judge a normal estimate with standard error ``se``, both in the units of the quantity."""
    from scipy.special import stdtrit

    x, error = (estimate - predicted) / scale, se / scale
    p_refute, p_confirm = (float(p) for p in three_zone(x, error, df, margin))
    detectable = refutable_discrepancy(error, df, margin, alpha_refute)
    half = -float(stdtrit(df, alpha_confirm)) * se
    if p_refute <= alpha_refute:
        outcome, zone = Outcome.REFUTED, f"beyond the margin {margin:.3g} (p = {p_refute:.2g})"
    elif p_confirm <= alpha_confirm:
        outcome, zone = Outcome.CONSISTENT, f"within the margin {margin:.3g} (p = {p_confirm:.2g})"
    else:
        outcome = Outcome.INCONCLUSIVE
        zone = (
            f"neither surely within nor surely beyond the margin {margin:.3g} ({detectable:.3g} would be "
            "refuted with probability 0.9)"
        )
    reason = f"{what}, {estimate:.6g} ± {se:.2g}, differs from the predicted {predicted:.6g} by {x:.3g}{unit}: {zone}"
    return Verdict(
        outcome=outcome,
        kind=kind,
        reason=reason,
        predicted=predicted,
        estimate=estimate,
        interval=(estimate - half, estimate + half),
        discrepancy=x,
        margin=margin,
        n=n,
        alpha_refute=alpha_refute,
        alpha_confirm=alpha_confirm,
        p_refute=p_refute,
        p_confirm=p_confirm,
        detectable=detectable,
    )
