"""Which datasets a curriculum trains: those that the record of the export names, and no other recipe's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from if_factory import curriculum, export, run
from if_factory.api.curricula import default_stages
from if_factory.errors import UserError
from if_factory.exporting.manifest import ExportedDataset, Manifest, manifest_path, read_manifest, write_manifest
from tests.support.texts import story


@pytest.fixture
def made(tmp_path: Path):
    """``made(name)`` runs Suri (which needs no model) under a name and exports it into the one folder ``data``."""
    def make(name: str, texts: int = 6, **how) -> Path:
        rows = [{"text": f"Harbour {i}, on a cold day. " + story(16 + 4 * i)} for i in range(texts)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(yaml.safe_dump({"method": "suri", "name": name, "seeds": f"{name}.jsonl",
                                          "options": {"triples_per_text": 1}}))
        run(recipe, tmp_path / name)
        export(tmp_path / name, tmp_path / "data", **how)
        return tmp_path / name
    return make


def trained(tmp_path: Path, folder: Path, **how) -> list[str]:
    """The datasets of the curriculum's stages, in training order."""
    shutil.rmtree(tmp_path / "yaml", ignore_errors=True)
    done = curriculum(folder, model="m", dataset_dir=tmp_path / "data", out=tmp_path / "yaml", **how)
    return [yaml.safe_load(p.read_text())["dataset"] for p in done.stages]


def test_two_recipes_in_one_folder_never_mix_even_if_one_name_begins_with_the_other(made, tmp_path: Path) -> None:
    folders = {name: made(name, bins=2) for name in ("demo", "demo_sft_v2")}
    for name, folder in folders.items():
        assert trained(tmp_path, folder) == [f"{name}_{stage}_{label}" for stage in ("sft", "iorpo")
                                             for label in ("easy", "hard")]


def test_the_record_says_of_every_dataset_what_it_is(made, tmp_path: Path) -> None:
    made("demo", bins=3, files="mine")
    manifest = read_manifest(tmp_path / "data", "demo")
    info = json.loads((tmp_path / "data" / "dataset_info.json").read_text())
    assert {d.name for d in manifest.datasets} == set(info)
    for d in manifest.datasets:
        assert d.file == info[d.name]["file_name"]
        assert d.rows == len((tmp_path / "data" / d.file).read_text().splitlines())
        assert d.format == "alpaca"
    assert {(d.dataset, d.kind) for d in manifest.datasets} == {("sft", "sft"), ("iorpo", "iorpo"),
                                                                ("kto_surrogate", "kto")}
    assert {d.bin for d in manifest.datasets} == {"all", "1", "2", "3"}
    assert (manifest.bins, manifest.by_difficulty) == (3, False)


def test_a_curriculum_trains_in_the_bins_that_were_exported_without_being_told(made, tmp_path: Path) -> None:
    folder = made("demo", bins=3)
    assert trained(tmp_path, folder, stages=["iorpo"]) == ["demo_iorpo_1", "demo_iorpo_2", "demo_iorpo_3"]
    assert trained(tmp_path, folder, stages=["iorpo"], bins=1) == ["demo_iorpo"]
    with pytest.raises(UserError) as caught:
        trained(tmp_path, folder, stages=["iorpo"], bins=2)
    assert "--bins 2" in caught.value.fix


def test_a_folder_that_0_1_exported_into_is_read_by_exact_names_with_a_warning(made, tmp_path: Path) -> None:
    folders = {name: made(name, bins=2) for name in ("demo", "demo_sft_v2")}
    shutil.rmtree(tmp_path / "data" / ".if_factory")
    for name, folder in folders.items():
        with pytest.warns(FutureWarning, match="export again"):
            assert trained(tmp_path, folder) == [f"{name}_{stage}_{label}" for stage in ("sft", "iorpo")
                                                 for label in ("easy", "hard")]


def test_a_run_that_was_never_exported_into_the_folder_is_told_so(made, tmp_path: Path) -> None:
    folder = made("demo")
    made("other")
    info = tmp_path / "data" / "dataset_info.json"
    info.write_text(json.dumps({k: v for k, v in json.loads(info.read_text()).items() if k.startswith("other")}))
    manifest_path(tmp_path / "data", "demo").unlink()
    with pytest.raises(UserError, match="was not exported into this folder"):
        trained(tmp_path, folder)


def test_an_entry_that_somebody_removed_is_named(made, tmp_path: Path) -> None:
    folder = made("demo")
    info = tmp_path / "data" / "dataset_info.json"
    entries = json.loads(info.read_text())
    del entries["demo_iorpo_hard"]
    info.write_text(json.dumps(entries))
    with pytest.raises(UserError, match="'demo_iorpo_hard' is not in it any more"):
        trained(tmp_path, folder)


def dataset(name: str, emitted: str, label: str = "all") -> ExportedDataset:
    return ExportedDataset(name, emitted, "sft" if emitted == "replay" else emitted.split("_")[0], label,
                           f"{name}.jsonl", 1, "alpaca")


def test_stages_come_from_what_was_emitted_and_never_from_names() -> None:
    manifest = Manifest("demo_sft", 2, False, (
        dataset("demo_sft_dpo", "dpo"), dataset("demo_sft_dpo_easy", "dpo", "easy"),
        dataset("demo_sft_kto", "kto"),
        dataset("demo_sft_sft", "sft"), dataset("demo_sft_sft_external", "sft_external"),
        dataset("demo_sft_sft_backward", "sft_backward"), dataset("demo_sft_replay", "replay")))
    assert default_stages(manifest, ("sft_backward",)) == ("sft", "sft_external", "dpo")
    assert manifest.replay() == ("demo_sft_replay",)


@pytest.mark.parametrize(("text", "problem"), [
    ("nonsense", "not a record of an export"), ("[]", "not a record"), ('{"version": 1}', "not a record"),
    ('{"version": 2}', "version 2"),
    ('{"version": 1, "recipe": "other", "bins": 2, "by_difficulty": false, "datasets": []}', "'other'")])
def test_a_broken_record_is_named_with_the_remedy(tmp_path: Path, text: str, problem: str) -> None:
    path = write_manifest(tmp_path, Manifest("demo", 2, False, ()))
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_manifest(tmp_path, "demo")
    assert caught.value.where == str(path)
    assert problem in caught.value.problem
    assert "export" in caught.value.fix


def test_a_stage_of_few_steps_has_no_warm_up_unless_the_user_sets_one(made, tmp_path: Path) -> None:
    """Six rows and a batch of 8 are one step; the first step of a warm-up has a learning rate of 0."""
    folder = made("demo")
    how = {"model": "m", "dataset_dir": tmp_path / "data", "out": tmp_path / "yaml", "stages": ["sft"], "bins": 1}
    (path,) = curriculum(folder, **how).stages
    assert "warmup_ratio: 0.0  # ours: 1 step in all, and a warm-up's first has a learn" in path.read_text()
    for settings, kept in (({"num_train_epochs": 10}, 0.1), ({"num_train_epochs": 9}, 0.0),
                           ({"max_steps": 10}, 0.1), ({"sft.warmup_ratio": 0.2}, 0.2)):
        (path,) = curriculum(folder, settings=settings, **how).stages
        assert yaml.safe_load(path.read_text())["warmup_ratio"] == kept, settings
    (path,) = curriculum(folder, settings={"warmup_steps": 2}, **how).stages
    assert yaml.safe_load(path.read_text())["warmup_steps"] == 2


# ---------------------------------------------------------------- a folder that holds something already


def state(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize(("info", "said"), [
    ('{"demo_sft": {"file_name": "demo_sft.jsonl"}}', "already there with other content"),
    ('{"mine": {"file_name": "mine.json"},}', "not valid JSON"), ("[]", "expected an object"),
    ("{}", "no export wrote it"),
])
def test_an_export_that_cannot_be_registered_writes_nothing(made, tmp_path: Path, info: str, said: str) -> None:
    run_folder = made("demo")
    data = tmp_path / "mine"
    data.mkdir()
    (data / "dataset_info.json").write_text(info)
    (data / "demo_sft.jsonl").write_text('{"question": "mine"}\n')
    before = state(data)
    with pytest.raises(UserError, match=said):
        export(run_folder, data)
    assert state(data) == before


def test_another_format_over_an_export_is_refused_before_a_file_changes(made, tmp_path: Path) -> None:
    run_folder = made("demo")
    before = state(tmp_path / "data")
    with pytest.raises(UserError, match="already there"):
        export(run_folder, tmp_path / "data", format="sharegpt")
    assert state(tmp_path / "data") == before
    export(run_folder, tmp_path / "data", format="sharegpt", force=True)
    assert {d.format for d in read_manifest(tmp_path / "data", "demo").datasets} == {"sharegpt"}


def test_force_replaces_a_file_of_the_users(made, tmp_path: Path) -> None:
    run_folder = made("demo")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "demo_sft.jsonl").write_text("mine\n")
    export(run_folder, tmp_path / "mine", force=True)
    assert b"mine" not in state(tmp_path / "mine")["demo_sft.jsonl"].splitlines()


def test_what_an_earlier_export_left_is_named(made, tmp_path: Path) -> None:
    run_folder = made("demo", bins=3)
    report = export(run_folder, tmp_path / "data", bins=2)
    assert set(report.left_over) == {f"demo_{kind}_{n}" for kind in ("sft", "iorpo", "kto_surrogate")
                                     for n in (1, 2, 3)}
    assert not export(run_folder, tmp_path / "data", bins=2).left_over


def test_files_are_inside_the_data_folder(made, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not inside the data folder"):
        export(made("demo"), tmp_path / "data", files="../elsewhere")
