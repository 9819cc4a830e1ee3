"""The judge: a model that decides what code cannot, asked so that its answer can be relied on.

Three questions: which of two responses is better (``judge_pair``), which criteria a response satisfies
(``criteria.judge_criteria``), how good it is on a scale (``judge_score``). What they share: what is judged stands
between marks that no text can forge, the reply is JSON by schema, read leniently but only if it says one thing
(see ``reply.py``), an unreadable reply is asked for again a bounded number of times, and what was never
said is never a pass.

The prompts come in two variants: ``full`` has the judge quote and reason before each verdict, ``small`` asks for a
verdict and a short reason, for models of about a billion parameters or fewer, which lose themselves in the former.

A pair is asked about in both orders, and only what both say counts: a judge that prefers whatever stands
first says nothing (Zheng et al., 2023, "Judging LLM-as-a-Judge", section 3.4).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure, parse_score
from if_factory.judge.reply import read_one
from if_factory.prompts import load
from if_factory.records import content_id

if TYPE_CHECKING:
    from if_factory.pipeline.stage import Context

# Called as ask(messages, sample=, schema=, temperature=): functools.partial(context.chat, "judge")
Ask = Callable[..., Awaitable[Completion]]
Side = Literal["a", "b"]
Variant = Literal["full", "small"]
T = TypeVar("T")

PROMPTS = Path(__file__).parent / "prompts"
# A small model in this process ends no sentence by itself; an unending reason would leave no verdict.
REASON: dict[str, Any] = {"type": "string", "maxLength": 160}
EVIDENCE: dict[str, Any] = {"type": "string", "maxLength": 240}
REASONING: dict[str, Any] = {"type": "string", "maxLength": 1000}  # ends a text that would go on for ever


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


async def judge_pair(ask: Ask, prompt: str, a: str, b: str, *, focus: str = "", requirements: Sequence[str] = (),
                     tries: int = 3, prompts: str | None = None, variant: Variant = "full") -> PairJudgement:
    """Which response follows ``prompt`` better; asked in both orders at temperature 0.

    Args:
        focus: what the comparison should turn on, such as the requirement that is new; may be several lines.
        requirements: what the judge goes through, one by one, before the verdict; the small variant does not.
        tries: requests per order at most.
        prompts: folder with your own ``judge_pair.jinja`` or ``judge_pair_small.jinja`` (and ``judge_retry.jinja``).
    """
    if a.strip() == b.strip():
        return PairJudgement(None, "identical")
    asked = () if variant == "small" else tuple(requirements)
    compared = partial(_compare, ask, prompt, focus=focus, requirements=asked, tries=tries, prompts=prompts,
                       variant=variant)
    (first, raw_first), (second, raw_second) = await asyncio.gather(compared(a, b), compared(b, a))
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
    reason: str = Field("", validation_alias=AliasChoices("reason", "reasoning"))
    winner: Annotated[Said, BeforeValidator(_letter)]


_WINNER = {"type": "string", "enum": ["A", "B", "tie"]}
_MET_BY = {"type": "string", "enum": ["A", "B", "both", "neither"]}


@cache
def _comparison_schema(variant: Variant, requirements: int) -> dict[str, Any]:
    if variant == "small":
        return _closed({"reason": REASON, "winner": _WINNER})
    each = _closed({"a": EVIDENCE, "b": EVIDENCE, "met_by": _MET_BY})
    listed = {"requirements": _closed({str(i): each for i in range(1, requirements + 1)})} if requirements else {}
    return _closed({**listed, "reasoning": REASONING, "winner": _WINNER})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    """A schema of an object with exactly these keys."""
    return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}


async def _compare(ask: Ask, prompt: str, first: str, second: str, *, focus: str, requirements: Sequence[str],
                   tries: int, prompts: str | None, variant: Variant) -> tuple[Said | Failure, str]:
    name = "judge_pair_small" if variant == "small" else "judge_pair"
    text = load(PROMPTS, name, prompts).render(
        prompt=shown(prompt), first=shown(first), second=shown(second), focus=shown(focus),
        requirements=list(map(shown, requirements)), mark=mark_for(prompt, first, second))

    def read(completion: Completion) -> Said | Failure:
        found = read_one(completion, _Comparison, "winner")
        return found if isinstance(found, Failure) else found.winner

    return await ask_until_read(ask, text, read, tries=tries, prompts=prompts,
                                schema=_comparison_schema(variant, len(requirements)), temperature=0.0)


# ---------------------------------------------------------------- scores


@dataclass(frozen=True, slots=True)
class ScoreJudgement:
    """``mean`` of the ``scores`` that could be read (``None`` if none could); ``unread`` counts the others."""

    mean: float | None
    scores: tuple[float, ...] = ()
    unread: int = 0
    raw: tuple[str, ...] = ()


async def judge_score(ask: Ask, prompt: str, response: str, *, low: float, high: float, rubric: str = "",
                      samples: int = 1, tries: int = 3, prompts: str | None = None,
                      reasoned: bool = False) -> ScoreJudgement:
    """How good ``response`` is, from ``low`` to ``high``, parts of a point allowed.

    One sample is asked at temperature 0; more are drawn at the role's own temperature and averaged, which
    gives the scores between whole points that thresholds such as 4.5 need.

    Args:
        rubric: what the points stand for; empty leaves that to the judge.
        tries: requests per sample at most.
        reasoned: the judge has room to say what is asked for and what the response does about it; else 40 words.
    """
    text = load(PROMPTS, "judge_score_reasoned" if reasoned else "judge_score", prompts).render(
        prompt=shown(prompt), response=shown(response), low=f"{low:g}", high=f"{high:g}", rubric=rubric,
        mark=mark_for(prompt, response, rubric))
    sampling: dict[str, Any] = {} if samples > 1 else {"temperature": 0.0}
    step = 0.5 if high - low >= 4 else 0.01  # else a small model in this process writes digits for ever
    number = {"type": "number", "minimum": low, "maximum": high, "multipleOf": step}
    schema = _closed({"reasoning": REASONING, "score": number} if reasoned else {"reason": REASON, "score": number})

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
    reason: str = Field("", validation_alias=AliasChoices("reason", "reasoning"))
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
