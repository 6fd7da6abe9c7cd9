"""A small report for the tests: every verdict, real and hostile claims, figures beside claims and in a gallery."""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plumbline.analysis import Budget, Claim, Evidence, Family, Identity, Outcome, catalogue, check
from plumbline.analysis.drawing.data import FigureData, Number, Panel, Series
from plumbline.analysis.drawing.draw import draw
from plumbline.analysis.drawing.figure import Figure
from plumbline.analysis.drawing.make import Made
from plumbline.analysis.report import report_page

REAL = ("nonlinear-attention", "multi-head-rank", "context-length-one", "reasoning-bayes-risk")
HOSTILE = "<script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">&amp; ]]>"
OUTCOMES = {Outcome.CONSISTENT: 4, Outcome.REFUTED: 1, Outcome.INCONCLUSIVE: 1, Outcome.NOT_APPLICABLE: 1}


def own_claim(name: str, measured: float, text: str) -> Claim:
    """A claim that something is 1, in a family with a name of markup; every text that it brings is ``text``."""

    family = Family("own")
    family.name = "own <b>"  # which its own check would refuse

    @family.claim(
        rule=Identity, status="derived here", source=text, statement=text, name=name,
        rivals={text: text}, cases=lambda budget: {text: None}, conditions={text: lambda case: True},
    )  # fmt: skip
    def is_one(case: None, budget: Budget, seed: int) -> Evidence:
        if name == "breaks":
            raise ZeroDivisionError(text)
        return Evidence(Identity(1e-3, scale=1.0), measured, 1.0, [2.0], note=text)

    return is_one


def picture(folder: Path, name: str, family: str, *claims: Claim, published: str = "") -> tuple[Figure, Made]:
    """A figure as if registered, and what was drawn of it."""

    def plan(budget: Budget, seed: int) -> Generator[Any, Any, FigureData]:
        raise NotImplementedError("drawn already")
        yield

    series = [Series("theory", "theory", [1, 2], [1, 2]), Series("cloud", "cloud", range(5000), range(5000))]
    data = FigureData(f"{name} {HOSTILE}", [Panel("", series)], [f"{claim.name} [case]: …" for claim in claims])
    draw(data, folder / f"{name}.svg")
    numbers = [Number("loss", "0.5", "0.4", "0.45")] if published else []
    figure = Figure(name, family, f"Caption of {name} {HOSTILE}", published, dict.fromkeys(claims), plan)
    return figure, Made(data, numbers, [folder / f"{name}.svg"])


@cache
def small_report() -> str:
    """The page; computed once in a process."""
    with TemporaryDirectory() as folder:
        own = [own_claim("hostile", 1.0, HOSTILE), own_claim("wrong", 3.0, "three"), own_claim("breaks", 1.0, "zero")]
        known, place = catalogue(), Path(folder)
        rank, length = known["multi-head-rank"], known["context-length-one"]
        figures = [
            picture(place, "published", "memorization", rank, published="figure 1 of a paper"),
            picture(place, "beside-rank", "memorization", rank, length),
            picture(place, "beside-hostile", "own <b>", own[0]),
        ]
        results = check([*(known[name] for name in REAL), *own])
        return report_page(results, figures, budget=Budget.QUICK, seed=0)
