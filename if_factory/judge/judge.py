"""The judge: a model that decides what code cannot, asked so that its answer can be relied on.

Three questions: which of two responses is better (``judge_pair``), which criteria a response satisfies
(``judge_criteria``), how good it is on a scale (``judge_score``). What they share: what is judged stands
between marks that no text can forge, the reply is JSON by schema, read leniently but only if it says one thing
(see ``reply.py``), an unreadable reply is asked for again a bounded number of times, and what was never
said is never a pass.

A pair is asked about in both orders, and only what both say counts: a judge that prefers whatever stands
first says nothing (Zheng et al., 2023, "Judging LLM-as-a-Judge", section 3.4).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, RootModel

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure, parse_score
from if_factory.judge.reply import read_one
from if_factory.prompts import load
from if_factory.records import Outcome, Verdict, content_id

if TYPE_CHECKING:
    from if_factory.pipeline.stage import Context

# Called as ask(messages, sample=, schema=, temperature=): functools.partial(context.chat, "judge")
Ask = Callable[..., Awaitable[Completion]]
Side = Literal["a", "b"]
T = TypeVar("T")

PROMPTS = Path(__file__).parent / "prompts"
# A small model in this process ends no sentence by itself; an unending reason would leave no verdict.
REASON: dict[str, Any] = {"type": "string", "maxLength": 160}


def judge_role(roles: Container[str]) -> str:
    """Who judges in a run with these roles: without a judge the teacher does."""
    return "judge" if "judge" in roles else "teacher"


def judge_of(ctx: Context) -> Ask:
    """``judge_role`` of a run, ready to be asked."""
    return partial(ctx.chat, "judge" if ctx.has("judge") else "teacher")


# ---------------------------------------------------------------- pairs


@dataclass(frozen=True, slots=True)
class PairJudgement:
    """What a judge said about two responses.

    Attributes:
        winner: the side both orders name, else ``None``.
        reason: countable: ``agreed``; ``tie`` (both orders); ``prefers_first`` or ``prefers_second`` (the same
            place won in both orders); ``half_tie`` (a side in one order, a tie in the other); ``identical``
            (no judge was asked); ``unread_<why>`` (an order got no readable reply).
        orders: what was said with a first, then with b first; ``None`` is unread.
        raw: the reply of each order that decided, or the last that could not be read.
    """

    winner: Side | None
    reason: str
    orders: tuple[Literal["a", "b", "tie"] | None, ...] = ()
    raw: tuple[str, ...] = ()


async def judge_pair(ask: Ask, prompt: str, a: str, b: str, *, focus: str = "", tries: int = 3,
                     prompts: str | None = None) -> PairJudgement:
    """Which response follows ``prompt`` better; asked in both orders at temperature 0.

    Args:
        focus: what the comparison should turn on, such as the requirement that is new; may be several lines.
        tries: requests per order at most.
        prompts: folder with your own ``judge_pair.jinja`` (and ``judge_retry.jinja``).
    """
    if a.strip() == b.strip():
        return PairJudgement(None, "identical")
    (first, raw_first), (second, raw_second) = await asyncio.gather(
        _compare(ask, prompt, a, b, focus, tries, prompts), _compare(ask, prompt, b, a, focus, tries, prompts))
    for read in (first, second):
        if isinstance(read, Failure):
            orders = tuple(None if isinstance(x, Failure) else x for x in (first, _swapped(second)))
            return PairJudgement(None, f"unread_{read.reason}", orders, (raw_first, raw_second))
    assert not isinstance(first, Failure)
    assert not isinstance(second, Failure)
    winner, reason = _agreement(first, second)
    return PairJudgement(winner, reason, (first, _swapped(second)), (raw_first, raw_second))


Said = Literal["a", "b", "tie"]


def _swapped(said: Said | Failure) -> Said | None:
    """The second order's answer in terms of the pair: what it calls A is ``b``."""
    if isinstance(said, Failure):
        return None
    return {"a": "b", "b": "a", "tie": "tie"}[said]  # type: ignore[return-value]


def _agreement(first: Said, second: Said) -> tuple[Side | None, str]:
    """Both answers by place: ``a`` is whatever was shown first."""
    if first == second == "tie":
        return None, "tie"
    if "tie" in (first, second):
        return None, "half_tie"
    if first == second:
        return None, "prefers_first" if first == "a" else "prefers_second"
    return ("a" if first == "a" else "b"), "agreed"


def _letter(value: Any) -> Any:
    """``A``, ``[[A]]``, ``Response A``, ``b.``; ``tie``, ``C``, ``both``, ``neither``..."""
    if not isinstance(value, str):
        return value
    word = re.sub(r"[^a-z ]", "", value.lower()).strip().removeprefix("response ").removeprefix("answer ")
    return "tie" if word in ("tie", "c", "draw", "equal", "both", "neither", "none") else word


class _Comparison(BaseModel):
    reason: str = ""
    winner: Annotated[Said, BeforeValidator(_letter)]


_COMPARISON_SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["reason", "winner"],
    "properties": {"reason": REASON, "winner": {"type": "string", "enum": ["A", "B", "tie"]}}}


async def _compare(ask: Ask, prompt: str, first: str, second: str, focus: str, tries: int,
                   prompts: str | None) -> tuple[Said | Failure, str]:
    text = load(PROMPTS, "judge_pair", prompts).render(
        prompt=shown(prompt), first=shown(first), second=shown(second), focus=shown(focus),
        mark=mark_for(prompt, first, second))

    def read(completion: Completion) -> Said | Failure:
        found = read_one(completion, _Comparison, "winner")
        return found if isinstance(found, Failure) else found.winner

    return await ask_until_read(ask, text, read, tries=tries, prompts=prompts, schema=_COMPARISON_SCHEMA,
                                temperature=0.0)


# ---------------------------------------------------------------- criteria


async def judge_criteria(ask: Ask, prompt: str, response: str, criteria: Sequence[str], *, tries: int = 3,
                         prompts: str | None = None) -> tuple[Verdict, ...] | Failure:
    """One verdict per criterion, by position; each carries the judge's reason. Asked at temperature 0.

    A reply counts only as a whole: exactly one yes or no for every number. If none of ``tries`` replies has
    that, the result is a ``Failure``, and nothing passed.

    Reasons: ``missing_verdict``, ``unknown_criterion`` and those of ``reply.read_one``.
    """
    if not criteria:
        return ()
    text = load(PROMPTS, "judge_criteria", prompts).render(
        prompt=shown(prompt), response=shown(response), criteria=[shown(c) for c in criteria],
        mark=mark_for(prompt, response, *criteria))
    return await judge_numbered(ask, text, len(criteria), tries=tries, prompts=prompts)


async def judge_numbered(ask: Ask, text: str, n: int, *, tries: int = 3,
                         prompts: str | None = None) -> tuple[Verdict, ...] | Failure:
    """One verdict for each of the ``n`` numbered points that ``text`` asks about; asked at temperature 0.

    For questions whose reply is ``{"1": {"reason": "...", "satisfied": true}, ...}``; read and retried as
    ``judge_criteria``, with the same reasons for a ``Failure``.
    """
    def read(completion: Completion) -> tuple[Verdict, ...] | Failure:
        found = read_one(completion, _Verdicts, "satisfied", n)
        return found if isinstance(found, Failure) else _by_number(found.root, n)

    verdicts, _ = await ask_until_read(ask, text, read, tries=tries, prompts=prompts,
                                       schema=_criteria_schema(n), temperature=0.0)
    return verdicts


def _by_number(found: dict[int, _Satisfied], n: int) -> tuple[Verdict, ...] | Failure:
    if missing := [i for i in range(1, n + 1) if i not in found]:
        return Failure("missing_verdict", f"no verdict on criterion {missing[0]}")
    if unknown := sorted(set(found) - set(range(1, n + 1))):
        return Failure("unknown_criterion", f"there is no criterion {unknown[0]}")
    return tuple(Verdict(outcome=Outcome.PASS if found[i].satisfied else Outcome.FAIL, reason=found[i].reason)
                 for i in range(1, n + 1))


_YES = ("yes", "true", "satisfied", "pass", "passed", "met")
_NO = ("no", "false", "not satisfied", "unsatisfied", "fail", "failed", "not met", "unmet")


def _yes_or_no(value: Any) -> Any:
    word = value.strip(" .").lower() if isinstance(value, str) else None
    return True if word in _YES else False if word in _NO else value


class _Satisfied(BaseModel):
    reason: str = ""
    satisfied: Annotated[bool, BeforeValidator(_yes_or_no), Field(strict=True)]


def _numbered(value: Any) -> Any:
    """The verdicts by number, however they are listed; a number that comes twice is an error."""
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list)]
        if len(value) == 1 and lists:
            value = lists[0]
        elif "satisfied" in value:
            value = [value]
    if isinstance(value, list):
        if not all(isinstance(item, dict) for item in value):
            raise ValueError("expected an object for every criterion")
        pairs = [(item.get("number", item.get("criterion")), item) for item in value]
    elif isinstance(value, dict):
        pairs = list(value.items())
    else:
        raise ValueError("expected verdicts by number")
    found: dict[int, Any] = {}
    for key, verdict in pairs:
        number = re.fullmatch(r"\D*(\d+)\D*", str(key))
        if number is None or int(number[1]) in found:
            raise ValueError(f"expected every criterion's number once, found {key!r}")
        found[int(number[1])] = verdict if isinstance(verdict, dict) else {"satisfied": verdict}
    return found


class _Verdicts(RootModel[Annotated[dict[int, _Satisfied], BeforeValidator(_numbered)]]):
    pass


def _criteria_schema(n: int) -> dict[str, Any]:
    """An object with the criteria's numbers as keys: a server that follows it cannot skip or repeat one."""
    verdict = {"type": "object", "additionalProperties": False, "required": ["reason", "satisfied"],
               "properties": {"reason": REASON, "satisfied": {"type": "boolean"}}}
    numbers = [str(i) for i in range(1, n + 1)]
    return {"type": "object", "additionalProperties": False, "required": numbers,
            "properties": dict.fromkeys(numbers, verdict)}


# ---------------------------------------------------------------- scores


@dataclass(frozen=True, slots=True)
class ScoreJudgement:
    """``mean`` of the ``scores`` that could be read (``None`` if none could); ``unread`` counts the others."""

    mean: float | None
    scores: tuple[float, ...] = ()
    unread: int = 0
    raw: tuple[str, ...] = ()


async def judge_score(ask: Ask, prompt: str, response: str, *, low: float, high: float, rubric: str = "",
                      samples: int = 1, tries: int = 3, prompts: str | None = None) -> ScoreJudgement:
    """How good ``response`` is, from ``low`` to ``high``, parts of a point allowed.

    One sample is asked at temperature 0; more are drawn at the role's own temperature and averaged, which
    gives the scores between whole points that thresholds such as 4.5 need.

    Args:
        rubric: what the points stand for; empty leaves that to the judge.
        tries: requests per sample at most.
    """
    text = load(PROMPTS, "judge_score", prompts).render(
        prompt=shown(prompt), response=shown(response), low=f"{low:g}", high=f"{high:g}", rubric=rubric,
        mark=mark_for(prompt, response, rubric))
    sampling: dict[str, Any] = {} if samples > 1 else {"temperature": 0.0}
    step = 0.5 if high - low >= 4 else 0.01  # else a small model in this process writes digits for ever
    schema = {"type": "object", "additionalProperties": False, "required": ["reason", "score"],
              "properties": {"reason": REASON, "score": {"type": "number", "minimum": low, "maximum": high,
                                                         "multipleOf": step}}}

    def read(completion: Completion) -> float | Failure:
        found = read_one(completion, _Score, "score")
        if not isinstance(found, Failure):
            return parse_score(str(found.score), low, high)
        # Many models end on "Score: 4" whatever they were asked for.
        return parse_score(completion.text, low, high) if found.reason in ("no_json", "wrong_json") else found

    answers = await asyncio.gather(*(
        ask_until_read(ask, text, read, tries=tries, sample=i, prompts=prompts, schema=schema, **sampling)
        for i in range(samples)))
    scores = tuple(value for value, _ in answers if not isinstance(value, Failure))
    return ScoreJudgement(fmean(scores) if scores else None, scores, samples - len(scores),
                          tuple(raw for _, raw in answers))


class _Score(BaseModel):
    reason: str = ""
    score: Annotated[float, Field(strict=True)] | str


# ---------------------------------------------------------------- asking


async def ask_until_read(ask: Ask, text: str, read: Callable[[Completion], T | Failure], *, tries: int,
                         prompts: str | None, sample: int = 0, **options: Any) -> tuple[T | Failure, str]:
    """What the first readable reply says, and that reply; else the last ``Failure`` and the last reply.

    At temperature 0 the same request has the same answer, so a further try says what was wrong.
    """
    failure, reply = Failure("not_asked"), ""
    for i in range(tries):
        content = text if i == 0 else load(PROMPTS, "judge_retry", prompts).render(
            question=text, problem=f"{failure.reason.replace('_', ' ')} {failure.detail}".strip())
        completion = await ask([{"role": "user", "content": content}], sample=sample * tries + i, **options)
        value, reply = read(completion), completion.text
        if not isinstance(value, Failure):
            return value, reply
        failure = value
    return failure, reply


def mark_for(*texts: str) -> str:
    """A mark for the lines between which the texts stand, and which is in none of them."""
    mark = content_id(texts)
    while any(mark in text for text in texts):
        mark = content_id(mark)
    return mark


def shown(text: str) -> str:
    """``text`` as a judge is shown it: a reply that quotes ``</think>`` loses everything before it as thinking."""
    return text.replace("think>", "think >")
