"""What an evaluation says first: answers that satisfy their constraints *and* attempt their request.

A rate of satisfied constraints alone rises when a model learns to write what checkers accept and to say nothing.
So five measures stand beside each other, paired on the same prompts: prompts satisfied and useful (the headline),
constraints of the types that were trained, constraints of types that were not, answers that attempt the request
(``if_factory.usefulness`` decides), and length.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from if_factory.evaluation.stats import (
    Difference,
    Mean,
    Rate,
    cluster_difference,
    cluster_rate,
    mcnemar,
    median,
    median_difference,
    wilson,
)
from if_factory.records import Constraint, Usefulness, Verdict
from if_factory.tables import markdown_table

TITLES = {
    "satisfied_and_useful": "satisfied and useful (whole prompts)",
    "satisfied_and_useful_trained": "… prompts with trained types only",
    "satisfied_and_useful_unseen": "… prompts with types never trained only",
    "trained_types": "constraints of trained types",
    "unseen_types": "constraints of types never trained",
    "useful": "answers that attempt the request",
    "words": "median length in words",
}


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the summary.

    Attributes:
        key: of ``TITLES``.
        unit: ``share`` (in [0, 1]) or ``words``.
        values: by label, with 95 % intervals.
        changes: by label, the paired difference from the first label; ``None`` where too few prompts can tell.
        steps: by label, the same from the label before it; only where there are more than two.
        p: by label, McNemar's exact p against the first label, where whole prompts or answers are counted.
    """

    key: str
    unit: str
    values: dict[str, Rate | Mean]
    changes: dict[str, Difference | None]
    steps: dict[str, Difference | None]
    p: dict[str, float]

    @property
    def title(self) -> str:
        return TITLES[self.key]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; every value carries its ``value``, ``n`` and interval, a share its ``passed`` too."""
        return {"key": self.key, "title": self.title, "unit": self.unit,
                "values": {k: {"value": round(v.value, 6), **_rounded(v)} for k, v in self.values.items()},
                "changes": {k: v and _rounded(v) for k, v in self.changes.items()},
                "steps": {k: v and _rounded(v) for k, v in self.steps.items()},
                "p": {k: round(v, 6) for k, v in self.p.items()}}


@dataclass(frozen=True, slots=True)
class Headline:
    """``warnings`` are sentences to read before the numbers; ``undecided`` counts answers whose usefulness nobody
    decided, by label; ``refused`` the reasons why the others attempt nothing, by label."""

    measures: tuple[Measure, ...]
    warnings: tuple[str, ...]
    refused: dict[str, dict[str, int]]
    undecided: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        return {"measures": [m.as_dict() for m in self.measures], "warnings": list(self.warnings),
                "refused": self.refused, "undecided": self.undecided}


def headline(constraints: Sequence[Sequence[Constraint]], verdicts: Mapping[str, Sequence[Sequence[Verdict]]],
             answers: Mapping[str, Sequence[str | None]], useful: Mapping[str, Sequence[Usefulness | None]],
             trained: Collection[str] | None, seed: int = 0) -> Headline:
    """The summary of several models' answers to the same prompts; the first label is the reference.

    Args:
        constraints: of each prompt; ``verdicts[label][i][j]`` (strict) belongs to ``constraints[i][j]``.
        answers: text per prompt, ``None`` where the request failed.
        useful: per prompt; ``None`` where there is no answer. An undecided one does not count as useful.
        trained: types that training rows had; ``None`` is unknown, and then no measure is split by it.
    """
    labels = list(verdicts)
    satisfied = {k: [int(all(v.passed for v in row)) for row in verdicts[k]] for k in labels}
    attempts = {k: [int(u is not None and u.answers is True) for u in useful[k]] for k in labels}
    both = {k: [s * a for s, a in zip(satisfied[k], attempts[k], strict=True)] for k in labels}
    measures = [_whole("satisfied_and_useful", both)]
    if trained is not None:
        kinds = [{c.type in trained for c in row} for row in constraints]
        parts = {"trained": [k == {True} for k in kinds], "unseen": [k == {False} for k in kinds]}
        for part, mask in parts.items():
            if any(mask) and not all(mask):
                measures.append(_whole(f"satisfied_and_useful_{part}",
                                       {k: [x for x, m in zip(both[k], mask, strict=True) if m] for k in labels}))
        for part, wanted in (("trained", True), ("unseen", False)):
            if any(wanted in k for k in kinds):
                measures.append(_constraints(f"{part}_types", constraints, verdicts, trained, wanted, seed))
    measures.append(_whole("useful", attempts))
    measures.append(_words(answers, seed))
    return Headline(tuple(measures), tuple(_warnings(measures, satisfied, attempts)),
                    {k: _counted(u.reason for u in useful[k] if u is not None and u.answers is False)
                     for k in labels},
                    {k: sum(u is not None and u.answers is None for u in useful[k]) for k in labels})


def _counted(reasons: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for reason in reasons:
        found[reason] = found.get(reason, 0) + 1
    return dict(sorted(found.items(), key=lambda kv: (-kv[1], kv[0])))


def _whole(key: str, hits: Mapping[str, Sequence[int]]) -> Measure:
    """A share of prompts: Wilson's interval, McNemar's p, differences by bootstrap over prompts."""
    def change(one: str, other: str) -> Difference:
        return cluster_difference(hits[one], hits[other], [1] * len(hits[one]))

    first, *others = hits
    p = {k: mcnemar(sum(b > a for b, a in zip(hits[first], hits[k], strict=True)),
                    sum(b < a for b, a in zip(hits[first], hits[k], strict=True))) for k in others}
    return Measure(key, "share", {k: wilson(sum(v), len(v)) for k, v in hits.items()},
                   {k: change(first, k) for k in others}, _steps(list(hits), change), p)


def _constraints(key: str, constraints: Sequence[Sequence[Constraint]],
                 verdicts: Mapping[str, Sequence[Sequence[Verdict]]], trained: Collection[str], wanted: bool,
                 seed: int) -> Measure:
    """A share of constraints of one part, over the prompts that have any; intervals resample prompts."""
    places = [[j for j, c in enumerate(row) if (c.type in trained) is wanted] for row in constraints]
    asked = [i for i, p in enumerate(places) if p]
    sizes = [len(places[i]) for i in asked]
    passed = {k: [sum(rows[i][j].passed for j in places[i]) for i in asked] for k, rows in verdicts.items()}

    def change(one: str, other: str) -> Difference:
        return cluster_difference(passed[one], passed[other], sizes, seed)

    first, *others = verdicts
    return Measure(key, "share", {k: cluster_rate(v, sizes, seed) for k, v in passed.items()},
                   {k: change(first, k) for k in others}, _steps(list(verdicts), change), {})


def _words(answers: Mapping[str, Sequence[str | None]], seed: int) -> Measure:
    lengths = {k: [None if t is None else len(t.split()) for t in texts] for k, texts in answers.items()}

    def change(one: str, other: str) -> Difference | None:
        pairs = [(b, a) for b, a in zip(lengths[one], lengths[other], strict=True)
                 if b is not None and a is not None]
        return median_difference([b for b, _ in pairs], [a for _, a in pairs], seed)

    first, *others = answers
    known = {k: [n for n in v if n is not None] for k, v in lengths.items()}
    return Measure("words", "words", {k: median(v, seed) for k, v in known.items()},
                   {k: change(first, k) for k in others}, _steps(list(answers), change), {})


def _steps(labels: Sequence[str], change: Any) -> dict[str, Difference | None]:
    return {b: change(a, b) for a, b in pairwise(labels)} if len(labels) > 2 else {}


def _warnings(measures: Sequence[Measure], satisfied: Mapping[str, Sequence[int]],
              attempts: Mapping[str, Sequence[int]]) -> list[str]:
    """Constraints up and useful answers down: the checkers are over-optimised. The reader judges by intervals."""
    by_key = {m.key: m for m in measures}
    useful, types = by_key["useful"], by_key.get("trained_types")
    n = len(next(iter(satisfied.values())))
    first, *others = satisfied
    found = []
    for label in others:
        fell = useful.changes[label]
        rose = types.changes[label] if types else None
        up = rose.value if rose else (sum(satisfied[label]) - sum(satisfied[first])) / n
        if fell and fell.value < 0 and up > 0:
            what = "constraints of trained types are satisfied" if types else "prompts are satisfied"
            sure = "" if fell.high < 0 else " (the interval of the fall includes 0)"
            found.append(f"{label}: {what} more often ({100 * up:+.1f} points) but fewer answers attempt the "
                         f"request ({100 * fell.value:+.1f} points{sure}): the model may be learning to satisfy "
                         f"checkers and to say nothing")
    return found


def markdown(found: Headline, labels: Sequence[str]) -> str:
    """The summary as tables, the headline first, warnings above them."""
    first, *others = labels
    lines = [line for w in found.warnings for line in (f"**Warning.** {w}.", "")]
    rows = []
    for m in found.measures:
        bold = "**" if m.key == "satisfied_and_useful" else ""
        rows.append((f"{bold}{m.title}{bold}", *(_value(m, m.values[k]) for k in labels),
                     *(_change(m, m.changes[o]) for o in others),
                     *(f"{m.p[o]:.2g}" if o in m.p else "" for o in others)))
    lines += markdown_table(("", *labels, *(f"{o} − {first}" for o in others), *(f"p ({o})" for o in others)), rows)
    if len(labels) > 2:
        lines += ["", "Stage by stage: each model against the one before it.", "",
                  *markdown_table(("stage", *(m.title for m in found.measures)),
                                  ((o, *(_change(m, m.steps[o]) for m in found.measures)) for o in others))]
    for label in labels:
        if found.refused[label]:
            reasons = ", ".join(f"{reason} {n}" for reason, n in found.refused[label].items())
            lines += ["", f"Answers that attempt nothing, {label}: {reasons}."]
        if found.undecided[label]:
            lines += ["", f"Usefulness undecided (never counted as useful), {label}: {found.undecided[label]}."]
    return "\n".join(lines) + "\n"


def _value(m: Measure, v: Rate | Mean) -> str:
    if isinstance(v, Rate):
        return f"{100 * v.value:.1f} % ({v.passed}/{v.n}) [{100 * v.low:.1f}, {100 * v.high:.1f}]"
    return f"{v.value:g}" if v.low is None or v.high is None else f"{v.value:g} [{v.low:g}, {v.high:g}]"


def _change(m: Measure, d: Difference | None) -> str:
    if d is None:
        return "unknown"
    if m.unit == "share":
        return f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
    return f"{d.value:+g} [{d.low:+g}, {d.high:+g}]"


def _rounded(value: Rate | Mean | Difference) -> dict[str, Any]:
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(value).items()}
