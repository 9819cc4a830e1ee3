"""What a row of any dataset says: its prompt, its constraints, and the texts that answer it.

Formats: IFEval's (``instruction_id_list`` and ``kwargs``), ours (``constraints: [{type, kwargs}]``), those of
``ground_truth.py``, alpaca and sharegpt with SFT, preference or KTO columns. Where the constraints live in
another file or in a sidecar is the audit's business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from if_factory.constraints.base import all_types, is_known
from if_factory.errors import UserError, suggest
from if_factory.inputs.ground_truth import eval_functions, ground_truth, worded
from if_factory.inputs.ifeval import read_constraints
from if_factory.inputs.roles import role_of
from if_factory.records import Constraint

Side = Literal["response", "chosen", "rejected"]

_PROMPTS = ("prompt", "instruction", "query", "question")
_RESPONSES = ("response", "output", "answer", "completion")
_TURNS = ("conversations", "messages")
_LABELS = ("label", "kto_tag")


@dataclass(frozen=True, slots=True)
class Answered:
    """One text of a row. ``good`` is what the dataset claims: it should pass (or, if false, fail)."""

    side: Side
    text: str
    good: bool


@dataclass(slots=True)
class NotCheckable:
    """Constraints of types that are not registered here: no checker decides them, so they are counted apart.

    Attributes:
        types: how many there are, by type.
        rows: rows that were left out for them.
    """

    types: Counter[str] = field(default_factory=Counter)
    rows: int = 0

    def split(self, constraints: Sequence[Constraint]) -> tuple[tuple[Constraint, ...], tuple[str, ...]]:
        """The constraints that something decides, and the types of the others, which are counted."""
        unknown = tuple(c.type for c in constraints if c.kind == "code" and not is_known(c.type))
        self.types.update(unknown)
        return tuple(c for c in constraints if c.kind != "code" or is_known(c.type)), unknown

    def note(self, where: str) -> str:
        """One line for the user; empty where nothing was counted."""
        if not self.types:
            return ""
        listed = ", ".join(f"{name} {n}" for name, n in self.types.most_common(10))
        left_out = f"; rows left out for them: {self.rows}" if self.rows else ""
        return f"{where}: {self.types.total()} constraints of unknown types are not checkable ({listed}){left_out}"

    def error(self, where: str) -> UserError:
        """For a file of which no row is left."""
        name = self.types.most_common(1)[0][0]
        return UserError(f"no row can be checked: unknown constraint type '{name}' and {len(self.types) - 1} others"
                         if len(self.types) > 1 else f"no row can be checked: unknown constraint type '{name}'",
                         where=where, fix=suggest(name, [k.type for k in all_types()])
                         or "see `if-factory constraints` for the types that are known")


def constraints_of(row: Mapping[str, Any], where: str) -> tuple[Constraint, ...] | None:
    """The row's own constraints, or ``None`` if it has none in a form a checker can use.

    Unregistered types are kept: whether they are an error or have no verdict is the caller's choice.

    Raises:
        UserError: a malformed list, naming the row and the field.
    """
    if "instruction_id_list" in row:
        return _ifeval(row, where)
    if truth := ground_truth(row, where):
        return _ifeval({"instruction_id_list": [i for i, _ in truth], "kwargs": [k for _, k in truth]}, where)
    listed = row.get("constraints")
    if not isinstance(listed, list) or not listed or not all(isinstance(c, dict) for c in listed):
        return eval_functions(row) or worded(row)
    found = []
    for i, entry in enumerate(listed):
        known = {k: v for k, v in entry.items() if k in Constraint.__dataclass_fields__ and v is not None}
        try:
            found.append(Constraint.model_validate(known))
        except ValidationError as e:
            error = e.errors()[0]
            field = ".".join(str(part) for part in error["loc"])
            raise UserError(f"{field}: {error['msg']}", where=f"{where}: field 'constraints[{i}]'",
                            fix='a constraint is {"type": "keywords:existence", "kwargs": {...}}') from None
    return tuple(found)


def _ifeval(row: Mapping[str, Any], where: str) -> tuple[Constraint, ...]:
    ids, kwargs = row["instruction_id_list"], row.get("kwargs")
    known = {kind.type for kind in all_types()}
    if (not (isinstance(ids, list) and isinstance(kwargs, list) and len(ids) == len(kwargs))
            or known.issuperset(map(str, ids))):
        return tuple(read_constraints(row, where))
    return tuple(read_constraints({"instruction_id_list": [i], "kwargs": [k]}, where)[0] if i in known
                 else Constraint(type=str(i), kwargs=k if isinstance(k, dict) else {})
                 for i, k in zip(ids, kwargs, strict=True))


def prompt_of(row: Mapping[str, Any]) -> str | None:
    """The last user turn: alpaca's instruction and input, a ``prompt`` field, or the last human message."""
    for name in _PROMPTS:
        if isinstance(row.get(name), str):
            extra = row.get("input")
            return f"{row[name]}\n{extra}" if name == "instruction" and extra else str(row[name])
    for turn in reversed(_turns(row)):
        if role_of(turn) == "user":
            return str(turn.get("value", turn.get("content", "")))
    return None


def prompts_of(row: Mapping[str, Any]) -> list[str]:
    """Every user turn, ``prompt_of`` last: earlier ones are in the conversation or in a ``history`` of turns or
    (alpaca) of [user, assistant] pairs. Empty if the row has no prompt."""
    last = prompt_of(row)
    if last is None:
        return []
    if any(isinstance(row.get(name), str) for name in _PROMPTS):
        history = row.get("history") or []
        return [*(str(h[0]) for h in history if isinstance(h, list) and h), *_asked(history), last]
    return _asked(_turns(row))


def _asked(turns: Sequence[Any]) -> list[str]:
    return [str(t.get("value", t.get("content", ""))) for t in turns
            if isinstance(t, dict) and role_of(t) == "user"]


def answers_of(row: Mapping[str, Any]) -> list[Answered]:
    """Every text that answers the prompt. A KTO row's answer is a ``rejected`` one where its label is false."""
    if "chosen" in row and "rejected" in row:
        return [Answered("chosen", _text(row["chosen"]), True),
                Answered("rejected", _text(row["rejected"]), False)]
    text = next((row[name] for name in _RESPONSES if isinstance(row.get(name), str)), None)
    if text is None:
        turns = _turns(row)
        if not turns or role_of(turns[-1]) != "assistant":
            return []
        text = _text(turns[-1])
    # Only a real bool is a KTO label (LLaMA-Factory's rule); "label": "sports" is a topic.
    good = next((row[name] for name in _LABELS if isinstance(row.get(name), bool)), True)
    return [Answered("response" if good else "rejected", text, good)]


def _turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    turns: list[Any] = next((row[name] for name in _TURNS if isinstance(row.get(name), list)), [])
    return [t for t in turns if isinstance(t, dict)]


def _text(value: Any) -> str:
    """A text, a sharegpt turn, or a conversation that ends in one."""
    if isinstance(value, list):
        value = value[-1] if value else ""
    if isinstance(value, dict):
        value = value.get("value", value.get("content", ""))
    return value if isinstance(value, str) else ""
