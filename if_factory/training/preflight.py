"""Before a stage is trained: its keys, its rows, and what `cutoff_len` would cut of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from if_factory.errors import UserError
from if_factory.exporting.acceptance import LoaderOptions, check_dataset, local_names
from if_factory.exporting.rules import TrainingStage
from if_factory.training.cutoff import CutReport, Encoder, Settings, count_cuts
from if_factory.training.keys import key_notes, refuse_keys
from if_factory.training.mistakes import refuse_mistakes

_STAGES: dict[str, TrainingStage] = {"sft": "sft", "dpo": "dpo", "kto": "kto", "iorpo": "iorpo", "rm": "dpo"}


def preflight(configs: Mapping[str, Mapping[str, Any]], *, root: Path | None = None, allow_cut: bool = False,
              say: Callable[[str], None] = print) -> list[CutReport]:
    """Look at the stages that are about to be trained, before anything starts.

    Args:
        configs: the keys of each training YAML, by the name to show for it, in training order.
        root: the folder that relative paths start from (default: the current one).
        allow_cut: train although answers or the ends of prompts are cut.
        say: told one line per thing worth knowing.

    Returns:
        One report per stage whose tokens could be counted.

    Raises:
        UserError: a mistake that needs no data to be seen (``mistakes.py``), a key with which LLaMA-Factory always
            raises, a dataset that it refuses, or rows that would be cut.
    """
    root = root or Path()
    reports: list[CutReport] = []
    encoders: dict[str, Encoder | None] = {}
    base = ""
    refuse_mistakes(configs, root)
    for name, config in configs.items():
        refuse_keys(config, name)
        for note in key_notes(config):
            say(f"{name}: {note}")
        stage = _STAGES.get(str(config.get("stage", "sft")))
        folder, wanted = root / str(config.get("dataset_dir") or "data"), _names(config)
        if stage is None or not wanted or not folder.is_dir() or config.get("tokenized_path"):
            continue
        here = [n for n in wanted if n in local_names(folder)]
        options = loader_options(config)
        for dataset in here:
            found = check_dataset(folder, dataset, stage=stage, options=options)
            if found.fails:
                raise UserError(f"LLaMA-Factory refuses dataset '{dataset}': {found.fails[0]}", where=name,
                                fix=f"see `if-factory check {folder} {dataset}`")
        model = str(config.get("model_name_or_path") or "")
        if base and not (root / model).exists() and Path(model).parent.name == Path(
                str(config.get("output_dir"))).parent.name:
            model = base  # the output of an earlier stage, which has the first one's tokenizer
        base = base or model
        encoder = _encoder(model, config, root, encoders, say)
        if encoder is not None and here:
            reports.append(count_cuts(folder, here, stage, encoder, Settings.of(config), options))
            _judge(reports[-1], name, allow_cut, say)
    return reports


def loader_options(config: Mapping[str, Any]) -> LoaderOptions:
    """What of a training YAML decides which rows arrive."""
    most = config.get("max_samples")
    return LoaderOptions(int(config.get("preprocessing_num_workers") or 1),
                         int(config.get("preprocessing_batch_size") or 1000),
                         None if most is None else int(most), config.get("template"))


def _names(config: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(n.strip() for n in str(config.get("dataset") or "").split(",") if n.strip()))


def _encoder(model: str, config: Mapping[str, Any], root: Path, known: dict[str, Encoder | None],
             say: Callable[[str], None]) -> Encoder | None:
    about = ("template", "tool_format", "default_system", "enable_thinking", "preserve_thinking", "mask_history")
    key = repr((model, [config.get(k) for k in about]))
    if key not in known:
        try:
            known[key] = Encoder(str(root / model) if (root / model).is_dir() else model, config, download=True)
        except UserError as e:
            say(f"cutoff_len is not checked: {e.problem}")
            known[key] = None
    return known[key]


def _judge(report: CutReport, name: str, allow_cut: bool, say: Callable[[str], None]) -> None:
    lines = report.lines()
    if not report.harmful or allow_cut:
        for line in lines:
            say(f"{name}: {line}")
        return
    raise UserError("; ".join(lines), where=name, fix=f"set cutoff_len: {report.fitting}, which fits the longest "
                    f"row ({report.longest[0]} tokens), or give --allow-cut")


def cut_lines(dataset_dir: Path, name: str, stage: TrainingStage, encoder: Encoder, cutoff_len: int | None
              ) -> tuple[list[str], bool]:
    """For `check`: what ``cutoff_len`` cuts of a dataset, and whether an answer or a prompt's end is lost.

    SFT is counted with ``mask_history: true``, as our curricula train it. Without a ``cutoff_len`` it is 2048,
    for I-ORPO Suri's 15,024.
    """
    settings = Settings(cutoff_len or (15024 if stage == "iorpo" else 2048), mask_history=stage == "sft")
    report = count_cuts(dataset_dir, [name], stage, encoder, settings)
    tokens, _, row = report.longest
    fits = f"cutoff_len {settings.cutoff_len} cuts no row; the longest, row {row}, has {tokens} tokens"
    return report.lines() or [fits], bool(report.harmful)
