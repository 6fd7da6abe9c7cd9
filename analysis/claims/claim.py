"""Claims: one theorem, bound or published observation each, as a function that returns evidence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumbline.analysis.budget import Budget
from plumbline.analysis.names import unknown
from plumbline.analysis.verdict import RULES, Rule

STATUSES = ("as published", "corrected", "derived here")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a claim hands to the verdict.

    Attributes:
        rule: Statistic, margin and scale, fixed before looking; of the class that the claim is registered with.
        measured: What was measured, in the form the rule takes.
        predicted: What the theorem says.
        rivals: What each wrong twin says instead, in the order in which the claim names them; every one must come out
            REFUTED.
        rivals_measured: For claims that measure *at* the predicted point (a gradient there, say): the same
            measurement at the point of each rival. Left out, or ``None``, the rival is held against `measured`.
        note: Numbers worth printing beside the verdict.
    """

    rule: Rule
    measured: Any
    predicted: Any
    rivals: Sequence[Any]
    rivals_measured: Sequence[Any] = ()
    note: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.rule, type) or not hasattr(self.rule, "judge"):
            raise ValueError(f"rule must be made, with its margin, got {self.rule!r}")
        for name in ("rivals", "rivals_measured"):
            if isinstance(value := getattr(self, name), Mapping | str) or not isinstance(value, Sequence):
                raise ValueError(
                    f"{name} must be a list in the order in which the claim names its rivals, got {value!r}"
                )


@dataclass(frozen=True, eq=False)
class Claim:
    """A claim of a family; see `Family.claim`."""

    name: str
    family: str
    statement: str
    source: str
    rule: type[Rule]
    status: str
    rivals: Mapping[str, str]
    cases: Callable[[Budget], Mapping[str, Any]]
    plan: Callable[[Any, Budget, int], Generator[Any, Any, Evidence]]
    conditions: Mapping[str, Callable[[Any], bool]]
    published: str
    module: str
    """Of the function."""

    @property
    def kind(self) -> str:
        """Of the statement, which decides the statistic."""
        return self.rule.kind

    def failing_condition(self, case: Any) -> str | None:
        """The first condition that does not hold for the case, in words; None if all hold."""
        return next((sentence for sentence, holds in self.conditions.items() if not holds(case)), None)


def make_claim(
    function: Callable[..., Any],
    *,
    family: str,
    statement: str,
    source: str,
    rule: type[Rule],
    status: str,
    rivals: Mapping[str, str],
    cases: Callable[[Budget], Mapping[str, Any]],
    conditions: Mapping[str, Callable[[Any], bool]] | None = None,
    published: str = "",
    name: str | None = None,
) -> Claim:
    """The claim that the function states; see `Family.claim`.

    Raises:
        ValueError: on an unknown rule or status, no rival, or a correction that does not say of what.
    """
    if not (isinstance(rule, type) and issubclass(rule, RULES)):
        raise ValueError(f"rule must be one of {', '.join(known.__name__ for known in RULES)}, got {rule!r}")
    if status not in STATUSES:
        raise ValueError(f"status must be one of {', '.join(STATUSES)}, got {status!r}")
    if (status == "corrected") != bool(published):
        raise ValueError(
            f"published must say what was corrected, and be left out otherwise, got {published!r} for {status!r}"
        )
    if not rivals:
        raise ValueError("rivals must hold at least one wrong twin, got none")
    return Claim(
        name=name or function.__name__.replace("_", "-"),
        family=family,
        statement=statement,
        source=source,
        rule=rule,
        status=status,
        rivals=rivals,
        cases=cases,
        plan=as_plan(function),
        conditions=conditions or {},
        published=published,
        module=function.__module__,
    )


def as_plan(function: Callable[..., Any]) -> Callable[..., Generator[Any, Any, Any]]:
    """The function as a plan: one that needs no jobs may be an ordinary function."""
    if inspect.isgeneratorfunction(function):
        return function

    def plan(*arguments: Any) -> Generator[Any, Any, Any]:
        return function(*arguments)
        yield  # makes this a generator

    return plan


def select(claims: Sequence[Claim], names: Sequence[str] = (), family: str | None = None) -> list[Claim]:
    """Return the named ones of some claims (all if none is named), of one family if given.

    Raises:
        ValueError: on a name or family that is not there, with the nearest matches.
    """
    known = {claim.name: claim for claim in claims}
    for name in names:
        if name not in known:
            raise ValueError(unknown("claim", name, known))
    families = dict.fromkeys(claim.family for claim in claims)
    if family is not None and family not in families:
        raise ValueError(unknown("family with claims", family, families))
    chosen = [known[name] for name in dict.fromkeys(names)] or [one for one in claims if family in (None, one.family)]
    for claim in chosen:
        if family not in (None, claim.family):
            raise ValueError(
                f"family must be that of the named claims, got {family!r} for {claim.name} of {claim.family}"
            )
    return chosen
