"""``run`` with ``engine="ray"``: a recipe's parts for the workers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from if_factory.api.common import prepare, stages_of
from if_factory.api.engines import connected
from if_factory.api.models import open_models
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.remote import Channel, RemoteClient
from if_factory.errors import UserError
from if_factory.pipeline import ray_engine
from if_factory.pipeline.ray_worker import OpenParts, Parts
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.stage import Stage
from if_factory.recipe import Recipe
from if_factory.records import Record


@contextlib.contextmanager
def connected_for(recipe: Recipe, address: str | None, workers: int | None) -> Iterator[int]:
    """``connected`` for a run; the number of workers to start, which share the models' places.

    Raises:
        UserError: also if the recipe cannot be run on Ray.
    """
    for role, spec in sorted(recipe.models.items()):
        if spec.ours:
            raise UserError(f"`{spec.endpoint}` is started by the run itself, and the workers may be on other machines",
                            where=f"models.{role}.endpoint", fix="start the server yourself and name its URL, or use "
                            "the local engine")
    most = min((spec.concurrency for spec in recipe.models.values()), default=None)
    if workers and most and workers > most:
        raise UserError(f"{workers} workers cannot share {most} requests in flight at each URL", where="--ray-workers",
                        fix="raise `concurrency` of every model to at least the number of workers, or take fewer")
    with connected(address, workers) as cpus:
        yield workers or min(most or 1, cpus)


async def stages_on_ray(recipe: Recipe, workers: int, stages: Sequence[Stage], inputs: Iterable[Record],
                        models: Mapping[str, ChatClient], **settings: Any) -> RunResult:
    """``if_factory.pipeline.runner.run`` for a recipe's stages, on workers."""
    def parts(number: int) -> OpenParts:
        mine = recipe.model_copy(deep=True)
        for role, spec in mine.models.items():
            spec.model = models[role].backend.model
            spec.concurrency = max(1, (spec.concurrency + workers - 1 - number) // workers)
        return partial(_parts, mine)

    return await ray_engine.run(stages, inputs, models, workers=workers, parts=parts, **settings)


@contextlib.asynccontextmanager
async def _parts(recipe: Recipe, channel: Channel) -> AsyncIterator[Parts]:
    """What a worker needs, in its process."""
    prepare(recipe)
    async with open_models(recipe, None, Usage(), Budget(), partial(RemoteClient, channel)) as models:
        stages, useful = stages_of(recipe)
        yield Parts(stages, models, useful)
