"""The numbers of a figure as files: everything it shows, and what was published beside ours."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path

import numpy as np

from plumbline.analysis.drawing.data import FigureData, Number
from plumbline.analysis.files import replacing


def end_numbers(data: FigureData) -> list[Number]:
    """The last number of each trained series of a figure, beside the theory drawn in its colour."""
    numbers = []
    for panel in data.panels:
        lines = {s.label.split(":")[0]: s for s in panel.series if s.role in ("theory", "baseline")}
        for series in panel.series:
            there = np.flatnonzero(np.isfinite(np.asarray(series.y, float)))
            if series.role != "trained" or not len(there):
                continue
            last, x = there[-1], series.x[there[-1]]
            end = f"{series.y[last]:.4g}"
            if series.low is not None:
                end += f" ({series.low[last]:.4g} … {series.high[last]:.4g})"
            exact, line = "", lines.get(series.label.split(":")[0])
            if line is not None and min(line.x) <= x <= max(line.x):
                exact = f"{np.interp(x, line.x, line.y):.4g} ({line.label.split(': ')[-1]})"
            place = f"{panel.title}: " if panel.title else ""
            numbers.append(Number(f"{place}{panel.ylabel}, {series.label}, at {x:g}", "plotted only", end, exact))
    return numbers


def write_csv(data: FigureData, path: Path) -> None:
    """Everything the figure shows, one point or matrix entry a line."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["panel", "series", "role", "x", "y", "low", "high"])
        for panel in data.panels:
            if panel.matrix is not None:
                for (row, column), entry in np.ndenumerate(panel.matrix):
                    writer.writerow([panel.title, f"row {row}", "matrix", column, repr(float(entry)), "", ""])
            if panel.phase is not None:
                for name, role, place, value in panel.phase.rows():
                    writer.writerow([panel.title, name, role, repr(place), repr(value), "", ""])
            for series in panel.series:
                x, y = np.asarray(series.x, float), np.asarray(series.y, float)
                low = np.full(len(x), np.nan) if series.low is None else np.asarray(series.low, float)
                high = np.full(len(x), np.nan) if series.high is None else np.asarray(series.high, float)
                for point in zip(x, y, low, high, strict=True):
                    numbers = ["" if np.isnan(value) else repr(float(value)) for value in point]
                    writer.writerow([panel.title, series.label, series.role, *numbers])


def write_numbers(numbers: Sequence[Number], path: Path) -> None:
    """The published numbers, ours and the exact ones, one a line."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in fields(Number)])
        writer.writerows(astuple(number) for number in numbers)
