"""Rewards over HTTP, asked over real loopback in the forms of LLaMA-Factory, slime and OpenRLHF."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from if_factory.errors import UserError
from if_factory.rewards.known import Known, KnownPrompts, read_known

SEA, SHORE = "Describe the sea. Do not use commas.", "Describe the sea. Do not use commas. Write in small letters."
GOOD, COMMA = "the sea is wide and full of fish.", "The sea is wide, and full of fish."
COMMAS = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
BOTH = {"instruction_id_list": ["punctuation:no_comma", "change_case:english_lowercase"], "kwargs": [{}, {}]}
BROKEN = {"eval_func": ["def evaluate(response):\n    return 1 / 0"]}


def chatml(prompt: str, answer: str, before: str = "") -> str:
    return (f"<|im_start|>system\nYou are helpful.<|im_end|>\n{before}<|im_start|>user\n{prompt}<|im_end|>\n"
            f"<|im_start|>assistant\n{answer}<|im_end|>\n")


def post(url: str, body: Any, raw: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(url, raw if raw is not None else json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as e:
        return e.code, json.loads(e.read())


def data_file(folder: Path) -> Path:
    rows = [{"instruction": SEA, "input": "", "ground_truth": json.dumps({**COMMAS, "prompt": SEA})},
            {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SHORE}],
             "ground_truth": json.dumps({**BOTH, "prompt": SHORE})},
            {"prompt": "Hi?", "reward_model": {"ground_truth": json.dumps(COMMAS)}},
            {"messages": [{"role": "user", "content": "Describe a lake."}], "label": json.dumps(BROKEN)}]
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-u", "-m", "if_factory", "serve-rewards", "--data",
                                str(data_file(tmp_path_factory.mktemp("data"))), "--port", "0"],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ),
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))  # as in `... &`
    assert process.stdout
    line = process.stdout.readline()
    found = re.match(r"(http://127\.0\.0\.1:\d+)  4 prompts", line)
    assert found, line
    yield found[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    process.stdout.close()


def test_llamafactory_s_form(url: str) -> None:
    """As ``train/ppo/ppo_utils.get_rewards_from_server`` posts it."""
    status, said = post(url, {"model": "model", "messages": [chatml(SEA, GOOD), chatml(SEA, COMMA),
                                                            chatml(SHORE, "The sea is wide.")]})
    assert (status, said["scores"]) == (200, [1.0, 0.0, 0.5])
    assert post(f"{url}/v1/score/evaluation", {"model": "m", "messages": [chatml(SEA, GOOD)]})[1]["scores"] == [1.0]


def test_slime_s_form(url: str) -> None:
    assert post(url, {"prompt": SEA, "response": COMMA, "label": None}) == (200, 0.0)
    prompt = [{"role": "system", "content": "x"}, {"role": "user", "content": SHORE}]
    assert post(url, {"prompt": prompt, "response": COMMA.replace(",", ""), "label": None}) == (200, 0.5)
    label = json.dumps({**BOTH, "prompt": "Describe a bay."})
    assert post(url, {"prompt": "Describe a bay.", "response": GOOD, "label": label}) == (200, 1.0)


def test_openrlhf_s_form(url: str) -> None:
    prompt = chatml(SEA, "").partition("assistant\n")[0] + "assistant\n"
    queries = [f"<s>{prompt}{answer}<|im_end|>" for answer in (GOOD, COMMA)]
    label = json.dumps({**COMMAS, "prompt": SEA})
    for labels in ([label, label], ["", ""]):
        status, said = post(f"{url}/get_reward", {"query": queries, "prompts": [prompt] * 2, "labels": labels})
        assert (status, said) == (200, {"rewards": [1.0, 0.0], "scores": [1.0, 0.0]})


def test_health_counts_what_was_asked(url: str) -> None:
    before = json.loads(urllib.request.urlopen(f"{url}/health").read())
    post(url, {"messages": [chatml(SEA, GOOD)] * 3})
    after = json.loads(urllib.request.urlopen(f"{url}/health").read())
    assert (after["status"], after["prompts"]) == ("ok", 4)
    assert after["answers"] - before["answers"] == 3


@pytest.mark.parametrize(("body", "status", "says"), [
    ({"messages": [chatml("Describe the desert.", GOOD)]}, 400, "no known prompt"),
    ({"messages": [f"{SEA} {GOOD}"]}, 400, "cannot tell where the answer begins"),
    ({"messages": []}, 400, "expected 1 to 4096"),
    ({"messages": [1]}, 400, "expected a list of texts"),
    ({"messages": ["x" * 1_000_001]}, 413, "more than 1000000 characters"),
    ({"prompt": "Describe the desert.", "response": GOOD}, 400, "no known prompt"),
    ({"prompt": SEA, "response": None}, 400, "field 'response'"),
    ({"prompt": SEA, "response": GOOD, "label": "{}"}, 400, "names no constraints"),
    ({"query": [GOOD], "prompts": [SEA], "labels": [""]}, 400, "does not hold its prompt"),
    ({"hello": 1}, 400, "expected 'messages'"), ([1], 400, "expected an object"),
    ({"messages": [chatml("Describe a lake.", GOOD)]}, 422, "cannot be had"),
])
def test_what_is_wrong_is_an_error_with_its_reason_and_no_number(url: str, body: Any, status: int, says: str) -> None:
    found, said = post(url, body)
    assert found == status
    assert set(said) == {"error"}
    assert says in said["error"]


def test_a_body_that_is_no_json_is_refused(url: str) -> None:
    assert post(url, None, raw=b"{")[0] == 400
    assert post(url, None, raw=b"\xff\xfe")[0] == 400


def test_a_file_without_ground_truth_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"prompt": "x", "ground_truth": json.dumps(COMMAS)}) + '\n{"prompt": "y"}\n')
    with pytest.raises(UserError, match=r"p\.jsonl:2: field 'ground_truth': missing"):
        read_known(path)
    path.write_text('{"prompt": "x", "ground_truth": "42"}\n')
    with pytest.raises(UserError, match=r"p\.jsonl:1: ground_truth"):
        read_known(path)


# ---------------------------------------------------------------- recognising a prompt


def known(*turns: str) -> Known:
    return Known(turns, turns[::2], json.dumps(COMMAS))


FIRST, SECOND = "Tell me about the tides of the sea.", "And now about the moon?"
PROMPTS = KnownPrompts([known(SEA), known(SHORE), known("Hi?"), known(FIRST), known(FIRST, "They rise.", SECOND)])


@pytest.mark.parametrize(("text", "turns", "answer"), [
    (chatml(SEA, GOOD), (SEA,), GOOD),
    (chatml(SHORE, GOOD), (SHORE,), GOOD),
    (chatml(SEA, f"You ask: {SHORE}"), (SEA,), f"You ask: {SHORE}"),
    (chatml(SHORE, SEA), (SHORE,), SEA),
    (chatml("Hi?", GOOD), ("Hi?",), GOOD),
    (chatml(SECOND, GOOD, before=chatml(FIRST, "They rise.")), (FIRST, "They rise.", SECOND), GOOD),
    (chatml(FIRST, "They rise."), (FIRST,), "They rise."),
    (chatml(SEA.replace(". ", ".  \n"), GOOD), (SEA,), GOOD),
    (f"<s>[INST] {SEA} [/INST] {GOOD}</s>", (SEA,), GOOD),
    (f"Human: {SEA}\nAssistant:{GOOD}", (SEA,), GOOD),
    (f"<bos><start_of_turn>user\n{SEA}<end_of_turn>\n<start_of_turn>model\n{GOOD}<end_of_turn>", (SEA,), GOOD),
    (f"<|start_header_id|>user<|end_header_id|>\n\n{SEA}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
     f"{GOOD}<|eot_id|>", (SEA,), GOOD),
    (f"### Instruction:\n{SEA}\n\n### Response:\n{GOOD}", (SEA,), GOOD),
])
def test_a_prompt_is_recognised_in_the_template_s_text(text: str, turns: tuple[str, ...], answer: str) -> None:
    from if_factory.chat.thinking import answer_text

    found, rest = PROMPTS.find(text)
    assert (found.turns, answer_text(rest).strip()) == (turns, answer)


def test_a_template_of_one_s_own_is_named() -> None:
    prompts = KnownPrompts([known(SEA)], after="<<A>>")
    assert prompts.find(f"<<Q>>{SEA}<<A>>{GOOD}") == (known(SEA), GOOD)
