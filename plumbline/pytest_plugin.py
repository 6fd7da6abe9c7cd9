"""``pytest -m theory``: the catalogue, and claims of one's own, as tests.

Each claim is a test, and each of its rivals: a claim has to come out CONSISTENT (or NOT APPLICABLE), a rival REFUTED.

    pytest -m theory --pyargs plumbline          the catalogue, and registered families

Files of one's own are named in the configuration of pytest, from its root:

    [tool.pytest.ini_options]
    plumbline_claims = ["my_claims.py"]

pytest loads this module in every repository of an environment: what it needs of the rooms is imported where there is
something to collect.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from plumbline.analysis.claims.check import ClaimResult
    from plumbline.analysis.claims.claim import Claim
    from plumbline.analysis.family import Family

PACKAGE = Path(__file__).with_name("__init__.py")
"""Collecting this file collects the catalogue."""
SESSION = pytest.StashKey[Any]()
RESULTS = pytest.StashKey[dict[str, "ClaimResult"]]()
COLLECTED = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The budget of the claims, and the files they stand in."""
    parser.getgroup("plumbline").addoption(
        "--theory-budget",
        default="standard",
        choices=("quick", "standard", "paper"),
        help="How much claims train and draw.",
    )
    parser.addini("plumbline_claims", "Python files with claims, or families, of one's own.", type="args", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", "theory: a claim, or one of its rivals, held against trained models")
    config.stash[RESULTS] = {}
    config.stash[COLLECTED] = set()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the session in which claims share their trained models."""
    if SESSION in config.stash:
        config.stash[SESSION].close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the files named in the configuration, the catalogue, and a family by the file of its claims."""
    wanted = {(parent.config.rootpath / name).resolve() for name in parent.config.getini("plumbline_claims")}
    if file_path.resolve() in wanted:
        return ClaimFile.from_parent(parent, path=file_path)
    if file_path == PACKAGE:
        return Catalogue.from_parent(parent, path=file_path)
    if file_path.match("analysis/*/claims/__init__.py"):
        known = {_file_of(family): family for family in _families()}
        if file_path in known:
            return FamilyClaims.from_parent(parent, path=file_path, family=known[file_path])
    return None


class Catalogue(pytest.File):
    """The claims of all registered families."""

    def collect(self) -> Iterator[pytest.Collector]:
        """A file for each family."""
        for family in _families():
            yield FamilyClaims.from_parent(self, path=_file_of(family), family=family)


class FamilyClaims(pytest.File):
    """The claims of one family."""

    def __init__(self, *, family: Family, **options: Any) -> None:
        super().__init__(**options)
        self.family = family

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each claim and each rival, unless the family has been collected already."""
        if self.family.name in self.config.stash[COLLECTED]:
            return
        self.config.stash[COLLECTED].add(self.family.name)
        claims = self.family.claims.values()
        for trace in self.family.failures.values():
            raise self.CollectError(f"family {self.family.name}: {trace}")
        yield from _items(self, claims)


class ClaimFile(pytest.File):
    """A file of claims of one's own."""

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each claim and each rival."""
        from plumbline.analysis.claims.own import load_claims

        claims = load_claims(self.path)
        self.config.stash[COLLECTED] |= {claim.family for claim in claims}
        yield from _items(self, claims)


def _families() -> list[Family]:
    from plumbline.analysis.family import families

    return list(families().values())


def _file_of(family: Family) -> Path:
    """The file where the claims of a family stand, by which its tests are named."""
    own = next((claim.module for claim in family.claims.values()), "")
    module = sys.modules.get(f"{family.folder}.claims" if family.folder else own)
    return Path(getattr(module, "__file__", None) or PACKAGE)


def _items(parent: pytest.Collector, claims: Iterable[Claim]) -> Iterator[pytest.Item]:
    for claim in claims:
        yield ClaimItem.from_parent(parent, name=claim.name, claim=claim, rival=None)
        for rival in claim.rivals:
            yield ClaimItem.from_parent(parent, name=f"{claim.name}[{rival}]", claim=claim, rival=rival)


class ClaimItem(pytest.Item):
    """One verdict: of the claim, or of a rival."""

    def __init__(self, *, claim: Claim, rival: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.claim, self.rival = claim, rival
        self.add_marker("theory")

    def runtest(self) -> None:
        """Judge the claim once for all its tests."""
        from plumbline.analysis.verdict import Outcome

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
        from plumbline.analysis.budget import Budget
        from plumbline.analysis.claims.check import check
        from plumbline.analysis.jobs.session import Session

        stash = self.config.stash
        if self.claim.name not in stash[RESULTS]:
            if SESSION not in stash:
                stash[SESSION] = Session()
            budget = Budget(self.config.getoption("--theory-budget"))
            stash[RESULTS][self.claim.name] = check([self.claim], budget=budget, session=stash[SESSION])[0]
        return stash[RESULTS][self.claim.name]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The verdict in words, without a traceback of ours."""
        if isinstance(excinfo.value, VerdictError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the claim stands."""
        return self.path, None, f"claim {self.name}"


class VerdictError(Exception):
    """A claim that is not consistent, or a rival that is not refuted."""
