"""`--engine ray` on a Ray of this machine: runs with scripted models behind a real HTTP server, workers and the driver
killed, and the commands that spread blocks of rows.

Not part of scripts/test.sh, which does not install Ray: its start needs a machine with free CPU.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from if_factory import api
from if_factory.api import data
from if_factory.cli import main
from if_factory.constraints import base
from if_factory.errors import UserError
from if_factory.files import write_jsonl
from if_factory.pipeline import spread
from if_factory.pipeline.spool import line_of, record_of
from tests.support.command_run import OUTCOME
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.method_cases import CASES, CONCURRENCY, write_recipe

pytestmark = pytest.mark.e2e
SEEDS = 120


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray with two CPUs, which this process is connected to; ``RAY_ADDRESS`` names one that runs."""
    environment = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environment.items():
            patch.setenv(key, value)
        ray = pytest.importorskip("ray", reason='run on a quiet machine, with `pip install "if-factory[ray]"` and '
                                  "`pytest -m e2e tests/e2e/test_ray.py`")
        if "RAY_ADDRESS" in os.environ:
            ray.init(address=os.environ["RAY_ADDRESS"], logging_level=logging.WARNING)
        else:
            ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=80_000_000,
                     logging_level=logging.WARNING)
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Callable[[str], tuple[FakeEndpoint, str]]]:
    """Starts a method's server in a thread of its own: the server and its URL."""
    loop, started = asyncio.new_event_loop(), []
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def start(name: str) -> tuple[FakeEndpoint, str]:
        server = CASES[name].server()
        server.delay = 0.0
        started.append(server)
        return server, asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)

    yield start
    for server in started:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


@pytest.fixture(scope="module")
def whole(endpoint, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, FakeEndpoint]:
    """A recipe, its run on the local engine, and the server, which has forgotten it."""
    folder = tmp_path_factory.mktemp("whole")
    server, url = endpoint("complex_to_simple")
    recipe = write_recipe(folder, "complex_to_simple", url, SEEDS)
    api.run(recipe, folder / "run")
    return recipe, folder / "run", server


def same(one: Path, other: Path) -> None:
    for file in OUTCOME:
        assert (one / file).read_bytes() == (other / file).read_bytes(), file


def until(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not come to that")


def says(*command: str | Path) -> str:
    found = CliRunner().invoke(main, [str(part) for part in command])
    assert found.exit_code in (0, 1), found.output
    return found.output


def worker_processes() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0].startswith("ray::Worker")]


def test_a_method_with_stages_for_several_records_makes_the_same_files(
        cluster, endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server, url = endpoint("autoif")
    recipe = write_recipe(tmp_path, "autoif", url, 14)
    local = api.run(recipe, tmp_path / "local")
    asked = server.asked.copy()
    server.asked.clear()
    monkeypatch.setattr(data, "_TOGETHER", 5)  # several blocks
    ray = api.run(recipe, tmp_path / "ray", engine="ray", ray_workers=2)
    same(tmp_path / "ray", tmp_path / "local")
    assert server.asked == asked
    assert local.emission.rows.total() > 5
    assert ray.emission.counts() == local.emission.counts()
    assert ray.emission.usefulness() == local.emission.usefulness()
    assert ray.sandbox == local.sandbox
    # The counting alone: what the stages' workers knew is not there.
    lines = map(line_of, ray.result.records)
    assert data.emit_lines(api.load_recipe(recipe), lines, record_of, 2).counts() == local.emission.counts()
    for engine in ("local", "ray"):
        api.export(tmp_path / "local", tmp_path / f"data_{engine}", engine=engine)
    written = [{path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
               for folder in (tmp_path / "data_local", tmp_path / "data_ray")]
    assert written[0] == written[1]
    assert len(written[0]) > 3


def test_a_killed_worker_costs_what_was_in_flight(cluster, whole, tmp_path: Path,
                                                  caplog: pytest.LogCaptureFixture) -> None:
    recipe, local, server = whole
    asked, server.delay = server.asked.copy(), 0.1
    server.asked.clear()
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(api.run, recipe, tmp_path / "ray", engine="ray", ray_workers=2)
        until(lambda: server.requests > asked.total() // 4 or running.done())
        assert not running.done(), "finished before a worker could be killed: no test"
        worker_processes()[0].send_signal(signal.SIGKILL)
        running.result()
    server.delay = 0.0
    same(tmp_path / "ray", local)
    assert set(server.asked) == set(asked)
    lost = [int(n) for n in re.findall(r"is gone .* with (\d+) requests in flight", caplog.text)]
    assert len(lost) == 1
    again = server.requests - asked.total()
    assert again <= lost[0] <= CONCURRENCY, "a worker has half of the places, and claims twice as many requests"
    # A finished run asked again asks nothing.
    before = server.requests
    api.run(recipe, tmp_path / "ray")
    assert server.requests == before
    same(tmp_path / "ray", local)


def test_a_killed_driver_goes_on_where_it_was(cluster, whole, tmp_path: Path) -> None:
    recipe, local, server = whole
    server.asked.clear()
    server.delay = 0.1
    command = [sys.executable, "-m", "if_factory", "run", str(recipe), "-o", str(tmp_path / "ray"), "--engine", "ray",
               "--ray-address", cluster, "--ray-workers", "2"]
    log = tmp_path / "ray" / "responses.jsonl"
    with open(tmp_path / "out", "wb") as out:
        driver = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "OPENAI_API_KEY": ""})
    until(lambda: (log.exists() and log.read_bytes().count(b"\n") >= SEEDS // 2) or driver.poll() is not None)
    assert driver.poll() is None, (tmp_path / "out").read_text()
    driver.kill()
    driver.wait()
    until(lambda: not server.in_flight and not worker_processes())
    logged, asked = log.read_bytes().count(b"\n"), server.requests
    assert asked - logged <= 2 * CONCURRENCY, "what the driver has been told is in the log"
    server.delay = 0.0
    api.run(recipe, tmp_path / "ray", engine="ray", ray_workers=2)
    same(tmp_path / "ray", local)
    assert server.requests == asked + len(server.asked) - logged, "an answer in the log was asked for again"


# ---------------------------------------------------------------- blocks of rows

RAY = ("--engine", "ray", "--ray-workers", "2")
PLUGIN = """from if_factory.constraints.base import ConstraintType, register

@register
class NoMoon(ConstraintType):
    type = "words:no_moon"
    descriptions = ("Do not name the moon",)

    def check(self, response, kwargs):
        return "moon" not in response

    def sample(self, rng, seed_prompt):
        return {}
"""


@pytest.fixture
def rows(own_types, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset of several blocks in the current folder, with constraints of every kind, and dataset_info.json."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    base.load_plugin(Path("plugin.py"))
    source = "def evaluate(response):\n    return len(response.split()) % 2 == 0\n"
    kinds = [{"type": "punctuation:no_comma"}, {"type": "words:no_moon"}, {"type": "no:such"},
             {"type": "autoif", "kind": "generated_code", "kwargs": {"functions": [source]}},
             {"type": "tone", "kind": "judge", "text": "Be kind"}]
    texts = ["The moon is over the harbour.", "Boats, nets and ropes lie there.", "I cannot help with that.", ""]
    made = [{"prompt": f"Describe harbour number {i} to a friend who has never seen the sea.",
             "response": texts[i % 4], "constraints": [kinds[i % 5], kinds[(i // 5) % 5]]} for i in range(1500)]
    write_jsonl(Path("big.jsonl"), made)
    for part in range(3):
        write_jsonl(Path(f"part{part}.jsonl"), made[part::3])
    write_jsonl(Path("bench.jsonl"), ({"prompt": f"Describe harbour number {i} to us."} for i in range(0, 900, 7)))
    entry = {"columns": {"prompt": "prompt", "response": "response"}}
    Path("dataset_info.json").write_text(json.dumps(
        {name: {"file_name": f"{name}.jsonl", **entry} for name in ("big", "part0", "part1", "part2")}))
    return "big.jsonl"


def test_audit_check_and_contamination_say_and_write_the_same(cluster, rows: str) -> None:
    for command in (["audit", rows, "--json", "--useful", "--relevance", "off"], ["audit", rows, "--loose"],
                    ["check", ".", "--all-problems"]):
        assert says(*command, *RAY) == says(*command)
    audited = json.loads(says("audit", rows, "--json"))
    assert audited["not_checkable"].keys() == {"no:such"}, "the plugin's type is known"
    assert audited["by_type"].keys() >= {"words:no_moon", "autoif"}
    compare = ["contamination", rows, "--against", "bench.jsonl", "-o"]
    assert says(*compare, "ray", *RAY) == says(*compare, "local")
    assert Path("ray/nearest.jsonl").read_bytes() == Path("local/nearest.jsonl").read_bytes()


def test_a_mistake_found_by_a_worker_is_told_as_here(cluster, rows: str) -> None:
    for folder, names in ((".", ["nothing"]), ("nowhere", [])):
        told = []
        for engine in ("local", "ray"):
            with pytest.raises(UserError) as error:
                api.check(folder, [*names, "more"], engine=engine)
            told.append(str(error.value))
        assert told[0] == told[1]


class Dying:
    """Kills its process at block 3, as many times as told; a file counts them."""

    def __init__(self, deaths: Path, times: int) -> None:
        self.deaths, self.times = deaths, times

    def __call__(self, block: int) -> int:
        if block == 3 and self.deaths.stat().st_size < self.times:
            with self.deaths.open("a") as f:
                f.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        return block * block


def test_a_block_whose_worker_is_killed_goes_to_another(cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                        ) -> None:
    deaths = tmp_path / "deaths"
    deaths.touch()
    assert list(spread.spread(partial(Dying, deaths, 2), range(20), 2)) == [n * n for n in range(20)]
    assert deaths.read_text() == "xx"
    monkeypatch.setattr(spread, "_RETRIES", 1)
    with pytest.raises(UserError, match="worker after worker died over the same rows"):
        list(spread.spread(partial(Dying, deaths, 99), range(20), 2))
