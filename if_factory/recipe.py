"""The recipe: everything that decides a run, in one YAML file with every default visible."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from if_factory.errors import UserError, deprecated, suggest
from if_factory.files import read_text
from if_factory.methods.base import PATH, Method, get_method
from if_factory.methods.training import PresetTraining, combine
from if_factory.specs import BudgetSpec, ConstraintSpec, ModelSpec, ReplaySpec, SandboxSpec, Strict
from if_factory.usefulness.settings import UsefulnessSpec

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound=BaseModel)
_NAME, _SHARD = r"^[A-Za-z0-9_.-]*$", r"^[1-9][0-9]*/[1-9][0-9]*$"
_PATTERNS = {_NAME: "letters of the alphabet without accents, digits, `_`, `.` and `-`, nothing else",
             _SHARD: "I/N, such as 1/4, the first of four"}
_RENAMED = {"code": "released"}  # presets by their old name


class Recipe(Strict):
    """One run. Relative paths are relative to the recipe's folder."""

    method: str = Field("complex_to_simple", description="one file of if_factory/methods")
    preset: str | list[str] = Field(
        "default", description="default, paper, released...: starting values for `options` and for the training; of "
        "a list ([paper, self_alignment]) later ones win")
    name: Annotated[str, Field(pattern=_NAME)] = Field(
        "", description="prefix of the datasets in dataset_info.json; default the method's name")
    seed: int = Field(0, description="same seed, recipe and model answers: byte-identical files")
    seeds: str = Field("builtin", description="`builtin` (`builtin:de` for German; also es, fr, ja, zh), or a "
                       ".jsonl/.json file whose rows have a `prompt`, or ShareGPT's `conversations`")
    categories: list[str] = Field([], description="only seeds with one of these in their `category`; [] takes all")
    limit: Annotated[int, Field(ge=1)] | None = Field(None, description="only the first so many seeds")
    shard: Annotated[str, Field(pattern=_SHARD)] | None = Field(
        None, description="I/N: only every N-th seed from the I-th on; `if-factory merge` joins the N runs")
    models: dict[str, ModelSpec] = Field(default_factory=dict, description="role -> how to reach the model")
    budget: BudgetSpec = Field(default_factory=BudgetSpec)
    constraints: ConstraintSpec = Field(default_factory=ConstraintSpec)
    sandbox: SandboxSpec = Field(default_factory=SandboxSpec)
    options: dict[str, Any] = Field(default_factory=dict, description="the method's own options")
    replay: ReplaySpec = Field(default_factory=ReplaySpec)
    usefulness: UsefulnessSpec = Field(default_factory=UsefulnessSpec)

    _folder: Path = Path()
    _where: str = ""  # the file, for messages

    @field_validator("models", mode="before")
    @classmethod
    def _none_named(cls, given: Any) -> Any:
        return {} if given is None else given  # `models:` with every role below it commented out

    @model_validator(mode="after")
    def _named(self) -> Recipe:
        self.name = self.name or self.method
        return self

    @field_validator("shard")
    @classmethod
    def _within(cls, given: str | None) -> str | None:
        if given is not None and int(given.split("/")[0]) > int(given.split("/")[1]):
            raise ValueError(f"there is no shard {given}: the first number is at most the second")
        return given

    @property
    def shard_numbers(self) -> tuple[int, int]:
        """Which shard of how many, from 1; (1, 1) is the whole run."""
        number, _, of = (self.shard or "1/1").partition("/")
        return int(number), int(of)

    @property
    def definition(self) -> Method:
        return get_method(self.method)

    @property
    def presets(self) -> tuple[str, ...]:
        """The presets in the order in which they apply.

        Raises:
            UserError: one of them is unknown, or named twice.
        """
        given, known = self._current_presets(), self.definition.presets
        for name in given:
            if name not in known:
                raise UserError(f"unknown preset '{name}'", where=self.place("preset"),
                                fix=f"one of: {', '.join(known)}")
        if not given or len(set(given)) < len(given):
            raise UserError("no preset is named, or one of them twice", where=self.place("preset"),
                            fix="name each once; later ones win")
        return tuple(given)

    def _current_presets(self) -> list[str]:
        """The presets as given, an old name by its new one."""
        known = self.definition.presets
        given = [self.preset] if isinstance(self.preset, str) else self.preset
        return [_RENAMED[name] if name not in known and _RENAMED.get(name) in known else name for name in given]

    def method_options(self) -> BaseModel:
        """The presets' values, later ones first, overridden by ``options``, validated by the method."""
        method = self.definition
        given: dict[str, Any] = {}
        for name in self.presets:
            given |= method.presets[name]
        stacked = f" (presets {' + '.join(self.presets)})" if len(self.presets) > 1 else ""
        return _validated(method.options, {**given, **self._absolute(self.options)},
                          self.place(f"options{stacked}"))

    def preset_conflicts(self) -> list[str]:
        """Where two presets set an option differently, and which holds: one sentence each."""
        found: list[str] = []
        last: dict[str, str] = {}
        for name in self.presets:
            values = self.definition.presets[name]
            for key, value in values.items():
                before = last.get(key)
                if before and self.definition.presets[before][key] != value:
                    found.append(f"{key}: {value!r} of preset {name} replaces "
                                 f"{self.definition.presets[before][key]!r} of {before}"
                                 + ("; `options` sets its own" if key in self.options else ""))
                last[key] = name
        return found

    def training(self) -> PresetTraining:
        """How the presets train, as one."""
        known = self.definition.preset_training
        return combine([(name, known[name]) for name in self.presets if name in known])

    def _absolute(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """``options`` with the paths among them resolved; a method marks those with ``json_schema_extra=PATH``."""
        paths = {name for name, info in self.definition.options.model_fields.items()
                 if info.json_schema_extra == PATH}
        return {k: str(self.path(v)) if k in paths and isinstance(v, str) and v != "builtin" else v
                for k, v in options.items()}

    def resolved(self) -> dict[str, Any]:
        """The recipe as plain data that means the same from any folder: every value, paths absolute."""
        data = self.model_dump(mode="json")
        current = self._current_presets()
        data["preset"] = current[0] if isinstance(self.preset, str) else current
        if self.seeds.partition(":")[0] != "builtin":
            data["seeds"] = str(self.path(self.seeds))
        if self.replay.file:
            data["replay"]["file"] = str(self.path(self.replay.file))
        data["options"] = self._absolute(self.options)
        if self.usefulness.relevance not in ("auto", "off") and self.relevance_model() != self.usefulness.relevance:
            data["usefulness"]["relevance"] = self.relevance_model()
        data["constraints"]["plugins"] = [str(self.path(p)) for p in self.constraints.plugins]
        return data

    def relevance_model(self) -> str:
        """``usefulness.relevance`` with a folder resolved; a name that is no folder here stays a name."""
        given = self.usefulness.relevance
        folder = self.path(given)
        return str(folder) if given not in ("auto", "off") and folder.is_dir() else given

    def place(self, key: str) -> str:
        """``key`` with the file that it is in, as an error's ``where``."""
        return f"{self._where}: {key}" if self._where else key

    def path(self, given: str) -> Path:
        if given.startswith("hub:"):  # a dataset's name, not a place on this machine
            return Path(given)
        return (self._folder / Path(given).expanduser()).resolve()


class _UniqueKeys(yaml.SafeLoader):
    """YAML takes the last of two equal keys without a word; a recipe must not lose a line that way."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = key_node.value
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is there twice",
                                                        key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def load(path: Path, endpoints: Mapping[str, str] | None = None, given: Mapping[str, Any] | None = None) -> Recipe:
    """Read and validate a recipe; ``endpoints`` (role -> URL) and ``given`` (key -> value) take the file's place.

    Raises:
        UserError: broken YAML, an unknown key (with the nearest known one), a value out of range, a role the
            method does not know or one it needs that is missing.
    """
    try:
        data = yaml.load(read_text(path), _UniqueKeys)  # noqa: S506 a SafeLoader
    except (yaml.YAMLError, RecursionError) as e:
        mark = getattr(e, "problem_mark", None)
        raise UserError(f"not valid YAML: {getattr(e, 'problem', None) or 'nested too deeply'}",
                        where=f"{path}:{mark.line + 1}" if mark else str(path),
                        fix="compare with `if-factory init`; quote values that hold `: ` or ` #`") from None
    for role, url in (endpoints or {}).items() if isinstance(data, dict) else ():
        models = data["models"] = data.get("models") or {}
        spec = models.get(role) or {}
        models[role] = {**(spec if isinstance(spec, dict) else {}), "endpoint": url}
    if isinstance(data, dict):
        data.update(given or {})
    try:
        recipe = parse(data, where=str(path))
    except UserError as e:
        for key in given or ():  # not in the file
            if e.where == f"{path}: {key}":
                raise UserError(e.problem, where=key, fix=e.fix) from None
        raise
    recipe._folder = path.resolve().parent
    return recipe


def parse(data: Any, where: str = "recipe") -> Recipe:
    """Validate an already loaded recipe; see ``load``."""
    if not isinstance(data, Mapping):
        raise UserError("expected a mapping of recipe keys", where=where,
                        fix="start from `if-factory init complex_to_simple > recipe.yaml`")
    recipe = _validated(Recipe, data, where)
    recipe._where = where
    given = [recipe.preset] if isinstance(recipe.preset, str) else recipe.preset
    for old, new in zip(given, recipe._current_presets(), strict=True):
        if old != new:
            deprecated(f"preset '{old}' is now called '{new}'", f"write `preset: {new}`")
    recipe.method_options()
    roles = recipe.definition.roles
    for role in recipe.models:
        if role not in roles:
            raise UserError(f"unknown role '{role}'", where=f"{where}: models",
                            fix=suggest(role, roles) or f"roles: {', '.join(roles)}")
    missing = [r for r, (needed, _) in roles.items() if needed and r not in recipe.models]
    if missing:
        raise UserError(f"the method needs a model for the role '{missing[0]}'", where=f"{where}: models",
                        fix=f"add `{missing[0]}: {{endpoint: embedded}}` or the URL of your server")
    if recipe.budget.max_usd is not None and any(m.price is None and not m.ours
                                                 for m in recipe.models.values()):
        raise UserError("max_usd needs a price for every model", where=f"{where}: budget.max_usd",
                        fix="give each model `price: {prompt: ..., completion: ...}` (0 for a local one)")
    return recipe


def _validated(model: type[M], data: Mapping[str, Any], where: str) -> M:
    try:
        return model.model_validate(dict(data))
    except ValidationError as e:
        first = e.errors()[0]
        keys = [str(k) for k in first["loc"]]
        place = f"{where}: {'.'.join(keys)}" if keys else where
        if first["type"] == "extra_forbidden":
            known = list(_fields_at(model, keys[:-1]))
            raise UserError(f"unknown key '{keys[-1]}'", where=place,
                            fix=suggest(keys[-1], known) or f"known keys: {', '.join(known)}") from None
        given = "" if isinstance(first["input"], dict) else f" (found {first['input']!r})"
        raise UserError(_in_words(first) + given, where=place,
                        fix=f"write a list: [{first['input']}]" if first["type"] == "list_type"
                        else "correct the value; `if-factory init METHOD` shows every key with its default") from None


def _in_words(error: ErrorDetails) -> str:
    """What was expected, without the words of the library that looked."""
    if error["type"] == "string_pattern_mismatch":
        return f"expected {_PATTERNS.get(error['ctx']['pattern'], error['ctx']['pattern'])}"
    said = error["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return re.sub("^expected (?=greater|less)", "expected a number ", said)


def _fields_at(model: type[BaseModel], keys: list[str]) -> Iterator[str]:
    for key in keys:
        info = model.model_fields.get(key)
        if info is None:  # a role's name under `models`
            continue
        inner = {"models": ModelSpec}.get(key, info.annotation)
        nested = [t for t in (inner, *getattr(inner, "__args__", ())) if isinstance(t, type)
                  and issubclass(t, BaseModel)]
        model = nested[0] if nested else model
    yield from model.model_fields


# ---------------------------------------------------------------- init


def commented(method_name: str) -> str:
    """A recipe for the method with every default written out and explained; parses to the defaults."""
    method = get_method(method_name)
    lines = [f"# {method.name}: {method.summary}.",
             f"# Difficulty of a row: {method.difficulty}.",
             "# Every key below shows its default; delete what you do not change.",
             "#   if-factory plan recipe.yaml     what it will cost, before anything is asked",
             "#   if-factory run recipe.yaml      make the data; safe to kill and to run again", ""]
    for key, info in Recipe.model_fields.items():
        if key == "models":
            lines += ["", "models:"]
            for role, (needed, what) in method.roles.items():
                mark = "" if needed else "# "
                lines += [f"  # {role}: {what}{'' if needed else ' (optional: remove the # below)'}",
                          f"  {mark}{role}:", *_block(ModelSpec, f"  {mark}  ")]
        elif key == "options":
            lines += ["", f"options:  # presets: {', '.join(method.presets)}", *_block(method.options, "  ")]
        elif isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            lines += ["", f"{key}:", *_block(info.annotation, "  ")]
        else:
            value = method_name if key in ("method", "name") else info.default
            lines.append(_line(key, value, info.description, ""))
    return "\n".join(lines) + "\n"


def _block(model: type[BaseModel], indent: str) -> list[str]:
    return [_line(k, i.default, i.description, indent) for k, i in model.model_fields.items()]


def _line(key: str, value: Any, description: str | None, indent: str) -> str:
    text = yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
    return f"{indent}{key}: {text}".ljust(36) + (f"  # {description}" if description else "")
