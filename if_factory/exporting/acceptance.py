"""`if-factory check`: which rows of a dataset LLaMA-Factory will train, which it drops, and why.

LLaMA-Factory drops a bad row with a warning lost among thousands of lines, and some mistakes in
dataset_info.json make it drop every row or train the wrong text. Here the same rules (``rules.py``,
``arrow.py``) are applied without LLaMA-Factory, and every verdict names row, field and reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from if_factory.errors import UserError
from if_factory.exporting import arrow, rules
from if_factory.exporting.dataset_info import FILE_NAME, read_entries
from if_factory.exporting.rules import COLUMNS, FORMATS, TAGS, Effect, Fails, Shape, Stage
from if_factory.exporting.templates import template_problem

_EXTENSIONS = {"arrow": "arrow", "csv": "csv", "json": "json", "jsonl": "json", "parquet": "parquet",
               "txt": "text"}
_ENTRY_KEYS = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name",
               "formatting", "ranking", "subset", "split", "folder", "num_samples", "columns", "tags")
IORPO_NOTE = ("stage iorpo comes with if-factory[train]; stock LLaMA-Factory trains the responses on the true "
              "instructions in stage sft and refuses the dataset in stage dpo")
KTO_BATCH = 1000  # preprocessing_batch_size: KTO pairs each row with the answer of the row before it in its batch


@dataclass(frozen=True, slots=True)
class Problem:
    """``row`` counts from 1; ``None`` means the dataset as a whole.

    ``effect``: ``fails`` = LLaMA-Factory raises and trains nothing; ``dropped`` = this row is left out;
    ``kept`` = it is trained, but probably not as meant.
    """

    row: int | None
    field: str
    reason: str
    effect: Effect

    def __str__(self) -> str:
        place = f"row {self.row}" if self.row else "dataset"
        return f"{place}: field '{self.field}': {self.reason} -> {self.effect}" if self.field else \
               f"{place}: {self.reason} -> {self.effect}"


@dataclass(slots=True)
class CheckReport:
    """``accepted`` of ``rows`` will be trained in ``stage``; 0 if anything ``fails``."""

    name: str
    stage: Stage
    rows: int = 0
    accepted: int = 0
    problems: list[Problem] = field(default_factory=list)

    @property
    def note(self) -> str:
        """What to know about the stage itself; empty for LLaMA-Factory's own stages."""
        return IORPO_NOTE if self.stage == "iorpo" else ""

    @property
    def ok(self) -> bool:
        """Every row is trained. Rows that are kept with a remark do not change that."""
        return self.rows > 0 and self.accepted == self.rows and not self.fails

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


def local_names(dataset_dir: Path) -> list[str]:
    """The datasets of ``dataset_dir`` that are local files, in the order of dataset_info.json."""
    return [n for n, e in read_entries(dataset_dir / FILE_NAME).items()
            if isinstance(e, dict) and "file_name" in e and not any(k in e for k in _ENTRY_KEYS[:5])]


def check_dataset(dataset_dir: Path, name: str, *, stage: Stage | None = None,
                  template: str | None = None) -> CheckReport:
    """Apply LLaMA-Factory's acceptance rules to the dataset ``name`` of ``dataset_dir/dataset_info.json``.

    ``stage`` is the stage it shall be used in; by default the one the entry describes.

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
    remote = [k for k in _ENTRY_KEYS[:5] if k in entry]
    if remote or "file_name" not in entry:
        raise UserError(f"not a local file: it has '{remote[0]}'" if remote else "the entry has no 'file_name'",
                        where=where, fix="download the dataset and register the file under 'file_name'")
    try:
        rows, dates = _load(dataset_dir / str(entry["file_name"]))
    except arrow.Unloadable as e:
        return CheckReport(name, stage or Shape.of(_maps_only(entry)).stage,
                           problems=[Problem(e.row, e.field, e.reason, "fails")])
    report = check_rows(rows, entry, name=name, stage=stage, dates=dates)
    if template and (reason := template_problem(template)):
        report.problems.insert(0, Problem(None, "template", reason, "fails"))
        report.accepted = 0
    return report


def check_rows(rows: Sequence[Any], entry: dict[str, Any], *, name: str = "dataset", stage: Stage | None = None,
               dates: bool = True) -> CheckReport:
    """The same for rows in memory, as they would be read back from a file registered with ``entry``.

    ``dates``: see ``arrow.unify``; false for rows of a JSON list.
    """
    shape = Shape.of(_maps_only(entry))
    report = CheckReport(name, stage or shape.stage, rows=len(rows), problems=list(_entry_problems(entry)))
    if not rows:
        report.problems.append(Problem(None, "", "there are no rows", "fails"))
    if report.stage != "dpo" and shape.ranking is True:
        report.problems.append(Problem(None, "ranking", f"preference data cannot be used in stage {report.stage}",
                                       "fails"))
    if report.stage == "iorpo" and not shape.columns["rejected"]:
        report.problems.append(Problem(None, "columns", "'rejected' names no column, the one with the corrupted "
                                       "instructions", "fails"))
    if report.stage == "dpo" and shape.ranking is False:
        report.problems.append(Problem(None, "ranking", "stage dpo needs \"ranking\": true", "fails"))
    if not report.fails:
        try:
            table = arrow.unify(rows, dates=dates)
        except arrow.Unloadable as e:
            report.problems.append(Problem(e.row, e.field, e.reason, "fails"))
        else:
            report.accepted = _check_table(table, shape, report)
    if report.fails:
        report.accepted = 0
    elif report.accepted == 0:
        first = next((f"; row {p.row}: field '{p.field}': {p.reason}" for p in report.problems
                      if p.effect == "dropped"), "")
        report.problems.append(Problem(None, "", f"every row is dropped{first}", "fails"))
    return report


def _check_table(table: list[dict[str, Any]], shape: Shape, report: CheckReport) -> int:
    accepted = 0
    labels: set[bool] = set()
    answers: list[list[tuple[str, Any]] | None] = []
    for n, row in enumerate(table, 1):
        try:
            t = rules.convert(row, shape)
            turns = rules.trained_turns(t, report.stage)
            if turns is not None:
                rules.tokenise(turns, t, row, shape)
                if report.stage == "iorpo" and (why_not := rules.no_triple(t, row, shape)):
                    turns, t.notes = None, [why_not]
        except Fails as e:
            report.problems.append(Problem(n, e.field, e.reason, "fails"))
            answers.append(None)
            continue
        answers.append(t.response)
        if turns is None:
            noted = t.notes or [(str(shape.columns["messages"] or ""), "not a row of this stage")]
            report.problems += [Problem(n, f, why, "dropped") for f, why in noted]
            continue
        accepted += 1
        remarks = [*t.notes, *_remarks(t, row, shape, report.stage)]
        report.problems += [Problem(n, f, why, "kept") for f, why in remarks]
        if report.stage == "kto":
            labels.add(bool(t.response[0][1]))
            _kl_answer(answers, n, len(table), table, shape, report)
    if report.stage == "kto" and len(labels) == 1:
        report.problems.append(Problem(None, str(shape.columns["kto_tag"]), "all labels are the same; KTO needs "
                                       "desirable and undesirable rows", "kept"))
    return accepted


def _kl_answer(answers: list[list[tuple[str, Any]] | None], n: int, rows: int, table: list[dict[str, Any]],
               shape: Shape, report: CheckReport) -> None:
    """KTO takes the answer of the row before (of the batch's last row for its first) without looking at it."""
    first = (n - 1) // KTO_BATCH * KTO_BATCH
    before = n - 1 if n - 1 > first else min(first + KTO_BATCH, rows)
    if before < n:
        answer = answers[before - 1]
    else:
        try:
            answer = rules.convert(table[before - 1], shape).response
        except Fails:
            return
    label = str(shape.columns["kto_tag"])
    if answer is not None and (not answer or (len(answer) == 1 and not answer[0][1])):
        report.problems.append(Problem(before, label, f"has no answer, and row {n} needs it for the KL term",
                                       "fails"))
    elif before != n and answer and _said(answer) == _said(answers[n - 1] or []):
        report.problems.append(Problem(n, label, "the KL term takes the answer of the row before, and it is this "
                                       "row's own text: shuffle the rows", "kept"))


def _said(response: list[tuple[str, Any]]) -> list[Any]:
    return [text for _, text in response if text]


def _remarks(t: rules.Turns, row: dict[str, Any], shape: Shape, stage: Stage) -> list[tuple[str, str]]:
    """What LLaMA-Factory trains without a word although it is hardly meant."""
    said = []
    if shape.formatting == "alpaca":
        if not t.prompt[-1][1]:
            said.append((str(shape.columns["prompt"]), "the prompt is empty"))
        history = shape.columns["history"]
        if history and row[history] and not isinstance(row[history], list):
            said.append((str(history), "the history is not a list, so it is ignored"))
    elif any(role == "user" and not text for role, text in t.prompt):
        said.append((str(shape.columns["messages"]), "a user turn is empty"))
    if stage == "kto":
        desirable = row[shape.columns["kto_tag"]]
        if not any(text for _, text in t.response):
            said.append((rules.answer_field(shape, "", row), "the answer is empty" + (
                ", which turns a desirable row into an undesirable one" if desirable else "")))
    elif stage == "dpo" and shape.ranking:
        sides = [text for _, text in t.response[:2]]
        said += [(str(shape.columns[r]), "the answer is empty")
                 for r, text in zip(("chosen", "rejected"), sides, strict=True) if not text]
        if sides[0] == sides[1]:
            said.append((str(shape.columns["rejected"]), "is the same text as the chosen answer"))
    elif not t.response[-1][1]:
        said.append((rules.answer_field(shape, "", row), "the answer is empty: an empty answer is trained"))
    if shape.formatting == "openai" and not t.tools:
        said.append((str(shape.columns["messages"]), "the openai format adds the system prompt 'detailed thinking "
                     "off'; use sharegpt with `tags`"))
    return said


def _maps_only(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k not in ("columns", "tags") or isinstance(v, dict)}


def _entry_problems(entry: dict[str, Any]) -> list[Problem]:
    """Mistakes in the entry itself."""
    found = []
    formatting = entry.get("formatting", "alpaca")
    if formatting not in FORMATS:
        found.append(Problem(None, "formatting", f"unknown formatting {formatting!r}; known: {', '.join(FORMATS)}",
                             "fails"))
    for key in sorted(set(entry) - set(_ENTRY_KEYS)):
        near = get_close_matches(key, _ENTRY_KEYS, n=1)
        if near:
            found.append(Problem(None, key, f"unknown key, ignored by LLaMA-Factory; did you mean '{near[0]}'?",
                                 "kept"))
    if not isinstance(entry.get("ranking", False), bool):
        found.append(Problem(None, "ranking", f"is {entry['ranking']!r}, not true or false: no stage check is "
                             "made and it counts as " + ("true" if entry["ranking"] else "false"), "kept"))
    if entry.get("ranking") is True and isinstance(entry.get("columns"), dict):
        held = str(entry["columns"].get("rejected") or "")
        if "instruction" in held or "prompt" in held:
            found.append(Problem(None, "ranking", f"'{held}' seems to hold instructions, which stage dpo trains "
                                 "as answers; for I-ORPO triples set \"ranking\": false", "kept"))
    split = entry.get("split", "train")
    if not isinstance(split, str) or not split.startswith("train"):
        found.append(Problem(None, "split", f"a local file only has the split 'train', not {split!r}", "fails"))
    number = entry.get("num_samples")
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        found.append(Problem(None, "num_samples", f"is {number!r}, not a positive whole number", "fails"))
    chat = formatting != "alpaca"
    for key, known, needed in (
            ("columns", COLUMNS, ("messages",) if chat else ("prompt", "query", "response")),
            ("tags", TAGS, TAGS if chat else ())):
        given = entry.get(key)
        if given is None and key not in entry:
            continue
        if not isinstance(given, dict):
            found.append(Problem(None, key, f"is {given!r:.40}, not an object", "fails"))
            continue
        for name in sorted(set(given) - set(known)):
            near = get_close_matches(name, known, n=1)
            found.append(Problem(None, f"{key}.{name}", "unknown name, ignored by LLaMA-Factory" +
                                 (f"; did you mean '{near[0]}'?" if near else ""), "kept"))
        found += [Problem(None, f"{key}.{name}", f"is {value!r:.40}, not a string", "fails")
                  for name, value in given.items() if name in known and not isinstance(value, str | None)]
        lost = [name for name in needed if name not in given and not (entry.get("ranking") and name == "response")]
        if lost:
            found.append(Problem(None, key, f"does not name {', '.join(lost)}: what a map does not name is unset, "
                                 "the defaults are lost", "kept"))
    if any((entry.get("columns") or {}).get(c) for c in ("images", "videos", "audios")
           if isinstance(entry.get("columns"), dict)):
        found.append(Problem(None, "columns", "images, videos and audio are not checked", "kept"))
    return found


def _load(path: Path) -> tuple[list[Any], bool]:
    """The rows of a file, or of every file of a folder, and whether date-like columns become timestamps."""
    if path.is_dir():
        files = sorted(path.iterdir())
    elif path.is_file():
        files = [path]
    else:
        raise arrow.Unloadable(f"file {path} not found", field="file_name")
    kinds = {_EXTENSIONS.get(f.suffix[1:]) for f in files}
    if None in kinds or not kinds:
        raise arrow.Unloadable(f"file type of {path.name} not allowed; allowed: {', '.join(_EXTENSIONS)}",
                               field="file_name")
    if len(kinds) > 1:
        raise arrow.Unloadable(f"the files of folder {path} are of different types", field="file_name")
    if kinds == {"json"}:
        parts = [(f.read_bytes()) for f in files]
        rows = [row for raw in parts for row in arrow.parse(raw)]
        return rows, not parts[0].lstrip().startswith(b"[")
    return _load_with_datasets(str(kinds.pop()), files), False


def _load_with_datasets(kind: str, files: list[Path]) -> list[Any]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(f"reading {kind} files needs the `datasets` library", where=str(files[0]),
                        fix='pip install "if-factory[datasets]"') from None
    try:
        return list(load_dataset(kind, data_files=[str(f) for f in files], split="train"))
    except Exception as e:  # whatever the loader raises here, it raises in LLaMA-Factory too
        raise arrow.Unloadable(f"the loader refuses the file: {e}", field="file_name") from None
