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
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

from if_factory.constraints.base import is_known
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.generated import forget_time_outs
from if_factory.constraints.verify import Mode, verify
from if_factory.errors import UserError
from if_factory.evaluation.audit_report import Attempts, AuditReport, Count, FailedAnswer, join
from if_factory.files import count_rows, dump_json, read_rows
from if_factory.inputs.rows import Answered, Side, answers_of, constraints_of, prompt_of, prompts_of
from if_factory.pipeline.spread import in_blocks, spread
from if_factory.records import Constraint, Outcome, Verdict
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.gate import Gate, Item
from if_factory.usefulness.settings import UsefulnessSpec

_TOGETHER = 256  # rows of a block


def audit(path: Path | str, *, constraints: Path | str | None = None, mode: Mode = "strict",
          ifeval_compat: bool = False, useful: UsefulnessSpec | None = None, workers: int | None = None) -> AuditReport:
    """Re-check every answer of a .jsonl or .json dataset.

    Args:
        constraints: a file with the prompts' constraints, joined by prompt (white space ignored), for datasets
            that lost theirs. A prompt listed there with two different sets is skipped as ``ambiguous_prompt``.
        mode: ``loose`` forgives first and last lines and asterisks, as IFEval does.
        ifeval_compat: decide as the reference checkers do where they are known to err.
        useful: also say how many good answers attempt their request, by a gate set so.
        workers: see ``spread``.

    Raises:
        UserError: an unreadable file or row, a sidecar of another length, or no row that could be checked.
    """
    path = Path(path)
    find = _finder(path, Path(constraints) if constraints else None)
    rows = ((n, row, find(n, row)) for n, row in read_rows(path))
    opens = partial(_Auditor, str(path), mode, ifeval_compat, useful)
    report = opens()([])
    for part in spread(opens, in_blocks(rows, _TOGETHER), workers):
        join(report, part)
    if report.rows == sum(report.skipped.values()) and not (report.attempts and report.attempts.answers):
        reasons = ", ".join(f"{reason} {k}" for reason, k in sorted(report.skipped.items()))
        raise UserError(f"no row could be checked ({reasons or 'the file is empty'})", where=str(path),
                        fix="rows need constraints (`instruction_id_list` and `kwargs`, or `constraints`) and a "
                        "response; if the constraints are in another file, name it with --constraints")
    return report


class _Auditor:
    """What ``audit`` does with a block of rows: number, row and what was found as its constraints."""

    def __init__(self, path: str, mode: Mode, compat: bool, useful: UsefulnessSpec | None) -> None:
        self.path, self.mode, self.compat = path, mode, compat
        self.gate = Gate(useful) if useful else None

    def __call__(self, rows: Sequence[tuple[int, dict[str, Any], Found]]) -> AuditReport:
        forget_time_outs()  # a block's verdicts depend on the block alone
        report = AuditReport(self.path, self.mode, self.compat, len(rows))
        asked: list[tuple[int, Item]] = []
        for n, row, found in rows:
            if not isinstance(found, str) and found:
                unknown = [c for c in found if c.kind == "code" and not is_known(c.type)]
                report.not_checkable.update(c.type for c in unknown)
                found = tuple(c for c in found if c not in unknown) or "not_checkable"
            answers = answers_of(row)
            if self.gate:
                asked += _asked(n, row, () if isinstance(found, str) or not found else found, answers)
            self._check(report, n, found, answers)
        if self.gate:
            report.attempts = _attempts(self.gate, asked)
        return report

    def _check(self, report: AuditReport, n: int, found: Found, answers: list[Answered]) -> None:
        if isinstance(found, str) or not found:
            report.skipped[found if isinstance(found, str) else "no_constraints"] += 1
        elif not answers:
            report.skipped["no_response"] += 1
        elif not (checked := tuple(c for c in found if c.kind != "judge")):
            report.skipped["only_a_judge_decides"] += 1
        else:
            _contradictions(report, n, checked)
            for answer in answers:
                verdicts = [_verdict(answer.text, c, self.mode, self.compat) for c in checked]
                if answer.good:
                    report.judged += len(found) - len(checked)
                    _good(report, n, answer.side, checked, verdicts)
                else:
                    _bad(report, n, verdicts, judged=len(found) > len(checked))


def _asked(n: int, row: dict[str, Any], constraints: tuple[Constraint, ...], answers: list[Answered]
           ) -> list[tuple[int, Item]]:
    """The good answers of row ``n``, for the gate."""
    prompts = prompts_of(row)
    if not prompts:
        return []
    *before, prompt = prompts
    asked = Asked(prompt, constraints, history=before)
    return [(n, Item(asked, answer.text)) for answer in answers if answer.good]


def _attempts(gate: Gate, asked: Sequence[tuple[int, Item]]) -> Attempts:
    found = Attempts(gate.deciders, len(asked))
    for (n, item), said in zip(asked, gate.decide([item for _, item in asked]), strict=True):
        found.attempting += said.answers is True
        if said.answers is not True:
            found.reasons[said.reason] += 1
            found.useless.append((n, said.reason, item.response))
    return found


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
