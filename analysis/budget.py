"""How much is trained and drawn: the three budgets, and what each pays for."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")


class Budget(enum.StrEnum):
    """How much is trained and drawn: seconds, minutes, or the papers' own sizes."""

    QUICK = "quick"
    STANDARD = "standard"
    PAPER = "paper"


def of_budget(budget: Budget, quick: Value, standard: Value, paper: Value) -> Value:
    """The value for a budget."""
    return {Budget.QUICK: quick, Budget.STANDARD: standard, Budget.PAPER: paper}[budget]


def by_budget(
    quick: Mapping[str, Any], standard: Mapping[str, Any] | None = None, paper: Mapping[str, Any] | None = None
) -> Callable[[Budget], Mapping[str, Any]]:
    """Cases that grow with the budget: each budget has those of the smaller ones too."""
    larger = {**quick, **(standard or {})}
    everything = {**larger, **(paper or {})}
    return lambda budget: of_budget(budget, quick, larger, everything)


def runs(budget: Budget) -> int:
    """Random starts of a convergence claim: enough to confirm `fraction` at 1 % and, if all fail, to refute it."""
    return of_budget(budget, 14, 20, 50)


def fraction(budget: Budget) -> float:
    """The share of starts that a convergence claim is about: 14, 20, 50 runs without failure confirm it."""
    return of_budget(budget, 0.7, 0.75, 0.9)
