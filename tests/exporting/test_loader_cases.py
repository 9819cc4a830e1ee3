"""Small datasets on which `check` once parted from LLaMA-Factory 0.9.5, with what the loader did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from if_factory.exporting.acceptance import CheckReport, LoaderOptions, check_dataset
from tests.exporting.reference import accepted_by_llamafactory, jsonl, need_llamafactory, put

FOLDER = Path(__file__).parent / "loader_cases"
CASES = {p.stem: json.loads(p.read_text()) for p in sorted(FOLDER.glob("*.json"))}
# [rows trained, whether it raised], seen with llamafactory 0.9.5
SEEN = json.loads((FOLDER / "seen" / "verdicts.json").read_text())


def rows_of(case: dict[str, Any]) -> list[Any]:
    return case["rows"] if "rows" in case else [row for row, times in case["repeat"] for _ in range(times)]


def write(folder: Path, case: dict[str, Any]) -> None:
    kind, rows = case["file"]["kind"], rows_of(case)
    if kind in ("jsonl", "list", "raw"):
        name = case["file"].get("name", "d.jsonl" if kind == "jsonl" else "d.json")
        content = jsonl(rows) if kind == "jsonl" else json.dumps(rows).encode() if kind == "list" else \
            case["file"]["raw"].encode()
        put(folder, {"file_name": name} | case["entry"], content)
        return
    if kind == "folder":
        (folder / "d").mkdir(parents=True)
        for i in range(case["file"]["parts"]):
            (folder / "d" / f"{i}.jsonl").write_bytes(jsonl(rows[i::case["file"]["parts"]]))
        entry = {"file_name": "d"} | case["entry"]
    else:
        assert kind == "parquet_time"
        pa = pytest.importorskip("pyarrow")
        from datetime import datetime

        import pyarrow.parquet as pq
        pq.write_table(pa.Table.from_pylist([{**r, "when": datetime(2024, 1, 1)} for r in rows]),
                       folder / "d.parquet")
        entry = {"file_name": "d.parquet"} | case["entry"]
    (folder / "dataset_info.json").write_text(json.dumps({"d": entry}))


def check(folder: Path, case: dict[str, Any]) -> CheckReport:
    data_args = case.get("data_args", {})
    options = LoaderOptions(workers=data_args.get("preprocessing_num_workers", 1), template=case["template"])
    return check_dataset(folder, "d", stage=case["stage"], options=options)


@pytest.mark.parametrize("name", list(CASES))
def test_verdict_is_the_one_seen_from_llamafactory(name: str, tmp_path: Path) -> None:
    if name == "j3_parallel_calls_glm4":
        need_llamafactory()  # a template's tool format is read from the installed one
    write(tmp_path, CASES[name])
    report = check(tmp_path, CASES[name])
    assert [report.accepted, bool(report.fails)] == SEEN[name], report.problems


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_llamafactory_still_does_that(name: str, tmp_path: Path) -> None:
    need_llamafactory()
    case = CASES[name]
    write(tmp_path, case)
    accepted, raised = accepted_by_llamafactory(
        tmp_path, "d", case["stage"], workers=case.get("data_args", {}).get("preprocessing_num_workers"),
        template=case["template"])
    assert [accepted, bool(raised)] == SEEN[name], raised
