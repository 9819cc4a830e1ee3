"""The gate: rules, then relevance, then the judge where there is one; each asked only about what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from if_factory.embedding import available
from if_factory.judge.judge import Ask
from if_factory.records import Candidate, Record, Turn, Usefulness
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.echoes import has_few_words
from if_factory.usefulness.judge import judged
from if_factory.usefulness.reasons import Reason
from if_factory.usefulness.relevance import Relevance
from if_factory.usefulness.repetition import distinct
from if_factory.usefulness.rules import why_not
from if_factory.usefulness.settings import THRESHOLD, UsefulnessSpec
from if_factory.usefulness.strip import without_required


@dataclass(frozen=True, slots=True)
class Item:
    """One answer to decide about.

    Attributes:
        rules_only: the prompt states constraints and no request (AutoIF's bare instruction): there is no subject
            that an answer could be near to, or a judge could ask about.
    """

    asked: Asked
    response: str
    finish_reason: str = "stop"
    rules_only: bool = False


class Gate:
    """Decides for many answers at a time whether they attempt their requests; equal texts, equal verdicts.

    Raises:
        UserError: a model is named that does not load.
    """

    def __init__(self, spec: UsefulnessSpec | None = None) -> None:
        self.spec = spec or UsefulnessSpec()
        self.threshold = THRESHOLD if self.spec.threshold is None else self.spec.threshold
        wanted = self.spec.relevance
        on = available() if wanted == "auto" else wanted != "off"
        self._relevance = Relevance(None if wanted == "auto" else wanted) if on else None

    @property
    def embeds(self) -> bool:
        """Whether relevance has a say."""
        return self._relevance is not None

    @property
    def deciders(self) -> tuple[str, ...]:
        """Who decides without a judge, cheapest first: what the ledger and the report say."""
        return ("rules", "relevance") if self._relevance else ("rules",)

    def decide(self, items: Sequence[Item], *, whole: bool = False) -> list[Usefulness]:
        """Rules and relevance on every item, in order. What neither refuses counts as an answer.

        Args:
            whole: score whole answers, also where the opening would be enough: to compare thresholds.
        """
        reasons = [self._by_rules(item) for item in items]
        found = [Usefulness(answers=reason is None, reason=reason or "") for reason in reasons]
        left = [i for i, reason in enumerate(reasons) if reason is None and not items[i].rules_only]
        if self._relevance is not None and left:
            scores = self._relevance.scores([(items[i].asked, items[i].response) for i in left],
                                            None if whole else self.threshold)
            for i, score in zip(left, scores, strict=True):
                if score is not None:
                    near = score.value >= self.threshold
                    found[i] = Usefulness(answers=near, reason="" if near else "off_topic", decided_by="relevance",
                                          score=score.value, score_of="opening" if score.opening else None)
        return found

    def _by_rules(self, item: Item) -> Reason | None:
        reason = why_not(item.asked, item.response, finish_reason=item.finish_reason)
        if reason is not None:
            return reason
        asked, least = item.asked, self.spec.distinct
        if least and distinct(item.response) < least and not asked.allows("repeats_itself"):
            return "repeats_itself"
        if self.spec.own_words and has_few_words(asked, without_required(item.response, asked.required),
                                                 self.spec.own_words):
            return "echoes_request"
        return None

    async def decide_with(self, ask: Ask | None, items: Sequence[Item], *, tries: int = 3,
                          prompts: str | None = None) -> list[Usefulness]:
        """``decide``, and then the judge on what was let through; without a judge just that."""
        found = self.decide(items)
        if ask is None or self.spec.judge == "off":
            return found
        left = [i for i, usefulness in enumerate(found) if usefulness.answers and not items[i].rules_only]
        said = await asyncio.gather(*(
            judged(ask, items[i].asked.full, items[i].response, found[i], tries=tries, prompts=prompts)
            for i in left))
        for i, usefulness in zip(left, said, strict=True):
            found[i] = usefulness
        return found


def decided(gate: Gate, records: Sequence[Record]) -> list[Record]:
    """The records with every candidate's usefulness made anew, all of them in one batch.

    What a judge said stays where rules and relevance still let the text through: a judge is not asked twice.
    """
    places = [(i, candidate) for i, record in enumerate(records) for candidate in record.candidates]
    asked = [asked_of(record) for record in records]
    found = gate.decide([Item(asked[i], c.text, c.finish_reason, _has_no_request(records[i])) for i, c in places])
    made: list[list[Candidate]] = [[] for _ in records]
    for (i, candidate), now in zip(places, found, strict=True):
        before = candidate.usefulness
        if now.answers and before is not None and before.decided_by == "judge":
            now = before.model_copy(update={"score": now.score, "score_of": now.score_of})
        if not gate.spec.rejected_attempts:
            now = now.model_copy(update={"excused": True})
        made[i].append(candidate.model_copy(update={"usefulness": now}))
    return [record.model_copy(update={"candidates": tuple(candidates)})
            for record, candidates in zip(records, made, strict=True)]


def decided_for(gate: Gate, record: Record, candidates: Sequence[Candidate]) -> list[Candidate]:
    """``decided`` for some candidates of a record: what a run's stages ask for."""
    (record,) = decided(gate, [record.model_copy(update={"candidates": tuple(candidates)})])
    return list(record.candidates)


async def decided_aside(gate: Gate, record: Record, candidates: Sequence[Candidate]) -> list[Candidate]:
    """``decided_for`` on an event loop: embedding takes long enough for a thread of its own, the rules do not."""
    if gate.embeds:
        return await asyncio.to_thread(decided_for, gate, record, candidates)
    return decided_for(gate, record, candidates)


def by_rules(record: Record, candidate: Candidate) -> Usefulness:
    reason = why_not(asked_of(record), candidate.text, finish_reason=candidate.finish_reason)
    return Usefulness(answers=reason is None, reason=reason or "")


def first_useless_turn(record: Record) -> tuple[str, str, str] | None:
    """Reason, prompt and response of the first answer in a conversation's history that the rules refuse."""
    return _first_useless_turn(record.history)


@lru_cache(maxsize=64)  # a conversation's rows share their history
def _first_useless_turn(history: tuple[Turn, ...]) -> tuple[str, str, str] | None:
    said: list[str] = []
    for turn in history:
        if turn.role == "user":
            said.append(turn.content)
        elif turn.role == "assistant" and said:
            reason = why_not(Asked(said[-1], history=said[:-1]), turn.content)
            if reason is not None:
                return reason, said[-1], turn.content
    return None


def asked_of(record: Record) -> Asked:
    """What a record asks: its prompt without its constraints, after what the user said before."""
    return Asked(record.prompt, record.constraints,
                 history=[turn.content for turn in record.history if turn.role == "user"])


def item_of(record: Record, candidate: Candidate) -> Item:
    return Item(asked_of(record), candidate.text, candidate.finish_reason, _has_no_request(record))


def _has_no_request(record: Record) -> bool:
    return bool(record.extra.get("bare"))
