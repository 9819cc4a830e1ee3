"""Step-by-Step Mastery from the command line, against a scripted teacher and judge behind an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

from if_factory.constraints.verify import verify
from if_factory.records import Constraint
from tests.support.command_run import finish, start
from tests.support.soft_world import SoftEndpoint

CONCURRENCY = 64

# constraints that a text of random words can meet
EASY = ["punctuation", "digits:none", "style:no_contractions", "keywords:forbidden_words"]


def recipe(folder: Path, url: str, seeds: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({"prompt": f"Describe place number {i} to a friend."}) for i in range(seeds))
    (folder / "seeds.jsonl").write_text("\n".join(rows) + "\n")
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"method": "soft_steps", "seeds": "seeds.jsonl",
                                "options": {"steps": 3, "include": EASY},
                                "models": {"teacher": {"endpoint": url, "concurrency": CONCURRENCY}}}))
    return path


def read(path: str) -> str:
    return Path(path).read_text()


async def test_what_is_exported_passes_an_independent_check(tmp_path):
    endpoint = SoftEndpoint(delay=0)
    path = recipe(tmp_path, await endpoint.start(), 40)
    await finish(await start(path, tmp_path / "run"))
    await endpoint.stop()
    from click.testing import CliRunner

    from if_factory.cli import main

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    data = tmp_path / "data"
    call("export", tmp_path / "run", "--into", data, "--bins", "1-2,3")
    notes = [json.loads(line) for line in (data / "soft_steps_dpo.provenance.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in (data / "soft_steps_dpo.jsonl").read_text().splitlines()]
    assert len(rows) == len(notes) > 20
    for row, note in zip(rows, notes, strict=True):
        constraints = [Constraint.model_validate(c) for c in note["constraints"]]
        assert not any(v.failed for v in verify(row["chosen"], constraints))
        assert note["violated_positions"] or note["lost"]
    for name, steps in (("easy", {1, 2}), ("hard", {3})):
        lines = (data / f"soft_steps_dpo_{name}.provenance.jsonl").read_text().splitlines()
        ks = [json.loads(line)["k"] for line in lines]
        assert set(ks) == steps
        assert ks == sorted(ks), "a bin goes from easy to hard"
    call("check", data)
    said = call("curriculum", tmp_path / "run", "--model", "m", "--dataset-dir", data, "-o", tmp_path / "yaml",
                "--bins", "1-2,3", "--stages", "dpo", "--keep-order", "--set", "dpo.pref_ftx=0.5")
    easy, hard, _ = map(read, (p for p in said.split() if p.endswith(".yaml")))
    assert "pref_ftx: 0.5\n" in easy
    assert "learning_rate: 5.0e-06\n" in easy
    assert "pref_beta: 0.1\n" in easy
    assert "disable_shuffling: true\n" in easy
    assert "adapter_name_or_path: saves/soft_steps_1_dpo_easy\n" in hard
