"""Checked examples as LLaMA-Factory rows, alpaca or sharegpt, with their provenance in a file beside them.

Every row of a file has the same keys with the same types, because the file becomes one Arrow table. What made
a row (constraints, violated ones, sources, models) is not in it but in ``<name>.provenance.jsonl``, line for
line; dataset_info.json does not name that file, so LLaMA-Factory never reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

from if_factory.errors import UserError
from if_factory.exporting.acceptance import KTO_BATCH, Problem, check_rows, in_pieces
from if_factory.exporting.dataset_info import CORRUPTED, dataset_entry
from if_factory.exporting.rules import TrainingStage
from if_factory.exporting.trl import trl_rows
from if_factory.exporting.v1 import v1_dataset, v1_rows
from if_factory.files import write_atomic, write_jsonl
from if_factory.records import Example, KTOExample, PreferenceExample, SFTExample, TripleExample, content_id

Format = Literal["alpaca", "sharegpt", "trl", "v1"]


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


def provenance_path(data: Path) -> Path:
    """The sidecar of a data file: ``x.jsonl`` -> ``x.provenance.jsonl``."""
    return data.with_name(f"{data.stem}.provenance.jsonl")


def kind_of(examples: Sequence[Example]) -> TrainingStage:
    """Which stage the examples are for. Raises ``ValueError`` if they are mixed."""
    kinds: dict[type[Example], TrainingStage] = {SFTExample: "sft", PreferenceExample: "dpo", KTOExample: "kto",
                                        TripleExample: "iorpo"}
    found = {type(e) for e in examples}
    if len(found) != 1:
        raise ValueError(f"one dataset holds one kind of example, not {sorted(t.__name__ for t in found)}")
    return kinds[found.pop()]


def alpaca_rows(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """``instruction, input, system, history`` and ``output`` | ``chosen, rejected`` | ``output, label`` |
    ``output, instruction_corrupted``."""
    return [{"instruction": e.prompt, "input": "", **_answer(e), "system": e.system, "history": _pairs(e)}
            for e in examples]


def sharegpt_rows(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """``conversations, system`` and, for preferences, ``chosen, rejected`` as ``{from, value}``; KTO ``label``;
    I-ORPO ``instruction_corrupted``, a string that stands for the last user turn.

    SFT, KTO and I-ORPO conversations end with the answer, preference conversations with the prompt.
    """
    rows = []
    for e in examples:
        talk = [_turn("human" if t.role == "user" else "gpt", t.content) for t in e.history]
        talk.append(_turn("human", e.prompt))
        row: dict[str, Any] = {"conversations": talk}
        if isinstance(e, PreferenceExample):
            row |= {"chosen": _turn("gpt", e.chosen), "rejected": _turn("gpt", e.rejected)}
        elif isinstance(e, SFTExample | KTOExample | TripleExample):
            talk.append(_turn("gpt", e.response))
            row |= {k: v for k, v in _answer(e).items() if k != "output"}
        rows.append(row | {"system": e.system})
    return rows


def provenance_rows(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """One line per row: identity, difficulty, constraints as data, and what the method recorded."""
    rows = []
    for n, e in enumerate(examples, 1):
        row = {"row": n, "record_id": e.record_id, "difficulty": e.difficulty,
               "constraints": [c.model_dump() for c in e.constraints]}
        if isinstance(e, PreferenceExample):
            row["violated_positions"] = list(e.violated)
        if isinstance(e, TripleExample):
            row["corrupted_positions"] = list(e.corrupted)
        rows.append(row | {k: v for k, v in e.provenance.items() if k not in row})
    return rows


def write_dataset(name: str, examples: Sequence[Example], folder: Path, fmt: Format = "sharegpt") -> Written:
    """Check the rows against LLaMA-Factory's rules, then write ``<name>.jsonl`` and its provenance.

    Returns the entry for ``merge_entries``. Rows are written in the order given, with two exceptions: KTO rows
    that share an answer are moved apart (``apart``), and in an alpaca file of more than 10 MB a row with a
    history comes first if the first 10 MB would have none (``typed_first``).

    ``trl`` and ``v1`` rows have no entry and are written in the order given; ``v1`` has a ``<name>.yaml`` for its
    ``train_dataset``.

    Raises:
        UserError: no examples, or LLaMA-Factory would refuse the whole file; nothing is then written.
    """
    path = folder / f"{name}.jsonl"
    if not examples:
        raise UserError("there are no examples to write", where=str(path),
                        fix="look at the run's ledger: it says where the records went")
    kind = kind_of(examples)
    if fmt == "trl" or fmt == "v1":
        rows = trl_rows(examples) if fmt == "trl" else v1_rows(examples)
        if fmt == "v1":
            write_atomic(path.with_suffix(".yaml"), v1_dataset(name, path))
        write_jsonl(provenance_path(path), provenance_rows(examples))
        return Written(name, path, {}, write_jsonl(path, rows), len(rows))
    entry = dataset_entry(path.name, fmt, kind)
    examples = apart(examples)
    if fmt == "alpaca":
        examples = typed_first(examples)
    rows = alpaca_rows(examples) if fmt == "alpaca" else sharegpt_rows(examples)
    report = check_rows(rows, entry, name=name)
    if report.fails:
        raise UserError(f"LLaMA-Factory would refuse this dataset: {report.fails[0]}", where=str(path))
    write_jsonl(provenance_path(path), provenance_rows(examples))
    written = write_jsonl(path, rows)
    return Written(name, path, entry, written, report.accepted, report.problems)


def typed_first(examples: Sequence[Example]) -> list[Example]:
    """The first example with a history in front, where else the first 10 MB of an alpaca file would have none.

    The loader types a .jsonl file in pieces of 10 MB and takes the types of the first: ``history: []`` throughout
    it is a list of nothing, and a history in a later piece is then refused with the whole file.
    """
    found = next((i for i, e in enumerate(examples) if e.history), None)
    if not found:
        return list(examples)
    first = next(in_pieces(alpaca_rows(examples[:found + 1])))
    if found < len(first.rows):
        return list(examples)
    return [examples[found], *examples[:found], *examples[found + 1:]]


def apart(examples: Sequence[Example], batch: int = KTO_BATCH) -> list[Example]:
    """KTO rows in an order in which no row follows one with the same answer; other kinds as they are.

    LLaMA-Factory takes for a row's KL term the answer of the row before it (for the first of ``batch`` rows, the
    last): meant as a mismatched pair, which twins (x_w, y, true) and (x_l, y, false) side by side would make a
    matched one (0.9.5, ``data/processor/feedback.py``). Where two rows are such neighbours all are shuffled,
    seeded by their ids, and those that still touch are swapped away; if most rows share one answer some remain.
    """
    if not all(isinstance(e, KTOExample) for e in examples):
        return list(examples)
    rows = list(examples)
    answers = [e.response for e in rows if isinstance(e, KTOExample)]

    def touches(i: int) -> bool:
        """Whether row ``i`` or the row after it follows its own answer."""
        first = i // batch * batch
        last = min(first + batch, len(rows)) - 1
        before, after = (i - 1 if i > first else last), (i + 1 if i < last else first)
        return answers[i] in (answers[before], answers[after]) and last > first

    if not any(map(touches, range(len(rows)))):
        return rows
    rng = Random(content_id([e.record_id for e in rows]))
    order = rng.sample(range(len(rows)), len(rows))
    rows, answers = [rows[i] for i in order], [answers[i] for i in order]
    for i in range(len(rows)):
        if not touches(i):
            continue
        for j in rng.sample(range(len(rows)), len(rows)):
            _swap(i, j, rows, answers)
            if not (touches(i) or touches(j)):
                break
            _swap(i, j, rows, answers)
    return rows


def _swap(i: int, j: int, *lists: list[Any]) -> None:
    for each in lists:
        each[i], each[j] = each[j], each[i]


def _turn(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


def _pairs(e: Example) -> list[list[str]]:
    roles = [t.role for t in e.history]
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise UserError("the history must alternate user and assistant and end with the assistant",
                        where=f"record {e.record_id}", fix="use sharegpt, or correct the seed's history")
    return [[q.content, a.content] for q, a in zip(e.history[::2], e.history[1::2], strict=True)]


def _answer(e: Example) -> dict[str, Any]:
    if isinstance(e, PreferenceExample):
        return {"chosen": e.chosen, "rejected": e.rejected}
    if isinstance(e, KTOExample):
        return {"output": e.response, "label": e.label}
    if isinstance(e, TripleExample):
        return {"output": e.response, CORRUPTED: e.prompt_rejected}
    assert isinstance(e, SFTExample)
    return {"output": e.response}
