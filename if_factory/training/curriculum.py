"""Staged training: rows in bins of difficulty, one LLaMA-Factory YAML per stage, adapters chained on purpose.

Which adapters a stage loads decides what it trains and, for DPO and KTO, what it is compared with: with LoRA and
no ``ref_model`` LLaMA-Factory 0.9.5 takes the policy with its *live* adapter switched off as the reference.
Hence:

- SFT continues the adapter of the SFT stage before it: one adapter, grown from easy to hard.
- The first preference stage merges everything before it in memory and starts a new adapter
  (``create_new_adapter: true``), so its reference is the SFT model and not the bare base model.
- I-ORPO continues the adapter like SFT: its loss compares two instructions under one model, without a reference.
- Later preference stages, ``reference="previous"`` (default): the same again, so every stage is compared with the
  model it starts from, and its first step has the loss ln 2. ``reference="sft"``: they continue the preference
  adapter, so the reference stays the SFT model throughout; the first step's loss is then not ln 2.

Every adapter that was merged must be served, in order, with the last: each YAML says which.
Source: llamafactory 0.9.5 ``model/adapter.py``, ``train/dpo/trainer.py``, ``train/trainer_utils.py``.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from if_factory.errors import UserError
from if_factory.exporting.dataset_info import Kind, stage_of
from if_factory.exporting.templates import template_problem
from if_factory.files import write_atomic
from if_factory.records import Example

E = TypeVar("E", bound=Example)
LN2_NOTE = "ln 2 = 0.693"
_COMPARED: tuple[Kind, ...] = ("dpo", "kto")  # stages whose loss needs a reference model
# Suri's i-orpo/orpo.yaml: lambda (LLaMA-Factory's pref_beta), LoRA, no warm-up, sequences of up to 15,024 tokens.
_IORPO = {"pref_beta": 0.4, "lora_rank": 16, "lora_alpha": 16, "lora_dropout": 0.05, "learning_rate": 5e-5,
          "warmup_ratio": 0.0, "cutoff_len": 15024}


@dataclass(frozen=True, slots=True)
class CurriculumOptions:
    """What a curriculum trains and how.

    ``stages`` are datasets in training order: ``sft``, ``dpo``, ``kto``, ``iorpo``, or ``sft_external`` where a
    method keeps rows of one kind apart. ``lr`` is for SFT, ``pref_lr`` for DPO and KTO, I-ORPO has its own
    (``_IORPO``); ``batch`` is sequences (or pairs) per optimizer step on one device.
    ``stage_overrides`` sets any LLaMA-Factory key for one stage or all stages of a kind (``{"dpo":
    {"learning_rate": 5e-6}}``); a stage's own entry wins over its kind's.
    ``replay``: datasets of general data mixed into every SFT stage against forgetting.
    ``max_steps`` overrides ``epochs``. ``disable_shuffling`` keeps the file's order inside a stage.
    """

    model: str
    template: str | None
    name: str = "curriculum"
    bins: int = 2
    stages: tuple[str, ...] = ("sft", "dpo")
    reference: Literal["previous", "sft"] = "previous"
    lora_rank: int = 8
    lora_alpha: int | None = None
    lr: float = 1e-4
    pref_lr: float = 5e-6
    epochs: float = 1.0
    max_steps: int | None = None
    batch: int = 8
    per_device_batch: int = 1
    cutoff_len: int = 2048
    warmup_ratio: float = 0.1
    bf16: bool = True
    cpu: bool = False
    pref_beta: float = 0.1
    pref_ftx: float = 1.0
    replay: tuple[str, ...] = ()
    output_root: str = "saves"
    dataset_dir: str = "data"
    seed: int = 42
    disable_shuffling: bool = False
    save_steps: int = 200
    trust_remote_code: bool = False
    stage_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage: which adapters it loads, whether it starts a new one, and which to serve afterwards.

    ``stage`` is the dataset's name (``sft_external``), ``kind`` what LLaMA-Factory calls a stage (``sft``).
    """

    name: str
    stage: str
    kind: Kind
    bin: str
    datasets: tuple[str, ...]
    output_dir: str
    load: tuple[str, ...]
    new_adapter: bool
    serve: tuple[str, ...]
    reference: str


def bin_names(k: int) -> list[str]:
    """``easy, hard`` for two bins, ``1 .. k`` otherwise (``all`` for one)."""
    return ["all"] if k == 1 else ["easy", "hard"] if k == 2 else [str(i + 1) for i in range(k)]


def split_bins(examples: Sequence[E], k: int) -> list[list[E]]:
    """``k`` bins of about equal size, easiest first, each in the order given.

    Rows of one difficulty stay together: a cut falls between two difficulties, at the one nearest to an equal
    share. Only if there are fewer difficulties than bins is a difficulty shared out, in the order given.

    Raises:
        UserError: fewer rows than bins.
    """
    if k < 1:
        raise ValueError("k counts bins and is at least 1")
    if len(examples) < k:
        raise UserError(f"{len(examples)} rows cannot fill {k} bins", fix="make more rows, or use fewer bins")
    order = sorted(range(len(examples)), key=lambda i: examples[i].difficulty)  # stable: ties keep their order
    groups = [list(g) for _, g in groupby(order, key=lambda i: examples[i].difficulty)]
    if len(groups) < k:
        ends = list(range(1, len(order) + 1))
    else:
        ends, total = [], 0
        for group in groups:
            total += len(group)
            ends.append(total)
    cuts = [0]
    for b in range(1, k):
        open_ends = [e for e in ends if e > cuts[-1]][: -(k - b) or None]  # leave a group for every later bin
        cuts.append(min(open_ends, key=lambda e: abs(e - len(order) * b / k)))
    cuts.append(len(order))
    return [[examples[i] for i in sorted(order[a:b])] for a, b in pairwise(cuts)]


def cut_bins(examples: Sequence[E], uppers: Sequence[float]) -> list[list[E]]:
    """``len(uppers) + 1`` bins: up to the first difficulty, up to the second, ..., the rest; some may be empty.

    Each goes from easy to hard, for stages that keep their order; rows of one difficulty stay in the order given.
    """
    limits = [*uppers, float("inf")]
    bins: list[list[E]] = [[] for _ in limits]
    for example in sorted(examples, key=lambda e: e.difficulty):
        bins[bisect_left(limits, example.difficulty)].append(example)
    return bins


def read_bins(text: str) -> int | list[float]:
    """``3`` is a number of bins of about equal size; ``1-3,4-5`` or ``1,2-3,4-5`` are bins by difficulty.

    Returns:
        The number, or the upper difficulty of every bin but the last, as ``cut_bins`` takes them: what is easier
        than the first bin goes into it, what is harder than the last into that.

    Raises:
        UserError: neither, or bins that overlap or leave a gap.
    """
    how = "give a number of bins (2), or bins by difficulty (1-3,4-5)"
    if re.fullmatch(r"\d+", text):
        if int(text) < 1:
            raise UserError("expected at least one bin", where=f"--bins {text}", fix=how)
        return int(text)
    found = [re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip()) for part in text.split(",")]
    spans = [(int(m[1]), int(m[2] or m[1])) for m in found if m]
    if len(spans) < len(found) or any(low > high for low, high in spans):
        raise UserError("cannot read these bins", where=f"--bins {text}", fix=how)
    for (_, high), (low, _) in pairwise(spans):
        if low != high + 1:
            raise UserError(f"after {high} the next bin begins at {high + 1}, not {low}", where=f"--bins {text}",
                            fix=how)
    return [float(high) for _, high in spans[:-1]]


def plan_stages(options: CurriculumOptions, datasets: Mapping[tuple[str, str], str]) -> list[StagePlan]:
    """The stages in order. ``datasets`` maps (stage, bin) to the name in dataset_info.json.

    A bin without a dataset is left out: where a method says what is hard, a run may have no hard rows.

    Raises:
        UserError: a stage without any dataset, or one that names no stage of LLaMA-Factory.
    """
    plans: list[StagePlan] = []
    serve: tuple[str, ...] = ()
    for stage in options.stages:
        kind = stage_of(stage)
        bins = [b for b in bin_names(options.bins) if (stage, b) in datasets]
        if not bins:
            raise UserError(f"no dataset for stage {stage}", where="curriculum",
                            fix=f"export {stage} rows, or leave '{stage}' out of the stages")
        for b in bins:
            name = f"{options.name}_{len(plans) + 1}_{stage}_{b}"
            out = f"{options.output_root}/{name}"
            tuned_preference = any(p.kind in _COMPARED for p in plans)
            continues = kind not in _COMPARED or (options.reference == "sft" and tuned_preference)
            new = bool(serve) and not continues
            load = serve
            serve = (*serve, out) if new or not serve else (*serve[:-1], out)
            replay = options.replay if kind == "sft" else ()
            reference = _reference(load, new, options.model) if kind in _COMPARED else ""
            plans.append(StagePlan(name, stage, kind, b, (datasets[stage, b], *replay), out, load, new, serve,
                                   reference))
    return plans


def _reference(load: tuple[str, ...], new: bool, model: str) -> str:
    merged = load if new else load[:-1]
    return " + ".join((model, *merged))


def stage_config(options: CurriculumOptions, plan: StagePlan) -> dict[str, Any]:
    """The stage as LLaMA-Factory keys, in the order of its own examples."""
    o = options
    config: dict[str, Any] = {"model_name_or_path": o.model, "trust_remote_code": o.trust_remote_code}
    if plan.load:
        config["adapter_name_or_path"] = ",".join(plan.load)
    config |= {"stage": plan.kind, "do_train": True, "finetuning_type": "lora"}
    if plan.new_adapter:
        config["create_new_adapter"] = True
    config |= {"lora_rank": o.lora_rank, "lora_alpha": o.lora_alpha or 2 * o.lora_rank, "lora_target": "all"}
    if plan.kind in _COMPARED:
        config["pref_beta"] = o.pref_beta
    if plan.kind == "dpo":
        config |= {"pref_loss": "sigmoid", "pref_ftx": o.pref_ftx}
    config |= {"dataset": ",".join(plan.datasets), "dataset_dir": o.dataset_dir}
    if o.template:
        config["template"] = o.template
    config["cutoff_len"] = o.cutoff_len
    if plan.kind == "sft":
        config["mask_history"] = True  # earlier answers of a chat were never verified: do not train them
    config |= {"preprocessing_num_workers": 1, "dataloader_num_workers": 0,
               "disable_shuffling": o.disable_shuffling, "output_dir": plan.output_dir, "logging_steps": 1,
               "save_steps": o.save_steps, "save_total_limit": 1, "plot_loss": True,
               "overwrite_output_dir": False, "report_to": "none",
               "per_device_train_batch_size": o.per_device_batch,
               "gradient_accumulation_steps": max(1, o.batch // o.per_device_batch),
               "learning_rate": o.lr if plan.kind == "sft" else o.pref_lr, "num_train_epochs": o.epochs}
    if o.max_steps is not None:
        config["max_steps"] = o.max_steps
    config |= {"lr_scheduler_type": "cosine", "warmup_ratio": o.warmup_ratio, "bf16": o.bf16 and not o.cpu}
    if o.cpu:
        config["use_cpu"] = True
    config |= {"seed": o.seed, "ddp_timeout": 180000000, "resume_from_checkpoint": None}
    if plan.kind == "iorpo":
        config |= _IORPO
    return config | dict(o.stage_overrides.get(plan.kind, {})) | dict(o.stage_overrides.get(plan.stage, {}))


def export_config(options: CurriculumOptions, plan: StagePlan) -> dict[str, Any]:
    """What ``llamafactory-cli export`` needs to merge every adapter of the last stage into the base model."""
    config: dict[str, Any] = {"model_name_or_path": options.model, "trust_remote_code": options.trust_remote_code,
                              "adapter_name_or_path": ",".join(plan.serve), "finetuning_type": "lora"}
    if options.template:
        config["template"] = options.template
    return config | {"export_dir": f"{options.output_root}/{options.name}_merged", "export_size": 5,
                     "export_device": "cpu", "export_legacy_format": False}


def write_curriculum(options: CurriculumOptions, datasets: Mapping[tuple[str, str], str],
                     folder: Path) -> list[Path]:
    """Write one YAML per stage and an export YAML into ``folder``; returns them in the order to run.

    Raises:
        UserError: unknown template, or a stage without a dataset.
    """
    plans = plan_stages(options, datasets)
    stages = [write_stage(options, plan, folder, i, len(plans)) for i, plan in enumerate(plans, 1)]
    return [*stages, write_export(options, plans[-1], folder)]


def write_stage(options: CurriculumOptions, plan: StagePlan, folder: Path, number: int, of: int) -> Path:
    """Write one stage's YAML, ``number`` of ``of``.

    Raises:
        UserError: unknown template.
    """
    if options.template and (why := template_problem(options.template)):
        raise UserError(why, where="curriculum: field 'template'", fix="`template:` is the chat format the model "
                        "was trained with; see LLaMA-Factory's README, 'Supported Models'")
    path = folder / f"{plan.name}.yaml"
    write_atomic(path, _header(path, plan, number, of) + _yaml(stage_config(options, plan)))
    return path


def write_export(options: CurriculumOptions, last: StagePlan, folder: Path) -> Path:
    """Write the YAML that merges every adapter after ``last``."""
    path = folder / f"{options.name}_export.yaml"
    write_atomic(path, _export_header(path, last) + _yaml(export_config(options, last)))
    return path


def _yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=False, width=1000)


def _header(path: Path, plan: StagePlan, number: int, of: int) -> str:
    title = "I-ORPO" if plan.kind == "iorpo" else plan.kind.upper()
    apart = f" of {plan.stage}" if plan.stage != plan.kind else ""
    lines = [f"Stage {number} of {of}: {title} on the '{plan.bin}' rows{apart}.", "",
             f"  llamafactory-cli train {path.as_posix()}", "",
             "Run it from the folder that holds `dataset_dir`, after the stages before it. To override a key:",
             f"  llamafactory-cli train {path.as_posix()} num_train_epochs=2", ""]
    if not plan.load:
        lines.append("Adapter: a new one on the base model.")
    elif plan.new_adapter:
        lines += [f"Adapter: {', '.join(plan.load)} merged in memory, then a new one",
                  "(create_new_adapter), because the reference is the model without the live adapter."]
    else:
        lines.append(f"Adapter: {plan.load[-1]} goes on training" +
                     (f"; merged before it: {', '.join(plan.load[:-1])}." if plan.load[1:] else "."))
    if plan.kind == "iorpo":
        lines += ['The stage needs `pip install "if-factory[train]"`; `if-factory train` runs it too. It has no',
                  "reference: (x_w, y) and (x_l, y) are compared under the model that is trained."]
    if plan.reference:
        lines.append(f"Reference: {plan.reference}.")
        if plan.new_adapter or not plan.load:
            lines.append(f"The first step's preference loss is {LN2_NOTE} (before pref_ftx is added).")
    lines += [f"Serve after this stage: adapter_name_or_path: {','.join(plan.serve)}" +
              ("   (all of them, in this order)" if plan.serve[1:] else ""), "",
              "overwrite_output_dir is false: a stage that was killed goes on from its last checkpoint, and a",
              "finished one that is started again trains 0 steps: delete its output_dir first to train it anew."]
    if plan.new_adapter or plan.load[1:]:
        lines += ["Quantised bases (QLoRA), DeepSpeed ZeRO-3 and unsloth take a single adapter and ignore",
                  "create_new_adapter: merge the adapters above with `llamafactory-cli export`, then name the",
                  "merged model in model_name_or_path and remove the two adapter keys."]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n"


def _export_header(path: Path, last: StagePlan) -> str:
    lines = ["Merge all adapters of the curriculum into one model.", "",
             f"  llamafactory-cli export {path.as_posix()}", "",
             f"Adapters, in the order in which they were trained: {', '.join(last.serve)}"]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines) + "\n"
