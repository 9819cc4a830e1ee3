"""Small changes by rule that make an answer satisfy a constraint and leave what it says as it is.

An opening or closing phrase, letter case, commas, quotation marks around everything: a model is not needed to put
them right, and the draft beside its edited text is a pair that differs in the constraint and in nothing else. What
takes a writer (a title, a postscript, another length) has no rule here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from if_factory.constraints.verify import verify
from if_factory.records import Constraint

_Edit = Callable[[str, Mapping[str, Any]], str]

# Words that begin a clause or a phrase: what follows a comma with one of them is no item of a series.
_NO_ITEM = ("a an the this that these those it its he she we you they i my your our their there here who which when "
            "where while because since although though if as so but yet nor than such including especially for from "
            "with without in on at by of to into over after before until is are was were be been do does did can could "
            "may might must shall should will would has have had not also even then").replace(" ", "|")
_MORE = rf", (?!(?:and|or|{_NO_ITEM})\b)[\w'’-]+(?: [\w'’-]+){{0,2}}?"
_SERIES = re.compile(rf"(?i:(?:{_MORE})+,? (and|or) )")
# An announcement in the way of an opening phrase: "Sure! Here is a complete explanation:"
_LEAD_IN = re.compile(r"(?:(?:sure|certainly|of course)[,.!]\s+)?here(?:'s|’s| is| are| you go)\b[^.:!?\n]{0,60}:\s+|"
                      r"(?:sure|certainly|of course)[,.!]\s+", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_NUMBERED = re.compile(r"^(\s*)\d+[.)] ", re.MULTILINE)


def edited(response: str, constraints: Sequence[Constraint]) -> str | None:
    """The response after the fewest edits by which it satisfies every constraint.

    One violated constraint is edited at a time; an edit counts if its constraint then holds and none that held is
    broken. All is decided by the checkers.

    Returns:
        ``None`` where a constraint is violated that no rule can mend, or one that only a judge decides is among
        them; the response itself where nothing is violated.
    """
    verdicts = verify(response, constraints, reasons=False)
    while failing := [i for i, v in enumerate(verdicts) if not v.passed]:
        for i in failing:
            text = _edit(response, constraints[i])
            after = verify(text, constraints, reasons=False)
            if after[i].passed and all(new.passed for old, new in zip(verdicts, after, strict=True) if old.passed):
                response, verdicts = text, after
                break
        else:
            return None
    return response


def _edit(response: str, constraint: Constraint) -> str:
    rule = RULES.get(constraint.type) if constraint.kind == "code" else None
    return response if rule is None else rule(response.strip(), constraint.kwargs)


def _opened(phrase: str, text: str) -> str:
    said = text[lead.end():] if (lead := _LEAD_IN.match(text)) else text
    said = said[:1].upper() + said[1:]
    return f"{phrase} {said}" if phrase[-1:] in ".!?:" else f"{phrase}. {said}"


def _closed(text: str, phrase: str) -> str:
    if text[-1:].isalnum():
        text += "."
    # Below a list or several paragraphs the phrase is no part of the last one.
    return f"{text}\n\n{phrase}" if "\n" in text else f"{text} {phrase}"


def _without_commas(text: str) -> str:
    """Commas of a series become its "and" or "or", those of large numbers and of clauses go.

    Code and data need their commas: a text with either is returned as it is.
    """
    if "`" in text or text[:1] in "{[":
        return text

    def series(found: re.Match[str]) -> str:
        items = [item.strip() for item in found[0][:-len(found[1]) - 1].split(",") if item.strip()]
        return "".join(f" {found[1]} {item}" for item in items) + f" {found[1]} "

    text = _SERIES.sub(series, _THOUSANDS.sub("", text))
    return re.sub(r",(?=\w)", " ", text).replace(",", "")


def _bulleted(text: str, wanted: int) -> str:
    """A numbered list as bullet points."""
    return _NUMBERED.sub(r"\1* ", text) if len(_NUMBERED.findall(text)) == wanted else text


def _divided(text: str) -> str:
    """Paragraphs divided by ``***`` instead of blank lines."""
    return "\n\n***\n\n".join(part.strip() for part in re.split(r"\n\s*\n", text) if part.strip(" *\n"))


RULES: Mapping[str, _Edit] = {
    "change_case:english_capital": lambda text, kwargs: text.upper(),
    "change_case:english_lowercase": lambda text, kwargs: text.lower(),
    "combination:repeat_prompt": lambda text, kwargs: f"{kwargs['prompt_to_repeat'].strip()}\n\n{text}",
    "detectable_format:number_bullet_lists": lambda text, kwargs: _bulleted(text, int(kwargs["num_bullets"])),
    "length_constraints:number_paragraphs": lambda text, kwargs: _divided(text),
    "punctuation:no_comma": lambda text, kwargs: _without_commas(text),
    "punctuation:no_exclamation": lambda text, kwargs: re.sub("!+", ".", text),
    "start:phrase": lambda text, kwargs: _opened(kwargs["phrase"], text),
    "startend:end_checker": lambda text, kwargs: _closed(text, kwargs["end_phrase"]),
    "startend:quotation": lambda text, kwargs: f'"{text}"',
    "xml:enclosing_tag": lambda text, kwargs: f"<{kwargs['tag']}>\n{text}\n</{kwargs['tag']}>",
}
"""The edit of each constraint type that has one."""
