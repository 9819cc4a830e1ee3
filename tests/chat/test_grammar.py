"""A model of random weights writes what a schema allows, beside a row that is free."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed here")
pytest.importorskip("llguidance", reason="llguidance is not installed here")

from if_factory.chat import grammar
from if_factory.chat.base import ChatRequest
from if_factory.chat.transformers_local import generate
from tests.iorpo.tiny import make_root

SCHEMA = {"type": "object", "additionalProperties": False, "required": ["good", "score"],
          "properties": {"good": {"type": "boolean"}, "score": {"enum": [1, 2, 3, 4, 5]}}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    root = make_root(tmp_path_factory.mktemp("tiny"))
    return (AutoModelForCausalLM.from_pretrained(root / "tiny").eval(),
            AutoTokenizer.from_pretrained(root / "tiny", padding_side="left"))


def asks(schema: dict[str, Any] | None, temperature: float) -> ChatRequest:
    return ChatRequest("tiny", ({"role": "user", "content": "x"},), temperature=temperature, max_tokens=60,
                       schema=schema, seed=3)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_rows_with_a_schema_follow_it_and_the_others_are_free(tiny: tuple[Any, Any], temperature: float) -> None:
    model, tokenizer = tiny
    prompts = [tokenizer(t)["input_ids"] for t in ("rate this", "a much longer question than that", "rate that")]
    rated, free, rated_too = generate(model, tokenizer, prompts,
                                      [asks(s, temperature) for s in (SCHEMA, None, SCHEMA)])
    for answer in (rated, rated_too):
        value = json.loads(answer.text)
        assert set(value) == {"good", "score"}
        assert value["score"] in range(1, 6)
        assert answer.finish_reason == "stop"
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(free.text)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_strings_and_numbers_end_where_the_schema_says_so_that_the_rest_is_written(tiny: tuple[Any, Any],
                                                                                   temperature: float) -> None:
    model, tokenizer = tiny
    schema = {"type": "object", "additionalProperties": False, "required": ["reason", "score"],
              "properties": {"reason": {"type": "string", "maxLength": 8},
                             "score": {"type": "number", "minimum": 1, "maximum": 5, "multipleOf": 0.5}}}
    answer, = generate(model, tokenizer, [tokenizer("rate this")["input_ids"]], [asks(schema, temperature)])
    assert answer.finish_reason == "stop"
    said = json.loads(answer.text)
    assert len(said["reason"]) <= 8
    assert said["score"] * 2 in range(2, 11)


def test_a_free_row_is_what_it_is_without_any_schema(tiny: tuple[Any, Any]) -> None:
    model, tokenizer = tiny
    prompts = [tokenizer(t)["input_ids"] for t in ("one question", "more")]
    alone = generate(model, tokenizer, prompts, [asks(None, 0.0)] * 2)
    beside = generate(model, tokenizer, prompts, [asks(None, 0.0), asks(SCHEMA, 0.0)])
    assert beside[0].text == alone[0].text
    assert beside[1].text != alone[1].text


def test_a_schema_that_cannot_be_followed_is_said_so(tiny: tuple[Any, Any]) -> None:
    tokenizer = tiny[1]
    words = grammar.tokenizer_of(tokenizer, len(tokenizer), (tokenizer.eos_token_id,))
    with pytest.raises(ValueError, match="cannot be followed"):
        grammar.SchemaMask(words, [], [{"type": "no such type"}], 3)
