"""The report as text: what stands in it, no markup from claims, nothing from the network, the same every time."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from plumbline.analysis import Budget, CaseResult, ClaimResult, Outcome, Verdict, catalogue
from plumbline.analysis.catalogue import errata
from plumbline.analysis.commands import reporting
from plumbline.analysis.commands.app import app
from plumbline.analysis.drawing.figure import Figure
from plumbline.analysis.report import report_page
from plumbline.analysis.report.gauge import excess, gauge, least_refuted
from tests.reports import HOSTILE, OUTCOMES, picture, small_report

ROOT = Path(__file__).parents[3]
VOID = {"meta", "img", "input", "br", "rect", "line"}  # of those the page has; the last two close themselves


class Page(HTMLParser):
    """Elements with their attributes, the text, and whether every end tag closes what was opened last."""

    def __init__(self, source: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(source)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def having(self, tag, **attributes):
        """The attributes of all elements with this tag and these attributes."""
        return [own for name, own in self.elements if name == tag and attributes.items() <= own.items()]


@pytest.fixture(scope="module")
def page():
    return Page(small_report())


def verdict(outcome, discrepancy=0.0, margin=0.1, kind="identity"):
    return Verdict(
        outcome=outcome, kind=kind, reason="as made", alpha_refute=1e-3, alpha_confirm=1e-2,
        discrepancy=discrepancy, margin=margin,
    )  # fmt: skip


def results_of_catalogue():
    """Every claim of the catalogue, with made-up verdicts."""
    consistent, refuted = verdict(Outcome.CONSISTENT), verdict(Outcome.REFUTED, 1.0)
    return [
        ClaimResult(claim, (CaseResult("a case", consistent, dict.fromkeys(claim.rivals, refuted)),), consistent,
                    dict.fromkeys(claim.rivals, refuted))
        for claim in catalogue().values()
    ]  # fmt: skip


def test_every_claim_and_erratum_of_the_catalogue_stands_in_the_report():
    """As many claims as the catalogue has, with statement, source, conditions, rivals and replay; as many errata."""
    page = Page(report_page(results_of_catalogue(), [], budget=Budget.STANDARD, seed=3))
    claims = page.having("details", **{"class": "card claim"})

    assert [claim["id"] for claim in claims] == [f"claim-{name}" for name in catalogue()]
    for claim in catalogue().values():
        for text in (claim.statement, claim.source, claim.published, *claim.conditions, *claim.rivals.values()):
            assert text in page.text
        assert f"plumbline check {claim.name} --budget standard --seed 3 --store none" in page.text
    assert len(page.having("details", **{"class": "card erratum"})) == len(errata())
    assert all(entry.holds in page.text and entry.command in page.text for entry in errata())
    assert f"{len(claims)} of {len(claims)} claims" in page.text


def test_verdicts_evidence_and_environment_stand_in_the_report(page):
    """Counts by outcome, the numbers and reasons of cases, what could not be computed, versions, and no folder."""
    outcomes = Counter(claim["data-verdict"] for claim in page.having("details", **{"class": "card claim"}))

    assert outcomes == {str(outcome): count for outcome, count in OUTCOMES.items()}
    for text in ("condition fails: ", "got 3, want 1", "not computed: ZeroDivisionError: zero", "7 of 7"):
        assert text in page.text
    for name in ("python", "torch", "numpy", "scipy", "plumbline", "budget", "seed"):
        assert name in page.text
    assert str(ROOT) not in small_report()
    assert str(Path.home()) + "/" not in small_report()


def test_text_of_claims_is_no_markup(page):
    """A hostile statement, source, condition, case, rival, note, caption and family stand there as text."""
    assert page.text.count(HOSTILE) >= 8
    assert len(page.having("script")) == 1
    assert all("onerror" not in attributes for _, attributes in page.elements)
    assert {image["src"][:26] for image in page.having("img")} == {"data:image/svg+xml;base64,"}
    assert "own <b>" in page.text


def test_page_asks_the_network_for_nothing(page):
    """No address in the page, none in its images but names of namespaces; the policy admits this script and style."""
    policy = page.having("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    source = small_report()

    assert "http:" not in source
    assert "https:" not in source
    assert "url(" not in source
    for image in page.having("img"):
        drawing = base64.b64decode(image["src"].split(",")[1]).decode()
        links = re.findall(r'(?:href|src)="([^"]*)"', drawing)
        assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert policy.startswith("default-src 'none'; img-src data:;")
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


def test_links_lead_somewhere_and_names_are_given_once(page):
    """Each ``#name`` is there; no two elements share one."""
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    links = [link["href"] for link in page.having("a")]

    assert len(set(names)) == len(names)
    assert all(link.startswith("#") for link in links)
    assert {link[1:] for link in links} <= set(names)


def test_figure_stands_beside_the_first_claim_without_one_others_in_the_gallery():
    """Own figures come before reproductions; a claim links to the figures that stand elsewhere."""
    ends = r'(?=<details class="card|<h3>More|</section)'
    found = re.findall(rf'<details class="card claim" id="claim-([^"]*)"(.*?){ends}', small_report(), re.DOTALL)
    claims = dict(found)
    gallery = small_report().split("<h3>More figures of memorization</h3>")[1].split("</section>")[0]

    assert 'id="figure-beside-rank"' in claims["multi-head-rank"]
    assert 'href="#figure-published"' in claims["multi-head-rank"]
    assert 'href="#figure-beside-rank"' in claims["context-length-one"]
    assert 'id="figure-published"' in gallery
    assert "figure 1 of a paper" in gallery
    assert small_report().count("<h3>More figures of") == 1


def test_figures_must_be_svg_of_the_families_shown(tmp_path):
    """Others are refused by name."""
    results = results_of_catalogue()[:1]
    figure, drawn = picture(tmp_path, "wrong", "nowhere")
    with pytest.raises(ValueError, match=r"of the family regression, got wrong\.svg of the family 'nowhere'"):
        report_page(results, [(figure, drawn)], budget=Budget.QUICK, seed=0)
    figure, drawn = picture(tmp_path, "drawn", "regression")
    with pytest.raises(ValueError, match=r"figures must be SVG, .* got drawn\.png"):
        report_page(results, [(figure, replace(drawn, files=[tmp_path / "drawn.png"]))], budget=Budget.QUICK, seed=0)


def test_excess_is_in_margins_and_one_sided_for_bounds():
    """Distance for all but bounds, which may be kept by as much as they like."""
    assert excess(verdict(Outcome.REFUTED, -0.2)) == 2.0
    assert excess(verdict(Outcome.CONSISTENT, -0.2, kind="bound for all")) == 0.0
    assert excess(verdict(Outcome.REFUTED, 0.2, kind="bound for all")) == 2.0
    assert excess(verdict(Outcome.CONSISTENT, None)) is None
    assert excess(verdict(Outcome.CONSISTENT, 0.2, margin=0.0)) is None


def test_gauge_has_the_margin_in_the_middle():
    """A mark for each case and each rival in it; three decades to either side, what is beyond at the end."""
    claim = catalogue()["multi-head-rank"]
    far, near = verdict(Outcome.REFUTED, 1e9), verdict(Outcome.REFUTED, 1.0)
    open_ = verdict(Outcome.INCONCLUSIVE, 5.0)
    cases = [
        CaseResult("one", verdict(Outcome.CONSISTENT), {"a": far, "b": far}),
        CaseResult("two", verdict(Outcome.CONSISTENT, 0.1), {"a": near, "b": open_}),
    ]
    result = ClaimResult(claim, tuple(cases), cases[0].verdict, {})

    assert [mark.place for mark in gauge(result)] == [2, 98, 98, 50, 66, 77.18]
    assert [mark.rival for mark in gauge(result)] == [False, True, True] * 2
    assert gauge(result)[4].label == "a [two]: 10 of the margin, refuted"
    assert least_refuted(result, "a") is near
    assert least_refuted(result, "b") is open_
    assert least_refuted(result, "c") is None


def test_templates_are_installed():
    """They travel with the package."""
    for name in ("page.html", "page.css", "page.js"):
        assert files("plumbline.analysis.report").joinpath(name).is_file()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Invoke a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_report_of_the_same_store_and_seed_is_the_same(run, tmp_path):
    """Two runs, the second from the store, give the same bytes; the figure of the claim is in, and nothing else."""
    pages = []
    for out in ("first", "second/folder"):
        result = run("report", "float32-stall", "multi-head-rank", "--out", out, "--jobs", 1)
        assert result.exit_code == 0, result.output
        assert [path.name for path in (tmp_path / out).iterdir()] == ["index.html"]
        pages.append((tmp_path / out / "index.html").read_bytes())

    assert pages[0] == pages[1]
    assert re.findall(rb'<figure id="([^"]*)"', pages[0]) == [b"figure-float32-departure"]
    assert b"2 of 2 claims" in pages[0]


def test_report_of_own_claims_names_the_file_without_its_folder(run, tmp_path, own_modules):
    """What is shown to others holds no folder of this machine; there are no errata of the user's family."""
    (tmp_path / "own_report.py").write_text((ROOT / "examples" / "wrong_theorem.py").read_text(encoding="utf-8"))
    result = run("report", tmp_path / "own_report.py", "--store", "none", "--jobs", 1)
    source = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")

    assert result.exit_code == 0, result.output
    assert "REFUTED" in source
    assert "plumbline check own_report.py --budget quick" in source
    assert str(tmp_path) not in source
    assert 'id="errata"' not in source


def test_errata_are_those_of_what_is_shown():
    """A family that is shown whole has all of its entries; of others what a claim or a figure on the page replays."""

    def sources(results):
        page = Page(report_page(results, [], budget=Budget.QUICK, seed=0))
        return [entry.source for entry in errata() if entry.holds in page.text]

    everything = results_of_catalogue()
    family = [result for result in everything if result.claim.family == "reasoning"]
    assert sources(family) == [entry.source for entry in errata() if entry.family == "reasoning"]
    corrected = next(result for result in family if result.claim.published)
    assert sources([corrected]) == [corrected.claim.source]
    assert sources([result for result in family if not result.claim.published][:1]) == []


def test_a_figure_that_cannot_be_computed_is_named_and_the_page_is_written(run, tmp_path, monkeypatch):
    """On the page and on the screen, with exit code 1."""

    def plan(budget, seed):
        raise ZeroDivisionError("no curve")
        yield

    claim = catalogue()["multi-head-rank"]
    broken = Figure("broken-figure", claim.family, "A caption.", "", {claim: None}, plan)
    monkeypatch.setattr(reporting, "figures", lambda: {broken.name: broken})
    result = run("report", claim.name, "--store", "none", "--jobs", 1)

    assert result.exit_code == 1
    assert "broken-figure: Traceback" in result.output
    assert "ZeroDivisionError: no curve" in result.output
    page = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    assert "Figures that could not be computed: broken-figure." in page.text
    assert claim.statement in page.text


@pytest.mark.parametrize("command", [["figure", "loss-against-depth"], ["reproduce", "rotation-adam"]])
def test_a_folder_that_cannot_be_is_bad_usage(run, tmp_path, command):
    """Before anything is computed, like that of a report."""
    (tmp_path / "taken").write_text("")
    result = run(*command, "--out", "taken")

    assert result.exit_code == 2
    assert "--out must be a folder that can be written, got taken" in result.output
    assert not (tmp_path / ".plumbline").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["multi-head-rang"], "did you mean multi-head-rank"),
        (["--family", "memorisation"], "did you mean memorization"),
        (["multi-head-rank", "--out", "taken"], "--out must be a folder that can be written, got taken"),
    ],
)
def test_bad_usage_of_report_exits_two(run, tmp_path, arguments, message):
    """Before anything is computed."""
    (tmp_path / "taken").write_text("")
    result = run("report", *arguments)

    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / ".plumbline").exists()
