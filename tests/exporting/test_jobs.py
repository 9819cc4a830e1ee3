"""Folders of files that several workers read (`preprocessing_num_workers`): the verdicts of `datasets` 4.0.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from if_factory.exporting.acceptance import CheckReport, LoaderOptions, check_dataset
from tests.exporting.reference import accepted_by_llamafactory, jsonl, need_llamafactory

COLUMNS = {"prompt": "instruction", "query": "input", "response": "output"}
ROW = {"instruction": "q", "input": "", "output": "a"}
NULL, TEXT = ROW | {"extra": None}, ROW | {"extra": "x"}
# (files, workers, whether it loads): what the real loader does with each, which the slow test below shows
CASES: dict[str, tuple[list[bytes], int, bool]] = {
    "a date in one file and a text in another": (
        [jsonl([ROW | {"extra": "2024-01-01"}]), jsonl([TEXT])], 2, False),
    "the same in the files of one worker": ([jsonl([ROW | {"extra": "2024-01-01"}]), jsonl([TEXT])], 1, False),
    "a text in one file and a date in another, one worker": (
        [jsonl([TEXT]), jsonl([ROW | {"extra": "2024-01-01"}])], 1, True),
    "the same, two workers": ([jsonl([TEXT]), jsonl([ROW | {"extra": "2024-01-01"}])], 2, False),
    "three files, of which the first worker reads two": (
        [jsonl([TEXT]), jsonl([ROW | {"extra": "2024-01-01"}]), jsonl([TEXT])], 2, True),
    "a column that the second worker's file does not have": ([jsonl([TEXT]), jsonl([ROW])], 2, True),
    "a column that the first worker's file does not have": ([jsonl([ROW]), jsonl([TEXT])], 2, False),
    "null in the first worker's file": ([jsonl([NULL]), jsonl([TEXT])], 2, False),
    "null in the second worker's file": ([jsonl([TEXT]), jsonl([NULL])], 2, True),
    "whole numbers, and others": ([jsonl([ROW | {"extra": 1.5}]), jsonl([ROW | {"extra": 1}])], 2, False),
    "the same, one worker": ([jsonl([ROW | {"extra": 1.5}]), jsonl([ROW | {"extra": 1}])], 1, True),
    "whole numbers with a point, in a list": (
        [json.dumps([ROW | {"extra": 1.0}]).encode(), jsonl([ROW | {"extra": 1}])], 2, True),
    "dates in a list and in lines": (
        [json.dumps([ROW | {"date": "2024-01-01"}]).encode(), jsonl([ROW | {"date": "2024-01-01"}])], 2, False),
    "keys in another order": ([jsonl([ROW]), jsonl([dict(reversed(ROW.items()))])], 2, True),
    "an object with a key more in the second worker's file": (
        [jsonl([ROW | {"extra": {"a": 1}}]), jsonl([ROW | {"extra": {"a": 1, "b": 1}}])], 2, False),
    "an object with a key less there": (
        [jsonl([ROW | {"extra": {"a": 1, "b": 1}}]), jsonl([ROW | {"extra": {"a": 1}}])], 2, True),
    "an empty file that a worker has alone": ([jsonl([ROW]), b""], 2, False),
    "an empty file beside another": ([jsonl([ROW]), jsonl([ROW]), b""], 2, False),
    "an empty file, one worker": ([jsonl([ROW]), b""], 1, True),
}


def _write(folder: Path, files: list[bytes]) -> None:
    (folder / "d").mkdir(parents=True)
    for n, content in enumerate(files):
        (folder / "d" / f"{n}.json").write_bytes(content)
    (folder / "dataset_info.json").write_text(json.dumps({"d": {"file_name": "d", "columns": COLUMNS}}))


@pytest.fixture(autouse=True)
def in_order(monkeypatch: Any) -> None:
    """A folder's order is the file system's; these cases need that of the names."""
    import os

    names = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path=".": sorted(names(path)))


def _checked(folder: Path, workers: int) -> CheckReport:
    return check_dataset(folder, "d", options=LoaderOptions(workers=workers))


@pytest.mark.parametrize("case", CASES)
def test_files_of_a_folder_fit_each_other_or_not(case: str, tmp_path: Path) -> None:
    files, workers, loads = CASES[case]
    _write(tmp_path, files)
    report = _checked(tmp_path, workers)
    assert bool(report.fails) != loads, report.problems
    assert report.ok == loads


def test_the_reason_names_the_column_and_the_setting(tmp_path: Path) -> None:
    _write(tmp_path, CASES["a date in one file and a text in another"][0])
    problem = _checked(tmp_path, 2).fails[0]
    assert problem.field == "extra"
    assert "preprocessing_num_workers" in problem.reason


def test_a_slice_reads_only_the_files_it_takes_rows_of(tmp_path: Path) -> None:
    _write(tmp_path, CASES["a date in one file and a text in another"][0])
    info = tmp_path / "dataset_info.json"
    info.write_text(json.dumps({"d": {"file_name": "d", "columns": COLUMNS, "split": "train[:1]"}}))
    assert _checked(tmp_path, 2).ok


def test_a_slice_of_later_files_must_have_the_types_of_the_first(tmp_path: Path) -> None:
    """Seed 52 of the differential test: the dataset's types are the first worker's, whoever's rows are taken."""
    _write(tmp_path, CASES["null in the second worker's file"][0])
    info = tmp_path / "dataset_info.json"
    info.write_text(json.dumps({"d": {"file_name": "d", "columns": COLUMNS, "split": "train[1:]"}}))
    assert _checked(tmp_path, 2).fails[0].field == "extra"
    assert _checked(tmp_path, 1).ok


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_loader_does_that(case: str, tmp_path: Path) -> None:
    need_llamafactory()
    files, workers, loads = CASES[case]
    _write(tmp_path, files)
    accepted, raised = accepted_by_llamafactory(tmp_path, "d", "sft", workers=workers)
    assert (not raised) == loads, raised
    assert accepted == (_checked(tmp_path, workers).accepted if loads else 0)
