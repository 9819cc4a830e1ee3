"""The zero-patch route, and the oracle: stock LLaMA-Factory, without hook, trains our triples to our losses."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from if_factory.errors import UserError
from tests.iorpo.tiny import config, history, losses, run, shell, write_yaml

pytestmark = pytest.mark.e2e
STOCK = [sys.executable, "-c", "from llamafactory.cli import main; main()"]
MIXED: dict[str, Any] = {"dataset": "alpaca,chats", "eval_dataset": "held_out", "do_eval": True,
                         "finetuning_type": "full", "lora_rank": None, "learning_rate": 1e-3,
                         "eval_strategy": "steps", "eval_steps": 6, "num_train_epochs": 3,
                         "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}


@pytest.mark.parametrize(("head", "chunk_size"), [("chunked", 16), ("full", 1024)])
def test_stock_orpo_over_tokenised_triples_has_our_losses_at_every_step_and_evaluation(
        root: Path, tmp_path: Path, head: str, chunk_size: int, stock: list[dict[str, Any]]) -> None:
    run(config(root, tmp_path / "ours", iorpo_head=head, iorpo_chunk_size=chunk_size, **MIXED))
    ours = everything(tmp_path / "ours")
    for key, count in (("loss", 18), ("eval_loss", 4), ("grad_norm", 18), ("rewards/margins", 18),
                       ("eval_rewards/accuracies", 4), ("eval_rewards/margins", 4)):
        assert len(losses(ours, key)) == count
        assert losses(ours, key) == pytest.approx(losses(stock, key), abs=1e-4), key
    assert losses(ours)[-1] < 0.9 * losses(ours)[0], "the run has gone somewhere"


def everything(out: Path) -> list[dict[str, Any]]:
    """Every step and evaluation of a run, the last evaluation too."""
    return [*history(out), json.loads((out / "eval_results.json").read_text())]


@pytest.fixture(scope="module")
def stock(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The log of stock LLaMA-Factory, as its own process without our hook, on what `tokenize` wrote."""
    from if_factory.iorpo.tokenized import tokenize

    folder = tmp_path_factory.mktemp("stock")
    path = write_yaml(folder / "x.yaml", config(root, folder / "saved", **MIXED))
    made = tokenize(path, folder / "out")
    keys = yaml.safe_load(made.read_text())
    assert (keys["stage"], keys["pref_loss"], keys["pref_beta"]) == ("dpo", "orpo", 0.4)
    assert not [key for key in keys if key.startswith("iorpo_")]
    done = shell([*STOCK, "train", made], cwd=folder, IF_FACTORY_AUTOLOAD="0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "if_factory" not in done.stdout + done.stderr
    return everything(folder / "saved")


def test_the_stage_trains_tokenised_triples_too_and_refuses_other_pairs(root: Path, tmp_path: Path) -> None:
    from datasets import DatasetDict, load_from_disk

    from if_factory.iorpo.tokenized import tokenize

    plain = config(root, tmp_path / "a", max_steps=2)
    tokenize(write_yaml(tmp_path / "x.yaml", plain), tmp_path / "out")
    folder = tmp_path / "out" / "tokenized"
    again = run({**plain, "output_dir": str(tmp_path / "b"), "tokenized_path": str(folder)})
    assert losses(again) == losses(run(plain))
    other = load_from_disk(str(folder))["train"].map(
        lambda row: {"rejected_labels": [*row["rejected_labels"][:-1], 7]})
    DatasetDict({"train": other}).save_to_disk(str(tmp_path / "pairs"))
    with pytest.raises(UserError, match="holds no I-ORPO triples"):
        run({**plain, "output_dir": str(tmp_path / "c"), "tokenized_path": str(tmp_path / "pairs")})


@pytest.mark.parametrize(("keys", "words"), [
    ({"stage": "dpo"}, "expected a LLaMA-Factory YAML with `stage: iorpo`"),
    ({"iorpo_nll_on": "prompt_and_response"}, "stock LLaMA-Factory has the likelihood of the response only"),
])
def test_what_stock_cannot_train_is_refused(root: Path, tmp_path: Path, keys: dict[str, Any], words: str) -> None:
    from if_factory.iorpo.tokenized import tokenize

    with pytest.raises(UserError, match=words):
        tokenize(write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "a", **keys)), tmp_path / "out")


def test_a_folder_in_use_is_not_written_to(root: Path, tmp_path: Path) -> None:
    from if_factory.iorpo.tokenized import tokenize

    (tmp_path / "out" / "tokenized").mkdir(parents=True)
    with pytest.raises(UserError, match="already there"):
        tokenize(write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "a")), tmp_path / "out")
