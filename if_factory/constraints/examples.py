"""Worked examples: a request with one constraint and an answer that satisfies it and answers, per constraint type.

A small model that is shown two of them satisfies a constraint far more often, and goes on answering the request.
They are data (``if_factory/data/worked_examples.jsonl``), written for this project, and share no request with the
shipped seeds or held-out prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from if_factory.files import read_rows
from if_factory.records import Turn
from if_factory.verdicts import Constraint


@dataclass(frozen=True, slots=True)
class WorkedExample:
    """``prompt`` with ``constraint`` is answered by ``answer``."""

    constraint: Constraint
    prompt: str
    answer: str

    def turns(self) -> tuple[Turn, Turn]:
        """As two turns of a conversation."""
        return (Turn(role="user", content=f"{self.prompt} {self.constraint.text}"),
                Turn(role="assistant", content=self.answer))


@cache
def worked_examples() -> tuple[WorkedExample, ...]:
    """All of them, in the order of the file."""
    path = Path(str(files("if_factory") / "data" / "worked_examples.jsonl"))
    return tuple(WorkedExample(Constraint(type=row["type"], kwargs=row["kwargs"], text=row["constraint"]),
                               row["prompt"], row["answer"]) for _, row in read_rows(path))


def example_turns(constraints: Sequence[Constraint], per_type: int) -> list[Turn]:
    """Turns that come before a prompt with these constraints: at most ``per_type`` examples for each type.

    Empty where no type among them has an example.
    """
    turns: list[Turn] = []
    for type_id in dict.fromkeys(c.type for c in constraints):
        known = [e for e in worked_examples() if e.constraint.type == type_id]
        turns += [turn for e in known[:per_type] for turn in e.turns()]
    return turns
