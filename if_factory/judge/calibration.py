"""How far a judge can be trusted: its verdicts measured against rows that people have labelled.

Agreement with the labels comes with Wilson's 95 % interval and with Cohen's kappa, which takes off what chance
would give; for pairs also how often both orders agree and how often whatever stands first wins.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeVar

from if_factory.chat.parse import Failure
from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.intervals import wilson_interval
from if_factory.judge.criteria import judge_criteria
from if_factory.judge.judge import Ask, PairJudgement, Variant, judge_pair, judge_score

L = TypeVar("L", bound=Hashable)


# ---------------------------------------------------------------- labelled rows


@dataclass(frozen=True, slots=True)
class PairRow:
    row: int
    prompt: str
    a: str
    b: str
    label: Literal["a", "b", "tie"]


@dataclass(frozen=True, slots=True)
class CriteriaRow:
    """``labels[i]`` says whether ``response`` satisfies ``criteria[i]``."""

    row: int
    prompt: str
    response: str
    criteria: tuple[str, ...]
    labels: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class ScoreRow:
    row: int
    prompt: str
    response: str
    label: float


@dataclass(slots=True)
class Labelled:
    pairs: list[PairRow] = field(default_factory=list)
    criteria: list[CriteriaRow] = field(default_factory=list)
    scores: list[ScoreRow] = field(default_factory=list)


_ROWS = ('a row is {"prompt", "a", "b", "label": "a", "b" or "tie"}, {"prompt", "response", "criteria": [...], '
         '"labels": [true, ...]} or, for scores, {"prompt", "response", "label": 4}')


def read_labelled(path: Path, low: float, high: float) -> Labelled:
    """Labelled rows, of one kind or several in one file; ``prompt`` is in all of them.

    - ``{"a", "b", "label": "a" | "b" | "tie"}``
    - ``{"response", "criteria": [...], "labels": [true, ...]}`` or ``{"response", "criterion", "label": true}``
    - ``{"response", "label": 4}``, a score from ``low`` to ``high``

    Raises:
        UserError: names the row and the field; also for a file without rows.
    """
    found = Labelled()
    for n, row in read_rows(path):
        where = f"{path}:{n}"
        if "a" in row and "b" in row:
            if row.get("label") not in ("a", "b", "tie"):
                raise UserError("expected \"a\", \"b\" or \"tie\"", where=f"{where}: field 'label'", fix=_ROWS)
            found.pairs.append(PairRow(n, _text(row, "prompt", where), _text(row, "a", where),
                                       _text(row, "b", where), row["label"]))
            continue
        prompt, response = _text(row, "prompt", where), _text(row, "response", where)
        if "criteria" in row or "criterion" in row:
            criteria, labels = _criteria(row, where)
            found.criteria.append(CriteriaRow(n, prompt, response, criteria, labels))
        else:
            label = row.get("label")
            if isinstance(label, bool) or not isinstance(label, int | float) or not low <= label <= high:
                raise UserError(f"expected a score from {low:g} to {high:g}", where=f"{where}: field 'label'",
                                fix="give --low and --high if your scale is another one")
            found.scores.append(ScoreRow(n, prompt, response, float(label)))
    if not (found.pairs or found.criteria or found.scores):
        raise UserError("no labelled rows: the file is empty", where=str(path), fix=_ROWS)
    return found


def _text(row: dict[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError("expected a non-empty string" if name in row else "missing",
                        where=f"{where}: field '{name}'", fix=_ROWS)
    return value


def _criteria(row: dict[str, Any], where: str) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    criteria = row["criteria"] if "criteria" in row else [row["criterion"]]
    labels = row.get("labels") if "criteria" in row else [row.get("label")]
    if not (isinstance(criteria, list) and criteria and all(isinstance(c, str) and c.strip() for c in criteria)):
        raise UserError("expected criteria as non-empty strings", where=f"{where}: field 'criteria'", fix=_ROWS)
    words = {"yes": True, "no": False, True: True, False: False}
    read = [words[x] for x in labels if isinstance(x, bool | str) and x in words] \
        if isinstance(labels, list) and len(labels) == len(criteria) else []
    if len(read) < len(criteria):
        raise UserError("expected true or false (or yes, no) for every criterion",
                        where=f"{where}: field '{'labels' if 'criteria' in row else 'label'}'", fix=_ROWS)
    return tuple(criteria), tuple(read)


# ---------------------------------------------------------------- figures


@dataclass(frozen=True, slots=True)
class Figures:
    """A judge on rows of one kind.

    Attributes:
        n: labelled verdicts; ``unread`` of them got no readable reply, ``undecided`` no verdict although read.
        right: of the others, those that agree with the label; a score does within half a point.
        low, high: 95 % interval of ``accuracy``, as if rows were independent.
        kappa: 1 is full agreement, 0 is what chance gives; weighted by squared distance for scores; ``None``
            where everything is one label.
        more: shares in [0, 1] that only this kind has.
    """

    n: int
    unread: int
    undecided: int
    right: int
    low: float
    high: float
    kappa: float | None
    more: dict[str, float | None] = field(default_factory=dict)

    @property
    def decided(self) -> int:
        return self.n - self.unread - self.undecided

    @property
    def accuracy(self) -> float | None:
        return self.right / self.decided if self.decided else None

    def as_dict(self) -> dict[str, Any]:
        shares = {"accuracy": self.accuracy, "low": self.low, "high": self.high, "kappa": self.kappa,
                  "unread_share": self.unread / self.n if self.n else None, **self.more}
        return {"n": self.n, "unread": self.unread, "undecided": self.undecided, "decided": self.decided,
                "right": self.right, **{k: None if v is None else round(v, 6) for k, v in shares.items()}}


def pair_figures(judged: Sequence[tuple[PairJudgement, str | None]]) -> Figures:
    """Pairs with their labels; without labels (``None``) only the shares in ``more`` and the counts mean anything.

    ``more``: ``consistent``, both orders say the same; ``tie``, both say tie; ``first_wins``, the share of
    replies naming a side that name the one shown first (0.5 without position bias).
    """
    asked = [j for j, _ in judged if j.orders]
    read = [j for j in asked if None not in j.orders]
    sides = [(place, side) for j in read for place, side in zip("ab", j.orders, strict=True) if side != "tie"]
    verdicts = [(j.winner or ("tie" if j.reason == "tie" else None), label) for j, label in judged]
    pairs = [(v, label) for v, label in verdicts if v is not None and label is not None]
    return _figures(
        len(judged), len(asked) - len(read), pairs, lambda a, b: a == b, cohen_kappa(pairs),
        consistent=_share(j.orders[0] == j.orders[1] for j in read), tie=_share(j.reason == "tie" for j in read),
        first_wins=_share(place == side for place, side in sides))


def criteria_figures(judged: Sequence[tuple[bool | None, bool]]) -> Figures:
    """``more``: ``false_pass``, the share of unmet criteria that the judge passes; ``false_fail`` the reverse."""
    pairs = [(v, label) for v, label in judged if v is not None]
    return _figures(len(judged), len(judged) - len(pairs), pairs, lambda a, b: a == b, cohen_kappa(pairs),
                    false_pass=_share(v for v, label in pairs if not label),
                    false_fail=_share(not v for v, label in pairs if label))


def score_figures(judged: Sequence[tuple[float | None, float]]) -> Figures:
    """``more``: ``mean_error``, the mean distance to the label in points."""
    pairs = [(v, label) for v, label in judged if v is not None]
    errors = [abs(v - label) for v, label in pairs]
    whole = [(_rounded(v), _rounded(label)) for v, label in pairs]
    return _figures(len(judged), len(judged) - len(pairs), pairs, lambda a, b: abs(a - b) <= 0.5,
                    cohen_kappa(whole, lambda a, b: (a - b) ** 2), mean_error=fmean(errors) if errors else None)


def _rounded(score: float) -> int:
    return int(score + 0.5)  # not round(): it takes 2.5 to 2 and 3.5 to 4


def _figures(n: int, unread: int, pairs: Sequence[tuple[L, L]], agree: Callable[[L, L], bool],
             kappa: float | None, **more: float | None) -> Figures:
    right = sum(agree(verdict, label) for verdict, label in pairs)
    low, high = wilson_interval(right, len(pairs))
    return Figures(n, unread, n - unread - len(pairs), right, low, high, kappa, more)


def _share(found: Any) -> float | None:
    values = [bool(x) for x in found]
    return sum(values) / len(values) if values else None


def cohen_kappa(pairs: Sequence[tuple[L, L]],
                distance: Callable[[L, L], float] = lambda a, b: float(a != b)) -> float | None:
    """Cohen's kappa of ``(verdict, label)`` pairs; ``distance`` weighs disagreements (Cohen, 1960 and 1968).

    ``None`` where chance alone leaves no disagreement, so that there is nothing to measure.
    """
    verdicts, labels = Counter(v for v, _ in pairs), Counter(label for _, label in pairs)
    seen = sum(distance(v, label) for v, label in pairs) * len(pairs)
    chance = sum(n * m * distance(v, label) for v, n in verdicts.items() for label, m in labels.items())
    return 1 - seen / chance if chance else None


# ---------------------------------------------------------------- the run


@dataclass(frozen=True, slots=True)
class Calibration:
    """``figures`` by kind (``pairs``, ``criteria``, ``scores``), and what was judged, row by row."""

    figures: dict[str, Figures]
    judged: list[dict[str, Any]]


async def calibrate(ask: Ask, labelled: Labelled, *, low: float = 1, high: float = 5, samples: int = 1,
                    tries: int = 3, prompts: str | None = None, variant: Variant = "full") -> Calibration:
    """Put every labelled row to the judge, as the methods do with that ``prompt_variant``, and compare.

    A score is asked for as AutoIF asks for it, and in the small variant as Humpback does."""
    pairs, criteria, scores = await asyncio.gather(
        asyncio.gather(*(judge_pair(ask, r.prompt, r.a, r.b, tries=tries, prompts=prompts, variant=variant)
                         for r in labelled.pairs)),
        asyncio.gather(*(judge_criteria(ask, r.prompt, r.response, r.criteria, tries=tries, prompts=prompts,
                                        variant=variant)
                         for r in labelled.criteria)),
        asyncio.gather(*(judge_score(ask, r.prompt, r.response, low=low, high=high, samples=samples, tries=tries,
                                     prompts=prompts, reasoned=variant == "full") for r in labelled.scores)))
    figures: dict[str, Figures] = {}
    judged: list[dict[str, Any]] = []
    if pairs:
        figures["pairs"] = pair_figures([(j, r.label) for r, j in zip(labelled.pairs, pairs, strict=True)])
    for r, j in zip(labelled.pairs, pairs, strict=True):
        judged.append({"row": r.row, "kind": "pair", "label": r.label, "verdict": j.winner, "reason": j.reason,
                       "orders": list(j.orders), "raw": list(j.raw)})
    said: list[tuple[bool | None, bool]] = []
    for row, verdicts in zip(labelled.criteria, criteria, strict=True):
        found: list[bool | None]
        if isinstance(verdicts, Failure):
            found, reason = [None] * len(row.criteria), [verdicts.reason] * len(row.criteria)
        else:
            found, reason = [v.passed for v in verdicts], [v.reason for v in verdicts]
        said += zip(found, row.labels, strict=True)
        judged.append({"row": row.row, "kind": "criteria", "label": list(row.labels), "verdict": found,
                       "reason": reason})
    if said:
        figures["criteria"] = criteria_figures(said)
    if scores:
        figures["scores"] = score_figures([(s.mean, r.label)
                                           for r, s in zip(labelled.scores, scores, strict=True)])
    for rated, s in zip(labelled.scores, scores, strict=True):
        judged.append({"row": rated.row, "kind": "score", "label": rated.label, "verdict": s.mean,
                       "scores": list(s.scores), "unread": s.unread, "raw": list(s.raw)})
    return Calibration(figures, sorted(judged, key=lambda j: j["row"]))
