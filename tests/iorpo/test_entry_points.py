"""Every way in, with the commands a user types, in environments that have the start-up hook or have not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.iorpo.environments import make_environment
from tests.iorpo.tiny import (
    config,
    history,
    losses,
    register_data,
    run,
    same_weights,
    shell,
    triple,
    variables,
    write_yaml,
)

pytestmark = pytest.mark.e2e
Environment = Callable[..., dict[str, str]]
TWO = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Callable[..., dict[str, str]]:
    """Variables for ``shell`` that put an environment first on PATH: ``environment(hook=True)``."""
    made: dict[bool, Path] = {}

    def variables_of(hook: bool, **more: str) -> dict[str, str]:
        if hook not in made:
            made[hook] = make_environment(tmp_path_factory.mktemp("env"), hook=hook, base=True).parent
        # no PYTHONPATH: the environment's site-packages must do
        return {"PATH": os.pathsep.join((str(made[hook]), os.environ["PATH"])), "PYTHONPATH": "", **more}

    return variables_of


@pytest.fixture(scope="module")
def four(root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The log of one process with 4 triples per step, in file order."""
    return run(config(root, tmp_path_factory.mktemp("four"), disable_shuffling=True))


def test_the_stock_command_runs_the_stage_once_the_package_is_installed(
        root: Path, tmp_path: Path, environment: Environment, four: list[dict[str, Any]]) -> None:
    path = write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "saved", disable_shuffling=True))
    done = shell(["llamafactory-cli", "train", path], cwd=tmp_path, **environment(hook=True))
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(history(tmp_path / "saved")) == losses(four)


def test_our_command_needs_no_hook_and_takes_overrides_and_folders(
        root: Path, tmp_path: Path, environment: Environment, four: list[dict[str, Any]]) -> None:
    keys = config(root, tmp_path / "saved", disable_shuffling=True)
    path = write_yaml(tmp_path / "x.yaml", keys)
    out = tmp_path / "other"
    done = shell(["if-factory", "train", path, f"output_dir={out}", "max_steps=2"], cwd=tmp_path,
                 **environment(hook=False))
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(history(out)) == losses(four)[:2]
    folder = tmp_path / "stages"
    folder.mkdir()
    write_yaml(folder / "1_iorpo.yaml", {**keys, "max_steps": 2})
    for words in ("2 steps, loss", "finished before, skipped"):
        done = shell(["if-factory", "train", folder], cwd=tmp_path, **environment(hook=False))
        assert done.returncode == 0, done.stderr[-2000:]
        assert words in done.stdout


@pytest.mark.parametrize("hook", [True, False], ids=["llamafactory-cli", "if-factory"])
def test_two_workers_under_torchrun_train_what_one_process_trains(
        root: Path, tmp_path: Path, environment: Environment, four: list[dict[str, Any]],
        hook: bool) -> None:
    path = write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "saved", disable_shuffling=True,
                                                  per_device_train_batch_size=2))
    command = "llamafactory-cli" if hook else "if-factory"
    done = shell([command, "train", path], cwd=tmp_path, **environment(hook=hook, **TWO))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "world size: 2" in done.stdout + done.stderr
    for key in ("loss", "grad_norm", "log_odds", "rewards/accuracies"):
        assert losses(history(tmp_path / "saved"), key) == pytest.approx(losses(four, key), abs=1e-5), key


def test_a_worker_that_is_killed_ends_the_run_with_one_sentence(
        root: Path, tmp_path: Path, environment: Environment) -> None:
    path = write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "saved", per_device_train_batch_size=1,
                                                  num_train_epochs=500))
    env = variables(**environment(hook=False, **TWO))
    with subprocess.Popen(["if-factory", "train", str(path)], cwd=tmp_path, env=env, text=True, errors="replace",
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        log = tmp_path / "saved" / "trainer_log.jsonl"
        deadline = time.monotonic() + 150
        assert process.stderr is not None
        os.set_blocking(process.stderr.fileno(), True)
        while not (log.exists() and log.stat().st_size):
            assert process.poll() is None, process.stderr.read()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        _, worker = _workers(process.pid)
        os.kill(worker, signal.SIGKILL)
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 2
    assert re.search(r"error: .*x\.yaml: training stopped because worker \d was killed by signal 9 \(SIGKILL",
                     said), said[-2000:]
    assert _workers(process.pid) == [], "nobody is left"


def _workers(ancestor: int) -> list[int]:
    """The processes below ``ancestor`` that torchrun started to train."""
    psutil = pytest.importorskip("psutil")
    if not psutil.pid_exists(ancestor):
        return []
    return sorted(p.pid for p in psutil.Process(ancestor).children(recursive=True)
                  if "launcher.py" in " ".join(p.cmdline()) and "torchrun" not in " ".join(p.cmdline()))


def test_a_run_that_fails_is_one_sentence_and_status_2(
        root: Path, tmp_path: Path, environment: Environment) -> None:
    path = write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "saved", iorpo_chunksize=7))
    done = shell(["if-factory", "train", path], cwd=tmp_path, **environment(hook=False))
    assert done.returncode == 2
    assert "x.yaml: training failed: UserError: field 'iorpo_chunksize': stage iorpo has no key" in done.stderr


OTHERS = """
import inspect, json, sys
from llamafactory.train import dpo, kto, sft, tuner
from llamafactory.hparams import get_train_args
sys.argv = ["train"]
for config in json.load(open(sys.stdin.fileno())):
    tuner.run_exp(config)
# run_sft carries stage: grpo, run_dpo carries stage: iorpo
print("ORIGINALS", inspect.unwrap(tuner.run_sft) is sft.run_sft, tuner.run_kto is kto.run_kto,
      inspect.unwrap(tuner.run_dpo) is dpo.run_dpo, inspect.unwrap(tuner.get_train_args) is get_train_args)
print("WRAPPED", *(hasattr(f, "__wrapped__") for f in (tuner.run_sft, tuner.run_dpo, tuner.get_train_args)))
"""


def test_other_stages_train_bit_for_bit_what_they_train_without_us(
        root: Path, tmp_path: Path, environment: Environment) -> None:
    rows = [triple(i) for i in range(12)]
    register_data(root / "data", "pairs", [{**r, "bad": "no"} for r in rows], {"ranking": True, "columns": {
        "prompt": "instruction", "chosen": "output", "rejected": "bad"}})
    register_data(root / "data", "labels", [{**r, "good": i % 2 == 0} for i, r in enumerate(rows)], {"columns": {
        "prompt": "instruction", "response": "output", "kto_tag": "good"}})
    runs: dict[str, dict[str, Any]] = {
        "sft": {"stage": "sft", "pref_beta": None}, "dpo": {"stage": "dpo", "dataset": "pairs"},
        "orpo": {"stage": "dpo", "pref_loss": "orpo", "dataset": "pairs"},
        "kto": {"stage": "kto", "dataset": "labels"}}
    for on in ("1", "0"):
        configs = [config(root, tmp_path / f"{name}{on}", max_steps=3, **keys) for name, keys in runs.items()]
        env = variables(**environment(hook=True, IF_FACTORY_AUTOLOAD=on))
        done = subprocess.run(["python", "-c", OTHERS], input=json.dumps(configs), cwd=tmp_path, env=env,
                              text=True, capture_output=True, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        assert "ORIGINALS True True True True" in done.stdout
        assert "WRAPPED" + 3 * f" {on == '1'}" in done.stdout
    for name in runs:
        with_us, without = tmp_path / f"{name}1", tmp_path / f"{name}0"
        for key in ("loss", "grad_norm"):
            assert losses(history(with_us), key) == losses(history(without), key)
            assert len(losses(history(without), key)) == 3
        assert same_weights(with_us, without)


@pytest.mark.parametrize("zero", [2, 3])
def test_deepspeed_zero_trains_what_one_process_trains(
        root: Path, tmp_path: Path, environment: Environment, zero: int) -> None:
    if find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed here")
    settings = {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_clipping": "auto",
                "gradient_accumulation_steps": "auto", "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": zero, "stage3_gather_16bit_weights_on_model_save": True}}
    (tmp_path / "ds.json").write_text(json.dumps(settings))
    # full fine-tuning: with ZeRO-3 the output head itself is sharded, and gathered while its chunks are computed
    keys = {"disable_shuffling": True, "finetuning_type": "full", "lora_rank": None, "learning_rate": 1e-3}
    path = write_yaml(tmp_path / "x.yaml", config(root, tmp_path / "saved", per_device_train_batch_size=2,
                                                  deepspeed=str(tmp_path / "ds.json"), **keys))
    done = shell(["llamafactory-cli", "train", path], cwd=tmp_path,
                 **environment(hook=True, DS_ACCELERATOR="cpu", **TWO))
    assert done.returncode == 0, done.stderr[-3000:]
    one = run(config(root, tmp_path / "one", **keys))
    assert losses(history(tmp_path / "saved")) == pytest.approx(losses(one), abs=2e-4)


@pytest.mark.parametrize("hook", [True, False], ids=["llamafactory-cli", "if-factory"])
def test_a_ray_worker_knows_the_stage(
        root: Path, tmp_path: Path, environment: Environment, four: list[dict[str, Any]],
        hook: bool) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed here")
    # As it is, LLaMA-Factory asks Ray for a bundle of 10 CPUs for every CPU there is, which no machine has.
    (tmp_path / "sitecustomize.py").write_text(
        "from importlib import import_module\n"
        "module = import_module('ray.util.placement_group')\n"
        "every = module.placement_group\n"
        "module.placement_group = lambda bundles, **more: every(bundles[:1], **more)\n")
    path = write_yaml(tmp_path / "x.yaml", config(
        root, tmp_path / "saved", disable_shuffling=True, ray_num_workers=1,
        master_addr=ray.util.get_node_ip_address(),  # LLaMA-Factory would ask the dashboard, of ray[default]
        ray_init_kwargs={"num_cpus": 12, "include_dashboard": False}))
    command = "llamafactory-cli" if hook else "if-factory"
    env = environment(hook=hook, USE_RAY="1")
    done = shell([command, "train", path], cwd=tmp_path, **{**env, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert losses(history(tmp_path / "saved")) == pytest.approx(losses(four), abs=1e-6)


def test_the_environment_under_test_is_the_one_meant(environment: Environment, tmp_path: Path) -> None:
    said = shell(["python", "-c", "import sys, if_factory; print(sys.prefix)"], cwd=tmp_path,
                 **environment(hook=True)).stdout
    assert Path(said.strip()) != Path(sys.prefix)
