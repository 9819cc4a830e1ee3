"""A ``ground_truth`` string: what an answer is rewarded for, parsed once and kept.

The form that this package writes is ``{"instruction_id_list": [...], "kwargs": [...], "constraints": [...], "prompt":
...}`` as JSON, where ``constraints`` holds the constraints' sentences; ``judged`` lists those that only a judge
decides, as ``{"text", "kwargs"}``. Every form that ``inputs`` reads is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from if_factory.constraints.base import is_known
from if_factory.errors import UserError
from if_factory.inputs.ground_truth import literal
from if_factory.inputs.rows import constraints_of
from if_factory.records import Constraint
from if_factory.usefulness.asked import Asked

GENERATED = "generated:function"  # the id of a constraint that generated functions decide; no checker has it
CRITERION = "judge:criterion"  # as ``judge.verdicts.CRITERION``, which imports what checkers do without
_KEPT = 65_536  # parsed strings kept in memory: more prompts than a training set has


@dataclass(frozen=True)
class Truth:
    """One parsed ``ground_truth``.

    Attributes:
        constraints: in the order of the string.
        prompt: the prompt that the string names; empty where it names none.
        judged: constraints that count only where there is a judge.
        undecidable: what neither a checker nor a function can decide here, by id; an answer then has no verdict.
    """

    constraints: tuple[Constraint, ...]
    prompt: str
    judged: tuple[Constraint, ...] = ()

    def counted(self, judge: bool) -> tuple[Constraint, ...]:
        """The constraints that a reward depends on, with a judge or without."""
        return self.constraints + self.judged if judge else self.constraints

    @cached_property
    def undecidable(self) -> tuple[str, ...]:
        return tuple(c.type for c in self.constraints
                     if c.kind == "judge" or (c.kind == "code" and not is_known(c.type)))


def ground_truth_of(constraints: Sequence[Constraint], prompt: str, judged: Sequence[Constraint] = ()) -> str:
    """The string for these constraints; the same ones give the same bytes.

    Args:
        judged: what only a judge can decide; without one it is no part of the reward.
    """
    further = {"judged": [{"text": c.text, "kwargs": c.kwargs} for c in judged]} if judged else {}
    return json.dumps({"instruction_id_list": [c.type for c in constraints],
                       "kwargs": [c.kwargs for c in constraints],
                       "constraints": [c.text for c in constraints], **further, "prompt": prompt}, ensure_ascii=False)


@lru_cache(maxsize=_KEPT)
def read_truth(text: str) -> Truth:
    """The constraints and the prompt that ``text`` names.

    Raises:
        UserError: it is neither JSON nor a Python literal, names no constraints, or their arguments are of no use.
    """
    value = literal(text)
    if value is None:
        raise UserError(f"cannot be read: {text[:80]!r}", where="ground_truth", fix='give JSON such as '
                        '{"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}], "prompt": "..."}')
    row: Mapping[str, Any] = value if isinstance(value, dict) else {}
    found = _generated(row) or constraints_of(row if "instruction_id_list" in row or "eval_func" in row
                                              else {"ground_truth": value, **_worded(row)}, "ground_truth")
    if not found:
        raise UserError(f"names no constraints: {text[:80]!r}", where="ground_truth",
                        fix="give the ids of constraints and their arguments; docs/rewards.md lists the forms")
    prompt = row.get("prompt")
    return Truth(tuple(found), prompt if isinstance(prompt, str) else "", _judged(row.get("judged", [])))


def _judged(given: Any) -> tuple[Constraint, ...]:
    found = []
    for entry in given if isinstance(given, list) else [None]:
        text = entry.get("text") if isinstance(entry, dict) else entry
        kwargs = entry.get("kwargs", {}) if isinstance(entry, dict) else {}
        if not (isinstance(text, str) and text.strip() and isinstance(kwargs, dict)):
            raise UserError(f"cannot be read: {str(given)[:80]!r}", where="ground_truth: field 'judged'",
                            fix='give a list of sentences, or of {"text": "The answer is polite.", "kwargs": {}}')
        found.append(Constraint(type=CRITERION, kind="judge", text=text, kwargs=kwargs))
    return tuple(found)


def _worded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"constraints": row["constraints"]} if "constraints" in row else {}


def _generated(row: Mapping[str, Any]) -> tuple[Constraint, ...] | None:
    """A list of ids in which generated functions or criteria stand beside checked types; ``None`` for any other row."""
    ids, kwargs = row.get("instruction_id_list"), row.get("kwargs")
    if not (isinstance(ids, list) and (GENERATED in ids or CRITERION in ids)):
        return None
    if not (isinstance(kwargs, list) and len(kwargs) == len(ids)):
        raise UserError("needs one object of arguments for each id", where="ground_truth: field 'kwargs'")
    texts = row.get("constraints")
    texts = texts if isinstance(texts, list) and len(texts) == len(ids) else [""] * len(ids)
    found: list[Constraint] = []
    for type_id, arguments, text in zip(ids, kwargs, texts, strict=True):
        if type_id in (GENERATED, CRITERION):
            found.append(Constraint(type=type_id, kind="generated_code" if type_id == GENERATED else "judge",
                                    text=str(text), kwargs=arguments if isinstance(arguments, dict) else {}))
        else:
            one = {"instruction_id_list": [type_id], "kwargs": [arguments], "constraints": [text]}
            found += constraints_of(one, "ground_truth") or ()
    return tuple(found)


@lru_cache(maxsize=_KEPT)
def asked_of(text: str, prompt: str, history: tuple[str, ...] = ()) -> Asked:
    """What the usefulness gate compares an answer with; ``prompt`` only where ``text`` names none."""
    truth = read_truth(text)
    return Asked(truth.prompt or prompt, truth.constraints, history=history)
