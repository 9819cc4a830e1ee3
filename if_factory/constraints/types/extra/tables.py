"""Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.text import document, plain

_COLUMNS = (("Item", "Description"), ("Topic", "Details"), ("Aspect", "Explanation", "Example"),
            ("Step", "Action", "Reason"), ("Point", "Benefit", "Drawback"), ("Name", "Purpose", "Notes"),
            ("Question", "Answer"), ("Option", "Strength", "Weakness", "Advice"))


def tables(text: str) -> list[tuple[list[str], int]]:
    """The Markdown tables of a text, outside code: header cells and the number of rows below the rule
    (``|---|``).
    """
    return [(list(table.header), table.rows) for table in document(text).tables] if "|" in text else []


@register
class TableRows(ConstraintType):
    type = "table:rows"
    descriptions = (
        "Include a Markdown table with {relation} {rows} below the header",
        "Your response must contain a Markdown table that has {relation} {rows}, not counting the header",
        "Present information in a Markdown table with {relation} {rows} of data",
        "Add a table in Markdown format with a header and {relation} {rows}",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return any(rows in Range.of(kwargs["relation"], kwargs["num_rows"]) for _, rows in tables(response))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"relation": rng.choice(("exactly", "at least")), "num_rows": rng.randint(2, 6)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=("|",), counts={"rows": Range.of(kwargs["relation"], kwargs["num_rows"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        rows = "1 row" if kwargs["num_rows"] == 1 else f"{kwargs['num_rows']} rows"
        return {"relation": kwargs["relation"], "rows": rows}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = tables(response)
        what = f"tables with {', '.join(str(rows) for _, rows in found)} rows" if found else "no Markdown table"
        return f"has {what}, not one with {kwargs['relation']} {kwargs['num_rows']}"


@register
class TableColumns(ConstraintType):
    type = "table:columns"
    descriptions = (
        "Include a Markdown table with exactly these columns: {columns}",
        "Your response must contain a Markdown table whose header row is, in this order, {columns}",
        "Add a table in Markdown format with the columns {columns} in this order and no others",
        "Present information in a Markdown table with the column headers {columns}, in that order",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        wanted = [plain(name).lower() for name in kwargs["columns"]]
        return any([plain(c).lower() for c in header] == wanted and rows for header, rows in tables(response))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"columns": list(rng.choice(_COLUMNS))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=("|",), words=tuple(kwargs["columns"]), counts={"rows": Range(1)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"columns": ", ".join(f"'{name}'" for name in kwargs["columns"])}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = [" | ".join(header) for header, _ in tables(response)]
        return f"has {'a table with the columns ' + found[0] if found else 'no Markdown table'}"
