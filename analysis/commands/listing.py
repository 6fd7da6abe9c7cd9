"""``plumbline claims`` and ``plumbline errata``: what is held against models, and what was published otherwise."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table

from plumbline.analysis.catalogue import catalogue, catalogue_markdown, errata, errata_markdown
from plumbline.analysis.claims.claim import select
from plumbline.analysis.commands.shared import console, usage


def claims_command(
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the whole catalogue as docs/claims.md.")] = False,
) -> None:
    """List the catalogue of claims."""
    if markdown:
        typer.echo(catalogue_markdown(), nl=False)
        return
    known = list(catalogue().values())
    chosen = usage(lambda: select(known, family=family))
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
    console().print(table)


def errata_command(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the ledger as docs/errata.md.")] = False,
) -> None:
    """List what was published and does not hold as it stands, with the commands that replay it."""
    if markdown:
        typer.echo(errata_markdown(), nl=False)
        return
    table = Table(show_lines=True)
    for column in ("source", "published", "holds", "replay"):
        table.add_column(column)
    for entry in errata():
        table.add_row(entry.source, entry.published, entry.holds, entry.command)
    console().print(table)
