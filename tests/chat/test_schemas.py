"""Schemas are sent in the form that today's servers follow."""

from __future__ import annotations

from typing import Any

from if_factory.chat.schemas import has_bounds, schema_id, sendable
from if_factory.records import content_id


def test_lengths_are_sent_and_can_be_left_out_alone() -> None:
    schema: dict[str, Any] = {"type": "object", "required": ["maxLength"], "properties": {
        "maxLength": {"type": "string", "maxLength": 9, "pattern": "^a+$"}}}
    assert sendable(schema) == schema
    assert sendable(schema, bounds=False)["properties"] == {"maxLength": {"type": "string"}}
    assert has_bounds(schema)
    assert not has_bounds({"type": "object"})


def test_keywords_that_make_a_server_refuse_or_guess_are_never_sent() -> None:
    schema = {"type": "array", "uniqueItems": True, "contains": {"type": "string"},
              "items": {"type": "string", "pattern": "a+"}}
    assert sendable(schema) == {"type": "array", "items": {"type": "string"}}


def test_steps_of_numbers_are_listed_and_whole_steps_are_integers() -> None:
    half = {"type": "number", "minimum": 0, "maximum": 2, "multipleOf": 0.5}
    assert sendable(half) == {"enum": [0, 0.5, 1, 1.5, 2]}
    assert sendable({**half, "multipleOf": 1}) == {"type": "integer", "minimum": 0, "maximum": 2}
    assert sendable({"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.01})["enum"][-2:] == [0.99, 1]
    endless = {"type": "number", "minimum": 0, "maximum": 10**9, "multipleOf": 0.01}
    assert sendable(endless) == {"type": "number", "minimum": 0, "maximum": 10**9}


def test_a_reason_before_a_verdict_is_required() -> None:
    schema = {"type": "object", "required": ["ok"], "properties": {
        "reason": {"type": "string", "default": ""}, "ok": {"type": "boolean"}, "note": {"type": "string"}}}
    assert sendable(schema)["required"] == ["reason", "ok"]
    assert sendable({"type": "object", "properties": {"a": {"type": "string"}}, "required": []})["required"] == []


def test_every_schema_of_the_package_goes_out_without_what_servers_refuse() -> None:
    from if_factory.judge import criteria, judge, nli

    def keywords(schema: Any) -> set[str]:
        if isinstance(schema, list):
            return set().union(*map(keywords, schema)) if schema else set()
        return set(schema).union(*map(keywords, schema.values())) if isinstance(schema, dict) else set()

    for schema in (judge._comparison_schema("full", 3), judge._comparison_schema("small", 0),
                   criteria._criteria_schema(3, "full"), nli._SCHEMA):
        assert not keywords(sendable(schema)) & {"uniqueItems", "multipleOf", "minContains"}


def test_a_schema_is_told_from_others_by_its_content_however_many_there_were() -> None:
    def schema(n: int) -> dict[str, Any]:
        return {"type": "array", "maxItems": n}

    same = schema(0)
    assert schema_id(same) == schema_id(same) == schema_id(schema(0)) == content_id(schema(0))
    # Each is gone before the next is made, which may then lie where it lay.
    assert [schema_id(schema(n)) for n in range(1000)] == [content_id(schema(n)) for n in range(1000)]
    assert schema_id(None) == ""
