"""What a run may spend and what it has spent.

Both count an answer once, whether it was paid for now or replayed from the response log, so the totals of
a resumed run are those of the whole run.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from if_factory.chat.base import CUT_IN_THINKING, Completion


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens."""

    prompt: float
    completion: float

    def of(self, completion: Completion) -> float:
        """USD for one answer."""
        return (completion.prompt_tokens * self.prompt + completion.completion_tokens * self.completion) / 1e6


class BudgetExceeded(Exception):
    """The next call would start beyond the budget. ``limit`` names it: ``max_requests``, ``max_tokens``..."""

    def __init__(self, limit: str, value: float) -> None:
        self.limit = limit
        self.value = value
        super().__init__(f"budget reached: {limit} = {value:g}")


@dataclass(slots=True)
class Budget:
    """Limits for a whole run, all roles together; ``None`` is unlimited.

    ``max_requests`` is exact. Tokens and money are known only when an answer is there, so what is in flight
    is taken to cost what the average answer has cost; the overshoot is what that guess misses, at most one
    answer per concurrent request. Retries of one request are one request.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    max_usd: float | None = None
    requests: int = field(default=0, init=False)
    answered: int = field(default=0, init=False)
    lost: int = field(default=0, init=False)
    tokens: int = field(default=0, init=False)
    usd: float = field(default=0.0, init=False)
    closed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def close(self) -> None:
        """Nothing more is to be sent, retries included: the run is stopping."""
        self.closed.set()

    def check_open(self) -> None:
        """Raises ``BudgetExceeded`` after ``close``."""
        if self.closed.is_set():
            raise BudgetExceeded("requests after the stop", 0)

    def start(self) -> None:
        """Account for a call about to be made.

        Raises:
            BudgetExceeded: the call is not to be made.
        """
        self.check_open()
        if self.max_requests is not None and self.requests >= self.max_requests:
            raise BudgetExceeded("max_requests", self.max_requests)
        # answers expected in the end, per answer so far
        growth = (self.requests - self.lost) / self.answered if self.answered else 1
        if self.max_tokens is not None and self.tokens * growth >= self.max_tokens:
            raise BudgetExceeded("max_tokens", self.max_tokens)
        if self.max_usd is not None and self.usd * growth >= self.max_usd:
            raise BudgetExceeded("max_usd", self.max_usd)
        self.requests += 1

    def finish(self, completion: Completion, usd: float | None) -> None:
        """Account for the answer to a started call."""
        self.answered += 1
        self.tokens += completion.prompt_tokens + completion.completion_tokens
        self.usd += usd or 0.0

    def fail(self) -> None:
        """A started call got no answer."""
        self.lost += 1

    def give_back(self) -> None:
        """A started call was not made after all."""
        self.requests -= 1

    def replay(self, completion: Completion, usd: float | None) -> None:
        """Account for an answer paid for by an earlier run. Never refused: it costs nothing now."""
        self.requests += 1
        self.finish(completion, usd)


@dataclass(slots=True)
class Tally:
    """Counts for one role in one stage.

    ``requests`` were answered by the server in this run and ``replayed`` by an earlier one (from the log);
    tokens and cost cover both. ``shared`` asked for an answer that this run already had, and cost nothing.
    ``truncated`` answers were cut by the token limit; ``cut_in_thinking``, among them, before the answer began.
    ``cost`` is in USD, ``None`` where the price is unknown.
    """

    requests: int = 0
    replayed: int = 0
    shared: int = 0
    failed: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated: int = 0
    filtered: int = 0
    cost: float | None = 0.0
    cut_in_thinking: int = 0

    def add(self, completion: Completion, usd: float | None) -> None:
        self.prompt_tokens += completion.prompt_tokens
        self.completion_tokens += completion.completion_tokens
        self.truncated += completion.cut
        self.cut_in_thinking += completion.finish_reason == CUT_IN_THINKING
        self.filtered += completion.finish_reason == "content_filter"
        self.cost = None if self.cost is None or usd is None else self.cost + usd


class Usage:
    """A ``Tally`` for each ``(stage, role)``, in the order of first use, and why requests failed."""

    def __init__(self) -> None:
        self.tallies: dict[tuple[str, str], Tally] = {}
        self.failures: Counter[str] = Counter()  # reason -> requests lost or refused
        self.own_limits: set[tuple[str, str]] = set()  # where the method sets max_tokens itself: nothing to set there

    def tally(self, stage: str, role: str) -> Tally:
        found = self.tallies.get((stage, role))
        if found is None:
            found = self.tallies[stage, role] = Tally()
        return found

    def total(self) -> Tally:
        """Everything added up; the cost is ``None`` if any part of it is unknown."""
        total = Tally()
        for part in list(self.tallies.values()):  # the display's thread reads while the run adds
            for name in Tally.__slots__:
                mine, theirs = getattr(total, name), getattr(part, name)
                setattr(total, name, None if mine is None or theirs is None else mine + theirs)
        return total


_MOST_CUT = 0.02  # a larger share of cut answers is said: what is lost are the long ones


def cut_notes(usage: Usage, limits: Mapping[str, int | None]) -> list[str]:
    """A sentence for every stage and role of whose answers the token limit cut more than 2 %, and what to set.

    Not where the method sets the limit: DecIF's lists are bounded, and whole items of a cut one are kept.

    Args:
        limits: role -> ``max_tokens`` in force; ``None`` is the server's own limit.
    """
    notes = []
    for (stage, role), t in usage.tallies.items():
        answers = t.requests + t.replayed
        if t.truncated <= _MOST_CUT * answers or (stage, role) in usage.own_limits:
            continue
        limit = limits.get(role)
        by = "the server's own limit" if limit is None else f"max_tokens {limit}"
        cure = "raise the context length of the server" if limit is None else \
            f"set models.{role}.max_tokens to {2 * limit} or more"
        if t.cut_in_thinking:
            by += f", {t.cut_in_thinking} of them before the reasoning ended"
            cure += f", or switch reasoning off with models.{role}.extra_body"
        share = t.truncated / answers
        notes.append(f"{stage}: {t.truncated} of {answers} answers of the {role} ({share:.0%}) were cut by "
                     f"{by}, and long answers are lost: {cure}")
    return notes
