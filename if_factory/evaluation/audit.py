"""Re-check any dataset's answers against its own constraints. It trusts nothing the dataset says about itself.

Constraints are found, in this order: in a file given by the caller and joined by prompt; in the sidecar
``<name>.provenance.jsonl`` beside our own exports, joined by position; in the row. An answer the dataset calls
good must pass everything; one it calls bad (``rejected``, a false KTO label) must fail something.

What only a judge decides is counted and left alone: the answer's other constraints are checked, and an answer that
is called bad and fails none of those may still be bad.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

from if_factory.constraints.base import is_known
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.verify import Mode, verify
from if_factory.errors import UserError
from if_factory.files import count_rows, dump_json, read_rows
from if_factory.inputs.rows import Answered, Side, answers_of, constraints_of, prompt_of, prompts_of
from if_factory.records import Constraint, Outcome, Verdict
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.gate import Gate, Item


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


def audit(path: Path | str, *, constraints: Path | str | None = None, mode: Mode = "strict",
          ifeval_compat: bool = False, gate: Gate | None = None) -> AuditReport:
    """Re-check every answer of a .jsonl or .json dataset.

    Args:
        constraints: a file with the prompts' constraints, joined by prompt (white space ignored), for datasets
            that lost theirs. A prompt listed there with two different sets is skipped as ``ambiguous_prompt``.
        mode: ``loose`` forgives first and last lines and asterisks, as IFEval does.
        ifeval_compat: decide as the reference checkers do where they are known to err.
        gate: also say how many good answers attempt their request.

    Raises:
        UserError: an unreadable file or row, a sidecar of another length, or no row that could be checked.
    """
    path = Path(path)
    report = AuditReport(str(path), mode, ifeval_compat)
    find = _finder(path, Path(constraints) if constraints else None)
    asked = _Asking(gate) if gate else None
    for n, row in read_rows(path):
        report.rows += 1
        found = find(n, row)
        if not isinstance(found, str) and found:
            unknown = [c for c in found if c.kind == "code" and not is_known(c.type)]
            report.not_checkable.update(c.type for c in unknown)
            found = tuple(c for c in found if c not in unknown) or "not_checkable"
        answers = answers_of(row)
        if asked:
            asked.take(n, row, () if isinstance(found, str) or not found else found, answers)
        if isinstance(found, str) or not found:
            report.skipped[found if isinstance(found, str) else "no_constraints"] += 1
        elif not answers:
            report.skipped["no_response"] += 1
        elif not (checked := tuple(c for c in found if c.kind != "judge")):
            report.skipped["only_a_judge_decides"] += 1
        else:
            _contradictions(report, n, checked)
            for answer in answers:
                verdicts = [_verdict(answer.text, c, mode, ifeval_compat) for c in checked]
                if answer.good:
                    report.judged += len(found) - len(checked)
                    _good(report, n, answer.side, checked, verdicts)
                else:
                    _bad(report, n, verdicts, judged=len(found) > len(checked))
    report.attempts = asked.finish() if asked else None
    if report.rows == sum(report.skipped.values()) and not (report.attempts and report.attempts.answers):
        reasons = ", ".join(f"{reason} {k}" for reason, k in sorted(report.skipped.items()))
        raise UserError(f"no row could be checked ({reasons or 'the file is empty'})", where=str(path),
                        fix="rows need constraints (`instruction_id_list` and `kwargs`, or `constraints`) and a "
                        "response; if the constraints are in another file, name it with --constraints")
    return report


class _Asking:
    """Puts good answers to the gate, a few hundred at a time."""

    def __init__(self, gate: Gate) -> None:
        self.gate, self.found = gate, Attempts(gate.deciders)
        self.waiting: list[tuple[int, Item]] = []

    def take(self, n: int, row: dict[str, Any], constraints: tuple[Constraint, ...], answers: list[Answered]) -> None:
        prompts = prompts_of(row)
        if not prompts:
            return
        *before, prompt = prompts
        known = [c for c in constraints if c.kind != "code" or is_known(c.type)]
        asked = Asked(prompt, known, history=before)
        self.waiting += [(n, Item(asked, answer.text)) for answer in answers if answer.good]
        if len(self.waiting) >= 256:
            self.finish()

    def finish(self) -> Attempts:
        decided = self.gate.decide([item for _, item in self.waiting])
        for (n, item), said in zip(self.waiting, decided, strict=True):
            self.found.answers += 1
            self.found.attempting += said.answers is True
            if said.answers is not True:
                self.found.reasons[said.reason] += 1
                self.found.useless.append((n, said.reason, item.response))
        self.waiting = []
        return self.found


def to_json(report: AuditReport) -> str:
    return dump_json(report.as_dict(), indent=1) + "\n"


def print_report(report: AuditReport, console: Any = None, *, examples: int = 5) -> None:
    """The report as tables. ``console`` is a ``rich.console.Console``; default standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    compat = ", IFEval-compatible" if report.ifeval_compat else ""
    console.print(f"[bold]{escape(report.path)}[/]  {report.rows} rows, {report.mode}{compat}")
    head = Table(box=None, show_header=False, pad_edge=False)
    head.add_row("answers that pass every constraint", _share(report.good_passing, report.good))
    if report.attempts:
        who = " and ".join(report.attempts.decided_by)
        head.add_row(f"answers that attempt their request (by {who})",
                     _share(report.attempts.attempting, report.attempts.answers))
        for reason, k in report.attempts.reasons.most_common():
            head.add_row(f"  not: {reason}", str(k))
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
        head.add_row(f"rows not checked: {reason}", str(k))
    console.print(head)

    table = Table(title="by type, worst first", title_justify="left")
    table.add_column("constraint type", no_wrap=True, overflow="fold")
    for column in ("n", "passed", "share", "no verdict"):
        table.add_column(column, justify="right")
    for kind, c in sorted(report.by_type.items(), key=lambda kv: (kv[1].passed / kv[1].n, kv[0])):
        table.add_row(escape(kind), str(c.n), str(c.passed), f"{100 * c.passed / c.n:.1f} %",
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
            console.print(f"[bold]{title}[/] ({min(examples, len(lines))} of {len(lines)})")
            for line in lines[:examples]:
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _share(k: int, n: int) -> str:
    return f"{k} of {n}  ({100 * k / n:.1f} %)" if n else "none"


Found = tuple[Constraint, ...] | str | None
"""A row's constraints, or the reason why there are none."""


def _finder(path: Path, joined: Path | None) -> Callable[[int, dict[str, Any]], Found]:
    if joined:
        by_prompt = _ByPrompt(joined)

        def by_text(n: int, row: dict[str, Any]) -> Found:
            prompt = prompt_of(row)
            return "no_prompt" if prompt is None else by_prompt.get(prompt)

        return by_text
    sidecar = path.with_suffix(".provenance.jsonl")
    if sidecar.is_file():
        if (aligned := count_rows(sidecar)) != (rows := count_rows(path)):
            raise UserError(f"{aligned} rows, but {path.name} has {rows}", where=str(sidecar),
                            fix="export again: the two files belong together row by row")
        positions = (constraints_of(row, f"{sidecar}:{n}") for n, row in read_rows(sidecar))
        return lambda n, row: next(positions)
    return lambda n, row: constraints_of(row, f"{path}:{n}")


class _ByPrompt:
    """The constraints of a file's prompts, in a temporary database: memory does not grow with the file."""

    def __init__(self, path: Path) -> None:
        self._found = sqlite3.connect("", isolation_level=None)  # a temporary one, beyond its cache on disk
        self._found.execute("CREATE TABLE found (prompt BLOB PRIMARY KEY, constraints TEXT) WITHOUT ROWID")
        self._found.execute("BEGIN")
        for n, row in read_rows(path):
            prompt = prompt_of(row)
            if prompt is None:
                raise UserError("no prompt to join by", where=f"{path}:{n}", fix="give every row a `prompt`")
            own = constraints_of(row, f"{path}:{n}")
            if (known := self._get(prompt, _ABSENT)) is _ABSENT:
                said = None if own is None else dump_json([c.model_dump(mode="json") for c in own])
                self._found.execute("INSERT INTO found VALUES (?, ?)", (_key(prompt), said))
            elif known != own:
                self._found.execute("UPDATE found SET constraints = ? WHERE prompt = ?", (_AMBIGUOUS, _key(prompt)))

    def get(self, prompt: str) -> Found:
        return self._get(prompt, "prompt_not_in_constraints_file")

    def _get(self, prompt: str, default: str) -> Found:
        row = self._found.execute("SELECT constraints FROM found WHERE prompt = ?", (_key(prompt),)).fetchone()
        if row is None:
            return default
        if row[0] is None or row[0] == _AMBIGUOUS:
            return cast("str | None", row[0])
        return tuple(Constraint.model_validate(c) for c in json.loads(row[0]))

    def __del__(self) -> None:
        self._found.close()


_ABSENT, _AMBIGUOUS = "absent", "ambiguous_prompt"


def _key(prompt: str) -> bytes:
    """Of a prompt, white space ignored."""
    return blake2b(" ".join(prompt.split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _verdict(text: str, constraint: Constraint, mode: Mode, compat: bool) -> Verdict:
    """An unknown type is an error elsewhere; here it gives no verdict, so that the rest of the dataset is reported."""
    try:
        return verify(text, [constraint], mode, ifeval_compat=compat)[0]
    except UserError as e:
        return Verdict(outcome=Outcome.NO_VERDICT, reason=e.problem)


def _contradictions(report: AuditReport, n: int, constraints: tuple[Constraint, ...]) -> None:
    try:
        if (why := conflict(constraints)) is None:
            return
        strictly = conflict(constraints, strict=True)
        (report.contradictions if strictly else report.doubtful).append((n, strictly or why))
    except UserError as e:
        report.doubtful.append((n, e.problem))


def _good(report: AuditReport, n: int, side: Side, constraints: tuple[Constraint, ...],
          verdicts: list[Verdict]) -> None:
    report.good += 1
    report.good_passing += all(v.passed for v in verdicts)
    for constraint, verdict in zip(constraints, verdicts, strict=True):
        count = report.by_type.setdefault(constraint.type, Count())
        count.n += 1
        count.passed += verdict.passed
        count.no_verdict += verdict.outcome is Outcome.NO_VERDICT
        if not verdict.passed:
            report.failures.append(FailedAnswer(n, side, constraint.type, verdict.outcome, verdict.reason))


def _bad(report: AuditReport, n: int, verdicts: list[Verdict], *, judged: bool) -> None:
    justified = any(v.failed for v in verdicts)
    if judged and not justified:
        report.bad_unchecked += 1
        return
    report.bad += 1
    report.bad_justified += justified
    if not justified:
        report.fails_nothing.append(n)
