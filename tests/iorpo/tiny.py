"""A random Llama of 0.2 M parameters, triples in several shapes, and runs of LLaMA-Factory on them, in seconds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COLUMNS = {"prompt": "instruction", "query": "input", "response": "output", "rejected": "instruction_corrupted"}
_FRUIT = ("apples", "pears", "plums", "figs", "dates", "limes")
_COLOURS = ("red", "green", "blue", "black", "white", "pink")


def need_llamafactory() -> None:
    pytest.importorskip("llamafactory.train.tuner", reason="llamafactory is not installed here",
                        exc_type=ImportError)


def cap_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Llama changes its logits after its output head, as Gemma 2 does."""
    from transformers import LlamaForCausalLM

    forward = LlamaForCausalLM.forward

    def capped(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        output.logits = (output.logits / 2.0).tanh() * 2.0
        return output

    monkeypatch.setattr(LlamaForCausalLM, "forward", capped)


def triple(i: int) -> dict[str, str]:
    """Row ``i``: the response follows the instruction and not the corrupted one."""
    rng = random.Random(i)
    fruit, (right, wrong) = rng.choice(_FRUIT), rng.sample(_COLOURS, 2)
    return {"instruction": f"Write about {fruit} and say they are {right}.", "input": "",
            "output": f"The {fruit} are {right}. " * rng.randint(1, 3),
            "instruction_corrupted": f"Write about {fruit} and say they are {wrong}."}


def chat(i: int) -> dict[str, Any]:
    """The same as a conversation with a system prompt and an earlier turn."""
    row = triple(i)
    turns = [("system", "Be brief."), ("human", "Hello"), ("gpt", f"Hello {i}."),
             ("human", row["instruction"]), ("gpt", row["output"])]
    return {"conversations": [{"from": a, "value": b} for a, b in turns],
            "instruction_corrupted": row["instruction_corrupted"]}


def register_data(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], entry: Mapping[str, Any]) -> None:
    """Write rows and add their entry to ``folder``/dataset_info.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(list(rows)))
    path = folder / "dataset_info.json"
    info = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(info | {name: {"file_name": f"{name}.json", **entry}}))


ALPACA = {"columns": COLUMNS}
SHAREGPT = {"formatting": "sharegpt",
            "columns": {"messages": "conversations", "rejected": "instruction_corrupted"}}


def make_root(folder: Path) -> Path:
    """``tiny`` (the model), ``data`` with ``alpaca`` (24 triples), ``chats`` (12) and ``held_out`` (6)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.exporting.reference import _byte_tokenizer

    torch.manual_seed(0)
    tokenizer = _byte_tokenizer()
    with contextlib.redirect_stderr(io.StringIO()):
        tokenizer.save_pretrained(folder / "tiny")
        LlamaForCausalLM(LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
            num_attention_heads=4, bos_token_id=0, eos_token_id=1)).save_pretrained(folder / "tiny")
    data = folder / "data"
    register_data(data, "alpaca", [triple(i) for i in range(24)], ALPACA)
    register_data(data, "chats", [chat(i) for i in range(12)], SHAREGPT)
    register_data(data, "held_out", [triple(i) for i in range(100, 106)], ALPACA)
    return folder


def config(root: Path, out: Path, **keys: Any) -> dict[str, Any]:
    """The keys of a short I-ORPO run; ``keys`` override them, ``None`` takes one out."""
    base = {"model_name_or_path": str(root / "tiny"), "stage": "iorpo", "do_train": True, "pref_beta": 0.4,
            "dataset": "alpaca", "dataset_dir": str(root / "data"), "template": "empty", "cutoff_len": 256,
            "lora_rank": 8, "output_dir": str(out), "logging_steps": 1, "save_strategy": "no", "report_to": "none",
            "per_device_train_batch_size": 4, "learning_rate": 5e-3, "num_train_epochs": 1, "use_cpu": True,
            "lr_scheduler_type": "constant", "overwrite_output_dir": False}
    return {k: v for k, v in (base | keys).items() if v is not None}


def run(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Train in this process, with the stage registered, and return the log of the trainer."""
    import torch
    from llamafactory.train import tuner

    from if_factory.iorpo.register import add_stage

    add_stage(tuner)
    torch.set_num_threads(1)  # as in `shell`: sums are then the same to the last bit
    with _process_left_alone():
        tuner.run_exp(dict(config))
    return history(Path(config["output_dir"]))


@contextlib.contextmanager
def _process_left_alone() -> Iterator[None]:
    """LLaMA-Factory reads sys.argv and sets warnings and logging of the whole process."""
    import warnings

    argv = sys.argv
    sys.argv = ["train"]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.argv = argv


def history(out: Path) -> list[dict[str, Any]]:
    logged: list[dict[str, Any]] = json.loads((out / "trainer_state.json").read_text())["log_history"]
    return logged


def losses(logged: Sequence[Mapping[str, Any]], key: str = "loss") -> list[float]:
    return [entry[key] for entry in logged if key in entry]


def adapter(out: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(out / "adapter_model.safetensors")
    return weights


def same_weights(a: Path, b: Path) -> bool:
    """Whether two adapters are equal to the last bit."""
    import torch

    first, second = adapter(a), adapter(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def write_yaml(path: Path, config: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(config), sort_keys=False))
    return path


def variables(**more: str) -> dict[str, str]:
    """The environment of a command: one thread, this source tree; a variable with an empty value is unset."""
    found = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **more}
    return {k: v for k, v in found.items() if v}


def shell(command: Sequence[str | Path], *, cwd: Path, timeout: float = 240,
          **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would; ``env`` as in ``variables``."""
    return subprocess.run([str(c) for c in command], cwd=cwd, env=variables(**env), capture_output=True, text=True,
                          timeout=timeout)
