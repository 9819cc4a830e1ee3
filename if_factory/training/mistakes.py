"""Mistakes in training YAMLs that need no model and no data to be seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_args

from if_factory.embedded_model.fetch import FILE_NAME
from if_factory.errors import UserError, suggest
from if_factory.exporting.rules import TrainingStage

_STAGES = ("pt", "rm", "ppo", "grpo", *get_args(TrainingStage))
_EMBEDDED = FILE_NAME.partition(".")[0]


def refuse_mistakes(configs: Mapping[str, Mapping[str, Any]], root: Path) -> None:
    """Look at the stage, the model and the adapters of each YAML.

    Args:
        configs: the keys by the name to show for them, in training order: an adapter may be an earlier one's output.
        root: the folder that relative paths start from.

    Raises:
        UserError: an unknown stage, no model, or a folder that is not there and that no earlier YAML makes.
    """
    made: set[str] = set()
    for name, config in configs.items():
        if not config:
            continue  # not a map: LLaMA-Factory says so
        _stage(config, name)
        _model(config, name, root, made)
        _adapters(config, name, root, made)
        made.add(str(config.get("output_dir")))


def _stage(config: Mapping[str, Any], name: str) -> None:
    stage = config.get("stage", "sft")
    if stage not in _STAGES:
        raise UserError(f"unknown stage {stage!r}", where=f"{name}: field 'stage'",
                        fix=suggest(str(stage), _STAGES) or "one of: " + ", ".join(_STAGES))


def _model(config: Mapping[str, Any], name: str, root: Path, made: Collection[str]) -> None:
    model, where = config.get("model_name_or_path"), f"{name}: field 'model_name_or_path'"
    if not model:
        if not {"method", "models"}.isdisjoint(config):
            raise UserError("is a recipe, from which data are made; expected LLaMA-Factory's keys", where=name,
                            fix=f"run it with `if-factory run {name} -o RUN`; `if-factory export` and `if-factory "
                            "curriculum` then write what `if-factory train` takes")
        raise UserError("is missing; expected a model's hub name or its folder", where=where,
                        fix="write model_name_or_path: with the model to train")
    model = str(model)
    if model in made or not _is_path(model, config) or (root / model).exists():
        return
    if model.startswith("~"):
        fix = f"`~` is not replaced here: write {Path(model).expanduser()}"
    elif Path(model).name == _EMBEDDED:
        fix = f"make it: if-factory model --to {model}"
    elif _beside(model, config):
        fix = f"train the stage that makes it first{_yaml_of(model, name)}"
    else:
        fix = "correct the path, which starts from the folder of the command, or write a hub name, ORG/MODEL"
    raise UserError(f"there is no folder {model}", where=where, fix=fix)


def _adapters(config: Mapping[str, Any], name: str, root: Path, made: Collection[str]) -> None:
    for adapter in filter(None, str(config.get("adapter_name_or_path") or "").split(",")):
        if adapter in made or not (_is_path(adapter, config) or (root / adapter).exists()):
            continue
        if not (root / adapter / "adapter_config.json").is_file():
            raise UserError(f"no adapter in {adapter}: expected a folder with adapter_config.json",
                            where=f"{name}: field 'adapter_name_or_path'",
                            fix=f"train {Path(adapter).name} first{_yaml_of(adapter, name)}")


def _is_path(given: str, config: Mapping[str, Any]) -> bool:
    """Whether it can be no hub name, which is ORG/NAME or NAME."""
    parts = Path(given).parts
    return given.startswith((".", "/", "~")) or len(parts) > 2 or _beside(given, config) or (
        len(parts) == 2 and parts[0] == "models")  # no organisation there is `models`


def _beside(given: str, config: Mapping[str, Any]) -> bool:
    """Whether it is in the folder of the stage's output, where those of the stages before are."""
    folder = Path(str(config.get("output_dir") or "")).parent
    return folder != Path() and Path(given).parent == folder


def _yaml_of(output: str, name: str) -> str:
    """The command that trains the stage whose output this is, where its YAML is beside this one."""
    path = Path(name).with_name(f"{Path(output).name}.yaml")
    return f": if-factory train {path}" if path.is_file() else ""
