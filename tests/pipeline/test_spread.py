"""The ordered map over blocks, with a scripted engine: order, bounds, errors. On a real Ray: tests/e2e/test_ray.py."""

from __future__ import annotations

import os
import pickle
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.api import data
from if_factory.cli import main
from if_factory.constraints import base, generated
from if_factory.errors import UserError
from if_factory.pipeline.spool import line_of, record_of
from if_factory.pipeline.spread import _WAITING, _Process, in_blocks, in_order, spread
from if_factory.recipe import parse
from if_factory.records import Candidate, Constraint, Example, Record
from if_factory.sandbox import Limits


class Engine:
    """Finishes blocks in a random order, in another thread, once as many are under way as may be."""

    def __init__(self, seed: int, workers: int, blocks: int) -> None:
        self.rng, self.workers, self.left = Random(seed), workers, blocks
        self.open: list[tuple[int, Future[int]]] = []
        self.most = 0

    def submit(self, block: int) -> Future[int]:
        future: Future[int] = Future()
        self.open.append((block, future))
        self.most = max(self.most, len(self.open))
        self.left -= 1
        if len(self.open) == self.workers or not self.left:
            for _ in range(len(self.open) if not self.left else self.rng.randint(1, len(self.open))):
                n, done = self.open.pop(self.rng.randrange(len(self.open)))
                thread = Thread(target=done.set_result, args=(n * n,))
                thread.start()
                thread.join()
        return future


@settings(deadline=None, max_examples=50)
@given(st.integers(), st.integers(1, 5), st.integers(0, 60))
def test_results_are_in_the_order_of_the_blocks_and_no_more_than_asked_are_under_way(
        seed: int, workers: int, blocks: int) -> None:
    engine, read = Engine(seed, workers, blocks), Counter[str]()

    def source() -> Iterator[int]:
        for n in range(blocks):
            read["blocks"] += 1
            yield n

    for n, found in enumerate(in_order(engine.submit, source(), workers)):
        assert found == n * n
        assert read["blocks"] - n <= _WAITING * workers + 1, "blocks are read as they are needed"
    assert read["blocks"] == blocks
    assert engine.most <= workers


def test_an_error_comes_where_its_block_would() -> None:
    def submit(block: int) -> Future[int]:
        future: Future[int] = Future()
        if block == 2:
            future.set_exception(UserError("row 2 is wrong"))
        else:
            future.set_result(block)
        return future

    found = in_order(submit, range(5), 2)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(UserError, match="row 2 is wrong"):
        next(found)


def test_without_workers_one_block_after_the_other_is_read() -> None:
    read: list[int] = []

    def rows() -> Iterator[int]:
        for n in range(7):
            read.append(n)
            yield n

    found = spread(lambda: sum, in_blocks(rows(), 3))
    assert next(found) == 3
    assert read == [0, 1, 2]
    assert list(found) == [12, 6]


def pickling(opens: Callable[[], Callable[[Any], Any]], blocks: Iterator[Any], workers: int | None) -> Iterator[Any]:
    """``spread`` in this process, with all that would travel pickled."""
    function = pickle.loads(pickle.dumps(opens))()
    for block in blocks:
        yield pickle.loads(pickle.dumps(function(pickle.loads(pickle.dumps(block)))))


def records() -> list[Record]:
    constraint = Constraint(type="punctuation:no_comma", kwargs={})
    texts = ["A quiet street with three shops.", "Shops, and more shops.", "", "I cannot help with that."]
    return [Record.from_seed(f"Describe place number {i} to a friend.").child(
        f"Describe place number {i} to a friend. Use no commas.", [constraint], 1.0).with_candidates(
        *(Candidate(text=texts[(i + k) % 4], source="vanilla", finish_reason="stop") for k in range(2)))
        for i in range(30)]


def test_emission_counted_block_by_block_is_that_of_all_records(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse({"method": "complex_to_simple", "models": {"student": {"endpoint": "http://localhost:1/v1"}},
                    "usefulness": {"relevance": "off"}}, where="recipe.yaml")
    whole = data.emit(recipe, records(), keep=False)
    monkeypatch.setattr(data, "_TOGETHER", 4)
    monkeypatch.setattr(data, "spread", pickling)
    taken: dict[str, list[Example]] = {}
    lines = [line_of(record) for record in records()]
    counted = data.emit_lines(recipe, lines, record_of, 2,
                              take=lambda name, row: taken.setdefault(name, []).append(row))
    assert whole.rows.total() > 5
    assert len(whole.usefulness()["refused"]) >= 1
    assert counted.counts() == whole.counts()
    assert counted.usefulness() == whole.usefulness()
    assert taken == data.emit(recipe, records()).datasets
    assert not counted.datasets
    assert data.emit_lines(recipe, [], record_of, 2).usefulness() == data.emit(recipe, [], keep=False).usefulness()


def test_emission_forgets_between_blocks_which_functions_timed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse({"method": "complex_to_simple", "models": {"student": {"endpoint": "http://localhost:1/v1"}},
                    "usefulness": {"relevance": "off"}, "sandbox": {"cpu_seconds": 0.5, "wall_seconds": 0.5}},
                   where="recipe.yaml")
    source = "def evaluate(response):\n    while 'slow' in response:\n        pass\n    return True\n"
    given = Constraint(type="autoif", kind="generated_code", kwargs={"functions": [source]})
    made = [Record.from_seed(f"Describe {what} river.").child(f"Describe {what} river.", [given], 1.0).with_candidates(
        Candidate(text=f"The water is {what} and clear near the old stone bridge.", source="vanilla",
                  finish_reason="stop")) for what in ("slow", "fast")]
    before = generated.settings()
    try:
        assert data.emit(recipe, made).rows["sft"] == 0
        monkeypatch.setattr(data, "_TOGETHER", 1)
        assert data.emit(recipe, made).rows["sft"] == 1
    finally:
        generated.configure(workers=before[0], limits=before[1], allow_weak=before[2])


@pytest.mark.parametrize("command", [
    ["audit", "d.jsonl"], ["check", "."], ["contamination", "d.jsonl", "--against", "d.jsonl", "-o", "out"],
    ["decontaminate", "d.jsonl", "--against", "d.jsonl", "-o", "out"]])
def test_the_commands_refuse_half_of_the_options_and_say_that_ray_is_missing(
        command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ray", None)
    Path("d.jsonl").write_text('{"prompt": "p", "response": "r", "constraints": [{"type": "punctuation:no_comma"}]}\n')
    Path("dataset_info.json").write_text("{}")
    half = CliRunner().invoke(main, [*command, "--ray-workers", "2"])
    assert half.exit_code == 2
    assert "--ray-address and --ray-workers go with --engine ray" in " ".join(half.output.split())
    missing = CliRunner().invoke(main, [*command, "--engine", "ray"])
    assert missing.exit_code == 2
    assert 'pip install "if-factory[ray]"' in missing.output


def test_a_worker_has_the_plugins_sandbox_and_variables_of_this_process(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd.py").write_text("import os\nos.environ['IF_FACTORY_LOADED'] = str(int(os.environ.get("
                              "'IF_FACTORY_LOADED', 0)) + 1)\n")
    monkeypatch.setenv("IF_FACTORY_LOADED", "0")
    monkeypatch.setattr(base, "_plugins", {})
    before = generated.settings()
    base.load_plugin(Path("odd.py"))
    generated.configure(workers=3, limits=Limits(memory_mb=99))
    process = pickle.loads(pickle.dumps(_Process.here()))
    assert os.environ["IF_FACTORY_LOADED"] == "1"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    generated.configure()
    try:
        process.adopt()
        assert generated.settings() == (3, Limits(memory_mb=99), False)
        assert Path.cwd() == tmp_path
        assert os.environ["IF_FACTORY_LOADED"] == "2"
    finally:
        generated.configure(workers=before[0], limits=before[1], allow_weak=before[2])
