"""``plumbline figure`` and ``plumbline reproduce``: images, their tables, and published numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from plumbline.analysis.budget import Budget
from plumbline.analysis.catalogue import figures
from plumbline.analysis.claims.check import CaseResult
from plumbline.analysis.commands.shared import (
    DEFAULT_JOBS,
    DEFAULT_STORE,
    BudgetOption,
    JobsOption,
    SeedOption,
    StoreOption,
    console,
    fail,
    make_folder,
    quiet,
    session,
    with_models,
)
from plumbline.analysis.drawing.figure import Figure
from plumbline.analysis.drawing.make import FigureError, Made, make_figures
from plumbline.analysis.jobs.session import Session
from plumbline.analysis.names import unknown


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
    known = figures()
    chosen = _named("figure", names or list(known), known)
    if format not in ("png", "pdf", "svg"):
        fail(f"--format must be png, pdf or svg, got {format!r}")
    with_models()
    make_folder(out)
    with session(store, jobs) as opened:
        draw(chosen, out, format, budget, seed, opened)


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
    known = {name: figure for name, figure in figures().items() if figure.published}
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
    with_models()
    make_folder(out)
    with session(store, jobs) as opened:
        made = draw(chosen, out, "png", budget, seed, opened)
    for name, figure_made in made.items():
        table = Table(title=f"{name}: {known[name].published}", title_justify="left", show_lines=False)
        for column in ("quantity", "published", "ours", "exact"):
            table.add_column(column)
        for number in figure_made.numbers:
            table.add_row(number.quantity, number.published, number.ours, number.exact)
        console().print(table)
        for line in figure_made.data.verdicts:
            typer.echo(line)


def draw(
    chosen: list[Figure],
    folder: Path,
    format: str,
    budget: Budget,
    seed: int,
    opened: Session,
    judged: Mapping[str, CaseResult] | None = None,
) -> dict[str, Made]:
    """Make figures and say which files were written; one that could not be computed ends with exit code 1."""
    failed: FigureError | None = None
    try:
        made = make_figures(chosen, folder, budget=budget, seed=seed, format=format, judged=judged, session=opened)
    except FigureError as error:
        failed, made = error, error.made
    finally:
        quiet(opened)
    for figure in made.values():
        image, *tables = figure.files
        typer.echo(f"wrote {image} and {' and '.join(table.name for table in tables)}")
    if failed is not None:
        typer.echo(f"error: {failed}", err=True)
        raise typer.Exit(1)
    return made


def _named(what: str, names: list[str], known: Mapping[str, Figure]) -> list[Figure]:
    """The figures of these names, each once; a name that is not there ends with exit code 2."""
    for name in names:
        if name not in known:
            fail(unknown(what, name, known))
    return [known[name] for name in dict.fromkeys(names)]
