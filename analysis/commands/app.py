"""The command line: ``plumbline check``, ``figure``, ``report`` and the other commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from plumbline import __version__
from plumbline.analysis.claims.own import import_file
from plumbline.analysis.commands.calculators import BoundCommands
from plumbline.analysis.commands.check_model import check_model_command
from plumbline.analysis.commands.checking import check_command
from plumbline.analysis.commands.drawing import figure_command, reproduce_command
from plumbline.analysis.commands.listing import claims_command, errata_command
from plumbline.analysis.commands.reporting import report_command
from plumbline.analysis.commands.shared import fail, say_what_is_broken
from plumbline.analysis.commands.sweeping import sweep_command

app = typer.Typer(
    name="plumbline",
    help="Hold trained transformers against the theorems about them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("claims")(claims_command)
app.command("check")(check_command)
app.command("check-model")(check_model_command)
app.command("report")(report_command)
app.command("figure")(figure_command)
app.command("reproduce")(reproduce_command)
app.command("sweep")(sweep_command)
app.command("errata")(errata_command)
app.add_typer(
    typer.Typer(
        cls=BoundCommands, no_args_is_help=True, help="Every calculator at the shell; `plumbline bound NAME --help`."
    ),
    name="bound",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"plumbline {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    load: Annotated[
        list[Path] | None,
        typer.Option("--load", envvar="PLUMBLINE_LOAD", help="A Python file that registers a family of yours."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version, and end.")
    ] = False,
) -> None:
    """Hold trained transformers against the theorems about them."""
    context.call_on_close(say_what_is_broken)
    for file in load or []:
        try:
            import_file(file)
        except (Exception, SystemExit) as error:
            fail(f"--load {file}: {type(error).__name__}: {error}")


def main() -> None:
    """Entry point of the console command."""
    app()
