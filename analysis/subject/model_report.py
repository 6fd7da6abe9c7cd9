"""What is said about one given model: its loss beside others, what it does, and the claims that apply to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np

from plumbline.analysis.catalogue import catalogue
from plumbline.analysis.jobs.exact_json import canonical_json
from plumbline.analysis.verdict import Outcome, Verdict, not_applicable
from plumbline.analysis.verdict.levels import LEVELS
from plumbline.theory import checks
from plumbline.theory.estimate import Estimate

STANDARD_ERRORS = 6
"""Errors that a verdict allows for on either side: beyond a sampled loss by six of them there is nothing left."""

# For one given model a claim of the catalogue says more than of the models it trains: verdicts are on the model.
Relation = Literal["equals", "at least", "at most"]


@dataclass(frozen=True)
class Reference:
    """A loss to read the model's own beside."""

    name: str
    loss: Estimate


@dataclass(frozen=True)
class Finding:
    """Something that the model does or has: a number, an array, or words; the standard error of what was sampled."""

    name: str
    value: Any
    error: float = 0.0


@dataclass(frozen=True)
class ModelClaim:
    """A claim of the catalogue, applied to the model; measured and predicted stand in the verdict.

    Of a sampled number the interval of the verdict is six of its errors to either side.
    """

    name: str
    statement: str
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class ModelReport:
    """What `check_model` found.

    Attributes:
        family: Of the task.
        model: The module as it prints itself.
        task: The task.
        quantity: What the loss is, with its unit.
        loss: Of the model on the whole population; its error and method say how exact it is.
        references: Losses of other predictors: trivial, optimal, Bayes.
        findings: What the model does.
        claims: The claims of the catalogue that are about single models of this family, with their verdicts on this
            one. REFUTED says that the model is not what the statement says; where the statement holds for all models,
            that the statement is wrong.
        missing: What could not be said, and why.
    """

    family: str
    model: str
    task: Any
    quantity: str
    loss: Estimate
    references: tuple[Reference, ...]
    findings: tuple[Finding, ...]
    claims: tuple[ModelClaim, ...]
    missing: tuple[str, ...]

    def gap(self, name: str) -> Estimate:
        """The model's loss minus that of a reference; both errors, added.

        Raises:
            ValueError: if there is no reference of this name.
        """
        for reference in self.references:
            if reference.name == name:
                difference = self.loss.value - reference.loss.value
                return Estimate(difference, self.loss.error + reference.loss.error, "difference, errors added")
        names = ", ".join(reference.name for reference in self.references)
        raise ValueError(f"name must be one of {names}, got {name!r}")

    def finding(self, name: str) -> Any:
        """The value of a finding.

        Raises:
            ValueError: if there is no finding of this name.
        """
        values = {finding.name: finding.value for finding in self.findings}
        if name not in values:
            raise ValueError(f"name must be one of {', '.join(values)}, got {name!r}")
        return values[name]

    def outcomes(self) -> dict[str, Outcome]:
        """The outcome of each claim by its name."""
        return {claim.name: claim.verdict.outcome for claim in self.claims}

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values; the task as `task_file` writes it."""
        return {
            "family": self.family,
            "model": self.model,
            "task": json.loads(canonical_json(self.task)),
            "quantity": self.quantity,
            "loss": asdict(self.loss),
            "references": [
                {"name": reference.name, **asdict(reference.loss), "gap": asdict(self.gap(reference.name))}
                for reference in self.references
            ],
            "findings": {
                f.name: {"value": f.value.tolist() if isinstance(f.value, np.ndarray) else f.value, "error": f.error}
                for f in self.findings
            },
            "claims": [asdict(claim) for claim in self.claims],
            "missing": list(self.missing),
        }


class Reading(Protocol):
    """What a family has computed about a model and its task, and what it could not."""

    model: Any
    task: Any
    missing: list[str]

    def references(self) -> list[Reference]: ...

    def findings(self) -> list[Finding]: ...


def report_on(
    reading: Reading, claims: Callable[[Any], list[ModelClaim]], *, family: str, quantity: str, loss: Estimate
) -> ModelReport:
    """Put a report together; what is missing is read last, for the other parts add to it."""
    return ModelReport(
        family=family,
        model=str(reading.model),
        task=reading.task,
        quantity=quantity,
        loss=loss,
        references=tuple(reading.references()),
        findings=tuple(reading.findings()),
        claims=tuple(claims(reading)),
        missing=tuple(reading.missing),
    )


def claim_on_model(name: str, conditions: dict[str, bool], judge: Callable[[], Verdict]) -> ModelClaim:
    """A claim of the catalogue, judged where all conditions hold.

    Args:
        name: Of the claim.
        conditions: What the statement needs, in words, and whether the model and its task have it.
        judge: The verdict on the model.
    """
    failing = next((sentence for sentence, holds in conditions.items() if not holds), None)
    claim = catalogue()[checks.one_of("name of a claim", name, catalogue())]
    verdict = judge() if failing is None else not_applicable(f"condition fails: {failing}")
    return ModelClaim(name, claim.statement, verdict if failing else replace(verdict, kind=claim.kind))


def held(
    what: str, measured: Estimate, relation: Relation, predicted: float, *, margin: float, scale: float
) -> Verdict:
    """The verdict on one number of the model, with six of its errors allowed for on either side of the margin.

    Args:
        what: The number, in words.
        measured: The number.
        relation: How it should stand to ``predicted``.
        predicted: What the statement says.
        margin: Largest violation that still counts as agreement, in units of ``scale``.
        scale: Above 0.

    Example:
        >>> found = held("risk", Estimate(1.2, 0.0, "exact"), "equals", 1.0, margin=0.1, scale=1.0)
        >>> found.outcome.value, found.reason
        ('refuted', 'risk 1.2, predicted 1: off by 0.2 of the scale 1, beyond the margin 0.1')
    """
    reach = STANDARD_ERRORS * measured.error
    off, error = (measured.value - predicted) / scale, reach / scale
    violation = {"equals": abs(off), "at least": -off, "at most": off}[relation]
    if violation + error <= margin:
        outcome, zone = Outcome.CONSISTENT, f"within the margin {margin:.3g}"
    elif violation - error > margin:
        outcome, zone = Outcome.REFUTED, f"beyond the margin {margin:.3g}"
    else:
        outcome, zone = Outcome.INCONCLUSIVE, f"open at the margin {margin:.3g} with an error of {error:.2g}"
    bound = "" if relation == "equals" else f"{relation} "
    return Verdict(
        outcome=outcome,
        kind="",  # that of the claim, which `claim_on_model` knows
        reason=f"{what} {measured.value:.10g}, predicted {bound}{predicted:.10g}: off by {off:.3g} of the scale "
        f"{scale:.3g}, {zone}",
        predicted=predicted,
        estimate=measured.value,
        interval=(measured.value - reach, measured.value + reach) if measured.error else None,
        discrepancy=off,
        margin=margin,
        n=1,
        **LEVELS,
    )
