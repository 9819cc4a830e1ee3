"""Soft constraints: what only a judge can decide, as a taxonomy, and drawing them beside checkable ones.

The taxonomy is data (``if_factory/data/soft_constraints.yaml``): families of aspects, each with what a teacher is
to demand, the slot it takes (one answer has one tone) and the checkable types it clashes with. A drawn aspect
is not a constraint yet: a teacher writes its text for the task at hand.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from if_factory.constraints.base import all_types
from if_factory.constraints.compose import compose
from if_factory.errors import UserError, suggest
from if_factory.files import read_text
from if_factory.verdicts import Constraint

PREFIX = "soft_"
_DRAWS = 5


@dataclass(frozen=True, slots=True)
class Aspect:
    """One thing a soft constraint can be about; ``clashes`` holds ids and families of checkable types."""

    family: str
    name: str
    write: str
    slot: str
    clashes: frozenset[str]

    @property
    def type(self) -> str:
        """The id of constraints made from it, such as ``soft_style:tone``."""
        return f"{PREFIX}{self.family}:{self.name}"

    def constraint(self, text: str) -> Constraint:
        return Constraint(type=self.type, text=text, kind="judge")

    def bars(self, constraint: Constraint) -> bool:
        """Whether no answer is asked for both this and the checkable ``constraint``."""
        return bool(self.clashes & {constraint.type, constraint.type.partition(":")[0]})


# ---------------------------------------------------------------- the taxonomy


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _AspectSpec(_Strict):
    write: Annotated[str, Field(min_length=1)]
    slot: str = ""
    clashes: list[str] = []


class _FamilySpec(_Strict):
    what: str
    aspects: Annotated[dict[str, _AspectSpec], Field(min_length=1)]


class _Taxonomy(_Strict):
    groups: dict[str, list[str]] = {}
    never_with: list[str] = []
    families: Annotated[dict[str, _FamilySpec], Field(min_length=1)]


@cache
def taxonomy(path: str | None = None) -> tuple[Aspect, ...]:
    """All aspects, ours or those of your own file of the same form, sorted by type.

    Raises:
        UserError: broken YAML, an unknown key, or a clash with something that is neither a checkable type nor a
            family nor a group.
    """
    file = Path(path) if path else Path(str(files("if_factory") / "data" / "soft_constraints.yaml"))
    try:
        data = _Taxonomy.model_validate(yaml.safe_load(read_text(file)))
    except yaml.YAMLError as e:
        raise UserError(f"not valid YAML: {e}", where=str(file)) from None
    except ValidationError as e:
        first = e.errors()[0]
        raise UserError(first["msg"], where=f"{file}: {'.'.join(map(str, first['loc']))}",
                        fix="compare with if_factory/data/soft_constraints.yaml") from None
    known = {name for kind in all_types() if kind.composable
             for name in (kind.type, kind.family)}

    def types(names: Sequence[str], where: str) -> frozenset[str]:
        found: set[str] = set()
        for name in names:
            if name not in known and name not in data.groups:
                raise UserError(f"'{name}' is no checkable type, family or group", where=f"{file}: {where}",
                                fix=suggest(name, sorted({*known, *data.groups}))
                                or "see `if-factory constraints`")
            found |= types(data.groups[name], f"groups.{name}") if name in data.groups else {name}
        return frozenset(found)

    always = types(data.never_with, "never_with")
    return tuple(Aspect(family, name, spec.write.strip(), spec.slot or f"{family}.{name}",
                        always | types(spec.clashes, f"families.{family}.aspects.{name}"))
                 for family, members in sorted(data.families.items())
                 for name, spec in sorted(members.aspects.items()))


def pool(include: Collection[str] = (), exclude: Collection[str] = (), path: str | None = None) -> list[Aspect]:
    """The aspects that may be drawn; ``include`` and ``exclude`` name families (``style``) or types.

    Raises:
        UserError: an unknown name, or nothing is left.
    """
    aspects = taxonomy(path)
    known = {name for a in aspects for name in (a.family, a.type)}
    for name in (*include, *exclude):
        if name not in known:
            raise UserError(f"'{name}' is neither a soft family nor a soft type",
                            fix=suggest(name, sorted(known))
                            or f"families: {', '.join(sorted({a.family for a in aspects}))}")
    left = [a for a in aspects if (not include or {a.family, a.type} & set(include))
            and not {a.family, a.type} & set(exclude)]
    if not left:
        raise UserError("no soft constraint is left to draw from", fix="exclude less")
    return left


# ---------------------------------------------------------------- drawing


def draw(seed_prompt: str, rng: Random, *, n: int, soft_share: float, aspects: Sequence[Aspect],
         include: Collection[str] = (), exclude: Collection[str] = ()) -> list[Constraint | Aspect]:
    """``n`` places in random order: finished checkable constraints and soft aspects still to be written.

    ``soft_share * n`` places are soft, rounded up or down at random so that the mean share is met. Soft aspects
    are drawn first, families in turn, one per slot; checkable constraints from the types that clash with none
    of them. Fewer than ``n`` come back only if the pools are too small.

    Args:
        soft_share: share in [0, 1].
        include, exclude: of checkable types, as for ``compose``.
    """
    exact = soft_share * n
    soft_places = int(exact) + (rng.random() < exact % 1)
    soft = draw_aspects(rng, soft_places, aspects)
    barred = {*exclude, *(name for aspect in soft for name in aspect.clashes)}
    for _ in range(_DRAWS):  # an answer that is wholly JSON may leave too few types: draw again
        hard = compose(seed_prompt, rng, n=n - len(soft), include=include, exclude=sorted(barred))
        if len(hard) == n - len(soft):
            break
    places: list[Constraint | Aspect] = [*soft, *hard]
    rng.shuffle(places)
    return places


def draw_aspects(rng: Random, n: int, aspects: Sequence[Aspect], taken: Collection[Aspect] = (),
                 beside: Sequence[Constraint] = ()) -> list[Aspect]:
    """Up to ``n`` aspects that go together, with those ``taken`` and with the constraints they stand ``beside``.

    Every family comes once before one comes again; within a family each aspect is equally likely.
    """
    slots = {aspect.slot for aspect in taken}
    left = [a for a in aspects if a.slot not in slots and not any(a.bars(c) for c in beside)]
    drawn: list[Aspect] = []
    turn: list[str] = []
    while left and len(drawn) < n:
        if not turn:
            turn = sorted({a.family for a in left})
            rng.shuffle(turn)
        family = turn.pop()
        members = [a for a in left if a.family == family]
        if members:
            drawn.append(rng.choice(members))
            left = [a for a in left if a.slot != drawn[-1].slot]
    return drawn
