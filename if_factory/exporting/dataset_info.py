"""dataset_info.json: add our entries to a file that belongs to someone else.

New entries are inserted as text after the last one, so every byte of the others' entries, their order and
their formatting stay as they are. What is written is a complete map: LLaMA-Factory sets every column or tag
that a map does not name to null (``data/parser.py``, ``DatasetAttr.join``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from if_factory.errors import UserError
from if_factory.exporting.rules import TAGS, TrainingStage
from if_factory.files import dump_json, write_atomic

FILE_NAME = "dataset_info.json"
KINDS: tuple[TrainingStage, ...] = get_args(TrainingStage)
TRUTH_KEY = "ground_truth"  # a key of ours in an entry: the column that decides rewards; the rows are prompts only
CORRUPTED = "instruction_corrupted"  # the column of an I-ORPO triple's x_l
_SHAREGPT_TAGS = dict(zip(TAGS, ("from", "value", "human", "gpt", "observation", "function_call", "system"),
                          strict=True))


def dataset_entry(file_name: str, fmt: Literal["alpaca", "sharegpt"], kind: TrainingStage) -> dict[str, Any]:
    """The entry that describes a file written by ``formats.write_dataset``, with every column and tag named.

    An I-ORPO entry has ``ranking: false`` and ``columns.rejected``: stock LLaMA-Factory reads that column only
    with ``ranking: true``, so ``stage: sft`` trains the responses on the true instructions and ``stage: dpo``
    refuses the dataset. With ``ranking: true`` stock DPO would train corrupted instructions as responses.
    """
    columns: dict[str, Any] = {"system": "system"}
    if fmt == "alpaca":
        columns |= {"prompt": "instruction", "query": "input", "history": "history"}
        if kind != "dpo":
            columns["response"] = "output"
    else:
        columns["messages"] = "conversations"
    if kind == "dpo":
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    if kind == "kto":
        columns["kto_tag"] = "label"
    if kind == "iorpo":
        columns["rejected"] = CORRUPTED
    entry: dict[str, Any] = {"file_name": file_name, "formatting": fmt, "ranking": kind == "dpo",
                             "columns": columns}
    return entry | ({"tags": dict(_SHAREGPT_TAGS)} if fmt == "sharegpt" else {})


def stage_of(dataset: str) -> TrainingStage:
    """The stage of an emitted dataset by its name: ``sft_external`` and ``sft`` are both for ``sft``.

    Raises:
        UserError: the name begins with no stage.
    """
    stage = dataset.partition("_")[0]
    if stage not in KINDS:
        raise UserError(f"'{dataset}' names no stage", fix=f"a dataset begins with one of: {', '.join(KINDS)}")
    return stage


@dataclass(slots=True)
class MergeReport:
    """Names by what became of them; ``backup`` is the copy of the file as it was, if it was changed."""

    path: Path
    added: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    backup: Path | None = None

    def __str__(self) -> str:
        counts = ", ".join(f"{len(names)} {what}" for what, names in (
            ("added", self.added), ("replaced", self.replaced), ("unchanged", self.unchanged)) if names)
        before = f" (the file as it was: {self.backup.name})" if self.backup else ""
        return f"{self.path}: {counts or 'nothing to add'}{before}"


def read_entries(path: Path) -> dict[str, Any]:
    """The entries of a dataset_info.json.

    Raises:
        UserError: missing, not readable by LLaMA-Factory, not JSON, not an object, or a name twice.
    """
    raw = _read(path)
    if raw is None:
        raise UserError("no such file", where=str(path), fix="give the folder that holds dataset_info.json")
    return _parse(path, raw)[1]


def merge_entries(path: Path, entries: Mapping[str, dict[str, Any]], *, force: bool = False,
                  timeout: float = 30) -> MergeReport:
    """Add ``entries`` to the dataset_info.json at ``path``, creating it if need be.

    The file is locked (``<path>.lock``), backed up (``<path>.bak``) and replaced in one step. An entry that is
    there with the same content is left alone; with other content it is replaced only with ``force``, and then
    only its own bytes change.

    Raises:
        UserError: the file is broken, a name clashes, a name cannot be used in `dataset:`, the folder is
            read-only, or another writer holds the lock for ``timeout`` seconds.
    """
    _require_names(path, entries)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=timeout):
            return _merge(path, entries, force)
    except Timeout:
        raise UserError(f"another writer has held the lock for {timeout:g} s", where=str(path),
                        fix=f"wait for it, or delete {path}.lock if no other process runs") from None
    except OSError as e:
        raise UserError(f"cannot write: {e.strerror or e}", where=str(path),
                        fix="nothing was changed; choose a folder you may write to") from None


def require_mergeable(path: Path, entries: Mapping[str, dict[str, Any]], *, force: bool = False) -> None:
    """Raises what ``merge_entries`` would raise of the file and the names: before the data they name is written."""
    _require_names(path, entries)
    if (raw := _read(path)) is not None:
        _sort_out(path, _parse(path, raw)[1], entries, force)


def _require_names(path: Path, names: Iterable[str]) -> None:
    for name in names:
        if not name.isascii() or "," in name or name != name.strip() or not name:
            raise UserError(f"'{name}' cannot be a dataset name", where=str(path),
                            fix="use ASCII letters, digits, '_' and '-'; `dataset:` is split at commas")


def _sort_out(path: Path, old: Mapping[str, Any], entries: Mapping[str, dict[str, Any]], force: bool) -> MergeReport:
    report = MergeReport(path)
    for name, entry in entries.items():
        if name not in old:
            report.added.append(name)
        elif old[name] == entry:
            report.unchanged.append(name)
        elif force:
            report.replaced.append(name)
        else:
            raise UserError(_clash(name, old[name], entry), where=str(path),
                            fix="give the recipe another `name`, or replace the entry with --force (`force=True`)")
    return report


def _merge(path: Path, entries: Mapping[str, dict[str, Any]], force: bool) -> MergeReport:
    raw = _read(path)
    text, old, spans = _parse(path, raw) if raw is not None else ("{}\n", {}, _Spans(1, 1, {}))
    report = _sort_out(path, old, entries, force)
    if not report.added and not report.replaced:
        return report
    style = _Style.of(text, spans)
    edits = [(*spans.values[name], style.value(entries[name])) for name in report.replaced]
    if report.added:
        edits.append((spans.end, spans.end, style.members({n: entries[n] for n in report.added}, bool(old))))
        if not old:  # "{ }" holds nothing but blanks: what is between the braces is ours to lay out
            edits[-1] = (spans.end, spans.close, edits[-1][2] + style.newline)
    for start, stop, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[stop:]
    if json.loads(text) != {**old, **entries}:
        raise AssertionError("the merged text does not hold the old and the new entries")
    if raw is not None:
        report.backup = path.with_name(path.name + ".bak")
        write_atomic(report.backup, raw)
    write_atomic(path, text.encode())
    return report


def _clash(name: str, old: Any, new: dict[str, Any]) -> str:
    if not isinstance(old, dict):
        return f"'{name}' is already there and is not an object"
    keys = [k for k in (*new, *(k for k in old if k not in new)) if old.get(k) != new.get(k)]
    told = "; ".join(f"'{k}' is {dump_json(old.get(k))}, ours is {dump_json(new.get(k))}" for k in keys[:3])
    return f"'{name}' is already there with other content: {told}"


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise UserError(e.strerror or str(e), where=str(path)) from None


@dataclass(frozen=True, slots=True)
class _Spans:
    """Where things are in the text: where the last value ends (or the brace opens), the closing brace, and
    from where to where each value goes."""

    end: int
    close: int
    values: dict[str, tuple[int, int]]


def _parse(path: Path, raw: bytes) -> tuple[str, dict[str, Any], _Spans]:
    where = str(path)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as e:
        raise UserError(f"not UTF-8: byte {e.start} is 0x{raw[e.start]:02x}", where=where,
                        fix="convert the file, e.g. `iconv -f LATIN1 -t UTF-8`") from None
    if text.startswith("\ufeff"):
        raise UserError("the file starts with a byte order mark, which LLaMA-Factory cannot read", where=where,
                        fix="save it as UTF-8 without BOM")
    try:
        spans, pairs = _scan(text)
    except json.JSONDecodeError as e:
        raise UserError(f"not valid JSON: {e.msg}", where=f"{path}:{e.lineno}:{e.colno}",
                        fix="correct the file; nothing was changed") from None
    except _NotObject as e:
        raise UserError(f"expected an object of datasets, found {e}", where=where) from None
    names = [name for name, _ in pairs]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise UserError(f"'{twice[0]}' is there twice; LLaMA-Factory uses the last one", where=where,
                        fix="delete or rename one of them")
    return text, dict(pairs), spans


class _NotObject(Exception):
    pass


def _scan(text: str) -> tuple[_Spans, list[tuple[str, Any]]]:
    """Walk the members of the outermost object, noting where each value stands."""
    whole = json.loads(text)  # the standard parser decides what is valid; below only positions are found
    if not isinstance(whole, dict):
        raise _NotObject("a list" if isinstance(whole, list) else repr(whole))
    decoder = json.JSONDecoder()
    at = _blank(text, 0) + 1
    end, pairs, values = at, [], {}
    at = _blank(text, at)
    while text[at] != "}":
        name, at = decoder.raw_decode(text, at)
        start = _blank(text, _blank(text, at) + 1)
        value, end = decoder.raw_decode(text, start)
        pairs.append((name, value))
        values[name] = (start, end)
        at = _blank(text, end)
        if text[at] == ",":
            at = _blank(text, at + 1)
    return _Spans(end, at, values), pairs


def _blank(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


@dataclass(frozen=True, slots=True)
class _Style:
    """How the file is laid out: its line ends and the indentation of its first entry; all on one line if it is."""

    newline: str
    indent: str

    @classmethod
    def of(cls, text: str, spans: _Spans) -> _Style:
        if spans.values:
            opened = text.index("{") + 1
            before = text[opened:text.index('"', opened)]
            if "\n" not in before:
                return cls("", "")
            return cls("\r\n" if "\r\n" in before else "\n", before[before.rindex("\n") + 1:])
        return cls("\r\n" if "\r\n" in text else "\n", "  ")

    def value(self, entry: dict[str, Any]) -> str:
        if not self.newline:
            return dump_json(entry)
        text = json.dumps(entry, ensure_ascii=True, indent=self.indent or "  ")
        return text.replace("\n", self.newline + self.indent)

    def members(self, entries: Mapping[str, dict[str, Any]], after_others: bool) -> str:
        one = [f"{self.newline}{self.indent}{json.dumps(name)}: {self.value(e)}" for name, e in entries.items()]
        if not self.newline:
            one = [(" " if i or after_others else "") + m for i, m in enumerate(one)]
        return ("," if after_others else "") + ",".join(one)
