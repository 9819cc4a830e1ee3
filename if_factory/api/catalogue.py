"""What there is to choose from: commented recipes, constraint types."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from if_factory.constraints.base import all_types

_PROMPT = "Describe how a small bakery prepares its bread and cakes in the morning."


@dataclass(frozen=True, slots=True)
class ConstraintExample:
    """A constraint type.

    Attributes:
        type: its id, ``family:name``.
        difficulty: as it is counted into a row's difficulty where a method does.
        example: the description of one drawn constraint, the same each time.
    """

    type: str
    difficulty: float
    example: str


def constraint_types(family: str | None = None) -> list[ConstraintExample]:
    """Every constraint type, or those of one family (``keywords``), type or benchmark (``ifbench``)."""
    found = []
    for kind in all_types():
        if family and family not in kind.names:
            continue
        rng = Random(kind.type)
        kwargs = kind.sample(rng, _PROMPT)
        found.append(ConstraintExample(kind.type, kind.difficulty_hint, kind.describe(kwargs, rng)
                                       if kwargs is not None else kind.descriptions[0]))
    return found


def init(method: str = "complex_to_simple") -> str:
    """A commented recipe for a method, every default visible; YAML that ``load_recipe`` reads.

    Raises:
        UserError: there is no such method.
    """
    from if_factory.recipe import commented

    return commented(method)
