"""The embedded server is a real one: it starts, answers, and never stays behind."""

import asyncio
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from if_factory.chat import embedded
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.cores import busy_cores, free_threads
from if_factory.chat.embedded import EmbeddedServer
from if_factory.chat.http import OpenAIBackend
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError

needs_xllamacpp = pytest.mark.skipif(importlib.util.find_spec("xllamacpp") is None,
                                     reason="xllamacpp is not installed")


@pytest.fixture
def pretend_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: object())


def test_missing_xllamacpp_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"if-factory\[embedded\]"):
        EmbeddedServer().start()


@pytest.mark.usefixtures("pretend_installed")
def test_a_file_that_is_no_gguf_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04 a wheel, not weights")
    with pytest.raises(UserError, match=r"model\.gguf: not a GGUF file"):
        EmbeddedServer(tmp_path / "model.gguf").start()
    with pytest.raises(UserError, match="No such file"):
        EmbeddedServer(tmp_path / "nowhere.gguf").start()


@pytest.mark.usefixtures("pretend_installed")
def test_a_server_that_never_gets_ready_is_stopped_and_reported(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    _python_that(monkeypatch, tmp_path, "sleep 60")
    server = EmbeddedServer(tmp_path / "model.gguf", start_timeout=0.2)
    with pytest.raises(UserError, match=r"not ready after 0\.2 s"):
        server.start()
    assert server.pid is None


@pytest.mark.usefixtures("pretend_installed")
def test_a_server_that_dies_at_start_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    _python_that(monkeypatch, tmp_path, "echo out of memory >&2; exit 1")
    with pytest.raises(UserError, match="did not start: out of memory"):
        EmbeddedServer(tmp_path / "model.gguf").start()


def _python_that(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    fake = folder / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))


@pytest.mark.e2e
@needs_xllamacpp
async def test_real_weights_answer_in_a_given_schema_and_the_server_is_gone_afterwards() -> None:
    schema = {"type": "object", "properties": {"word": {"type": "string", "maxLength": 12}}, "required": ["word"]}
    async with EmbeddedServer(parallel=2) as server, aiohttp.ClientSession() as http:
        pid = server.pid
        assert pid is not None
        async with http.get(f"{server.base_url}/models") as reply:
            assert (await reply.json())["data"][0]["id"] == server.model_name
        body = {"messages": [{"role": "user", "content": "Say one word."}], "max_tokens": 40, "seed": 1,
                "response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": schema}}}
        async with http.post(f"{server.base_url}/chat/completions", json=body) as reply:
            answer = await reply.json()
    assert '"word"' in answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] > 0
    assert not psutil.pid_exists(pid)


@pytest.mark.e2e
@needs_xllamacpp
def test_the_server_dies_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
        import time
        from if_factory.chat.embedded import EmbeddedServer
        with EmbeddedServer(parallel=1) as server:
            print(server.pid, flush=True)
            time.sleep(600)
    """)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail("the server outlived its parent by 10 s")


@pytest.mark.e2e
@needs_xllamacpp
def test_a_taken_port_is_an_error_with_a_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(UserError, match="did not start"):
        EmbeddedServer(parallel=1, port=taken.getsockname()[1]).start()


@pytest.mark.e2e
@needs_xllamacpp
async def test_the_same_seed_gives_the_same_text_alone_and_among_others() -> None:
    async def ask(http: aiohttp.ClientSession, server: EmbeddedServer, i: int) -> str:
        body = {"messages": [{"role": "user", "content": f"Write a line about the number {i}."}], "max_tokens": 24,
                "temperature": 0.8, "seed": i}
        async with http.post(f"{server.base_url}/chat/completions", json=body) as reply:
            return str((await reply.json())["choices"][0]["message"]["content"])

    async with EmbeddedServer(parallel=8, context=512) as server, aiohttp.ClientSession() as http:
        together = await asyncio.gather(*(ask(http, server, i) for i in range(12)))
        alone = [await ask(http, server, i) for i in range(4)]
    assert together[:4] == alone


@pytest.fixture
def dying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pretend_installed: None) -> EmbeddedServer:
    """A server whose process says that it is ready, and dies."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    ready = '{"base_url": "http://127.0.0.1:4321/v1", "model": "model"}'
    _python_that(monkeypatch, tmp_path, f"echo '{ready}'; echo $* >&2; echo out of memory >&2; exit 3")
    return EmbeddedServer(tmp_path / "model.gguf", threads=1)


async def test_a_server_that_died_is_started_once_more_on_its_port(
        dying: EmbeddedServer, caplog: pytest.LogCaptureFixture) -> None:
    with dying as server:
        process = server._process
        assert process
        process.wait()
        assert await server.revive()
        assert "died (exit status 3)" in caplog.text
        assert "out of memory" in caplog.text
        assert caplog.text.count("starting it again") == 1
        assert server._process
        server._process.wait()
        assert "--port 4321" in server._last_words()
        with pytest.raises(UserError, match=r"died again \(exit status 3\): .*out of memory"):
            await server.revive()
    assert not await server.revive()  # stopped by us: that is no death


def test_serve_notices_a_server_that_died(dying: EmbeddedServer) -> None:
    with dying as server, pytest.raises(UserError, match="died again"):
        server.watch()


@pytest.mark.parametrize(("cores", "busy", "threads"),
                         [(2, 0.0, 2), (2, 0.3, 2), (2, 0.9, 1), (2, 2.0, 1), (16, 5.2, 11)])
def test_threads_are_the_cores_that_other_work_leaves_free(
        monkeypatch: pytest.MonkeyPatch, cores: int, busy: float, threads: int) -> None:
    monkeypatch.setattr("if_factory.chat.cores.os.sched_getaffinity", lambda pid: set(range(cores)))
    monkeypatch.setattr("if_factory.chat.cores.usable_cores", lambda: cores)
    assert free_threads(busy) == (threads, cores, busy)


def test_busy_cores_are_measured() -> None:
    assert 0 <= busy_cores(0.05) <= len(os.sched_getaffinity(0))


@pytest.mark.e2e
@needs_xllamacpp
async def test_a_real_server_that_is_killed_in_mid_run_loses_no_answer(tmp_path: Path) -> None:
    log = ResponseLog(tmp_path / "responses.jsonl")
    async with EmbeddedServer(parallel=4, context=512, threads=1) as server:
        backend = OpenAIBackend(server.base_url, server.model_name, revive=server.revive)
        model = ChatClient("student", backend, log=log, budget=Budget(), usage=Usage(), max_tokens=16,
                           concurrency=4)
        asked = [[{"role": "user", "content": f"Say something about {i}."}] for i in range(12)]
        work = [asyncio.create_task(model.chat(messages, stage="s")) for messages in asked]
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
        assert server.pid
        os.kill(server.pid, signal.SIGKILL)
        answers = await asyncio.gather(*work)
        await model.close()
    log.close()
    assert len(answers) == 12
    assert model.usage.total().failed == 0
    assert len((tmp_path / "responses.jsonl").read_text().splitlines()) == 12
