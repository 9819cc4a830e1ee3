"""The command that lists constraint types."""

from __future__ import annotations

import click


@click.command()
@click.argument("family", required=False)
def constraints(family: str | None) -> None:
    """List the constraint types (of one FAMILY) with a sample description each."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from if_factory import api

    table = Table(Column("type", no_wrap=True), "difficulty", "for example")
    for each in api.constraint_types(family):
        table.add_row(each.type, str(each.difficulty), escape(each.example))
    Console(width=max(80, Console().width)).print(table)  # an id that is cut cannot be copied


COMMANDS = (constraints,)
