"""Markdown tables, written in one way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: int = 0) -> list[str]:
    """The lines of a table.

    Args:
        header: the heads of the columns.
        rows: cells, shown as ``str``.
        numbers: so many columns from the right hold numbers and are set flush right.
    """
    rules = ["---"] * (len(header) - numbers) + ["---:"] * numbers
    return [f"| {' | '.join(map(str, cells))} |" for cells in (header, rules, *rows)]
