"""The request without its constraints, and the answer without what the constraints demand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from if_factory.constraints.base import get
from if_factory.constraints.join import sentence
from if_factory.constraints.text import remove_phrase
from if_factory.errors import UserError
from if_factory.records import Constraint

_TITLE = re.compile(r"<<[^\n<>]{1,100}>>")  # what is longer is the answer itself between brackets
_LONG_POSTSCRIPT = 200  # characters; one that is longer than what stands before it is the answer
_LEAD = re.compile(r"(?im)^[ \t]*(?:[-*•]|\d+[.)])?[ \t]*(?:(?:please )?(?:follow|observe|keep to|meet|"
                   r"respect)\b[^\n:]*:|"
                   r"requirements:|your response must meet[^\n:]*:)?[ \t]*$")
_OWN_WORD = re.compile(r"[\w\U0001F300-\U0001FAFF]")


@dataclass(frozen=True, slots=True)
class Required:
    """What a set of constraints demands of every answer, ready to be taken out of one.

    Attributes:
        phrases: demanded phrases and markers, lower case, the longest first, so that none is left in half.
        words: demanded single words, lower case; one may be the answer itself, so they are told apart.
        postscript: the postscript's marker, from which on nothing counts as an answer.
        title: whether a title in double angular brackets is demanded.
    """

    phrases: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    postscript: str = ""
    title: bool = False


def required(constraints: Sequence[Constraint]) -> Required:
    """What code-checked constraints demand; a type that is not registered here demands nothing."""
    phrases: dict[str, None] = {}
    words: dict[str, None] = {}
    postscript, title = "", False
    for constraint in constraints:
        for text in required_text(constraint):
            text = text.strip()
            if not text or not _OWN_WORD.search(text):
                continue  # marks without a word never count as an answer anyway
            (phrases if re.search(r"\W", text) else words)[text.lower()] = None
        if constraint.type == "detectable_content:postscript":
            postscript = str(constraint.kwargs.get("postscript_marker", "")).strip()
        title |= constraint.type == "detectable_format:title"
    return Required(tuple(sorted(phrases, key=lambda t: (-len(t), t))), tuple(words), postscript, title)


def required_text(constraint: Constraint) -> tuple[str, ...]:
    """``ConstraintType.required_text`` of a constraint, and nothing where code cannot tell."""
    if constraint.kind != "code":
        return ()
    try:
        return get(constraint.type).required_text(constraint.kwargs)
    except (UserError, KeyError, ValueError, TypeError, AttributeError):  # a file of another tool, a bad argument
        return ()


def without_required(response: str, needed: Required, *, keywords: bool = False) -> str:
    """The answer without demanded phrases, title and postscript; single words go if ``keywords`` is set."""
    text = response
    if needed.postscript:
        before, found, after = text.partition(needed.postscript)
        if found:
            text = before if len(after) <= max(len(before), _LONG_POSTSCRIPT) else f"{before} {after}"
    if needed.title:
        text = _TITLE.sub(" ", text)
    wanted = needed.phrases + needed.words if keywords else needed.phrases
    if wanted:
        lower = text.lower()
        held = [phrase for phrase in wanted if phrase.split(None, 1)[0] in lower]  # most answers hold none of it
        lower = " ".join(lower.split()) if held else ""
        for phrase in held:
            if " ".join(phrase.split()) in lower:
                text = remove_phrase(text, phrase)
    return text


def request_of(prompt: str, constraints: Sequence[Constraint]) -> str:
    """The prompt without the sentences that state its constraints; the prompt itself if nothing else is left."""
    text = prompt
    for constraint in constraints:
        stated = constraint.text.strip()
        if not stated:
            continue
        for form in (sentence(stated), stated):
            if form in text:
                text = text.replace(form, "")
                break
        else:
            words = stated.split()
            if " ".join(words) in " ".join(text.split()):  # in a list its further lines are indented
                text = re.sub(r"\s+".join(map(re.escape, words)) + r"[.!]?", "", text, count=1)
    if "\n" in text or _LEAD.match(text):
        text = _LEAD.sub("", text)
    text = text.strip()
    return text if _OWN_WORD.search(text) else prompt.strip()
