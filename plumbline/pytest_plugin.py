"""`pytest -m theory` for claims of one's own: each claim and each of its rivals is a test.

Name the files in the configuration of pytest, from its root:

    [tool.pytest.ini_options]
    plumbline_claims = ["my_claims.py"]

A claim has to come out CONSISTENT (or NOT APPLICABLE), and each rival REFUTED.

A package of its own, which imports the others only where there are such files: pytest loads it in every repository of
an environment, also where `theory` or `models` are names of somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from plumbline.analysis.engine.check import ClaimResult
    from plumbline.analysis.engine.claim import Claim

RESULTS = pytest.StashKey[dict[str, Any]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The budget of the claims, and the files they stand in."""
    parser.getgroup("plumbline").addoption(
        "--theory-budget",
        default="standard",
        choices=("quick", "standard", "paper"),
        help="How much claims train and draw.",
    )
    parser.addini("plumbline_claims", "Python files with claims of one's own.", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "theory: a claim, or one of its rivals, held against trained models")
    config.stash[RESULTS] = {}


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the files named in the configuration."""
    wanted = {(parent.config.rootpath / name).resolve() for name in parent.config.getini("plumbline_claims")}
    return ClaimFile.from_parent(parent, path=file_path) if file_path.resolve() in wanted else None


class ClaimFile(pytest.File):
    """A file of claims."""

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each claim and each rival."""
        from plumbline.analysis.own_claims import load_claims

        for claim in load_claims(self.path):
            yield ClaimItem.from_parent(self, name=claim.name, claim=claim, rival=None)
            for rival in claim.rivals:
                yield ClaimItem.from_parent(self, name=f"{claim.name}[{rival}]", claim=claim, rival=rival)


class ClaimItem(pytest.Item):
    """One verdict: of the claim, or of a rival."""

    def __init__(self, *, claim: Claim, rival: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.claim, self.rival = claim, rival
        self.add_marker("theory")

    def runtest(self) -> None:
        """Judge the claim once for all its tests."""
        from plumbline.analysis.engine.verdict import Outcome

        result = self._result()
        if result.verdict.outcome is Outcome.NOT_APPLICABLE and not result.error:
            return
        if self.rival is not None:
            verdict = result.rivals.get(self.rival)
            if verdict is None or verdict.outcome is not Outcome.REFUTED:
                reason = verdict.reason if verdict else result.error or "the claim could not be computed"
                raise VerdictError(f"the rival {self.rival!r} was not refuted: {reason}")
        elif result.verdict.outcome is not Outcome.CONSISTENT:
            raise VerdictError(f"{result.verdict.outcome.upper()}: {result.verdict.reason}\n{result.error or ''}")

    def _result(self) -> ClaimResult:
        from plumbline.analysis.engine.check import check
        from plumbline.analysis.engine.claim import Budget
        from plumbline.analysis.engine.store import Store

        results = self.config.stash[RESULTS]
        if self.claim.name not in results:
            budget = Budget(self.config.getoption("--theory-budget"))
            with Store(None) as store:
                results[self.claim.name] = check([self.claim], budget=budget, store=store)[0]
        result: ClaimResult = results[self.claim.name]
        return result

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The verdict in words, without a traceback of the engine."""
        if isinstance(excinfo.value, VerdictError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the claim stands."""
        return self.path, None, f"claim {self.name}"


class VerdictError(Exception):
    """A claim that is not consistent, or a rival that is not refuted."""
