"""DecIF from the command line, against a scripted teacher behind an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from if_factory.cli import main
from if_factory.constraints.verify import verify
from if_factory.records import Constraint
from tests.support.command_run import finish, start
from tests.support.decif_teacher import TeacherServer

CONCURRENCY = 64
OPTIONS = {"responses": 2,
           "include": ["punctuation", "digits:none", "style:no_contractions", "keywords:forbidden_words"]}


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def recipe(folder: Path, url: str, instructions: int, **options) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({
        "method": "decif", "options": {**OPTIONS, "instructions": instructions, **options},
        "models": {"teacher": {"endpoint": url, "concurrency": CONCURRENCY}}}))
    return path


async def test_what_is_exported_passes_an_independent_audit_and_llama_factorys_rules(tmp_path):
    server = TeacherServer(delay=0)
    path = recipe(tmp_path, await server.start(), 40, soft_share=0.4, include=["punctuation:no_comma"])
    await finish(await start(path, tmp_path / "run"))
    await server.stop()

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    data = tmp_path / "data"
    data.mkdir()
    call("export", tmp_path / "run", "--into", data)
    call("check", data)
    for name, sides in (("sft", ["output"]), ("dpo", ["chosen"])):
        rows = read(data / f"decif_{name}.jsonl")
        notes = read(data / f"decif_{name}.provenance.jsonl")
        assert len(rows) == len(notes) > 10
        for row, note in zip(rows, notes, strict=True):
            assert {"domain", "request", "scenario", "task"} <= set(note)
            checkable = [c for c in map(Constraint.model_validate, note["constraints"]) if c.kind == "code"]
            assert all(v.passed for side in sides for v in verify(row[side], checkable))
            assert name == "sft" or note["violated_positions"]
    call("curriculum", tmp_path / "run", "--model", "m", "--dataset-dir", data, "-o", tmp_path / "yaml",
         "--set", "max_steps=20")  # a stage of fewer than ten has no warm-up
    assert "warmup_ratio: 0.03\n" in (tmp_path / "yaml" / "decif_1_sft_easy.yaml").read_text()


def test_init_prints_a_recipe_that_plans_and_names_every_option(tmp_path):
    printed = CliRunner().invoke(main, ["init", "decif"]).output
    path = tmp_path / "decif.yaml"
    path.write_text(printed)
    planned = CliRunner().invoke(main, ["plan", str(path)])
    assert planned.exit_code == 0, planned.output
    assert "consistency" in planned.output
