"""From claims to verdicts: run the plans, judge the evidence and its rivals, confirm refutations."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from plumbline.analysis.engine.claim import Budget, Claim, Evidence, registry
from plumbline.analysis.engine.files import write_json
from plumbline.analysis.engine.job import canonical_json
from plumbline.analysis.engine.store import Store
from plumbline.analysis.engine.sweep import Finished, Progress, drive
from plumbline.analysis.engine.verdict import Outcome, Verdict, combine, not_applicable

FALSE_REFUTATIONS = 1e-3
"""Largest probability that a full run of the catalogue refutes anything true, split evenly over its cases."""
FALSE_CONFIRMATION = 1e-2
"""Largest probability that a statistical verdict calls a discrepancy of the margin CONSISTENT."""
FRESH_SEED = 7_919
"""Added to the seed when a refutation is confirmed."""


class BadClaim(TypeError):
    """A claim returned what it was not registered for: a defect of the claim, and no verdict."""


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


def check(
    claims: Sequence[Claim],
    *,
    budget: Budget = Budget.QUICK,
    seed: int = 0,
    store: Store,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> list[ClaimResult]:
    """Hold claims against trained models and return a result for each, in order.

    The false-refutation budget is split over all cases of the whole catalogue, so that the verdict of a claim
    does not depend on what else is checked. A refutation is repeated on fresh seeds before it is reported.

    Args:
        claims: What to check.
        budget: Sizes of the cases.
        seed: All randomness derives from it.
        store: Where jobs are looked up and kept.
        executor: ``None`` runs in this process; otherwise any executor of ``concurrent.futures``.
        progress: As in `drive`.

    Raises:
        BadClaim: if a claim returns no evidence, or evidence of another kind or with other rivals than registered.
    """
    everything = {**registry(), **{claim.name: claim for claim in claims}}
    alpha = FALSE_REFUTATIONS / sum(len(claim.cases(budget)) for claim in everything.values())
    cases = {f"{claim.name} / {label}": (claim, label) for claim in claims for label in claim.cases(budget)}
    arguments: dict[str, Any] = {"store": store, "executor": executor, "progress": progress}
    first = _run(cases, budget, seed, alpha, arguments)
    doubtful = {key: cases[key] for key, case in first.items() if case.verdict.outcome is Outcome.REFUTED}
    second = _run(doubtful, budget, seed + FRESH_SEED, alpha, arguments)
    results = {**first, **{key: _confirmed(first[key], second[key]) for key in doubtful}}
    return [_summary(claim, [results[f"{claim.name} / {label}"] for label in claim.cases(budget)]) for claim in claims]


def _run(
    cases: Mapping[str, tuple[Claim, str]], budget: Budget, seed: int, alpha: float, arguments: Mapping[str, Any]
) -> dict[str, CaseResult]:
    """Drive the plans of all cases whose conditions hold, and judge what they return."""
    results, plans = {}, {}
    for key, (claim, label) in cases.items():
        case = claim.cases(budget)[label]
        condition = claim.failing_condition(case)
        if condition is not None:
            results[key] = CaseResult(label, not_applicable(f"condition fails: {condition}"))
        else:
            plans[key] = claim.plan(case, budget, seed)
    for key, finished in drive(plans, **arguments).items():
        claim, label = cases[key]
        results[key] = _judge(claim, label, finished, alpha)
    return results


def _judge(claim: Claim, label: str, finished: Finished, alpha: float) -> CaseResult:
    levels: dict[str, Any] = {"alpha_refute": alpha, "alpha_confirm": FALSE_CONFIRMATION}
    if finished.error is not None:
        reason = f"not computed: {finished.error.type}: {finished.error.message}"
        verdict = Verdict(outcome=Outcome.INCONCLUSIVE, kind=claim.kind, reason=reason, **levels)
        return CaseResult(label, verdict, error=finished.error.traceback)
    evidence = finished.value
    if not isinstance(evidence, Evidence):
        raise BadClaim(f"claim {claim.name} must return Evidence, got {evidence!r}")
    if evidence.rule.kind != claim.kind or set(evidence.rivals) != set(claim.rivals):
        raise BadClaim(
            f"claim {claim.name} is registered as {claim.kind!r} with rivals {sorted(claim.rivals)}, but returned "
            f"{evidence.rule.kind!r} with rivals {sorted(evidence.rivals)}"
        )
    verdict = evidence.rule.judge(evidence.measured, evidence.predicted, **levels)
    rivals = {
        name: evidence.rule.judge(evidence.rivals_measured.get(name, evidence.measured), wrong, **levels)
        for name, wrong in evidence.rivals.items()
    }
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


def write_witnesses(results: Sequence[ClaimResult], folder: Path, *, budget: Budget, seed: int) -> dict[str, Path]:
    """Write a file for each refuted claim: case, seed, numbers, and the command that replays it."""
    written = {}
    for result in results:
        if result.verdict.outcome is not Outcome.REFUTED:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{result.claim.name}-{budget}-{seed}.json"
        cases = result.claim.cases(budget)
        witness = {
            **result.to_json(),
            "refuted_cases": {
                case.label: json.loads(canonical_json(cases[case.label]))
                for case in result.cases
                if case.verdict.outcome is Outcome.REFUTED
            },
            "budget": str(budget),
            "seed": seed,
            "replay": replay_command(result.claim, budget=budget, seed=seed),
        }
        write_json(path, witness)
        written[result.claim.name] = path
    return written


def replay_command(claim: Claim, *, budget: Budget, seed: int, folder: bool = True) -> str:
    """The shell command that computes the claim again from nothing; that of a user is named by its file.

    With ``folder=False`` by the file's name alone, for what others read.
    """
    own = claim.module.partition(".")[0] != "plumbline" and getattr(sys.modules.get(claim.module), "__file__", None)
    if own and not folder:
        own = Path(own).name
    return f"plumbline check {own or claim.name} --budget {budget} --seed {seed} --store none"
