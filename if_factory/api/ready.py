"""What a recipe needs before anything is asked: models for its options, endpoints and files that can be there.

Looked at by ``plan``, ``preview`` and ``run``, not where a recipe is read: a finished run is exported after its seeds
are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from urllib.parse import urlsplit

from if_factory.api.common import load_plugins
from if_factory.chat.address import read_address
from if_factory.constraints.compose import compose
from if_factory.errors import UserError, suggest
from if_factory.methods.base import PATH
from if_factory.recipe import Recipe

_HOST = re.compile(r"([\w-]+:\d+|localhost|[\w-]+(\.[\w-]+)+(:\d+)?)(/.*)?")


def require_ready(recipe: Recipe) -> None:
    """Load the recipe's plugins, and look at what would otherwise fail late, or be left out without a word.

    Raises:
        UserError: an option needs a model that is not named, an endpoint is none, a file is missing, a constraint type
            is unknown.
    """
    load_plugins(recipe)
    _require_roles(recipe)
    for role, spec in recipe.models.items():
        for endpoint in spec.urls:
            _require_endpoint(recipe, f"models.{role}.endpoint", endpoint)
    for key, given in _files(recipe):
        _require_file(recipe, key, given)
    _require_types(recipe)


def _require_roles(recipe: Recipe) -> None:
    options = recipe.method_options()
    for name, (role, needing) in recipe.definition.needs.items():
        value = getattr(options, name)
        if role in recipe.models or (value != needing if needing else not value):
            continue
        preset = "" if name in recipe.options else f" (of preset {' + '.join(recipe.presets)})"
        raise UserError(f"`{name}: {value}`{preset} needs a {role}, and `models` has none",
                        where=recipe.place(f"options.{name}"),
                        fix=f"add `{role}` to `models`, or set options.{name} to "
                            f"{type(options).model_fields[name].default}")


def _require_endpoint(recipe: Recipe, key: str, endpoint: str) -> None:
    kind, _, rest = endpoint.partition(":")
    if kind == "embedded":
        if rest:
            _require_file(recipe, key, rest)
        return
    if kind == "vllm":
        return
    try:
        read_address(endpoint)
    except ValueError:
        kinds = "`embedded`, `embedded:/path/to.gguf` or `vllm:MODEL`"
        raise UserError(f"'{endpoint}' is not a URL, nor {kinds}", where=recipe.place(key),
                        fix=suggest(kind, ("embedded", "vllm")) or
                        f"write {_as_url(endpoint)}, in the recipe or on the command line") from None


def _as_url(endpoint: str) -> str:
    """``localhost:8000`` as it should have been written; an example where nothing can be made of it."""
    if not _HOST.fullmatch(endpoint):
        return "a URL such as http://localhost:8000/v1"
    url = f"http://{endpoint}".rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"


def _files(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Keys that name a file or folder, with what the recipe says there."""
    if recipe.seeds.partition(":")[0] != "builtin":
        yield "seeds", recipe.seeds
    if recipe.replay.file:
        yield "replay.file", recipe.replay.file
    for name, info in recipe.definition.options.model_fields.items():
        given = recipe.options.get(name)
        if info.json_schema_extra == PATH and isinstance(given, str) and given != "builtin":
            yield f"options.{name}", given


def _require_file(recipe: Recipe, key: str, given: str) -> None:
    if given.startswith("hub:") or recipe.path(given).exists():
        return
    raise UserError(f"{recipe.path(given)}: no such file", where=recipe.place(key),
                    fix=f"check the path; it is relative to the recipe's folder, {recipe.path('.')}")


def _require_types(recipe: Recipe) -> None:
    """The names under ``include`` and ``exclude``; composing nothing looks them up."""
    options = recipe.method_options()
    for key in ("include", "exclude"):
        named: list[str] = getattr(options, key, [])
        try:
            compose("", Random(0), n=0, include=named if key == "include" else (),
                    exclude=named if key == "exclude" else ())
        except UserError as e:
            raise UserError(e.problem, where=recipe.place(f"options.{key}"), fix=e.fix) from None
