"""Fill in the page: what stands beside which claim, and everything from claims escaped."""

from __future__ import annotations

import base64
import hashlib
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from plumbline import DISTRIBUTION
from plumbline.analysis.budget import Budget
from plumbline.analysis.catalogue import catalogue, errata
from plumbline.analysis.claims.check import ClaimResult
from plumbline.analysis.claims.claim import STATUSES
from plumbline.analysis.claims.witness import replay_command
from plumbline.analysis.drawing.figure import Figure
from plumbline.analysis.drawing.make import Made
from plumbline.analysis.errata import Erratum
from plumbline.analysis.family import families as all_families
from plumbline.analysis.report.gauge import gauge, least_refuted
from plumbline.analysis.verdict import RULES, Outcome

PACKAGES = (DISTRIBUTION, "torch", "numpy", "scipy")


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with what was made, as the page holds it."""

    figure: Figure
    made: Made

    @property
    def source(self) -> str:
        """The SVG as a data URI: in an image of its own it shares neither names nor styles with the page."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.made.files[0].read_bytes()).decode()


def report_page(
    results: Sequence[ClaimResult],
    figures: Sequence[tuple[Figure, Made]],
    *,
    missing: Sequence[str] = (),
    budget: Budget,
    seed: int,
) -> str:
    """Return one HTML page that shows results and figures and asks the network for nothing.

    The same results and figures give the same page. A figure stands beside the first of its claims that has none
    yet, the rest in a gallery of its family. The errata are those of families that are shown whole; of the others
    those that a claim or figure on the page replays.

    Args:
        results: What `plumbline.analysis.check` returned.
        figures: Registered figures, each with what `make_figures` made of it, as SVG.
        missing: Names of figures that could not be computed; the page says so.
        budget, seed: Those of the check; the page prints them and the commands that replay it.

    Returns:
        The page; its encoding is UTF-8.

    Raises:
        ValueError: if a figure is no SVG, or of a family of which there is no result.

    Example:
        >>> from plumbline.analysis import catalogue, check
        >>> results = check([catalogue()["transformer-is-its-algorithm"]])
        >>> "1 of 1 claims" in report_page(results, [], budget=Budget.QUICK, seed=0)
        True
    """
    present = {result.claim.family for result in results}
    families = [name for name in all_families() if name in present]
    families += sorted(present - set(families))
    for figure, made in figures:
        if made.files[0].suffix != ".svg" or figure.family not in families:
            allowed = f"SVG, of the family {' or '.join(families)}"
            raise ValueError(f"figures must be {allowed}, got {made.files[0].name} of the family {figure.family!r}")
    beside, elsewhere, gallery = _places(results, [Picture(*pair) for pair in figures])
    rivals = [verdict for result in results for verdict in result.rivals.values()]
    style, script = (files(__package__).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        _environment()
        .get_template("page.html")
        .render(
            budget=budget,
            seed=seed,
            results=results,
            names={result.claim.name for result in results},
            families=families,
            choices={
                "family": families,
                "kind": _present([rule.kind for rule in RULES], [result.claim.kind for result in results]),
                "status": _present(STATUSES, [result.claim.status for result in results]),
                "verdict": _present(Outcome, [result.verdict.outcome for result in results]),
            },
            rivals=len(rivals),
            rivals_refuted=sum(verdict.outcome is Outcome.REFUTED for verdict in rivals),
            beside=beside,
            elsewhere=elsewhere,
            gallery=gallery,
            missing=missing,
            errata=_errata({result.claim.name for result in results}, {figure.name for figure, _ in figures}),
            environment=_versions(),
            css=Markup(style),
            js=Markup(script),
            css_hash=_hash(style),
            js_hash=_hash(script),
            replay=lambda claim: replay_command(claim, budget=budget, seed=seed, folder=False),
            gauge=gauge,
            least_refuted=least_refuted,
        )
    )


def _places(
    results: Sequence[ClaimResult], pictures: Sequence[Picture]
) -> tuple[dict[str, list[Picture]], dict[str, list[Picture]], dict[str, list[Picture]]]:
    """Pictures beside their claim, those that it is in elsewhere, both by claim, and galleries by family."""
    beside: dict[str, list[Picture]] = {result.claim.name: [] for result in results}
    elsewhere: dict[str, list[Picture]] = {name: [] for name in beside}
    gallery: dict[str, list[Picture]] = {result.claim.family: [] for result in results}
    # What was made for the claims themselves comes before what reproduces a paper.
    for picture in sorted(pictures, key=lambda picture: bool(picture.figure.published)):
        names = [claim.name for claim in picture.figure.claims if claim.name in beside]
        home = next((name for name in names if not beside[name]), None)
        (gallery[picture.figure.family] if home is None else beside[home]).append(picture)
        for name in names:
            if name != home:
                elsewhere[name].append(picture)
    return beside, elsewhere, gallery


def _errata(claims: set[str], figures: set[str]) -> list[Erratum]:
    """The entries of the ledger that belong on a page with these."""
    whole = {claim.family for claim in catalogue().values()}
    whole -= {claim.family for claim in catalogue().values() if claim.name not in claims}
    shown = claims | figures
    return [entry for entry in errata() if entry.family in whole or shown & set(entry.command.split())]


def _present(order: Iterable[str], values: Sequence[str]) -> dict[str, int]:
    """How often each value occurs, in the given order, those that do not left out."""
    counts = Counter(values)
    return {value: counts[value] for value in order if counts[value]}


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("plumbline.analysis.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["number"] = lambda value: "" if value is None else f"{value:.4g}"
    environment.filters["slug"] = lambda value: str(value).replace(" ", "-")
    return environment


def _hash(text: str) -> str:
    """The source expression by which the page's policy admits this style or script and no other."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _versions() -> dict[str, str]:
    """What computed the page, without paths or names."""
    versions = {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
    return {**versions, "platform": f"{platform.system()} {platform.machine()}"}
