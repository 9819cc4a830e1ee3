"""What an audit found: counted, joined from blocks of rows, as JSON and as tables."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

from if_factory.constraints.verify import Mode
from if_factory.files import dump_json
from if_factory.inputs.rows import Side
from if_factory.records import Outcome


@dataclass(slots=True)
class Count:
    """Constraints of one type on the good answers."""

    n: int = 0
    passed: int = 0
    no_verdict: int = 0


@dataclass(frozen=True, slots=True)
class FailedAnswer:
    """A good answer's failed or undecided constraint. ``row`` counts from 1 (the line of a .jsonl file)."""

    row: int
    side: Side
    type: str
    outcome: Outcome
    reason: str


@dataclass(slots=True)
class Attempts:
    """How many answers that the dataset calls good attempt their request at all, by the usefulness gate.

    Attributes:
        decided_by: ``rules`` and, where it could be used, ``relevance``.
        answers, attempting: answers called good, and how many of them attempt their request.
        reasons: of the others, by reason; ``useless`` has ``(row, reason, text)`` of each.
    """

    decided_by: tuple[str, ...]
    answers: int = 0
    attempting: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    useless: list[tuple[int, str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return {"decided_by": list(self.decided_by), "answers": self.answers, "attempting": self.attempting,
                "reasons": dict(sorted(self.reasons.items())),
                "useless": [{"row": row, "reason": reason} for row, reason, _ in self.useless]}


@dataclass(slots=True)
class AuditReport:
    """What was found.

    Attributes:
        rows: rows in the file; ``skipped`` counts those not checked, by reason.
        good, good_passing: answers claimed good, and how many of them pass every constraint.
        bad, bad_justified: answers claimed bad, and how many of them fail at least one constraint.
        judged: constraints on good answers that only a judge decides; they are not in the counts above or below.
        not_checkable: constraints of types that are not registered here, by type; they are in no other count, and
            a row that has no others is skipped as ``not_checkable``.
        bad_unchecked: answers claimed bad that fail nothing code decides, beside constraints a judge decides.
        by_type: counts on good answers, by constraint type.
        contradictions: ``(row, why)`` where the checkers can never all pass.
        doubtful: ``(row, why)`` where they might but no sensible answer would.
        fails_nothing: rows whose bad answer fails no constraint.
        attempts: whether good answers attempt their requests, where that was asked; rows without constraints too.
    """

    path: str
    mode: Mode
    ifeval_compat: bool
    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    good: int = 0
    good_passing: int = 0
    bad: int = 0
    bad_justified: int = 0
    judged: int = 0
    bad_unchecked: int = 0
    not_checkable: Counter[str] = field(default_factory=Counter)
    by_type: dict[str, Count] = field(default_factory=dict)
    contradictions: list[tuple[int, str]] = field(default_factory=list)
    doubtful: list[tuple[int, str]] = field(default_factory=list)
    failures: list[FailedAnswer] = field(default_factory=list)
    fails_nothing: list[int] = field(default_factory=list)
    attempts: Attempts | None = None

    @property
    def constraints(self) -> int:
        return sum(c.n for c in self.by_type.values())

    @property
    def constraints_passed(self) -> int:
        return sum(c.passed for c in self.by_type.values())

    @property
    def no_verdict(self) -> int:
        return sum(c.no_verdict for c in self.by_type.values())

    @property
    def score(self) -> float:
        """The share in [0, 1] of answers that are what the dataset claims; the worse side where it has two."""
        shares = [k / n for k, n in ((self.good_passing, self.good), (self.bad_justified, self.bad)) if n]
        return min(shares, default=0.0)

    def exit_status(self, fail_under: float | None) -> int:
        """1 if ``fail_under`` (a share in [0, 1]) is given and not reached, else 0."""
        return int(fail_under is not None and self.score < fail_under)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; the same file gives the same bytes."""
        return {"format": 1, "path": self.path, "mode": self.mode, "ifeval_compat": self.ifeval_compat,
                "rows": self.rows, "skipped": dict(sorted(self.skipped.items())),
                "good": self.good, "good_passing": self.good_passing,
                "bad": self.bad, "bad_justified": self.bad_justified, "judged": self.judged,
                "bad_unchecked": self.bad_unchecked,
                "not_checkable": dict(sorted(self.not_checkable.items())),
                "constraints": self.constraints, "constraints_passed": self.constraints_passed,
                "no_verdict": self.no_verdict, "score": round(self.score, 6),
                "by_type": {t: asdict(self.by_type[t]) for t in sorted(self.by_type)},
                "contradictions": [{"row": r, "why": w} for r, w in self.contradictions],
                "doubtful": [{"row": r, "why": w} for r, w in self.doubtful],
                "fails_nothing": self.fails_nothing, "failures": [asdict(f) for f in self.failures],
                **({"usefulness": self.attempts.as_dict()} if self.attempts else {})}


def join(report: Any, more: Any) -> Any:
    """Add to a report, or to a part of one, what was found in later rows."""
    if is_dataclass(report):
        for each in fields(report):
            setattr(report, each.name, join(getattr(report, each.name), getattr(more, each.name)))
    elif isinstance(report, dict):
        for key, value in more.items():
            report[key] = join(report[key], value) if key in report else value
    elif type(report) in (int, list):
        report += more
    return report


def to_json(report: AuditReport) -> str:
    return dump_json(report.as_dict(), indent=1) + "\n"


def print_report(report: AuditReport, console: Any = None, *, examples: int = 5) -> None:
    """The report as tables. ``console`` is a ``rich.console.Console``; default standard output."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console or Console(emoji=False)
    compat = ", IFEval-compatible" if report.ifeval_compat else ""
    console.print(Text.assemble((str(report.path), "bold"), f"  {report.rows} rows, {report.mode}{compat}"))
    head = Table(box=None, show_header=False, pad_edge=False)
    head.add_row("answers that pass every constraint", _share(report.good_passing, report.good))
    if report.attempts:
        who = " and ".join(report.attempts.decided_by)
        head.add_row(f"answers that attempt their request (by {who})",
                     _share(report.attempts.attempting, report.attempts.answers))
        for reason, k in report.attempts.reasons.most_common():
            head.add_row(Text(f"  not: {reason}"), str(k))
    head.add_row("constraints passed on them", _share(report.constraints_passed, report.constraints))
    if report.bad:
        head.add_row("rejected answers that fail a constraint", _share(report.bad_justified, report.bad))
    head.add_row("constraints without a verdict", str(report.no_verdict))
    if report.not_checkable:
        head.add_row("constraints of unknown types, not checked", str(report.not_checkable.total()))
    if report.judged or report.bad_unchecked:
        head.add_row("constraints left to a judge, not checked again", str(report.judged))
        head.add_row("rejected answers that only a judge finds bad", str(report.bad_unchecked))
    head.add_row("rows no answer can satisfy", str(len(report.contradictions)))
    head.add_row("rows no sensible answer satisfies", str(len(report.doubtful)))
    for reason, k in sorted(report.skipped.items()):
        head.add_row(Text(f"rows not checked: {reason}"), str(k))
    console.print(head)

    table = Table(title="by type, worst first", title_justify="left")
    table.add_column("constraint type", no_wrap=True, overflow="fold")
    for column in ("n", "passed", "share", "no verdict"):
        table.add_column(column, justify="right")
    for kind, c in sorted(report.by_type.items(), key=lambda kv: (kv[1].passed / kv[1].n, kv[0])):
        table.add_row(Text(kind), str(c.n), str(c.passed), f"{100 * c.passed / c.n:.1f} %",
                      str(c.no_verdict or ""))
    if report.by_type:
        console.print(table)
    for title, lines in (
            ("answers that do not attempt their request",
             [f"row {row}: {reason}: {' '.join(text.split())[:120]}"
              for row, reason, text in (report.attempts.useless if report.attempts else [])]),
            ("answers that fail", [f"row {f.row}: {f.type}: {f.reason}" for f in report.failures]),
            ("not checkable (unknown types)", [f"{kind}: {k}" for kind, k in report.not_checkable.most_common()]),
            ("contradictions", [f"row {row}: {why}" for row, why in report.contradictions]),
            ("rejected answers that fail nothing", [f"row {row}" for row in report.fails_nothing])):
        if lines:
            console.print(Text.assemble((title, "bold"), f" ({min(examples, len(lines))} of {len(lines)})"))
            for line in lines[:examples]:
                console.print(Text(f"  {line}"), highlight=False, soft_wrap=True)


def _share(k: int, n: int) -> str:
    return f"{k} of {n}  ({100 * k / n:.1f} %)" if n else "none"
