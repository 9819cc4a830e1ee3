"""A role's model in a run by batches: answers come from the log; what is not there is written down for later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from if_factory.batches.backend import BatchBackend
from if_factory.batches.wave import Wave
from if_factory.chat.base import ChatRequest, Completion, Deferred, RequestFailed
from if_factory.chat.budget import Budget, BudgetExceeded, Price, Tally
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog

_USUAL_TOKENS = 1024  # of an answer without a limit, where no answer is there to go by
_CHARACTERS = 4  # per prompt token, for the same estimate


class Spending:
    """Keeps a wave within the budget. All of a wave is asked before any of it is answered, so each request counts at
    once, as what the average answer in the log has cost; without any, as its characters / 4 and its ``max_tokens``
    (1,024 where it has none).

    Args:
        pending: requests in files whose results have not been read.
        prices: model -> its price.
    """

    def __init__(self, budget: Budget, log: ResponseLog, pending: int, prices: Mapping[str, Price | None]) -> None:
        self._budget, self._prices = budget, prices
        self._answers = self._tokens = 0
        self._usd = 0.0
        self._requests = len(log) + pending
        if budget.max_tokens is not None or budget.max_usd is not None:
            for line in log.lines():
                row = json.loads(line)
                self._add(row["request"]["model"], Completion(**row["completion"]))
            share = 1 + pending / self._answers if self._answers else 1.0
            self._each = (self._tokens / self._answers, self._usd / self._answers) if self._answers else None
            self._tokens, self._usd = round(self._tokens * share), self._usd * share

    def start(self, request: ChatRequest) -> None:
        """Account for a request about to be written.

        Raises:
            BudgetExceeded: it is not to be written.
        """
        limits = self._budget
        limits.check_open()
        for name, most, now in (("max_requests", limits.max_requests, self._requests),
                                ("max_tokens", limits.max_tokens, self._tokens),
                                ("max_usd", limits.max_usd, self._usd)):
            if most is not None and now >= most:
                raise BudgetExceeded(name, most)
        self._requests += 1
        if limits.max_tokens is None and limits.max_usd is None:
            return
        if self._each is not None:
            self._tokens += round(self._each[0])
            self._usd += self._each[1]
        else:
            prompt = sum(len(m["content"]) for m in request.messages) // _CHARACTERS
            self._add(request.model, Completion("", "", prompt, request.max_tokens or _USUAL_TOKENS))

    def _add(self, model: str, completion: Completion) -> None:
        price = self._prices.get(model)
        self._answers += 1
        self._tokens += completion.prompt_tokens + completion.completion_tokens
        self._usd += price.of(completion) if price else 0.0


class BatchClient(ChatClient):
    """``ChatClient`` that asks nobody.

    Args:
        endpoint: the recipe's, whose batch files the requests go into.
        wave: where they are written.
        spending: of all roles together.
        given: as for ``ChatClient``.
    """

    defers = True

    def __init__(self, role: str, backend: BatchBackend, endpoint: str, wave: Wave, spending: Spending,
                 **given: Any) -> None:
        super().__init__(role, backend, **given)
        self._backend, self._endpoint, self._wave, self._spending = backend, endpoint, wave, spending

    async def _ask(self, request: ChatRequest, key: str, stage: str, tally: Tally) -> Completion:
        """Raises ``Deferred``, unless it is known from an earlier wave that the answer is empty or never comes."""
        known = self._wave.folder.unanswered.get(key)
        if known is not None and known.lost:
            tally.failed += 1
            self.usage.failures[known.reason] += 1
            raise RequestFailed(known.reason)
        if known is not None and known.empty is not None:
            usd = self.price.of(known.empty) if self.price else None
            tally.requests += 1
            tally.add(known.empty, usd)
            self.budget.replay(known.empty, usd)
            return known.empty
        if key not in self._wave:
            self._spending.start(request)
            self._wave.add(key, request, stage, self._backend, self._endpoint, known.form if known else None)
        raise Deferred
