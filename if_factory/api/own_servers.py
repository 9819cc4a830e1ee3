"""The servers that a run starts itself: llama.cpp's for ``embedded``, vLLM's for ``vllm:MODEL``."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from if_factory.errors import UserError
from if_factory.recipe import Recipe
from if_factory.specs import ModelSpec

if TYPE_CHECKING:
    from if_factory.chat.vllm import VllmServer

_HUB_NAME = re.compile(r"[\w-][\w.-]*(?:/[\w-][\w.-]*)?")
_GPU_SHARE = 0.9  # of a GPU's memory, vLLM's own default


@dataclass(frozen=True)
class OwnServer:
    """A server that runs: where it answers, its model's name, and what an ``OpenAIBackend`` must know of it."""

    url: str
    model: str | None = None  # None: the first that it serves
    revive: Callable[[], Awaitable[bool]] | None = None
    api_key: str | None = None
    known: Mapping[str, Any] = field(default_factory=dict)


async def start_own_servers(recipe: Recipe, stack: contextlib.AsyncExitStack) -> dict[str, list[OwnServer]]:
    """Endpoint -> the servers started for it; roles with one endpoint share them. ``stack`` stops them.

    Raises:
        UserError: a server cannot be started, or roles with one endpoint differ in what only the server can do.
    """
    found: dict[str, list[OwnServer]] = {}
    for endpoint in sorted({spec.urls[0] for spec in recipe.models.values() if spec.embedded}):
        found[endpoint] = [await _embedded(recipe, endpoint, stack)]
    models = sorted({spec.urls[0] for spec in recipe.models.values() if spec.vllm is not None})
    if models:
        found |= await _vllm(recipe, models, stack)
    return found


async def _embedded(recipe: Recipe, endpoint: str, stack: contextlib.AsyncExitStack) -> OwnServer:
    from if_factory.chat.embedded import EmbeddedServer

    sharing = [spec for spec in recipe.models.values() if spec.endpoint == endpoint]
    gguf = endpoint.partition(":")[2]
    server = await stack.enter_async_context(EmbeddedServer(
        recipe.path(gguf) if gguf else None, parallel=max(s.concurrency for s in sharing),
        context=max(s.context for s in sharing), threads=min((s.threads for s in sharing if s.threads), default=None)))
    return OwnServer(server.base_url, None, server.revive)


async def _vllm(recipe: Recipe, endpoints: list[str], stack: contextlib.AsyncExitStack) -> dict[str, list[OwnServer]]:
    """One server per GPU (or per as many as ``tensor-parallel-size`` takes); models share GPUs where they must."""
    from if_factory.chat import vllm_env
    from if_factory.chat.vllm import VllmServer, fingerprint, gpus_needed

    environment = await asyncio.to_thread(vllm_env.find)
    specs = [_one_of(recipe, endpoint) for endpoint in endpoints]
    models = [_model(recipe, spec) for spec in specs]
    gpus = [] if environment.cpu else vllm_env.gpus()
    placed = vllm_env.place([gpus_needed(spec.args) for spec in specs], gpus)
    found: dict[str, list[OwnServer]] = {}
    for endpoint, spec, model, groups in zip(endpoints, specs, models, placed, strict=True):
        args = spec.args
        together = max(sum(gpu in group for each in placed for group in each) for gpu in gpus) if gpus else 1
        if together > 1 and not {"gpu-memory-utilization", "gpu_memory_utilization"} & set(args):
            args = {**args, "gpu-memory-utilization": int(100 * _GPU_SHARE / together) / 100}
        servers = [VllmServer(model, environment, args=args, gpus=group, start_timeout=spec.start_timeout)
                   for group in groups]
        stack.push_async_callback(_stop, servers)
        # Together: a start takes minutes. Two models one after the other: each looks how much memory is free.
        await _all_or_none([server.start() for server in servers])
        known = await asyncio.to_thread(fingerprint, Path(model))
        found[endpoint] = [OwnServer(s.base_url, s.model_name, s.revive if len(servers) == 1 else s.revive_behind,
                                     s.api_key, known) for s in servers]
    return found


async def _stop(servers: list[VllmServer]) -> None:
    await asyncio.gather(*(server.stop() for server in servers))


async def _all_or_none(starts: list[Any]) -> None:
    """The first that fails ends the wait for the others."""
    tasks = [asyncio.ensure_future(start) for start in starts]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _one_of(recipe: Recipe, endpoint: str) -> ModelSpec:
    sharing = {role: spec for role, spec in sorted(recipe.models.items()) if spec.endpoint == endpoint}
    first = next(iter(sharing.values()))
    for role, spec in sharing.items():
        if spec.args != first.args:
            raise UserError(f"two roles start {endpoint} with different `args`", where=f"models.{role}.args",
                            fix="give both the same; one server answers for both")
    return first


def _model(recipe: Recipe, spec: ModelSpec) -> str:
    """What vLLM is started with: a folder's whole path, or a hub name."""
    given = spec.vllm or ""
    path = recipe.path(given)
    if path.is_dir():
        if not (path / "config.json").is_file() and not (path / "params.json").is_file():
            raise UserError("the folder has no config.json, so it is no model", where=str(path),
                            fix="name a Hugging Face folder (LoRA adapters: merge them first, `if-factory train` does)")
        return str(path)
    if path.is_file():
        raise UserError("vLLM is started with a folder or a hub name, not with a file", where=str(path),
                        fix="a .gguf file is served by `endpoint: embedded:FILE`")
    if not _HUB_NAME.fullmatch(given):
        raise UserError("there is no such folder, and it is no hub name", where=f"vllm:{given} ({path})",
                        fix="correct the path; relative ones start from the recipe's folder")
    return given
