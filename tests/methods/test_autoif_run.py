"""AutoIF from the command line, against a scripted teacher behind an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

from if_factory.evaluation.audit import audit
from tests.support.command_run import finish, start
from tests.support.scripted_teacher import ScriptedServer, instruction

CONCURRENCY = 64


def recipe(folder: Path, url: str, instructions: int) -> Path:
    path = folder / "recipe.yaml"
    rows = [json.dumps({"instruction": instruction(i)}) for i in range(instructions)]
    (folder / "instructions.jsonl").write_text("\n".join(rows) + "\n")
    path.write_text(json.dumps({
        "method": "autoif", "seeds": "instructions.jsonl",
        "models": {"teacher": {"endpoint": url, "concurrency": CONCURRENCY}},
        "options": {"augment_calls": 2, "augment_rounds": 1, "dpo_instruction_apart": True,
                    "augment_count": 5, "answers": 3, "queries_per_instruction": 1,
                    "teacher_samples": 4, "max_constraints": 2}}))
    return path


async def test_what_is_exported_is_accepted_and_passes_an_audit_of_its_own_functions(tmp_path):
    from click.testing import CliRunner

    from if_factory.cli import main

    server = ScriptedServer(delay=0.0)
    path = recipe(tmp_path, await server.start(), 8)
    await finish(await start(path, tmp_path / "run"))
    await server.stop()
    done = CliRunner().invoke(main, ["export", str(tmp_path / "run"), "--into", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, ["check", str(tmp_path / "data")]).exit_code == 0
    for name in ("sft", "dpo", "dpo_instruction", "kto"):
        report = audit(tmp_path / "data" / f"autoif_{name}.jsonl")
        assert report.rows
        assert report.score == 1.0
