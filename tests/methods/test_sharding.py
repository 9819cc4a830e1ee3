"""Three shards, merged, are the run that one machine would have made; scripted models, every method."""

from __future__ import annotations

import json
import shutil
import threading
from asyncio import new_event_loop, run_coroutine_threadsafe
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from click.testing import CliRunner

from if_factory import api
from if_factory.api.common import iter_seeds
from if_factory.cli import main
from if_factory.errors import UserError
from tests.support.command_run import OUTCOME
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.method_cases import CASES, Case, write_recipe


@pytest.fixture
def endpoint() -> Iterator:
    """Starts a case's server in a thread of its own; its URL."""
    loop, started = new_event_loop(), []
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def start(case: Case) -> tuple[FakeEndpoint, str]:
        server = case.server()
        server.delay = 0.0
        started.append(server)
        return server, run_coroutine_threadsafe(server.start(), loop).result(10)

    yield start
    for server in started:
        run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(CASES))
def test_merged_shards_are_the_whole_run(name: str, endpoint, tmp_path: Path) -> None:
    server, url = endpoint(CASES[name])
    recipe = write_recipe(tmp_path, name, url, 14)
    api.run(recipe, tmp_path / "whole")
    asked = set(server.asked)
    shards = []
    for i in (3, 1, 2):
        shards.append(tmp_path / f"shard{i}")
        api.run(api.load_recipe(recipe, shard=f"{i}/3"), shards[-1])
    before = server.requests
    api.merge(shards, tmp_path / "merged")
    for file in OUTCOME:
        assert (tmp_path / "merged" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert server.requests == before or name in ("autoif", "decif"), "what looks at all records may ask more"
    assert set(server.asked) >= asked


def test_every_seed_is_in_one_shard(endpoint, tmp_path: Path) -> None:
    _, url = endpoint(CASES["complex_to_simple"])
    recipe = write_recipe(tmp_path, "complex_to_simple", url, 11)
    whole = [r.id for r in api.seeds_of(api.load_recipe(recipe))]
    shards = [[r.id for r in api.seeds_of(api.load_recipe(recipe, shard=f"{i}/4"))] for i in (1, 2, 3, 4)]
    assert sorted(chain.from_iterable(shards)) == sorted(whole)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@pytest.mark.parametrize("name", ["complex_to_simple", "humpback", "suri"])
def test_a_seed_is_read_when_it_is_taken(name: str, tmp_path: Path) -> None:
    """A run puts each in its file before it reads the next: a list of all would be its peak of memory."""
    recipe = write_recipe(tmp_path, name, "http://localhost:1/v1", 2)
    with open(tmp_path / "seeds.jsonl", "a") as f:
        f.write("{}\n")
    seeds = iter_seeds(api.load_recipe(recipe))
    next(seeds)
    with pytest.raises(UserError, match=r"seeds\.jsonl:3"):
        list(seeds)


def test_from_the_command_line_with_what_can_go_wrong(endpoint, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, url = endpoint(CASES["complex_to_simple"])
    recipe = write_recipe(tmp_path, "complex_to_simple", url, 6)

    def command(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(main, list(arguments))
        assert done.exit_code == status, done.output
        return " ".join(done.output.split())

    assert "there is no shard 3/2" in command("run", str(recipe), "--shard", "3/2", status=2)
    command("run", str(recipe), "--shard", "1/2")
    assert "shard 2/2 is missing" in command("merge", "runs/recipe-shard-1-2", "-o", "runs/all", status=2)
    command("run", str(recipe), "--shard", "2/2")
    assert "holds a run with shard" in command("run", str(recipe), "--shard", "2/2", "-o", "runs/recipe-shard-1-2",
                                               status=2)
    command("merge", "runs/recipe-shard-2-2", "runs/recipe-shard-1-2", "-o", "runs/all")
    command("run", str(recipe), "-o", "runs/whole")
    for file in OUTCOME:
        assert Path("runs/all", file).read_bytes() == Path("runs/whole", file).read_bytes()
    assert "this run is no shard" in command("merge", "runs/whole", "-o", "runs/again", status=2)
    shutil.copytree("runs/recipe-shard-2-2", "runs/copy")
    with pytest.raises(UserError, match="the same shard"):
        api.merge(["runs/recipe-shard-1-2", "runs/recipe-shard-2-2", "runs/copy"], "runs/again")
    other = json.loads(recipe.read_text())
    other["options"] = {**other["options"], "max_constraints": 2}
    recipe.write_text(json.dumps(other))
    command("run", str(recipe), "--shard", "2/2", "-o", "runs/other")
    with pytest.raises(UserError, match=r"differs .* in 'options'"):
        api.merge(["runs/recipe-shard-1-2", "runs/other"], "runs/again")
