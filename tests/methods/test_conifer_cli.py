"""Conifer by its commands, from init to check, against a scripted teacher and a scripted student at endpoints."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from if_factory.chat.base import ChatRequest
from if_factory.cli import main
from if_factory.methods.base import get_method
from if_factory.recipe import commented, load
from tests.methods.test_conifer import WEAK, Teacher
from tests.support.fake_endpoint import FakeEndpoint


def cli(*arguments: object) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


async def play(folder: Path, external: str) -> None:
    teacher = Teacher()
    scripts = {"teacher": lambda body: teacher(ChatRequest("teacher", tuple(body["messages"]))),
               "student": lambda body: WEAK}
    servers = [FakeEndpoint(delay=0, model=role, script=script) for role, script in scripts.items()]
    urls = [await s.start() for s in servers]
    recipe = yaml.safe_load(cli("init", "conifer"))
    recipe |= {"limit": 2, "models": dict(zip(("teacher", "student"), urls, strict=True)),
               "options": {"external": external, "format_share": 0.5, "reframed": 2, "format_levels": [],
                           "format_types": ["change_case:english_lowercase"]},
               "replay": {"file": "share.json", "ratio": "1 to 2"}}
    chats = [{"conversations": [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": "a"},
                                {"from": "human", "value": "more"}, {"from": "gpt", "value": f"b{i}"}]}
             for i in range(40)]
    folder.joinpath("share.json").write_text(json.dumps(chats))
    folder.joinpath("conifer.yaml").write_text(yaml.safe_dump(recipe))
    try:
        for command in (("plan", "conifer.yaml"), ("preview", "conifer.yaml"), ("run", "conifer.yaml")):
            assert await asyncio.to_thread(cli, *command)
    finally:
        for server in servers:
            await server.stop()


@pytest.mark.parametrize("external", ["folded", "masked"])
def test_from_init_to_check_all_forms_of_feedback_are_one_sft(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: str) -> None:
    monkeypatch.chdir(tmp_path)
    asyncio.run(play(tmp_path, external))
    cli("export", "runs/conifer", "--into", "data")
    cli("curriculum", "runs/conifer", "--model", "m", "--template", "llama3", "--dataset-dir", "data",
        "-o", "yaml")
    stages: dict[str, dict[str, Any]] = {}
    for path in sorted(Path("yaml").glob("*.yaml")):
        config = yaml.safe_load(path.read_text())
        if "stage" in config:
            stages[path.name] = config
    rows = {p.stem: p.read_text().count("\n") for p in Path("data").glob("conifer_*[a-z].jsonl")}
    own = sum(n for name, n in rows.items() if name.startswith("conifer_sft") and "." not in name)
    assert rows["conifer_replay"] == round(own / 2)
    trained = [(c["stage"], c["dataset"]) for c in stages.values()]
    forms = "conifer_sft,conifer_sft_internal"
    # One SFT over every form and the general data; turns that must be masked train apart: LLaMA-Factory masks by run.
    one = [("sft", f"{forms},conifer_sft_external,conifer_replay")]
    two = [("sft", f"{forms},conifer_replay"), ("sft", "conifer_sft_external_masked")]
    assert trained == [*(one if external == "folded" else two), ("dpo", "conifer_dpo")]
    masks = [c.get("mask_history") for c in stages.values()]
    assert masks == [False, *([True] if external == "masked" else []), None]
    cli("check", "data")
    cli("report", "runs/conifer")
    assert (tmp_path / "runs" / "conifer" / "report.html").stat().st_size > 1000


@pytest.mark.parametrize("method", ["conifer", "humpback"])
def test_the_commented_recipe_loads_and_says_what_is_default(tmp_path: Path, method: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(commented(method))
    assert load(path).method_options() == get_method(method).options()
    assert json.loads(json.dumps(yaml.safe_load(path.read_text())))["method"] == method
