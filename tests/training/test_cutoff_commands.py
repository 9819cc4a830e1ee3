"""`check --model`, `train` and I-ORPO: what is counted is what is cut, and the commands refuse it."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from if_factory.cli import main
from if_factory.exporting.acceptance import trained_rows
from if_factory.exporting.dataset_info import merge_entries
from if_factory.exporting.formats import write_dataset
from if_factory.records import TripleExample
from if_factory.training.cutoff import Encoder, Settings, count_cuts
from tests.exporting.reference import _byte_tokenizer, need_llamafactory
from tests.training.test_cutoff import long_rows

pytestmark = pytest.mark.slow


def said_by(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, " ".join((done.output + str(done.exception or "")).split())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four rows of which the third is longer than 100 tokens, a tokenizer, and the YAML of a stage."""
    need_llamafactory()
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(long_rows(tmp_path)))
    _byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_names_the_rows_that_are_cut_and_ends_with_status_1(folder: Path) -> None:
    command = ("check", "data", "--model", "tokenizer", "--template", "empty")
    status, said = said_by(*command, "--cutoff-len", "100")
    assert status == 1
    assert "the end of an answer is cut in 1 of 4 rows: d row 3 (153 tokens)" in said
    assert said_by(*command, "--cutoff-len", "100", "--allow-cut")[0] == 0
    status, said = said_by(*command)
    assert status == 0
    assert "cutoff_len 2048 cuts no row; the longest, row 3, has 153 tokens" in said


def test_train_refuses_rows_that_are_cut_unless_told_to_go_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training itself is left out: what is tested is that it begins only with --allow-cut."""
    begun: list[Any] = []
    monkeypatch.setattr("if_factory.iorpo.launcher.train_file", lambda *a, **k: begun.append(a))
    status, said = said_by("train", "x.yaml")
    assert status != 0
    assert "d row 3 (153 tokens)" in said
    assert "cutoff_len: 256" in said
    assert not begun
    assert said_by("train", "x.yaml", "cutoff_len=256")[0] == 0
    status, said = said_by("train", "x.yaml", "--allow-cut")
    assert (status, len(begun)) == (0, 2)
    assert "d row 3" in said, "it is told all the same"


@pytest.mark.parametrize("template", ["chatml", "empty", "bailing"])
def test_count_is_what_the_iorpo_stage_tokenises(template: str, tmp_path: Path) -> None:
    """A triple of which an instruction would be cut is not trained; of the others the answer is cut as counted."""
    need_llamafactory()
    from llamafactory.data import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    from if_factory.iorpo.data import TripleProcessor

    rng = Random(template)
    def text() -> str:
        return "x" * rng.choice([1, 5, 20, 40, 60, 90, 200])
    rows = [TripleExample(record_id=str(i), prompt="w" + text(), prompt_rejected="l" + text(), response=text(),
                          system=text() if rng.random() < 0.3 else "", corrupted=(0,)) for i in range(60)]
    merge_entries(tmp_path / "dataset_info.json", {"d": write_dataset("d", rows, tmp_path, "sharegpt").entry})
    _byte_tokenizer().save_pretrained(tmp_path / "tokenizer")
    encoder = Encoder(str(tmp_path / "tokenizer"), {"template": template})
    tokenizer = _byte_tokenizer()
    chosen = get_template_and_fix_tokenizer(tokenizer, DataArguments(template=template))

    def turns(pairs: Any) -> list[dict[str, str]]:
        return [{"role": role, "content": content} for role, content in pairs]

    seen_lost: set[str] = set()
    for cutoff in (100, 180, 333):
        report = count_cuts(tmp_path, ["d"], "iorpo", encoder, Settings(cutoff))
        by_row = {c.row: c.lost for c in report.cuts}
        processor = TripleProcessor(chosen, tokenizer, None, SimpleNamespace(cutoff_len=cutoff))
        for n, t, corrupted in trained_rows(tmp_path, "d", "iorpo"):
            done = processor.preprocess_dataset({
                "_prompt": [turns(t.prompt)], "_response": [turns(t.response)], "_corrupted": [turns(corrupted)],
                "_system": [t.system], "_tools": [t.tools], "_images": [None], "_videos": [None], "_audios": [None]})
            if done["_dropped"] != [""]:
                assert by_row.get(n), (n, cutoff, done["_dropped"])
                seen_lost.add("dropped")
            else:
                cut = sum(v for v in done["_truncated"])
                assert by_row.get(n) == ("answer" if cut else None), (n, cutoff)
                seen_lost.add("answer" if cut else "whole")
    assert seen_lost == {"dropped", "answer", "whole"}
