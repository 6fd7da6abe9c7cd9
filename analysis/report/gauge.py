"""Where a claim and its rivals stand: discrepancies in units of their margins, on one logarithmic line."""

from __future__ import annotations

import math
from dataclasses import dataclass

from plumbline.analysis.claims.check import ClaimResult
from plumbline.analysis.verdict import Outcome, Verdict

DECADES = 3
"""On either side of the margin; what lies farther out stands at the end."""
EDGE = 2.0


@dataclass(frozen=True)
class Mark:
    """A verdict on the line: at which per cent of its length, the margin at 50."""

    place: float
    rival: bool
    refuted: bool
    label: str


def gauge(result: ClaimResult) -> list[Mark]:
    """Return a mark for every case of a claim and every rival in it; none where the verdict has no discrepancy."""
    marks = []
    for case in result.cases:
        held = [("", case.verdict), *case.rivals.items()]
        for name, verdict in held:
            ratio = excess(verdict)
            if ratio is not None:
                label = f"{name or result.claim.name} [{case.label}]: {ratio:.2g} of the margin, {verdict.outcome}"
                marks.append(Mark(_place(ratio), bool(name), verdict.outcome is Outcome.REFUTED, label))
    return marks


def excess(verdict: Verdict) -> float | None:
    """Discrepancy over margin; 0 on the right side of a bound, None where there is no discrepancy or no margin."""
    if verdict.discrepancy is None or not verdict.margin:
        return None
    size = max(verdict.discrepancy, 0.0) if verdict.kind == "bound for all" else abs(verdict.discrepancy)
    return size / verdict.margin


def least_refuted(result: ClaimResult, rival: str) -> Verdict | None:
    """The verdict on a rival in the case that comes nearest to letting it pass; None if no case judged it."""

    def strength(verdict: Verdict) -> tuple[bool, float]:
        ratio = excess(verdict)
        return verdict.outcome is Outcome.REFUTED, math.inf if ratio is None else ratio

    return min((case.rivals[rival] for case in result.cases if rival in case.rivals), key=strength, default=None)


def _place(ratio: float) -> float:
    decades = min(max(math.log10(ratio), -DECADES), DECADES) if ratio > 0 else -DECADES
    return round(50 + (50 - EDGE) * decades / DECADES, 2)
