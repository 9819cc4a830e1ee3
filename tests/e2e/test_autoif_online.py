"""Online DPO on the embedded model: real sampling, real checks, real training, twice in a row from one command."""

from __future__ import annotations

import json
import math

import pytest

from if_factory.chat.budget import Usage
from if_factory.evaluation.audit import audit
from if_factory.inputs.seeds import read_seeds
from if_factory.pipeline.ledger import Ledger
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.rundir import RunDir
from if_factory.recipe import parse
from tests.e2e.command import if_factory

pytestmark = pytest.mark.e2e

THINGS = ("colours", "fruits", "rivers", "animals", "planets", "tools", "drinks", "sports", "trees", "cities")
SHORT = {"type": "length_constraints:number_words", "kwargs": {"num_words": 12, "relation": "less than"},
         "text": "Use less than 12 words."}
NO_COMMA = {"type": "punctuation:no_comma", "kwargs": {}, "text": "Do not use any commas."}


def online(folder):
    return if_factory(
        folder, "online", "run", "--model", "model", "--iterations", 2, "-n", 8, "--samples", 5,
        "--max-tokens", 32, "--batch", 40, "--all-pairs", "--set", "per_device_train_batch_size=2", "--set",
        "gradient_accumulation_steps=1", "--set", "cutoff_len=128", "--set", "learning_rate=1e-4", "--set",
        "max_steps=3", "--set", "disable_gradient_checkpointing=true", "-o", "out")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, hf_model):
    for package in ("llamafactory", "gguf"):
        pytest.importorskip(package, reason=f"needs the extras train and local ({package})")
    folder = tmp_path_factory.mktemp("online")
    rows = [{"prompt": f"Name three {thing}. {c['text']}", "constraints": [c]}
            for thing in THINGS for c in (SHORT, NO_COMMA)]
    (folder / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = read_seeds(folder / "seeds.jsonl", method="complex_to_simple")
    recipe = parse({"name": "tiny", "models": {"student": {}}})
    with RunDir(folder / "run") as run:
        run.claim(recipe.resolved())
        run.write(RunResult(records, [], Ledger(["compose"]), complete=True), Usage())
    (folder / "model").symlink_to(hf_model)
    return folder, online(folder)


def logs(folder, number):
    saved = folder / "out" / "saves" / f"tiny_online_{number}"
    return json.loads((saved / "trainer_state.json").read_text())["log_history"]


def test_both_iterations_sampled_paired_and_trained(trained):
    folder, out = trained
    for number in (1, 2):
        summary = json.loads((folder / "out" / f"iteration_{number}" / "summary.json").read_text())
        assert summary["answers"] == 40
        assert summary["passed"] + summary["failed"] + summary["no_verdict"] == 40
        assert summary["pairs"] > 0
        assert all(math.isfinite(x) for x in summary["losses"])
        assert (folder / "out" / "saves" / f"tiny_online_{number}" / "adapter_model.safetensors").exists()
        assert f"iteration {number}: " in out


def test_every_pair_passes_an_independent_audit(trained):
    folder, _ = trained
    for number in (1, 2):
        report = audit(folder / "out" / "data" / f"tiny_online_{number}.jsonl")
        assert report.rows > 0
        assert report.score == 1.0


def test_the_second_iteration_samples_from_and_is_compared_with_what_the_first_one_made(trained):
    folder, _ = trained
    notes = [folder / "out" / f"iteration_{n}" / "summary.json" for n in (1, 2)]
    models = [json.loads(note.read_text())["model"] for note in notes]
    assert models[0] == "model"
    assert models[1].startswith("model+tiny_online_1@")
    assert logs(folder, 2)[0]["rewards/margins"] == pytest.approx(0, abs=2e-3)
    assert any(abs(step.get("rewards/margins", 0)) > 1e-4 for step in logs(folder, 2)[1:])


def test_the_same_command_again_asks_nothing_and_trains_nothing(trained):
    folder, _ = trained
    before = {p: p.stat().st_mtime_ns for p in (folder / "out" / "saves").rglob("adapter_model.safetensors")}
    answers = {p: p.read_bytes() for p in (folder / "out").rglob("responses.jsonl")}
    assert online(folder).count("finished before, skipped") == 2
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert {p: p.read_bytes() for p in answers} == answers
