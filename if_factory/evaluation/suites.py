"""Which prompts are evaluated: the shipped held-out prompts with constraints drawn from a seed, or your own file.

The held-out prompts share nothing with the shipped seeds, and their constraints depend on the seed and the
installed types only, so before and after, on any machine, see the same suite.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from random import Random
from typing import Any

from pydantic import ValidationError

from if_factory.constraints.base import get
from if_factory.constraints.compose import compose
from if_factory.constraints.join import join
from if_factory.errors import UserError
from if_factory.evaluation.passrate import Item
from if_factory.files import read_rows
from if_factory.inputs.rows import constraints_of, prompt_of
from if_factory.inputs.seeds import builtin
from if_factory.records import Constraint, Turn, content_id


def held_out_suite(n: int | None = None, *, seed: int = 0, low: int = 1, high: int = 3,
                   types: Collection[str] = ()) -> list[Item]:
    """The shipped held-out prompts, each with ``low`` to ``high`` constraints.

    Args:
        n: how many prompts, at most; ``None`` is all. A smaller suite is a subset of a larger one.
        types: ids or families of constraints to draw from; empty means all.

    Raises:
        UserError: ``n`` or the range is empty, a name in ``types`` is unknown.
    """
    if n is not None and n < 1:
        raise UserError(f"cannot evaluate {n} prompts", fix="give n >= 1, or leave it out for all of them")
    if low < 1:
        raise UserError("every evaluated prompt needs a constraint", fix="give low >= 1")
    rows = [row for _, row in read_rows(builtin("held_out"))]
    # One order for all n, drawn apart from the constraints: the file is grouped by category.
    Random(f"{seed}/order").shuffle(rows)
    items = []
    for row in rows[:n]:
        rng = Random(f"{seed}/{row['id']}")
        constraints = compose(row["prompt"], rng, low=low, high=high, include=types)
        if constraints:
            items.append(Item(row["id"], join(row["prompt"], constraints, rng), tuple(constraints)))
    if not items:
        raise UserError("none of the chosen constraint types fits a held-out prompt",
                        fix="choose other types, or leave them out for all")
    return items


def load_suite(path: Path) -> list[Item]:
    """A suite of your own: rows with a prompt and constraints, IFEval's or ``constraints: [{type, kwargs}]``.

    Optional fields: ``id`` or ``key`` (else a hash of the row), ``system``, ``history`` (``[{role, content}]``).

    Raises:
        UserError: naming the row that has no prompt, no constraints, or an unknown type; or no rows at all.
    """
    items = []
    for n, row in read_rows(path):
        where = f"{path}:{n}"
        prompt, constraints = prompt_of(row), constraints_of(row, where)
        if prompt is None:
            raise UserError("no prompt", where=where, fix="give every row a `prompt`")
        if not constraints:
            raise UserError("no constraints that code can check", where=where,
                            fix="give `constraints: [{type, kwargs}]`, or `instruction_id_list` and `kwargs`")
        for constraint in constraints:
            _known(constraint, where)
        key = row.get("id", row.get("key", content_id(prompt, n)))
        history = _history(row.get("history"), where)
        items.append(Item(str(key), prompt, constraints, system=row.get("system") or "", history=history))
    if not items:
        raise UserError("no rows", where=str(path))
    return items


def _history(turns: Any, where: str) -> tuple[Turn, ...]:
    """Every entry is looked at, so that the message names the one that is wrong."""
    fix = 'history is a list of {"role": "user" or "assistant", "content": "..."}; leave it out if there is none'
    if turns is None:
        return ()
    if not isinstance(turns, list):
        raise UserError("expected a list", where=f"{where}: field 'history'", fix=fix)
    found = []
    for i, turn in enumerate(turns):
        place = f"{where}: field 'history[{i}]'"
        try:
            found.append(Turn.model_validate(turn))
        except ValidationError as e:
            error = e.errors()[0]
            field = ".".join(str(part) for part in error["loc"])
            raise UserError(f"{field}: {error['msg']}" if field else "expected an object", where=place,
                            fix=fix) from None
        if found[-1].role == "system":
            raise UserError("role: a system turn", where=place, fix="give it in the row's `system` field")
    return tuple(found)


def _known(constraint: Constraint, where: str) -> None:
    """Say now what would otherwise be said after the answers were generated."""
    if constraint.kind == "code":
        try:
            get(constraint.type)
        except UserError as e:
            raise UserError(e.problem, where=where, fix=e.fix) from None


def suite(name: str, n: int | None = None, **options: object) -> list[Item]:
    """``held_out`` (with its options), or the path of a file."""
    if name == "held_out":
        return held_out_suite(n, **options)  # type: ignore[arg-type]
    return load_suite(Path(name))[:n]
