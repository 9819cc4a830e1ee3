"""Run the stages of a curriculum one after the other with stock ``llamafactory-cli train``, safely.

LLaMA-Factory ends with status 0 even when it trained nothing, for example when a stage's output folder holds a
finished run. So every stage leaves a note in its folder of what it was made from (keys, data, adapters). A stage
with the same note is not run again; one that was killed goes on from its last checkpoint; a folder made from
something else is moved aside, never resumed and never deleted.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from if_factory.errors import UserError
from if_factory.exporting.dataset_info import FILE_NAME, read_entries
from if_factory.files import dump_json, read_text, write_atomic
from if_factory.training.few_steps import rates_of_zero
from if_factory.training.keys import key_notes, refuse_keys
from if_factory.training.weights import fault_of, weight_files, weights

NOTE = "if_factory_stage.json"


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage did. ``losses`` are as logged, step by step; ``skipped`` if it was finished before."""

    path: Path
    output_dir: Path
    skipped: bool
    steps: int
    losses: tuple[float, ...]


def run_curriculum(yaml_paths: Sequence[Path], *, root: Path | None = None, cli: Sequence[str] = (),
                   env: Mapping[str, str] | None = None, say: Callable[[str], None] = print) -> list[StageResult]:
    """Train every stage in order; stop at the first that fails or trains nothing.

    Args:
        yaml_paths: the stages as ``write_curriculum`` returned them; an export YAML at the end is run too.
        root: the folder that relative paths in the YAMLs start from (default: the current one).
        cli: the command; default is ``llamafactory-cli`` of this Python's environment or of ``PATH``.
        env: variables to add for the training process.
        say: told one line per event and every line the training prints.

    Raises:
        UserError: no LLaMA-Factory, a broken YAML, a missing dataset or adapter, a stage that failed (with its
            last error line and its log), or one that trained 0 steps.
    """
    root = root or Path.cwd()
    command = list(cli) or [_find_cli()]
    results = []
    configs = {path: read_config(path) for path in yaml_paths}
    for path, config in configs.items():
        if "export_dir" not in config:
            refuse_keys(config, str(path))
            for note in key_notes(config):
                say(f"{path.name}: {note}")
    for path, config in configs.items():
        if "export_dir" in config:
            say(f"{path.name}: merging into {config['export_dir']}")
            _call([*command, "export"], path, root, root / f"{config['export_dir']}.log", env, say)
            continue
        result = _run_stage(path, config, root, [*command, "train"], env, say)
        what = "finished before, skipped" if result.skipped else f"{result.steps} steps"
        say(f"{path.name}: {what}, loss {result.losses[0]:.4f} -> {result.losses[-1]:.4f}")
        results.append(result)
    return results


def stages_in(folder: Path) -> list[Path]:
    """The stage YAMLs of a curriculum's folder in training order; the export YAML is not among them.

    Raises:
        UserError: there is none.
    """
    stages = [p for p in sorted(folder.glob("*.yaml")) if "output_dir" in (yaml.safe_load(read_text(p)) or {})]
    if not stages:
        raise UserError("no stages here", where=str(folder), fix="write them with `if-factory curriculum`")
    return sorted(stages, key=lambda p: [int(d) if d.isdigit() else d for d in re.split(r"(\d+)", p.name)])


def adapters_of(folder: Path) -> tuple[Path, ...]:
    """What a curriculum ends with: its export YAML's adapters, in the order in which they are merged, after the whole
    model that an earlier stage trained; or the whole model of its last stage.

    Raises:
        UserError: no export YAML, or an adapter or model is not there yet.
    """
    configs = [read_config(path) for path in sorted(folder.glob("*.yaml"))]
    export = next((config for config in configs if "export_dir" in config), None)
    if export is not None:
        trained = {str(config["output_dir"]) for config in configs if "output_dir" in config}
        return _there(folder, (*_whole(export, trained), *map(Path, export["adapter_name_or_path"].split(","))))
    if configs and _trains_all(last := read_config(stages_in(folder)[-1])):
        return _there(folder, (Path(last["output_dir"]),))
    raise UserError("no export YAML here", where=str(folder), fix="write one with `if-factory curriculum`")


def adapters_by_stage(folder: Path) -> dict[str, tuple[Path, ...]]:
    """For each stage of a curriculum, in training order, the adapters to merge after it, in order.

    A stage that continues an adapter replaces it; one with ``create_new_adapter`` stands on top of those it loads.
    A stage that trains all weights leaves a whole model, which comes first for the adapters trained on it.

    Raises:
        UserError: no stages, or an adapter or model is not there yet.
    """
    found: dict[str, tuple[Path, ...]] = {}
    trained: set[str] = set()
    for path in stages_in(folder):
        config = read_config(path)
        loaded = [Path(a) for a in str(config.get("adapter_name_or_path") or "").split(",") if a]
        below = loaded if config.get("create_new_adapter") else loaded[:-1]
        chain = () if _trains_all(config) else (*_whole(config, trained), *below)
        trained.add(config["output_dir"])
        found[path.stem] = _there(folder, (*chain, Path(config["output_dir"])))
    return found


def _trains_all(config: Mapping[str, Any]) -> bool:
    return str(config.get("finetuning_type", "lora")) != "lora"


def _whole(config: Mapping[str, Any], trained: Collection[str]) -> tuple[Path, ...]:
    """The model that the keys name, where a stage of the curriculum trained it."""
    model = str(config.get("model_name_or_path") or "")
    return (Path(model),) if model in trained else ()


def _there(folder: Path, chain: tuple[Path, ...]) -> tuple[Path, ...]:
    for part in chain:
        if not part.is_dir():
            raise UserError("this adapter or model is not there", where=str(part),
                            fix=f"train it with `if-factory train {folder}`")
    return chain


def torchrun(config: Mapping[str, Any]) -> dict[str, str]:
    """The variables that a stage needs to be started: with DeepSpeed LLaMA-Factory raises unless torchrun starts it."""
    return {"FORCE_TORCHRUN": "1"} if config.get("deepspeed") else {}


def _find_cli() -> str:
    beside = Path(sys.executable).with_name("llamafactory-cli")
    found = str(beside) if beside.exists() else shutil.which("llamafactory-cli")
    if not found:
        raise UserError("llamafactory-cli is not installed here", fix='pip install "if-factory[train]"')
    return found


def read_config(path: Path) -> dict[str, Any]:
    """The keys of a stage's or an export YAML.

    Raises:
        UserError: not YAML, or a key that the runner needs is not there.
    """
    try:
        config = yaml.safe_load(read_text(path))
    except yaml.YAMLError as e:
        raise UserError(f"not valid YAML: {e}", where=str(path)) from None
    if not isinstance(config, dict):
        raise UserError("expected a map of LLaMA-Factory keys", where=str(path))
    for key in () if "export_dir" in config else ("output_dir", "dataset", "dataset_dir"):
        if not isinstance(config.get(key), str):
            raise UserError("expected a string", where=f"{path}: field '{key}'")
    return config


def _run_stage(path: Path, config: dict[str, Any], root: Path, command: list[str], env: Mapping[str, str] | None,
               say: Callable[[str], None]) -> StageResult:
    out = root / config["output_dir"]
    note = {"fingerprint": _fingerprint(path, config, root), "yaml": path.name, "finished": False}
    before = _note(out)
    if before.get("fingerprint") == note["fingerprint"] and before.get("finished") and weights(out):
        return _result(path, out, skipped=True)
    resumes = _prepare(out, before.get("fingerprint") == note["fingerprint"], say)
    write_atomic(out / NOTE, dump_json(note, indent=2) + "\n")
    say(f"{path.name}: {'going on from ' + resumes.name if resumes else 'training'} -> {config['output_dir']}")
    _call(command, path, root, out / "train.log", {**torchrun(config), **(env or {})}, say)
    result = _result(path, out, skipped=False)
    _learnt_at_a_rate(result, config)
    _trained_something(result, _json(out / "train_results.json"), resumed=resumes is not None,
                       stage=str(config.get("stage", "sft")))
    if why := fault_of(out, _start(config, root)):
        raise UserError(why, where=str(path), fix=f"look at {out / 'train.log'}; lower learning_rate, or set "
                        "bf16: false on hardware without it")
    write_atomic(out / NOTE, dump_json({**note, "finished": True}, indent=2) + "\n")
    return result


def _start(config: Mapping[str, Any], root: Path) -> Path | None:
    """The adapter or the whole model that the stage began with; ``None`` for a new adapter."""
    if _trains_all(config):
        return root / str(config["model_name_or_path"])
    adapters = [a for a in str(config.get("adapter_name_or_path") or "").split(",") if a]
    return root / adapters[-1] if adapters and not config.get("create_new_adapter") else None


def _fingerprint(path: Path, config: dict[str, Any], root: Path) -> str:
    """A hash of all that decides the stage's result: keys, entries, data files, adapters it starts from."""
    digest = hashlib.blake2b(dump_json(sorted((k, str(v)) for k, v in config.items())).encode(), digest_size=16)
    folder = root / config["dataset_dir"]
    entries = read_entries(folder / FILE_NAME)
    for name in config["dataset"].split(","):
        entry = entries.get(name.strip())
        if entry is None:
            raise UserError(f"dataset_info.json in {folder} has no dataset '{name.strip()}'",
                            where=f"{path}: field 'dataset'", fix="export it first, or correct the name")
        digest.update(dump_json(entry).encode())
        data = folder / str(entry.get("file_name", ""))
        if data.is_file():
            _add(digest, data)
    for adapter in filter(None, str(config.get("adapter_name_or_path") or "").split(",")):
        found = weights(root / adapter)
        if found is None:
            raise UserError(f"no adapter in {root / adapter}", where=f"{path}: field 'adapter_name_or_path'",
                            fix="train the stage before this one first")
        _add(digest, found)
    model = root / str(config.get("model_name_or_path") or "")
    if config.get("model_name_or_path") and model.parent == (root / config["output_dir"]).parent:
        if weights(model) is None:  # the whole model of an earlier stage
            raise UserError(f"no model in {model}", where=f"{path}: field 'model_name_or_path'",
                            fix="train the stage before this one first")
        for part in weight_files(model):
            _add(digest, part)
    return digest.hexdigest()


def _add(digest: Any, file: Path) -> None:
    with file.open("rb") as f:  # a model may be larger than memory
        while block := f.read(1 << 22):
            digest.update(block)


def _torn(out: Path) -> list[Path]:
    """Checkpoints that a killed run did not finish: the trainer's state is written last."""
    return [c for c in sorted(out.glob("checkpoint-*")) if not (c / "trainer_state.json").exists()]


def set_torn_aside(out: Path, say: Callable[[str], object]) -> None:
    """Rename unfinished checkpoints of an output folder: LLaMA-Factory takes the last one, whole or not, and fails."""
    for checkpoint in _torn(out):
        aside = checkpoint.with_name(f"torn-{checkpoint.name}")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)
        say(f"{checkpoint} was not written to its end when a run was killed: moved to {aside.name}")


def checkpoints(out: Path) -> list[Path]:
    """The checkpoints of an output folder, the last of which LLaMA-Factory goes on from."""
    return sorted((p for p in out.glob("checkpoint-*") if p.name[11:].isdigit()), key=lambda p: int(p.name[11:]))


def steps_done(folder: Path) -> int:
    """The optimizer steps behind a checkpoint or the end of a training."""
    return int(_json(folder / "trainer_state.json").get("global_step", 0))


def _prepare(out: Path, ours: bool, say: Callable[[str], None]) -> Path | None:
    """Make ``out`` fit to start in and return the checkpoint LLaMA-Factory will resume, if any."""
    if not out.exists():
        return None
    for checkpoint in _torn(out):
        shutil.rmtree(checkpoint)
    found = checkpoints(out)
    if ours and found:
        return found[-1]
    if found or weights(out):
        n = 1
        while (aside := out.with_name(f"{out.name}.old-{n}")).exists():
            n += 1
        out.rename(aside)
        say(f"{out} was made from other data or settings: moved to {aside.name}")
    return None


def _call(command: list[str], path: Path, root: Path, log: Path, env: Mapping[str, str] | None,
          say: Callable[[str], None]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    with log.open("a", encoding="utf-8") as f, subprocess.Popen(
            [*command, str(path.resolve())], cwd=root, text=True, errors="replace", bufsize=1,
            env={**os.environ, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                f.write(line)
                lines.append(line.rstrip())
                say(lines[-1])
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise UserError(f"LLaMA-Factory stopped with status {process.returncode}: {_error_line(lines)}",
                        where=str(path), fix=f"the whole output is in {log}; the same command goes on from here")


def _error_line(lines: list[str]) -> str:
    """The last line that looks like an exception, or the last line there is."""
    said = [line for line in lines if line.strip()]
    errors = [line for line in said if line.partition(":")[0].endswith(("Error", "Exception", "Interrupt"))]
    return (errors or said or ["it printed nothing"])[-1].strip()


def _learnt_at_a_rate(result: StageResult, config: Mapping[str, Any]) -> None:
    """A warm-up begins with a learning rate of 0, and may be all there is where rows are few."""
    if rates_of_zero(_json(result.output_dir / "trainer_state.json").get("log_history", [])):
        batch = (int(config.get("per_device_train_batch_size") or 8)
                 * int(config.get("gradient_accumulation_steps") or 1))
        number = f"{result.steps} step{'s'[:result.steps != 1]}"
        raise UserError(f"{number}, all at a learning rate of 0: too few rows for a batch of {batch}",
                        where=str(result.path), fix="set warmup_ratio: 0.0 in it; smaller "
                        "gradient_accumulation_steps or more num_train_epochs give more steps")


def _trained_something(result: StageResult, metrics: dict[str, Any], *, resumed: bool, stage: str) -> None:
    loss = metrics.get("train_loss")
    fix = f"look at {result.output_dir / 'train.log'}; are there rows left after LLaMA-Factory's checks?"
    if result.steps == 0 or not result.losses:
        raise UserError("the stage trained 0 steps", where=str(result.path), fix=fix)
    log = _json(result.output_dir / "trainer_state.json").get("log_history", [])
    norms = [e["grad_norm"] for e in log if e.get("grad_norm") is not None]
    if not all(math.isfinite(x) for x in (*result.losses, *map(float, norms))):
        raise UserError("the loss or the gradient is not a finite number any more", where=str(result.path),
                        fix="lower learning_rate, or set bf16: false on hardware without it")
    # A stage killed after its last checkpoint resumes with nothing left to do: its loss is then 0 rightly. GRPO's is
    # 0 by design where the policy is the one that wrote the answers; whether it learnt, its weights say.
    if not loss and not resumed and stage != "grpo":
        raise UserError(f"the stage ended with train_loss {loss}: nothing was learnt", where=str(result.path),
                        fix=fix)


def _result(path: Path, out: Path, *, skipped: bool) -> StageResult:
    state = _json(out / "trainer_state.json")
    losses = tuple(float(e["loss"]) for e in state.get("log_history", []) if "loss" in e)
    return StageResult(path, out, skipped, int(state.get("global_step", 0)), losses)


def _note(out: Path) -> dict[str, Any]:
    return _json(out / NOTE)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
