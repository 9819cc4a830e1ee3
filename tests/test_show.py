"""What users and models wrote is shown as it is, and sentences fit their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from if_factory.api import ExportReport, Plan
from if_factory.chat.budget import Usage
from if_factory.cli import show
from if_factory.exporting.acceptance import CheckReport
from if_factory.exporting.dataset_info import MergeReport
from if_factory.exporting.manifest import Manifest
from if_factory.methods.base import Emission, PlannedCalls
from if_factory.pipeline.ledger import Ledger
from if_factory.pipeline.progress import Progress
from if_factory.records import Record


@pytest.mark.parametrize("name", ["x[/b]", "name[train]", "end:smile:"])
def test_no_text_of_a_user_is_markup_or_an_emoji(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    show.show_check([CheckReport(name, "sft", 1, 1, [])], 10)
    show.show_records([Record.from_seed(name, method=name).with_extra(x=name)], Emission())
    emission = Emission()
    emission.refused["sft"][name] += 1
    show.show_emission(emission)
    ledger = Ledger(["respond"])
    ledger.rows[-1].dropped[name] += 1
    show.show_ledger(ledger)
    progress = Progress()
    progress.ledger, progress.models, progress.total, progress.usage = ledger, {}, 1, Usage()
    progress.console.width = 200
    progress.console.print(progress.table())
    out, err = capsys.readouterr()
    assert out.count(name) == 4
    assert name in err


def test_a_plan_says_it_when_there_are_no_calls(
        capsys: pytest.CaptureFixture[str]) -> None:
    show.show_plan(Plan(1, [], (0, 0), (0, 0), 0), 95)
    assert capsys.readouterr().out == "1 seed: no calls; code does all of it\n"


def test_an_export_of_nothing_says_why_and_a_part_of_a_run_that_it_is_one(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger = Ledger(["respond"])
    ledger.rows[-1].dropped["too_long"], ledger.rows[-1].unfinished = 3, 1
    report = ExportReport([], Emission(), MergeReport(tmp_path / "dataset_info.json"), Manifest("x", 2, False, []))
    show.show_export(report, ledger)
    show.show_unfinished(ledger)
    said = " ".join(capsys.readouterr().out.split())
    assert "nothing to export: no rows; dropped in the run: too_long 3" in said
    assert "dataset_info.json" not in said
    assert "not finished: the run was stopped; 1 record of it" in said


def test_a_plan_shows_one_figure_where_both_ends_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    calls = [PlannedCalls("respond", "student", 1200, 1200, 2, 3), PlannedCalls("correct", "teacher", 0, 5, 1, 1)]
    show.show_plan(Plan(2, calls, (40.8, 41.2), (0, 0.5), 0), 95)
    said = capsys.readouterr().out
    for part in ("2 seeds", "time   41 min", " 1,200 ", " 2,400 ", " 0 - 5 ", "0.00 - 0.50 USD"):
        assert part in said
