"""Constraints that only a judge decides, asked of an OpenAI-compatible endpoint while answers are rewarded.

The questions, and how replies are read, are those of ``judge/criteria.py``. An endpoint that is away, refuses, or takes
too long costs a verdict, which is then ``None``, never a failed constraint.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from if_factory.chat.base import RequestFailed
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.http import OpenAIBackend
from if_factory.errors import UserError, suggest
from if_factory.judge.judge import Variant
from if_factory.records import Constraint
from if_factory.rewards.solved import Solved, criteria_hold

_logger = logging.getLogger(__name__)
_RETRIES = 2  # of one request; the answer's timeout ends them too
_UNREADABLE = "reply could not be read"
T = TypeVar("T")


class JudgeOptions(BaseModel):
    """How the judge is reached.

    Attributes:
        endpoint: the base URL of an OpenAI-compatible server.
        model: its name there; ``None`` takes the first chat model that the server lists.
        api_key_env: the environment variable that holds the key.
        timeout: seconds for the verdicts on one answer, retries included.
        concurrency: answers asked about at a time.
        max_tokens: of a reply.
        variant: ``small`` for judges of about a billion parameters or fewer, see ``judge.py``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    endpoint: str
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    timeout: Annotated[float, Field(gt=0)] = 120.0
    concurrency: Annotated[int, Field(ge=1)] = 16
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    variant: Variant = "full"


def judge_options(given: Any, where: str) -> JudgeOptions:
    """The options from a URL alone or a mapping.

    Args:
        where: what the user calls it, such as ``grpo_judge``.

    Raises:
        UserError: an option that there is not, a value of the wrong kind, or no URL.
    """
    known = list(JudgeOptions.model_fields)
    fix = "give the endpoint's URL, or a mapping of " + ", ".join(known)
    if isinstance(given, str):
        given = {"endpoint": given}
    if not isinstance(given, Mapping):
        raise UserError(f"is {given!r}", where=f"field '{where}'", fix=fix)
    for key in given:
        if key == "api_key":
            raise UserError("a key does not belong into a file", where=f"field '{where}.{key}'",
                            fix="put it into an environment variable, and that variable's name into api_key_env")
        if key not in known:
            raise UserError("; ".join(filter(None, ("there is no such option", suggest(str(key), known)))),
                            where=f"field '{where}.{key}'", fix=fix)
    try:
        options = JudgeOptions.model_validate(dict(given))
    except ValidationError as e:
        error = e.errors()[0]
        raise UserError(error["msg"], where=f"field '{where}.{'.'.join(map(str, error['loc']))}'", fix=fix) from None
    try:
        OpenAIBackend(options.endpoint)
    except UserError as e:
        raise UserError(e.problem, where=f"field '{where}.endpoint'", fix=e.fix) from None
    return options


class Item(NamedTuple):
    """One answer: ``text`` to ``prompt``, and the constraints that a judge decides of it."""

    prompt: str
    text: str
    criteria: Sequence[Constraint]


@dataclass(slots=True)
class _Failures:
    """Why answers have no verdict, by how many; ``first`` is told in full."""

    reasons: Counter[str]
    first: str = ""

    def add(self, reason: str, said: str = "") -> None:
        self.reasons[reason] += 1
        self.first = self.first or said or reason


class EndpointJudge:
    """A judge behind HTTP. Safe for threads: each call has connections and an event loop of its own."""

    def __init__(self, options: JudgeOptions) -> None:
        self.options = options
        self._model = options.model

    def check(self) -> None:
        """Ask one question whose answer is known to be readable, before anything is trained.

        Raises:
            UserError: the endpoint is away, refuses, or its reply cannot be read.
        """
        item = Item("Answer with yes.", "Yes.", [Constraint(type="judge:criterion", kind="judge",
                                                           text="The answer is the word yes.")])
        found, failures = self._asked([item])
        if None in found[0]:
            raise UserError(f"a test question got no verdict: {failures.first}", where=self.options.endpoint,
                            fix="start the endpoint; name a model that it serves, and the variable with its key")

    def holds(self, items: Sequence[Item]) -> list[list[Solved]]:
        """For each item one verdict per criterion; all ``None``, which is told in the log, where they cannot be had."""
        found, failures = self._asked(items)
        if failures.reasons:
            listed = ", ".join(f"{reason} {n}" for reason, n in failures.reasons.most_common())
            _logger.warning("the judge at %s gave no verdict on %d of %d answers (%s): they have no reward of their "
                            "own; %s", self.options.endpoint, failures.reasons.total(), len(items), listed,
                            failures.first)
        return found

    def _asked(self, items: Sequence[Item]) -> tuple[list[list[Solved]], _Failures]:
        failures = _Failures(Counter())
        return (_run(lambda: self._all(items, failures)) if items else []), failures

    async def _all(self, items: Sequence[Item], failures: _Failures) -> list[list[Solved]]:
        o = self.options
        backend = OpenAIBackend(o.endpoint, self._model, api_key_env=o.api_key_env, concurrency=o.concurrency,
                                timeout=o.timeout, wait=0)
        client = ChatClient("judge", backend, log=None, budget=Budget(), usage=Usage(), concurrency=o.concurrency,
                            max_tokens=o.max_tokens, retries=_RETRIES)
        slots = asyncio.Semaphore(o.concurrency)

        async def ask(messages: Sequence[dict[str, str]], **options: Any) -> Any:
            return await client.chat(messages, stage="rewards", **options)

        async def one(item: Item) -> list[Solved]:
            async with slots:
                try:
                    async with asyncio.timeout(o.timeout):
                        found = await criteria_hold(item.prompt, item.text, item.criteria, ask, variant=o.variant)
                except RequestFailed as e:
                    failures.add(e.reason)
                except UserError as e:
                    failures.add("no request can succeed", str(e))
                except TimeoutError:
                    failures.add(f"no verdict within {o.timeout:g} s")
                else:
                    if None in found:
                        failures.add(_UNREADABLE)
                    return found
                return [None] * len(item.criteria)

        try:
            return list(await asyncio.gather(*map(one, items)))
        finally:
            self._model = backend.model or None
            await client.close()


def _run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to its end in a thread: the caller's may have a running event loop."""
    with ThreadPoolExecutor(1, thread_name_prefix="judge") as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
