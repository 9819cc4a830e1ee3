"""Which tokens of Conifer's datasets carry loss, read from LLaMA-Factory's own labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from if_factory.exporting.dataset_info import merge_entries
from if_factory.exporting.formats import write_dataset
from tests.exporting.reference import need_llamafactory, trained_on
from tests.methods.test_conifer import WEAK, Teacher, emitted, play

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_llamafactory()
    out = tmp_path_factory.mktemp("data")
    options = {"format_share": 1.0, "format_types": ["change_case:english_lowercase", "punctuation:no_comma"]}
    result = play(Teacher(), 2, **options)
    for external in ("folded", "masked"):
        rows = emitted(result, external=external, **options)
        for dataset in rows.datasets:
            if dataset.startswith("sft"):
                written = write_dataset(dataset, rows[dataset], out, "sharegpt")
                merge_entries(out / "dataset_info.json", {dataset: written.entry}, force=True)
    return out


def share(rows: list[tuple[int, str]]) -> float:
    return sum(len(text) for _, text in rows) / sum(tokens for tokens, _ in rows)


def test_a_conversation_trains_every_answer_of_it(folder: Path) -> None:
    for _, text in trained_on(folder, "sft"):
        assert text.count("A good answer to ") == 5


def test_internal_feedback_trains_answer_and_explanation(folder: Path) -> None:
    for _, text in trained_on(folder, "sft_internal"):
        assert text.startswith("the answer\n\n---\n1. It is met.")


def test_a_folded_attempt_carries_no_loss(folder: Path) -> None:
    rows = trained_on(folder, "sft_external")
    assert rows
    for _, text in rows:
        assert WEAK not in text
        assert text.startswith("A good answer")


def test_a_masked_attempt_carries_no_loss_and_without_the_mask_it_would(folder: Path) -> None:
    assert all(WEAK not in text for _, text in trained_on(folder, "sft_external_masked", mask_history=True))
    assert all(WEAK in text for _, text in trained_on(folder, "sft_external_masked"))


def test_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = {(name, mask): share(trained_on(folder, name, mask_history=mask)) for name, mask in (
        ("sft", False), ("sft_internal", False), ("sft_external", False), ("sft_external_masked", True))}
    with capsys.disabled():
        for (name, mask), part in table.items():
            print(f"\n{name}{' with mask_history' if mask else ''}: {part:.0%} of tokens carry loss", end="")
    assert all(0 < part < 1 for part in table.values())
    assert table["sft_external_masked", True] < table["sft", False]
