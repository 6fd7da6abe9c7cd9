"""Figures: what they show stands in their CSV, and every role is drawn."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from plumbline.analysis import Budget, Evidence, Family, Identity, figures, make_figures
from plumbline.analysis.drawing.data import FigureData, Number, Panel, Series
from plumbline.analysis.drawing.draw import DENSE, draw
from plumbline.analysis.drawing.tables import end_numbers, write_csv

DATA = FigureData(
    "A title",
    [
        Panel(
            "curves",
            [
                Series("theory", "theory", [1, 2], [3.0, 4.0], margin=0.1),
                Series("points", "trained", [1, 2], [3.1, 3.9], [3.0, 3.8], [3.2, 4.0]),
                Series("nothing", "trivial", [1, 2], [5.0, 5.0]),
                Series("wrong", "rival", [1, 2], [1.0, np.nan]),
                Series("other", "baseline", [1, 2], [2.0, 2.0]),
                Series("single", "theory marks", [1], [1.5]),
            ],
            xlabel="L",
            ylabel="risk",
            yscale="log",
            xticks=[1, 2],
        ),
        Panel("matrix", matrix=np.array([[1.0, 0.25], [0.0, -2.0]])),
    ],
    ["some-claim: CONSISTENT"],
)


def test_csv_holds_every_number(tmp_path):
    """Points, intervals and matrix entries, exactly."""
    write_csv(DATA, tmp_path / "figure.csv")
    with (tmp_path / "figure.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    assert {"panel": "curves", "series": "points", "role": "trained", "x": "2.0", "y": "3.9", "low": "3.8",
            "high": "4.0"} in rows  # fmt: skip
    assert {"panel": "matrix", "series": "row 0", "role": "matrix", "x": "1", "y": "0.25", "low": "",
            "high": ""} in rows  # fmt: skip
    assert len(rows) == 11 + 4


@pytest.mark.parametrize("format", ["png", "pdf", "svg"])
def test_drawing_writes_each_format(tmp_path, format):
    """The format follows the name of the file."""
    draw(DATA, tmp_path / f"figure.{format}")

    head = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[format]
    assert (tmp_path / f"figure.{format}").read_bytes().startswith(head)


def test_svg_names_title_labels_series_and_verdict(tmp_path):
    """What a reader needs is in the picture: text stays text in SVG."""
    draw(DATA, tmp_path / "figure.svg")
    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")

    for words in ("A title", "some-claim: CONSISTENT", "risk", "points", "wrong", "curves", "matrix"):
        assert words in text


def test_a_panel_can_leave_the_legend_to_another(tmp_path):
    """Without its legend a panel's series have no names in the picture, but keep them in the table."""
    panel = Panel("", [Series("unnamed", "trained", [1, 2], [3.0, 4.0])], legend=False)
    draw(FigureData("A title", [panel]), tmp_path / "figure.svg")
    write_csv(FigureData("A title", [panel]), tmp_path / "figure.csv")

    assert "unnamed" not in (tmp_path / "figure.svg").read_text(encoding="utf-8")
    assert "unnamed" in (tmp_path / "figure.csv").read_text(encoding="utf-8")


def test_end_numbers_stand_beside_the_theory_of_their_colour():
    """The last point with its interval; theory of the same group, interpolated where its points lie elsewhere."""
    series = [
        Series("a: exact", "theory", [0, 4], [0.0, 8.0]),
        Series("a: trained", "trained", [1, 3], [2.5, 6.5], [2, 6], [3, 7]),
        Series("b: trained", "trained", [1, 3, 5], [1.0, 2.0, np.nan]),  # the last there is
        Series("d: trained", "trained", [1, 3], [np.nan, np.nan]),
        Series("c", "rival", [1, 3], [9.0, 9.0]),
    ]
    data = FigureData("A title", [Panel("left", series, ylabel="risk")])
    assert end_numbers(data) == [
        Number("left: risk, a: trained, at 3", "plotted only", "6.5 (6 … 7)", "6 (exact)"),
        Number("left: risk, b: trained, at 3", "plotted only", "2", ""),
    ]


def test_a_cloud_is_points_however_many(tmp_path):
    """Unordered points are not joined by a line; the svg has a marker for each and no path through them."""
    x = np.arange(40.0)
    sizes = []
    for role in ("cloud", "trained"):
        draw(FigureData("A title", [Panel("", [Series("points", role, x, x % 7)])]), tmp_path / "figure.svg")
        sizes.append((tmp_path / "figure.svg").read_text(encoding="utf-8").count("<use "))

    assert sizes[0] >= sizes[1] + 40


def test_svg_and_pdf_are_the_same_every_time(tmp_path):
    """No date, no random names inside."""
    for format in ("svg", "pdf"):
        paths = [tmp_path / f"{name}.{format}" for name in ("first", "second")]
        for path in paths:
            draw(DATA, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert b"CreationDate" not in paths[0].read_bytes()  # which has the seconds only


@pytest.mark.parametrize("name", figures())
def test_figure_shows_verdicts_of_cases_that_its_claims_have(name):
    """A label that no budget knows would leave the verdict out in silence."""
    figure = figures()[name]
    for claim, drawn in figure.claims.items():
        labels = {label for budget in Budget for label in claim.cases(budget)}
        for budget in Budget:
            named = drawn(budget) if callable(drawn) else drawn
            assert {named} - {None} <= labels if named is None or isinstance(named, str) else set(named) <= labels


@pytest.mark.parametrize(("points", "images"), [(DENSE, 0), (DENSE + 1, 1)])
def test_dense_cloud_is_an_image_inside_svg(tmp_path, points, images):
    """So that the file does not grow with the number of points."""
    cloud = Series("cloud", "cloud", np.arange(points), np.arange(points))
    draw(FigureData("", [Panel("", [cloud])]), tmp_path / "cloud.svg")

    assert (tmp_path / "cloud.svg").read_text(encoding="utf-8").count("data:image/png;base64,") == images


def test_a_figure_does_not_take_the_name_of_another():
    """It would replace it in silence."""
    family = Family("own")
    family.figure(caption="One.", name="loss")(lambda budget, seed: None)
    with pytest.raises(ValueError, match="name must be new, got 'loss', which is registered already"):
        family.figure(caption="Another.", name="loss")(lambda budget, seed: None)


def test_verdict_under_the_title_is_that_of_the_case_that_is_drawn(tmp_path):
    """Of the two cases of a claim the one that the figure names, with the verdict that `check` gives it."""
    family = Family("own")

    @family.claim(
        statement="Two is even.", source="known", rule=Identity, status="derived here", rivals={"odd": "it is odd"},
        cases=lambda budget: {"two": 0.0, "three": 1.0},
    )  # fmt: skip
    def even(case, budget, seed):
        return Evidence(Identity(1e-9), [case], [0.0], [[2.0]])

    @family.figure(caption="Rests.", claims={even: "three"})
    def rests(budget, seed):
        return FigureData("Rests", [Panel("", [Series("rest", "theory", [2, 3], [0, 1])])])
        yield

    made = make_figures([rests], tmp_path, format="svg")["rests"]

    assert made.data.verdicts == ["claim even, case three: REFUTED"]
    assert "claim even, case three: REFUTED" in made.files[0].read_text(encoding="utf-8")
