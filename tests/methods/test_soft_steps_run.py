"""Step-by-Step Mastery from the command line, against a scripted teacher and judge behind an endpoint."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from random import Random

import psutil
import pytest

from if_factory.constraints.verify import verify
from if_factory.records import Constraint
from tests.support.soft_world import SoftEndpoint

# constraints that a text of random words can meet
EASY = ["punctuation", "digits:none", "style:no_contractions", "keywords:forbidden_words"]


def recipe(folder: Path, url: str, seeds: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps({"prompt": f"Describe place number {i} to a friend."}) for i in range(seeds))
    (folder / "seeds.jsonl").write_text("\n".join(rows) + "\n")
    path = folder / "recipe.yaml"
    path.write_text(json.dumps({"method": "soft_steps", "seeds": "seeds.jsonl",
                                "options": {"steps": 3, "include": EASY},
                                "models": {"teacher": {"endpoint": url, "concurrency": 64}}}))
    return path


async def start(recipe: Path, out: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "if_factory", "run", str(recipe), "-o", str(out),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "OPENAI_API_KEY": ""})


async def finish(process: asyncio.subprocess.Process) -> int:
    """The largest resident set seen, in bytes."""
    peak, done = 0, asyncio.create_task(process.communicate())
    while not done.done():
        try:
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        except psutil.Error:
            break
        await asyncio.wait([done], timeout=0.1)
    _, err = await done
    assert process.returncode == 0, err.decode()
    return peak


def read(path: str) -> str:
    return Path(path).read_text()


@pytest.mark.parametrize("seeds", [60, pytest.param(5000, marks=pytest.mark.slow)])
async def test_a_run_survives_kill_9_and_ends_as_if_nothing_had_happened(tmp_path, seeds):
    endpoint = SoftEndpoint(delay=0.005)
    path = recipe(tmp_path, await endpoint.start(), seeds)
    began = time.monotonic()
    peak = await finish(await start(path, tmp_path / "whole"))
    seconds = time.monotonic() - began
    asked = endpoint.requests
    assert set(endpoint.asked.values()) == {1}, "an answer was paid for twice"
    ledger = json.loads((tmp_path / "whole" / "ledger.json").read_text())
    assert ledger["complete"] is True
    counts = ledger["emission"]["dpo"]
    assert counts["rows"] > seeds / 2
    print(f"\n{seeds} seeds: {asked} requests in {seconds:.1f} s ({asked / seconds:.0f}/s), ideal at this delay "
          f"{asked * endpoint.delay / 64:.1f} s; peak {peak / 2**20:.0f} MiB; {counts}")

    rng, kills = Random(1), 3
    for _ in range(kills):
        process, at = await start(path, tmp_path / "killed"), endpoint.requests
        limit = at + rng.randrange(1, asked // (kills + 1))
        while endpoint.requests < limit and process.returncode is None:  # noqa: ASYNC110 the condition is the server's
            await asyncio.sleep(0.002)
        assert process.returncode is None, "finished before it could be killed: no test"
        process.send_signal(signal.SIGKILL)
        await process.communicate()
    await finish(await start(path, tmp_path / "killed"))
    for name in ("records.jsonl", "rejects.jsonl", "ledger.json", "usage.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert endpoint.requests <= 2 * asked + kills * 64, "more was asked again than was in flight"
    await endpoint.stop()


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
