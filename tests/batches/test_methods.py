"""A run by batch files ends with the bytes of a run that asked its models directly; scripted models, every method."""

from __future__ import annotations

import json
import threading
from asyncio import new_event_loop, run_coroutine_threadsafe
from collections.abc import Iterator
from pathlib import Path

import pytest

from if_factory import api
from if_factory.pipeline.rundir import RunDir
from tests.support.batch_service import answer_file
from tests.support.command_run import OUTCOME
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.method_cases import CASES, write_recipe

# Calls of each case that depend on each other, where every reply can be read.
DEPENDENT = {
    "complex_to_simple": 1,  # answers
    "humpback": 2,  # instruction, ratings
    "suri": 5,  # backtranslate, corrupt, label, judge of the constraints, judge of their corrupted forms
    "decif": 7,  # requests, scenarios, instruction, consistency, criteria, answers, judge
    "autoif": 8,  # augment, screen, functions, back-translation, consistency, compatible, answers, score
    "conifer": 11,  # reframe, stands alone, constrain, five levels, feasible, answer, judge
    "soft_steps": 21,  # five steps one after the other: constraint and its check, answers, verdicts, comparison
}
SEEDS = {"autoif": 2, "conifer": 2}  # of the longest ones
SLOW = ("humpback", "soft_steps", "suri")


@pytest.fixture
def started() -> Iterator:
    """Starts a server in a thread of its own; its URL."""
    loop, running = new_event_loop(), []
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def start(server: FakeEndpoint) -> str:
        server.delay = 0.0
        running.append(server)
        return run_coroutine_threadsafe(server.start(), loop).result(20)

    yield start
    for server in running:
        run_coroutine_threadsafe(server.stop(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(20)


def by_batches(recipe: Path, out: Path, folder: Path, server: FakeEndpoint) -> int:
    """Run wave after wave until the method is finished; how many there were."""
    waves = 0
    while not (report := api.run(recipe, out, batch=folder)).complete:
        assert report.result.stopped_by == "batch"
        assert report.batch
        assert report.batch.opened
        waves += 1
        for file in report.batch.files:
            answer_file(server, folder / file.name, folder / file.beside(".output.jsonl"))
        assert set(api.batch(folder, "fetch").counts) == {"answered"}
    return waves


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
                                  for name in sorted(CASES)])
def test_the_same_files_as_a_live_run_and_every_request_once(name: str, started, tmp_path: Path) -> None:
    live, offline = CASES[name].server(), CASES[name].server()
    recipe = write_recipe(tmp_path, name, started(live), SEEDS.get(name, 4))
    api.run(recipe, tmp_path / "live")
    named = json.loads(recipe.read_text())
    for model in named["models"].values():
        model.update(model="fake", endpoint="http://127.0.0.1:9/v1")  # nobody listens there
    recipe.write_text(json.dumps(named))
    waves = by_batches(recipe, tmp_path / "batches", tmp_path / "files", offline)
    made_anew = api.emit(api.recipe_of_run(tmp_path / "live"), RunDir(tmp_path / "live").iter_records(), keep=False)
    assert RunDir(tmp_path / "live").emission() == made_anew.counts(), "the run relies on what its stages decided"
    for file in OUTCOME:
        assert (tmp_path / "batches" / file).read_bytes() == (tmp_path / "live" / file).read_bytes(), file
    assert set(offline.asked.values()) == {1}, "a request was paid for twice"
    assert set(offline.asked) == set(live.asked)
    assert waves <= DEPENDENT[name]
