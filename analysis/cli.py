"""The command line: ``plumbline claims | check | figure | reproduce | errata | bound``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from analysis import calculators
from analysis.catalogue import MissingExtra, catalogue, catalogue_markdown, figures
from analysis.engine.check import ClaimResult, check, replay_command, write_witnesses
from analysis.engine.claim import Budget, Claim, select, unknown
from analysis.engine.executors import process_pool
from analysis.engine.store import Store, StoreError
from analysis.engine.verdict import Outcome
from analysis.own_claims import load_claims

if TYPE_CHECKING:
    from analysis.engine.figure import Drawn, Figure

app = typer.Typer(
    name="plumbline",
    help="Hold trained transformers against the theorems about them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
bound_app = typer.Typer(no_args_is_help=True, help="Every calculator at the shell; `plumbline bound NAME --help`.")
app.add_typer(bound_app, name="bound")
for _name, _function in calculators.calculators().items():
    bound_app.command(_name, rich_help_panel=_function.__module__.split(".")[1])(calculators.command(_function))

DEFAULT_STORE = Path(".plumbline") / "store.sqlite"
INTERRUPTED = 130
COLOURS = {
    Outcome.CONSISTENT: "green",
    Outcome.REFUTED: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NOT_APPLICABLE: "dim",
}

BudgetOption = Annotated[Budget, typer.Option("--budget", help="quick: seconds; standard: minutes; paper: full size.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="All randomness derives from it.")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Worker processes; 1 runs in this process.")]
# Beyond four, starting a worker (it imports torch) costs more than the catalogue's jobs are worth.
DEFAULT_JOBS = min(os.cpu_count() or 1, 4)
StoreOption = Annotated[str, typer.Option("--store", help="SQLite file of results; 'none' keeps nothing.")]


def main() -> None:
    """Entry point of the console command."""
    app()


@app.command("claims")
def claims_command(
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the whole catalogue as docs/claims.md.")] = False,
) -> None:
    """List the catalogue of claims."""
    if markdown:
        typer.echo(_installed(catalogue_markdown), nl=False)
        return
    chosen = _usage(lambda: select(list(_catalogue()), family))
    if as_json:
        rows = [
            {"name": c.name, "family": c.family, "kind": c.kind, "status": c.status, "statement": c.statement,
             "source": c.source, "rivals": dict(c.rivals), "conditions": list(c.conditions)}
            for c in chosen
        ]  # fmt: skip
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    table = Table(show_lines=True)
    for column in ("claim", "kind", "status", "statement", "rivals"):
        table.add_column(column)
    for claim in chosen:
        table.add_row(claim.name, claim.kind, claim.status, claim.statement, "\n".join(claim.rivals))
    _console().print(table)


@app.command("check")
def check_command(
    names: Annotated[
        list[str] | None, typer.Argument(help="Claims, or Python files with claims of yours; none: all.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    budget: BudgetOption = Budget.QUICK,
    seed: SeedOption = 0,
    jobs: JobsOption = DEFAULT_JOBS,
    store: StoreOption = str(DEFAULT_STORE),
    figures_dir: Annotated[Path | None, typer.Option("--figures", help="Also draw the figures there.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all verdicts to this file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Also fail on INCONCLUSIVE.")] = False,
) -> None:
    """Hold claims, and their rivals, against trained models.

    Exit code: 0 nothing refuted; 1 something refuted or not computable (with --strict: or inconclusive); 2 bad usage.
    """
    _catalogue()
    chosen = _usage(lambda: _chosen(names or [], family))
    with _session(store, jobs) as (kept, executor, progress):
        results = check(chosen, budget=budget, seed=seed, store=kept, executor=executor, progress=progress)
        progress.stop()
        _print_results(results)
        if json_file is not None:
            report = {"budget": str(budget), "seed": seed, "claims": [result.to_json() for result in results]}
            json_file.write_text(json.dumps(report, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        folder = (DEFAULT_STORE if store == "none" else Path(store)).parent / "witnesses"
        known = {claim.name: claim for claim in chosen}
        for name, path in write_witnesses(results, folder, budget=budget, seed=seed).items():
            typer.echo(f"witness of {name}: {path}\n  replay: {replay_command(known[name], budget=budget, seed=seed)}")
        if figures_dir is not None:
            families = {claim.family for claim in chosen}
            wanted = [figure for figure in figures().values() if figure.family in families]
            _make(wanted, figures_dir, "png", budget, seed, kept, executor, progress)
    outcomes = [result.verdict.outcome for result in results]
    failed = Outcome.REFUTED in outcomes or any(result.error for result in results)
    raise typer.Exit(1 if failed or (strict and Outcome.INCONCLUSIVE in outcomes) else 0)


@app.command("figure")
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
    known = _installed(figures)
    chosen = _named("figure", names or list(known), known)
    if format not in ("png", "pdf", "svg"):
        _fail(f"--format must be png, pdf or svg, got {format!r}")
    with _session(store, jobs) as (kept, executor, progress):
        _make(chosen, out, format, budget, seed, kept, executor, progress)


@app.command("reproduce")
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
    known = {name: figure for name, figure in _installed(figures).items() if figure.published}
    chosen = _named("reproduction", names or [], known)
    families = dict.fromkeys(figure.family for figure in known.values())
    if family is not None and family not in families:
        _fail(unknown("family", family, families))
    if not names and family is None:
        table = Table()
        for column in ("reproduction", "family", "published as", "shows"):
            table.add_column(column)
        for figure in known.values():
            table.add_row(figure.name, figure.family, figure.published, figure.caption)
        _console().print(table)
        return
    chosen += [figure for figure in known.values() if figure.family == family and figure not in chosen]
    with _session(store, jobs) as (kept, executor, progress):
        drawn = _make(chosen, out, "png", budget, seed, kept, executor, progress)
    for name, (data, numbers, _) in drawn.items():
        table = Table(title=f"{name}: {known[name].published}", title_justify="left", show_lines=False)
        for column in ("quantity", "published", "ours", "exact"):
            table.add_column(column)
        for number in numbers:
            table.add_row(number.quantity, number.published, number.ours, number.exact)
        _console().print(table)
        for line in data.verdicts:
            typer.echo(line)


@app.command("errata")
def errata_command(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the ledger as docs/errata.md.")] = False,
) -> None:
    """List what was published and does not hold as it stands, with the commands that replay it."""
    from analysis.errata import errata, errata_markdown

    if markdown:
        typer.echo(_installed(errata_markdown), nl=False)
        return
    table = Table(show_lines=True)
    for column in ("source", "published", "holds", "replay"):
        table.add_column(column)
    for entry in _installed(errata):
        table.add_row(entry.source, entry.published, entry.holds, entry.command)
    _console().print(table)


def _make(
    chosen: list[Figure], folder: Path, format: str, budget: Budget, seed: int, store: Store, executor: Any, bar: _Bar
) -> dict[str, Drawn]:
    from analysis.engine.figure import make_figures

    try:
        written = make_figures(
            chosen, folder, budget=budget, seed=seed, format=format, store=store, executor=executor, progress=bar
        )
    except RuntimeError as error:
        bar.stop()
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    bar.stop()
    for drawn in written.values():
        image, *tables = drawn.files
        typer.echo(f"wrote {image} and {' and '.join(table.name for table in tables)}")
    return written


def _named(what: str, names: list[str], known: Mapping[str, Figure]) -> list[Figure]:
    """The figures of these names, each once; a name that is not there ends with exit code 2."""
    for name in names:
        if name not in known:
            _fail(unknown(what, name, known))
    return [known[name] for name in dict.fromkeys(names)]


def _chosen(names: list[str], family: str | None) -> list[Claim]:
    """The named claims, those in the named files, or all."""
    files = [name for name in names if name.endswith(".py")]
    own = [claim for file in files for claim in load_claims(file)]
    plain = [name for name in names if name not in files]
    return own if own and not plain else [*own, *select(plain, family)]


def _print_results(results: list[ClaimResult]) -> None:
    console = _console()
    table = Table(title=None, pad_edge=False)
    table.add_column("claim")
    table.add_column("verdict")
    table.add_column("off by", justify="right")
    table.add_column("margin", justify="right")
    table.add_column("nearest rival")
    table.add_column("verdict")
    table.add_column("off by", justify="right")
    several = len({result.claim.family for result in results}) > 1
    family = None
    for result in results:
        if several and result.claim.family != family:
            family = result.claim.family
            table.add_section()
            table.add_row(f"[bold]{family}[/]")
        verdict = result.verdict
        row = [result.claim.name, _coloured(verdict.outcome), _short(verdict.discrepancy), _short(verdict.margin)]
        rival = _nearest_rival(result)
        if rival is None:
            row += ["", "", ""]
        else:
            row += [rival, _coloured(result.rivals[rival].outcome), _short(result.rivals[rival].discrepancy)]
        table.add_row(*row)
    console.print(table)
    for result in results:
        if result.verdict.outcome is not Outcome.CONSISTENT:
            console.print(f"{result.claim.name}: {result.verdict.reason}", highlight=False, markup=False)
        if result.error:
            typer.echo(result.error, err=True)
        for case in result.cases:
            if case.note:
                console.print(f"{result.claim.name} ({case.label}): {case.note}", highlight=False, markup=False)
    counts = {outcome: sum(result.verdict.outcome is outcome for result in results) for outcome in Outcome}
    rivals = [verdict for result in results for verdict in result.rivals.values()]
    refuted = sum(verdict.outcome is Outcome.REFUTED for verdict in rivals)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    console.print(f"{len(results)} claims: {summary}; {refuted} of {len(rivals)} rivals refuted", highlight=False)


def _nearest_rival(result: ClaimResult) -> str | None:
    """A rival that survives, otherwise the one refuted most narrowly."""

    def distance(name: str) -> tuple[bool, float]:
        verdict = result.rivals[name]
        return verdict.outcome is Outcome.REFUTED, abs(verdict.discrepancy or float("inf"))

    return min(result.rivals, key=distance, default=None)


def _coloured(outcome: Outcome) -> str:
    return f"[{COLOURS[outcome]}]{outcome.upper()}[/]"


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.2g}"


class _Bar:
    """A progress bar on a terminal's standard error, nothing elsewhere."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task: Any = None

    def __call__(self, done: int, total: int, label: str) -> None:
        if self._task is None:
            self._progress.start()
            self._task = self._progress.add_task(label, total=total)
        self._progress.update(self._task, completed=done, total=total, description=label)

    def stop(self) -> None:
        """Take the bar off the screen; the next call starts a new one."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._progress.stop()
            self._task = None


@contextmanager
def _session(store: str, jobs: int) -> Iterator[tuple[Store, Any, _Bar]]:
    """Store, executor and progress bar; Ctrl-C ends at once and says how to go on."""
    bar = _Bar()
    try:
        with ExitStack() as stack:
            kept = stack.enter_context(Store(None if store == "none" else store))
            executor = stack.enter_context(process_pool(jobs)) if jobs > 1 else None
            stack.callback(bar.stop)
            yield kept, executor, bar
    except StoreError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        bar.stop()
        where = "nothing was kept (--store none)" if store == "none" else f"what is done is kept in {store}"
        typer.echo(f"\ninterrupted: {where}; run the same command again to go on", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _installed(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except MissingExtra as error:
        _fail(str(error))


def _catalogue() -> Mapping[str, Any]:
    return _installed(catalogue)


def _usage(choose: Callable[[], list[Any]]) -> list[Any]:
    """Bad names end with exit code 2."""
    try:
        return choose()
    except ValueError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(2)


def _console() -> Console:
    """The terminal's width; where there is none, wide enough that tables do not wrap."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 120)
