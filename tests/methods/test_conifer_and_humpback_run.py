"""Conifer and Humpback from the command line, against scripted models behind an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from if_factory.chat.base import ChatRequest
from tests.methods.test_conifer import Teacher
from tests.support.command_run import LARGE, survives_kill_9
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.humpback_models import rate_or_write, text

CONCURRENCY = 64
SIZES = [40, pytest.param(LARGE, marks=pytest.mark.slow)]


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
    ledger = await survives_kill_9(path, tmp_path, server, CONCURRENCY, megabytes=150)
    await server.stop()
    assert ledger["emission"]["sft"]["rows"] == seeds  # one conversation per reframed instruction
    assert ledger["emission"]["sft_internal"]["rows"] > 0


@pytest.mark.parametrize("texts", SIZES)
async def test_humpback_survives_kill_9_at_any_size(tmp_path: Path, texts: int) -> None:
    server = FakeEndpoint(delay=0.02, script=rate_or_write)
    path = write_recipe(tmp_path, "humpback", await server.start(), [{"text": text(i)} for i in range(texts)],
                        ("backward", "judge"), min_chars=100, max_chars=900, similarity=0.9)
    ledger = await survives_kill_9(path, tmp_path, server, CONCURRENCY, megabytes=150)
    await server.stop()
    mined = ledger["emission"]["sft"]["rows"] - 32
    assert 0 < mined < texts
    assert ledger["emission"]["sft"]["refused"]["below_threshold"] > 0
