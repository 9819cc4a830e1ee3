"""The runner: a stage is trained once, a killed curriculum goes on, nothing that failed passes for success."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from if_factory.api.training import train
from if_factory.errors import UserError
from if_factory.exporting.dataset_info import merge_entries
from if_factory.exporting.formats import write_dataset
from if_factory.iorpo import launcher
from if_factory.records import SFTExample
from if_factory.training.curriculum import CurriculumOptions, write_curriculum
from if_factory.training.run import run_curriculum, stages_in

TRAINER = (sys.executable, str(Path(__file__).with_name("scripted_trainer.py")))


class Bench:
    """A folder with two SFT stages, run by the scripted trainer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for label, answer in (("easy", "x"), ("hard", "y")):
            self.data(label, answer)
        self.paths = write_curriculum(
            CurriculumOptions("m", None, name="c", stages=("sft",)),
            {("sft", "easy"): "d_easy", ("sft", "hard"): "d_hard"}, root / "yaml")

    def data(self, label: str, answer: str) -> None:
        rows = [SFTExample(record_id="r", prompt="say", response=answer)]
        done = write_dataset(f"d_{label}", rows, self.root / "data", "alpaca")
        merge_entries(self.root / "data" / "dataset_info.json", {done.name: done.entry})

    def run(self, script: str = "ok", paths: Any = None) -> Any:
        self.said: list[str] = []
        return run_curriculum(paths or self.paths, root=self.root, cli=TRAINER, env={"SCRIPT": script},
                              say=self.said.append)

    def calls(self) -> list[str]:
        file = self.root / "calls.txt"
        done = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return done


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_stages_run_in_order_then_the_adapters_are_merged(bench: Bench) -> None:
    results = bench.run()
    assert bench.calls() == ["train c_1_sft_easy.yaml", "train c_2_sft_hard.yaml", "export c_export.yaml"]
    assert [(r.steps, r.losses[-1], r.skipped) for r in results] == [(4, 1.0, False)] * 2
    assert (bench.root / "saves" / "c_merged").is_dir()


def test_finished_stages_are_skipped(bench: Bench) -> None:
    bench.run(paths=bench.paths[:2])
    bench.calls()
    assert [r.skipped for r in bench.run(paths=bench.paths[:2])] == [True, True]
    assert bench.calls() == []


def test_killed_stage_goes_on_from_its_checkpoint(bench: Bench) -> None:
    with pytest.raises(UserError, match="status -9"):
        bench.run("killed", bench.paths[:2])
    assert bench.calls() == ["train c_1_sft_easy.yaml"]
    results = bench.run(paths=bench.paths[:2])
    assert "resumed" in bench.said
    assert [r.skipped for r in results] == [False, False]
    assert not list((bench.root / "saves").glob("*.old-*"))


def test_torn_checkpoint_is_not_resumed(bench: Bench) -> None:
    with pytest.raises(UserError):
        bench.run("killed", bench.paths[:1])
    (bench.root / "saves" / "c_1_sft_easy" / "checkpoint-4" / "trainer_state.json").unlink()
    bench.run(paths=bench.paths[:1])
    assert "fresh" in bench.said


def test_changed_data_trains_that_stage_and_the_later_ones_anew_and_keeps_the_old(bench: Bench) -> None:
    bench.run(paths=bench.paths[:2])
    bench.calls()
    bench.data("hard", "another answer")
    assert [r.skipped for r in bench.run(paths=bench.paths[:2])] == [True, False]
    assert "fresh" in bench.said
    assert (bench.root / "saves" / "c_2_sft_hard.old-1" / "adapter_model.safetensors").exists()


def test_changed_setting_trains_anew_and_so_does_what_was_built_on_it(bench: Bench) -> None:
    bench.run(paths=bench.paths[:2])
    bench.paths[0].write_text(bench.paths[0].read_text().replace("num_train_epochs: 1.0", "num_train_epochs: 2.0"))
    assert [r.skipped for r in bench.run(paths=bench.paths[:2])] == [False, False]


def test_changed_comment_trains_nothing(bench: Bench) -> None:
    bench.run(paths=bench.paths[:2])
    bench.paths[0].write_text("# a note\n" + bench.paths[0].read_text())
    assert [r.skipped for r in bench.run(paths=bench.paths[:2])] == [True, True]


def test_stage_that_trained_nothing_is_refused_although_it_exits_0(bench: Bench) -> None:
    with pytest.raises(UserError, match="trained 0 steps"):
        bench.run("zero")
    assert bench.calls() == ["train c_1_sft_easy.yaml"], "the next stage is not started"


def test_loss_that_is_no_number_is_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match="not a finite number"):
        bench.run("nan")


def test_gradient_that_is_no_number_is_refused_although_the_loss_is_logged_as_one(bench: Bench) -> None:
    with pytest.raises(UserError, match="gradient is not a finite number"):
        bench.run("gradient")
    assert bench.calls() == ["train c_1_sft_easy.yaml"]


@pytest.mark.parametrize(("script", "words"), [("broken", "1 of 1 tensors .* not finite"),
                                               ("idle", "those that training began with")])
def test_saved_weights_are_looked_at(script: str, words: str, bench: Bench) -> None:
    pytest.importorskip("numpy")
    with pytest.raises(UserError, match=words):
        bench.run(script)
    assert not any(r.skipped for r in bench.run(paths=bench.paths[:1])), "such a stage is not taken as finished"


def test_too_few_rows_for_a_step_with_a_learning_rate_are_called_that(bench: Bench) -> None:
    for _ in range(2):  # the second time its checkpoint is finished, and it is no less true
        with pytest.raises(UserError, match="4 steps, all at a learning rate of 0: too few rows for a batch of 8") as e:
            bench.run("cold", bench.paths[:1])
        assert "warmup_ratio: 0.0" in e.value.fix
    bench.paths[0].write_text(bench.paths[0].read_text().replace("warmup_ratio: 0.1", "warmup_ratio: 0.0"))
    assert [r.steps for r in bench.run(paths=bench.paths[:1])] == [4]
    assert "fresh" in bench.said


def test_keys_that_always_raise_stop_the_runner_before_it_trains(bench: Bench) -> None:
    bench.paths[1].write_text(bench.paths[1].read_text() + "mix_strategy: interleave_once\n")
    with pytest.raises(UserError, match="interleave_once"):
        bench.run()
    assert bench.calls() == []


def test_one_yaml_with_deepspeed_is_started_by_torchrun_as_a_folder_of_them_is(
        bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """LLaMA-Factory raises otherwise. Only folders were."""
    tell = "import os, pathlib, sys; pathlib.Path('env').write_text(os.environ.get('FORCE_TORCHRUN', ''))"
    monkeypatch.setattr(launcher, "COMMAND", (sys.executable, "-c", tell))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("if_factory.api.training.preflight", lambda *args, **how: [])
    monkeypatch.chdir(bench.root)
    train(bench.paths[0])
    assert Path("env").read_text() == ""
    train(bench.paths[0], ["deepspeed=ds_z2_config.json"])
    assert Path("env").read_text() == "1"


def test_one_yaml_that_is_finished_says_that_nothing_was_trained(
        bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "COMMAND", TRAINER)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("if_factory.api.training.preflight", lambda *args, **how: [])
    monkeypatch.chdir(bench.root)
    said: list[str] = []
    train(bench.paths[0], say=said.append)
    assert said == []
    train(bench.paths[0], ["overwrite_output_dir=true"], say=said.append)
    assert said == []
    train(bench.paths[0], say=said.append)
    assert said == [f"{bench.paths[0]}: 0 steps trained, for saves/c_1_sft_easy/checkpoint-4 had all of them: delete "
                    "saves/c_1_sft_easy to train it anew"]


def test_failure_quotes_the_error_and_names_the_log(bench: Bench) -> None:
    with pytest.raises(UserError, match=r"ValueError: Some keys are not used.*\n.*train\.log"):
        bench.run("fail")
    assert "HfArgumentParser" in (bench.root / "saves" / "c_1_sft_easy" / "train.log").read_text()


def test_stage_before_the_one_it_builds_on_is_refused(bench: Bench) -> None:
    with pytest.raises(UserError, match="no adapter in"):
        bench.run(paths=bench.paths[1:2])
    assert bench.calls() == []


def test_missing_dataset_is_refused_before_training(bench: Bench) -> None:
    (bench.root / "data" / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match="has no dataset 'd_easy'"):
        bench.run()
    assert bench.calls() == []


def test_no_llamafactory_is_a_user_error(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.executable", str(bench.root / "python"))
    with pytest.raises(UserError, match="not installed"):
        run_curriculum(bench.paths)


@pytest.mark.parametrize("text", ["a: [", "- x", "stage: sft\noutput_dir: 3\n"])
def test_broken_yaml_is_a_user_error(text: str, bench: Bench) -> None:
    bench.paths[0].write_text(text)
    with pytest.raises(UserError, match="c_1_sft_easy"):
        bench.run()


def test_stages_of_a_folder_come_in_training_order(tmp_path: Path) -> None:
    for n in (10, 2, 1):
        (tmp_path / f"c_{n}_sft_{n}.yaml").write_text("output_dir: x\n")
    (tmp_path / "c_export.yaml").write_text("export_dir: x\n")
    assert [p.name for p in stages_in(tmp_path)] == ["c_1_sft_1.yaml", "c_2_sft_2.yaml", "c_10_sft_10.yaml"]
    with pytest.raises(UserError, match="no stages"):
        stages_in(tmp_path.parent / "nothing")


def test_an_unfinished_checkpoint_of_a_single_yaml_is_set_aside_and_a_whole_one_stays(tmp_path: Path) -> None:
    from if_factory.training.run import set_torn_aside

    for name, files in (("checkpoint-3", ["trainer_state.json"]), ("checkpoint-4", []), ("torn-checkpoint-4", ["old"])):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
    said: list[str] = []
    set_torn_aside(tmp_path, said.append)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-3", "torn-checkpoint-4"]
    assert not (tmp_path / "torn-checkpoint-4" / "old").exists()
    assert "checkpoint-4 was not written to its end" in said[0]
    set_torn_aside(tmp_path / "nowhere", said.append)
    assert len(said) == 1
