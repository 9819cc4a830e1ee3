"""Markdown and XML marks: headings, bold text, code blocks, an enclosing tag."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.text import count_bold, document

_LANGUAGES = {
    "python": ("python", "pandas", "numpy", "django"), "javascript": ("javascript", "node.js", "react"),
    "java": ("java",), "sql": ("sql", "database"), "bash": ("bash", "shell", "linux", "command line"),
    "html": ("html", "web page", "website"), "css": ("css", "stylesheet")}
_ABOUT_CODE = ("code", "program", "script", "algorithm", "function that", "software")


@register
class CodeBlocks(ConstraintType):
    type = "code:blocks"
    descriptions = (
        "Include exactly {blocks} that {opens} with ```{language}",
        "Your response must contain exactly {blocks} marked as {language}, that is, opened with ```{language}",
        "Show exactly {blocks}{each} opened by ```{language} and closed by ```",
        "Use exactly {blocks} whose opening fence is ```{language}",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(_code_blocks(response, kwargs["language"]) == kwargs["count"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        seed = seed_prompt.lower()
        named = [lang for lang, hints in _LANGUAGES.items() if any(re.search(rf"\b{h}\b", seed) for h in hints)]
        if not named and not any(hint in seed for hint in _ABOUT_CODE):
            return None
        return {"language": rng.choice(named or ["python"]), "count": rng.randint(1, 2)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=(f"```{kwargs['language']}",),
                       counts={f"{kwargs['language']} blocks": Range(kwargs["count"], kwargs["count"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        one = kwargs["count"] == 1
        return {**kwargs, "blocks": "1 fenced code block" if one else f"{kwargs['count']} fenced code blocks",
                "opens": "opens" if one else "open", "each": "" if one else ", each"}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = _code_blocks(response, kwargs["language"])
        return f"has {found} closed ```{kwargs['language']} blocks instead of {kwargs['count']}"


def _code_blocks(text: str, language: str) -> int:
    """Closed fences, of backticks or tildes, whose first word is the language."""
    if "```" not in text and "~~~" not in text:
        return 0
    return sum(code.closed and code.language == language.lower() for code in document(text).code)


@register
class Headings(ConstraintType):
    type = "markdown:headings"
    descriptions = (
        "Use {relation} {count} {headings} of level {level}, {each}on its own line starting with '{marks} '",
        "Structure your response with {relation} {count} Markdown {headings} that {start} with '{marks} '",
        "Your response must contain {relation} {count} level-{level} Markdown {headings} ('{marks} ' and a text)",
        "Include {relation} {count} {headings} written as '{marks} ' followed by the heading text",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return _headings(response, kwargs["level"]) in Range.of(kwargs["relation"], kwargs["count"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"level": rng.randint(1, 3), "relation": rng.choice(("exactly", "at least")),
                "count": rng.randint(2, 4)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=("#" * kwargs["level"] + " ",),
                       counts={"headings": Range.of(kwargs["relation"], kwargs["count"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        one = kwargs["count"] == 1
        return {**kwargs, "marks": "#" * kwargs["level"], "headings": "heading" if one else "headings",
                "each": "" if one else "each ", "start": "starts" if one else "start"}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return (f"has {_headings(response, kwargs['level'])} headings of level {kwargs['level']}, "
                f"not {kwargs['relation']} {kwargs['count']}")


def _headings(text: str, level: int) -> int:
    """``#`` headings of exactly that level; a ``#`` inside a code block is a comment, not a heading."""
    return sum(found == level for found, _ in document(text).headings) if "#" in text else 0


@register
class BoldPhrases(ConstraintType):
    type = "markdown:bold"
    descriptions = (
        "Put at least {phrases} in bold with double asterisks, like **this**",
        "Mark at least {phrases} as **bold**",
        "Your response must contain at least {phrases} in Markdown bold (**text**)",
        "Emphasise at least {phrases} with two asterisks on either side, as in **important**",
    )
    difficulty_hint = 1

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return count_bold(response) in Range(kwargs["count"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"count": rng.randint(1, 5)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=("**",), counts={"bold": Range(kwargs["count"])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"phrases": "1 phrase" if kwargs["count"] == 1 else f"{kwargs['count']} phrases"}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {count_bold(response)} bold phrases, fewer than {kwargs['count']}"


@register
class EnclosingTag(ConstraintType):
    type = "xml:enclosing_tag"
    descriptions = (
        "Wrap your whole response in <{tag}> and </{tag}>",
        "Your response must open with <{tag}> and close with </{tag}>, with nothing before or after",
        "Enclose the entire answer in one pair of <{tag}> tags, ending with </{tag}>",
        "Put everything you write between <{tag}> and </{tag}>, using this pair once",
    )
    difficulty_hint = 1

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        text, opening, closing = response.strip(), f"<{kwargs['tag']}>", f"</{kwargs['tag']}>"
        return (text.startswith(opening) and text.endswith(closing) and text.count(opening) == 1
                and text.count(closing) == 1 and bool(text[len(opening):-len(closing)].strip()))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"tag": rng.choice(("answer", "response", "result", "reply", "output"))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        opening, closing = f"<{kwargs['tag']}>", f"</{kwargs['tag']}>"
        return Demands(literals=(opening, closing), starts=opening, ends=closing)

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"is not wholly enclosed in one pair of <{kwargs['tag']}> tags"
