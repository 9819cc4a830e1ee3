"""How far the gate can be trusted: its verdicts measured against rows that people have labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.inputs.ifeval import read_constraints
from if_factory.intervals import wilson_interval
from if_factory.judge.judge import Ask
from if_factory.records import Constraint, Usefulness
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.gate import Gate, Item

_KEEP = 0.95  # of the answers: what a threshold must let through


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """``answers``: whether a person says that the response attempts its request. ``split`` is the row's own."""

    row: int
    item: Item
    answers: bool
    reason: str = ""
    split: str = ""


def is_labelled_answer(row: Mapping[str, Any]) -> bool:
    """Whether a labelled row is about usefulness, not about a judge's other questions."""
    return "answers" in row and "response" in row


_ROWS = 'a row is {"prompt", "response", "answers": true or false}, and may have "request", "constraints", "split"'


def read_answers(path: Path) -> list[LabelledAnswer]:
    """Rows ``{prompt, response, answers: true | false}`` with, if known, ``request``, ``constraints``, ``split``.

    ``constraints`` are objects with ``type``, ``kwargs`` and ``text``, or IFEval's two lists stand beside.

    Raises:
        UserError: names the row and the field; also for a file without rows.
    """
    found = [_row(row, n, f"{path}:{n}") for n, row in read_rows(path)]
    if not found:
        raise UserError("no labelled rows: the file is empty", where=str(path), fix=_ROWS)
    return found


def _row(row: Mapping[str, Any], n: int, where: str) -> LabelledAnswer:
    for name in ("prompt", "response"):
        if not isinstance(row.get(name), str) or not (row[name].strip() or name == "response"):
            raise UserError("expected a non-empty string" if name in row else "missing",
                            where=f"{where}: field '{name}'", fix=_ROWS)
    if not isinstance(row.get("answers"), bool):
        raise UserError("expected true or false", where=f"{where}: field 'answers'", fix=_ROWS)
    for name in ("request", "split", "reason", "finish_reason"):
        if not isinstance(row.get(name, ""), str | None):
            raise UserError("expected a string", where=f"{where}: field '{name}'", fix=_ROWS)
    asked = Asked(row["prompt"], _constraints(row, where), request=row.get("request"))
    return LabelledAnswer(n, Item(asked, row["response"], row.get("finish_reason") or "stop"), row["answers"],
                          row.get("reason") or "", row.get("split") or "")


def _constraints(row: Mapping[str, Any], where: str) -> list[Constraint]:
    given = row.get("constraints")
    if "instruction_id_list" in row:
        return read_constraints(row, where)
    if given is None:
        return []
    if not isinstance(given, list):
        raise UserError("expected a list of constraints", where=f"{where}: field 'constraints'")
    try:
        return [Constraint.model_validate(c) for c in given]
    except (ValidationError, TypeError):
        raise UserError("expected objects with 'type', 'kwargs' and 'text'",
                        where=f"{where}: field 'constraints'") from None


# ---------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True)
class Share:
    """``k`` of ``n``, with Wilson's 95 % interval."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None

    @property
    def interval(self) -> tuple[float, float]:
        return wilson_interval(self.k, self.n)

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        value = self.value
        return {"k": self.k, "n": self.n, "share": None if value is None else round(value, 4),
                "low": round(low, 4), "high": round(high, 4)}


@dataclass(frozen=True, slots=True)
class GateFigures:
    """A gate on labelled rows.

    Attributes:
        refused_rightly: of what the gate refuses, what people call no answer (precision).
        refused: of what people call no answer, what the gate refuses (recall).
        kept: of what people call an answer, what the gate keeps.
        by_reason, by_decider: precision of the refusals, each.
        by_label: recall by the reason that people gave.
        undecided: rows of which a judge's reply could not be read; they count as refused nowhere.
    """

    rows: int
    refused_rightly: Share
    refused: Share
    kept: Share
    by_reason: dict[str, Share]
    by_decider: dict[str, Share]
    by_label: dict[str, Share]
    undecided: int

    def as_dict(self) -> dict[str, Any]:
        def each(shares: Mapping[str, Share]) -> dict[str, Any]:
            return {name: share.as_dict() for name, share in sorted(shares.items())}

        return {"rows": self.rows, "precision_of_refusals": self.refused_rightly.as_dict(),
                "recall_of_refusals": self.refused.as_dict(), "answers_kept": self.kept.as_dict(),
                "precision_by_reason": each(self.by_reason), "precision_by_decider": each(self.by_decider),
                "recall_by_label": each(self.by_label), "undecided": self.undecided}


def figures(rows: Sequence[LabelledAnswer], found: Sequence[Usefulness]) -> GateFigures:
    pairs = list(zip(rows, found, strict=True))
    refused = [(row, u) for row, u in pairs if u.answers is False]

    def precision(of: Sequence[tuple[LabelledAnswer, Usefulness]]) -> Share:
        return Share(sum(not row.answers for row, _ in of), len(of))

    def recall(of: Sequence[tuple[LabelledAnswer, Usefulness]]) -> Share:
        return Share(sum(u.answers is False for _, u in of), len(of))

    empty = [(row, u) for row, u in pairs if not row.answers]
    real = [(row, u) for row, u in pairs if row.answers]
    labels = Counter(row.reason for row, _ in empty if row.reason)
    return GateFigures(
        len(pairs), precision(refused), recall(empty), Share(sum(u.answers is True for _, u in real), len(real)),
        {reason: precision([p for p in refused if p[1].reason == reason])
         for reason in sorted({u.reason for _, u in refused})},
        {who: precision([p for p in refused if p[1].decided_by == who])
         for who in sorted({u.decided_by for _, u in refused})},
        {label: recall([p for p in empty if p[0].reason == label]) for label in sorted(labels)},
        sum(u.answers is None for _, u in pairs))


@dataclass(frozen=True, slots=True)
class Step:
    """What relevance alone would do at a threshold, on rows that the rules let through and that have a score."""

    threshold: float
    refused_rightly: Share
    refused: Share
    kept: Share


def sweep(rows: Sequence[LabelledAnswer], found: Sequence[Usefulness]) -> list[Step]:
    """Thresholds from 0.10 to 0.70 on rows whose split is ``calibration`` (all rows if no row has a split)."""
    splits = any(row.split for row in rows)
    seen = [(u.score, row.answers) for row, u in zip(rows, found, strict=True)
            if u.score is not None and (not splits or row.split == "calibration")]
    steps = []
    for percent in range(10, 71, 2):
        threshold = percent / 100
        refused = [answers for score, answers in seen if score < threshold]
        kept = [answers for score, answers in seen if score >= threshold]
        steps.append(Step(threshold, Share(refused.count(False), len(refused)),
                          Share(refused.count(False), refused.count(False) + kept.count(False)),
                          Share(kept.count(True), refused.count(True) + kept.count(True))))
    return steps


def best_threshold(steps: Sequence[Step], keep: float = _KEEP) -> float | None:
    """The largest threshold that still keeps so many of the answers; ``None`` if none does."""
    fitting = [step.threshold for step in steps if (step.kept.value or 0) >= keep]
    return max(fitting, default=None)


async def calibrate_gate(rows: Sequence[LabelledAnswer], gate: Gate, ask: Ask | None = None, *, tries: int = 3,
                         prompts: str | None = None) -> list[Usefulness]:
    """The gate's verdicts on labelled rows, exactly as a run would have them."""
    return await gate.decide_with(ask, [row.item for row in rows], tries=tries, prompts=prompts)
