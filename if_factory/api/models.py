"""The models that a recipe or a command names, opened."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from if_factory.chat.budget import Budget, Price, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.recipe import Recipe
from if_factory.specs import ModelSpec


@contextlib.asynccontextmanager
async def open_models(recipe: Recipe, log: ResponseLog | None, usage: Usage, budget: Budget,
                      client: Callable[..., ChatClient] = ChatClient) -> AsyncIterator[dict[str, ChatClient]]:
    """The recipe's models, ready to be asked; servers of our own are started once and stopped at the end.

    Args:
        client: makes each role's client, with the arguments of ``ChatClient``.
    """
    from if_factory.api.own_servers import OwnServer, start_own_servers
    from if_factory.chat.balanced import BalancedBackend
    from if_factory.chat.http import OpenAIBackend

    async with contextlib.AsyncExitStack() as stack:
        models: dict[str, ChatClient] = {}
        served: dict[str, str] = {}
        own = await start_own_servers(recipe, stack)
        for role, spec in sorted(recipe.models.items()):
            servers = own[spec.urls[0]] if spec.ours else [OwnServer(url) for url in spec.urls]
            urls = [server.url for server in servers]
            each = [OpenAIBackend(server.url, spec.model or server.model, api_key_env=spec.api_key_env,
                                  concurrency=spec.concurrency, timeout=spec.timeout, wait=spec.wait_for_server,
                                  revive=server.revive, api_key=server.api_key, known=server.known)
                    for server in servers]
            backend = each[0] if len(each) == 1 else BalancedBackend(each, spec.concurrency)
            stack.push_async_callback(backend.close)
            if not backend.model or isinstance(backend, BalancedBackend):
                await backend.discover()
            refuse_namesake(served, backend.model, ", ".join(urls), role)
            models[role] = client(
                role, backend, log=log, budget=budget, usage=usage, concurrency=spec.concurrency * len(each),
                temperature=spec.temperature, top_p=spec.top_p, max_tokens=spec.answer_tokens, seed=recipe.seed,
                price=price_of(spec), outage=spec.wait_for_server, extra_body=spec.extra_body)
        yield models


def price_of(spec: ModelSpec) -> Price | None:
    """USD per million tokens; ``None`` where it is unknown. A model that the run serves itself is free."""
    if spec.price is None:
        return Price(0, 0) if spec.ours else None
    return Price(spec.price.prompt, spec.price.completion)


def refuse_namesake(served: dict[str, str], model: str, url: str, role: str) -> None:
    """Answers are logged by model name: one name at two endpoints would share them unnoticed."""
    if served.setdefault(model, url) != url:
        raise UserError(f"the model '{model}' is served at {served[model]} and at {url}", where=f"models.{role}",
                        fix="serve one of them under another name (vLLM: --served-model-name), or give both roles "
                        "one endpoint")


@contextlib.asynccontextmanager
async def judge_at(endpoint: str, out: Path, *, name: str | None, api_key_env: str,
                   concurrency: int | None = None) -> AsyncIterator[ChatClient]:
    """The judge of a call without a recipe; replies logged in ``out/asked.jsonl`` are not asked for again.

    ``endpoint`` is what a recipe's is: a URL, ``embedded``, ``vllm:MODEL``...; ``name`` the model there (its first).
    """
    spec = ModelSpec(endpoint=endpoint, model=name, api_key_env=api_key_env, max_tokens=1024)
    spec.concurrency = concurrency or (16 if spec.embedded else 64)  # the embedded server takes memory for each
    with contextlib.closing(ResponseLog(out / "asked.jsonl")) as log:
        async with open_models(Recipe(models={"judge": spec}), log, Usage(), Budget()) as models:
            yield models["judge"]
