"""Lists as models write them: bullets, numbers, letters, JSON, pairs with an arrow, a heading and its items.

As in ``parse.py``, every parser returns a value or a ``Failure`` and never raises on a text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, RootModel

from if_factory.chat.parse import Failure, parse_json, was_cut
from if_factory.chat.thinking import strip_thinking

_MARK = re.compile(r"^(?P<indent>[ \t]*)(?:[-*+•‣◦▪●–—][ \t]+|(?:\(?\d{1,3}[.):]\)?|\(?[a-zA-Z][.)])[ \t]+|"
                   r"\*\*(?:constraint[ \t]*)?\d{1,3}[.):]?\*\*[.:]?[ \t]+|"
                   r"(?:constraint|requirement|rule|item)[ \t]*#?\d{1,3}[ \t]*[.:)–-][ \t]*)", re.IGNORECASE)
_LABEL = re.compile(r"^\**(?:constraint|requirement|rule|item)[ \t]*#?\d{1,3}[ \t]*\**[.:)–-]+\**[ \t]*",
                    re.IGNORECASE)
_ARROW = re.compile(r"[ \t]*(?:-{1,2}>|=>|→|➔|➜|➡️?|⟶|⇒)[ \t]*")
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "`": "`"}


def parse_items(text: str) -> list[str]:
    """The items of a list: a JSON list of strings, or lines that open with a bullet, a number or a letter.

    A line without a mark that follows an item at once goes on with it; a list inside an item too. If no line has a
    mark, every line is an item, but for headings (lines that end in a colon). ``[]`` if there is none. The last
    item of a text that the token limit cut is left out.
    """
    text = strip_thinking(text)
    listed = _json_list(text)
    if listed is not None and all(isinstance(item, str) for item in listed):
        return [item for item in map(_bare, listed) if item]
    if was_cut():
        if text.lstrip("`json \n")[:1] in ("[", "{"):  # JSON without its end: its lines are no items
            return []
        text = _without_last(text)
    lines = [line.rstrip() for line in text.splitlines() if not line.strip().startswith("```")]
    marks = [(i, m) for i, line in enumerate(lines) if (m := _MARK.match(line))]
    if not marks:
        return [item for line in lines if not line.rstrip("*_ ").endswith(":") and (item := _bare(line))]
    indents = [len(m["indent"].expandtabs(4)) for _, m in marks]
    outermost = min(indents[1:] or indents)  # the text's first line may have lost its indent
    starts = {i: m.end() for (i, m), indent in zip(marks, indents, strict=True) if indent <= outermost + 1}
    items: list[str] = []
    follows = False
    for i, line in enumerate(lines):
        if i in starts:
            items.append(line[starts[i]:])
            follows = True
        elif not line.strip():
            follows = False
        elif items and (follows or line[:1] in " \t"):
            items[-1] += " " + _MARK.sub("", line).strip()
    return [item for item in map(_bare, items) if item]


def _without_last(text: str) -> str:
    """Without the last item, or the last line where no line has a mark."""
    lines = text.splitlines()
    marked = [i for i, line in enumerate(lines) if _MARK.match(line)]
    return "\n".join(lines[:marked[-1] if marked else -1])


def parse_pairs(text: str, originals: Sequence[str]) -> list[str] | Failure:
    """One rewrite for each of ``originals``, by position, from what a model wrote about them.

    Read are: a JSON list of n strings; a JSON list of objects that name a rewrite (``modified``, ``rewritten``...)
    and perhaps the original or its number; lines ``original -> modified``, in any order; a list of n lines. Where
    an original is named, it decides the place and must be one of ours, as a model may shorten it a little.

    Reasons: ``count_mismatch`` (not one rewrite for every original), ``unknown_original``.
    """
    sides = _json_sides(text)
    if sides is None:
        items = parse_items(text)
        arrows = [item for item in items if _ARROW.search(item)]
        sides = [_split(item, originals) for item in arrows] if arrows else [("", item) for item in items]
    if len(sides) != len(originals):
        return Failure("count_mismatch", f"{len(sides)} rewrites for {len(originals)} constraints")
    found: dict[int, str] = {}
    for i, (named, modified) in enumerate(sides):
        at = _place(named, originals, set(found)) if named else i
        if at is None:
            return Failure("unknown_original", named[:80])
        if at in found:
            return Failure("count_mismatch", f"constraint {at + 1} has two rewrites")
        found[at] = modified
    return [found[i] for i in range(len(originals))]


def _sentences(value: Any) -> Any:
    """Constraints as strings: also from objects that hold one each, or from one string with a list in it."""
    if isinstance(value, str):
        return parse_items(value)
    if isinstance(value, list):
        return [next((v for v in item.values() if isinstance(v, str)), "") if isinstance(item, dict) else item
                for item in value]
    return value


class Instructions(BaseModel):
    """What a text could have been written for: one main instruction, and constraints on top."""

    main_instruction: str = ""
    constraints: Annotated[list[str], BeforeValidator(_sentences)]


_HEADING = re.compile(r"^[#*_\s\d.]*(?P<what>main instruction|constraints?)[*_\s]*(?:[:\-–][*_\s]*(?P<rest>.*))?$",
                      re.IGNORECASE)


def parse_instructions(text: str, *, main: str = "") -> Instructions | Failure:
    """A main instruction and constraints: JSON, or a heading for each with a list under the second.

    ``main`` is the main instruction where it is known; then a list alone is enough.
    Reasons: ``no_main_instruction``, ``no_constraints``.
    """
    text = strip_thinking(text)
    found = parse_json(text, Instructions)
    if isinstance(found, Failure):
        parts: dict[str, list[str]] = {"": []}
        at = ""
        for line in text.splitlines():
            if heading := _HEADING.match(line.strip()):
                at = "main" if heading["what"].lower().startswith("main") else "constraints"
                parts.setdefault(at, []).append(heading["rest"] or "")
            else:
                parts[at].append(line)
        listed = parts.get("constraints", parts[""] if main else [])
        found = Instructions(main_instruction=" ".join(parts.get("main", [])),
                             constraints=parse_items("\n".join(listed)))
    said = main or " ".join(found.main_instruction.split()).strip("*_\"' ")
    constraints = list(dict.fromkeys(" ".join(c.split()) for c in found.constraints if len(c.split()) > 1))
    if not said or not constraints:
        return Failure("no_constraints" if said else "no_main_instruction")
    return Instructions(main_instruction=said, constraints=constraints)


class _Value(RootModel[Any]):
    pass


_REWRITE = ("modified", "rewritten", "rewrite", "corrupted", "violation", "violated", "new", "after", "text")
_NAMED = ("original", "constraint", "before", "number", "id", "index")


def _json_list(text: str) -> list[Any] | None:
    """The list in a JSON reply, bare or as the only list of an object; ``None`` if there is no such thing."""
    if "[" not in text and "{" not in text:
        return None
    value = parse_json(text, _Value)
    data = None if isinstance(value, Failure) else value.root
    if isinstance(data, dict):
        lists = [v for v in data.values() if isinstance(v, list)]
        data = lists[0] if len(lists) == 1 else None
    return data if isinstance(data, list) and data else None


def _json_sides(text: str) -> list[tuple[str, str]] | None:
    listed = _json_list(strip_thinking(text))
    if listed is None:
        return None
    if all(isinstance(item, str) for item in listed):
        return [tuple(_bare(side) for side in _ARROW.split(item, maxsplit=1)) if _ARROW.search(item)  # type: ignore[misc]
                else ("", _bare(item)) for item in listed]
    sides = []
    for item in listed:
        if not isinstance(item, dict):
            return None
        modified = next((item[k] for k in _REWRITE if isinstance(item.get(k), str)), None)
        named = next((item[k] for k in _NAMED if isinstance(item.get(k), str | int)), "")
        if modified is None:
            return None
        sides.append((str(named), _bare(modified)))
    return sides


def _split(item: str, originals: Sequence[str]) -> tuple[str, str]:
    """The arrow that divides best: an original may hold one itself."""
    cuts = [(_bare(item[:m.start()]), _bare(item[m.end():])) for m in _ARROW.finditer(item)]
    return max(cuts, key=lambda cut: max((_alike(cut[0], o) for o in originals), default=0.0))


def _place(named: str, originals: Sequence[str], taken: set[int]) -> int | None:
    """Which original is named, by number or by its text."""
    if number := re.fullmatch(r"\D{0,14}(\d{1,3})\W*", named):
        n = int(number[1])
        if 1 <= n <= len(originals) and named not in originals:
            return n - 1
    scores = [(_alike(named, o), i not in taken, -i) for i, o in enumerate(originals)]
    score, _, at = max(scores)
    return -at if score >= 0.6 else None


def _alike(a: str, b: str) -> float:
    left, right = (" ".join(re.findall(r"\w+", text.casefold())) for text in (a, b))
    return 1.0 if left == right else SequenceMatcher(None, left, right, autojunk=False).ratio()


def _bare(text: str) -> str:
    """Without white space, labels (``Constraint 3:``), bold marks and quotation marks around the whole."""
    text = _LABEL.sub("", " ".join(text.split()))
    for pair in ("**", "__"):
        if text.startswith(pair) and text.endswith(pair) and len(text) > 4:
            text = text[2:-2].strip()
    if len(text) > 2 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
