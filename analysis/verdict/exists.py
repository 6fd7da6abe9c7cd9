"""Existence is decided by a witness: one is enough, and failing to find one refutes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from plumbline.analysis.verdict.outcome import Outcome, Verdict
from plumbline.analysis.verdict.samples import levels
from plumbline.theory import checks


@dataclass(frozen=True)
class AtMost:
    """The opposite statement: there is nothing above `value`. One witness above it refutes."""

    value: float

    def __post_init__(self) -> None:
        checks.real("value", self.value)


@dataclass(frozen=True)
class BoundExists:
    """There is something that reaches a value: an explicit construction, or a find that is checked again.

    CONSISTENT by one witness, otherwise INCONCLUSIVE. Held against the opposite, `AtMost`, one witness above the value
    makes it REFUTED.

    Example:
        >>> rule = BoundExists()
        >>> rule.judge([0.2, 0.7], 0.5, alpha_refute=1e-3, alpha_confirm=1e-2).outcome.value
        'consistent'
        >>> rule.judge([0.2, 0.7], AtMost(0.5), alpha_refute=1e-3, alpha_confirm=1e-2).outcome.value
        'refuted'
    """

    kind: ClassVar[str] = "bound exists"

    def judge(self, measured: Any, predicted: Any, *, alpha_refute: float, alpha_confirm: float) -> Verdict:
        """Return the verdict on the values of the witnesses, (n,), n ≥ 0, against a value or an `AtMost`."""
        levels(alpha_refute, alpha_confirm)
        values = np.asarray(measured, dtype=np.float64).reshape(-1)
        finite = values[np.isfinite(values)]
        opposite = isinstance(predicted, AtMost)
        target = checks.real("predicted", predicted.value if opposite else predicted)
        best = int(np.argmax(np.where(np.isfinite(values), values, -np.inf))) if len(finite) else None
        if best is None:
            outcome, reason = Outcome.INCONCLUSIVE, "no witness was found, which refutes nothing"
        elif opposite:
            found = values[best] > target
            outcome = Outcome.REFUTED if found else Outcome.INCONCLUSIVE
            reason = f"witness {best} has {values[best]:.6g}, {'above' if found else 'not above'} {target:.6g}"
        else:
            found = values[best] >= target
            outcome = Outcome.CONSISTENT if found else Outcome.INCONCLUSIVE
            verb = "reaches" if found else "does not reach"
            reason = f"witness {best} of {len(values)} {verb} {target:.6g} with {values[best]:.6g}"
        return Verdict(
            outcome=outcome,
            kind=self.kind,
            reason=reason,
            predicted=target,
            estimate=None if best is None else float(values[best]),
            n=len(values),
            alpha_refute=alpha_refute,
            alpha_confirm=alpha_confirm,
            witness=best,
        )
