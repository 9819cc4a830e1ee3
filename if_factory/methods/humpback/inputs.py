"""Humpback's inputs: seed pairs, and the unlabelled texts in segments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.inputs.documents import clean, read_texts, segment, text_record
from if_factory.inputs.seeds import builtin
from if_factory.methods.humpback.options import NAME, Options
from if_factory.records import Candidate, Record, content_id


def inputs(path: Path | None, options: Options, limit: int | None) -> Iterator[Record]:
    """The seed pairs, then the unlabelled texts, cleaned and cut; ``limit`` counts texts.

    ``extra["form"]`` is ``seed`` or ``text``. A text's record has it as its only candidate and no prompt yet.
    """
    yield from read_pairs(None if options.pairs == "builtin" else Path(options.pairs))
    window = {"min_words": options.min_chars // 6, "max_words": max(1, options.max_chars // 6)}
    found = 0
    for text in read_texts(path, column=options.text_column):
        for piece in segment(clean(text.text)[0], **window):
            if found == limit:
                return
            record = text_record(replace(text, text=piece, prompt=""), NAME)
            yield record.model_copy(update={"id": content_id(piece)}).with_extra(form="text")
            found += 1


def read_pairs(path: Path | None) -> list[Record]:
    """Seed pairs as finished records; ``None`` reads the shipped ones.

    Raises:
        UserError: a row without a prompt or a response.
    """
    path = path or builtin("pairs")
    records = []
    for n, row in read_rows(path):
        for field in ("prompt", "response"):
            if not isinstance(row.get(field), str) or not row[field].strip():
                raise UserError("expected a non-empty string", where=f"{path}:{n}: field '{field}'",
                                fix='a seed pair is {"prompt": "...", "response": "..."}')
        prompt, response = row["prompt"].strip(), row["response"].strip()
        record = Record.from_seed(prompt, method=NAME, extra={"form": "seed"}).model_copy(
            update={"id": content_id("pair", prompt, response)})  # a prompt may have several good responses
        records.append(record.with_candidates(Candidate(text=response, source="human")))
    if not records:
        raise UserError("no seed pairs: the file has no rows", where=str(path))
    return records
