"""What a figure shows, as numbers: series, panels, and what was published beside ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from plumbline.analysis.drawing.phase import Phase

Role = Literal["theory", "trained", "cloud", "baseline", "trivial", "rival", "theory marks", "rival marks"]


@dataclass(frozen=True, eq=False)
class Series:
    """One line or set of points.

    Roles: ``"theory"`` a line, with a band from low to high where these are given; ``"trained"`` points (a line where
    there are many) with intervals; ``"cloud"`` unordered points, however many; ``"baseline"`` a thinner line of theory
    for another method; ``"trivial"`` dashed; ``"rival"`` grey; the two with ``marks`` single values instead of a line.
    Series whose labels agree up to a colon share a colour.
    """

    label: str
    role: Role
    x: Any
    y: Any
    low: Any = None
    high: Any = None
    margin: float | None = None
    """Relative margin of the theory, drawn as a band."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Series over common axes, a matrix shown as a heat map, or a phase diagram."""

    title: str
    series: Sequence[Series] = ()
    xlabel: str = ""
    ylabel: str = ""
    xscale: Literal["linear", "log"] = "linear"
    yscale: Literal["linear", "log"] = "linear"
    matrix: np.ndarray | None = None
    limit: float | None = None
    """Colour scale of a heat map, −limit … limit."""
    phase: Phase | None = None
    xticks: Sequence[float] | None = None
    legend: bool = True
    """False where another panel's legend, with the same colours, explains this one too."""


@dataclass(frozen=True)
class Number:
    """A published number, ours, and the exact one: as text, each with its interval or how it was obtained."""

    quantity: str
    published: str
    ours: str
    exact: str = ""


@dataclass(frozen=True, eq=False)
class FigureData:
    """All numbers of a figure; the verdicts of its claims, which stand under the title, are added when it is made.

    `numbers` stand in the table of a reproduction; left out, they are where the trained series end.
    """

    title: str
    panels: Sequence[Panel]
    verdicts: Sequence[str] = ()
    columns: int | None = None
    numbers: Sequence[Number] = ()


def mean_spread(values: Any, axis: int = -1) -> dict[str, Any]:
    """Mean over runs with lowest and highest, as points of a series."""
    values = np.asarray(values, dtype=float)
    low, high = values.min(axis), values.max(axis)
    # The mean of equal numbers may be off by one rounding.
    return {"y": np.clip(values.mean(axis), low, high), "low": low, "high": high}


def median_spread(values: Any) -> dict[str, Any]:
    """Median over runs with lowest and highest, as points of a series; values (points, runs)."""
    values = np.asarray(values)
    return {"y": np.median(values, axis=1), "low": values.min(axis=1), "high": values.max(axis=1)}
