"""Reading IFEval-style rows: ``{"instruction_id_list": [...], "kwargs": [{...}, ...]}``.

IFEval, IFBench and Tulu data have this form.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from if_factory.constraints.base import ConstraintType, get
from if_factory.errors import UserError
from if_factory.verdicts import Constraint


def read_constraints(row: Mapping[str, Any], where: str) -> list[Constraint]:
    """The constraints of one row, in its order.

    Arguments that are ``null`` are dropped (the published IFEval writes every argument of every type). A list
    ``constraints`` beside the ids, if there is one, holds the texts.

    Args:
        where: file and row, for messages.

    Raises:
        UserError: a field is missing or of the wrong kind, the lists differ in length, a type is not known, or
            an argument that the type needs is missing or of no use.
    """
    ids = _list(row, "instruction_id_list", where)
    kwargs = _list(row, "kwargs", where)
    if len(ids) != len(kwargs):
        raise UserError(f"{len(ids)} ids but {len(kwargs)} kwargs", where=f"{where}: field 'kwargs'",
                        fix="give one object of arguments (it may be empty) for each id")
    texts = row.get("constraints")
    if not (isinstance(texts, list) and len(texts) == len(ids) and all(isinstance(t, str) for t in texts)):
        texts = [""] * len(ids)
    return [_constraint(type_id, arguments, text, where, n)
            for n, (type_id, arguments, text) in enumerate(zip(ids, kwargs, texts, strict=True))]


def _list(row: Mapping[str, Any], field: str, where: str) -> list[Any]:
    value = row.get(field)
    if not isinstance(value, list):
        found = "no such field" if field not in row else f"found {type(value).__name__}"
        raise UserError(f"expected a list, {found}", where=f"{where}: field '{field}'",
                        fix="an IFEval row has two lists of equal length: 'instruction_id_list' and 'kwargs'")
    return value


def _constraint(type_id: Any, arguments: Any, text: str, row: str, n: int) -> Constraint:
    if not isinstance(type_id, str):
        raise UserError(f"expected a constraint id, found {type(type_id).__name__}",
                        where=f"{row}: field 'instruction_id_list'[{n}]")
    try:
        kind = get(type_id)
    except UserError as e:
        raise UserError(e.problem, where=f"{row}: field 'instruction_id_list'[{n}]", fix=e.fix) from None
    if arguments is not None and not isinstance(arguments, dict):
        raise UserError(f"expected an object of arguments, found {type(arguments).__name__}",
                        where=f"{row}: field 'kwargs'[{n}]")
    given = {k: v for k, v in arguments.items() if v is not None} if arguments else {}
    if (arguments_of := (kind, repr(given))) not in _USABLE:
        _refuse_unusable(kind, given, f"{row}: field 'kwargs'[{n}]")
        if len(_USABLE) >= _REMEMBERED:
            _USABLE.clear()
        _USABLE.add(arguments_of)
    return Constraint(type_id, given, text)


# Types with arguments that they can use: most rows of a file have few arguments between them.
_USABLE: set[tuple[ConstraintType, str]] = set()
_REMEMBERED = 8192


def _refuse_unusable(kind: ConstraintType, given: dict[str, Any], where: str) -> None:
    try:
        kind.demands(given)
    except KeyError as e:
        raise UserError(f"{kind.type} needs the argument {e}", where=where) from None
    except (TypeError, ValueError, AttributeError) as e:
        raise UserError(f"{kind.type} cannot use these arguments: {e}", where=where) from None
