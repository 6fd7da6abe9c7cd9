"""``plumbline report``: the catalogue, its verdicts, figures and errata as one static page."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from plumbline.analysis.budget import Budget
from plumbline.analysis.catalogue import figures
from plumbline.analysis.claims.check import case_key, check
from plumbline.analysis.commands.shared import (
    DEFAULT_JOBS,
    DEFAULT_STORE,
    BudgetOption,
    JobsOption,
    SeedOption,
    StoreOption,
    chosen_claims,
    make_folder,
    session,
    with_models,
)
from plumbline.analysis.drawing.make import FigureError, make_figures
from plumbline.analysis.files import replacing


def report_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Claims, or Python files with claims of yours; none: all.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html.")] = Path("report"),
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    budget: BudgetOption = Budget.QUICK,
    seed: SeedOption = 0,
    jobs: JobsOption = DEFAULT_JOBS,
    store: StoreOption = str(DEFAULT_STORE),
) -> None:
    """Write one page with verdicts, evidence, figures and errata, that opens from disk and needs no network.

    With names, figures and errata are those of the named claims. Exit code 0 whatever the verdicts: `check` is for
    that; 1 if a figure could not be computed, which the page then says.
    """
    from plumbline.analysis.report import report_page

    chosen = chosen_claims(names or [], family)
    with_models()
    make_folder(out)
    families = {claim.family for claim in chosen} if not names else set()
    known = {
        name: figure
        for name, figure in figures().items()
        if figure.family in families or set(figure.claims) & set(chosen)
    }
    failed: FigureError | None = None
    with session(store, jobs) as opened, TemporaryDirectory() as folder:
        results = check(chosen, budget=budget, seed=seed, session=opened)
        judged = {case_key(result.claim, case.label): case for result in results for case in result.cases}
        try:
            made = make_figures(
                list(known.values()), Path(folder), format="svg", budget=budget, seed=seed, judged=judged,
                session=opened,
            )  # fmt: skip
        except FigureError as error:
            failed, made = error, error.made
        pictures = [(known[name], what) for name, what in made.items()]
        missing = [] if failed is None else failed.names
        page = report_page(results, pictures, missing=missing, budget=budget, seed=seed)
        with replacing(out / "index.html") as partial:
            partial.write_text(page, encoding="utf-8")
    typer.echo(f"wrote {out / 'index.html'}")
    if failed is not None:
        typer.echo(f"error: {failed}", err=True)
        raise typer.Exit(1)
