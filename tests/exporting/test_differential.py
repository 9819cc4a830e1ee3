"""Random datasets through LLaMA-Factory's real loader and through `check`: the same verdict, always.

Formats, columns, mutations of good rows, batch borders, shards, pieces, entries. `DIFFERENTIAL=5000` runs more,
`DIFFERENTIAL_FROM` starts elsewhere; a case is its seed. `DIFFERENTIAL_FOLDERS` is the number of folders of files that
several workers read, which take the loader much longer.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from if_factory.exporting import acceptance
from if_factory.exporting.acceptance import LoaderOptions, check_dataset
from tests.exporting.cases import FULL_TAGS
from tests.exporting.reference import accepted_by_llamafactory, jsonl, need_llamafactory, put

CASES = int(os.environ.get("DIFFERENTIAL", "300"))
FOLDERS = int(os.environ.get("DIFFERENTIAL_FOLDERS", "12"))
QUICK = int(os.environ.get("DIFFERENTIAL_QUICK", "240"))  # without LLaMA-Factory
START = int(os.environ.get("DIFFERENTIAL_FROM", "0"))
TEXTS = ["", "x", "ja, gerne", "2024-01-01", "42", "\U0001f600", "a\nb", "<image>", "null", " "]
ODD = [None, 0, 1, 2.5, True, False, [], {}, ["ab"], [["q", "a"]], {"from": "gpt", "value": "x"}, "2024-01-01",
       [["q", None]], [None], {"a": 1}]
TOOL = {"name": "f", "description": "d",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}
TOOLS = ["", "[]", "nope", "3", '"x"', "null", json.dumps([TOOL]), json.dumps(TOOL), json.dumps([{"name": "f"}]),
         json.dumps([{"type": "function", "function": TOOL}]), "[1]", " "]
CALL = {"name": "f", "arguments": {"x": 1}}
CALLS = [json.dumps(CALL), json.dumps([CALL, CALL]), "nope", "[]", "{}", "<tool_call>" + json.dumps(CALL) +
         "</tool_call>", "<think>\nso\n</think>\n\n" + json.dumps(CALL), json.dumps({**CALL, "arguments": "{}"}),
         "<tool_call>nope</tool_call>", json.dumps({"name": 1, "arguments": []})]
TEMPLATES = ["empty"] * 5 + ["chatml", "glm4", "qwen", "llama2", "mistral", "qwen3", "llama3", "glm4_moe",
                             "seed_oss"]


class Made:
    """One random dataset: rows, entry, stage, loader settings, how it is written."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        pick = self.rng.choice
        self.formatting = pick(["alpaca", "alpaca", "sharegpt", "sharegpt", "openai"])
        self.kind = pick(["sft", "sft", "dpo", "kto"])
        self.stage = self.kind if self.rng.random() < 0.93 else pick(["sft", "dpo", "kto"])
        self.history, self.tools, self.system = (self.rng.random() < p for p in (0.3, 0.2, 0.4))
        self.entry = self._entry()
        few = self.rng.random() < 0.75
        self.rows = [self._row() for _ in range(self.rng.randint(1, 5) if few else self.rng.randint(6, 40))]
        for _ in range(self.rng.choice([0, 0, 0, 1, 1, 2])):
            self._mutate()
        if self.rng.random() < 0.15:
            self._mutate_entry()
        self.workers = pick([None] * 12 + [1, 2, 3]) if len(self.rows) > 1 else None
        self.batch = pick([1000, 1000, 2, 3, 7])
        self.piece = pick([None, None, 150, 600])
        self.template = pick(TEMPLATES)
        self.max_samples = pick([None] * 8 + [1, 3])
        self.written = pick(["jsonl"] * 6 + ["list", "folder"])
        if self.rng.random() < 0.1:  # around the border of a thousand
            self.rows = [*self.rows[:2], *[self.rows[0]] * self.rng.randint(995, 1003), *self.rows[2:]]
            self.workers, self.piece = None, None

    def _entry(self) -> dict[str, Any]:
        columns = {"prompt": "instruction", "query": "input"} if self.formatting == "alpaca" else {
            "messages": "conversations"}
        if self.formatting == "alpaca" and self.kind != "dpo":
            columns["response"] = "output"
        if self.history and self.formatting == "alpaca":
            columns["history"] = "history"
        if self.system:
            columns["system"] = "system"
        if self.tools:
            columns["tools"] = "tools"
        columns |= {"sft": {}, "dpo": {"chosen": "chosen", "rejected": "rejected"},
                    "kto": {"kto_tag": "label"}}[self.kind]
        entry: dict[str, Any] = {"formatting": self.formatting, "columns": columns}
        if self.kind == "dpo":
            entry["ranking"] = True
        if self.formatting == "openai" or self.rng.random() < 0.2:
            entry["tags"] = dict(FULL_TAGS)
        return entry

    def _message(self, side: str) -> dict[str, Any]:
        tags = self.entry.get("tags") or {"role_tag": "from", "content_tag": "value", "user_tag": "human",
                                          "assistant_tag": "gpt", "function_tag": "function_call",
                                          "observation_tag": "observation", "system_tag": "system"}
        calls = CALLS if self.rng.random() < 0.3 else CALLS[:1]
        text: Any = self.rng.choice(calls) if side == "function" else self._text()
        message = {tags["role_tag"]: tags[f"{side}_tag"], tags["content_tag"]: text}
        if self.formatting == "openai" and side == "assistant" and self.rng.random() < 0.15:
            message["tool_calls"] = self.rng.choice([None, [], [{"function": CALL}], [{"function": {
                "name": "f", "arguments": "{}"}}], [{"id": "x"}]])
        return message

    def _text(self) -> str:
        return self.rng.choice(TEXTS) if self.rng.random() < 0.3 else "word"

    def _talk(self) -> list[Any]:
        turns = []
        if self.rng.random() < 0.15:
            turns.append(self._message("system"))
        for _ in range(self.rng.choice([1, 1, 1, 2, 3])):
            turns.append(self._message("user" if self.rng.random() < 0.9 else "observation"))
            turns.append(self._message("function" if self.rng.random() < 0.12 else "assistant"))
        if self.kind == "dpo":
            turns.pop()
        if self.rng.random() < 0.03:
            self.rng.shuffle(turns)
        if self.rng.random() < 0.06:
            turns.pop()
        return turns

    def _row(self) -> dict[str, Any]:
        if self.formatting == "alpaca":
            row: dict[str, Any] = {"instruction": self._text(), "input": self._text()}
            if self.kind != "dpo":
                row["output"] = self._text()
            else:
                row |= {"chosen": self._text(), "rejected": self._text()}
            if self.history:
                row["history"] = [] if self.rng.random() < 0.6 else [["q", "a"]]
        else:
            row = {"conversations": self._talk()}
            if self.kind == "dpo":
                row |= {"chosen": self._message("assistant"), "rejected": self._message("assistant")}
        if self.kind == "kto":
            row["label"] = self.rng.random() < 0.5
        if self.system:
            row["system"] = self.rng.choice(["s", "", None] if self.rng.random() < 0.3 else ["s"])
        if self.tools:
            row["tools"] = self.rng.choice(TOOLS) if self.rng.random() < 0.08 else json.dumps([TOOL])
            if self.formatting == "openai" and self.rng.random() < 0.1:
                row["tools"] = self.rng.choice([[TOOL], TOOL])
        return row

    def _mutate(self) -> None:
        row = self.rng.choice(self.rows)
        if not row:
            return
        key = self.rng.choice(list(row))
        what = self.rng.random()
        everywhere = self.rng.random() < 0.25
        if what < 0.2:
            for r in self.rows if everywhere else [row]:
                r.pop(key, None)
        elif what < 0.65:
            value = self.rng.choice(ODD)
            for r in self.rows if everywhere else [row]:
                r[key] = value
        elif what < 0.75:
            row["extra"] = self.rng.choice(ODD)
        elif isinstance(row[key], list) and row[key]:
            at = self.rng.randrange(len(row[key]))
            item = row[key][at]
            if isinstance(item, dict) and item and self.rng.random() < 0.8:
                name = self.rng.choice(list(item))
                if self.rng.random() < 0.3:
                    del item[name]
                else:
                    item[name] = self.rng.choice([*ODD, "human", "gpt", "user", "tool"])
            else:
                row[key][at] = self.rng.choice(ODD)
        elif isinstance(row[key], dict) and row[key]:
            row[key][self.rng.choice(list(row[key]))] = self.rng.choice(ODD)

    def _mutate_entry(self) -> None:
        pick = self.rng.choice
        what = pick(["columns", "columns", "tags", "ranking", "split", "num_samples", "formatting"])
        if what in ("columns", "tags") and isinstance(self.entry.get(what), dict) and self.entry[what]:
            name = pick(list(self.entry[what]))
            if self.rng.random() < 0.4:
                del self.entry[what][name]
            else:
                self.entry[what][name] = pick([None, "", "gone", 0, 3, ["x"], "instruction", "input"])
        else:
            self.entry[what] = pick({
                "columns": [{}, None, []], "tags": [{}, None], "ranking": ["true", 1, 0, None, False, True],
                "split": ["train[:2]", "train[1:]", "train[-1:]", "train[:50%]", "test", "all", "train[3:]", None,
                          "train[:1]+train[1:]", "train[2:1]"],
                "num_samples": [1, 3, 0, True, False, "3", -1, 2.0, 100],
                "formatting": ["chatml", None, "sharegpt"],
            }[what])

    def write(self, folder: Path) -> None:
        entry = dict(self.entry)
        if self.written == "folder" and len(self.rows) > 1:
            (folder / "d").mkdir(parents=True)
            half = len(self.rows) // 2
            for name, part in (("0.jsonl", self.rows[:half]), ("1.jsonl", self.rows[half:])):
                (folder / "d" / name).write_bytes(jsonl(part))
            (folder / "dataset_info.json").write_text(json.dumps({"d": entry | {"file_name": "d"}}))
        elif self.written == "list":
            put(folder, entry | {"file_name": "d.json"}, json.dumps(self.rows).encode())
        else:
            put(folder, entry | {"file_name": "d.jsonl"}, jsonl(self.rows))

    @property
    def drawn(self) -> bool:
        """Rows are drawn at random (`num_samples`), so a verdict that depends on which cannot be compared."""
        return self.entry.get("num_samples") is not None


class Folder(Made):
    """The rows of such a dataset in two to four files, which several workers read; columns may differ by file."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.workers = self.rng.choice([2, 2, 3, 4])
        self.rows = self.rows[:12]
        number = self.rng.randint(2, 4)
        while len(self.rows) < number:
            self.rows.append(self._row())
        ends = sorted(self.rng.sample(range(1, len(self.rows)), number - 1))
        self.files = [self.rows[a:b] for a, b in zip([0, *ends], [*ends, len(self.rows)], strict=True)]
        for rows in self.files:
            if self.rng.random() < 0.3:  # of this file only
                self._change(rows)
        self.lists = [self.rng.random() < 0.15 for _ in self.files]
        if self.rng.random() < 0.04:
            self.files[-1], self.lists[-1] = [], False

    def _change(self, rows: list[dict[str, Any]]) -> None:
        key = self.rng.choice([*self.rows[0], "system", "extra", "date"])
        value = self.rng.choice([*ODD, "text", "text", "2024-01-01"])
        gone = self.rng.random() < 0.3
        order = self.rng.random() < 0.2
        for i, row in enumerate(rows):
            rows[i] = {k: v for k, v in row.items() if not gone or k != key} | ({} if gone else {key: value})
            if order:
                rows[i] = dict(reversed(rows[i].items()))

    def write(self, folder: Path) -> None:
        (folder / "d").mkdir(parents=True)
        for n, (rows, as_list) in enumerate(zip(self.files, self.lists, strict=True)):
            (folder / "d" / f"{n}.json").write_bytes(json.dumps(rows).encode() if as_list else jsonl(rows))
        (folder / "dataset_info.json").write_text(json.dumps({"d": self.entry | {"file_name": "d"}}))


def verdicts(seed: int, folder: Path, kind: type[Made] = Made) -> tuple[list[Any], list[Any], str, Made]:
    """(ours, theirs, what they raised, the case)."""
    made = kind(seed)
    made.write(folder)
    accepted, raised = accepted_by_llamafactory(
        folder, "d", made.stage, workers=made.workers, template=made.template, piece=made.piece, batch=made.batch,
        max_samples=made.max_samples)
    options = LoaderOptions(workers=made.workers or 1, batch=made.batch, max_samples=made.max_samples,
                            template=made.template)
    if made.piece is not None:
        from dataclasses import replace
        options = replace(options, piece=made.piece)
    report = check_dataset(folder, "d", stage=made.stage, options=options)  # type: ignore[arg-type]
    return [report.accepted, bool(report.fails)], [accepted, bool(raised)], raised, made


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_check_and_llamafactory_agree(part: int, tmp_path: Path) -> None:
    need_llamafactory()
    parted = []
    for i in range(part, CASES, 10):
        ours, theirs, raised, made = verdicts(START + i, tmp_path / str(i))
        if ours != theirs and not made.drawn:
            parted.append((START + i, ours, theirs, raised[:200]))
    assert not parted, f"{len(parted)} of {CASES // 10}: {parted[:5]}"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_check_and_llamafactory_agree_on_folders_that_workers_share(part: int, tmp_path: Path) -> None:
    need_llamafactory()
    parted = []
    for i in range(part, FOLDERS, 2):
        ours, theirs, raised, made = verdicts(START + i, tmp_path / str(i), Folder)
        if ours != theirs and not made.drawn:
            parted.append((START + i, ours, theirs, raised[:200]))
    assert not parted, f"{len(parted)} of {FOLDERS // 2}: {parted[:5]}"


@pytest.mark.parametrize("part", range(4))
def test_rows_passed_over_in_stretches_get_the_verdicts_of_a_look_at_every_row(
        part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every format and stage, many rows of each kind, so that ordinary ones stand between odd ones in a batch."""
    for seed in range(part, QUICK, 4):
        made = Made(START + seed)
        made.rows = [made.rng.choice([*made.rows, made._row()]) for _ in range(made.rng.choice([9, 40, 80]))]
        made.written = "jsonl"
        made.write(folder := tmp_path / str(seed))
        options = LoaderOptions(workers=made.rng.choice([1, 1, 1, 3]), batch=made.rng.choice([2, 7, 25, 1000]),
                                piece=made.piece or 3000, template=made.template)
        found = []
        for look_at_all in (False, True):
            with monkeypatch.context() as patched:
                if look_at_all:
                    patched.setattr(acceptance, "odd_rows", lambda *args: None)
                report = check_dataset(folder, "d", stage=made.stage, options=options)  # type: ignore[arg-type]
            found.append((report.rows, report.accepted, list(map(str, report.problems))))
        assert found[0] == found[1], START + seed
