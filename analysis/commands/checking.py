"""``plumbline check``: the verdict table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from plumbline.analysis.budget import Budget
from plumbline.analysis.catalogue import figures
from plumbline.analysis.claims.check import ClaimResult, case_key, check
from plumbline.analysis.claims.witness import replay_command, write_witnesses
from plumbline.analysis.commands.drawing import draw
from plumbline.analysis.commands.shared import (
    DEFAULT_JOBS,
    DEFAULT_STORE,
    BudgetOption,
    JobsOption,
    SeedOption,
    StoreOption,
    chosen_claims,
    console,
    quiet,
    session,
    usage,
    with_models,
)
from plumbline.analysis.family import broken
from plumbline.analysis.files import write_json
from plumbline.analysis.verdict import Outcome

COLOURS = {
    Outcome.CONSISTENT: "green",
    Outcome.REFUTED: "red",
    Outcome.INCONCLUSIVE: "yellow",
    Outcome.NOT_APPLICABLE: "dim",
}


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
    chosen = chosen_claims(names or [], family)
    with_models()
    with session(store, jobs) as opened:
        results = usage(lambda: check(chosen, budget=budget, seed=seed, session=opened))
        quiet(opened)
        _print_results(results)
        if json_file is not None:
            report = {"budget": str(budget), "seed": seed, "claims": [result.to_json() for result in results]}
            write_json(json_file, report)
        folder = (DEFAULT_STORE if store == "none" else Path(store)).parent / "witnesses"
        known = {claim.name: claim for claim in chosen}
        for name, path in write_witnesses(results, folder, budget=budget, seed=seed).items():
            typer.echo(f"witness of {name}: {path}\n  replay: {replay_command(known[name], budget=budget, seed=seed)}")
        if figures_dir is not None:
            wanted = [figure for figure in figures().values() if figure.family in {claim.family for claim in chosen}]
            judged = {case_key(result.claim, case.label): case for result in results for case in result.cases}
            draw(wanted, figures_dir, "png", budget, seed, opened, judged)
    outcomes = [result.verdict.outcome for result in results]
    # Of the whole catalogue also what could not be registered is missing.
    failed = Outcome.REFUTED in outcomes or any(result.error for result in results) or (not names and any(broken()))
    raise typer.Exit(1 if failed or (strict and Outcome.INCONCLUSIVE in outcomes) else 0)


def _print_results(results: list[ClaimResult]) -> None:
    terminal = console()
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
            table.add_row(Text(family, style="bold"))
        verdict = result.verdict
        row: list[str | Text] = [result.claim.name, coloured(verdict.outcome)]
        row += [_short(verdict.discrepancy), _short(verdict.margin)]
        rival = _nearest_rival(result)
        if rival is None:
            row += ["", "", ""]
        else:
            row += [rival, coloured(result.rivals[rival].outcome), _short(result.rivals[rival].discrepancy)]
        table.add_row(*row)
    terminal.print(table)
    for result in results:
        if result.verdict.outcome is not Outcome.CONSISTENT:
            terminal.print(f"{result.claim.name}: {result.verdict.reason}", highlight=False)
        if result.error:
            typer.echo(result.error, err=True)
        for case in result.cases:
            if case.note:
                terminal.print(f"{result.claim.name} ({case.label}): {case.note}", highlight=False)
    counts = {outcome: sum(result.verdict.outcome is outcome for result in results) for outcome in Outcome}
    rivals = [verdict for result in results for verdict in result.rivals.values()]
    refuted = sum(verdict.outcome is Outcome.REFUTED for verdict in rivals)
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    terminal.print(f"{len(results)} claims: {summary}; {refuted} of {len(rivals)} rivals refuted", highlight=False)


def _nearest_rival(result: ClaimResult) -> str | None:
    """A rival that survives, otherwise the one refuted most narrowly."""

    def distance(name: str) -> tuple[bool, float]:
        verdict = result.rivals[name]
        return verdict.outcome is Outcome.REFUTED, abs(verdict.discrepancy or float("inf"))

    return min(result.rivals, key=distance, default=None)


def coloured(outcome: Outcome) -> Text:
    """The outcome in its colour."""
    return Text(outcome.upper(), style=COLOURS[outcome])


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.2g}"
