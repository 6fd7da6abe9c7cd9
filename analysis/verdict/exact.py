"""Rules decided by exact numbers: identities, global minima, bounds for all. One counterexample refutes."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from plumbline.analysis.verdict.outcome import Outcome, Verdict
from plumbline.analysis.verdict.samples import (
    Runs,
    finite_numbers,
    levels,
    not_finite,
    numbers,
    own_scale,
    runs,
    scale_of,
)
from plumbline.theory import checks


@dataclass(frozen=True)
class Identity:
    """Two expressions are equal everywhere: decided by the worst point, and one counterexample refutes.

    The error is max |measured - predicted| / scale. A measured value that is not finite is a counterexample.

    Args:
        tolerance: Largest error taken for rounding, above 0: c · eps · condition number, as the claim states.
        exact: Compare with == instead (integers, fractions, symbolic rationals); excludes a tolerance.
        scale: Positive number, or one per point; by default the largest |predicted|. Where everything
            predicted is zero, give a scale: without it any difference refutes.

    Raises:
        ValueError: naming the argument that is out of range, or the two shapes that differ.

    Example:
        >>> Identity(1e-12).judge([1.0, 2.2], [1.0, 2.0], alpha_refute=1e-3, alpha_confirm=1e-2).reason
        'worst of 2 points at index (1,): got 2.2, want 2; error 0.1 of the scale exceeds the tolerance 1e-12'
    """

    kind: ClassVar[str] = "identity"

    tolerance: float | None = None
    _: KW_ONLY
    exact: bool = False
    scale: Any = None

    def __post_init__(self) -> None:
        if self.exact:
            if self.tolerance is not None or self.scale is not None:
                raise ValueError(
                    f"tolerance and scale must be left out of an exact identity, got {self.tolerance!r} "
                    f"and {self.scale!r}"
                )
        elif self.tolerance is None:
            raise ValueError("tolerance must be given unless exact=True, got None")
        else:
            checks.real("tolerance", self.tolerance, above=0.0)
        object.__setattr__(self, "scale", own_scale(self.scale))

    def judge(self, measured: Any, predicted: Any, *, alpha_refute: float, alpha_confirm: float) -> Verdict:
        """Return the verdict on ``measured`` = ``predicted``, two arrays of one shape."""
        levels(alpha_refute, alpha_confirm)
        if self.exact:
            got, want = np.array(measured, dtype=object), np.array(predicted, dtype=object)
        else:
            got, want = numbers("measured", measured), finite_numbers("predicted", predicted)
        if got.shape != want.shape or got.size == 0:
            raise ValueError(f"measured must have the shape of predicted, not empty, got {got.shape} and {want.shape}")
        error = self._error(got, want)
        worst = int(error.argmax())
        limit = 0.0 if self.tolerance is None else self.tolerance
        holds = bool(error.flat[worst] <= limit)
        place = f" at index {tuple(int(i) for i in np.unravel_index(worst, got.shape))}" if got.ndim else ""
        pair = f"got {_text(got.flat[worst])}, want {_text(want.flat[worst])}"
        if not self.exact:
            reason = (
                f"worst of {got.size} points{place}: {pair}; error {error.flat[worst]:.3g} of the scale "
                f"{'is within' if holds else 'exceeds'} the tolerance {limit:.3g}"
            )
        elif holds:
            reason = f"equal exactly at all {got.size} points"
        else:
            reason = f"{int(np.count_nonzero(error))} of {got.size} points differ, the first{place}: {pair}"
        return Verdict(
            outcome=Outcome.CONSISTENT if holds else Outcome.REFUTED,
            kind=self.kind,
            reason=reason,
            predicted=_float(want.flat[worst]),
            estimate=_float(got.flat[worst]),
            discrepancy=error.flat[worst],
            margin=limit,
            n=got.size,
            alpha_refute=alpha_refute,
            alpha_confirm=alpha_confirm,
            witness=worst,
        )

    def _error(self, got: np.ndarray, want: np.ndarray) -> np.ndarray:
        """Return the error of every point; infinite where exact values differ or a number is not finite."""
        if self.exact:
            return np.where(np.asarray(got == want, dtype=bool), 0.0, np.inf)
        finite = np.isfinite(got)
        largest = np.abs(got[finite]).max(initial=0.0)
        scale = scale_of(self.scale, np.abs(want).max(), largest, want.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            return np.where(finite, np.abs(got - want) / scale, np.inf)


@dataclass(frozen=True)
class GlobalMinimum:
    r"""No parameter has a loss below L*, and L* is reached: decided by exact losses of trained runs.

    .. math:: x = (\min_i L_i - L^*) / (L_0 - L^*)

    REFUTED by one run whose exact loss lies below L* by more than the numerical error. CONSISTENT when a run
    ends within the margin and is stationary. Otherwise INCONCLUSIVE, because a training that stops higher
    refutes no minimum.

    That alone would also protect a rival that predicts a minimum *below* the true one. So a claim may add to
    its statement that training attains the minimum: ``attained`` = q says that a run which ends stationary
    ends at L* with probability at least q. Then, if no run at all ends within the margin, n stationary runs
    refute at the level (1-q)^n. One run that gets there settles the matter for good.

    Args:
        margin: Largest x that still counts as reaching, above 0.
        trivial: L₀ above 0, the loss of the trivial predictor.
        numerical_error: Rounding of an exact loss in units of L₀, at least 0.
        tolerance_stationary: Largest relative gradient norm of a stationary run, above 0; small enough that
            what such a run may still gain is well below the margin.
        attained: q in (0, 1], or ``None`` where nothing is said about training; 1 says that every stationary
            point is a global minimum.

    Raises:
        ValueError: naming the argument that is out of range.

    Example:
        >>> rule = GlobalMinimum(
        ...     1e-3, trivial=1.0, numerical_error=1e-12, tolerance_stationary=1e-6, attained=0.9
        ... )
        >>> ends = Runs(np.full(8, 0.25), np.full(8, 1e-9))
        >>> for minimum in (0.25, 0.275, 0.225):
        ...     print(rule.judge(ends, minimum, alpha_refute=1e-5, alpha_confirm=1e-2).outcome)
        consistent
        refuted
        refuted
    """

    kind: ClassVar[str] = "global minimum"

    margin: float
    _: KW_ONLY
    trivial: float
    numerical_error: float
    tolerance_stationary: float
    attained: float | None = None

    def __post_init__(self) -> None:
        checks.real("margin", self.margin, above=0.0)
        checks.real("trivial", self.trivial, above=0.0)
        checks.real("numerical_error", self.numerical_error, at_least=0.0)
        checks.real("tolerance_stationary", self.tolerance_stationary, above=0.0)
        if self.attained is not None:
            checks.real("attained", self.attained, above=0.0, at_most=1.0)

    def judge(self, measured: Runs, predicted: float, *, alpha_refute: float, alpha_confirm: float) -> Verdict:
        """Return the verdict on the runs ``measured``, losses (R,), against the minimum ``predicted``."""
        levels(alpha_refute, alpha_confirm)
        losses = runs("measured", measured).values
        if losses.ndim != 1:
            raise ValueError(f"measured must hold one loss per run, got values of shape {losses.shape}")
        predicted = checks.real("predicted", predicted)
        # A rival may put its minimum at or above the trivial loss; that loss is then the only scale left.
        scale = self.trivial - predicted if self.trivial > predicted else self.trivial
        finite = np.isfinite(losses)
        best = int(np.where(finite, losses, np.inf).argmin())
        lowest, failed = float(losses[best]), len(losses) - int(finite.sum())
        near = finite & (losses - predicted <= self.margin * scale)
        stationary = finite & (measured.residuals <= self.tolerance_stationary)
        settled, reached = int(stationary.sum()), int((near & stationary).sum())
        count = f"{len(losses)} runs" + (f" ({failed} without a finite loss)" if failed else "")
        outcome, p_refute = Outcome.INCONCLUSIVE, None
        if not finite.any():
            reason = f"none of {len(losses)} runs ended with a finite loss"
        elif lowest < predicted - self.numerical_error * self.trivial:
            outcome = Outcome.REFUTED
            reason = (
                f"run {best} of {count} has the exact loss {lowest:.10g}, below the predicted minimum "
                f"{predicted:.10g} by {predicted - lowest:.3g}"
            )
        elif reached:
            outcome = Outcome.CONSISTENT
            reason = (
                f"{reached} of {count} end stationary within the margin {self.margin:.3g} of the predicted "
                f"minimum {predicted:.6g} and none below it; the lowest loss is {lowest:.6g}"
            )
        else:
            reason = (
                f"the lowest loss of {count}, {lowest:.6g}, is {(lowest - predicted) / scale:.3g} of the "
                f"scale from the predicted {predicted:.6g} (margin {self.margin:.3g}; {settled} stationary)"
            )
            if self.attained is None or near.any():
                reason += "; training that ends elsewhere refutes no minimum"
            else:
                p_refute = (1.0 - self.attained) ** settled
                outcome = Outcome.REFUTED if p_refute <= alpha_refute else Outcome.INCONCLUSIVE
                reason += (
                    f"; {'not attained' if p_refute <= alpha_refute else 'too few to say not attained'}: "
                    f"p = {p_refute:.2g} if stationary runs attain it with probability {self.attained:.3g}"
                )
        return Verdict(
            outcome=outcome,
            kind=self.kind,
            reason=reason,
            predicted=predicted,
            estimate=lowest,
            discrepancy=(lowest - predicted) / scale,
            margin=self.margin,
            n=len(losses),
            alpha_refute=alpha_refute,
            alpha_confirm=alpha_confirm,
            p_refute=p_refute,
            witness=best if finite.any() else None,
        )


@dataclass(frozen=True)
class BoundForAll:
    """A bound holds for all inputs or all parameters: one certified violation refutes, no sample proves.

    Args:
        side: ``"lower"`` (measured ≥ bound) or ``"upper"`` (measured ≤ bound).
        numerical_error: Excess over the bound, in units of the scale, that is rounding; at least 0.
        scale: Positive number, or one per try; by default |bound| of each try. Where a bound is zero, give a
            scale: without it any excess there is a violation.

    Raises:
        ValueError: naming the argument that is out of range, or the two shapes that differ.

    Example:
        >>> rule = BoundForAll("lower", numerical_error=1e-12)
        >>> rule.judge([0.3, 0.21, 0.4], 0.2, alpha_refute=1e-3, alpha_confirm=1e-2).reason
        'not violated in 3 tries (nearest, try 1: 0.21 against 0.2); violation rate < 0.785 at level 0.01'
    """

    kind: ClassVar[str] = "bound for all"

    side: Literal["lower", "upper"]
    _: KW_ONLY
    numerical_error: float
    scale: Any = None

    def __post_init__(self) -> None:
        checks.one_of("side", self.side, ("lower", "upper"))
        checks.real("numerical_error", self.numerical_error, at_least=0.0)
        object.__setattr__(self, "scale", own_scale(self.scale))

    def judge(self, measured: Any, predicted: Any, *, alpha_refute: float, alpha_confirm: float) -> Verdict:
        """Return the verdict on the tries ``measured`` (n,) against ``predicted``, one bound or (n,)."""
        levels(alpha_refute, alpha_confirm)
        values, bound = numbers("measured", measured), finite_numbers("predicted", predicted)
        if values.ndim != 1 or bound.shape not in ((), values.shape):
            raise ValueError(
                f"measured must be one row of tries and predicted a number or one per try, got shapes "
                f"{values.shape} and {bound.shape}"
            )
        bound = np.broadcast_to(bound, values.shape)
        finite = np.isfinite(values)
        scale = scale_of(self.scale, np.abs(bound), np.abs(np.where(finite, values, 1.0)), values.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            excess = (bound - values if self.side == "lower" else values - bound) / scale
        excess = np.where(finite, excess, -np.inf)
        worst = int(excess.argmax())
        violations = int((excess > self.numerical_error).sum())
        # Clopper-Pearson upper bound after no violation in n tries.
        rate = 1.0 - alpha_confirm ** (1.0 / values.size)
        pair = f"try {worst}: {values[worst]:.10g} against {bound[worst]:.10g}"
        if violations:
            reason = (
                f"violated in {violations} of {values.size} tries (worst, {pair}), beyond the bound by "
                f"{excess[worst]:.3g} of the scale (numerical error {self.numerical_error:.3g})"
            )
        elif finite.all():
            reason = (
                f"not violated in {values.size} tries (nearest, {pair}); violation rate < {rate:.3g} "
                f"at level {alpha_confirm:.3g}"
            )
        else:
            return not_finite(
                kind=self.kind,
                what="try",
                values=values,
                predicted=None,
                alpha_refute=alpha_refute,
                alpha_confirm=alpha_confirm,
            )
        return Verdict(
            outcome=Outcome.REFUTED if violations else Outcome.CONSISTENT,
            kind=self.kind,
            reason=reason,
            predicted=float(bound[worst]),
            estimate=float(values[worst]),
            discrepancy=excess[worst],
            margin=self.numerical_error,
            n=values.size,
            alpha_refute=alpha_refute,
            alpha_confirm=alpha_confirm,
            detectable=None if violations else rate,
            witness=worst,
        )


def _float(value: Any) -> float | None:
    """Return a number as a float, or None for an exact value that no float holds."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    """Return a float with enough digits to see a difference, and exact values as they are."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)
