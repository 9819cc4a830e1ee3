"""`if-factory check`: which rows of a dataset LLaMA-Factory will train, which it drops, and why.

LLaMA-Factory drops a bad row with a warning lost among thousands of lines, and some mistakes in
dataset_info.json make it drop every row or train the wrong text. Here the same rules (``rules.py``,
``arrow.py``, ``batches.py``) are applied without LLaMA-Factory, and every verdict names row, field and reason.
A file is read in pieces of 10 MB, so memory does not grow with it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from if_factory.errors import UserError
from if_factory.exporting import arrow, rules
from if_factory.exporting.columns import Columns, learn_columns
from if_factory.exporting.dataset_info import FILE_NAME, TRUTH_KEY, read_entries
from if_factory.exporting.entry import REMOTE, Problem, entry_problems, maps_only
from if_factory.exporting.jobs import joined
from if_factory.exporting.loading import PIECE, Piece, Unreadable, read_pieces, shares, split_rows
from if_factory.exporting.plain import odd_rows
from if_factory.exporting.report import KTO_BATCH, CheckReport, LoaderOptions
from if_factory.exporting.rules import Shape, TrainingStage
from if_factory.exporting.templates import template_problem
from if_factory.exporting.work import Work
from if_factory.files import dump_json

__all__ = ["KTO_BATCH", "CheckReport", "LoaderOptions", "Problem", "check_dataset", "check_pieces", "check_rows",
           "in_pieces", "local_names"]


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


def check_dataset(dataset_dir: Path, name: str, *, stage: TrainingStage | None = None, template: str | None = None,
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
        for piece in read_pieces(path, options.piece, options.workers):
            yield piece
            if say:
                say(piece.first_row - 1 + len(piece.rows))

    prompts = stage is None and isinstance(entry.get(TRUTH_KEY), str)
    report = _check_prompts(pieces, entry, name) if prompts else _check(pieces, entry, name, stage, options)
    if options.template and (reason := template_problem(options.template)):
        report.problems.insert(0, Problem(None, "template", reason, "fails"))
        report.accepted = 0
    return report


def _check_prompts(pieces: Callable[[], Iterator[Piece]], entry: dict[str, Any], name: str) -> CheckReport:
    """Rows of a dataset of prompts (``export --rl``): each needs a prompt and the string that decides its reward."""
    answers = "does not name response"  # which is as it should be
    report = CheckReport(name, "sft", prompts=True,
                         problems=[p for p in entry_problems(entry) if not p.reason.startswith(answers)])
    needed = (str(maps_only(entry).get("columns", {}).get("prompt")), str(entry[TRUTH_KEY]))
    for piece in pieces():
        for n, row in enumerate(piece.rows, piece.first_row):
            report.rows += 1
            lost = [c for c in needed if not (isinstance(row, dict) and isinstance(row.get(c), str) and row[c].strip())]
            for column in lost:
                report.add(n, column, "expected a non-empty string", "dropped")
            report.accepted += not lost
    return report


def trained_rows(dataset_dir: Path, name: str, stage: TrainingStage, options: LoaderOptions | None = None
                 ) -> Iterator[tuple[int, rules.Turns, list[tuple[str, Any]]]]:
    """(row from 1, the converted row, the corrupted prompt of an I-ORPO triple) of what ``stage`` trains.

    Where LLaMA-Factory would raise there is nothing more to come: ``check_dataset`` says why.

    Raises:
        UserError: as ``local_entry``.
    """
    entry = local_entry(dataset_dir, name)
    options = options or LoaderOptions()
    shape = Shape.of(maps_only(entry))

    def pieces() -> Iterator[Piece]:
        return read_pieces(dataset_dir / str(entry["file_name"]), options.piece, options.workers)

    try:
        scan = _Scan(pieces, entry, options)
        taken, types = scan.taken, _Types(scan.type)
        for piece in pieces():
            for n, row in enumerate(types.rows(piece), piece.first_row):
                if taken is not None and not any(n - 1 in part for part in taken):
                    continue
                t = rules.convert(row, shape)
                turns = rules.trained_turns(t, stage)
                if turns is None or (stage == "iorpo" and rules.no_triple(t, row, shape)):
                    continue
                rules.tokenise(turns, t, row, shape)
                yield n, t, rules.corrupted_prompt(t, row, shape) if stage == "iorpo" else []
    except (arrow.Unloadable, rules.Fails, Unreadable):
        return


class _Scan:
    """What has to be known before the first row is looked at; the file is read for it only where that is needed.

    ``taken``: the rows of a slice or of ``max_samples``, from 0; ``None``: all. ``type``: that of the dataset where
    several workers read its files, else ``None``. ``rows``: how many there are, 0 where it does not matter.

    Raises:
        Unloadable: the workers' types do not agree, or the split is none.
    """

    def __init__(self, pieces: Callable[[], Iterator[Piece]], entry: dict[str, Any], options: LoaderOptions) -> None:
        split = entry.get("split", "train")
        self.taken: list[range] | None = None
        self.type: arrow.Type | None = None
        self.rows = 0
        sliced = split not in ("train", "all")
        if not sliced and options.max_samples is None and options.workers <= 1:
            return
        jobs: list[tuple[arrow.Type, arrow.Mode]] = []
        ends, types = [0], _Types()
        for piece in pieces():
            if options.workers > 1:
                types.of(piece)
                if piece.job == len(jobs):
                    jobs.append((types.first, piece.mode))
                    ends.append(self.rows)
            self.rows += len(piece.rows)
            ends[-1] = self.rows
        if sliced:
            self.taken = split_rows(split, self.rows) if isinstance(split, str) else []
        if len(jobs) > 1:
            read = [n for n, job in enumerate(map(range, ends, ends[1:])) if self._some(job)]
            self.type = joined(jobs, read)
        if options.max_samples is not None:
            self.taken = _first([range(self.rows)] if self.taken is None else self.taken, options.max_samples)

    def _some(self, job: range) -> bool:
        """Whether rows of this job are taken."""
        return len(job) > 0 and (self.taken is None or any(
            part.start < job.stop and job.start < part.stop and len(part) for part in self.taken))


def check_rows(rows: Sequence[Any], entry: dict[str, Any], *, name: str = "dataset", stage: TrainingStage | None = None,
               dates: bool = True, options: LoaderOptions | None = None) -> CheckReport:
    """The same for rows in memory, as they would be read back from a .jsonl file registered with ``entry``.

    ``dates``: false for rows of a JSON list, in which date-like columns stay strings.
    """
    options = options or LoaderOptions()
    return _check(lambda: in_pieces(rows, options.piece) if dates else iter([Piece(list(rows), "list")]),
                  entry, name, stage, options)


def check_pieces(pieces: Callable[[], Iterator[Piece]], entry: dict[str, Any], *, name: str = "dataset",
                 stage: TrainingStage | None = None) -> CheckReport:
    """The same for rows that come in the pieces which the loader types together; they are read once."""
    return _check(pieces, entry, name, stage, LoaderOptions())


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


def _check(pieces: Callable[[], Iterator[Piece]], entry: dict[str, Any], name: str, stage: TrainingStage | None,
           options: LoaderOptions) -> CheckReport:
    shape = Shape.of(maps_only(entry))
    report = CheckReport(name, stage or shape.stage, problems=entry_problems(entry))
    if report.stage != "dpo" and shape.ranking is True:
        report.add(None, "ranking", f"preference data cannot be used in stage {report.stage}", "fails")
    if report.stage == "iorpo" and not shape.columns["rejected"]:
        report.add(None, "columns", "'rejected' names no column, the one with the corrupted instructions", "fails")
    if report.stage == "dpo" and shape.ranking is False:
        forgot = "the entry names chosen and rejected answers: " if shape.columns["chosen"] else ""
        report.add(None, "ranking", f'{forgot}stage dpo needs "ranking": true', "fails")
    collecting = gc.isenabled()
    gc.disable()  # rows have no cycles, and looking for some takes as long as parsing
    try:
        _read(pieces, entry, shape, report, options)
    except Unreadable as e:
        report.unread = True
        report.add(None, "file_name", str(e), "kept")
        return report
    except arrow.Unloadable as e:
        report.add(e.row, e.field, e.reason, "fails")
    finally:
        if collecting:
            gc.enable()
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
    scan = _Scan(pieces, entry, options)
    taken, bounds = scan.taken, None
    if options.workers > 1:  # where a shard ends depends on the number of rows
        bounds = shares(sum(map(len, taken)) if taken is not None else scan.rows, options.workers)
    work = Work(shape, report, options, bounds)
    if report.fails:
        report.rows = sum(len(p.rows) for p in pieces())
        return
    types = _Types(scan.type)
    if taken is None or len(taken) == 1:
        for piece in pieces():
            loaded, columns = types.of(piece)
            odd = odd_rows(columns, types.final, shape, report.stage, piece.quiet) \
                if columns and taken is None else None
            work.feed(piece, loaded, odd, taken[0] if taken else None)
    else:
        every = [row for piece in pieces() for row in types.rows(piece)]
        for part in taken:
            for i in part:
                work.row(every[i], i + 1)
    work.finish()
    if report.rows == 0:
        report.add(None, "", "there are no rows" if taken is None else "the split or max_samples takes no rows",
                   "fails")


def _first(taken: list[range], most: int) -> list[range]:
    kept = []
    for part in taken:
        kept.append(part[:max(0, most)])
        most -= len(kept[-1])
    return kept


class _Types:
    """The loader's types: the first piece's decide, of each worker's; ``joined`` is then the whole dataset's."""

    def __init__(self, joined: arrow.Type | None = None) -> None:
        self.first = arrow.Type()
        self.joined, self.job = joined, 0

    @property
    def final(self) -> arrow.Type:
        """The dataset's, as far as it is known."""
        return self.joined or self.first

    def of(self, piece: Piece) -> tuple[Callable[[int], dict[str, Any]], Columns | None]:
        """A row of the piece, from 0, as loaded; and its columns, where they were looked at as wholes.

        Raises:
            Unloadable: the piece does not fit the first one, or a field changes its type in it.
        """
        columns = learn_columns(piece.rows, piece.whole) if piece.mode == "lines" else None
        own = piece.type or (columns.type if columns else
                             arrow.learn_rows(piece.rows, piece.mode, piece.first_row))
        if self.first.kind == "null" or piece.job != self.job:
            self.first, self.job = own, piece.job
        first, whole = self.first, self.joined
        if own is not first:
            try:
                arrow.fits(first, own, lambda path: arrow.values_at(piece.rows, path), "the first 10 MB")
            except arrow.Unloadable as e:
                raise arrow.Unloadable(e.reason, row=_where(piece, e.field), field=e.field) from None
        rows = piece.rows
        if not own.changes() and (own is first or own.same(first)) and (whole is None or own.same(whole)):
            return lambda i: rows[i] or {}, columns
        if whole is None:
            return lambda i: arrow.cast(rows[i] or {}, first, own), columns
        return lambda i: arrow.cast(arrow.cast(rows[i] or {}, first, own), whole, first), columns

    def rows(self, piece: Piece) -> Iterator[dict[str, Any]]:
        """All of them."""
        return map(self.of(piece)[0], range(len(piece.rows)))


def _where(piece: Piece, path: str) -> int | None:
    top = path.partition(".")[0].partition("[")[0]
    return next((piece.first_row + i for i, row in enumerate(piece.rows) if row and row.get(top)), piece.first_row)
