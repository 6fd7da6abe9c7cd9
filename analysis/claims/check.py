"""From claims to verdicts: run the plans, judge the evidence and its rivals, confirm refutations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from plumbline.analysis.budget import Budget
from plumbline.analysis.claims.claim import Claim, Evidence
from plumbline.analysis.jobs.scheduler import Finished, drive
from plumbline.analysis.jobs.session import Session, own_or
from plumbline.analysis.verdict import Outcome, Verdict, combine, not_applicable
from plumbline.analysis.verdict.levels import LEVELS
from plumbline.theory import checks

FRESH_SEED = 7_919
"""Added to the seed when a refutation is confirmed."""


class BadClaim(TypeError):
    """A claim has no case, or returned what cannot be judged or was not registered: its defect, and no verdict."""


@dataclass(frozen=True)
class CaseResult:
    """One case of a claim: its verdict and those of the rivals, all on the same measurement."""

    label: str
    verdict: Verdict
    rivals: Mapping[str, Verdict] = field(default_factory=dict)
    note: str = ""
    error: str | None = None


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its verdict over all cases.

    Attributes:
        verdict: Of all cases together; INCONCLUSIVE if a rival survives, because the measurement then cannot
            tell the theorem from a wrong twin.
        rivals: By name, over all cases: REFUTED only if refuted in every case.
        error: The traceback if a case could not be computed.
    """

    claim: Claim
    cases: tuple[CaseResult, ...]
    verdict: Verdict
    rivals: Mapping[str, Verdict]

    @property
    def error(self) -> str | None:
        return next((case.error for case in self.cases if case.error), None)

    @property
    def surviving_rivals(self) -> list[str]:
        return [name for name, verdict in self.rivals.items() if verdict.outcome is not Outcome.REFUTED]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "name": self.claim.name,
            "family": self.claim.family,
            "kind": self.claim.kind,
            "status": self.claim.status,
            "statement": self.claim.statement,
            "source": self.claim.source,
            "verdict": asdict(self.verdict),
            "rivals": {name: asdict(verdict) for name, verdict in self.rivals.items()},
            "cases": [asdict(case) for case in self.cases],
        }


Cases = Mapping[str, tuple[Claim, str]]
"""Cases by `case_key`: each a claim and the label of one of its cases."""


def case_key(claim: Claim, label: str) -> str:
    """The name of a case among those of other claims."""
    return f"{claim.name} / {label}"


def check(
    claims: Sequence[Claim], *, budget: Budget = Budget.QUICK, seed: int = 0, session: Session | None = None
) -> list[ClaimResult]:
    """Hold claims against trained models and return a result for each, in order.

    A case is refuted at `FALSE_REFUTATION`, whatever else is checked, and only after it is refuted on fresh seeds too.

    Args:
        claims: What to check.
        budget: Sizes of the cases.
        seed: All randomness derives from it.
        session: Where jobs run and their results are kept; by default in this process and its memory.

    Raises:
        ValueError: if two claims have one name.
        BadClaim: if a claim has no case, a condition of it raises, or it returns no evidence, or evidence that cannot
            be judged, by another rule or with other rivals than registered.

    Example:
        >>> from plumbline.analysis import catalogue
        >>> result, = check([catalogue()["transformer-is-its-algorithm"]])
        >>> result.verdict.outcome.value
        'consistent'
    """
    claims = list(claims)
    for claim in claims:
        if not isinstance(claim, Claim):
            raise ValueError(f"claims must be a sequence of claims, got {claim!r} in it")
    repeated = [name for name, count in Counter(claim.name for claim in claims).items() if count > 1]
    if repeated:
        raise ValueError(f"claims must have names of their own, got {', '.join(repeated)} more than once")
    budget, seed = Budget(checks.one_of("budget", budget, map(str, Budget))), checks.integer("seed", seed, at_least=0)
    labels = {claim: _labels(claim, budget) for claim in claims}
    cases = {case_key(claim, label): (claim, label) for claim in claims for label in labels[claim]}
    results = judge_cases(cases, budget=budget, seed=seed, session=session)
    return [_summary(claim, [results[case_key(claim, label)] for label in labels[claim]]) for claim in claims]


def _labels(claim: Claim, budget: Budget) -> list[str]:
    """Those of its cases, at least one."""
    try:
        labels = list(claim.cases(budget))
    except Exception as error:
        raise BadClaim(f"claim {claim.name}: its cases raised {type(error).__name__}: {error}") from error
    if not labels:
        raise BadClaim(f"claim {claim.name} must have at least one case at {budget}, got none")
    return labels


def judge_cases(
    cases: Cases, *, budget: Budget, seed: int = 0, session: Session | None = None
) -> dict[str, CaseResult]:
    """The verdicts of single cases, as `check` gives them, by their keys."""
    with own_or(session) as session:
        first = _judge_once(cases, budget, seed, session)
        doubtful = {key: cases[key] for key, case in first.items() if case.verdict.outcome is Outcome.REFUTED}
        second = _judge_once(doubtful, budget, seed + FRESH_SEED, session)
    return {**first, **{key: _confirmed(first[key], second[key]) for key in doubtful}}


def _judge_once(cases: Cases, budget: Budget, seed: int, session: Session) -> dict[str, CaseResult]:
    """Drive the plans of all cases whose conditions hold, and judge what they return."""
    results, plans = {}, {}
    for key, (claim, label) in cases.items():
        case = claim.cases(budget)[label]
        try:
            condition = claim.failing_condition(case)
        except Exception as error:
            raise BadClaim(
                f"claim {claim.name}, case {label}: a condition raised {type(error).__name__}: {error}"
            ) from error
        if condition is not None:
            results[key] = CaseResult(label, not_applicable(f"condition fails: {condition}"))
        else:
            plans[key] = claim.plan(case, budget, seed)
    for key, finished in drive(plans, session=session).items():
        claim, label = cases[key]
        results[key] = _judge(claim, label, finished)
    return results


def _judge(claim: Claim, label: str, finished: Finished) -> CaseResult:
    if finished.error is not None:
        reason = f"not computed: {finished.error.type}: {finished.error.message}"
        verdict = Verdict(outcome=Outcome.INCONCLUSIVE, kind=claim.kind, reason=reason, **LEVELS)
        return CaseResult(label, verdict, error=finished.error.traceback)
    evidence = finished.value
    if not isinstance(evidence, Evidence):
        raise BadClaim(f"claim {claim.name} must return Evidence, got {evidence!r}")
    if not isinstance(evidence.rule, claim.rule) or len(evidence.rivals) != len(claim.rivals):
        raise BadClaim(
            f"claim {claim.name} is registered with the rule {claim.rule.__name__} and the rivals "
            f"{', '.join(claim.rivals)}, but returned {type(evidence.rule).__name__} and {len(evidence.rivals)} rivals"
        )
    own = evidence.rivals_measured or [None] * len(claim.rivals)
    if len(own) != len(claim.rivals):
        raise BadClaim(f"claim {claim.name} must measure at each of its {len(claim.rivals)} rivals, got {len(own)}")
    try:
        verdict = evidence.rule.judge(evidence.measured, evidence.predicted, **LEVELS)
        rivals = {
            name: evidence.rule.judge(evidence.measured if there is None else there, wrong, **LEVELS)
            for name, wrong, there in zip(claim.rivals, evidence.rivals, own, strict=True)
        }
    except ValueError as error:
        raise BadClaim(f"claim {claim.name}, case {label}: its evidence cannot be judged: {error}") from error
    return CaseResult(label, verdict, rivals, evidence.note)


def _confirmed(first: CaseResult, second: CaseResult) -> CaseResult:
    """A refutation stands only if fresh seeds refute too."""
    if second.verdict.outcome is Outcome.REFUTED:
        reason = f"{first.verdict.reason}; confirmed on fresh seeds: {second.verdict.reason}"
        return replace(first, verdict=replace(first.verdict, reason=reason))
    reason = f"refuted once ({first.verdict.reason}) but not on fresh seeds ({second.verdict.reason})"
    return replace(first, verdict=replace(first.verdict, outcome=Outcome.INCONCLUSIVE, reason=reason))


def _summary(claim: Claim, cases: list[CaseResult]) -> ClaimResult:
    verdict = combine([case.verdict for case in cases])
    judged = [case for case in cases if case.rivals]
    rivals = {name: _rival_summary([case.rivals[name] for case in judged]) for name in claim.rivals if judged}
    survivors = [name for name, rival in rivals.items() if rival.outcome is not Outcome.REFUTED]
    if verdict.outcome is Outcome.CONSISTENT and survivors:
        reason = f"the same measurement does not refute the rival {survivors[0]}: {rivals[survivors[0]].reason}"
        verdict = replace(verdict, outcome=Outcome.INCONCLUSIVE, reason=reason)
    return ClaimResult(claim, tuple(cases), verdict, rivals)


def _rival_summary(verdicts: list[Verdict]) -> Verdict:
    """The case that refutes a rival least: it is refuted only if every case refutes it."""
    return next((verdict for verdict in verdicts if verdict.outcome is not Outcome.REFUTED), verdicts[0])
