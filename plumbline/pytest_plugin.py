"""``pytest -m theory``: the catalogue, and claims of one's own, as tests.

Each claim is a test, and each of its rivals: a claim has to come out CONSISTENT (or NOT APPLICABLE), a rival REFUTED.

    pytest -m theory --pyargs plumbline          the catalogue, and registered families

Files of one's own are named in the configuration of pytest, from its root:

    [tool.pytest.ini_options]
    plumbline_claims = ["my_claims.py"]

pytest loads this module in every repository of an environment: what it needs of the rest is imported where there is
something to collect.
"""

from __future__ import annotations

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
RESULTS = pytest.StashKey[dict["Claim", "ClaimResult"]]()
COLLECTED = pytest.StashKey[set["Claim"]]()


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
    for name in config.getini("plumbline_claims"):
        if not (config.rootpath / name).is_file():
            raise pytest.UsageError(f"plumbline_claims must name existing files, from {config.rootpath}, got {name!r}")
    config.stash[RESULTS] = {}
    config.stash[COLLECTED] = set()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Close the session in which claims share their trained models."""
    if SESSION in config.stash:
        config.stash[SESSION].close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the files named in the configuration, and the catalogue."""
    wanted = {(parent.config.rootpath / name).resolve() for name in parent.config.getini("plumbline_claims")}
    if file_path.resolve() in wanted:
        return ClaimFile.from_parent(parent, path=file_path)
    if file_path == PACKAGE:
        return Catalogue.from_parent(parent, path=file_path)
    return None


class Catalogue(pytest.File):
    """The claims of all registered families."""

    def collect(self) -> Iterator[pytest.Collector | pytest.Item]:
        """A group for each family; a test that fails for what could not be registered, and the others go on."""
        from plumbline.analysis.family import broken, families

        held = [family for family in families().values() if family.claims]  # which imports them all
        for family in held:
            yield FamilyClaims.from_parent(self, name=family.name, family=family)
        for name, trace in broken():
            yield BrokenItem.from_parent(self, name=name, trace=trace)


class FamilyClaims(pytest.Collector):
    """The claims of one family."""

    def __init__(self, *, family: Family, **options: Any) -> None:
        super().__init__(**options)
        self.family = family

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each claim and each rival, unless a file of one's own has them."""
        seen = self.config.stash[COLLECTED]
        yield from _items(self, [claim for claim in self.family.claims.values() if claim not in seen])


class ClaimFile(pytest.File):
    """A file of claims of one's own."""

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each claim and each rival."""
        from plumbline.analysis.claims.own import load_claims

        try:
            claims = load_claims(self.path)
        except ValueError as error:
            raise self.CollectError(str(error)) from None
        except SystemExit as error:
            raise self.CollectError(f"{self.path} ended with SystemExit({error})") from None
        self.config.stash[COLLECTED] |= set(claims)
        yield from _items(self, claims)


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
        if self.claim not in stash[RESULTS]:
            if SESSION not in stash:
                stash[SESSION] = Session()
            budget = Budget(self.config.getoption("--theory-budget"))
            stash[RESULTS][self.claim] = check([self.claim], budget=budget, session=stash[SESSION])[0]
        return stash[RESULTS][self.claim]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The verdict in words, without a traceback of ours."""
        if isinstance(excinfo.value, VerdictError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the claim stands."""
        return self.path, None, f"claim {self.name}"


class BrokenItem(pytest.Item):
    """A family, or a part of one, that could not be registered."""

    def __init__(self, *, trace: str, **options: Any) -> None:
        super().__init__(**options)
        self.trace = trace
        self.add_marker("theory")

    def runtest(self) -> None:
        """It fails, as nothing of it can be held."""
        raise VerdictError(f"{self.name} could not be registered: {self.trace}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Its own traceback, without ours."""
        return str(excinfo.value)


class VerdictError(Exception):
    """A claim that is not consistent, or a rival that is not refuted."""
