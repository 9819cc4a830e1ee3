"""What a text's Markdown says, by a CommonMark parser with GitHub's tables (markdown-it-py).

Code is code, whatever stands in it; ``* * *`` is a rule; ``~~~`` opens a fence. Raw HTML is read as text, so
that a list between ``<answer>`` tags is a list, and ``[label]: url`` lines are no more than text. ``•`` is no
Markdown but is read as a bullet where a type says so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from if_factory.constraints.text.normal import later

BULLETS = "*+-•"


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of prose: a paragraph, a heading, one line or paragraph of a list item, or a table cell.

    ``raw`` is its source, without the marks that make it what it is.
    """

    kind: Literal["paragraph", "heading", "item", "cell"]
    raw: str


@dataclass(frozen=True, slots=True)
class Code:
    """A fenced code block; ``closed`` is false where the text ends before its closing fence."""

    language: str
    closed: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Header cells without emphasis marks, and how many rows stand below the header."""

    header: tuple[str, ...]
    rows: int


@dataclass(slots=True)
class Document:
    """The parts of a text, in order. ``items``: the mark (``*``, ``+``, ``-`` or ``•``) and text of each bullet
    point; ``headings``: level and text of each ``#`` heading."""

    blocks: list[Block] = field(default_factory=list)
    items: list[tuple[str, str]] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)
    code: list[Code] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@lru_cache(maxsize=1)
def _parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable(["reference", "inline"])


# A header row and its rule below a line that is no row of a table.
_TABLE = later(r"^([^|\n]*[^|\s][^|\n]*\n)(?=[^\n]*\|[^\n]*\n[ \t]*\|?[ \t]*:?-+:?[ \t|:-]*$)", re.MULTILINE)


@lru_cache(maxsize=64)
def document(text: str) -> Document:
    """The parsed text; treat it as read-only, it is shared. A table needs no blank line before it."""
    if "|" in text:
        text = _TABLE.sub(r"\1\n", text)
    lines, found = text.split("\n"), Document()
    lists: list[str] = []  # of the open list items: "item" in a list, else nothing
    seen: set[int] = set()  # lines whose bullet is counted
    heading: int | None = None
    table: list[tuple[bool, list[str]]] | None = None
    for token in _parser().parse(text):
        kind = token.type
        if kind == "list_item_open":
            lists.append(token.markup)
            # What the line opens with decides: "* 1. a" is a bullet, "1. * a" is none.
            line = lines[token.map[0]].lstrip(" \t>")
            text = line[1:].strip()
            if token.markup in "*+-" and line.startswith(token.markup) and text and token.map[0] not in seen:
                seen.add(token.map[0])
                found.items.append((token.markup, text))
        elif kind == "list_item_close":
            lists.pop()
        elif kind == "heading_open":
            heading = int(token.tag[1])
        elif kind == "heading_close":
            heading = None
        elif kind == "fence":
            last = lines[token.map[1] - 1].strip(" \t>") if token.map[1] <= len(lines) else ""
            closed = token.map[1] - token.map[0] > 1 and last == token.markup[0] * len(last) \
                and len(last) >= len(token.markup)
            found.code.append(Code(token.info.strip().split(" ")[0].lower() if token.info.strip() else "", closed))
        elif kind == "table_open":
            table = []
        elif kind == "tr_open" and table is not None:
            table.append(("|" in lines[token.map[0]] if token.map else True, []))
        elif kind == "table_close" and table:
            head = tuple(re.sub(r"^[*_ ]+|[*_ ]+$", "", cell) for cell in table[0][1])
            found.tables.append(Table(head, sum(piped for piped, _ in table[1:])))
            table = None
        elif kind == "inline":
            raw = token.content
            if table is not None and table:
                table[-1][1].append(raw)
                found.blocks.append(Block("cell", raw))
            elif heading is not None:
                if lines[token.map[0]].lstrip(" \t>-*+0123456789.)").startswith("#") and raw.strip():
                    found.headings.append((heading, raw))
                found.blocks.append(Block("heading", raw))
            else:
                _prose(found, raw, in_list=bool(lists))
    return found


_DOT = later(r"^[ \t]*•[ \t]+(\S.*)$")


def _prose(found: Document, raw: str, *, in_list: bool) -> None:
    """A paragraph, divided where a line opens with ``•``."""
    if "•" not in raw:
        found.blocks.append(Block("item" if in_list else "paragraph", raw))
        return
    kind: Literal["item", "paragraph"] = "item" if in_list else "paragraph"
    part: list[str] = []
    for line in raw.split("\n"):
        if dot := _DOT.match(line):
            if part:
                found.blocks.append(Block(kind, "\n".join(part)))
            found.items.append(("•", dot.group(1).strip()))
            part, kind = [dot.group(1)], "item"
        else:
            part.append(line)
    found.blocks.append(Block(kind, "\n".join(part)))


# Without fences, deep indentation and rules, what lines open with decides; the parser costs fifty times as much.
_NEEDS_PARSER = later(r"```|~~~|^(?: {4}| *\t)|^[ ]{0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,})$", re.MULTILINE)
_BULLET = later(r"^[ ]{0,3}(?:>[ ]?)*([-*+•])[ \t]+(\S.*)$", re.MULTILINE)


def bullets(text: str, marks: str = BULLETS) -> list[str]:
    """The first lines of bullet points that open with one of ``marks``, code and rules (``* * *``) left out."""
    if not any(mark in text for mark in marks):
        return []
    if not _NEEDS_PARSER.search(text):
        return [item.rstrip() for mark, item in _BULLET.findall(text) if mark in marks]
    return [item for mark, item in document(text).items if mark in marks]


_SPAN = later(r"(?<!`)(`++)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LABEL = later(r"^[ ]{0,3}\[([^\[\]\n]+)\]:[ \t]*<?(?:https?://|mailto:|www\.|/|\.)\S*.*$", re.MULTILINE)


def without_spans(raw: str) -> str:
    """A block's source with code spans blanked out and escaped characters (``\\*``) as blanks."""
    if "`" in raw:
        raw = _SPAN.sub(lambda m: " " * len(m.group()), raw) if len(raw) < 20_000 else raw
    return re.sub(r"\\[!-/:-@\[-`{-~]", "  ", raw) if "\\" in raw else raw


def prose(text: str) -> list[str]:
    """The source of every block outside code, with code spans blanked out; tables by cell."""
    if "`" not in text and "~~~" not in text and "\\" not in text and "    " not in text and "\t" not in text:
        return [text]  # no code to leave out
    return [without_spans(block.raw) for block in document(text).blocks]


def placeholders(text: str) -> list[str]:
    """Non-empty texts in square brackets on one line: ``[name]``.

    None are: the text of a link, ``[text](url)`` or ``[text][label]``, footnote and reference marks (``[1]``,
    ``[^a]``, ``[2, 5]``), check boxes (``- [x]``), and whatever stands in code.
    """
    if "[" not in text:
        return []
    labels = {label.lower() for label in _LABEL.findall(text)} if "]:" in text else set()
    found = []
    for block in prose(_LABEL.sub("", text) if labels else text):
        for m in re.finditer(r"\[([^\[\]\n]*)\](?:(\()|\[([^\[\]\n]*)\])?", block):
            inner, link, label = m.group(1).strip(), m.group(2), m.group(3)
            if link or not inner or inner.lower() in labels or (label or inner).lower() in labels:
                continue
            box = inner in "xX" and re.search(r"(?:^|\n)[ \t]*(?:(?:[-*+•]|\d+[.)])[ \t]+)?$", block[:m.start()])
            if not box and not re.fullmatch(r"\^.*|\d+(?:[\s,;–-]+\d+)*", inner):
                found.append(inner)
            if label and label.strip() and not re.fullmatch(r"\d+", label):
                found.append(label.strip())
    return found


_TITLE = later(r"(?<![\w)<])<<(?!<)([^\n<>]*[^\s<>][^\n<>]*)>>(?!>)")


def titles(text: str) -> list[str]:
    """Non-empty texts in double angular brackets, ``<<title>>``, outside code; no shift operators.

    The brackets touch the title on at least one side, or hold the whole line.
    """
    if "<<" not in text:
        return []
    found = []
    for block in prose(text):
        for line in block.split("\n"):
            for m in _TITLE.finditer(line):
                alone = not (line[:m.start()] + line[m.end():]).strip(" \t*_#>\"'“”:")
                if alone or not (m.group(1)[0].isspace() and m.group(1)[-1].isspace()):
                    found.append(m.group(1).strip())
    return found


_MARKED = later(r"\*\*(?=[^\s*])([^*]*[^\s*])\*\*|(?<!\*)\*(?=[^\s*])([^*]*[^\s*])\*(?!\*)")
_BOLD = later(r"(?<!\*)\*\*(?=[^\s*])[^*]*[^\s*]\*\*(?!\*)")


@lru_cache(maxsize=1)
def _inline_parser() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False})


def _emphasis(raw: str, *, bold: bool) -> int:
    """Outermost stretches that CommonMark renders as bold (and, unless ``bold``, as italics), by asterisks."""
    depth = count = 0
    for token in (_inline_parser().parseInline(raw)[0].children or []) if len(raw) < 20_000 else []:
        ours = token.markup == "**" if bold else token.markup in ("*", "**")
        if ours and token.type in ("strong_open", "em_open"):
            count += depth == 0
            depth += 1
        elif ours and token.type in ("strong_close", "em_close"):
            depth -= 1
    return count


def _blocks(text: str) -> list[str]:
    return [block.raw for block in document(text).blocks if "*" in block.raw]


def count_highlights(text: str) -> int:
    """How many stretches are ``*marked*`` or ``**marked**``, outside code; they may run over a line break.

    CommonMark does not see ``**重要。**这`` as bold, a reader does: the larger count of the two readings holds.
    """
    if text.count("*") < 2:
        return 0
    return sum(max(_emphasis(raw, bold=False), len(_MARKED.findall(without_spans(raw)))) for raw in _blocks(text))


def count_bold(text: str) -> int:
    """How many stretches are ``**bold**``, outside code; they may run over a line break."""
    if text.count("**") < 2:
        return 0
    return sum(max(_emphasis(raw, bold=True), len(_BOLD.findall(without_spans(raw)))) for raw in _blocks(text))


# An indented code block has four blanks or a tab before it, behind nothing but the marks of lists and quotations.
_INDENTED = later(r"^[ \t>*+\-\d.)]*?(?: {4}|\t)", re.MULTILINE)


def without_code(text: str) -> str:
    """The lines of a text outside fenced and indented code blocks."""
    if "```" not in text and "~~~" not in text and not _INDENTED.search(text):
        return text
    lines = text.split("\n")
    code = [t.map for t in _parser().parse(text) if t.type in ("fence", "code_block") and t.map]
    for start, end in code:
        lines[start:end] = [""] * (min(end, len(lines)) - start)
    return "\n".join(lines)


def outside_code(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The matches of a pattern that begins with a line and ends within it, in lines outside code blocks."""
    found = list(pattern.finditer(text))
    fences = [at for at in (text.find("```"), text.find("~~~")) if at >= 0]
    if all(m.start() < min(fences, default=len(text)) and not _INDENTED.match(m.group()) for m in found):
        return found  # no need of the parser
    return list(pattern.finditer(without_code(text)))


_FENCE = later(r"(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*(?:\n|(?<=[`~]))(.*?)\n?[ \t]*\1", re.DOTALL)


def strip_code_fence(text: str, *languages: str) -> str:
    """The body of a text that is one fenced Markdown block, else the text; stripped either way.

    With ``languages``, a fence that names another one is not taken off: what it holds claims to be something else.
    """
    text = text.strip()
    fenced = _FENCE.fullmatch(text)
    if fenced is None or (languages and fenced.group(2).lower() not in ("", *languages)):
        return text
    return fenced.group(3).strip()
