"""Claims: one theorem, bound or published observation each, as a function that returns evidence."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from plumbline.analysis.engine.verdict import Rule


class Budget(enum.StrEnum):
    """How much is trained and drawn: seconds, minutes, or the papers' own sizes."""

    QUICK = "quick"
    STANDARD = "standard"
    PAPER = "paper"


STATUSES = ("as published", "corrected", "derived here")
KINDS = (
    "identity",
    "expectation",
    "global minimum",
    "bound for all",
    "bound exists",
    "convergence",
    "rate",
    "ordering",
)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a claim hands to the verdict.

    Attributes:
        rule: Statistic, margin and scale, fixed before looking.
        measured: What was measured, in the form the rule takes.
        predicted: What the theorem says.
        rivals: What each wrong twin says instead; every one must come out REFUTED.
        rivals_measured: For claims that measure *at* the predicted point (a gradient there, say): the same
            measurement at the rival's point. Left out, the rival is held against `measured`.
        note: Numbers worth printing beside the verdict.
    """

    rule: Rule
    measured: Any
    predicted: Any
    rivals: Mapping[str, Any]
    rivals_measured: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


Plan = Generator[Any, Any, Evidence]
PlanFunction = Callable[[Any, Budget, int], Plan]


@dataclass(frozen=True, eq=False)
class Claim:
    """A registered claim; see `claim`."""

    name: str
    family: str
    statement: str
    source: str
    kind: str
    status: str
    rivals: Mapping[str, str]
    cases: Callable[[Budget], Mapping[str, Any]]
    plan: PlanFunction
    conditions: Mapping[str, Callable[[Any], bool]]
    published: str
    module: str
    """Of the function."""

    def failing_condition(self, case: Any) -> str | None:
        """The first condition that does not hold for the case, in words; None if all hold."""
        return next((sentence for sentence, holds in self.conditions.items() if not holds(case)), None)


_REGISTRY: dict[str, Claim] = {}


def claim(
    *,
    family: str,
    statement: str,
    source: str,
    kind: str,
    status: str,
    rivals: Mapping[str, str],
    cases: Callable[[Budget], Mapping[str, Any]],
    conditions: Mapping[str, Callable[[Any], bool]] | None = None,
    published: str = "",
    name: str | None = None,
) -> Callable[[Callable[..., Any]], Claim]:
    """Register the decorated function as a claim.

    The function takes (case, budget, seed) and returns `Evidence`. Where it needs trained models it yields jobs
    (one, a list, or a dict) and receives their results: it reads like the theorem, and the engine decides where
    the jobs run, shares them between claims, and keeps them.

    Args:
        family: ``"regression"``, …
        statement: The theorem in one sentence.
        source: Paper, arXiv number, theorem; or "derived here".
        kind: One of `KINDS`; it decides the statistic.
        status: One of `STATUSES`.
        rivals: Name and description of each wrong twin; at least one, unless every case fails a condition.
        cases: From budget to the cases by label.
        conditions: Sentences with predicates on the case; where one fails the verdict is NOT APPLICABLE.
        published: What was published instead, for claims with the status "corrected" and only these.
        name: Name at the command line; by default the function's, with dashes.

    Raises:
        ValueError: on an unknown kind or status, no rival, a correction that does not say of what, or a name that is
            taken.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {status!r}")
    if (status == "corrected") != bool(published):
        raise ValueError(
            f"published must say what was corrected, and be left out otherwise, got {published!r} for {status!r}"
        )
    if not rivals:
        raise ValueError("rivals must hold at least one wrong twin, got none")

    def register(function: Callable[..., Any]) -> Claim:
        own_name = name or function.__name__.replace("_", "-")
        if own_name in _REGISTRY:
            raise ValueError(f"name must be new, got {own_name!r}, which is registered already")
        result = Claim(
            own_name,
            family,
            statement,
            source,
            kind,
            status,
            rivals,
            cases,
            _as_plan(function),
            conditions or {},
            published,
            function.__module__,
        )
        _REGISTRY[own_name] = result
        return result

    return register


def _as_plan(function: Callable[..., Any]) -> PlanFunction:
    """A claim that needs no jobs may be an ordinary function."""
    if inspect.isgeneratorfunction(function):
        return function

    def plan(case: Any, budget: Budget, seed: int) -> Plan:
        return function(case, budget, seed)
        yield  # makes this a generator

    return plan


def registry() -> dict[str, Claim]:
    """All claims by name, in the order of their registration."""
    return dict(_REGISTRY)


def select(names: list[str], family: str | None = None) -> list[Claim]:
    """Return the named claims (all if none is named), of one family if given.

    Raises:
        ValueError: on a name or family that is not there, with the nearest matches.
    """
    for name in names:
        if name not in _REGISTRY:
            raise ValueError(unknown("claim", name, _REGISTRY))
    families = {claim.family: None for claim in _REGISTRY.values()}
    if family is not None and family not in families:
        raise ValueError(unknown("family", family, families))
    chosen = [_REGISTRY[name] for name in dict.fromkeys(names)] or list(_REGISTRY.values())
    return [claim for claim in chosen if family is None or claim.family == family]


def unknown(what: str, name: str, known: Mapping[str, Any]) -> str:
    """The sentence for a name that is not there: the nearest matches, or all names where none is near."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"unknown {what} {name!r}; {hint}"
