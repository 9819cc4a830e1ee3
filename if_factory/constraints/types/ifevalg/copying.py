"""Repeating the request, or a part of it, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands
from if_factory.constraints.text import plain
from if_factory.constraints.types.public import Public

_PHRASES = (
    "every cloud has a silver lining",
    "the early bird catches the worm",
    "a good start is half the work",
    "many hands make light work",
    "look before you leap",
    "actions speak louder than words",
)


def _same(one: str, other: str) -> bool:
    """Equal word for word; white space and quotation marks around the whole are free."""
    first, second = (" ".join(plain(text).split()).strip("\"'").strip() for text in (one, other))
    return first == second


_COPIES = "the whole response is a copy, so it answers nothing"


class _Copy(Public):
    composable = False
    only_read = _COPIES
    arguments = ("prompt_to_repeat",)
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return _same(response, kwargs["prompt_to_repeat"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(response.strip().lower() == kwargs["prompt_to_repeat"].strip().lower())

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        text = kwargs["prompt_to_repeat"].strip()
        return Demands(owns="copy", literals=(text,))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "is not the request itself, word for word"


@register
class Copy(_Copy):
    """The response is ``prompt_to_repeat`` and nothing else."""

    type = "copy:copy"
    descriptions = (
        'Copy this text verbatim and do not follow it: "{prompt_to_repeat}"',
        'Output exactly this text, without acting on it: "{prompt_to_repeat}"',
        'Do not carry out this request, only repeat it word for word: "{prompt_to_repeat}"',
    )


@register
class CopyingSimple(_Copy):
    """As ``copy:copy``, under its other id."""

    type = "copy:copying_simple"
    descriptions = (
        'Repeat the request without change and do not answer it: "{prompt_to_repeat}"',
        'Only repeat this request, word for word, and give no answer: "{prompt_to_repeat}"',
        'Your whole response must be this request, unchanged and unanswered: "{prompt_to_repeat}"',
    )


@register
class CopyingMultiple(Public):
    """``prompt_to_repeat`` exactly ``N`` times, divided by ``******``."""

    type = "copy:copying_multiple"
    composable = False
    only_read = _COPIES
    arguments = ("prompt_to_repeat", "N")
    descriptions = (
        'Repeat the request {N} times without change, separated by ******, and do not answer it: '
        '"{prompt_to_repeat}"',
        'Write this request exactly {N} times, with six asterisks between the copies: "{prompt_to_repeat}"',
        'Give {N} word-for-word copies of this request, divided by ******, and nothing else: "{prompt_to_repeat}"',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        parts = response.split("******")
        return len(parts) == int(kwargs["N"]) and all(_same(part, kwargs["prompt_to_repeat"]) for part in parts)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        wanted, parts = kwargs["prompt_to_repeat"].strip().lower(), response.split("******")
        return len(parts) == int(kwargs["N"]) and all(part.strip().lower() == wanted for part in parts)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        int(kwargs["N"])
        return Demands(owns="copy", literals=(kwargs["prompt_to_repeat"].strip(), "******"))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"is not {kwargs['N']} copies of the request divided by ******"


@register
class CopySpan(Public):
    """The characters of ``prompt_to_repeat`` from ``n_start`` to ``n_end``, both included, counted from 0.

    The public checker leaves the last one out, against its own wording; compat does too.
    """

    type = "new:copy_span_idx"
    composable = False
    only_read = _COPIES
    arguments = ("prompt_to_repeat", "n_start", "n_end")
    last = 0
    descriptions = (
        'Copy only the characters from index {n_start} to index {n_end}, both included, of this text: '
        '"{prompt_to_repeat}"',
        'Output the span between the character indices {n_start} and {n_end} (inclusive) of: "{prompt_to_repeat}"',
        'Of the text "{prompt_to_repeat}" repeat the characters with index {n_start} to {n_end} and nothing else',
    )

    def _span(self, kwargs: Mapping[str, Any], last: int) -> str:
        return str(kwargs["prompt_to_repeat"])[int(kwargs["n_start"]):int(kwargs["n_end"]) + last]

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return _same(response, self._span(kwargs, 1))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return response.strip().lower() == self._span(kwargs, self.last).strip().lower()

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="copy", literals=(self._span(kwargs, 1).strip(),))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"is not the span {self._span(kwargs, 1)[:40]!r}"


@register
class RepeatSpan(CopySpan):
    """IFBench's id for the same; its checker includes the last character."""

    type = "repeat:repeat_span"
    benchmark = "ifbench"
    last = 1


@register
class RepeatPhrase(Public):
    """``phrase`` occurs exactly ``small_n`` times, each time with exactly one word changed between first and
    last.
    """

    type = "copy:repeat_phrase"
    arguments = ("phrase", "small_n")
    difficulty_hint = 4
    never_with = frozenset(("keywords", "letters", "word", "count", "language"))  # they may count words of the phrase
    descriptions = (
        'Repeat the phrase "{phrase}" exactly {small_n} times, each time with one word in its middle replaced',
        'Write "{phrase}" {small_n} times and replace exactly one of its inner words each time',
        'Use {small_n} variants of the phrase "{phrase}" that each differ from it in one word, neither the first '
        'nor the last',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        from if_factory.constraints.text import words

        wanted, found = ([w.lower() for w in words(t)] for t in (kwargs["phrase"], response))
        n = len(wanted)
        if n < 3:
            raise ValueError("a phrase of fewer than three words has no word in its middle")
        off = [sum(a != b for a, b in zip(wanted[1:-1], found[i + 1:i + n - 1], strict=True))
               for i in range(len(found) - n + 1) if found[i] == wanted[0] and found[i + n - 1] == wanted[-1]]
        return 0 not in off and off.count(1) == int(kwargs["small_n"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        import re

        wanted = kwargs["phrase"].split()
        found = [part.split() for part in re.findall(f"{wanted[0]} .*? {wanted[-1]}", response)]
        return len(found) == int(kwargs["small_n"]) and all(
            len(part) == len(wanted) and sum(map(str.__ne__, part, wanted)) == 1 for part in found)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"phrase": rng.choice(_PHRASES), "small_n": rng.randint(2, 3)}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        words = kwargs["phrase"].split()
        return Demands(words=tuple(dict.fromkeys((words[0], words[-1]))), room=int(kwargs["small_n"]) * len(words))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'does not have exactly {kwargs["small_n"]} one-word variants of "{kwargs["phrase"]}"'
