"""Seed prompts in: the shipped ones or a user's file, as records."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from if_factory.errors import UserError
from if_factory.files import read_rows, read_text
from if_factory.inputs.conversations import COLUMNS, first_question, is_conversation
from if_factory.inputs.history import read_history
from if_factory.inputs.rows import NotCheckable, constraints_of
from if_factory.records import Record

_logger = logging.getLogger(__name__)


def builtin(name: str) -> Path:
    """A data file of the package: ``seeds``, ``seeds_de`` (``es``, ``fr``, ``ja``, ``zh``), ``held_out``..."""
    return Path(str(files("if_factory") / "data" / f"{name}.jsonl"))


def read_seeds(path: Path, *, method: str = "", limit: int | None = None,
               categories: Sequence[str] = ()) -> list[Record]:
    """``seeds_in``, all of them in memory."""
    return list(seeds_in(path, method=method, limit=limit, categories=categories))


def seeds_in(path: Path, *, method: str = "", limit: int | None = None,
             categories: Sequence[str] = ()) -> Iterator[Record]:
    """Records from ``{"prompt", "system"?, "history"?, "id"?, "category"?}`` rows.

    A row that brings its own constraints, IFEval's (``instruction_id_list``, ``kwargs``) or ours (``constraints:
    [{"type", "kwargs", "text"}]``), keeps its prompt as it is and gets no further ones.
    A row with ``conversations`` (ShareGPT) or ``messages`` (OpenAI) and no prompt gives the chat's first question,
    which needs nothing before it, and its system prompt; a warning says how many chats begin otherwise and are left
    out. ``history`` is a list of ``{"role": "user" | "assistant", "content": str}``. Other keys are kept as
    provenance. A row with a constraint of an unknown type asks for something that nothing decides: it is left out,
    and a warning says how many there are.

    Args:
        limit: only the first so many, of those in ``categories``.
        categories: only rows whose ``category`` is one of these; all rows where none is named.

    Raises:
        UserError: names the row and the field; a category that no row has; a file without a single seed.
    """
    found = 0
    left, not_checkable = set(categories), NotCheckable()
    unusable: Counter[str] = Counter()
    for n, row in read_rows(path):
        left.discard(row.get("category"))
        if found == limit:
            break
        if categories and row.get("category") not in categories:
            continue
        if is_conversation(row):
            talk = first_question(row, f"{path}:{n}")
            if isinstance(talk, str):
                unusable[talk] += 1
                continue
            row = {k: v for k, v in row.items() if k not in COLUMNS}
            row |= {"prompt": talk.turns[0].content, "system": talk.system}
        if record := _record(row, f"{path}:{n}", method, not_checkable):
            found += 1
            yield record
    if left and found != limit:
        known = sorted({str(row["category"]) for _, row in read_rows(path) if row.get("category")})
        raise UserError(f"no seed has the category '{min(left)}'", where="categories",
                        fix=f"one of: {', '.join(known)}" if known else "the seeds have no `category`: leave it out")
    if note := not_checkable.note(str(path)):
        _logger.warning(note)
    if unusable:
        told = ", ".join(f"{why} {n}" for why, n in sorted(unusable.items()))
        _logger.warning(f"{path}: chats without a first question of the user are left out: {told}")
    if not found and not_checkable.rows:
        raise not_checkable.error(str(path))
    if not found and unusable:
        raise UserError("no chat of the file begins with a question of the user", where=str(path),
                        fix=f"left out: {told}")
    if not found:
        raise UserError("no seeds: the file has no rows", where=str(path), fix='add rows like {"prompt": "..."}')


def read_instructions(path: Path) -> list[tuple[str, bool | None]]:
    """Instructions that can be added to any prompt, each with whether code can verify it (``None``: not stated).

    Rows ``{"instruction", "verifiable"?}``, or, in a ``.txt`` file, one instruction per line.

    Raises:
        UserError: names the row and the field.
    """
    if path.suffix == ".txt":
        lines = (line.strip().removeprefix("- ").strip() for line in read_text(path).splitlines())
        return [(line, None) for line in lines if line]
    found: list[tuple[str, bool | None]] = []
    for n, row in read_rows(path):
        text, verifiable = row.get("instruction"), row.get("verifiable")
        if not isinstance(text, str) or not text.strip():
            raise UserError("expected a non-empty string", where=f"{path}:{n}: field 'instruction'",
                            fix='an instruction row is {"instruction": "Use exactly 40 words."}')
        if not (verifiable is None or isinstance(verifiable, bool)):
            raise UserError("expected true or false", where=f"{path}:{n}: field 'verifiable'",
                            fix="say whether code can verify it, or leave it out")
        found.append((text.strip(), verifiable))
    return found


def _record(row: dict[str, Any], where: str, method: str, not_checkable: NotCheckable) -> Record | None:
    prompt = row.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        near = [k for k in ("instruction", "query", "question", "text") if k in row]
        problem = "expected a non-empty string" if "prompt" in row else "missing"
        raise UserError(problem, where=f"{where}: field 'prompt'",
                        fix=f"rename '{near[0]}' to 'prompt'" if near else "every seed row needs a prompt")
    system = row.get("system") or ""
    if not isinstance(system, str):
        raise UserError(f"expected a string, found {type(system).__name__}", where=f"{where}: field 'system'",
                        fix="leave it out, or give the system turn's text")
    used = {"prompt", "system", "history", "instruction_id_list", "kwargs", "constraints"}
    rest = {"seed_id" if k == "id" else k: v for k, v in row.items() if k not in used}
    history = read_history(row.get("history"), f"{where}: field 'history'", alternating=True)
    record = Record.from_seed(prompt.strip(), system=system, history=history, method=method,
                              extra=rest)
    own, unknown = not_checkable.split(constraints_of(row, where) or ())
    if unknown:
        not_checkable.rows += 1
        return None
    return record.child(record.prompt, own, difficulty=len(own)) if own else record
