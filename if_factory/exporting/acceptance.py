"""`if-factory check`: which rows of a dataset LLaMA-Factory will train, which it drops, and why.

LLaMA-Factory drops a bad row with a warning lost among thousands of lines, and some mistakes in
dataset_info.json make it drop every row or train the wrong text. Here the same rules (``rules.py``,
``arrow.py``, ``batches.py``) are applied without LLaMA-Factory, and every verdict names row, field and reason.
A file is read in pieces of 10 MB, so memory does not grow with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from if_factory.errors import UserError
from if_factory.exporting import arrow, rules
from if_factory.exporting.batches import ConverterTypes, shards, types_agree
from if_factory.exporting.dataset_info import FILE_NAME, read_entries
from if_factory.exporting.entry import REMOTE, Problem, entry_problems, maps_only
from if_factory.exporting.loading import PIECE, Piece, Unreadable, read_pieces, split_rows
from if_factory.exporting.plain import plain_piece
from if_factory.exporting.remarks import dataset_remarks, remarks, text_remarks
from if_factory.exporting.rules import Effect, Fails, Shape, Stage
from if_factory.exporting.templates import PLAIN, template_problem, templates
from if_factory.files import dump_json

__all__ = ["KTO_BATCH", "CheckReport", "Problem", "check_dataset", "check_rows", "local_names"]
IORPO_NOTE = ("stage iorpo comes with if-factory[train]; stock LLaMA-Factory trains the responses on the true "
              "instructions in stage sft and refuses the dataset in stage dpo")
KTO_BATCH = 1000  # preprocessing_batch_size: KTO pairs each row with the answer of the row before it in its batch


@dataclass(slots=True)
class CheckReport:
    """``accepted`` of ``rows`` will be trained in ``stage``; 0 if anything ``fails``.

    ``unread``: the file could not be looked at here (a library is missing), which says nothing about it.
    """

    name: str
    stage: Stage
    rows: int = 0
    accepted: int = 0
    problems: list[Problem] = field(default_factory=list)
    unread: bool = False

    @property
    def note(self) -> str:
        """What to know about the stage itself; empty for LLaMA-Factory's own stages."""
        return IORPO_NOTE if self.stage == "iorpo" else ""

    @property
    def ok(self) -> bool:
        """Every row is trained. Rows that are kept with a remark do not change that, nor does an unread file."""
        return self.unread or (self.rows > 0 and self.accepted == self.rows and not self.fails)

    @property
    def fails(self) -> list[Problem]:
        return [p for p in self.problems if p.effect == "fails"]

    def summary(self, most: int = 5) -> list[str]:
        """One line on the counts, then one line per kind of problem with its first rows."""
        kinds: dict[tuple[Effect, str, str], list[int | None]] = {}
        for p in self.problems:
            kinds.setdefault((p.effect, p.field, p.reason), []).append(p.row)
        lines = [f"{self.name} ({self.stage}): {self.rows} rows, {self.accepted} accepted"]
        for (effect, name, reason), places in sorted(kinds.items(), key=lambda kv: kv[0]):
            numbers = [str(r) for r in places if r]
            more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
            where = f"row {', '.join(numbers[:most])}{more}: " if numbers else ""
            what = f"field '{name}': " if name else ""
            lines.append(f"  {effect}: {where}{what}{reason}")
        return lines

    def add(self, row: int | None, where: str, reason: str, effect: Effect) -> None:
        self.problems.append(Problem(row, where, reason, effect))


@dataclass(frozen=True, slots=True)
class LoaderOptions:
    """What of a training YAML decides which rows arrive: ``preprocessing_num_workers``,
    ``preprocessing_batch_size``, ``max_samples`` and ``template``. ``piece`` is the loader's own (bytes)."""

    workers: int = 1
    batch: int = KTO_BATCH
    max_samples: int | None = None
    template: str | None = None
    piece: int = PIECE


def local_names(dataset_dir: Path) -> list[str]:
    """The datasets of ``dataset_dir`` that are local files, in the order of dataset_info.json."""
    return [n for n, e in read_entries(dataset_dir / FILE_NAME).items()
            if isinstance(e, dict) and "file_name" in e and not any(k in e for k in REMOTE)]


def local_entry(dataset_dir: Path, name: str) -> dict[str, Any]:
    """The entry ``name`` of ``dataset_dir/dataset_info.json``.

    Raises:
        UserError: dataset_info.json is missing or broken, or does not have the entry, or the entry names no
            local file (a hub dataset).
    """
    info = dataset_dir / FILE_NAME
    entries = read_entries(info)
    if name not in entries:
        near = get_close_matches(name, entries, n=1)
        raise UserError(f"no dataset '{name}'", where=str(info),
                        fix=f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(entries) or 'none'}")
    entry = entries[name]
    where = f"{info}: '{name}'"
    if not isinstance(entry, dict):
        raise UserError(f"the entry is {type(entry).__name__}, not an object", where=where)
    remote = [k for k in REMOTE if k in entry]
    if remote or "file_name" not in entry:
        raise UserError(f"not a local file: it has '{remote[0]}'" if remote else "the entry has no 'file_name'",
                        where=where, fix="download the dataset and register the file under 'file_name'")
    return entry


def check_dataset(dataset_dir: Path, name: str, *, stage: Stage | None = None, template: str | None = None,
                  options: LoaderOptions | None = None, say: Callable[[int], None] | None = None) -> CheckReport:
    """Apply LLaMA-Factory's acceptance rules to the dataset ``name`` of ``dataset_dir/dataset_info.json``.

    ``stage`` is the stage it shall be used in; by default the one the entry describes. ``say`` is told the number
    of rows read so far after each piece of the file.

    Raises:
        UserError: as ``local_entry``.
    """
    entry = local_entry(dataset_dir, name)
    options = options or LoaderOptions(template=template)
    path = dataset_dir / str(entry["file_name"])

    def pieces() -> Iterator[Piece]:
        for piece in read_pieces(path, options.piece):
            yield piece
            if say:
                say(piece.first_row - 1 + len(piece.rows))

    report = _check(pieces, entry, name, stage, options)
    if options.template and (reason := template_problem(options.template)):
        report.problems.insert(0, Problem(None, "template", reason, "fails"))
        report.accepted = 0
    return report


def check_rows(rows: Sequence[Any], entry: dict[str, Any], *, name: str = "dataset", stage: Stage | None = None,
               dates: bool = True, options: LoaderOptions | None = None) -> CheckReport:
    """The same for rows in memory, as they would be read back from a .jsonl file registered with ``entry``.

    ``dates``: false for rows of a JSON list, in which date-like columns stay strings.
    """
    options = options or LoaderOptions()
    return _check(lambda: in_pieces(rows, options.piece) if dates else iter([Piece(list(rows), "list")]),
                  entry, name, stage, options)


def in_pieces(rows: Sequence[Any], size: int = PIECE) -> Iterator[Piece]:
    """Rows as the loader will type them together once ``files.write_jsonl`` has written them."""
    held: list[Any] = []
    length, row = 0, 1
    for n, value in enumerate(rows, 1):
        held.append(value)
        length += len(dump_json(value)) + 1
        if length > size:  # the loader reads ``size`` bytes and then to the end of the line
            yield Piece(held, "lines", row)
            held, length, row = [], 0, n + 1
    if held or row == 1:
        yield Piece(held, "lines", row)


def _check(pieces: Callable[[], Iterator[Piece]], entry: dict[str, Any], name: str, stage: Stage | None,
           options: LoaderOptions) -> CheckReport:
    shape = Shape.of(maps_only(entry))
    report = CheckReport(name, stage or shape.stage, problems=entry_problems(entry))
    if report.stage != "dpo" and shape.ranking is True:
        report.add(None, "ranking", f"preference data cannot be used in stage {report.stage}", "fails")
    if report.stage == "iorpo" and not shape.columns["rejected"]:
        report.add(None, "columns", "'rejected' names no column, the one with the corrupted instructions", "fails")
    if report.stage == "dpo" and shape.ranking is False:
        report.add(None, "ranking", "the entry names chosen and rejected answers: stage dpo needs \"ranking\": true"
                   if shape.columns["chosen"] else "stage dpo needs \"ranking\": true", "fails")
    try:
        _read(pieces, entry, shape, report, options)
    except Unreadable as e:
        report.unread = True
        report.add(None, "file_name", str(e), "kept")
        return report
    except arrow.Unloadable as e:
        report.add(e.row, e.field, e.reason, "fails")
    if report.fails:
        report.accepted = 0
    elif report.accepted == 0:
        first = next((f"; row {p.row}: field '{p.field}': {p.reason}" for p in report.problems
                      if p.effect == "dropped"), "")
        report.add(None, "", f"every row is dropped{first}", "fails")
    elif (number := entry.get("num_samples")) is not None:
        if report.accepted < report.rows:
            report.add(None, "num_samples", f"{int(number)} rows are drawn at random, dropped ones among them",
                       "kept")
        report.accepted = int(number) * report.accepted // report.rows
        report.rows = int(number)
    return report


def _read(pieces: Callable[[], Iterator[Piece]], entry: dict[str, Any], shape: Shape, report: CheckReport,
          options: LoaderOptions) -> None:
    split = entry.get("split", "train")
    whole = split in ("train", "all") and options.max_samples is None
    if whole and options.workers <= 1:
        bounds: list[range] | None = None
        taken: list[range] | None = None
    else:  # where a shard or a slice ends depends on the number of rows
        rows = sum(len(p.rows) for p in pieces())
        taken = split_rows(split, rows) if isinstance(split, str) else []
        if options.max_samples is not None:
            taken = _first(taken, options.max_samples)
        bounds = shards(sum(map(len, taken)), options.workers)
    work = _Work(shape, report, options, bounds)
    if report.fails:
        report.rows = sum(len(p.rows) for p in pieces())
        return
    types = _Types(shape, report.stage)
    if taken is None or len(taken) == 1:
        for piece in pieces():
            work.feed(types.rows(piece), piece, taken[0] if taken else None)
    else:
        every = [row for piece in pieces() for row in types.rows(piece) or ()]
        for part in taken:
            for i in part:
                work.row(every[i], i + 1)
    work.finish()
    if report.rows == 0:
        report.add(None, "", "there are no rows" if whole else f"the split '{split}' takes no rows", "fails")


def _first(taken: list[range], most: int) -> list[range]:
    kept = []
    for part in taken:
        kept.append(part[:max(0, most)])
        most -= len(kept[-1])
    return kept


class _Types:
    """The loader's types: the first piece's decide."""

    def __init__(self, shape: Shape, stage: Stage) -> None:
        self.first: arrow.Type | None = None
        self.shape, self.stage = shape, stage

    def rows(self, piece: Piece) -> Sequence[dict[str, Any]] | None:
        """The rows as loaded; ``None`` if they are as plain as can be and accepted (``plain_piece``)."""
        own = plain_piece(piece, self.shape, self.stage)
        plain = own is not None
        if own is None:
            own = arrow.learn_rows(piece.rows, piece.mode, piece.first_row)
        if self.first is None:
            self.first = own
        else:
            try:
                arrow.fits(self.first, own, lambda path: arrow.values_at(piece.rows, path), "the first 10 MB")
            except arrow.Unloadable as e:
                raise arrow.Unloadable(e.reason, row=_where(piece, e.field), field=e.field) from None
        if plain and own.same(self.first):
            return None
        if (own is self.first and not own.changes()) or (own.same(self.first) and not own.changes()):
            return [row or {} for row in piece.rows] if None in piece.rows else piece.rows
        return [arrow.cast(row or {}, self.first, own) for row in piece.rows]


def _where(piece: Piece, path: str) -> int | None:
    top = path.partition(".")[0].partition("[")[0]
    return next((piece.first_row + i for i, row in enumerate(piece.rows) if row and row.get(top)), piece.first_row)


class _Work:
    """The converter and the processor: shard by shard, batch by batch."""

    def __init__(self, shape: Shape, report: CheckReport, options: LoaderOptions, bounds: list[range] | None
                 ) -> None:
        self.shape, self.report, self.options, self.bounds = shape, report, options, bounds
        self.facts = templates().get(options.template or "", PLAIN)
        self.types = ConverterTypes()
        self.shard_types: list[arrow.Type] = []
        self.batch: list[tuple[int, rules.Turns | None, dict[str, Any]]] = []
        self.at = 0  # rows seen
        self.in_shard = 0
        self.empty: list[int] = []  # first rows of batches of this shard in which no row was left
        self.batches = 0
        self.labels: set[bool] = set()
        self.thinks = 0
        self.plain_so_far = True

    def feed(self, rows: Sequence[dict[str, Any]] | None, piece: Piece, taken: range | None) -> None:
        if rows is not None:
            self.plain_so_far = False
        elif taken is None and self.bounds is None and self.plain_so_far and self.options.batch == KTO_BATCH:
            rows = self._plain(piece)
        for i, row in enumerate(piece.rows if rows is None else rows, piece.first_row + len(piece.rows) -
                                len(piece.rows if rows is None else rows)):
            if taken is None or i - 1 in taken:
                self.row(row, i)

    def _plain(self, piece: Piece) -> Sequence[dict[str, Any]]:
        """Count the rows of a plain piece without looking at each; the rest of a batch goes the long way."""
        open_rows = min(-self.at % KTO_BATCH, len(piece.rows)) if self.at else min(KTO_BATCH, len(piece.rows))
        for i in range(open_rows):  # the open batch, or the first one, which decides the types
            self.row(piece.rows[i], piece.first_row + i)
        sure = (len(piece.rows) - open_rows) // KTO_BATCH * KTO_BATCH
        self.at += sure
        self.in_shard += sure
        self.batches += sure // KTO_BATCH
        self.report.rows += sure
        self.report.accepted += sure
        if self.facts.thinks:
            self.thinks += sure
        return piece.rows[open_rows + sure:]

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
        self.at += 1
        self.in_shard += 1
        if self.bounds and self.at >= self.bounds[len(self.shard_types)].stop:
            self._end_shard()
        elif len(self.batch) >= self.options.batch:
            self._end_batch()

    def finish(self) -> None:
        if self.in_shard:
            self._end_shard()
        if self.report.rows and self.shard_types and (name := types_agree(self.shard_types)):
            self.report.add(None, name, f"has another type in one of the {len(self.shard_types)} shards "
                            "(preprocessing_num_workers): in one all rows are dropped or have none of it", "fails")
        if self.report.stage == "kto" and len(self.labels) == 1:
            self.report.add(None, str(self.shape.columns["kto_tag"]), "all labels are the same; KTO needs desirable "
                            "and undesirable rows", "kept")
        self.report.problems += dataset_remarks(self.facts, self.thinks)

    def _end_shard(self) -> None:
        if self.batch:
            self._end_batch()
        try:
            self.types.flush(self.at)
        except arrow.Unloadable as e:
            self.report.add(e.row, e.field, e.reason, "fails")
        if self.types.first is not None:
            self.shard_types.append(self.types.first)
        if self.empty and self.batches > 1:
            self.report.add(None, "", f"every row of the batch that begins with row {self.empty[0]} is dropped; "
                            f"LLaMA-Factory works in batches of {self.options.batch} and raises \"Schema and "
                            "number of arrays unequal\": remove the bad rows or mix them among good ones", "fails")
        self.types, self.empty, self.batches, self.in_shard = ConverterTypes(), [], 0, 0

    def _end_batch(self) -> None:
        left = 0
        for i in range(len(self.batch)):
            left += self._processed(i)
        self.batches += 1
        if not left:
            self.empty.append(self.batch[0][0])
        self.report.accepted += left
        self.batch = []

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
        for where, why in (*t.notes, *remarks(t, row, shape, report.stage), *text_remarks(t, row, shape, self.facts)):
            report.add(n, where, why, "kept")
        if self.facts.thinks and "<think>" not in str(turns[-1][1]):
            self.thinks += 1
        if report.stage == "kto":
            self.labels.add(bool(t.response[0][1]))
            self._kl_answer(i)
        return True

    def _kl_answer(self, i: int) -> None:
        """KTO takes the answer of the row before (of the batch's last row for its first) without looking at it."""
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
        elif role == "function" and (why := rules.call_problem(text, self.facts)):
            self.report.add(before, label, f"{why}, {needs}", "fails")
        elif before != n and _said(answer) == _said(t.response):
            self.report.add(n, label, "the KL term takes the answer of the row before, and it is this row's own "
                            "text: shuffle the rows", "kept")


def _said(response: Iterable[tuple[str, Any]]) -> list[Any]:
    return [text for _, text in response if text]
