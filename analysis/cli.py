"""The command line: ``plumbline check``, ``figure``, ``report`` and the other commands."""

from __future__ import annotations

import typer

from plumbline.analysis import calculators
from plumbline.analysis.commands.checking import check_command
from plumbline.analysis.commands.drawing import figure_command, reproduce_command
from plumbline.analysis.commands.listing import claims_command, errata_command
from plumbline.analysis.commands.model_check import check_model_command
from plumbline.analysis.commands.reporting import report_command
from plumbline.analysis.commands.sweeping import sweep_command

app = typer.Typer(
    name="plumbline",
    help="Hold trained transformers against the theorems about them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("claims")(claims_command)
app.command("check")(check_command)
app.command("check-model")(check_model_command)
app.command("report")(report_command)
app.command("figure")(figure_command)
app.command("reproduce")(reproduce_command)
app.command("sweep")(sweep_command)
app.command("errata")(errata_command)

bound_app = typer.Typer(no_args_is_help=True, help="Every calculator at the shell; `plumbline bound NAME --help`.")
app.add_typer(bound_app, name="bound")
for _name, _function in calculators.calculators().items():
    bound_app.command(_name, rich_help_panel=_function.__module__.split(".")[2])(calculators.command(_function))


def main() -> None:
    """Entry point of the console command."""
    app()
