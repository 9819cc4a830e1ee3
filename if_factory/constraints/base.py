"""The shape of every verifiable constraint type, and the registry.

A type is one small class: its parameters, several descriptions that say exactly what the checker checks, the
checker, a sampler and its demands. To add one, put such a class in a file of ``if_factory/constraints/types/``
or in a file of your own named under ``constraints.plugins`` in the recipe. The registry fails closed: an
unknown type is an error, never a silent pass.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, ClassVar, TypeVar

from if_factory.constraints.demands import Demands
from if_factory.errors import UserError, suggest


class ConstraintType(ABC):
    """One verifiable constraint type.

    Class attributes:
        type: the id, ``family:name``; IFEval's own id for IFEval's 25 types.
        descriptions: at least three paraphrases, formatted with the arguments by ``str.format_map``; each
            says exactly what ``check`` checks, as one sentence or clause without final punctuation.
        difficulty_hint: 1 (most models manage) to 5 (few do); ``compose(max_difficulty=)`` leaves harder types out.
        composable: whether the composer may draw it; ``only_read`` says why not.
        by_default: whether it is drawn where nothing is named, or a family that it shares with such types.
        benchmark: the public benchmark whose id it is, as ``include`` may name it (``ifbench``).
        file: the user's own file that it came from.
    """

    type: ClassVar[str]
    descriptions: ClassVar[tuple[str, ...]]
    difficulty_hint: ClassVar[int] = 2
    composable: ClassVar[bool] = True
    only_read: ClassVar[str] = ""
    by_default: ClassVar[bool] = True
    benchmark: ClassVar[str] = ""
    file: Path | None = None

    @abstractmethod
    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        """Whether ``response`` (non-empty) satisfies the constraint. May raise: that is ``no_verdict``."""

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        """The reference implementation's verdict, for types where it is known to err and we do not follow."""
        return self.check(response, kwargs)

    @abstractmethod
    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        """Arguments drawn for this seed prompt, or ``None`` where the type does not fit the seed."""

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        """What a complying response must be like; see ``Demands``."""
        return Demands()

    @property
    def family(self) -> str:
        """The part of the id before the colon."""
        return self.type.partition(":")[0]

    @property
    def names(self) -> frozenset[str]:
        """What ``include`` and ``exclude`` may call it: its id, its family, its benchmark."""
        return frozenset((self.type, self.family, self.benchmark)) - {""}

    def required_text(self, kwargs: Mapping[str, Any]) -> tuple[str, ...]:
        """Texts that a complying response holds whatever it answers: phrases, keywords, markers.

        An answer is not useful for holding them, nor less useful; see ``if_factory.usefulness``.
        """
        demands = self.demands(kwargs)
        edges = tuple(text for text in (demands.starts, demands.ends) if text)
        counted = tuple(unit[len("word:"):] for unit, limit in demands.counts.items()
                        if unit.startswith("word:") and limit.low > 0)
        return tuple(dict.fromkeys((*demands.literals, *demands.words, *edges, *counted)))

    def describe(self, kwargs: Mapping[str, Any], rng: Random) -> str:
        """One of the descriptions, with the arguments filled in."""
        return rng.choice(self.descriptions).format_map(self.words(kwargs))

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the descriptions are formatted with; override to phrase lists, plurals or relations."""
        return kwargs

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        """A short sentence for a failed check, shown in reports and to the correcting teacher."""
        return f"does not satisfy {self.type}"

    def why_compat(self, response: str, kwargs: Mapping[str, Any]) -> str:
        """The same for the reference's verdict, where it measures otherwise."""
        return self.why(response, kwargs)


_REGISTRY: dict[str, ConstraintType] = {}
_plugins: dict[Path, None] = {}
T = TypeVar("T", bound=type[ConstraintType])


def register(cls: T) -> T:
    """Class decorator: make a type known under its ``type``. A second class with that id is an error."""
    known = _REGISTRY.get(cls.type)
    if known is not None and type(known).__qualname__ != cls.__qualname__:
        raise UserError(f"constraint type '{cls.type}' is defined twice: {type(known).__module__} and "
                        f"{cls.__module__}", fix="give one of them another `type`")
    _REGISTRY[cls.type] = cls()
    return cls


@cache
def _load_builtin(package: str = "if_factory.constraints.types") -> None:
    types = importlib.import_module(package)  # by name: whatever files are there register
    for module in pkgutil.walk_packages(types.__path__, f"{types.__name__}."):
        importlib.import_module(module.name)


def load_plugin(path: Path) -> None:
    """Import a user's own file of constraint types. It is trusted code: it runs with your rights."""
    _load_builtin()  # so that an id which is taken is said of this file
    spec = importlib.util.spec_from_file_location(f"if_factory_plugin_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError("no such Python file", where=str(path), fix="name a .py file in constraints.plugins")
    before = dict(_REGISTRY)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    except UserError:
        raise
    except Exception as e:
        raise UserError(f"this file of constraint types does not load: {type(e).__name__}: {e}",
                        where=_place(e, path) or str(path),
                        fix="correct the file; docs/constraints.md shows a type of your own") from e
    for kind in _REGISTRY.values():
        if before.get(kind.type) is not kind:
            kind.file = path
    _plugins[path.absolute()] = None


def try_plugins(prompt: str) -> None:
    """Draw once from each type of the user's own and fill all its descriptions: a mistake shows before a run.

    Raises:
        UserError: a type cannot be drawn or described.
    """
    for kind in all_types():
        if kind.file and kind.composable:
            try:
                kwargs = kind.sample(Random(0), prompt)
                if kwargs is not None:
                    kind.demands(kwargs)
                    words = kind.words(kwargs)
                    for description in kind.descriptions:
                        description.format_map(words)
            except Exception as e:
                blame_plugin(kind, e)
                raise


def blame_plugin(kind: ConstraintType, error: Exception) -> None:
    """Raise what went wrong in drawing a type of the user's own as a ``UserError``; other types' errors are bugs."""
    if kind.file is None or isinstance(error, UserError):
        return
    place, said = _place(error, kind.file), f"{type(error).__name__}: {error}"
    if place is None and isinstance(error, KeyError):
        problem = f"a description has the placeholder {{{error.args[0]}}}, which `sample` and `words` do not give"
    else:
        problem = said if place else f"a description cannot be filled in: {said}"
    raise UserError(f"constraint type '{kind.type}': {problem}", where=place or str(kind.file),
                    fix="correct the type; docs/constraints.md shows one") from error


def _place(error: Exception, path: Path) -> str | None:
    """``file:line`` of the last line of the user's file that the error came through."""
    import traceback

    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
             if Path(frame.filename).resolve() == path.resolve()]
    return f"{path}:{lines[-1]}" if lines else None


def plugins() -> tuple[Path, ...]:
    """The files that ``load_plugin`` has loaded in this process."""
    return tuple(_plugins)


def get(type_id: str) -> ConstraintType:
    """The registered type; an unknown id is a ``UserError`` that suggests the nearest known one."""
    if type_id in _REGISTRY or is_known(type_id):
        return _REGISTRY[type_id]
    raise UserError(f"unknown constraint type '{type_id}'",
                    fix=suggest(type_id, _REGISTRY) or "see `if-factory constraints`")


def is_known(type_id: str) -> bool:
    """Whether a type of this id is registered."""
    if type_id in _REGISTRY:
        return True
    _load_builtin("if_factory.constraints.types.ifeval")  # most ids are IFEval's; the others cost as much again
    if type_id not in _REGISTRY:
        _load_builtin()
    return type_id in _REGISTRY


def all_types() -> Iterator[ConstraintType]:
    """Every registered type, in the order of ids."""
    _load_builtin()
    return iter(_REGISTRY[k] for k in sorted(_REGISTRY))


