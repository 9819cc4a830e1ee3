"""Responses that are wholly one document of data: JSON, YAML or CSV. A Markdown fence around it is allowed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.text import strip_code_fence
from if_factory.constraints.types.ifeval.detectable_format import parse_json

_KEYS = ("answer", "summary", "reason", "details", "example", "notes", "title", "category", "advice", "conclusion")
# What can be asked of the values inside such a document without touching its form.
_ALLOWED = frozenset(("keywords:existence", "keywords:forbidden_words", "keywords:frequency", "word",
                      "punctuation:no_exclamation", "punctuation:no_question_mark", "digits:none", "date", "emoji",
                      "length:max_characters", "style"))


def _names(kwargs: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    return {**kwargs, field: ", ".join(f'"{name}"' for name in kwargs[field])}


@register
class JsonKeys(ConstraintType):
    type = "json:keys"
    descriptions = (
        "Answer with a single JSON object that has exactly the keys {keys}",
        "Your entire response must be one JSON object with these keys and no others: {keys}",
        "Return only a JSON object whose top-level keys are exactly {keys}",
        "Format the whole answer as a JSON object with exactly these top-level keys: {keys}",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = _json(response)
        return isinstance(found, dict) and set(found) == set(kwargs["keys"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"keys": rng.sample(_KEYS, rng.randint(2, 4))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="json", allows=_ALLOWED, literals=tuple(f'"{key}"' for key in kwargs["keys"]),
                       exclusive=frozenset({"top level of the JSON"}))

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return _names(kwargs, "keys")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = _json(response)
        return f"has the keys {sorted(found)}" if isinstance(found, dict) else "is not one JSON object"


@register
class JsonList(ConstraintType):
    type = "json:list"
    descriptions = (
        "Answer with a JSON list of exactly {num_items} strings and nothing else",
        "Your entire response must be one JSON array holding exactly {num_items} strings",
        "Return only a JSON array with exactly {num_items} string elements",
        "Format the whole answer as a JSON list that contains exactly {num_items} strings",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = _json(response)
        return (isinstance(found, list) and len(found) == kwargs["num_items"]
                and all(isinstance(item, str) and item.strip() for item in found))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"num_items": rng.randint(2, 8)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="json", allows=_ALLOWED, exclusive=frozenset({"top level of the JSON"}))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = _json(response)
        return f"is a JSON list of {len(found)} items" if isinstance(found, list) else "is not one JSON list"


def _json(response: str) -> Any:
    try:
        return parse_json(response)
    except (ValueError, RecursionError):
        return None


@register
class YamlKeys(ConstraintType):
    type = "yaml:keys"
    descriptions = (
        "Answer with a YAML mapping that has exactly the top-level keys {keys}",
        "Your entire response must be valid YAML with these top-level keys and no others: {keys}",
        "Return only a YAML document whose top-level keys are exactly {keys}",
        "Format the whole answer as YAML with exactly these top-level keys: {keys}",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = _yaml(response)
        return isinstance(found, dict) and set(found) == set(kwargs["keys"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"keys": rng.sample(_KEYS, rng.randint(2, 4))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="yaml", allows=_ALLOWED, literals=tuple(f"{key}:" for key in kwargs["keys"]))

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return _names(kwargs, "keys")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = _yaml(response)
        return f"has the keys {sorted(map(str, found))}" if isinstance(found, dict) else "is not a YAML mapping"


def _yaml(response: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(strip_code_fence(response, "yaml", "yml"))
    except (yaml.YAMLError, ValueError, RecursionError):  # ValueError: a date like 2024-99-99
        return None


@register
class CsvHeader(ConstraintType):
    type = "csv:header"
    descriptions = (
        "Answer in CSV only: the header line {columns} and exactly {num_rows} rows below it",
        "Your entire response must be comma-separated values with the columns {columns} and exactly {num_rows} "
        "rows after the header line",
        "Return only a CSV table: the first line is {columns}, then exactly {num_rows} rows of as many fields",
        "Format the whole answer as CSV with the header {columns} and exactly {num_rows} data rows",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        rows = _csv(response)
        names = [cell.strip().lower() for cell in rows[0]] if rows else []
        return (names == [name.lower() for name in kwargs["columns"]] and len(rows) - 1 == kwargs["num_rows"]
                and all(len(row) == len(names) for row in rows))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        columns = rng.choice((("item", "description"), ("topic", "details"), ("name", "purpose", "example"),
                              ("step", "action", "reason"), ("point", "pro", "con")))
        return {"columns": list(columns), "num_rows": rng.randint(2, 6)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="csv", allows=_ALLOWED, literals=(",",), words=tuple(kwargs["columns"]),
                       counts={"rows": Range(kwargs["num_rows"], kwargs["num_rows"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "columns": '"' + ",".join(kwargs["columns"]) + '"'}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        rows = _csv(response)
        header = ",".join(rows[0]) if rows else ""
        return f"has the header '{header[:60]}' and {max(0, len(rows) - 1)} rows"


def _csv(response: str) -> list[list[str]]:
    try:
        body = io.StringIO(strip_code_fence(response, "csv"))
        return [row for row in csv.reader(body, skipinitialspace=True) if row]
    except csv.Error:
        return []
