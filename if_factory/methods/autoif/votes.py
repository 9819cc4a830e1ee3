"""Answers put to the vote of a record's functions: what each of them says, and which answers are good or bad.

Between an answer that passes and one that no function accepts lie those on which the functions differ: not good
enough to be chosen and not bad enough to be rejected (AutoIF: accuracy above 0.5, and 0).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from if_factory.constraints.generated import functions_of, name, shared_pool, tally
from if_factory.constraints.verify import verify
from if_factory.methods.autoif.cross_validation import Bound, holds
from if_factory.records import Candidate, Constraint, Outcome, Verdict
from if_factory.verdicts import VERDICT_OF

# What the functions of one constraint say: function name -> true, false, or nothing; empty for other constraints.
Votes = dict[str, bool | None]
_Column = list[tuple[Verdict, Votes]]  # of one constraint, by answer
_SAID = {Outcome.PASS: True, Outcome.FAIL: False, Outcome.NO_VERDICT: None}


@dataclass(frozen=True, slots=True)
class Voted:
    """A checked answer, and what each function said, by constraint."""

    candidate: Candidate
    votes: Sequence[Votes]

    def accepted(self, bound: Bound) -> bool:
        """It passes everything, and of the functions with a verdict ``bound`` accept it, for each constraint."""
        shares = [_share(v) for v in self.votes if v]
        return self.candidate.verified and all(s is not None and holds(bound, s) for s in shares)

    def refused(self) -> bool:
        """It fails a constraint, and none of that constraint's functions accepts it."""
        return any(verdict.failed and not _share(votes)
                   for verdict, votes in zip(self.candidate.verdicts, self.votes, strict=True))


def _share(votes: Votes) -> float | None:
    votes_cast = [v for v in votes.values() if v is not None]
    return sum(votes_cast) / len(votes_cast) if votes_cast else None


async def put_to_vote(constraints: Sequence[Constraint], candidates: Sequence[Candidate]) -> list[Voted]:
    """Check every candidate; a function runs once over all of them.

    Raises:
        UserError: generated code cannot be isolated on this machine, or a constraint's type is unknown.
    """
    texts = [c.text for c in candidates]
    return _voted(candidates, await asyncio.gather(*(_column(constraint, texts) for constraint in constraints)))


async def _column(constraint: Constraint, texts: Sequence[str]) -> _Column:
    if constraint.kind != "generated_code":
        return [(verify(text, [constraint])[0], {}) for text in texts]
    results = await asyncio.gather(*(shared_pool().arun(source, texts) for source in functions_of(constraint)))
    return _tallied(constraint, [[result.verdicts[i] for result in results] for i in range(len(texts))])


def said(verdicts: Iterable[Verdict]) -> list[bool | str]:
    """What functions said on a text, to be kept with a record: true, false, or why there is no verdict."""
    return [v.passed if v.passed or v.failed else v.reason for v in verdicts]


def put_to_former_vote(constraint: Constraint, candidates: Sequence[Candidate],
                       former: Mapping[str, Sequence[bool | str]]) -> list[Voted]:
    """As ``put_to_vote``, of candidates over whose texts the functions have run: ``said``, by text."""
    by_text = [[VERDICT_OF[one] if isinstance(one, bool) else Verdict(outcome=Outcome.NO_VERDICT, reason=one)
                for one in former[c.text]] for c in candidates]
    return _voted(candidates, [_tallied(constraint, by_text)])


def _tallied(constraint: Constraint, by_text: Sequence[Sequence[Verdict]]) -> _Column:
    names = [name(source) for source in functions_of(constraint)]
    return [(tally(constraint, votes), {n: _SAID[v.outcome] for n, v in zip(names, votes, strict=True)})
            for votes in by_text]


def _voted(candidates: Sequence[Candidate], columns: Sequence[_Column]) -> list[Voted]:
    return [Voted(candidate.model_copy(update={"verdicts": tuple(verdict for verdict, _ in row)}),
                  [votes for _, votes in row]) for candidate, *row in zip(candidates, *columns, strict=True)]
