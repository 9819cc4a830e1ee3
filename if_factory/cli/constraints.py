"""The command that lists constraint types."""

from __future__ import annotations

import click


@click.command()
@click.argument("family", required=False)
def constraints(family: str | None) -> None:
    """List the constraint types (of one FAMILY) with a sample description each."""
    from rich.table import Column, Table

    from if_factory import api
    from if_factory.cli.show import console

    table = Table(Column("type", no_wrap=True), "difficulty", "for example")
    for each in api.constraint_types(family):
        table.add_row(each.type, str(each.difficulty), each.example)
    console.width = max(80, console.width)  # an id that is cut cannot be copied
    console.print(table)


COMMANDS = (constraints,)
