"""JSON schemas in the form that servers can follow.

The request's key holds the schema as a method wrote it; what is sent is made here, so that better knowledge of
servers changes no key. Seen with vLLM 0.32 and llama.cpp (October 2026), see ``docs/servers.md``.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from if_factory.records import canonical, compact, id_of_json

if TYPE_CHECKING:
    from pydantic import BaseModel

_NEVER = ("uniqueItems", "contains", "minContains", "maxContains")  # vLLM refuses the whole schema
_BOUNDS = ("maxLength", "minLength", "maxItems", "minItems", "pattern")
_NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_VALUES = ("enum", "const", "default", "examples", "required")
_MOST_STEPS = 200


@cache
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of ``model``, made once: making it takes as long as sending a request. Not to be changed."""
    return model.model_json_schema()


class SchemaText(NamedTuple):
    """A schema as JSON with its keys in their order, with sorted keys, and by its ``content_id``."""

    schema: dict[str, Any]
    json: str
    canonical: str
    id: str


_MOST_KNOWN = 256
_known: dict[int, SchemaText] = {}


def schema_text(schema: dict[str, Any]) -> SchemaText:
    """``schema`` as text. One that is asked for again and again, the same object with every request, is read once."""
    # The object is kept with its id: no other one can have that while it is here.
    if (known := _known.get(id(schema))) is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        in_order = canonical(schema)
        known = _known[id(schema)] = SchemaText(schema, compact(schema), in_order, id_of_json(f"[{in_order}]"))
    return known


def schema_id(schema: dict[str, Any] | None) -> str:
    """By what a server's ways with a schema are remembered; empty where there is none."""
    return "" if schema is None else schema_text(schema).id


def sendable(schema: Any, *, bounds: bool = True) -> Any:
    """``schema`` for a server; ``bounds=False`` leaves lengths and patterns out, for one that refuses those.

    - Numbers with steps become a list of the numbers, or integers: llama.cpp ignores ``multipleOf``, and bounds of
      numbers that are not integers.
    - An optional key before a required one becomes required: llama.cpp writes required keys first, and a reason
      that comes after the verdict explains nothing.
    - Patterns without ``^`` and ``$`` are left out: servers disagree on what they mean.
    """
    if isinstance(schema, list):
        return [sendable(each, bounds=bounds) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if (steps := _steps(schema)) is not None:
        return steps
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, dict):  # its keys are names, not keywords
            made[key] = {name: sendable(each, bounds=bounds) for name, each in value.items()}
        elif key in _VALUES:
            made[key] = value
        elif _kept(key, value, bounds):
            made[key] = sendable(value, bounds=bounds)
    properties, required = made.get("properties"), made.get("required")
    if isinstance(properties, dict) and isinstance(required, list):
        names = list(properties)
        last = max((names.index(name) for name in required if name in properties), default=-1)
        made["required"] = [name for i, name in enumerate(names) if i <= last] \
            + [name for name in required if name not in properties]
    return made


def has_bounds(schema: dict[str, Any]) -> bool:
    """Whether ``sendable`` makes another schema of it without bounds."""
    return bool(sendable(schema) != sendable(schema, bounds=False))


def _kept(key: str, value: Any, bounds: bool) -> bool:
    if key in _NEVER or key == "multipleOf" or (key in _BOUNDS and not bounds):
        return False
    if key == "pattern" and isinstance(value, str):
        return value.startswith("^") and value.endswith("$")
    return True


def _steps(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The numbers that ``multipleOf`` and the bounds allow, as an ``enum`` or as integers."""
    step, low, high = schema.get("multipleOf"), schema.get("minimum"), schema.get("maximum")
    if schema.get("type") not in ("number", "integer") or not isinstance(step, int | float) \
            or not isinstance(low, int | float) or not isinstance(high, int | float) or step <= 0:
        return None
    rest = {k: v for k, v in schema.items() if k not in ("type", "multipleOf", "minimum", "maximum")}
    if step == 1 and low == int(low) and high == int(high):
        return {"type": "integer", "minimum": int(low), "maximum": int(high), **rest}
    count = round((high - low) / step) + 1
    if not 0 < count <= _MOST_STEPS:
        return None
    values = [round(low + i * step, 6) for i in range(count)]
    return {"enum": [int(v) if v == int(v) else v for v in values if v <= high], **rest}
