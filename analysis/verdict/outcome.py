"""What a verdict is, and how the verdicts of several cases make one."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol


class Outcome(enum.StrEnum):
    """What a verdict says; INCONCLUSIVE is never a pass."""

    CONSISTENT = "consistent"
    REFUTED = "refuted"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """An outcome with the numbers it rests on; each is a finite number or ``None``, fit for strict JSON.

    Attributes:
        outcome: CONSISTENT, REFUTED, INCONCLUSIVE or NOT_APPLICABLE.
        kind: Kind of the statement, the ``kind`` of its rule.
        reason: One sentence that names the deciding numbers.
        predicted, estimate, interval: In the units of the quantity; for an identity or a bound at its worst
            point, for a convergence the success fraction. The interval is at α_confirm on each side (the
            upper end of a success fraction at α_refute); ``None`` where the rule is deterministic.
        discrepancy, margin: In the scale of the rule; a discrepancy is ``None`` where it is not a number.
        n: Sample size: points, batches, runs, tries or sizes.
        alpha_refute, alpha_confirm: The levels that were promised.
        p_refute, p_confirm: The p-values held against them; ``None`` where the rule is deterministic.
        detectable: Discrepancy refuted with probability 0.9 (for a bound: the violation rate that n tries
            would have shown with probability 1 - α_confirm).
        witness: Index of the point, try or run that decides.
    """

    outcome: Outcome
    kind: str
    reason: str
    alpha_refute: float
    alpha_confirm: float
    n: int = 0
    predicted: float | None = None
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    discrepancy: float | None = None
    margin: float | None = None
    p_refute: float | None = None
    p_confirm: float | None = None
    detectable: float | None = None
    witness: int | None = None

    def __post_init__(self) -> None:
        for name in ("predicted", "estimate", "discrepancy", "margin", "p_refute", "p_confirm", "detectable"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, float(value) if math.isfinite(value) else None)
        if self.interval is not None and not all(map(math.isfinite, self.interval)):
            object.__setattr__(self, "interval", None)

    @property
    def passed(self) -> bool:
        """Whether the outcome is CONSISTENT."""
        return self.outcome is Outcome.CONSISTENT


class Rule(Protocol):
    """What the rules share."""

    kind: ClassVar[str]

    def judge(self, measured: Any, predicted: Any, *, alpha_refute: float, alpha_confirm: float) -> Verdict: ...


def not_applicable(condition: str) -> Verdict:
    """Return the verdict on a case outside the statement: ``condition`` says which condition fails.

    Example:
        >>> not_applicable("softmax attention is not linear in the scores").outcome.value
        'not applicable'
    """
    return Verdict(
        outcome=Outcome.NOT_APPLICABLE,
        kind="condition",
        reason=condition,
        alpha_refute=0.0,
        alpha_confirm=0.0,
    )


def worst_case(verdicts: Iterable[Verdict]) -> int:
    """Return the index of the verdict that decides for all: gravest outcome, then largest discrepancy.

    Outcomes rank REFUTED, INCONCLUSIVE, CONSISTENT, NOT APPLICABLE; discrepancies compare in units of their
    margins, and a missing one counts as the largest.
    """
    cases = list(verdicts)
    if not cases:
        raise ValueError("verdicts must hold at least one verdict, got none")
    ranks = [Outcome.NOT_APPLICABLE, Outcome.CONSISTENT, Outcome.INCONCLUSIVE, Outcome.REFUTED]

    def gravity(verdict: Verdict) -> tuple[int, float]:
        if verdict.discrepancy is None:
            return ranks.index(verdict.outcome), math.inf
        return ranks.index(verdict.outcome), abs(verdict.discrepancy) / (verdict.margin or 1.0)

    return max(range(len(cases)), key=lambda index: gravity(cases[index]))


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return one verdict for several cases of a claim: that of the worst, its reason saying how many cases.

    Any REFUTED refutes; otherwise any INCONCLUSIVE leaves it open; NOT APPLICABLE only where no case applies.
    The numbers, the levels among them, are those of the worst case. The whole is falsely refuted at most at the
    sum of the rates of its cases.

    Example:
        >>> combine([not_applicable("one layer only"), not_applicable("no label noise")]).reason
        '2 of 2 cases not applicable; the worst, case 1: one layer only'
    """
    cases = list(verdicts)
    index = worst_case(cases)
    worst = cases[index]
    if len(cases) == 1:
        return worst
    count = sum(case.outcome is worst.outcome for case in cases)
    idle = sum(case.outcome is Outcome.NOT_APPLICABLE for case in cases)
    note = f" ({idle} not applicable)" if 0 < idle < len(cases) else ""
    head = f"{count} of {len(cases)} cases {worst.outcome}{note}; the worst, case {index + 1}"
    return replace(worst, reason=f"{head}: {worst.reason}")
