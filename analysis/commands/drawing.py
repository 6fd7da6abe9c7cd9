"""``plumbline figure`` and ``plumbline reproduce``: images, their tables, and published numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from plumbline.analysis.catalogue import figures
from plumbline.analysis.commands.shared import (
    DEFAULT_JOBS,
    DEFAULT_STORE,
    Bar,
    BudgetOption,
    JobsOption,
    SeedOption,
    StoreOption,
    console,
    fail,
    installed,
    make_folder,
    session,
)
from plumbline.analysis.engine.claim import Budget, unknown
from plumbline.analysis.engine.store import Store

if TYPE_CHECKING:
    from plumbline.analysis.engine.figure import Drawn, Figure


def figure_command(
    names: Annotated[list[str] | None, typer.Argument(help="Figures; all if none is named.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for images and CSV files.")] = Path("figures"),
    format: Annotated[str, typer.Option("--format", help="png, pdf or svg.")] = "png",
    budget: BudgetOption = Budget.QUICK,
    seed: SeedOption = 0,
    jobs: JobsOption = DEFAULT_JOBS,
    store: StoreOption = str(DEFAULT_STORE),
) -> None:
    """Draw theory-vs-empirics figures, each with a CSV of what it shows."""
    known = installed(figures)
    chosen = _named("figure", names or list(known), known)
    if format not in ("png", "pdf", "svg"):
        fail(f"--format must be png, pdf or svg, got {format!r}")
    make_folder(out)
    with session(store, jobs) as (kept, executor, progress):
        draw(chosen, out, format, budget, seed, kept, executor, progress)


def reproduce_command(
    names: Annotated[list[str] | None, typer.Argument(help="Published notebooks and figures; none: list them.")] = None,
    family: Annotated[str | None, typer.Option(help="All of this family.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for images and CSV files.")] = Path("reproductions"),
    budget: BudgetOption = Budget.QUICK,
    seed: SeedOption = 0,
    jobs: JobsOption = DEFAULT_JOBS,
    store: StoreOption = str(DEFAULT_STORE),
) -> None:
    """Redo published notebooks and figures: the published numbers, ours, and the exact ones.

    The paper budget has the published hyper-parameters.
    """
    known = {name: figure for name, figure in installed(figures).items() if figure.published}
    chosen = _named("reproduction", names or [], known)
    families = dict.fromkeys(figure.family for figure in known.values())
    if family is not None and family not in families:
        fail(unknown("family", family, families))
    if not names and family is None:
        table = Table()
        for column in ("reproduction", "family", "published as", "shows"):
            table.add_column(column)
        for figure in known.values():
            table.add_row(figure.name, figure.family, figure.published, figure.caption)
        console().print(table)
        return
    chosen += [figure for figure in known.values() if figure.family == family and figure not in chosen]
    make_folder(out)
    with session(store, jobs) as (kept, executor, progress):
        drawn = draw(chosen, out, "png", budget, seed, kept, executor, progress)
    for name, (data, numbers, _) in drawn.items():
        table = Table(title=f"{name}: {known[name].published}", title_justify="left", show_lines=False)
        for column in ("quantity", "published", "ours", "exact"):
            table.add_column(column)
        for number in numbers:
            table.add_row(number.quantity, number.published, number.ours, number.exact)
        console().print(table)
        for line in data.verdicts:
            typer.echo(line)


def draw(
    chosen: list[Figure], folder: Path, format: str, budget: Budget, seed: int, store: Store, executor: Any, bar: Bar
) -> dict[str, Drawn]:
    """Make figures and say which files were written; one that could not be computed ends with exit code 1."""
    from plumbline.analysis.engine.figure import FigureError, make_figures

    failed: FigureError | None = None
    try:
        written = make_figures(
            chosen, folder, budget=budget, seed=seed, format=format, store=store, executor=executor, progress=bar
        )
    except FigureError as error:
        failed, written = error, error.drawn
    finally:
        bar.stop()
    for drawn in written.values():
        image, *tables = drawn.files
        typer.echo(f"wrote {image} and {' and '.join(table.name for table in tables)}")
    if failed is not None:
        typer.echo(f"error: {failed}", err=True)
        raise typer.Exit(1)
    return written


def _named(what: str, names: list[str], known: Mapping[str, Figure]) -> list[Figure]:
    """The figures of these names, each once; a name that is not there ends with exit code 2."""
    for name in names:
        if name not in known:
            fail(unknown(what, name, known))
    return [known[name] for name in dict.fromkeys(names)]
