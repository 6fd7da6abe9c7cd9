"""What a refutation leaves on disk, and the command that computes a claim again."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plumbline.analysis.budget import Budget
from plumbline.analysis.claims.check import ClaimResult
from plumbline.analysis.claims.claim import Claim
from plumbline.analysis.files import write_json
from plumbline.analysis.jobs.exact_json import canonical_json
from plumbline.analysis.verdict import Outcome


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
                case.label: _plain(cases[case.label])
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


def _plain(case: Any) -> Any:
    """A case as JSON; one that has no such form as it prints itself."""
    try:
        return json.loads(canonical_json(case))
    except ValueError:
        return repr(case)


def replay_command(claim: Claim, *, budget: Budget, seed: int, folder: bool = True) -> str:
    """The shell command that computes the claim again from nothing; that of a user's file is named by the file.

    With ``folder=False`` by the file's name alone, for what others read.
    """
    # The module of a package cannot be run by its file.
    own = None if "." in claim.module else getattr(sys.modules.get(claim.module), "__file__", None)
    if own and not folder:
        own = Path(own).name
    return f"plumbline check {own or claim.name} --budget {budget} --seed {seed} --store none"
