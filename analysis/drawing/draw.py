"""One way of drawing, so that theory and empirics look the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from plumbline.analysis.drawing.data import FigureData, Panel
from plumbline.analysis.drawing.phase import draw_phase
from plumbline.analysis.files import replacing

STYLE = Path(__file__).with_name("plumbline.mplstyle")
UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""Metadata by format: the same numbers give the same file on every day."""
DENSE = 2000
"""A cloud of more points is an image inside SVG and PDF, which would else hold each of them."""
MANY = 8
"""With so many series in a panel, or the same ones in most, one legend stands below, where it covers nothing."""


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
