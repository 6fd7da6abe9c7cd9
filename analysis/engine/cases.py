"""How many cases and runs a budget pays for: shared by the families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from plumbline.analysis.engine.claim import Budget

Value = TypeVar("Value")


def by_budget(
    quick: Mapping[str, Any], standard: Mapping[str, Any] | None = None, paper: Mapping[str, Any] | None = None
) -> Callable[[Budget], Mapping[str, Any]]:
    """Cases that grow with the budget: each budget has those of the smaller ones too."""
    larger = {**quick, **(standard or {})}
    sizes = {Budget.QUICK: quick, Budget.STANDARD: larger, Budget.PAPER: {**larger, **(paper or {})}}
    return sizes.__getitem__


def runs(budget: Budget) -> int:
    """Random starts of a convergence claim: enough to confirm `fraction` at 1 % and to refute it at 1e-5."""
    return {Budget.QUICK: 14, Budget.STANDARD: 20, Budget.PAPER: 50}[budget]


def fraction(budget: Budget) -> float:
    """The share of starts that a convergence claim is about: 14, 20, 50 runs without failure confirm it."""
    return {Budget.QUICK: 0.7, Budget.STANDARD: 0.75, Budget.PAPER: 0.9}[budget]


def of_budget(budget: Budget, quick: Value, standard: Value, paper: Value) -> Value:
    """The value for a budget."""
    return {Budget.QUICK: quick, Budget.STANDARD: standard, Budget.PAPER: paper}[budget]
