"""What the rules accept as measured: arrays of numbers and the ends of trainings, checked, not yet judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from plumbline.analysis.verdict.outcome import Outcome, Verdict
from plumbline.theory import checks


@dataclass(frozen=True, eq=False)
class Runs:
    """The ends of R trainings: exact losses (R,) or parameters (R, ...), and how stationary each end is.

    Args:
        values: Losses or parameters with a leading run axis; NaN or infinity marks a failed run.
        residuals: Relative gradient norms (R,), at least 0; NaN counts as not stationary.

    Raises:
        ValueError: naming the argument that has the wrong shape or sign.

    Example:
        >>> len(Runs([0.25, 0.26, 0.25], [1e-9, 1e-8, 1e-9]))
        3
    """

    values: np.ndarray
    residuals: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", numbers("values", self.values))
        object.__setattr__(self, "residuals", numbers("residuals", self.residuals))
        if self.values.ndim < 1 or self.residuals.shape != self.values.shape[:1]:
            raise ValueError(
                f"residuals must have one entry per run, got shape {self.residuals.shape} "
                f"for values of shape {self.values.shape}"
            )
        if (self.residuals < 0).any():
            raise ValueError(f"residuals must be at least 0, got {np.nanmin(self.residuals)}")

    def __len__(self) -> int:
        return len(self.residuals)


def runs(name: str, value: Any) -> Runs:
    """Return ``value`` if it is a `Runs`, or raise ValueError."""
    if not isinstance(value, Runs):
        raise ValueError(f"{name} must be a Runs(values, residuals), got {value!r}")
    return value


def numbers(name: str, value: Any) -> np.ndarray:
    """Return ``value`` as a float64 array of at least one entry; entries need not be finite."""
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "iufO":
            raise TypeError
        result = given.astype(np.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be an array of real numbers, got {value!r}") from None
    if result.size == 0:
        raise ValueError(f"{name} must hold at least one number, got shape {result.shape}")
    return result


def finite_numbers(name: str, value: Any) -> np.ndarray:
    """Return ``value`` as a finite float64 array of any shape with at least one entry."""
    result = numbers(name, value)
    return checks.array(name, result, result.shape)


def levels(alpha_refute: float, alpha_confirm: float) -> None:
    """Raise ValueError unless both levels are above 0 and at most 1/2, so that no two outcomes meet."""
    checks.real("alpha_refute", alpha_refute, above=0.0, at_most=0.5)
    checks.real("alpha_confirm", alpha_confirm, above=0.0, at_most=0.5)


def probability(name: str, value: Any) -> float:
    """Return ``value`` if it lies strictly between 0 and 1, or raise ValueError."""
    number = checks.real(name, value, above=0.0)
    if number >= 1:
        raise ValueError(f"{name} must be less than 1, got {number}")
    return number


def own_scale(value: Any) -> Any:
    """Return a claim's own scale as a number or nested list of numbers above 0; None stays None."""
    if value is None:
        return None
    result = finite_numbers("scale", value)
    if (result <= 0).any():
        raise ValueError(f"scale must be greater than 0, got {result.min():.6g}")
    return result.tolist()


def scale_of(given: Any, default: Any, fallback: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return the scale of every point: ``given``, else ``default``, ``fallback`` where that is 0, else 1."""
    if given is None:
        given = np.where(np.asarray(default) > 0, default, fallback)
        given = np.where(given > 0, given, 1.0)
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise ValueError(
            f"scale must be one number or one per point, shape {shape}, got shape {np.shape(given)}"
        ) from None


def not_finite(
    *,
    kind: str,
    what: str,
    values: np.ndarray,
    predicted: float | None,
    alpha_refute: float,
    alpha_confirm: float,
) -> Verdict:
    """Return INCONCLUSIVE for a row of measured values of which some are not finite; name the first."""
    bad = np.flatnonzero(~np.isfinite(values))
    first = f"{what} {bad[0]}, is {values[bad[0]]}"
    return Verdict(
        outcome=Outcome.INCONCLUSIVE,
        kind=kind,
        reason=f"{bad.size} of {values.size} measured values are not finite; the first, {first}",
        predicted=predicted,
        n=values.size,
        alpha_refute=alpha_refute,
        alpha_confirm=alpha_confirm,
        witness=int(bad[0]),
    )
