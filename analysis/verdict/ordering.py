"""One of two measured quantities is the larger, pair by pair: the exact sign test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from plumbline.analysis.verdict.decision import runs_without_failure, success_bounds, success_p_values
from plumbline.analysis.verdict.outcome import Outcome, Verdict
from plumbline.analysis.verdict.samples import levels, numbers, probability
from plumbline.theory import checks

FIRST, SECOND = "first larger", "second larger"


@dataclass(frozen=True)
class Ordering:
    """In independent pairs (a, b), the one named is the larger with probability at least q: exact binomial.

    REFUTED if P(at most so many pairs in that order) ≤ α_refute at probability q, CONSISTENT if P(at least so many)
    ≤ α_confirm. Nothing is assumed of the laws of a and b: heavy tails, infinities and skewness do no harm. A tie
    and a pair with a NaN are in neither order. Were a and b exchangeable, either order would have probability 1/2 at
    most, and CONSISTENT would come out with the probability `false_alarm`; the reason names the p-value of that too.

    Args:
        fraction: q, above 1/2 and below 1. Both orders cannot hold at once; it takes ``pairs_needed`` pairs to
            confirm one and to refute the other.

    Raises:
        ValueError: on a fraction of at most 1/2 or at least 1.

    Example:
        >>> pairs = np.array([[2.0, 1.0]] * 14)
        >>> for order in (FIRST, SECOND):
        ...     print(Ordering(0.7).judge(pairs, order, alpha_refute=1e-5, alpha_confirm=1e-2).outcome)
        consistent
        refuted
    """

    kind: ClassVar[str] = "ordering"

    fraction: float = 0.7

    def __post_init__(self) -> None:
        probability("fraction", self.fraction)
        checks.real("fraction", self.fraction, above=0.5)

    def pairs_needed(self, *, alpha_refute: float, alpha_confirm: float) -> int:
        """Return the pairs without exception that confirm one order and refute the other.

        Example:
            >>> Ordering(0.7).pairs_needed(alpha_refute=1e-5, alpha_confirm=1e-2)
            13
        """
        levels(alpha_refute, alpha_confirm)
        return max(
            runs_without_failure(self.fraction, alpha_confirm), runs_without_failure(1 - self.fraction, alpha_refute)
        )

    def false_alarm(self, pairs: int, *, alpha_confirm: float) -> float:
        """Return the probability that so many exchangeable pairs without ties are called CONSISTENT.

        Example:
            >>> f"{Ordering(0.7).false_alarm(100, alpha_confirm=1e-2):.1e}"
            '1.4e-10'
        """
        pairs = checks.integer("pairs", pairs, at_least=1)
        counts = np.arange(pairs + 1)
        confirmed = success_p_values(counts, pairs, self.fraction)[1] <= alpha_confirm
        return float(success_p_values(int(counts[confirmed].min()), pairs, 0.5)[1]) if confirmed.any() else 0.0

    def judge(self, measured: Any, predicted: str, *, alpha_refute: float, alpha_confirm: float) -> Verdict:
        """Return the verdict on the pairs ``measured`` (n, 2) against ``"first larger"`` or ``"second larger"``."""
        levels(alpha_refute, alpha_confirm)
        pairs = numbers("measured", measured)
        checks.one_of("predicted", predicted, (FIRST, SECOND))
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise ValueError(f"measured must hold pairs, shape (n, 2), got shape {pairs.shape}")
        a, b = pairs.T if predicted == FIRST else pairs.T[::-1]
        total, ordered = len(pairs), int((a > b).sum())
        p_refute, p_confirm = (float(p) for p in success_p_values(ordered, total, self.fraction))
        no_order = float(success_p_values(ordered, total, 0.5)[1])
        low, high = success_bounds(ordered, total, alpha_low=alpha_confirm, alpha_high=alpha_refute)
        reason = (
            f"{predicted} in {ordered} of {total} pairs, a fraction in [{low:.3g}, {high:.3g}] (p = {no_order:.2g} "
            f"without any order)"
        )
        if p_refute <= alpha_refute:
            outcome, reason = Outcome.REFUTED, f"{reason}: below {self.fraction:.3g} (p = {p_refute:.2g})"
        elif p_confirm <= alpha_confirm:
            outcome, reason = Outcome.CONSISTENT, f"{reason}: at least {self.fraction:.3g} (p = {p_confirm:.2g})"
        else:
            outcome, reason = Outcome.INCONCLUSIVE, f"{reason}: leaves {self.fraction:.3g} open"
            needed = runs_without_failure(self.fraction, alpha_confirm)
            if total < needed:
                reason += f"; underpowered by design, {needed} pairs without exception would be needed"
        return Verdict(
            outcome=outcome,
            kind=self.kind,
            reason=reason,
            predicted=self.fraction,
            estimate=ordered / total,
            interval=(low, high),
            n=total,
            alpha_refute=alpha_refute,
            alpha_confirm=alpha_confirm,
            p_refute=p_refute,
            p_confirm=p_confirm,
        )
