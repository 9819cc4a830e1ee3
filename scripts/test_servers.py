"""Real vLLM and llama.cpp side by side; see test_servers.sh."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml
from server_probes import Client, Server, schemas_of_methods, try_fields, try_keywords, try_schemas

from if_factory.chat import vllm_env
from if_factory.chat.embedded import EmbeddedServer
from if_factory.chat.vllm import VllmServer
from if_factory.embedded_model.requantize import embedded_for_serving

PARTS = ("schemas", "keywords", "fields", "run", "methods", "kill-own", "kill-url")
CONTEXT = 2048
ARGS = {"max-model-len": CONTEXT, "enforce-eager": True, "kv-cache-memory-bytes": 2**30}
# The methods with a teacher, as small as they go; one model plays every role, so what counts is that the path holds.
METHODS: dict[str, dict[str, Any]] = {
    "decif": {"options": {"instructions": 4, "requests_per_domain": 2, "scenarios_per_request": 2, "responses": 1}},
    "autoif": {"limit": 4, "options": {"augment_calls": 0, "answers": 2, "back_translate": 1,
                                       "queries_per_instruction": 2, "teacher_samples": 1, "student_samples": 1}},
    "conifer": {"limit": 4, "options": {"answers": 1}},
    "suri": {"limit": 4, "options": {"constraints": 3, "triples_per_text": 1}},
}
KEY = "IF_FACTORY_TEST_KEY"  # the variable that holds the key of this script's own vLLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder for runs and tables")
    parser.add_argument("--model", type=Path, help="a folder for vLLM; default: the embedded model, written there")
    parser.add_argument("--gguf", type=Path, help="the same model for llama.cpp; default: the embedded one, Q8_0")
    parser.add_argument("--vllm-url", help=f"use this vLLM that runs already; its key is in ${KEY}")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=48, help="max_tokens of the runs")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--servers", default="vllm,llama")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts of {','.join(PARTS)}")
    given = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    given.out.mkdir(parents=True, exist_ok=True)
    if given.model is None:
        given.model = given.out / "model"
        if not (given.model / "config.json").exists():
            subprocess.run([sys.executable, "-m", "if_factory", "model", "--to", str(given.model)], check=True)
    parts = [part for part in PARTS if part in given.only.split(",")]
    schemas = schemas_of_methods() if "schemas" in parts else {}
    asyncio.run(test(given, parts, schemas))


async def test(given: argparse.Namespace, parts: list[str], schemas: Mapping[str, Any]) -> None:
    environment = vllm_env.find()
    names = [f"vLLM {environment.version}{' (CPU)' if environment.cpu else ''}",
             f"llama.cpp (xllamacpp {version('xllamacpp')})"]
    say(f"{names[0]}, {names[1]}; Python {platform.python_version()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}", given.out)
    if set(parts) - {"kill-own", "kill-url"}:
        # One after the other: together they would measure each other.
        found: dict[str, list[dict[str, str]]] = {part: [] for part in parts}
        asked = [(kind, name) for kind, name in zip(("vllm", "llama"), names, strict=True)
                 if kind in given.servers.split(",")]
        for kind, _ in asked:
            async with (started_vllm(given, environment) if kind == "vllm" else started_llama(given)) as server:
                await look_at(server, parts, schemas, found)
                if "run" in parts:
                    found["run"].append(await run(given, server))
                if "methods" in parts:
                    found["methods"].append({method: await run_method(given, server, method) for method in METHODS})
        for part in parts:
            if found[part]:
                table(part, [name for _, name in asked], found[part], given.out)
    if "kill-own" in parts:
        await kill_own(given)
    if "kill-url" in parts:
        async with started_vllm(given, environment) as server:
            await kill_foreign(given, server)


def say(line: str, out: Path) -> None:
    print(line, flush=True)
    with (out / "tables.md").open("a", encoding="utf-8") as f:
        f.write(line + "\n")


def table(part: str, names: list[str], columns: list[dict[str, str]], out: Path) -> None:
    say(f"\n| {part} | {' | '.join(names)} |\n|---|{'---|' * len(names)}", out)
    for row in columns[0]:
        say(f"| {row} | {' | '.join(column.get(row, '').replace('|', '/') for column in columns)} |", out)


# ---------------------------------------------------------------- servers


class Held:
    """The script's own vLLM server, by the name under which it is asked."""

    server: VllmServer | None = None


@contextlib.asynccontextmanager
async def started_vllm(given: argparse.Namespace, environment: vllm_env.VllmEnvironment) -> AsyncIterator[Server]:
    if given.vllm_url:
        yield Server("vllm", given.vllm_url, given.model.name, os.environ.get(KEY, ""), CONTEXT)
        return
    async with VllmServer(given.model.resolve(), environment, args=ARGS) as server:
        os.environ[KEY], Held.server = server.api_key, server
        yield Server("vllm", server.base_url, server.model_name, server.api_key, CONTEXT)


@contextlib.asynccontextmanager
async def started_llama(given: argparse.Namespace) -> AsyncIterator[Server]:
    async with EmbeddedServer(given.gguf or embedded_for_serving(), context=CONTEXT) as server:
        yield Server("llama", server.base_url, server.model_name, "", CONTEXT)


async def look_at(server: Server, parts: list[str], schemas: Mapping[str, Any],
                  found: dict[str, list[dict[str, str]]]) -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1800)) as http:
        client = Client(server, http)
        if "schemas" in parts:
            found["schemas"].append(await try_schemas(client, schemas))
        if "keywords" in parts:
            found["keywords"].append(await try_keywords(client))
        if "fields" in parts:
            found["fields"].append(await try_fields(client))
    for part in {"schemas", "keywords", "fields"} & set(parts):
        print(f"--- {server.name}: {json.dumps(found[part][-1], indent=1, ensure_ascii=False)}", flush=True)


# ---------------------------------------------------------------- runs


def recipe(given: argparse.Namespace, name: str, **model: Any) -> tuple[Path, Path]:
    """The paths of a recipe and its run folder."""
    path, folder = given.out / f"{name}.yaml", given.out / f"run-{name}"
    path.write_text(yaml.safe_dump({
        "method": "complex_to_simple", "limit": given.seeds, "options": {"student_samples": 2},
        "usefulness": {"relevance": "off"},
        "models": {"student": {"max_tokens": given.tokens, "concurrency": given.concurrency, **model}}}))
    return path, folder


async def command(path: Path, folder: Path) -> asyncio.subprocess.Process:
    log = (path.parent / f"{path.stem}.log").open("wb")
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "if_factory", "run", str(path), "-o",
                                                str(folder), stdout=log, stderr=log)


async def run(given: argparse.Namespace, server: Server) -> dict[str, str]:
    path, folder = recipe(given, f"plain-{server.name}", endpoint=server.url, api_key_env=KEY)
    began = time.monotonic()
    process = await command(path, folder)
    status = await process.wait()
    return {"exit status": str(status), **outcome(folder, time.monotonic() - began)}


async def run_method(given: argparse.Namespace, server: Server, method: str) -> str:
    """A method's run with this server in every role: its exit status and what came of it, in one line."""
    model = {"endpoint": server.url, "api_key_env": KEY, "concurrency": given.concurrency,
             "max_tokens": 2 * given.tokens}
    path, folder = given.out / f"{method}-{server.name}.yaml", given.out / f"run-{method}-{server.name}"
    path.write_text(yaml.safe_dump({
        "method": method, "preset": "small", "usefulness": {"relevance": "off"}, **METHODS[method],
        "models": {"teacher": {**model, "temperature": 0.7}, "judge": {**model, "temperature": 0}}}))
    began = time.monotonic()
    status = await (await command(path, folder)).wait()
    if not (folder / "usage.json").exists():
        log = (path.parent / f"{path.stem}.log").read_text().strip().splitlines()
        return f"exit {status}: {log[-1][:200] if log else 'no message'}"
    seen = outcome(folder, time.monotonic() - began)
    lost = len((folder / "dropped.jsonl").read_text().splitlines()) if (folder / "dropped.jsonl").exists() else 0
    return (f"exit {status}, {seen['answers in the log, different']} answers, {seen['records']} records, "
            f"{lost} dropped, {seen['output tokens/s']} tokens/s")


def outcome(folder: Path, seconds: float) -> dict[str, str]:
    usage = json.loads((folder / "usage.json").read_text())
    emitted = json.loads((folder / "ledger.json").read_text()).get("emission", {})
    keys = [json.loads(line)["key"] for line in (folder / "responses.jsonl").read_text().splitlines()]
    total = {field: sum(stage[field] for stage in usage)
             for field in ("answers", "failed", "prompt_tokens", "completion_tokens", "truncated")}
    return {"records": str(len((folder / "records.jsonl").read_text().splitlines())),
            "rows": ", ".join(f"{kind} {found['rows']}" for kind, found in emitted.items()),
            "requests": ", ".join(f"{field} {n:,}" for field, n in total.items()),
            "answers in the log, different": f"{len(keys)}, {len(set(keys))}",
            "seconds": f"{seconds:.0f}", "output tokens/s": f"{total['completion_tokens'] / seconds:.1f}",
            "load": f"{os.getloadavg()[0]:.1f}"}


async def answers(folder: Path, n: int, process: asyncio.subprocess.Process) -> None:
    """Wait until the run's log holds ``n`` answers."""
    while process.returncode is None:
        with contextlib.suppress(OSError):
            if len((folder / "responses.jsonl").read_bytes().splitlines()) >= n:
                return
        await asyncio.sleep(0.2)
    raise SystemExit(f"the run ended with {process.returncode} before it could be disturbed; see {folder}")


async def kill_own(given: argparse.Namespace) -> None:
    """`endpoint: vllm:MODEL`: the run starts it; killed, the run starts it again."""
    path, folder = recipe(given, "kill-own", endpoint=f"vllm:{given.model.resolve()}", args=ARGS)
    began = time.monotonic()
    process = await command(path, folder)
    await answers(folder, 4, process)
    ours = [child.pid for child in psutil.Process(process.pid).children(recursive=True)
            if "vllm.entrypoints.openai.api_server" in (words := child.cmdline()) and "-I" not in words]
    say(f"\nkill -9 of vLLM ({len(ours)} process) under `endpoint: vllm:MODEL` after 4 answers", given.out)
    for pid in ours:
        os.kill(pid, signal.SIGKILL)
    status = await process.wait()
    say(json.dumps({"exit status": status, **outcome(folder, time.monotonic() - began)}, indent=1), given.out)
    say((path.parent / f"{path.stem}.log").read_text()[-3000:], given.out)


async def kill_foreign(given: argparse.Namespace, server: Server) -> None:
    """A URL: the server is killed and started again beside the run, which waits for it."""
    path, folder = recipe(given, "kill-url", endpoint=server.url, api_key_env=KEY, wait_for_server=1800)
    began = time.monotonic()
    process = await command(path, folder)
    await answers(folder, 4, process)
    assert Held.server
    assert Held.server.pid
    say("\nkill -9 of vLLM and all its processes behind a URL after 4 answers, then started again", given.out)
    os.killpg(Held.server.pid, signal.SIGKILL)
    await asyncio.sleep(5)
    await Held.server.revive()
    status = await process.wait()
    say(json.dumps({"exit status": status, **outcome(folder, time.monotonic() - began)}, indent=1), given.out)
    say((path.parent / f"{path.stem}.log").read_text()[-3000:], given.out)


if __name__ == "__main__":
    main()
