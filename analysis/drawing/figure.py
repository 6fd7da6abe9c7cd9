"""A figure: a plan that returns its numbers, and the claims whose verdicts stand under its title."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from plumbline.analysis.budget import Budget
from plumbline.analysis.claims.claim import Claim
from plumbline.analysis.drawing.data import FigureData

Labels = str | tuple[str, ...] | None
Drawn = Labels | Callable[[Budget], Labels]
"""The case of a claim that a figure draws: its label, several, or none; or what depends on the budget."""


@dataclass(frozen=True, eq=False)
class Figure:
    """A figure of a family; see `Family.figure`."""

    name: str
    family: str
    caption: str
    published: str
    claims: Mapping[Claim, Drawn]
    plan: Callable[[Budget, int], Generator[Any, Any, FigureData]] = field(repr=False)

    def drawn_cases(self, budget: Budget) -> Iterator[tuple[Claim, str]]:
        """The cases whose verdicts stand under the title: of each claim those drawn, where the budget has them."""
        for claim, drawn in self.claims.items():
            labels = drawn(budget) if callable(drawn) else drawn
            for label in (labels,) if isinstance(labels, str) else labels or ():
                if not any(label in claim.cases(one) for one in Budget):
                    raise ValueError(f"figure {self.name} must draw a case of the claim {claim.name}, got {label!r}")
                if label in claim.cases(budget):
                    yield claim, label
