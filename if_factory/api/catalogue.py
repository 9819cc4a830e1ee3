"""What there is to choose from: commented recipes, constraint types."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from if_factory.constraints.base import ConstraintType, all_types
from if_factory.errors import UserError, suggest

# Some types fit a question that "yes" answers only, or a request for code.
_PROMPTS = ("Describe how a small bakery prepares its bread and cakes in the morning.",
            "Is fresh bread better for breakfast than cake?", "Write a Python function that counts loaves of bread.")


class _Dots(dict[str, str]):
    """What stands for arguments that are only read from data."""

    def __missing__(self, name: str) -> str:
        return "..."


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
    """Every constraint type, or those of one family (``keywords``), type or benchmark (``ifbench``).

    Raises:
        UserError: nothing is called ``family``.
    """
    kinds = [kind for kind in all_types() if not family or family in kind.names]
    if family and not kinds:
        known = sorted({name for kind in all_types() for name in kind.names})
        raise UserError(f"'{family}' is neither a constraint type nor a family or benchmark of types",
                        fix=suggest(family, known, most=3) or f"one of: {', '.join(n for n in known if ':' not in n)}")
    return [ConstraintExample(kind.type, kind.difficulty_hint, _example(kind)) for kind in kinds]


def _example(kind: ConstraintType) -> str:
    for prompt in _PROMPTS:
        rng = Random(kind.type)
        kwargs = kind.sample(rng, prompt)
        if kwargs is not None:
            return kind.describe(kwargs, rng)
    return kind.descriptions[0].format_map(_Dots())


def init(method: str = "complex_to_simple") -> str:
    """A commented recipe for a method, every default visible; YAML that ``load_recipe`` reads.

    Raises:
        UserError: there is no such method.
    """
    from if_factory.recipe import commented

    return commented(method)
