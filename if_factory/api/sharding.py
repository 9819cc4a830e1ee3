"""One run on several machines without a cluster: each takes every n-th seed, and ``merge`` makes one run of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from if_factory.api.common import AnyPath, recipe_of_run
from if_factory.api.data import RunReport, run
from if_factory.errors import UserError
from if_factory.pipeline.result import Observer
from if_factory.pipeline.rundir import RunDir
from if_factory.recipe import Recipe


def merge(run_folders: Sequence[AnyPath], out: AnyPath, *, observer: Observer | None = None) -> RunReport:
    """Join the finished shards of a recipe into the run that one machine would have made: the same files.

    The answers of all shards go into one response log, and the whole recipe runs over it. Nothing is asked again,
    but where a method looks at all records together: what only the whole run needs is asked then.

    Args:
        run_folders: of ``run`` with ``shard``, in any order.
        out: the folder of the whole run. Merging into it again goes on where it was.
        observer: as of ``run``.

    Raises:
        UserError: a shard is missing, there twice, not finished, or of another recipe.
    """
    recipe = _common_recipe([Path(folder) for folder in run_folders])
    with RunDir(out) as folder:
        for path in run_folders:
            folder.log.take_over(Path(path) / "responses.jsonl")
    return run(recipe, out, observer=observer)


def _common_recipe(folders: Sequence[Path]) -> Recipe:
    """The recipe of all shards, without its shard."""
    if not folders:
        raise UserError("there are no runs to merge", fix="name the folders of the shards' runs")
    first, found = "", dict[int, Path]()
    of = 0
    whole: dict[str, Any] = {}
    for folder in folders:
        recipe = recipe_of_run(folder)
        if recipe.shard is None:
            raise UserError("this run is no shard", where=str(folder), fix="run the recipe with `--shard I/N`")
        if not RunDir(folder).complete():
            raise UserError("this shard has not finished", where=str(folder),
                            fix=f"continue it with `if-factory run ... --shard {recipe.shard}`")
        number, n = recipe.shard_numbers
        plain = {**recipe.resolved(), "shard": None}
        if not whole:
            first, of, whole = str(folder), n, plain
        if differs := [key for key in whole if whole[key] != plain.get(key)]:
            raise UserError(f"its recipe differs from that of {first} in '{differs[0]}'", where=str(folder),
                            fix="merge shards of one recipe")
        if n != of or number in found:
            raise UserError(f"is shard {recipe.shard}, beside " + (
                f"shards of {of}" if n != of else f"the same shard in {found[number]}"), where=str(folder),
                fix="merge each shard of one run once")
        found[number] = folder
    if missing := sorted(set(range(1, of + 1)) - set(found)):
        raise UserError(f"shard {missing[0]}/{of} is missing", fix="run it, or name its folder")
    recipe = recipe_of_run(folders[0])
    recipe.shard = None
    return recipe
