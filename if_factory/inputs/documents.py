"""Human-written texts in: read from files, folders, rows or the hub, cleaned, and cut to length.

A document goes through three steps. ``read_texts`` reads it. ``clean`` takes out what does not belong to its prose
(licence headers, page numbers, a bibliography at its end) and counts it. ``segment`` cuts it at the ends of
paragraphs, or of sentences where a paragraph is too long, into pieces within a window of words. ``why_not`` then
says of a piece why it should not be used. Nothing here asks a model.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from if_factory.constraints.text import count_words, has_sentences, paragraphs, sentences
from if_factory.errors import UserError
from if_factory.files import read_rows, read_text
from if_factory.inputs.seeds import builtin
from if_factory.records import Candidate, Record, content_id

HUB = "hub:"
_PLAIN = (".txt", ".md")
_ROWS = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True, slots=True)
class Text:
    """One document. ``source`` names where it came from (file or file:row), ``prompt`` the instruction that it is
    known to answer (else ``""``), ``extra`` is the row's other fields."""

    text: str
    source: str
    title: str = ""
    prompt: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------- reading


def read_texts(path: Path | None, *, column: str = "text", limit: int | None = None) -> Iterator[Text]:
    """The documents of a place, in a stable order, at most ``limit``.

    Args:
        path: ``None`` for the shipped ``texts``; a .txt or .md file (one document); a .jsonl, .json or .parquet
            file of rows; a folder (every such file in it, sorted by path); ``hub:owner/name[@split]``.
        column: the field of a row that holds the text. A row with ``prompt`` and ``response`` instead is a text
            whose instruction is known.

    Raises:
        UserError: nothing there, a row without a text (with its place), or the ``datasets`` library is missing.
    """
    found = 0
    for text in islice(_documents(path or builtin("texts"), column), limit):
        found += 1
        yield text
    if not found:
        raise UserError("no texts here", where=str(path),
                        fix='give .txt or .md files, or rows like {"text": "..."}')


def text_record(text: Text, method: str) -> Record:
    """A document as a record: its text is the only candidate (source ``human``), its prompt is what is known."""
    return Record(id=content_id(text.text, text.prompt), method=method, seed_prompt=text.prompt,
                  prompt=text.prompt, candidates=(Candidate(text=text.text, source="human"),),
                  extra={"text_source": text.source, "title": text.title, "row": text.extra})


def _documents(path: Path, column: str) -> Iterator[Text]:
    if str(path).startswith(HUB):
        name, _, split = str(path).removeprefix(HUB).partition("@")
        yield from _with_datasets(column, name, name, split=split or "train", streaming=True)
    elif path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in _PLAIN + _ROWS):
            yield from _documents(file, column)
    elif path.suffix.lower() in _PLAIN:
        text = read_text(path)
        if not text.strip():
            raise UserError("the file is empty", where=str(path), fix="delete it, or put a text into it")
        yield Text(text, path.name, _title(text))
    elif path.suffix.lower() == ".parquet":
        if not path.is_file():
            raise UserError("no such file", where=str(path), fix="check the path")
        yield from _with_datasets(column, path.name, "parquet", data_files=str(path), split="train")
    else:
        for n, row in read_rows(path):
            yield _row(row, column, f"{path.name}:{n}", f"{path}:{n}")


def _with_datasets(column: str, label: str, name: str, **options: Any) -> Iterator[Text]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError("reading parquet files and the hub needs the `datasets` library", where=label,
                        fix='pip install "if-factory[datasets]"') from None
    try:
        rows = load_dataset(name, **options)
    except Exception as e:  # no network, no such dataset, a broken file: the library has many ways to say so
        raise UserError(f"cannot load: {type(e).__name__}: {e}".splitlines()[0], where=label,
                        fix="check the name, the split and the network") from None
    for n, row in enumerate(rows, 1):
        yield _row(row, column, f"{label}:{n}", f"{label}:{n}")


def _row(row: dict[str, Any], column: str, source: str, where: str) -> Text:
    prompt: Any = ""
    if column not in row and "response" in row:
        column, prompt = "response", row.get("prompt")
        if not isinstance(prompt, str) or not prompt.strip():
            raise UserError("expected a non-empty string", where=f"{where}: field 'prompt'",
                            fix="a row is {text}, or {prompt, response} where the instruction is known")
    text = row.get(column)
    if not isinstance(text, str) or not text.strip():
        strings = [k for k, v in row.items() if isinstance(v, str) and k != column]
        raise UserError("expected a non-empty string" if column in row else "missing",
                        where=f"{where}: field '{column}'",
                        fix=f"name the field that holds the text, e.g. `text_column: {strings[0]}`" if strings else
                        "every row needs its text")
    title = row.get("title")
    rest = {("seed_id" if k == "id" else k): v for k, v in row.items() if k not in (column, "prompt", "title")
            and isinstance(v, str | int | float | bool)}
    return Text(text, source, title if isinstance(title, str) else _title(text), prompt.strip(), rest)


def _title(text: str) -> str:
    """A Markdown heading, or a short first line that is no sentence and has a line to itself."""
    first, _, rest = text.strip().partition("\n")
    line = first.strip().strip("#*_ ").strip()
    alone = first.lstrip().startswith("#") or (rest[:1] == "\n" and not line.endswith((".", "!", "?", ":", ",")))
    return line if line and alone and count_words(line) <= 12 else ""


# ---------------------------------------------------------------- cleaning

_GUTENBERG = (re.compile(r"^\*\*\* ?START OF TH(?:E|IS) PROJECT GUTENBERG.*$", re.MULTILINE | re.IGNORECASE),
              re.compile(r"^\*\*\* ?END OF TH(?:E|IS) PROJECT GUTENBERG.*$", re.MULTILINE | re.IGNORECASE))
_REFERENCES = re.compile(r"^[#*_ \t]*(?:\d+\.?[ \t]*)?(?:references|bibliography|works cited|literature cited|"
                         r"further reading|endnotes|notes)[*_: \t]*$", re.MULTILINE | re.IGNORECASE)
# An entry of a bibliography: a year in brackets or before a stop, pages, a DOI, or "ibid.".
_ENTRY = re.compile(r"\((?:1[5-9]|20)\d\d[a-z]?\)|\b(?:1[5-9]|20)\d\d[a-z]?\.|\bpp?\. ?\d+|\bdoi\b|\bibid\b|"
                    r"\bvol\. ?\d+|\bet al\b|https?://", re.IGNORECASE)
_PAGE = re.compile(r"^[ \t]*[-–—\[(]*[ \t]*(?:page[ \t]+)?\d{1,4}(?:[ \t]*(?:of|/)[ \t]*\d{1,4})?[ \t]*[-–—\])]*"
                   r"[ \t]*$", re.IGNORECASE)
# What only a notice says, and what prose may say too: a line of the second kind goes only if it is short.
_NOTICE = re.compile(
    r"all rights reserved|^(?:copyright|\(c\)|©)\W|terms of (?:use|service)|privacy policy|"
    r"(?:accept|use[sd]?) cookies|no part of this (?:book|publication)|may not be (?:copied|reproduced)|isbn[ :-]|"
    r"produced by .{0,60}proofread", re.IGNORECASE)
_NOTICE_WORDS = ("all rights", "copyright", "(c)", "©", "terms of", "privacy", "cookies", "no part", "may not be",
                 "isbn", "produced by")
_LINK = re.compile(
    r"^(?:subscribe|sign up|click here|share (?:this|on)|follow us|read more|advertisement|table of contents|"
    r"skip to|back to top|related (?:posts|articles)|leave a comment)\b", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\u200b]")


def clean(text: str) -> tuple[str, Counter[str]]:
    """The document without what is not its prose, and how many lines were taken out, by reason.

    Only whole lines go, never words out of a sentence; line breaks inside a paragraph stay as they are. Reasons:
    ``licence`` (around a Project Gutenberg text), ``bibliography`` (a closing section of references),
    ``page_number``, ``boilerplate`` (a notice of at most 60 words such as "All rights reserved", or a line of at
    most 8 that begins like a link: "Read more").
    """
    removed: Counter[str] = Counter()
    text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    begin, end = (pattern.search(text) for pattern in _GUTENBERG)
    if begin and end and begin.end() < end.start():
        removed["licence"] = _count_lines(text[:begin.end()]) + _count_lines(text[end.start():])
        text = text[begin.end():end.start()]
    for heading in _REFERENCES.finditer(text):
        entries = [line for line in text[heading.end():].splitlines() if line.strip()]
        if entries and sum(bool(_ENTRY.search(line)) for line in entries) >= max(2, len(entries) / 2):
            removed["bibliography"] = len(entries) + 1
            text = text[:heading.start()]
            break
    kept = []
    for line in text.split("\n"):
        reason = "page_number" if line.strip() and _PAGE.match(line) else \
                 "boilerplate" if _is_boilerplate(line.strip()) else ""
        if reason:
            removed[reason] += 1
        else:
            kept.append(line.rstrip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip(), removed


def _is_boilerplate(line: str) -> bool:
    small = line.lower()  # one of the words is looked for first: the pattern takes fifty times as long
    if any(map(small.__contains__, _NOTICE_WORDS)) and _NOTICE.search(line):
        return count_words(line) <= 60
    return _LINK.match(line) is not None and count_words(line) <= 8


def _count_lines(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


# ---------------------------------------------------------------- cutting


def segment(text: str, *, min_words: int, max_words: int) -> list[str]:
    """The text as pieces of at most ``max_words`` words, of about equal length, in order.

    Cut between paragraphs; a paragraph of more than ``max_words`` words is cut between its sentences. A single
    sentence longer than that stays whole, for ``why_not`` to turn away. A text of at most ``max_words`` is one
    piece, as it is. Where the paragraphs do not come out even, the last piece may have fewer than ``min_words``.
    """
    total = count_words(text)
    if total <= max_words:
        return [text]
    target = max(min_words, -(-total // -(-total // max_words)))  # equal shares of the fewest pieces
    blocks: list[tuple[str, str]] = []  # (separator before it, block)
    for paragraph in paragraphs(text):
        if count_words(paragraph) <= max_words:
            blocks.append(("\n\n", paragraph))
        else:
            blocks += [(" " if i else "\n\n", s) for i, s in enumerate(sentences(paragraph))]
    pieces: list[str] = []
    size = 0
    for separator, block in blocks:
        words = count_words(block)
        if not pieces or size + words > max_words or size + words / 2 > target:
            pieces.append(block)
            size = words
        else:
            pieces[-1] += separator + block
            size += words
    return pieces


# ---------------------------------------------------------------- turning away

_ENDS = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*$")


def why_not(text: str, *, min_words: int, max_words: int) -> str | None:
    """Why a piece should not be used, or ``None``: ``too_short``, ``too_long``, ``garbled`` (undecodable
    characters), ``bibliography`` (half of its lines are references), ``not_prose`` (tables, code, numbers: under
    60 % letters, or hardly any sentence), ``repetitive`` (half of its lines are copies) or ``no_end`` (it stops in
    the middle of a sentence)."""
    words = count_words(text)
    if words < min_words:
        return "too_short"
    if words > max_words:
        return "too_long"
    if text.count("\ufffd") > len(text) / 1000:
        return "garbled"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 3 and sum(bool(_ENTRY.search(line)) for line in lines) > len(lines) / 2:
        return "bibliography"
    solid = "".join(text.split())
    if sum(map(str.isalpha, solid)) < 0.6 * len(solid) or not has_sentences(text, -(-words // 100)):
        return "not_prose"
    if len(lines) > 3 and len(set(lines)) <= len(lines) / 2:
        return "repetitive"
    return None if _ENDS.search(text.strip()) else "no_end"
