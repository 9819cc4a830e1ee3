"""Checked examples as LLaMA-Factory files, alpaca or sharegpt, with their provenance in a file beside them.

Every row of a file has the same keys with the same types, because the file becomes one Arrow table. What made
a row (constraints, violated ones, sources, models) is not in it but in ``<name>.provenance.jsonl``, line for
line; dataset_info.json does not name that file, so LLaMA-Factory never reads it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from random import Random
from typing import IO, Any

from if_factory.errors import UserError
from if_factory.exporting import loading
from if_factory.exporting.acceptance import KTO_BATCH, Problem, check_pieces
from if_factory.exporting.dataset_info import dataset_entry
from if_factory.exporting.loading import Piece, schema_type
from if_factory.exporting.rows import UNREGISTERED, Format, Rows
from if_factory.exporting.v1 import v1_dataset
from if_factory.files import atomic_file, write_atomic
from if_factory.parquet import ENDING, TableWriter
from if_factory.records import Example, content_id_of_list

__all__ = ["Format", "Written", "data_path", "order_apart", "provenance_path", "write_dataset", "write_rows"]


@dataclass(slots=True)
class Written:
    """One dataset on disk. ``entry`` belongs into dataset_info.json; ``accepted`` of ``written`` rows pass
    LLaMA-Factory's rules, and ``problems`` says what it would do with the others."""

    name: str
    path: Path
    entry: dict[str, Any]
    written: int
    accepted: int
    problems: list[Problem] = field(default_factory=list)

    @property
    def provenance(self) -> Path:
        return provenance_path(self.path)


def data_path(name: str, folder: Path, *, as_parquet: bool = False) -> Path:
    return folder / (name + (ENDING if as_parquet else ".jsonl"))


def provenance_path(data: Path) -> Path:
    """The sidecar of a data file: ``x.jsonl`` or ``x.parquet`` -> ``x.provenance.jsonl``."""
    return data.with_name(f"{data.stem}.provenance.jsonl")


def write_dataset(name: str, examples: Iterable[Example], folder: Path, fmt: Format = "sharegpt", *,
                  as_parquet: bool = False, every_answer: bool = False) -> Written:
    """``write_rows`` of examples in memory; ``every_answer`` as in ``Rows``."""
    rows = Rows(fmt, every_answer=every_answer)
    for example in examples:
        rows.append(example)
    return write_rows(name, rows, range(len(rows)), folder, as_parquet=as_parquet)


def write_rows(name: str, rows: Rows, places: Sequence[int], folder: Path, *, as_parquet: bool = False) -> Written:
    """Check the rows at ``places`` against LLaMA-Factory's rules and write ``<name>.jsonl`` (or ``.parquet``) and its
    provenance.

    Returns the entry for ``merge_entries``. Rows are written in the order given, with two exceptions: KTO rows
    that share an answer are moved apart (``order_apart``), and in an alpaca file of more than 10 MB a row with a
    history comes first if the first 10 MB would have none (``_typed_first``). They are read, checked and written
    piece by piece: memory does not grow with their number.

    ``trl`` and ``v1`` rows have no entry and are written in the order given; ``v1`` has a ``<name>.yaml`` for its
    ``train_dataset``.

    Raises:
        UserError: no examples, LLaMA-Factory would refuse the whole file, or pyarrow is missing; nothing is then
            written.
    """
    path = data_path(name, folder, as_parquet=as_parquet)
    if not places:
        raise UserError("there are no examples to write", where=str(path),
                        fix="look at the run's ledger: it says where the records went")
    kind = rows.kind
    order: Iterable[int] = places
    if kind == "kto" and rows.format not in UNREGISTERED:
        mixed = order_apart(rows.answers(places), partial(rows.record_ids, places))
        order = places = array("I", map(places.__getitem__, mixed))
    if rows.format == "alpaca":
        order = _typed_first(rows, places)
    written = Written(name, path, {}, len(places), len(places))
    # The provenance takes its place first, as a reader of the data looks for it.
    with atomic_file(path) as data, atomic_file(provenance_path(path)) as provenance:
        table = TableWriter(data, str(path)) if as_parquet else None
        pieces = _written(rows, order, data, provenance, table)
        if rows.format != "trl" and rows.format != "v1":  # spelled out for mypy: the entry takes two formats
            written.entry = dataset_entry(path.name, rows.format, kind)
            report = check_pieces(lambda: pieces, written.entry, name=name)
            if report.fails:
                raise UserError(f"LLaMA-Factory would refuse this dataset: {report.fails[0]}", where=str(path))
            written.accepted, written.problems = report.accepted, report.problems
        else:
            for _ in pieces:
                pass
    if rows.format == "v1":
        write_atomic(path.with_suffix(".yaml"), v1_dataset(name, path))
    return written


def _written(rows: Rows, order: Iterable[int], data: IO[bytes], provenance: IO[bytes], table: TableWriter | None
             ) -> Iterator[Piece]:
    """Write rows as they are asked for, in the pieces that the loader will type together, or into a table."""
    def piece() -> Piece:
        if table is None:
            return Piece(held, "lines", first)
        return Piece(held, "python", first, schema_type(table.write(held)))

    held: list[Any] = []
    length, first = 0, 1
    for n, place in enumerate(order, 1):
        line, about = rows.lines(place, n)
        if table is None:
            data.write(line)
        provenance.write(about)
        held.append(json.loads(line))
        length += len(line)
        if length > loading.PIECE:  # the loader reads so many bytes and then to the end of the line
            yield piece()
            held, length, first = [], 0, n + 1
    if held:
        yield piece()
    if table is not None:
        table.close()


def _typed_first(rows: Rows, order: Sequence[int]) -> Iterable[int]:
    """The first row with a history in front, where else the first 10 MB of an alpaca file would have none.

    The loader types a .jsonl file in pieces of 10 MB and takes the types of the first: ``history: []`` throughout
    it is a list of nothing, and a history in a later piece is then refused with the whole file.
    """
    found = next((i for i, place in enumerate(order) if rows.has_history(place)), 0)
    length = 0
    for place in order[:found]:
        length += len(rows.lines(place)[0])
        if length > loading.PIECE:
            break
    else:  # it is in the first piece, or there is none
        return order
    return chain([order[found]], (order[i] for i in range(len(order)) if i != found))


def order_apart(answers: Sequence[object], record_ids: Callable[[], Iterable[str]], batch: int = KTO_BATCH
                ) -> Sequence[int]:
    """Places of KTO rows, from 0, in an order in which no row follows one with the same answer.

    LLaMA-Factory takes for a row's KL term the answer of the row before it (for the first of ``batch`` rows, the
    last): meant as a mismatched pair, which twins (x_w, y, true) and (x_l, y, false) side by side would make a
    matched one (0.9.5, ``data/processor/feedback.py``). Where two rows are such neighbours all are shuffled,
    seeded by their ids, and those that still touch are swapped away; if most rows share one answer some remain.
    """
    order: Sequence[int] = range(len(answers))

    def touches(i: int) -> bool:
        """Whether row ``i`` or the row after it follows its own answer."""
        first = i // batch * batch
        last = min(first + batch, len(order)) - 1
        before, after = (i - 1 if i > first else last), (i + 1 if i < last else first)
        return answers[order[i]] in (answers[order[before]], answers[order[after]]) and last > first

    if not any(map(touches, range(len(order)))):
        return order
    rng = Random(content_id_of_list(record_ids()))
    order = mixed = array("I", rng.sample(range(len(order)), len(order)))
    for i in range(len(order)):
        if not touches(i):
            continue
        for j in rng.sample(range(len(order)), len(order)):
            mixed[i], mixed[j] = mixed[j], mixed[i]
            if not (touches(i) or touches(j)):
                break
            mixed[i], mixed[j] = mixed[j], mixed[i]
    return order
