"""Whole runs against servers that each show one quirk that people reported, and kinds beyond."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from if_factory.api.data import emit, run_recipe
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.files import write_jsonl
from if_factory.recipe import parse
from tests.chat.conftest import Serve
from tests.support.scripted_server import ScriptedServer, error_reply

TOOLS = ("digging", "painting", "cutting bread")
ANSWERS = [
    "A spade is the usual tool for digging.",
    "A brush will do that job.",
    "A serrated knife cuts bread best.",
]
FINE = [{"content": text} for text in ANSWERS]


async def rows_of(url: str, folder: Path, seeds: int = 3, *, prompt: str = "", **model: Any) -> list[str]:
    """The responses of the SFT rows that a run over three seeds gives, one sample each, nothing corrected."""
    write_jsonl(
        folder / "seeds.jsonl",
        (
            {
                "prompt": prompt or f"Name a tool for {TOOLS[i % 3]}, number {i}. Do not use any commas.",
                "instruction_id_list": ["punctuation:no_comma"],
                "kwargs": [{}],
            }
            for i in range(seeds)
        ),
    )
    recipe = parse(
        {
            "method": "complex_to_simple",
            "seeds": str(folder / "seeds.jsonl"),
            "models": {"student": {"endpoint": url, "model": "m", "max_tokens": 200, "concurrency": 1, **model}},
            "options": {"student_samples": 1, "correct": False},
        }
    )
    log = ResponseLog(folder / "responses.jsonl")
    try:
        result, _ = await run_recipe(recipe, log)
    finally:
        log.close()
    return sorted(row.response for row in emit(recipe, result.records).datasets.get("sft", []))


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param(
            [
                {"content": t, "finish": f}
                for t, f in zip(ANSWERS, ("eos_token", "end_turn", "eos"), strict=True)
            ],
            id="finish-eos-token",
        ),
        pytest.param(
            [
                {
                    "content": "<|channel|>analysis<|message|>A spade.<|end|><|start|>assistant<|channel|>final"
                    f"<|message|>{ANSWERS[0]}"
                },
                {"content": f"analysisThe user wants a tool.assistantfinal{ANSWERS[1]}"},
                {"content": f"[THINK]Bread needs teeth, on the blade.[/THINK]{ANSWERS[2]}"},
            ],
            id="harmony-channels",
        ),
        pytest.param(
            [
                {"content": f"{ANSWERS[0]}<|eot_id|>"},
                {"content": f"{ANSWERS[1]}<|im_end|>\n<|im_start|>user\nThanks!<|im_end|>"},
                {"content": f"{ANSWERS[2]}</s>"},
            ],
            id="special-token-at-end",
        ),
        pytest.param([error_reply(200, "slow down", code=429), *FINE], id="error-200-rate-limit"),
        pytest.param(
            [{"body": {"choices": []}}, {"content": "half", "finish": "error"}, *FINE], id="faults-in-choices"
        ),
        pytest.param([error_reply(503, "Loading model", type="unavailable_error"), *FINE], id="loading-503"),
        pytest.param(
            [{"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": t}]} for t in ANSWERS],
            id="content-parts",
        ),
    ],
)
@pytest.mark.usefixtures("no_waiting")
async def test_three_complete_answers_are_three_rows(
    serve: Serve, tmp_path: Path, replies: list[dict[str, Any]]
) -> None:
    assert await rows_of(await serve(ScriptedServer(replies)), tmp_path) == sorted(ANSWERS)


async def test_moderation_403_of_one_prompt_drops_one_seed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "placeholder-key")
    flagged = error_reply(
        403, "This input was flagged by moderation", code=403, metadata={"flagged_input": "Name"}
    )
    server = ScriptedServer([FINE[0]], rules=[("painting", flagged)])
    assert len(await rows_of(await serve(server), tmp_path)) == 2


@pytest.mark.parametrize(
    "reply",
    [
        error_reply(402, "Insufficient balance on this account"),
        error_reply(400, "The credit balance of this account is too low"),
        error_reply(200, "insufficient_quota"),
    ],
)
async def test_out_of_credit_stops_the_run_and_says_so(
    serve: Serve, tmp_path: Path, reply: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="no credit left"):
        await rows_of(await serve(ScriptedServer([FINE[0], reply])), tmp_path)


async def test_extra_fields_of_the_recipe_reach_the_server(serve: Serve, tmp_path: Path) -> None:
    server = ScriptedServer(
        [{"content": "<think>Hm", "finish": "length"}], rules=[('"enable_thinking":false', FINE[0])]
    )
    extra = {"chat_template_kwargs": {"enable_thinking": False}, "seed": None}
    assert len(await rows_of(await serve(server), tmp_path, extra_body=extra)) == 3
    assert all("seed" not in post for post in server.posts)


async def test_fields_set_to_null_are_not_sent(serve: Serve, tmp_path: Path) -> None:
    server = ScriptedServer(FINE)
    await rows_of(await serve(server), tmp_path, temperature=None, top_p=None, max_tokens=None)
    assert not {"temperature", "top_p", "max_tokens", "extra_body"} & set().union(*server.posts)


async def test_reasoning_that_eats_the_token_limit_is_a_reason_of_its_own_and_said(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ScriptedServer([{"content": "<think>The user wants a tool", "finish": "length"}])
    assert await rows_of(await serve(server), tmp_path) == []
    assert "before the reasoning ended" in caplog.text
    assert (tmp_path / "responses.jsonl").read_text() == ""


async def test_answers_in_the_field_for_reasoning_are_said(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = ScriptedServer([{"content": None, "message": {"reasoning_content": t}} for t in ANSWERS])
    assert await rows_of(await serve(server), tmp_path) == []
    assert "in the field for reasoning" in caplog.text


async def test_an_answer_about_the_tag_is_whole(serve: Serve, tmp_path: Path) -> None:
    text = "Match from `<think>` to `</think>` and replace that with nothing. Then strip the white space."
    asked = "How do I remove <think>hm</think> from text with a regular expression? Do not use any commas."
    assert await rows_of(await serve(ScriptedServer([{"content": text}])), tmp_path, 1, prompt=asked) == [text]


async def test_a_run_in_which_every_request_was_refused_is_an_error(serve: Serve, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 3 requests was answered \(http_400 3\)"):
        await rows_of(await serve(ScriptedServer([error_reply(400, "this is no chat model")])), tmp_path)


async def test_a_max_tokens_that_the_server_never_gives_is_an_error_not_lost_seeds(
    serve: Serve, tmp_path: Path
) -> None:
    refusal = error_reply(
        400, "max_tokens=200 cannot be greater than max_model_len=128. Please request fewer output tokens."
    )
    with pytest.raises(UserError, match="does not give 200 tokens"):
        await rows_of(await serve(ScriptedServer([refusal])), tmp_path)


async def test_a_key_that_worked_is_not_wrong_when_one_request_is_forbidden(
    serve: Serve, tmp_path: Path
) -> None:
    server = ScriptedServer([FINE[0]], rules=[("painting", error_reply(403, "Forbidden"))])
    assert len(await rows_of(await serve(server), tmp_path)) == 2


async def test_a_url_with_a_query_keeps_it_and_azure_gets_its_own_header(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "placeholder-key")
    server = ScriptedServer(FINE)
    url = (await serve(server)).replace("/v1", "/openai/deployments/d?api-version=2024-10-21")
    assert len(await rows_of(url, tmp_path)) == 3
    assert server.paths[-1] == "/openai/deployments/d/chat/completions?api-version=2024-10-21"


async def test_a_server_on_this_machine_is_not_asked_through_a_proxy(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert len(await rows_of(await serve(ScriptedServer(FINE)), tmp_path)) == 3


async def test_a_proxy_that_does_not_answer_is_named_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://me:secret-word@127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"the proxy 127\.0\.0\.1:9 does not answer") as caught:
        await rows_of("http://server.invalid/v1", tmp_path)
    assert "secret-word" not in str(caught.value)


async def test_a_stopped_run_says_what_it_waits_for(
    serve: Serve, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from if_factory.pipeline.runner import Runner

    runner = Runner([], {}, 0, 1, None)  # type: ignore[arg-type]
    runner.requests_in_flight = 2
    runner.stop("interrupt")
    await asyncio.sleep(0)
    assert "2 requests in flight are waited for" in caplog.text
    assert "Ctrl-C again stops at once" in caplog.text
