"""Which of the served models chats, and whether it is the one it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from if_factory.chat.catalogue import about, chat_models, listed
from if_factory.chat.http import OpenAIBackend
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from tests.chat.conftest import Serve
from tests.support.scripted_server import ScriptedServer, error_reply


@pytest.mark.parametrize(
    ("entry", "chats"),
    [
        ({"id": "chat-8b"}, True),
        ({"id": "text-embedding-small"}, False),
        ({"id": "BAAI/bge-m3"}, False),
        ({"id": "Qwen/Qwen3-Reranker-0.6B"}, False),
        ({"id": "intfloat/e5-large"}, False),
        ({"id": "whisper-1"}, False),
        ({"id": "meta/llama-3.2-3b-instruct"}, True),
        ({"id": "gte-all-you-can"}, False),
        ({"id": "x", "type": "embeddings"}, False),
        ({"id": "x", "capabilities": {"completion_chat": False}}, False),
        ({"id": "my-embedder-chat", "capabilities": ["completion", "multimodal"]}, True),
        ({"id": "x", "capabilities": ["embedding"]}, False),
        ({"id": "claude5-mini"}, True),
    ],
)
def test_models_that_do_not_chat_are_known(entry: dict[str, Any], chats: bool) -> None:
    assert (chat_models([entry]) == [entry["id"]]) == chats


@pytest.mark.parametrize("body", [b"{}", b"[1]", b'{"data": [{}]}', b"no", b"[" * 100_000])
def test_what_is_no_list_of_models_is_none(body: bytes) -> None:
    assert listed(body) == []


async def test_the_first_chat_model_is_taken_and_said(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    backend = OpenAIBackend(await serve(ScriptedServer([], models=["text-embedding-small", "chat-8b"])))
    await backend.discover()
    await backend.close()
    assert backend.model == "chat-8b"
    assert "'chat-8b'" in caplog.text


async def test_a_server_with_no_chat_model_is_an_error_that_names_what_it_has(serve: Serve) -> None:
    backend = OpenAIBackend(await serve(ScriptedServer([], models=["bge-m3"])))
    with pytest.raises(UserError, match="no chat model is listed, only: bge-m3"):
        await backend.discover()
    await backend.close()


async def test_a_server_that_loads_is_waited_for(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("if_factory.chat.http._LOADING_WAIT", 0.0)
    loading = error_reply(503, "Loading model")
    backend = OpenAIBackend(await serve(ScriptedServer([], models_replies=[loading, loading])))
    await backend.discover()
    await backend.close()
    assert backend.model == "m"
    assert "not ready yet" in caplog.text


async def test_a_server_that_never_gets_ready_is_an_error_that_says_so(serve: Serve) -> None:
    backend = OpenAIBackend(
        await serve(ScriptedServer([], models_replies=[error_reply(503, "Loading model")])), wait=0
    )
    with pytest.raises(UserError, match=r"not ready after 0 s .*Loading model"):
        await backend.discover()
    await backend.close()


def test_what_a_server_says_of_its_model() -> None:
    llama = {"id": "m", "meta": {"size": 5, "n_params": 7, "n_ctx_train": 9}}
    assert about([llama], "m") == {"size": 5, "n_params": 7}
    assert about([{"id": "m", "root": "/models/tuned/"}], "m") == {"root": "tuned"}
    assert about([{"id": "org/m", "root": "org/m"}], "org/m") == {}
    assert about([{"id": "other"}], "m") == {}


def test_another_model_under_the_same_name_is_not_mixed_into_a_log(tmp_path: Path) -> None:
    with_log = ResponseLog(tmp_path / "responses.jsonl")
    with_log.claim_model("m", {"size": 5})
    with_log.claim_model("m", {"size": 5, "root": "tuned"})
    with_log.claim_model("m", {})
    with_log.close()
    again = ResponseLog(tmp_path / "responses.jsonl")
    with pytest.raises(UserError, match=r"another model than before .*size 5 then, 6 now"):
        again.claim_model("m", {"size": 6})
    again.claim_model("other", {"size": 6})
    again.close()
