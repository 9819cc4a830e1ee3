"""Every verdict of code on a record's candidates, made anew."""

from __future__ import annotations

from collections.abc import Sequence

from if_factory.constraints.generated import verify_many
from if_factory.constraints.verify import verify
from if_factory.records import Candidate, Record
from if_factory.verdicts import Constraint, Verdict


def rechecked(record: Record) -> Record:
    """The record with every verdict of code made anew, generated code once for all candidates.

    A judge's verdict stays where there is one: a judge is not asked twice.
    """
    texts = [c.text for c in record.candidates]
    columns: list[Sequence[Verdict]] = []
    for i, constraint in enumerate(record.constraints):
        if constraint.kind == "generated_code":
            columns.append(verify_many(texts, constraint))
        else:
            columns.append([_verdict(c, i, constraint) for c in record.candidates])
    return record.model_copy(update={"candidates": tuple(
        c.model_copy(update={"verdicts": tuple(column[n] for column in columns)})
        for n, c in enumerate(record.candidates))})


def _verdict(candidate: Candidate, position: int, constraint: Constraint) -> Verdict:
    if constraint.kind == "judge" and position < len(candidate.verdicts):
        return candidate.verdicts[position]
    return verify(candidate.text, [constraint])[0]
