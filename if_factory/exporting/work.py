"""The converter and the processor, row by row: shards, batches, and what becomes of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from if_factory.exporting import arrow, rules
from if_factory.exporting.batches import ConverterTypes, types_agree
from if_factory.exporting.calls import call_problem
from if_factory.exporting.loading import Piece
from if_factory.exporting.remarks import dataset_remarks, remarks, text_remarks
from if_factory.exporting.report import CheckReport, LoaderOptions
from if_factory.exporting.rules import Fails, Shape
from if_factory.exporting.templates import PLAIN, templates


class Work:
    """The converter and the processor: shard by shard, batch by batch."""

    def __init__(self, shape: Shape, report: CheckReport, options: LoaderOptions, bounds: list[range] | None
                 ) -> None:
        self.shape, self.report, self.options, self.bounds = shape, report, options, bounds
        self.facts = templates().get(options.template or "", PLAIN)
        self.types = ConverterTypes()
        self.shard_types: list[arrow.Type] = []
        self.shard = 0  # the number of shards that ended; one whose rows all fail has no type
        self.batch: list[tuple[int, rules.Turns | None, dict[str, Any]]] = []
        self.at = 0  # rows seen
        self.in_shard = 0
        self.empty: list[int] = []  # first rows of batches of this shard in which no row was left
        self.batches = 0
        self.labels: set[bool] = set()
        self.thinks = 0
        self.counted = 0  # rows of the batch that need no look
        self.gaps: set[int] = set()  # places in ``batch`` before which such rows stand

    def feed(self, piece: Piece, loaded: Callable[[int], dict[str, Any]], odd: set[int] | None,
             taken: range | None) -> None:
        """The rows of a piece; ``loaded`` gives one, from 0. All but the ``odd`` ones are ordinary
        (``plain.odd_rows``); ``None``: none is known to be."""
        if odd is None:
            for i in range(len(piece.rows)):
                if taken is None or piece.first_row - 1 + i in taken:
                    self.row(loaded(i), piece.first_row + i)
            return
        at = 0
        for i in sorted(odd):
            self._ordinary(piece, loaded, at, i)
            self.row(loaded(i), piece.first_row + i)
            at = i + 1
        self._ordinary(piece, loaded, at, len(piece.rows))

    def _ordinary(self, piece: Piece, loaded: Callable[[int], dict[str, Any]], start: int, stop: int) -> None:
        """Count ordinary rows: all of them are trained, and of their types only a null system prompt can differ."""
        system, kto = self.shape.columns["system"], self.report.stage == "kto"
        while start < stop:
            left = self.options.batch - len(self.batch) - self.counted
            if self.bounds:
                left = min(left, self.bounds[self.shard].stop - self.at)
            # KTO's first row of a batch takes the answer of its last one: both are looked at
            if kto and (left == 1 or not (self.batch or self.counted)):
                self.row(loaded(start), piece.first_row + start)
                start += 1
                continue
            some = min(stop - start, left - kto, self.types.room)
            rows = piece.rows[start:start + some]
            self.types.add_texts(some, system is None or any(row.get(system) is not None for row in rows),
                                 piece.first_row + start + some - 1)
            if self.facts.thinks:
                self.thinks += sum("<think>" not in self._answer(row) for row in rows)
            if kto and len(self.labels) < 2:
                self.labels.update(row[self.shape.columns["kto_tag"]] for row in rows)
            self.gaps.add(len(self.batch))
            self.counted += some
            self.report.rows += some
            start += some
            self._advance(some)

    def _answer(self, row: dict[str, Any]) -> str:
        """The last text of an ordinary row that is trained."""
        content, columns = self.shape.tags["content_tag"], self.shape.columns
        answer = row[columns["rejected"]] if self.report.stage == "dpo" else row[
            columns["response" if self.shape.formatting == "alpaca" else "messages"]]
        answer = answer[-1] if isinstance(answer, list) else answer
        return str(answer[content] if isinstance(answer, dict) else answer)

    def row(self, row: dict[str, Any], n: int) -> None:
        """One loaded row; ``n`` is its number in the file."""
        self.report.rows += 1
        t: rules.Turns | None = None
        try:
            t = rules.convert(row, self.shape)
            self.types.add(t, n)
        except Fails as e:
            self.report.add(n, e.field, e.reason, "fails")
        except arrow.Unloadable as e:
            self.report.add(e.row, e.field, e.reason, "fails")
        self.batch.append((n, t, row))
        self._advance(1)

    def _advance(self, rows: int) -> None:
        self.at += rows
        self.in_shard += rows
        if self.bounds and self.at >= self.bounds[self.shard].stop:
            self._end_shard()
        elif len(self.batch) + self.counted >= self.options.batch:
            self._end_batch()

    def finish(self) -> None:
        if self.in_shard:
            self._end_shard()
        if self.report.rows and self.shard_types and (name := types_agree(self.shard_types)):
            self.report.add(None, name, f"has another type in one of the {len(self.shard_types)} shards "
                            "(preprocessing_num_workers): in one all rows are dropped or have none of it", "fails")
        if self.report.stage == "kto" and len(self.labels) == 1:
            self.report.add(None, str(self.shape.columns["kto_tag"]), "all labels are the same; KTO needs "
                            "desirable and undesirable rows", "kept")
        self.report.problems += dataset_remarks(self.facts, self.thinks)

    def _end_shard(self) -> None:
        if self.batch or self.counted:
            self._end_batch()
        try:
            self.types.flush(self.at)
        except arrow.Unloadable as e:
            self.report.add(e.row, e.field, e.reason, "fails")
        if self.types.first is not None:
            self.shard_types.append(self.types.first)
        if self.empty and self.batches > 1 and self.report.stage != "kto":  # its processor returns an empty column
            self.report.add(None, "", f"every row of the batch that begins with row {self.empty[0]} is dropped; "
                            f"LLaMA-Factory works in batches of {self.options.batch} and raises \"Schema and "
                            "number of arrays unequal\": remove the bad rows or mix them among good ones", "fails")
        self.types, self.empty, self.batches, self.in_shard = ConverterTypes(), [], 0, 0
        self.shard += 1

    def _end_batch(self) -> None:
        left, self.counted = self.counted, 0
        for i in range(len(self.batch)):
            left += self._processed(i)
        self.batches += 1
        if not left:
            self.empty.append(self.batch[0][0])
        self.report.accepted += left
        self.batch, self.gaps = [], set()

    def _processed(self, i: int) -> bool:
        """Whether the processor keeps row ``i`` of the batch."""
        n, t, row = self.batch[i]
        if t is None:
            return False
        report, shape = self.report, self.shape
        try:
            turns = rules.trained_turns(t, report.stage)
            if turns is not None:
                rules.tokenise(turns, t, row, shape, self.facts)
                if report.stage == "iorpo" and (why_not := rules.no_triple(t, row, shape)):
                    turns, t.notes = None, [why_not]
        except Fails as e:
            report.add(n, e.field, e.reason, "fails")
            return False
        if turns is None:
            for where, why in t.notes or [(str(shape.columns["messages"] or ""), "not a row of this stage")]:
                report.add(n, where, why, "dropped")
            return False
        said = [*t.notes, *remarks(t, row, shape, report.stage), *text_remarks(t, row, shape, self.facts)]
        for where, why in said:
            report.add(n, where, why, "kept")
        if self.facts.thinks and "<think>" not in str(turns[-1][1]):
            self.thinks += 1
        if report.stage == "kto":
            self.labels.add(bool(t.response[0][1]))
            self._kl_answer(i)
        return True

    def _kl_answer(self, i: int) -> None:
        """KTO takes the answer of the row before (of the batch's last row for its first) without looking at it."""
        if i in self.gaps:
            return  # an ordinary row, whose answer is another text
        n, t, _ = self.batch[i]
        before, other, _ = self.batch[i - 1]
        if other is None or t is None:
            return
        answer, label = other.response, str(self.shape.columns["kto_tag"])
        needs = f"and row {n} needs it for the KL term"
        if not answer or (not answer[0][1] and len(answer) == 1):
            self.report.add(before, label, f"has no answer, {needs}", "fails")
            return
        role, text = answer[0] if answer[0][1] else answer[1]
        if not isinstance(text, str):
            self.report.add(before, label, f"has the answer {text!r:.40}, {needs}", "fails")
        elif role == "function" and (why := call_problem(text, self.facts)):
            self.report.add(before, label, f"{why}, {needs}", "fails")
        elif before != n and _said(answer) == _said(t.response):
            self.report.add(n, label, "the KL term takes the answer of the row before, and it is this row's own "
                            "text: shuffle the rows", "kept")


def _said(response: Iterable[tuple[str, Any]]) -> list[Any]:
    return [text for _, text in response if text]
