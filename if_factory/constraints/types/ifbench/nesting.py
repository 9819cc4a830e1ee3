"""Brackets and quotation marks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.types.public import PUNCTUATION, Public

_CLOSES = {")": "(", "]": "[", "}": "{"}


@register
class Parentheses(Public):
    """Brackets of any kind are nested five deep and closed again."""

    type = "format:parentheses"
    room = 5
    descriptions = (
        "Nest parentheses (and [brackets {{and braces}}]) at least 5 levels deep",
        "Use brackets inside brackets, at least five levels of them",
        "Your response must contain brackets nested to a depth of 5 or more",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._deepest(response) >= 5

    @staticmethod
    def _deepest(response: str) -> int:
        """Of the balanced groups."""
        best, stack = 0, [("", 0)]
        for char in response:
            if char in "([{":
                stack.append((char, 0))
            elif char in ")]}" and stack[-1][0] == _CLOSES[char]:
                _, inner = stack.pop()
                stack[-1] = (stack[-1][0], max(stack[-1][1], inner + 1))
                best = max(best, inner + 1)
            elif char in ")]}":
                stack = [("", 0)]
        return best

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        stack: list[str] = []
        deepest = 0
        for char in response:
            if char in "([{":
                stack.append(char)
                deepest = max(deepest, len(stack))
            elif char in ")]}":
                # The public checker counts the depth reached, as soon as one bracket of it is closed.
                if stack and stack[-1] == _CLOSES[char]:
                    stack.pop()
                    if deepest >= 5:
                        return True
                else:
                    stack, deepest = [], 0
        return False

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"words": Range(1)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"nests brackets {self._deepest(response)} levels deep, fewer than 5"


@register
class NestedQuotes(Public):
    """Double and single quotation marks alternate three deep; an apostrophe inside a word is none."""

    type = "format:quotes"
    room = 5
    never_with = frozenset(("startend:quotation", "format:quote_unquote", "combination:repeat_prompt"))
    descriptions = (
        "Include quotes within quotes within quotes, at least 3 levels deep, alternating double and single quotes",
        "Nest quotations three levels deep and alternate between double and single quotation marks",
        "Quote someone quoting someone who quotes: 3 levels, with double and single quotation marks in turn",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._reached(re.sub(r"(?<=\w)'(?=\w)", "", measure.plain(response)))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._reached(response)

    @staticmethod
    def _reached(text: str) -> bool:
        stack: list[str] = []
        deepest = 0
        for char in text:
            if stack and char == stack[-1]:
                stack.pop()
                if deepest - len(stack) >= 3:
                    return True
            elif char in "\"'":
                stack.append(char)
                deepest = max(deepest, len(stack))
        return False

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=('"', "'"))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has no quotation inside a quotation inside a quotation"


@register
class QuoteUnquote(Public):
    """There is a quotation, and unquoted words follow each one."""

    type = "format:quote_unquote"
    room = 3
    never_with = frozenset(("startend:quotation", "combination:repeat_prompt"))
    descriptions = (
        "Every quoted phrase must be followed by an unquoted explanation",
        "After each quotation, explain it in words outside quotation marks",
        "Let unquoted text follow every phrase in quotation marks",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        parts = measure.plain(response).split('"')
        return len(parts) > 2 and len(parts) % 2 == 1 and all(
            any(map(str.isalnum, part)) for part in parts[2::2])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text = "".join(response.replace("'\"'", "").split())
        end = text.strip("0123456789" + PUNCTUATION.replace('"', "").strip())
        return '""' not in text and not end.endswith('"')

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=('"',))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has no quotation, or one without unquoted words behind it"
