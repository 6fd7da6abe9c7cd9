"""Phase diagrams: cells, contour lines, their table, and the three of the families."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from plumbline.analysis import Budget, Store, figures
from plumbline.analysis.drawing.data import FigureData, Panel
from plumbline.analysis.drawing.draw import draw
from plumbline.analysis.drawing.phase import Phase, edges
from plumbline.analysis.drawing.tables import write_csv
from plumbline.analysis.jobs.scheduler import drive
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.sweeps.sweep import plan_sweep
from tests.analysis.jobs.sweep_for_tests import THROW

X, Y, FINE = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0]), np.linspace(0.5, 6.0, 30)
PHASE = Phase(
    label="product",
    x=X,
    y=Y,
    measured=np.outer(Y, X),
    theory_x=FINE,
    theory_y=FINE,
    theory=np.outer(FINE, FINE),
    levels=[2.0, 4.0],
    theory_label="x times y",
    line=6.0,
    line_label="six",
)
DATA = FigureData(
    "A title", [Panel("", phase=PHASE, xlabel="across", ylabel="up", xscale="log")], ["claim: CONSISTENT"]
)


@pytest.mark.parametrize(
    ("centres", "scale", "borders"),
    [
        ([1, 2, 4], "log", [2**-0.5, 2**0.5, 2**1.5, 2**2.5]),
        ([1, 2, 4], "linear", [0.5, 1.5, 3, 5]),
        ([3], "linear", [2.5, 3.5]),
        ([3], "log", [3 * np.exp(-0.5), 3 * np.exp(0.5)]),
    ],
)
def test_borders_lie_halfway(centres, scale, borders):
    """On the axis as it is scaled; a single cell has a width too."""
    assert edges(centres, scale) == pytest.approx(borders, rel=1e-12)


def test_csv_holds_every_cell_and_every_prediction(tmp_path):
    """Series name their y."""
    write_csv(DATA, tmp_path / "figure.csv")
    with (tmp_path / "figure.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    assert len(rows) == 6 + 900
    found = {(row["series"], row["role"], float(row["x"])): float(row["y"]) for row in rows}
    assert found["measured, y=2", "trained", 4.0] == 8.0
    assert found["predicted, y=0.5", "theory", 6.0] == 3.0


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_drawing_names_what_is_seen(tmp_path, scale):
    """Lines with their values, both kinds in the legend, the colour bar with what was measured."""
    panel = replace(DATA.panels[0], phase=replace(PHASE, scale=scale))
    draw(replace(DATA, panels=[panel, replace(panel, legend=False)]), tmp_path / "figure.svg")

    text = (tmp_path / "figure.svg").read_text(encoding="utf-8")
    for word in ("x times y", "six", "across", "up", "product, measured", "A title", "claim: CONSISTENT"):
        assert f">{word}</text>" in text, word
    assert text.count(">x times y</text>") == 1  # the second panel has no legend of its own
    assert text.count(">4</text>") >= 2 * 3  # a line, a tick and the colour bar, in both


def test_shapes_must_fit():
    """The parameter and the shape it must have."""
    with pytest.raises(ValueError, match=r"measured must have shape \(2, 3\), got shape \(3, 2\)"):
        replace(PHASE, measured=PHASE.measured.T)
    with pytest.raises(ValueError, match=r"theory must have shape \(30, 30\)"):
        replace(PHASE, theory=PHASE.measured)


def test_a_sweep_inside_a_plan(tmp_path):
    """The same table as run alone; its statistics over two keys, and what they refuse."""
    sweep = plan_sweep(THROW, {"size": [3, 1], "level": [0.0, 0.5], "log": str(tmp_path / "log")}, seeds=3)

    def plan():
        return (yield from sweep.within())

    with Store(None) as store:
        table = drive({"plan": plan()}, session=Session(store))["plan"].value
        alone = sweep.run(Session(store))
    rows = list(alone.rows())
    assert list(table.rows()) == rows
    over = table.over("level", "size", "measured", max)
    assert over.shape == (2, 2)
    assert over[0, 1] == max(row["measured"] for row in rows if (row["size"], row["level"]) == (1, 0.5))
    bad = plan_sweep(THROW, {"fault": "raise", "bad": 1, "log": str(tmp_path / "log")})
    with (
        Store(None) as store,
        pytest.raises(ValueError, match=r"every run must have a value of measured, got .*told to"),
    ):
        bad.run(Session(store)).over("level", "size", "measured", max)


@pytest.mark.parametrize(
    ("name", "margin"), [("excess-phases", 0.02), ("risk-phases", 0.002), ("storage-phases", 1e-12)]
)
def test_measured_colours_are_those_of_the_theory(name, margin):
    """Of the three families' diagrams, cell by cell; where training only has a bound, above it."""
    with Store(None) as store:
        finished = drive({name: figures()[name].plan(Budget.QUICK, 0)}, session=Session(store))[name]
    assert finished.error is None
    first, *rest = finished.value.panels
    for panel in (first, *rest):
        phase = panel.phase
        at = [[_nearest(phase, x, y) for x in phase.x] for y in phase.y]
        gap = phase.measured - np.array(at)
        assert gap.min() > -margin
        assert panel is not first or np.abs(gap).max() < margin


def _nearest(phase, x, y):
    """Theory, interpolated along x; y is one of its rows, or interpolated too."""
    columns = [np.interp(x, phase.theory_x, row) for row in phase.theory]
    return np.interp(y, phase.theory_y, columns)
