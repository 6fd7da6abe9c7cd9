"""Figures: a data function and one way of drawing, so that theory and empirics look the same everywhere."""

from __future__ import annotations

import csv
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from dataclasses import astuple, dataclass, field, fields
from itertools import cycle
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from plumbline.analysis.engine.claim import Budget, Claim
from plumbline.analysis.engine.files import replacing
from plumbline.analysis.engine.phase import Phase, draw_phase
from plumbline.analysis.engine.store import Store
from plumbline.analysis.engine.sweep import Progress, drive
from plumbline.analysis.engine.verdict import Verdict

STYLE = Path(__file__).with_name("plumbline.mplstyle")
UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Metadata by format: the same numbers give the same file on every day."""
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
    """All numbers of a figure; `verdicts` stand under its title.

    `numbers` stand in the table of a reproduction; left out, they are where the trained series end.
    """

    title: str
    panels: Sequence[Panel]
    verdicts: Sequence[str] = ()
    columns: int | None = None
    numbers: Sequence[Number] = ()


@dataclass(frozen=True, eq=False)
class Figure:
    """A registered figure: its plan yields jobs like a claim's and returns `FigureData`.

    Where it reproduces a published figure or notebook, ``published`` says which. ``claims`` are those whose
    prediction and measurement it shows, the nearest first.
    """

    name: str
    family: str
    caption: str
    published: str
    claims: tuple[Claim, ...]
    plan: Callable[[Budget, int], Generator[Any, Any, FigureData]] = field(repr=False)


DENSE = 2000
"""A cloud of more points is an image inside SVG and PDF, which would else hold each of them."""
MANY = 8
"""With so many series in a panel, or the same ones in most, one legend stands below, where it covers nothing."""


class FigureError(RuntimeError):
    """Figures that could not be computed.

    Attributes:
        names: Theirs.
        drawn: The others, by name.
    """

    def __init__(self, failures: dict[str, str], drawn: dict[str, Drawn]) -> None:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in failures.items())
        super().__init__(f"figures that could not be computed: {reasons}")
        self.names, self.drawn = list(failures), drawn


class Drawn(NamedTuple):
    """What a figure shows, its numbers beside published ones, and the files it was written to."""

    data: FigureData
    numbers: list[Number]
    files: list[Path]


_FIGURES: dict[str, Figure] = {}


def figure(
    *, family: str, caption: str, published: str = "", claims: Sequence[Claim] = (), name: str | None = None
) -> Callable[[Callable[..., Any]], Figure]:
    """Register the decorated plan (budget, seed) -> `FigureData` as a figure."""

    def register(function: Callable[..., Any]) -> Figure:
        own_name = name or function.__name__.replace("_", "-")
        if own_name in _FIGURES:
            raise ValueError(f"name must be new, got {own_name!r}, which is registered already")
        _FIGURES[own_name] = Figure(own_name, family, caption, published, tuple(claims), function)
        return _FIGURES[own_name]

    return register


def figure_registry() -> dict[str, Figure]:
    """All figures by name."""
    return dict(_FIGURES)


def verdict_line(claim: Claim, label: str, budget: Budget, seed: int) -> Generator[Any, Any, str]:
    """Judge one case of a claim inside a figure's plan; the jobs are the ones `check` runs."""
    evidence = yield from claim.plan(claim.cases(budget)[label], budget, seed)
    verdict: Verdict = evidence.rule.judge(evidence.measured, evidence.predicted, alpha_refute=1e-5, alpha_confirm=1e-2)
    return f"claim {claim.name}, case {label}: {verdict.outcome.upper()}"


def make_figures(
    chosen: Sequence[Figure],
    folder: Path,
    *,
    budget: Budget = Budget.QUICK,
    seed: int = 0,
    format: str = "png",
    store: Store,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> dict[str, Drawn]:
    """Compute and draw figures; each is written as an image and a CSV of everything it shows.

    A figure that reproduces a published one writes its numbers to a second CSV.

    Returns:
        What was drawn by figure name.

    Raises:
        FigureError: if a figure could not be computed or drawn; the others are written first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = drive(
        {figure.name: figure.plan(budget, seed) for figure in chosen},
        store=store,
        executor=executor,
        progress=progress,
    )
    known = {figure.name: figure for figure in chosen}
    written: dict[str, Drawn] = {}
    failures: dict[str, str] = {}
    for name, end in finished.items():
        if end.error is not None:
            failures[name] = end.error.traceback or end.error.message
            continue
        try:
            written[name] = _write(known[name], end.value, folder, format)
        except (OSError, MemoryError):  # these are not of the figure
            raise
        except Exception:  # after hours of training the others are to be drawn all the same
            failures[name] = traceback.format_exc()
    if failures:
        raise FigureError(failures, written)
    return written


def _write(figure: Figure, data: FigureData, folder: Path, format: str) -> Drawn:
    """Write the image and the tables."""
    image, table = folder / f"{figure.name}.{format}", folder / f"{figure.name}.csv"
    write_csv(data, table)
    draw(data, image)
    files = [image, table]
    numbers: list[Number] = []
    if figure.published:
        numbers = list(data.numbers) or end_numbers(data)
        files.append(folder / f"{figure.name}.numbers.csv")
        write_numbers(numbers, files[-1])
    return Drawn(data, numbers, files)


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


def draw(data: FigureData, path: Path) -> None:
    """Draw the panels in a row or grid and save them; the format follows the name."""
    # The object interface throughout: no global state, no display, safe in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    columns = data.columns or len(data.panels)
    rows = -(-len(data.panels) // columns)
    with mpl.rc_context(fname=STYLE):
        single = len(data.panels) == 1
        counts = [len(panel.series) for panel in data.panels if panel.legend]
        labels = {series.label for panel in data.panels if panel.legend for series in panel.series}
        below = max(counts, default=0) >= MANY or (len(labels) > 0 and sum(counts) >= 2 * len(labels))
        column = 4.6 if any(panel.phase for panel in data.panels) else 3.5  # colour bars need room
        width, height = column * columns + 0.6, 3.1 * rows + 0.6 + below * 0.05 * len(labels)
        canvas = Canvas(figsize=(6.4, 5.0) if single else (width, height))
        FigureCanvasAgg(canvas)
        axes = canvas.subplots(rows, columns, squeeze=False).ravel()
        handles: dict[str, Any] = {}
        for ax, panel in zip(axes, data.panels, strict=False):
            if panel.matrix is not None:
                _draw_matrix(ax, panel)
                continue
            if panel.phase is not None:
                ax.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel)
                draw_phase(ax, panel.phase, xscale=panel.xscale, yscale=panel.yscale, legend=panel.legend)
                continue
            _draw_series(ax, panel, _colours(data.panels if below else [panel]))
            if panel.series and panel.legend:
                found, names = ax.get_legend_handles_labels()
                handles |= dict(zip(names, found, strict=True))
                if not below:
                    ax.legend(fontsize=6.5)
        for ax in axes[len(data.panels) :]:
            ax.set_visible(False)
        if below:
            canvas.legend(list(handles.values()), list(handles), fontsize=6.5, ncols=3, loc="outside lower center")
        canvas.suptitle("\n".join([data.title, *data.verdicts]), fontsize=9)
        with replacing(path) as partial:
            canvas.savefig(partial, metadata=UNDATED.get(path.suffix))


def _draw_matrix(ax: Any, panel: Panel) -> None:
    matrix = panel.matrix
    assert matrix is not None
    limit = panel.limit or float(np.abs(matrix).max()) or 1.0
    image = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_title(panel.title)
    ax.set_xticks(range(matrix.shape[1]), [str(i + 1) for i in range(matrix.shape[1])])
    ax.set_yticks(range(matrix.shape[0]), [str(i + 1) for i in range(matrix.shape[0])])
    ax.grid(visible=False)
    for (row, column), entry in np.ndenumerate(matrix):
        dark = abs(entry) > 0.6 * limit
        ax.text(column, row, f"{entry:.2f}", ha="center", va="center", fontsize=6, color="white" if dark else "black")
    ax.figure.colorbar(image, ax=ax, shrink=0.8)


def _colours(panels: Sequence[Panel]) -> dict[str, str]:
    """A colour for each group of series: what stands before the colon of their labels."""
    colours = mpl.rcParams["axes.prop_cycle"].by_key()["color"]
    shown = [series for panel in panels for series in panel.series]
    groups = [s.label.split(":")[0] for s in shown if not s.role.startswith(("rival", "trivial"))]
    return {group: colours[i % len(colours)] for i, group in enumerate(dict.fromkeys(groups))}


def _draw_series(ax: Any, panel: Panel, colours: dict[str, str]) -> None:
    styles = cycle(("-", ":", "-.", "--"))  # of rivals, which are all grey
    for series in panel.series:
        color = colours.get(series.label.split(":")[0], "0.6")
        x, y = np.asarray(series.x, float), np.asarray(series.y, float)
        if series.role == "trivial":
            ax.plot(x, y, "--", color="black", lw=1, label=series.label, zorder=1)
        elif series.role == "rival":
            style, marker = next(styles), "x" if len(x) < 30 else ""
            ax.plot(x, y, style, color="0.6", lw=1.2, marker=marker, ms=4, label=series.label, zorder=1)
        elif series.role.endswith("marks"):
            color = "0.6" if series.role.startswith("rival") else color
            ax.plot(x, y, "_", ms=16, mew=1.8, color=color, label=series.label, zorder=2)
        elif series.role in ("theory", "baseline"):
            width = 1.8 if series.role == "theory" else 1.1
            ax.plot(x, y, "-", color=color, lw=width, label=series.label, zorder=2)
            if series.margin:
                ax.fill_between(x, y * (1 - series.margin), y * (1 + series.margin), color=color, alpha=0.2, lw=0)
            if series.low is not None:
                ax.fill_between(x, series.low, series.high, color=color, alpha=0.2, lw=0)
        elif series.role == "cloud":
            dense = len(x) > DENSE
            ax.plot(x, y, ".", color=color, ms=3, alpha=0.5, mew=0, label=series.label, zorder=3, rasterized=dense)
        elif len(x) > 30:
            ax.plot(x, y, "-", color=color, lw=0.9, alpha=0.9, label=series.label, zorder=3)
            if series.low is not None:
                ax.fill_between(x, series.low, series.high, color=color, alpha=0.2, lw=0, zorder=2)
        else:
            error = None if series.low is None else [y - series.low, np.asarray(series.high) - y]
            ax.errorbar(x, y, yerr=error, fmt="o", ms=4, color=color, capsize=2, label=series.label, zorder=3)
    ax.set(title=panel.title, xlabel=panel.xlabel, ylabel=panel.ylabel, xscale=panel.xscale, yscale=panel.yscale)
    if panel.xticks is not None:
        ax.set_xticks(panel.xticks, [f"{tick:g}" for tick in panel.xticks])
        ax.xaxis.minorticks_off()
    low, high = ax.get_ylim()
    if panel.yscale == "log" and high < 300 * low:  # too few powers of ten to read the axis by
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
