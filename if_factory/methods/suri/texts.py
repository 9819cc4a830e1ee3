"""Suri's texts: read, cut into segments, and those that are not usable left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from if_factory.constraints.compose import compose
from if_factory.inputs.documents import clean, read_texts, segment, text_record, why_not
from if_factory.methods.suri.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped
from if_factory.records import Candidate, Record, content_id


def inputs(path: Path | None, options: Options, limit: int | None) -> Iterator[Record]:
    compose("", Random(0), n=0, include=options.include, exclude=options.exclude)  # unknown names show now
    return (text_record(t, NAME) for t in read_texts(path, column=options.text_column, limit=limit))


async def cut(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """A text, cleaned and in pieces within the window; the response of a given pair stays word for word."""
    if record.prompt:
        return [record]
    pieces, removed = _pieces(record, options)
    record = record.with_extra(removed_lines=dict(sorted(removed.items())))
    return [record.model_copy(update={"id": content_id(record.id, i), "parent": record.id,
                                      "candidates": (Candidate(text=piece, source="human"),)}).with_extra(piece=i)
            for i, piece in enumerate(pieces)]


def _pieces(record: Record, options: Options) -> tuple[list[str], Counter[str]]:
    text = record.candidates[0].text
    if record.prompt:
        return [text], Counter()
    cleaned, removed = clean(text)
    pieces = segment(cleaned, min_words=options.min_words, max_words=options.max_words)
    return pieces[:options.pieces_per_text], removed


async def check(record: Record, ctx: Context, *, options: Options) -> Record:
    if why := _unusable(record, record.candidates[0].text, options):
        raise Dropped(why)
    return record


def _unusable(record: Record, text: str, options: Options) -> str | None:
    """Why a text is not used; the response of a given pair has a form of its own and only its length counts."""
    why = why_not(text, min_words=options.min_words, max_words=options.max_words)
    return why if why in ("too_short", "too_long") or not record.prompt else None
