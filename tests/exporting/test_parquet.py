"""Parquet in and out: the rows of the .jsonl files, read some at a time, and a card that the hub's viewer reads."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.evaluation.audit import audit
from if_factory.exporting import loading
from if_factory.exporting.acceptance import check_dataset
from if_factory.exporting.card import card, write_card
from if_factory.exporting.dataset_info import dataset_entry, merge_entries
from if_factory.exporting.formats import write_dataset
from if_factory.exporting.manifest import ExportedDataset
from if_factory.files import count_rows, read_rows
from if_factory.inputs.seeds import read_seeds
from if_factory.records import SFTExample
from tests.exporting.reference import accepted_by_llamafactory, need_llamafactory
from tests.exporting.test_formats import FORMATS, KINDS, PAST, examples
from tests.rewards.runs import NO_COMMA, record, write_run

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def parquet(path: Path, rows: list[dict[str, Any]], **how: Any) -> Path:
    keys = dict.fromkeys(key for row in rows for key in row)
    pq.write_table(pa.Table.from_pylist([{key: row.get(key) for key in keys} for row in rows]), path, **how)
    return path


def test_rows_are_read_over_row_groups_and_null_is_an_absent_key(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "id": None if i % 2 else i, "kwargs": [{"n": i, "word": None}]} for i in range(7)]
    path = parquet(tmp_path / "s.parquet", rows, row_group_size=3)
    assert pq.ParquetFile(path).num_row_groups == 3
    read = list(read_rows(path))
    assert read[:2] == [(1, {"prompt": "p0", "id": 0, "kwargs": [{"n": 0}]}),
                        (2, {"prompt": "p1", "kwargs": [{"n": 1}]})]
    assert [n for n, _ in read] == [1, 2, 3, 4, 5, 6, 7]
    assert count_rows(path) == 7


def test_what_json_cannot_hold_becomes_text_or_is_left_out(tmp_path: Path) -> None:
    path = parquet(tmp_path / "s.parquet", [{"day": datetime.date(2024, 2, 29), "x": float("nan"), "raw": b"\x00"}])
    assert list(read_rows(path)) == [(1, {"day": "2024-02-29"})]


@pytest.mark.parametrize(("data", "problem"), [(b"PAR1 no", "not a parquet file"), (None, "no such file")])
def test_a_file_that_is_none_is_named(tmp_path: Path, data: bytes | None, problem: str) -> None:
    path = tmp_path / "s.parquet"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=problem) as caught:
        list(read_rows(path))
    assert caught.value.where == str(path)
    assert caught.value.fix


def test_seeds_from_parquet_are_those_of_the_same_rows_in_jsonl(tmp_path: Path) -> None:
    rows = [{"prompt": "Describe a lighthouse.", "instruction_id_list": ["length_constraints:number_words"],
             "kwargs": [{"relation": "at least", "num_words": 80}]},
            {"prompt": "And now?", "history": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
             "system": "Be brief.", "category": "sea"}]
    lines = tmp_path / "s.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_seeds(parquet(tmp_path / "s.parquet", rows)) == read_seeds(lines)


@KINDS
@pytest.mark.parametrize("fmt", ["alpaca", "sharegpt", "trl", "v1"])
def test_exported_tables_hold_the_rows_of_the_lines(kind: str, fmt: Any, tmp_path: Path) -> None:
    if (kind, fmt) == ("iorpo", "trl"):
        pytest.skip("trl has no trainer for triples")
    if fmt == "v1" and kind != "sft":
        pytest.skip("v1 is for SFT alone")
    lines = write_dataset("d", examples(kind), tmp_path / "lines", fmt)
    table = write_dataset("d", examples(kind), tmp_path / "table", fmt, as_parquet=True)
    assert table.path.name == "d.parquet"
    assert pq.read_table(table.path).to_pylist() == [json.loads(line) for line in lines.path.read_text().splitlines()]
    assert table.provenance.read_bytes() == lines.provenance.read_bytes()
    assert (table.written, table.accepted, table.problems) == (lines.written, lines.accepted, lines.problems)
    again = write_dataset("d", examples(kind), tmp_path / "again", fmt, as_parquet=True)
    assert again.path.read_bytes() == table.path.read_bytes()


@KINDS
@FORMATS
def test_check_accepts_exported_tables(kind: str, fmt: Any, tmp_path: Path) -> None:
    written = write_dataset("d", examples(kind), tmp_path, fmt, as_parquet=True)
    merge_entries(tmp_path / "dataset_info.json", {"d": written.entry})
    report = check_dataset(tmp_path, "d")
    assert (report.rows, report.accepted, report.stage, report.problems) == (2, 2, kind, [])


@pytest.mark.slow
@KINDS
@FORMATS
def test_llamafactory_itself_accepts_them(kind: str, fmt: Any, tmp_path: Path) -> None:
    need_llamafactory()
    written = write_dataset("d", examples(kind), tmp_path, fmt, as_parquet=True)
    merge_entries(tmp_path / "dataset_info.json", {"d": written.entry})
    assert accepted_by_llamafactory(tmp_path, "d", kind) == (2, "")


def test_a_history_that_comes_late_needs_no_place_in_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table's types are stated, not learned from its first piece: check knows, over several row groups."""
    monkeypatch.setattr(loading, "PIECE", 2000)
    rows = [SFTExample(record_id=str(i), prompt=f"say {i}", response="x" * 50, history=PAST if i >= 90 else ())
            for i in range(100)]
    written = write_dataset("d", rows, tmp_path, "sharegpt", as_parquet=True)
    assert pq.ParquetFile(written.path).num_row_groups > 3
    plain = parquet(tmp_path / "e.parquet", [{"instruction": "q", "input": "", "output": "a", "system": "",
                                              "history": []}] * 1500 + [
        {"instruction": "q", "input": "", "output": "a", "system": "s", "history": [["q", "a"]]}])
    merge_entries(tmp_path / "dataset_info.json", {"d": written.entry,
                                                   "e": dataset_entry(plain.name, "alpaca", "sft")})
    assert check_dataset(tmp_path, "d").accepted == 100
    assert check_dataset(tmp_path, "e").accepted == 1501


def test_check_names_the_row_of_a_table_that_is_dropped(tmp_path: Path) -> None:
    rows = [{"instruction": "q", "input": "", "output": "a", "system": "", "history": []} for _ in range(2500)]
    rows[2100]["output"] = None
    parquet(tmp_path / "e.parquet", rows, row_group_size=900)
    merge_entries(tmp_path / "dataset_info.json", {"e": dataset_entry("e.parquet", "alpaca", "sft")})
    report = check_dataset(tmp_path, "e")
    assert report.rows == 2500
    assert [p.row for p in report.problems if p.row] == [2101]


def test_a_table_that_is_none_is_refused_by_check(tmp_path: Path) -> None:
    (tmp_path / "e.parquet").write_bytes(b"nothing")
    merge_entries(tmp_path / "dataset_info.json", {"e": dataset_entry("e.parquet", "alpaca", "sft")})
    assert "not a parquet file" in check_dataset(tmp_path, "e").fails[0].reason


def test_audit_of_a_table_says_what_audit_of_the_lines_says(tmp_path: Path) -> None:
    lines = write_dataset("d", examples("dpo"), tmp_path / "lines", "alpaca")
    table = write_dataset("d", examples("dpo"), tmp_path / "table", "alpaca", as_parquet=True)
    found = [{**audit(each.path).as_dict(), "path": ""} for each in (lines, table)]
    assert found[0] == found[1]


DATASETS = [ExportedDataset(name, kind, kind, label, f"data/{name}.parquet", rows, "alpaca")
            for name, kind, label, rows in (
                ("demo_sft", "sft", "all", 900), ("demo_sft_easy", "sft", "easy", 450),
                ("demo_dpo", "dpo", "all", 200))]


def head_of(text: str) -> dict[str, Any]:
    assert text.startswith("---\n")
    return dict(yaml.safe_load(text.split("---\n")[1]))


def test_the_card_names_each_file_as_a_configuration() -> None:
    head = head_of(card("demo", "conifer", DATASETS, None))
    assert head["configs"][1] == {"config_name": "demo_sft_easy",
                                  "data_files": [{"split": "train", "path": "demo_sft_easy.parquet"}]}
    assert [c.get("default") for c in head["configs"]] == [True, None, None]
    assert head["size_categories"] == ["1K<n<10K"], "bins hold rows again and are not counted"
    assert "license" not in head
    assert "# license: state one" in card("demo", "conifer", DATASETS, None)


def test_a_stated_licence_stays_and_another_readme_is_left_alone(tmp_path: Path) -> None:
    path = write_card(tmp_path, "demo", "conifer", DATASETS, "apache-2.0")
    write_card(tmp_path, "demo", "conifer", DATASETS, None)
    assert (path.name, head_of(path.read_text())["license"]) == ("README.md", "apache-2.0")
    assert write_card(tmp_path, "other", "suri", DATASETS, None).name == "other.card.md"
    assert head_of(path.read_text())["license"] == "apache-2.0"


def test_the_command_writes_tables_that_check_accepts_and_a_card(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [record(f"Describe the {word}.", NO_COMMA,
                                              answers=[f"the {word} is wide and blue."])
                                       for word in ("sea", "tide", "moon", "shore")])
    out = CliRunner().invoke(main, ["export", str(run), "--into", str(tmp_path / "data"), "--files", "demo",
                                    "--parquet", "--license", "cc-by-4.0"])
    assert out.exit_code == 0, out.output
    head = head_of((tmp_path / "data" / "demo" / "README.md").read_text())
    assert head["license"] == "cc-by-4.0"
    named = [c["config_name"] for c in head["configs"]]
    assert "demo_sft" in named
    assert all((tmp_path / "data" / "demo" / f"{name}.parquet").is_file() for name in named)
    checked = CliRunner().invoke(main, ["check", str(tmp_path / "data")])
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize("flags", [[], ["--parquet"]])
def test_version_1_gets_the_sft_datasets_of_a_run_with_others_and_no_entry(flags: list[str], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [record(f"Describe the {word}.", NO_COMMA,
                                              answers=[f"the {word} is wide and blue.", f"the {word}, wide, blue."])
                                       for word in ("sea", "tide", "moon", "shore")])
    out = CliRunner().invoke(main, ["export", str(run), "--into", str(tmp_path / "data"), "--format", "v1", *flags])
    assert out.exit_code == 0, out.output
    ending = "parquet" if flags else "jsonl"
    made = {f"demo_sft{part}.{end}" for part in ("", "_easy", "_hard") for end in (ending, "provenance.jsonl", "yaml")}
    assert {p.name for p in (tmp_path / "data").iterdir()} == made | ({"README.md"} if flags else set())
    named = yaml.safe_load((tmp_path / "data" / "demo_sft.yaml").read_text())["demo_sft"]["path"]
    assert [set(row) for _, row in read_rows(Path(named))] == [{"messages"}] * 4
