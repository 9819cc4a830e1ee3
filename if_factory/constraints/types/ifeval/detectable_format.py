"""IFEval's detectable format family: bullets, fixed answers, highlights, sections, JSON, title."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.relations import count_of, plural, quoted
from if_factory.constraints.text import bullets, count_highlights, outside_code, plain, strip_code_fence, titles


def parse_json(response: str) -> Any:
    """The JSON value that is the whole response, bare or in one code fence that names JSON or nothing.

    Raises:
        ValueError: it is none; ``NaN`` and ``Infinity``, which Python reads, are not JSON.
        RecursionError: it is nested too deep to be read.
    """
    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    return json.loads(strip_code_fence(response, "json"), parse_constant=refuse)


def is_closed_question(prompt: str) -> bool:
    """Whether a prompt ends with a question that "yes" or "no" answers: only that fits fixed answers."""
    last = prompt.strip().rsplit("\n", 1)[-1]
    closed = r"\b(is|are|was|were|do|does|did|can|could|should|would|will|has|have|must)\s+\w+[^.?!]*\?\s*$"
    return re.match(closed, last.strip(), re.IGNORECASE) is not None


@register
class NumberBulletLists(ConstraintType):
    """Exactly ``num_bullets`` lines that open with ``* `` or ``- ``."""

    type = "detectable_format:number_bullet_lists"
    descriptions = (
        "Your answer must contain exactly {num_bullets} bullet {noun}, each on a line that starts with * or -",
        'Use exactly {num_bullets} Markdown bullet {noun} such as "* This is a point"',
        "Include {num_bullets} bullet {noun}, no more and no fewer, in Markdown (* or - at the start of the line)",
        "Give exactly {num_bullets} bullet {noun} in Markdown form, starting with * or -",
        'Write a list with exactly {num_bullets} bullet {noun}, like "- A point"',
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(bullets(response, "*-")) == int(kwargs["num_bullets"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._count_compat(response) == int(kwargs["num_bullets"])

    @staticmethod
    def _count_compat(response: str) -> int:
        stars = re.findall(r"^\s*\*[^\*].*$", response, re.MULTILINE) if "*" in response else []
        dashes = re.findall(r"^\s*-.*$", response, re.MULTILINE) if "-" in response else []
        return len(stars) + len(dashes)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"num_bullets": rng.randint(2, 5)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        n = int(kwargs["num_bullets"])
        return Demands(counts={"bullets": Range(n, n), "lines": Range(n), "words": Range(n)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "noun": plural(kwargs["num_bullets"], "point")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return self._has(len(bullets(response, "*-")), kwargs)

    def why_compat(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return self._has(self._count_compat(response), kwargs)

    @staticmethod
    def _has(count: int, kwargs: Mapping[str, Any]) -> str:
        return f"has {count_of(count, 'bullet point')}; exactly {kwargs['num_bullets']} were asked for"


@register
class ConstrainedResponse(ConstraintType):
    """One, and only one, of three fixed answers occurs."""

    type = "detectable_format:constrained_response"
    options = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
    descriptions = (
        "Answer with exactly one of these sentences: {options}",
        "Your answer must contain one, and only one, of the following sentences: {options}",
        "Choose one of these three and use it as your answer: {options}",
        "Reply with one of the following options and with no other of them: {options}",
        "Pick exactly one of {options} as your response",
    )
    difficulty_hint = 1

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text = " ".join(plain(response).split())
        return sum(option in text for option in self.options) == 1

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return any(option in response for option in self.options)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {} if is_closed_question(seed_prompt) else None

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(owns="fixed_answer", words=("my answer is",), language="en",
                       counts={"words": Range(4), "sentences": Range(1)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"options": quoted(self.options)}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = sum(option in response for option in self.options)
        return f"contains {found} of the three fixed answers; exactly one was asked for"


@register
class NumberHighlightedSections(ConstraintType):
    """At least ``num_highlights`` stretches between asterisks, ``*like this*`` or ``**like this**``."""

    type = "detectable_format:number_highlighted_sections"
    descriptions = (
        "Highlight at least {num_highlights} {noun} of your answer with Markdown, i.e. *highlighted text*",
        "Emphasise at least {num_highlights} {noun} of your response by asterisks, like *this*",
        "Put at least {num_highlights} {noun} of the text between asterisks, such as *important part*",
        "There should be at least {num_highlights} highlighted {noun} in your reply, written as *highlighted*",
        "Mark at least {num_highlights} {noun} in Markdown italics or bold, e.g. *word* or **word**",
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return count_highlights(response) >= int(kwargs["num_highlights"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._count_compat(response) >= int(kwargs["num_highlights"])

    @staticmethod
    def _count_compat(response: str) -> int:
        if "*" not in response:
            return 0
        single = [h for h in re.findall(r"\*[^\n\*]*\*", response) if h.strip("*").strip()]
        double = [h for h in re.findall(r"\*\*[^\n\*]*\*\*", response) if h.strip("*").strip()]
        return len(single) + len(double)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"num_highlights": rng.randint(1, 3)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        n = int(kwargs["num_highlights"])
        return Demands(literals=("*",) if n else (), counts={"highlights": Range(n), "words": Range(n)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "noun": plural(kwargs["num_highlights"], "part")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return self._has(count_highlights(response), kwargs)

    def why_compat(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return self._has(self._count_compat(response), kwargs)

    @staticmethod
    def _has(count: int, kwargs: Mapping[str, Any]) -> str:
        return f"has {count_of(count, 'highlighted part')}; at least {kwargs['num_highlights']} were asked for"


@register
class MultipleSections(ConstraintType):
    """At least ``num_sections`` headings: lines that open with ``section_spliter`` and each its own number."""

    type = "detectable_format:multiple_sections"
    descriptions = (
        "Write at least {num_sections} {noun} and begin each on a new line with {section_spliter} X, its number",
        "Divide your response into at least {num_sections} {noun}; mark the beginning of each with "
        "{section_spliter} X at the start of a line, such as {section_spliter} 1",
        "Your answer should have at least {num_sections} {noun} under heading lines {section_spliter} 1 and so on",
        "Structure the reply as {num_sections} or more numbered sections, each starting on a new line with "
        "{section_spliter} X (X being 1, 2, 3, ...)",
        "Use at least {num_sections} {noun}, each introduced by a line that starts with {section_spliter} and "
        "its number",
    )
    difficulty_hint = 3

    def _numbers(self, response: str, kwargs: Mapping[str, Any]) -> set[int]:
        heading = re.compile(
            rf"^[ \t\"'*_#>\[(]*{re.escape(plain(kwargs['section_spliter']).strip())}[ \t]*(\d+)\b", re.MULTILINE)
        return {int(m.group(1)) for m in outside_code(heading, plain(response))}

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(self._numbers(response, kwargs)) >= int(kwargs["num_sections"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        marker = rf"{kwargs['section_spliter'].strip()}\s?\d+"
        return len(re.findall(marker, response)) >= int(kwargs["num_sections"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"section_spliter": rng.choice(("Section", "SECTION")), "num_sections": rng.randint(2, 4)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        marker, n = kwargs["section_spliter"].strip(), int(kwargs["num_sections"])
        capitals = Range(n if marker.isupper() else 0)
        return Demands(literals=tuple(f"{marker} {i}" for i in range(1, n + 1)),
                       counts={"sections": Range(n), "capital_words": capitals, "lines": Range(n),
                               "words": Range(2 * n), f"word:{marker.lower()}": Range(n)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "noun": plural(kwargs["num_sections"], "section")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = count_of(len(self._numbers(response, kwargs)), "section")
        marker, n = kwargs["section_spliter"], kwargs["num_sections"]
        return f"has {found} headed '{marker} X' at the start of a line; at least {n} were asked for"


@register
class JsonFormat(ConstraintType):
    """The whole response is one JSON object or list, bare or in one Markdown code fence."""

    type = "detectable_format:json_format"
    descriptions = (
        "Your entire output must be valid JSON (an object or a list); Markdown code ticks around it are allowed",
        "Wrap the entire answer in JSON, as one object or list",
        "Give the whole response as a single JSON object or list and nothing else",
        "Format your reply as JSON: one object or list, with no text before or after it",
        "Answer only with a JSON object or list",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        try:
            return isinstance(parse_json(response), dict | list)
        except (ValueError, RecursionError):
            return False

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        body = response.strip()
        for fence in ("```json", "```Json", "```JSON", "```"):
            body = body.removeprefix(fence)
        try:
            json.loads(body.removesuffix("```").strip())
        except ValueError:
            return False
        return True

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        # What measures words and letters still holds inside JSON strings; what shapes lines or ends does not.
        return Demands(owns="json", allows=frozenset({
            "keywords:existence", "keywords:frequency", "keywords:forbidden_words", "keywords:letter_frequency",
            "length_constraints:number_words", "language:response_language"}))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        try:
            found = parse_json(response)
        except (ValueError, RecursionError) as e:
            return f"is not JSON: {e}"
        return f"is a bare JSON {type(found).__name__}, not an object or a list"


@register
class Title(ConstraintType):
    """A non-empty title in double angular brackets on one line: ``<<title>>``."""

    type = "detectable_format:title"
    descriptions = (
        "Your answer must contain a title wrapped in double angular brackets, such as <<poem of joy>>",
        "Give your response a title in double angular brackets, i.e. <<title>>",
        "Include a title and write it as <<title>>",
        "Add a title, enclosed in << and >>, to your reply",
        "The answer should have a title between double angular brackets, for example <<my title>>",
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(titles(response))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return any(t.lstrip("<").rstrip(">").strip() for t in re.findall(r"<<[^\n]+>>", response))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=("<<", ">>"), exclusive=frozenset({"title"}), counts={"words": Range(1)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has no title in double angular brackets (<<title>>)"
