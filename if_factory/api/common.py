"""What the functions of the API share: recipes by path, runs read back, waiting for coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from if_factory.constraints.base import load_plugin, try_plugins
from if_factory.constraints.generated import configure
from if_factory.errors import UserError
from if_factory.inputs.seeds import builtin, seeds_in
from if_factory.pipeline.loop import run_on_loop
from if_factory.pipeline.rundir import RunDir
from if_factory.pipeline.stage import Stage, Useful
from if_factory.recipe import Recipe, load, parse
from if_factory.records import Record
from if_factory.sandbox import Limits
from if_factory.usefulness.gate import Gate, decided_aside
from if_factory.usefulness.stage import judge_stage

T = TypeVar("T")
AnyPath = str | Path


def load_recipe(path: AnyPath, *, endpoints: Mapping[str, str] | None = None, limit: int | None = None,
                shard: str | None = None) -> Recipe:
    """Read and validate a recipe file.

    Args:
        endpoints: role -> URL, in place of the file's (``{"student": "http://localhost:8000/v1"}``).
        limit: only the first so many seeds; default: as the file says.
        shard: ``I/N``, only every N-th seed from the I-th on; default: as the file says.

    Raises:
        UserError: see ``if_factory.recipe.load``.
    """
    given = {key: value for key, value in (("limit", limit), ("shard", shard)) if value is not None}
    return load(Path(path), endpoints=endpoints, given=given)


def as_recipe(recipe: Recipe | AnyPath) -> Recipe:
    """The recipe itself, or the one in a file."""
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe)


def recipe_of_run(run_folder: AnyPath) -> Recipe:
    """The recipe of the latest run in a folder, with every value written out.

    Raises:
        UserError: there is no run, or its recipe.yaml is broken.
    """
    return parse(RunDir(run_folder).recipe(), where=f"{run_folder}/recipe.yaml")


def seeds_of(recipe: Recipe) -> list[Record]:
    """The recipe's seeds as records: prompts, or whatever its method starts from; those of its shard."""
    return list(iter_seeds(recipe))


def iter_seeds(recipe: Recipe) -> Iterator[Record]:
    """``seeds_of`` one at a time: what is wrong with a seed is raised when it is its turn."""
    number, of = recipe.shard_numbers
    return islice(_all_seeds(recipe), number - 1, None, of)


def _all_seeds(recipe: Recipe) -> Iterable[Record]:
    name, _, language = recipe.seeds.partition(":")
    path = None if name == "builtin" else recipe.path(recipe.seeds)
    if name == "builtin" and language:
        path = builtin(f"seeds_{language}")
        if recipe.definition.inputs is not None or not path.is_file():
            raise UserError(f"there are no shipped seeds '{recipe.seeds}' for {recipe.method}", where="seeds",
                            fix="`builtin`, or for methods that start from prompts builtin:de, es, fr, ja or zh")
    if recipe.definition.inputs is not None:
        if recipe.categories:
            raise UserError(f"{recipe.method} does not start from seed prompts with categories", where="categories",
                            fix="leave it out")
        return recipe.definition.inputs(path, recipe.method_options(), recipe.limit)
    return seeds_in(path or builtin("seeds"), method=recipe.method, limit=recipe.limit,
                    categories=recipe.categories)


def gate_of(recipe: Recipe) -> Gate:
    """The usefulness gate as the recipe sets it."""
    return Gate(recipe.usefulness.model_copy(update={"relevance": recipe.relevance_model()}))


def stages_of(recipe: Recipe) -> tuple[list[Stage], Useful]:
    """The stages of a run, and what decides for them whether answers attempt their requests."""
    gate, stages = gate_of(recipe), recipe.definition.stages(recipe.method_options())
    if judges_usefulness(recipe):
        at = next((i for i, stage in enumerate(stages) if stage.joins_answers), len(stages))
        stages = [*stages[:at], judge_stage(gate), *stages[at:]]
    return stages, partial(decided_aside, gate)


def judges_usefulness(recipe: Recipe) -> bool:
    """Whether the judge decides which of the finished answers attempt their requests."""
    return "judge" in recipe.models and recipe.usefulness.judge == "auto"


def prepare(recipe: Recipe) -> None:
    """What a run and its emission need in this process: the user's constraint types, the sandbox's settings."""
    load_plugins(recipe)
    spec = recipe.sandbox
    limits = Limits(cpu_seconds=spec.cpu_seconds, wall_seconds=spec.wall_seconds, memory_mb=spec.memory_mb)
    configure(workers=spec.workers, limits=limits, allow_weak=spec.allow_weak)


def load_plugins(recipe: Recipe) -> None:
    """Register the constraint types of the files under ``constraints.plugins``, and try that they can be drawn."""
    for given in recipe.constraints.plugins:
        load_plugin(recipe.path(given))
    if recipe.constraints.plugins:
        try_plugins("Describe how a small bakery prepares its bread and cakes in the morning.")


def wait(work: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result. Where an event loop runs already (a notebook), a thread of its own runs it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_on_loop(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run_on_loop, work).result()
