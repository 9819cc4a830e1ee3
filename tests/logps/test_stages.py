"""Stock stages dpo and kto with ``logps_chunk_size`` against themselves without: real runs of a tiny random Llama."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from if_factory.errors import UserError
from tests.iorpo.environments import make_environment
from tests.iorpo.tiny import (
    cap_logits,
    config,
    history,
    make_root,
    need_llamafactory,
    register_data,
    run,
    shell,
    triple,
    write_yaml,
)

pytestmark = pytest.mark.e2e
FULL = {"finetuning_type": "full", "lora_rank": None, "learning_rate": 1e-3}
EVAL = {"eval_dataset": "held_pairs", "do_eval": True, "eval_strategy": "steps", "eval_steps": 2}
NOT_COMPARED = ("runtime", "per_second", "total_flos")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with ``pairs``, ``held_pairs``, ``labels`` and ``held_labels`` beside its triples."""
    need_llamafactory()
    folder: Path = make_root(tmp_path_factory.mktemp("logps"))
    rows = [triple(i) for i in range(24)]
    pairs = [{**r, "bad": f"They are not. {r['output'][:4 * i]}"} for i, r in enumerate(rows)]
    columns = {"prompt": "instruction", "chosen": "output", "rejected": "bad"}
    labels = [{**r, "good": i % 3 != 1} for i, r in enumerate(rows)]
    tagged = {"prompt": "instruction", "response": "output", "kto_tag": "good"}
    for name, part in (("", slice(0, 18)), ("held_", slice(18, 24))):
        register_data(folder / "data", f"{name}pairs", pairs[part], {"ranking": True, "columns": columns})
        register_data(folder / "data", f"{name}labels", labels[part], {"columns": tagged})
    return folder


def keys_of(root: Path, out: Path, **keys: Any) -> dict[str, Any]:
    return config(root, out, **{"stage": "dpo", "dataset": "pairs", "pref_beta": 0.3, "max_steps": 3, **keys})


RUNS: dict[str, dict[str, Any]] = {
    "sigmoid, NLL, adapters off, evaluation": {"pref_ftx": 0.7, **EVAL},
    "sigmoid, a model as the reference, smoothing": {"dpo_label_smoothing": 0.1, **FULL},
    "orpo": {"pref_loss": "orpo"},
    "simpo, full, accumulation": {"pref_loss": "simpo", "gradient_accumulation_steps": 2,
                                  "per_device_train_batch_size": 2, **FULL},
    "ipo": {"pref_loss": "ipo", "pref_ftx": 0.2},
    "hinge, LD-DPO": {"pref_loss": "hinge", "ld_alpha": 0.4},
    "kto_pair, BCO, checkpointing off": {"pref_loss": "kto_pair", "pref_bco_weight": 0.5,
                                         "disable_gradient_checkpointing": True},
    "kto, NLL, evaluation": {"stage": "kto", "dataset": "labels", "pref_ftx": 0.3, **EVAL,
                             "eval_dataset": "held_labels"},
    "kto, a model as the reference": {"stage": "kto", "dataset": "labels", "kto_rejected_weight": 0.5, **FULL},
}


def compared(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if not any(word in k for word in NOT_COMPARED)} for entry in log]


@pytest.mark.parametrize("name", RUNS)
def test_every_logged_number_of_a_run_is_stocks(root: Path, tmp_path: Path, name: str) -> None:
    """Losses, gradient norms, rewards, log-probabilities and mean logits of 3 steps, and of evaluations."""
    from if_factory.logps.register import add_stage

    stock = compared(run(keys_of(root, tmp_path / "stock", **RUNS[name])))
    from llamafactory.train import tuner

    add_stage(tuner)
    ours = compared(run(keys_of(root, tmp_path / "ours", logps_chunk_size=7, **RUNS[name])))
    assert len(ours) == len(stock) >= 4
    assert any("eval_loss" in entry for entry in ours) == ("eval_steps" in RUNS[name])
    for mine, theirs in zip(ours, stock, strict=True):
        assert mine.keys() == theirs.keys()
        for key, value in theirs.items():
            precision = {"rel": 1e-3, "abs": 1e-4} if "logits" in key else {"rel": 1e-5, "abs": 1e-5}
            assert mine[key] == pytest.approx(value, **precision), key
    from llamafactory.train.dpo import trainer
    from llamafactory.train.kto import workflow

    assert (trainer.CustomDPOTrainer.__module__, workflow.CustomKTOTrainer.__module__) == (
        "llamafactory.train.dpo.trainer", "llamafactory.train.kto.trainer"), "stock's own are back"


def test_the_stock_command_takes_the_key_and_flags(root: Path, tmp_path: Path) -> None:
    """``llamafactory-cli train x.yaml`` in an environment with the start-up hook; a flag overrides the file."""
    python = make_environment(tmp_path / "env", base=True)
    path = write_yaml(tmp_path / "x.yaml", keys_of(root, tmp_path / "saved", logps_chunk_size=7))
    env = {"PATH": os.pathsep.join((str(python.parent), os.environ["PATH"])), "PYTHONPATH": ""}
    done = shell(["llamafactory-cli", "train", path, "logps_chunk_size=5"], cwd=tmp_path, **env)
    assert done.returncode == 0, done.stderr[-2000:]
    stock = run(keys_of(root, tmp_path / "stock"))
    found = history(tmp_path / "saved")
    for key in ("loss", "grad_norm"):
        assert [e[key] for e in found[:3]] == pytest.approx([e[key] for e in stock[:3]], rel=1e-5, abs=1e-5)


def test_a_model_that_changes_its_logits_is_refused(
        root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llamafactory.train import tuner

    from if_factory.logps.register import add_stage

    add_stage(tuner)
    cap_logits(monkeypatch)
    with pytest.raises(UserError, match=r"logps_chunk_size.*changes its logits after the output head"):
        run(keys_of(root, tmp_path / "x", logps_chunk_size=7))


def test_sums_are_those_of_stocks_get_batch_logps() -> None:
    """Random masks: gaps, rows without a label, and LD-DPO's weight."""
    torch = pytest.importorskip("torch")
    need_llamafactory()
    from llamafactory.train.trainer_utils import get_batch_logps

    from if_factory.logps.sums import label_sums

    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(6, 11, 13, generator=generator)
        labels = torch.randint(0, 13, (6, 11), generator=generator)
        labels[torch.rand(6, 11, generator=generator) < 0.4] = -100
        labels[seed % 6] = -100
        each = logits[:, :-1].log_softmax(-1).gather(2, labels[:, 1:].clamp(min=0)[..., None])[..., 0]
        each = each.masked_fill(labels[:, 1:] == -100, 0.0)
        for ld_alpha in (None, 0.0, 0.3, 1.0):
            expected = get_batch_logps(logits, labels, ld_alpha=ld_alpha)
            torch.testing.assert_close(label_sums(each, labels, ld_alpha), expected)


def test_the_functions_it_replaces_are_those_of_the_tested_version() -> None:
    need_llamafactory()
    from importlib.metadata import version

    from if_factory.logps.stages import TESTED, changed

    if version("llamafactory") != TESTED:
        pytest.skip("another version of LLaMA-Factory is installed here")
    assert changed() == []
