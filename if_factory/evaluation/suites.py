"""Which prompts are evaluated: the shipped held-out prompts with constraints drawn from a seed, or your own file.

The held-out prompts share nothing with the shipped seeds, and their constraints depend on the seed and the
installed types only, so before and after, on any machine, see the same suite. Every third prompt has constraints
of types that were never trained: a gain on the trained types alone is no gain in following instructions.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from random import Random

from if_factory.constraints.base import all_types
from if_factory.constraints.compose import compose, offered
from if_factory.constraints.held_out import HELD_OUT_TYPES
from if_factory.constraints.join import join
from if_factory.errors import UserError
from if_factory.evaluation.passrate import Item
from if_factory.files import read_rows
from if_factory.inputs.history import read_history
from if_factory.inputs.rows import NotCheckable, constraints_of, prompt_of
from if_factory.inputs.seeds import builtin
from if_factory.pipeline.rundir import RunDir
from if_factory.records import content_id

_logger = logging.getLogger(__name__)
_UNSEEN_EVERY = 3


def types_trained(run_folder: Path) -> frozenset[str]:
    """The constraint types of a run's finished records: what its training rows can have had.

    Raises:
        UserError: no finished run in the folder.
    """
    return frozenset(c.type for record in RunDir(run_folder).iter_records() for c in record.constraints)


def named_types(names: Collection[str]) -> frozenset[str]:
    """The types that a recipe with these names draws; empty means those that recipes draw by default."""
    return frozenset(kind.type for kind in offered(all_types(), names, ()))


def never_trained(trained: Collection[str]) -> tuple[str, ...]:
    """Types to test generalisation with: the held-out ones that were not trained; if all were, any others."""
    held_out = tuple(t for t in HELD_OUT_TYPES if t not in trained)
    return held_out or tuple(k.type for k in all_types()
                             if k.composable and k.by_default and k.type not in trained)


def held_out_suite(n: int | None = None, *, seed: int = 0, low: int = 1, high: int = 3,
                   types: Collection[str] = (), unseen: Collection[str] = ()) -> list[Item]:
    """The shipped held-out prompts, each with ``low`` to ``high`` constraints.

    Args:
        n: how many prompts, at most; ``None`` is all. A smaller suite is a subset of a larger one.
        types: ids or families of constraints to draw from; empty means all but ``HELD_OUT_TYPES``.
        unseen: types never trained, from which every third prompt draws instead; empty: no prompt does.

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
    for place, row in enumerate(rows[:n], 1):
        rng = Random(f"{seed}/{row['id']}")
        drawn_from = unseen if unseen and place % _UNSEEN_EVERY == 0 else types
        constraints = compose(row["prompt"], rng, low=low, high=high, include=drawn_from)
        if constraints:
            items.append(Item(row["id"], join(row["prompt"], constraints, rng), tuple(constraints),
                              request=row["prompt"]))
    if not items:
        raise UserError("none of the chosen constraint types fits a held-out prompt",
                        fix="choose other types, or leave them out for all")
    return items


def load_suite(path: Path) -> list[Item]:
    """A suite of your own: rows with a prompt and constraints, IFEval's or ``constraints: [{type, kwargs}]``.

    Optional fields: ``id`` or ``key`` (else a hash of the row), ``system``, ``history`` (``[{role, content}]``).
    Constraints of unknown types are counted apart as not checkable, in a warning and in the item; a row that has no
    others is left out.

    Raises:
        UserError: naming the row that has no prompt or no constraints; or no rows at all that can be checked.
    """
    items = []
    not_checkable = NotCheckable()
    for n, row in read_rows(path):
        where = f"{path}:{n}"
        prompt, constraints = prompt_of(row), constraints_of(row, where)
        if prompt is None:
            raise UserError("no prompt", where=where, fix="give every row a `prompt`")
        if not constraints:
            raise UserError("no constraints that code can check", where=where,
                            fix="give `constraints: [{type, kwargs}]`, or `instruction_id_list` and `kwargs`")
        known, unknown = not_checkable.split(constraints)
        if not known:
            not_checkable.rows += 1
            continue
        key = row.get("id", row.get("key", content_id(prompt, n)))
        history = read_history(row.get("history"), f"{where}: field 'history'")
        items.append(Item(str(key), prompt, known, system=row.get("system") or "", history=history,
                          not_checkable=unknown))
    if note := not_checkable.note(str(path)):
        _logger.warning(note)
    if not items and not_checkable.rows:
        raise not_checkable.error(str(path))
    if not items:
        raise UserError("no rows", where=str(path))
    return items


def suite(name: str, n: int | None = None, **options: object) -> list[Item]:
    """``held_out`` (with its options), or the path of a file."""
    if name == "held_out":
        return held_out_suite(n, **options)  # type: ignore[arg-type]
    return load_suite(Path(name))[:n]
