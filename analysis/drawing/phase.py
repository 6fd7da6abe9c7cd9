"""Phase diagrams: what was measured as colour over two axes, theory as contour lines of the same quantity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from plumbline.theory import checks


@dataclass(frozen=True, eq=False)
class Phase:
    """A quantity over two axes, measured at a few points and predicted on a finer grid.

    Args:
        label: What it is, at the colour bar.
        x, y: Where it was measured, ascending.
        measured: (len(y), len(x)).
        theory_x, theory_y: Where it is predicted, ascending.
        theory: (len(theory_y), len(theory_x)).
        levels: Values of the contour lines, ascending.
        theory_label: What the contour lines are.
        line: A value of the theory with a thick line, above all levels; ``None``: there is none.
        line_label: What the thick line is.
        scale: On which the theory is interpolated between its points.

    Raises:
        ValueError: if shapes do not fit.
    """

    label: str
    x: Any
    y: Any
    measured: np.ndarray
    theory_x: Any
    theory_y: Any
    theory: np.ndarray
    levels: Sequence[float]
    theory_label: str = "theory"
    line: float | None = None
    line_label: str = ""
    scale: Literal["linear", "log"] = "linear"

    def __post_init__(self) -> None:
        checks.array("measured", self.measured, (len(self.y), len(self.x)))
        checks.array("theory", self.theory, (len(self.theory_y), len(self.theory_x)))

    def rows(self) -> Iterator[tuple[str, str, float, float]]:
        """Series, role, x and value of every point, for the CSV; the series says which y."""
        for name, role, xs, ys, values in (
            ("measured", "trained", self.x, self.y, self.measured),
            ("predicted", "theory", self.theory_x, self.theory_y, self.theory),
        ):
            for y, row in zip(ys, values, strict=True):
                for x, value in zip(xs, row, strict=True):
                    yield f"{name}, y={float(y):.12g}", role, float(x), float(value)


def draw_phase(ax: Any, phase: Phase, *, xscale: str, yscale: str, legend: bool) -> None:
    """Draw cells around the measured points in bands of colour between the levels, and the contour lines at the levels.

    Where theory holds, the colour changes at the lines, up to the size of a cell.
    """
    import matplotlib as mpl
    from matplotlib.colors import BoundaryNorm
    from matplotlib.lines import Line2D

    xs, ys = edges(phase.x, xscale), edges(phase.y, yscale)
    borders = [*phase.levels, *([] if phase.line is None else [phase.line])]
    bands = mpl.colormaps["cividis"].resampled(len(borders) + 1)
    norm = BoundaryNorm(borders, bands.N, extend="both")
    cells = ax.pcolormesh(xs, ys, phase.measured, cmap=bands, norm=norm, edgecolors="white", linewidth=0.4)
    ax.set(xscale=xscale, yscale=yscale, xlim=(xs[0], xs[-1]), ylim=(ys[0], ys[-1]))
    ax.set_xticks(phase.x, [f"{tick:g}" for tick in phase.x])
    ax.set_yticks(phase.y, [f"{tick:g}" for tick in phase.y])
    ax.minorticks_off()
    ax.grid(visible=False)
    # Between its points the theory is interpolated as the colours are scaled.
    scaled = np.log if phase.scale == "log" else np.asarray
    theory, colour = (phase.theory_x, phase.theory_y, scaled(phase.theory)), "#D55E00"
    lines = ax.contour(*theory, levels=scaled(phase.levels), colors=colour, linewidths=1.2, linestyles="solid")
    for level, parts in zip(phase.levels, lines.allsegs, strict=True):
        _label(ax, f"{level:g}", np.concatenate([np.zeros((0, 2)), *parts]))
    handles = [Line2D([], [], color=colour, lw=1.2, label=phase.theory_label)]
    if phase.line is not None:
        ax.contour(*theory, levels=[scaled(phase.line)], colors=colour, linewidths=3.0, linestyles="solid")
        handles.append(Line2D([], [], color=colour, lw=3.0, label=phase.line_label))
    ax.figure.colorbar(cells, ax=ax, label=f"{phase.label}, measured", ticks=borders, format="%g")
    if legend:
        ax.figure.legend(handles=handles, fontsize=7, ncols=len(handles), loc="outside lower center")


def _label(ax: Any, text: str, line: np.ndarray) -> None:
    """Write the value of a line where it comes nearest to the middle of the axes."""
    places = ax.transAxes.inverted().transform(ax.transData.transform(line))
    inside = places[((places > 0.03) & (places < 0.97)).all(axis=1)]
    if len(inside):
        x, y = inside[np.argmin(np.square(inside - 0.5).sum(axis=1))]
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85}
        ax.text(x, y, text, transform=ax.transAxes, fontsize=7, ha="center", va="center", bbox=box)


def edges(centres: Any, scale: str) -> np.ndarray:
    """The borders of cells around ascending centres, halfway between them on the axis.

    Example:
        >>> edges([1, 2, 4], "log").round(3).tolist()
        [0.707, 1.414, 2.828, 5.657]
    """
    points = np.log(centres) if scale == "log" else np.asarray(centres, float)
    if len(points) == 1:
        points = np.array([points[0] - 0.5, points[0] + 0.5])
        return np.exp(points) if scale == "log" else points
    middle = (points[1:] + points[:-1]) / 2
    full = np.concatenate([[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]])
    return np.exp(full) if scale == "log" else full
