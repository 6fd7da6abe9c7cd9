"""The catalogue: every claim, figure and experiment of every family."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from plumbline.analysis.engine.claim import Budget, Claim, registry
from plumbline.analysis.engine.experiment import Experiment, experiment_registry
from plumbline.analysis.engine.extras import MissingExtra

if TYPE_CHECKING:
    from plumbline.analysis.engine.figure import Figure

FAMILIES = ("regression", "memorization", "reasoning")


def _load(part: str) -> None:
    for family in FAMILIES:
        try:
            import_module(f"plumbline.analysis.{family}.{part}")
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] not in ("torch", "matplotlib"):
                raise
            raise MissingExtra(error.name, "models") from None


def catalogue() -> dict[str, Claim]:
    """All claims by name, family by family, whichever module was imported first.

    Raises:
        MissingExtra: if torch is not installed.
    """
    _load("claims")
    return dict(sorted(registry().items(), key=lambda item: family_place(item[1].family)))


def family_place(family: str) -> int:
    """Where a family stands in a listing; those of users come last."""
    return FAMILIES.index(family) if family in FAMILIES else len(FAMILIES)


def catalogue_markdown() -> str:
    """The catalogue as a page: docs/claims.md is this text, and a test keeps it so."""
    lines = [
        "# The catalogue of claims",
        "",
        "Generated from the registry by `plumbline claims --markdown > docs/claims.md`. The kind of a claim decides",
        "the statistic of its verdict, see the README. Every rival has to come out REFUTED by the measurement of its",
        "claim.",
        "",
    ]
    for claim in catalogue().values():
        lines += [f"## {claim.name}", "", claim.statement, "", f"- family: {claim.family}", f"- kind: {claim.kind}"]
        lines += [f"- status: {claim.status}", f"- source: {claim.source}"]
        lines += [f"- condition: {sentence}" for sentence in claim.conditions]
        lines += [
            f"- cases at {budget}: {'; '.join(claim.cases(budget))}" for budget in (Budget.QUICK, Budget.STANDARD)
        ]
        lines += [f"- rival *{name}*: {description}" for name, description in claim.rivals.items()] + [""]
    return "\n".join(lines)


def figures() -> dict[str, Figure]:
    """All figures by name.

    Raises:
        MissingExtra: if torch or matplotlib is not installed.
    """
    _load("figures")
    from plumbline.analysis.engine.figure import figure_registry

    return figure_registry()


def experiments() -> dict[str, Experiment]:
    """All experiments that can be swept, by name.

    Raises:
        MissingExtra: if torch is not installed.
    """
    _load("sweeps")
    return experiment_registry()
