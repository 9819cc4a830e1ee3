"""Conifer and Humpback from the command line, against scripted models behind an endpoint."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import pytest

from if_factory.llm.base import ChatRequest
from tests.methods.test_conifer import Teacher
from tests.support.command_run import LARGE, survives_kill_9
from tests.support.fake_endpoint import FakeEndpoint

CONCURRENCY = 64
SIZES = [40, pytest.param(LARGE, marks=pytest.mark.slow)]
WORDS = ["harbour", "lamp", "winter", "bread", "wheel", "stone", "garden", "letter", "copper", "morning",
         "river", "bridge", "signal", "orchard", "ferry", "clay", "lantern", "market", "valley", "thread",
         "candle", "mirror", "saddle", "anchor", "pepper", "cotton", "marble", "willow", "kettle", "tunnel"]


def write_recipe(folder: Path, method: str, url: str, rows: list[dict], roles: tuple[str, ...], **options) -> Path:
    (folder / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({
        "method": method, "seeds": "seeds.jsonl", "options": options,
        "models": {role: {"endpoint": url, "concurrency": CONCURRENCY} for role in roles}}))
    return path


@pytest.mark.parametrize("seeds", SIZES)
async def test_conifer_survives_kill_9_at_any_size(tmp_path: Path, seeds: int) -> None:
    teacher = Teacher()

    def script(body: dict) -> str:
        return teacher(ChatRequest("fake", tuple(body["messages"])))

    server = FakeEndpoint(delay=0.02, script=script)
    rows = [{"prompt": f"how the tides work in harbour number {i}?"} for i in range(seeds)]
    path = write_recipe(tmp_path, "conifer", await server.start(), rows, ("teacher",), reframed=1,
                        levels=[1, 2], format_share=0.1, format_types=["change_case:english_lowercase"])
    ledger = await survives_kill_9(path, tmp_path, server, CONCURRENCY, megabytes=200 + 0.15 * seeds)
    await server.stop()
    assert ledger["emission"]["sft"]["rows"] == seeds  # one conversation per reframed instruction
    assert ledger["emission"]["sft_internal"]["rows"] > 0


def text(i: int) -> str:
    rng = Random(i)
    return " ".join(f"{' '.join(rng.choices(WORDS, k=9)).capitalize()}." for _ in range(6))


@pytest.mark.parametrize("texts", SIZES)
async def test_humpback_survives_kill_9_at_any_size(tmp_path: Path, texts: int) -> None:
    def script(body: dict) -> str:
        ask = body["messages"][-1]["content"]
        if "You rate one response" in ask:
            rng = Random(ask + str(body.get("seed")))
            return json.dumps({"reason": "scripted", "score": rng.choice((3, 5, 5, 5))})
        found = re.search(r"TEXT\n(.*?)\.", ask)
        assert found
        return f"Tell a story about {', '.join(Random(found[1]).sample(WORDS, 8))} for {found[1].split()[0]}."

    server = FakeEndpoint(delay=0.02, script=script)
    path = write_recipe(tmp_path, "humpback", await server.start(), [{"text": text(i)} for i in range(texts)],
                        ("backward", "judge"), min_chars=100, max_chars=900, similarity=0.9)
    ledger = await survives_kill_9(path, tmp_path, server, CONCURRENCY, megabytes=200 + 0.06 * texts)
    await server.stop()
    mined = ledger["emission"]["sft"]["rows"] - 32
    assert 0 < mined < texts
    assert ledger["emission"]["sft"]["refused"]["below_threshold"] > 0
