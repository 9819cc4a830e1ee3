"""Reading test items for ranking accuracy (``ranking.py``) from a file, in one of three forms:

* an exported I-ORPO dataset with its sidecar ``<name>.provenance.jsonl``, which has the main instruction and each
  constraint beside its corrupted form; rows about one text become one item with all their constraints;
* rows ``{"main", "constraints": [...], "corrupted": [...], "response"}``, constraints as texts, aligned;
* finished triples: an instruction, its corrupted form (``instruction_corrupted`` or ``prompt_rejected``) and a
  response; or Suri's own rows, ``prompt_chosen, prompt_rejected, answer``, each a list of messages. They have the
  one setting that they are.

``system`` and ``history`` are read in every form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from if_factory.errors import UserError
from if_factory.evaluation.ranking import Triple
from if_factory.exporting.dataset_info import CORRUPTED
from if_factory.exporting.formats import provenance_path
from if_factory.files import read_rows
from if_factory.inputs.history import read_history
from if_factory.inputs.rows import answers_of, prompt_of
from if_factory.records import Constraint, Turn, content_id


def read_triples(path: Path) -> list[Triple]:
    """The items of a .jsonl or .json file, in its order, each once.

    Raises:
        UserError: naming the row (and field) that is none of the forms; a sidecar of another length; no rows.
    """
    sidecar = provenance_path(path)
    made = [row for _, row in read_rows(sidecar)] if sidecar.is_file() else None
    rows = list(read_rows(path))
    if made is not None and len(made) != len(rows):
        raise UserError(f"{len(made)} rows, but {path.name} has {len(rows)}", where=str(sidecar),
                        fix="export again: the two files belong together row by row")
    items: dict[str, Triple] = {}
    for i, (n, row) in enumerate(rows):
        item = _item(row, made[i] if made else {}, f"{path}:{n}")
        items[item.id] = _merged(items[item.id], item) if item.id in items else item
    if not items:
        raise UserError("no rows", where=str(path))
    return list(items.values())


def _merged(one: Triple, other: Triple) -> Triple:
    """Two rows about the same text: the constraints of both, each once."""
    pairs = {c.text: (c, bad) for t in (other, one) for c, bad in zip(t.constraints, t.corrupted, strict=True)}
    order = dict.fromkeys(c.text for t in (one, other) for c in t.constraints)
    return replace(one, constraints=tuple(pairs[text][0] for text in order),
                   corrupted=tuple(pairs[text][1] for text in order))


def _item(row: Mapping[str, Any], made: Mapping[str, Any], where: str) -> Triple:
    if isinstance(row.get("prompt_chosen"), list):
        return _suris(row, where)
    answers = answers_of(row)
    if not answers or not answers[0].text.strip():
        raise UserError("no response", where=where, fix="give every row a `response` (or `output`)")
    response, system, history = answers[0].text, str(row.get("system") or ""), _history(row, where)
    if "main_instruction" in made and "corruptions" in made:
        main, good, bad = made["main_instruction"], made["constraints"], made["corruptions"]
    elif "main" in row:
        main, good, bad = (_field(row, name, kind, where)
                           for name, kind in (("main", str), ("constraints", list), ("corrupted", list)))
    else:
        x_w, x_l = prompt_of(row), row.get(CORRUPTED, row.get("prompt_rejected"))
        if x_w is None or not isinstance(x_l, str):
            raise UserError("neither a triple nor lists of constraints", where=where,
                            fix="give `main`, `constraints`, `corrupted` and `response`, or `prompt`, "
                            f"`{CORRUPTED}` and `response`")
        return Triple(content_id(x_w, x_l, response, system), response, given=_differ(x_w, x_l, where),
                      system=system, history=history)
    if not good or len(good) != len(bad):
        raise UserError(f"{len(good)} constraints and {len(bad)} corrupted ones", where=where,
                        fix="each constraint needs its corrupted form, in the same order")
    true, false = ([_constraint(c, where) for c in listed] for listed in (good, bad))
    for c, wrong in zip(true, false, strict=True):
        _differ(c.text, wrong.text, where)
    key = content_id(main, response, system)  # not the constraints: rows about one text are one item
    return Triple(key, response, str(main), tuple(true), tuple(false), system=system, history=history)


def _suris(row: Mapping[str, Any], where: str) -> Triple:
    x_w, x_l, answer = (read_history(row.get(name), f"{where}: field '{name}'", foreign=True, system=True)
                        for name in ("prompt_chosen", "prompt_rejected", "answer"))
    if not (x_w and x_l and answer):
        raise UserError("prompt_chosen, prompt_rejected and answer are lists of messages", where=where,
                        fix='write each as [{"role": ..., "content": ...}]')
    system = x_w[0].content if x_w[0].role == "system" else ""
    given = _differ(x_w[-1].content, x_l[-1].content, where)
    return Triple(content_id(*given, answer[-1].content, system), answer[-1].content, given=given, system=system,
                  history=tuple(t for t in x_w[:-1] if t.role != "system"))


def _history(row: Mapping[str, Any], where: str) -> tuple[Turn, ...]:
    """Earlier turns: the row's ``history``, or all but the last two of a conversation."""
    talk = row.get("conversations", row.get("messages"))
    earlier = talk[:-2] if isinstance(talk, list) and not row.get("history") else row.get("history")
    return read_history(earlier or None, f"{where}: field 'history'", foreign=True)


def _field(row: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
    if not isinstance(row.get(name), kind):
        raise UserError("expected a text" if kind is str else "expected a list", where=f"{where}: field '{name}'",
                        fix="give `main`, `constraints`, `corrupted` and `response`")
    return row[name]


def _constraint(value: Any, where: str) -> Constraint:
    if isinstance(value, str) and value.strip():
        return Constraint(type="text", text=value, kind="judge")
    try:
        return Constraint.model_validate(value)
    except ValidationError:
        raise UserError(f"not a constraint: {str(value)[:60]!r}", where=where,
                        fix="write each constraint as a text") from None


def _differ(x_w: str, x_l: str, where: str) -> tuple[str, str]:
    if x_w.strip() == x_l.strip():
        raise UserError("the corrupted form is the same text", where=where,
                        fix="leave such rows out: there is nothing to rank")
    return x_w, x_l
