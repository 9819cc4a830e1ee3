from __future__ import annotations

import asyncio
import json
import logging
import socket

import pytest
from aiohttp import web

from if_factory.chat.base import Completion, RequestFailed, Transient
from if_factory.chat.http import OpenAIBackend, _retry_after
from if_factory.errors import UserError
from tests.chat.conftest import Serve, answer, error, request

SECRET = "sk-very-secret-0123456789"


async def ask(url: str, *, model: str | None = "fake", seconds: float = 20, **fields: object) -> Completion:
    backend = OpenAIBackend(url, model, timeout=seconds)
    try:
        return await backend.chat(request(**fields))
    finally:
        await backend.close()


async def test_what_is_asked_reaches_the_server_and_its_answer_comes_back(serve: Serve) -> None:
    seen: list[dict[str, object]] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        assert (r.method, r.path) == ("POST", "/v1/chat/completions")
        seen.append(await r.json())
        return answer("grüß \ud800 dich", finish="length", prompt_tokens=7, completion_tokens=5)

    url = await serve(handler)
    got = await ask(url, temperature=0.5, top_p=0.9, max_tokens=9, seed=4, stop=("END",),
                    schema={"type": "object", "properties": {"maxLength": {"type": "string", "maxLength": 9},
                                                             "n": {"type": "number", "multipleOf": 0.5}}})
    assert got == Completion("grüß \ud800 dich", "length", 7, 5)
    assert seen == [{"model": "fake", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.5,
                     "top_p": 0.9, "max_tokens": 9, "seed": 4, "stop": ["END"],
                     "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {
                         "type": "object", "properties": {"maxLength": {"type": "string", "maxLength": 9},
                                                          "n": {"type": "number"}}}}}}]


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions"])
async def test_base_url_may_be_written_in_the_ways_people_write_it(serve: Serve, tail: str) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return answer(r.path)

    assert (await ask(await serve(handler) + tail)).text == "/v1/chat/completions"


@pytest.mark.parametrize("url", ["localhost:8000/v1", "", "ftp://host/v1", "http://", "http://[bad/v1"])
def test_a_base_url_that_is_none_is_a_user_error(url: str) -> None:
    with pytest.raises(UserError, match="not a URL"):
        OpenAIBackend(url)


@pytest.mark.parametrize(("status", "headers", "after"), [
    (429, {"Retry-After": "7"}, 7.0), (429, {}, None), (500, {}, None), (503, {"Retry-After": "2"}, 2.0)])
async def test_passing_faults_are_transient_and_keep_retry_after(
        serve: Serve, status: int, headers: dict[str, str], after: float | None) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return error(status, "later", **headers)

    with pytest.raises(Transient) as caught:
        await ask(await serve(handler))
    assert (caught.value.reason, caught.value.retry_after) == (f"http_{status}", after)


@pytest.mark.parametrize(("value", "expected"), [
    ("", None), ("soon", None), ("-3", 0.0), ("1.5", 1.5), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)])
def test_retry_after_is_read_in_all_its_forms(value: str, expected: float | None) -> None:
    assert _retry_after({"retry-after": value}) == expected


async def test_a_dropped_connection_and_a_timeout_are_transient(serve: Serve) -> None:
    async def drop(r: web.BaseRequest) -> web.Response:
        assert r.transport is not None
        r.transport.abort()
        return web.Response()

    async def hang(r: web.BaseRequest) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    with pytest.raises(Transient, match="connection_lost"):
        await ask(await serve(drop))
    with pytest.raises(Transient, match="timeout"):
        await ask(await serve(hang), seconds=0.05)


@pytest.mark.parametrize("body", [
    b"", b"<html>Bad gateway</html>", b"[]", b"null", b"{}", b'{"choices": [{}]}', b"\xff\xfe",
    b'{"choices": [{"message": {"content": 3}}]}', b'{"choices": [{"message": null}]}', b'"text"',
    b'{"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": "many"}}', b"[" * 100_000,
    b'{"choices": [{"message": {"content": [{"text": 1}]}}]}'])
async def test_a_body_that_is_no_chat_completion_is_transient(serve: Serve, body: bytes) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return web.Response(body=body)

    with pytest.raises(Transient, match="garbage_body"):
        await ask(await serve(handler))


async def test_an_error_sent_with_status_200_is_transient(serve: Serve) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return web.json_response({"error": {"message": "upstream is busy"}})

    with pytest.raises(Transient, match="error_in_body"):
        await ask(await serve(handler))


@pytest.mark.parametrize(("content", "text"), [
    (None, ""), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "ab")])
async def test_content_that_is_null_or_in_parts_is_read(serve: Serve, content: object, text: str) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return answer(content, finish=None)

    assert await ask(await serve(handler)) == Completion(text, "stop", 3, 2)


@pytest.mark.parametrize(("message", "reason"), [
    ("This model's maximum context length is 4096 tokens", "context_too_long"),
    ("request (900 tokens) exceeds the available context size", "context_too_long"),
    ("The response was filtered: content_filter", "content_filter"),
    ("bad role", "http_400")])
async def test_a_refused_request_fails_with_a_countable_reason(serve: Serve, message: str, reason: str) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return error(400, message)

    with pytest.raises(RequestFailed) as caught:
        await ask(await serve(handler))
    assert caught.value.reason == reason


async def test_a_refused_schema_is_left_out_once_and_for_all(serve: Serve) -> None:
    asked: list[bool] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        with_schema = "response_format" in await r.json()
        asked.append(with_schema)
        return error(400, "response_format is not supported") if with_schema else answer("{}")

    backend = OpenAIBackend(await serve(handler), "fake")
    for _ in range(3):
        assert (await backend.chat(request(schema={"type": "object"}))).text == "{}"
    await backend.close()
    assert asked == [True, False, False, False]


async def test_a_prompt_that_is_too_long_is_not_posted_twice_and_keeps_the_schema(serve: Serve) -> None:
    asked: list[bool] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        body = await r.json()
        asked.append("response_format" in body)
        return error(400, "prompt exceeds the context window") if "long" in str(body) else answer("{}")

    backend = OpenAIBackend(await serve(handler), "fake")
    with pytest.raises(RequestFailed, match="context_too_long"):
        await backend.chat(request("long", schema={"type": "object"}))
    await backend.chat(request("short", schema={"type": "object"}))
    await backend.close()
    assert asked == [True, True]


async def test_lengths_in_a_schema_are_given_up_before_the_schema_and_for_that_schema_alone(serve: Serve) -> None:
    asked: list[object] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        body = await r.json()
        asked.append(body.get("response_format", {}).get("json_schema", {}).get("schema"))
        bounded = "maxLength" in str(asked[-1])
        return error(400, "Grammar error: maxLength is not implemented") if bounded else answer("{}")

    backend = OpenAIBackend(await serve(handler), "fake")
    long, other = {"type": "string", "maxLength": 9}, {"type": "string", "minLength": 1}
    for schema in (long, long, other):
        await backend.chat(request(schema=schema))
    await backend.close()
    assert asked == [long, {"type": "string"}, {"type": "string"}, other]


@pytest.mark.parametrize("status", [400, 500])
async def test_one_bad_schema_does_not_switch_structure_off(serve: Serve, status: int) -> None:
    asked: list[bool] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        body = await r.json()
        asked.append("response_format" in body)
        is_bad = "bad" in str(body.get("response_format"))
        return error(status, "cannot compile the schema") if is_bad else answer("{}")

    backend = OpenAIBackend(await serve(handler), "fake")
    bad, good = {"type": "object", "title": "bad"}, {"type": "object", "title": "good"}
    for schema in (bad, good, bad):
        await backend.chat(request(schema=schema))
    await backend.close()
    assert asked == [True, False, True, False]


async def test_a_server_that_refuses_every_schema_is_not_asked_with_one_for_ever(serve: Serve) -> None:
    asked: list[bool] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        asked.append("response_format" in await r.json())
        return error(400, "bad request") if asked[-1] else answer("{}")

    backend = OpenAIBackend(await serve(handler), "fake")
    for i in range(5):
        await backend.chat(request(schema={"type": "object", "title": str(i)}))
    await backend.close()
    assert asked == [True, False] * 3 + [False, False]


async def test_a_500_that_says_nothing_of_a_schema_is_tried_again_with_it_once(serve: Serve) -> None:
    asked: list[bool] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        asked.append("response_format" in await r.json())
        return error(500, "Internal Server Error") if asked[-1] else answer("{}")

    backend = OpenAIBackend(await serve(handler), "fake")
    with pytest.raises(Transient, match="http_500"):
        await backend.chat(request(schema={"type": "object"}))
    assert (await backend.chat(request(schema={"type": "object"}))).text == "{}"
    await backend.close()
    assert asked == [True, True, False]


@pytest.mark.parametrize(("message", "left"), [
    ("give this model `temperature` or `top_p`, not the two together", {"temperature"}),
    ("Unsupported value: 'temperature' does not support 0.7 with this model", {"top_p"}),
    ("this model takes neither temperature nor top_p", set())])
async def test_sampling_fields_that_are_refused_are_left_out_with_one_warning(
        serve: Serve, caplog: pytest.LogCaptureFixture, message: str, left: set[str]) -> None:
    bodies: list[dict[str, object]] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        bodies.append(await r.json())
        return answer("ok") if {"temperature", "top_p"} & set(bodies[-1]) <= left else error(400, message)

    backend = OpenAIBackend(await serve(handler), "fake")
    for _ in range(3):
        await backend.chat(request())
    await backend.close()
    assert {"temperature", "top_p"} & set(bodies[-1]) == left
    assert len(bodies) <= 2 + 3
    assert caplog.text.count("going on without") == 1


async def test_where_stop_is_refused_the_answer_is_cut_here(serve: Serve) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return error(400, "Unsupported parameter: 'stop'") if "stop" in await r.json() else answer("one END two")

    assert (await ask(await serve(handler), stop=("END",))).text == "one "


@pytest.mark.parametrize(("field", "message"), [
    ("seed", "extra_forbidden: seed"),
    ("max_tokens", "'max_tokens' is not supported, use 'max_completion_tokens'")])
async def test_a_server_that_does_not_take_a_field_gets_requests_without_it(
        serve: Serve, field: str, message: str) -> None:
    bodies: list[dict[str, object]] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        bodies.append(await r.json())
        return error(400, message) if field in bodies[-1] else answer("ok")

    backend = OpenAIBackend(await serve(handler), "fake")
    await backend.chat(request(seed=5, max_tokens=77))
    await backend.chat(request(seed=6, max_tokens=77))
    await backend.close()
    assert [field in b for b in bodies] == [True, False, False]
    if field == "max_tokens":
        assert bodies[-1]["max_completion_tokens"] == 77


async def test_a_server_may_refuse_several_fields_one_after_the_other(serve: Serve) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        body = await r.json()
        wrong = next((f for f in ("seed", "response_format") if f in body), None)
        return error(422, f"unknown field {wrong}") if wrong else answer("ok")

    assert (await ask(await serve(handler), seed=5, schema={"type": "object"})).text == "ok"


async def test_a_wrong_or_missing_key_names_the_variable_and_never_shows_the_key(
        serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return error(401, f"bad header {r.headers.get('Authorization')}")

    url = await serve(handler)
    with pytest.raises(UserError, match=r"wants a key") as caught:
        await ask(url)
    assert "$OPENAI_API_KEY" in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(UserError, match=r"refused the key") as caught:
        await ask(url)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(OpenAIBackend(url, "fake"))


async def test_a_server_that_repeats_the_key_does_not_get_it_into_messages_or_logging(
        serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return error(400, f"you sent {r.headers.get('Authorization')}")

    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    with caplog.at_level(logging.DEBUG), pytest.raises(RequestFailed) as caught:
        await ask(await serve(handler))
    assert "Bearer ***" in caplog.text
    assert SECRET not in caplog.text + str(caught.value)


async def test_an_empty_account_is_a_user_error_and_not_retried(serve: Serve) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return error(429, "insufficient_quota")

    with pytest.raises(UserError, match="credit"):
        await ask(await serve(handler))


@pytest.mark.usefixtures("no_waiting")
async def test_no_server_is_a_user_error_with_url_and_fix() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{s.getsockname()[1]}/v1"
    with pytest.raises(UserError, match="no server answers") as caught:
        await ask(url)
    assert url in str(caught.value)
    assert "start the server" in str(caught.value)


async def test_tls_to_a_plain_server_is_a_user_error(serve: Serve) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return answer("x")

    with pytest.raises(UserError, match="no secure connection"):
        await ask((await serve(handler)).replace("http:", "https:"))


async def test_an_unknown_model_is_a_user_error_that_lists_the_served_ones(serve: Serve) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        if r.path == "/v1/models":
            return web.json_response({"data": [{"id": "small"}, {"id": "large"}]})
        return error(404, "no such model")

    with pytest.raises(UserError, match="does not serve 'fake'") as caught:
        await ask(await serve(handler))
    assert "small, large" in str(caught.value)


@pytest.mark.parametrize("status", [301, 404, 405])
async def test_an_address_without_a_chat_api_is_a_user_error(serve: Serve, status: int) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return error(status, "nothing here", Location="https://elsewhere/v1")

    with pytest.raises(UserError, match="no chat API at this address") as caught:
        await ask(await serve(handler))
    assert "base_url" in str(caught.value)


async def test_without_a_name_the_first_served_model_is_taken_and_asked_for_once(serve: Serve) -> None:
    asked: list[str] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        asked.append(r.path)
        await asyncio.sleep(0.01)
        return web.json_response({"data": [{"id": "first"}, {"id": "second"}]})

    backend = OpenAIBackend(await serve(handler))
    await asyncio.gather(*(backend.discover() for _ in range(5)))
    await backend.close()
    assert backend.model == "first"
    assert asked == ["/v1/models"]


@pytest.mark.parametrize("body", ["{}", "[1]", "{\"data\": []}", "{\"data\": [{}]}", "no"])
async def test_a_server_that_lists_no_model_is_a_user_error(serve: Serve, body: str) -> None:
    async def handler(r: web.BaseRequest) -> web.Response:
        return web.Response(text=body)

    backend = OpenAIBackend(await serve(handler))
    with pytest.raises(UserError, match="which models"):
        await backend.discover()
    await backend.close()


async def bodies_sent_to(serve: Serve) -> tuple[list[bytes], str]:
    """The bodies that will have come, and the URL of the server that notes them."""
    bodies: list[bytes] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        bodies.append(await r.read())
        return answer("x")

    return bodies, await serve(handler)


async def test_the_same_request_is_the_same_bytes(serve: Serve) -> None:
    bodies, url = await bodies_sent_to(serve)
    await ask(url, sample=0, seed=1)
    await ask(url, sample=0, seed=1)
    assert bodies[0] == bodies[1]
    assert json.loads(bodies[0])["seed"] == 1


async def test_a_body_has_its_fields_in_one_order_and_no_blanks(serve: Serve) -> None:
    bodies, url = await bodies_sent_to(serve)
    await ask(url, temperature=1, top_p=None, stop=("ü",), seed=3, schema={"type": "object"},
              extra_body={"seed": None, "max_tokens": 5, "é": {"a": [1.5, None]}})
    assert bodies == [
        b'{"model":"fake","messages":[{"role":"user","content":"hello"}],"temperature":1,"max_tokens":5,'
        b'"stop":["\\u00fc"],"response_format":{"type":"json_schema","json_schema":{"name":"answer",'
        b'"schema":{"type":"object"}}},"\\u00e9":{"a":[1.5,null]}}']
