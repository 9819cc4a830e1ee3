import os
from pathlib import Path

import pytest

from if_factory.chat.budget import Budget, Usage
from if_factory.errors import UserError
from if_factory.pipeline.rundir import RunDir, usage_rows
from tests.pipeline.scripted import run_scripted

RECIPE = {"method": "complex_to_simple", "seed": 0, "options": {"n": 1}}


def test_what_is_written_is_read_back(tmp_path):
    result, _, usage = run_scripted(["split2", "ask", "dropped"], 5)
    with RunDir(tmp_path / "run") as folder:
        folder.claim(RECIPE)
        folder.write(result, usage, {"sft": 3})
    folder = RunDir(tmp_path / "run")
    assert folder.records() == result.records
    assert folder.records_at([1]) == {1: result.records[1]}
    assert folder.dropped() == result.dropped
    assert folder.ledger().to_dict() == result.ledger.to_dict()
    assert folder.usage() == usage_rows(usage, ["seeds", "0_split2", "1_ask", "2_some3"])
    assert folder.recipe() == RECIPE
    assert folder.emission() == {"sft": 3}
    assert folder.complete()


def test_a_stopped_run_says_so(tmp_path):
    result, _, usage = run_scripted(["ask"], 5, budget=Budget(max_requests=2))
    with RunDir(tmp_path) as folder:
        folder.write(result, usage)
    assert not folder.complete()
    assert len(folder.records()) == 2


def test_two_runs_in_one_folder_are_refused_with_the_folder_named(tmp_path):
    with RunDir(tmp_path), pytest.raises(UserError, match="another run") as e, RunDir(tmp_path):
        pass
    assert str(tmp_path) in str(e.value)
    with RunDir(tmp_path):  # the first has let go
        pass


@pytest.mark.parametrize(("key", "value"), [("seed", 1), ("method", "autoif")])
def test_another_seed_or_method_is_refused_unless_forced(tmp_path, key, value):
    with RunDir(tmp_path) as folder:
        folder.claim(RECIPE)
        with pytest.raises(UserError, match=f"holds a run with {key}"):
            folder.claim({**RECIPE, key: value})
        assert folder.recipe() == RECIPE
        folder.claim({**RECIPE, key: value}, force=True)
        assert folder.recipe()[key] == value


def test_edited_options_are_welcome(tmp_path):
    with RunDir(tmp_path) as folder:
        folder.claim(RECIPE)
        folder.claim({**RECIPE, "options": {"n": 2}})
        assert folder.recipe()["options"] == {"n": 2}


@pytest.mark.parametrize("failing", ["records.jsonl", "dropped.jsonl", "usage.json", "ledger.json"])
def test_dying_between_two_files_leaves_no_ledger_to_trust(tmp_path, monkeypatch, failing):
    result, _, usage = run_scripted(["ask"], 3)
    with RunDir(tmp_path) as folder:
        folder.claim(RECIPE)
        folder.write(result, usage)
        real = os.replace

        def dies(source, target):
            if Path(target).name == failing:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            folder.write(result, usage)
    with pytest.raises(UserError, match="has not finished"):
        folder.records()


def test_a_folder_without_a_run_and_one_with_a_broken_file_are_explained(tmp_path):
    with pytest.raises(UserError, match="there is no run here"):
        RunDir(tmp_path).records()
    with pytest.raises(UserError, match="there is no run here"):
        RunDir(tmp_path).recipe()
    result, _, usage = run_scripted(["ask"], 2)
    with RunDir(tmp_path) as folder:
        folder.write(result, usage)
    (tmp_path / "records.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(UserError, match=r"records\.jsonl:1: not a record"):
        RunDir(tmp_path).records()
    (tmp_path / "ledger.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        RunDir(tmp_path).records()


def test_a_folder_that_cannot_be_made_is_the_users_to_mend(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError), RunDir(tmp_path / "file" / "run"):
        pass


def test_usage_does_not_depend_on_who_asked_or_when():
    fresh, replayed = Usage(), Usage()
    for usage, names in ((fresh, ("b", "a")), (replayed, ("a", "b"))):
        for name in names:
            tally = usage.tally(name, "student")
            tally.prompt_tokens, tally.cost = 10, 0.1
    fresh.tally("a", "student").requests = 5
    replayed.tally("a", "student").requests, replayed.tally("a", "student").replayed = 2, 3
    fresh.tally("a", "student").retries = 7
    assert usage_rows(fresh, ["b", "a"]) == usage_rows(replayed, ["b", "a"])
    assert [row["stage"] for row in usage_rows(fresh, ["b", "a"])] == ["b", "a"]
