"""Staged training: rows in bins of difficulty, one LLaMA-Factory YAML per stage, adapters chained on purpose.

Which adapters a stage loads decides what it trains and, for DPO and KTO, what it is compared with: with LoRA and
no ``ref_model`` LLaMA-Factory 0.9.5 takes the policy with its *live* adapter switched off as the reference.
Hence:

- SFT continues the adapter of the SFT stage before it: one adapter, grown from easy to hard.
- The first preference stage merges everything before it in memory and starts a new adapter
  (``create_new_adapter: true``), so its reference is the SFT model and not the bare base model.
- I-ORPO continues the adapter like SFT: its loss compares two instructions under one model, without a reference.
  So does GRPO, whose weight of the KL term is 0: it needs no reference either.
- Later preference stages, ``reference="previous"`` (default): the same again, so every stage is compared with the
  model it starts from, and its first step has the loss ln 2. ``reference="sft"``: they continue the preference
  adapter, so the reference stays the SFT model throughout; the first step's loss is then not ln 2.

Every adapter that was merged must be served, in order, with the last: each YAML says which.

With ``finetuning_type: full`` or ``freeze`` there are no adapters: each stage starts from the whole model of the
one before (``model_name_or_path``), which LLaMA-Factory loads a second time as the reference of DPO and KTO;
``reference="sft"`` names the SFT model instead (``ref_model``). What to serve is the last stage's folder.
Source: llamafactory 0.9.5 ``model/adapter.py``, ``train/dpo/trainer.py``, ``train/trainer_utils.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from if_factory.errors import UserError
from if_factory.exporting.dataset_info import stage_of
from if_factory.exporting.rules import TrainingStage
from if_factory.exporting.templates import template_problem
from if_factory.files import dump_json, write_atomic
from if_factory.training.bins import bin_names, cut_bins, read_bins, split_bins
from if_factory.training.deepspeed import Zero, ds_config, ds_name
from if_factory.training.few_steps import without_warmup

__all__ = ["CurriculumOptions", "StagePlan", "bin_names", "cut_bins", "export_config", "plan_stages", "read_bins",
           "split_bins", "stage_config", "write_curriculum", "write_export", "write_stage"]
LN2_NOTE = "ln 2 = 0.693"
_EMBEDDED = "models/SmolLM2-135M-Instruct"  # on no hub by this name: `if-factory model` makes it
Kind = TrainingStage | Literal["grpo"]  # what a YAML calls a stage; GRPO's rows are prompts, not examples
_COMPARED: tuple[Kind, ...] = ("dpo", "kto")  # stages whose loss needs a reference model
# Suri's i-orpo/orpo.yaml: lambda (LLaMA-Factory's pref_beta), LoRA, no warm-up, sequences of up to 15,024 tokens.
_IORPO = {"pref_beta": 0.4, "lora_rank": 16, "lora_alpha": 16, "learning_rate": 5e-5,
          "warmup_ratio": 0.0, "cutoff_len": 15024}
# trl counts answers, not prompts: eight answers to a prompt are one group, and two prompts make a step.
_GRPO = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2, "learning_rate": 1e-5,
         "grpo_num_generations": 8, "grpo_max_completion_length": 256, "grpo_beta": 0.0}


@dataclass(frozen=True, slots=True)
class CurriculumOptions:
    """What a curriculum trains and how.

    ``stages`` are datasets in training order: ``sft``, ``dpo``, ``kto``, ``iorpo``, ``grpo``, or ``sft_external``
    where a method keeps rows of one kind apart. ``lr`` is for SFT, ``pref_lr`` for DPO and KTO, I-ORPO and GRPO have
    their own (``_IORPO``, ``_GRPO``); ``batch`` is sequences (or pairs) per optimizer step on one device.
    ``stage_overrides`` sets any LLaMA-Factory key for one stage or all stages of a kind (``{"dpo":
    {"learning_rate": 5e-6}}``); a stage's own entry wins over its kind's.
    ``beside``: further datasets of a (stage, bin), trained in the same stage.
    ``replay``: datasets of general data against forgetting. They join one stage, so that a row is not trained again
    in each: the last of ``sft``, or the last SFT stage where that is not trained.
    ``max_steps`` overrides ``epochs``. ``disable_shuffling`` keeps the file's order inside a stage.
    ``finetuning_type`` may be overridden for one stage too: SFT on all weights, then DPO with an adapter.
    ``deepspeed`` writes DeepSpeed's configuration beside the YAMLs; such a stage is started with torchrun.
    ``rows`` are those of each dataset, as far as they are known; a stage of few steps has no warm-up, unless
    ``settings``, the names that the user set (``sft.warmup_ratio``), have one.
    ``comments`` says, by stage or kind and key, where a value comes from; ``notes`` are lines of every header.
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
    beside: Mapping[tuple[str, str], Sequence[str]] = field(default_factory=dict)
    replay: tuple[str, ...] = ()
    output_root: str = "saves"
    dataset_dir: str = "data"
    seed: int = 42
    disable_shuffling: bool = False
    save_steps: int = 200
    trust_remote_code: bool = False
    stage_overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    finetuning_type: Literal["lora", "full", "freeze"] = "lora"
    deepspeed: Zero | None = None
    comments: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    rows: Mapping[str, int] = field(default_factory=dict)
    settings: tuple[str, ...] = ()

    def comments_for(self, kind: str, stage: str) -> dict[str, str]:
        """The comments on one stage's keys."""
        return dict(self.comments.get(kind, {})) | dict(self.comments.get(stage, {}))

    def keys_for(self, kind: str, stage: str) -> dict[str, Any]:
        """The overrides of one stage."""
        return dict(self.stage_overrides.get(kind, {})) | dict(self.stage_overrides.get(stage, {}))

    def sets(self, key: str, kind: str, stage: str) -> bool:
        """Whether the user set this key for the stage."""
        return not {key, f"{kind}.{key}", f"{stage}.{key}"}.isdisjoint(self.settings)


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage: which adapters it loads, whether it starts a new one, and which to serve afterwards.

    ``stage`` is the dataset's name (``sft_external``), ``kind`` what LLaMA-Factory calls a stage (``sft``).
    ``model`` is what the stage starts from; ``whole``: it trains the model's own weights, and its output is a
    model.
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
    model: str = ""
    whole: bool = False


def plan_stages(options: CurriculumOptions, datasets: Mapping[tuple[str, str], str]) -> list[StagePlan]:
    """The stages in order. ``datasets`` maps (stage, bin) to the name in dataset_info.json.

    A bin without a dataset is left out: where a method says what is hard, a run may have no hard rows.

    Raises:
        UserError: a stage without any dataset, or one that names no stage of LLaMA-Factory.
    """
    plans: list[StagePlan] = []
    with_replay = _joined_by_replay(options, datasets)
    serve: tuple[str, ...] = ()
    model = sft_model = options.model
    for stage in options.stages:
        kind = kind_of(stage)
        whole = _tuning(options, kind, stage) != "lora"
        bins = [b for b in bin_names(options.bins) if (stage, b) in datasets]
        if not bins:
            raise UserError(f"no dataset for stage {stage}", where="curriculum",
                            fix=f"export {stage} rows, or leave '{stage}' out of the stages")
        for b in bins:
            name = f"{options.name}_{len(plans) + 1}_{stage}_{b}"
            out = f"{options.output_root}/{name}"
            replay = options.replay if (stage, b) == with_replay else ()
            names = (datasets[stage, b], *options.beside.get((stage, b), ()), *replay)
            if whole:
                if serve:
                    raise UserError(f"stage {stage} trains the whole model, and the stage before it an adapter",
                                    where="curriculum", fix="train all weights in the earlier stages too, or "
                                    "merge their adapters first and start a curriculum on the merged model")
                compared = (sft_model if options.reference == "sft" else model) if kind in _COMPARED else ""
                plans.append(StagePlan(name, stage, kind, b, names, out, (), False, (), compared, model, True))
                model = out
                sft_model = out if kind not in _COMPARED else sft_model
                continue
            tuned_preference = any(p.kind in _COMPARED and not p.whole for p in plans)
            continues = kind not in _COMPARED or (options.reference == "sft" and tuned_preference)
            new = bool(serve) and not continues
            if new and "z3" in str(options.deepspeed):
                raise UserError("DeepSpeed ZeRO-3 takes a single adapter and ignores create_new_adapter, so stage "
                                f"{stage} would be compared with the bare base model", where="curriculum",
                                fix="use --deepspeed z2, or --set finetuning_type=full, or merge after SFT")
            load = serve
            serve = (*serve, out) if new or not serve else (*serve[:-1], out)
            reference = _reference(load, new, model) if kind in _COMPARED else ""
            plans.append(StagePlan(name, stage, kind, b, names, out, load, new, serve, reference, model))
    return plans


def _joined_by_replay(options: CurriculumOptions, datasets: Mapping[tuple[str, str], str]) -> tuple[str, str] | None:
    """The (stage, bin) that general data joins; ``None`` where there is no SFT."""
    found = [(stage, b) for stage in options.stages if kind_of(stage) == "sft"
             for b in bin_names(options.bins) if (stage, b) in datasets]
    return next((at for at in reversed(found) if at[0] == "sft"), found[-1] if found else None)


def kind_of(stage: str) -> Kind:
    """The stage of LLaMA-Factory, or of this package, that trains the dataset ``stage``.

    Raises:
        UserError: there is none.
    """
    return "grpo" if stage == "grpo" else stage_of(stage)


def _tuning(options: CurriculumOptions, kind: str, stage: str) -> str:
    tuning = options.keys_for(kind, stage).get("finetuning_type", options.finetuning_type)
    if tuning not in ("lora", "full", "freeze"):
        raise UserError(f"finetuning_type {tuning!r} is not one of lora, full, freeze",
                        where=f"curriculum: stage {stage}")
    return str(tuning)


def _reference(load: tuple[str, ...], new: bool, model: str) -> str:
    merged = load if new else load[:-1]
    return " + ".join((model, *merged))


def stage_config(options: CurriculumOptions, plan: StagePlan, *, deepspeed_folder: str = ".") -> dict[str, Any]:
    """The stage as LLaMA-Factory keys, in the order of its own examples."""
    o = options
    config: dict[str, Any] = {"model_name_or_path": plan.model or o.model,
                              "trust_remote_code": o.trust_remote_code}
    if plan.load:
        config["adapter_name_or_path"] = ",".join(plan.load)
    config |= {"stage": plan.kind, "do_train": True, "finetuning_type": _tuning(o, plan.kind, plan.stage)}
    if plan.whole and plan.reference not in ("", plan.model):
        config["ref_model"] = plan.reference
    if plan.new_adapter:
        config["create_new_adapter"] = True
    if not plan.whole:
        config |= {"lora_rank": o.lora_rank, "lora_alpha": o.lora_alpha or 2 * o.lora_rank, "lora_target": "all"}
    if o.deepspeed:
        config["deepspeed"] = f"{deepspeed_folder}/{ds_name(o.deepspeed)}"
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
               "logging_nan_inf_filter": False,  # else a loss that is not a number is logged as 0
               "per_device_train_batch_size": o.per_device_batch,
               "gradient_accumulation_steps": max(1, o.batch // o.per_device_batch),
               "learning_rate": _learning_rate(o, plan), "num_train_epochs": o.epochs}
    if o.max_steps is not None:
        config["max_steps"] = o.max_steps
    config |= {"lr_scheduler_type": "cosine", "warmup_ratio": o.warmup_ratio, "bf16": o.bf16 and not o.cpu}
    if o.cpu:
        config["use_cpu"] = True
    config |= {"seed": o.seed, "ddp_timeout": 180000000, "resume_from_checkpoint": None}
    if plan.kind == "iorpo":
        config |= {k: v for k, v in _IORPO.items() if not (plan.whole and k.startswith("lora_"))}
        config["cutoff_len"] = max(o.cutoff_len, _IORPO["cutoff_len"])
    if plan.kind == "grpo":
        config |= _GRPO | {"learning_rate": _GRPO["learning_rate"] / (10 if plan.whole else 1)}
    own = o.keys_for(plan.kind, plan.stage)
    config |= own
    if "warmup_steps" in own and "warmup_ratio" not in own:
        del config["warmup_ratio"]
    if config.get("pref_loss") in ("orpo", "simpo") and "pref_ftx" not in o.keys_for(plan.kind, plan.stage):
        config["pref_ftx"] = 0.0  # ORPO has the term already, and would count it twice
    return config


def _learning_rate(o: CurriculumOptions, plan: StagePlan) -> float:
    """All weights are trained with a tenth of an adapter's rate."""
    return (o.lr if plan.kind == "sft" else o.pref_lr) / (10 if plan.whole else 1)


def export_config(options: CurriculumOptions, plan: StagePlan) -> dict[str, Any]:
    """What ``llamafactory-cli export`` needs to merge every adapter of the last stage into the base model."""
    config: dict[str, Any] = {"model_name_or_path": plan.model or options.model,
                              "trust_remote_code": options.trust_remote_code,
                              "adapter_name_or_path": ",".join(plan.serve), "finetuning_type": "lora"}
    if options.template:
        config["template"] = options.template
    return config | {"export_dir": f"{options.output_root}/{options.name}_merged", "export_size": 5,
                     "export_device": "cpu", "export_legacy_format": False}


def write_curriculum(options: CurriculumOptions, datasets: Mapping[tuple[str, str], str],
                     folder: Path) -> list[Path]:
    """Write one YAML per stage and an export YAML into ``folder``; returns them in the order to run.

    Where the last stage trains the whole model there is nothing to merge and no export YAML.

    Raises:
        UserError: unknown template, or a stage without a dataset.
    """
    plans = plan_stages(options, datasets)
    stages = [write_stage(options, plan, folder, i, len(plans)) for i, plan in enumerate(plans, 1)]
    if options.deepspeed:
        write_atomic(folder / ds_name(options.deepspeed), dump_json(ds_config(options.deepspeed), indent=2) + "\n")
    return [*stages, *([write_export(options, plans[-1], folder)] if plans[-1].serve else [])]


def write_stage(options: CurriculumOptions, plan: StagePlan, folder: Path, number: int, of: int) -> Path:
    """Write one stage's YAML, ``number`` of ``of``.

    Raises:
        UserError: unknown template.
    """
    if options.template and (why := template_problem(options.template)):
        raise UserError(why, where="curriculum: field 'template'", fix="`template:` is the chat format the model "
                        "was trained with; see LLaMA-Factory's README, 'Supported Models'")
    path = folder / f"{plan.name}.yaml"
    config = stage_config(options, plan, deepspeed_folder=folder.as_posix())
    comments = options.comments_for(plan.kind, plan.stage)
    if plan.kind != "grpo" and all(name in options.rows for name in plan.datasets) and not any(
            options.sets(key, plan.kind, plan.stage) for key in ("warmup_ratio", "warmup_steps")):
        config, why = without_warmup(config, sum(options.rows[name] for name in plan.datasets))
        comments |= {"warmup_ratio": why} if why else {}
    header = _header(path, plan, number, of, options.deepspeed, options.notes)
    write_atomic(path, header + _yaml(config, comments))
    return path


def write_export(options: CurriculumOptions, last: StagePlan, folder: Path) -> Path:
    """Write the YAML that merges every adapter after ``last``."""
    path = folder / f"{options.name}_export.yaml"
    write_atomic(path, _export_header(path, last) + _yaml(export_config(options, last)))
    return path


def _yaml(config: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> str:
    """The keys, each with its comment at the end of its first line."""
    text = ""
    for key, value in config.items():
        first, _, rest = yaml.safe_dump({key: value}, allow_unicode=False, width=1000).partition("\n")
        said = " ".join((comments or {}).get(key, "").split())
        text += first + (f"  # {said}" if said else "") + "\n" + rest
    return text


def _header(path: Path, plan: StagePlan, number: int, of: int, zero: Zero | None = None,
            notes: Sequence[str] = ()) -> str:
    title = "I-ORPO" if plan.kind == "iorpo" else plan.kind.upper()
    rows = "prompts" if plan.kind == "grpo" else "rows"
    apart = f" of {plan.stage}" if plan.stage != plan.kind else ""
    torchrun = "FORCE_TORCHRUN=1 " if zero else ""
    lines = [f"Stage {number} of {of}: {title} on the '{plan.bin}' {rows}{apart}.", "",
             f"  {torchrun}llamafactory-cli train {path.as_posix()}", "",
             *([f"The model, once: if-factory model --to {_EMBEDDED}", ""] if plan.model == _EMBEDDED else []),
             *([f"DeepSpeed {zero} (pip install deepspeed), on all GPUs of this machine. On N machines, on each:",
                "  FORCE_TORCHRUN=1 NNODES=N NODE_RANK=0.. MASTER_ADDR=... MASTER_PORT=29500 "
                f"llamafactory-cli train {path.as_posix()}", ""] if zero else []),
             "Run it from the folder that holds `dataset_dir`, after the stages before it. To override a key:",
             f"  {torchrun}llamafactory-cli train {path.as_posix()} num_train_epochs=2", ""]
    lines += [*notes, ""] if notes else []
    if plan.whole:
        lines.append(f"Trains the weights of {plan.model} themselves; there is no adapter.")
    elif not plan.load:
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
    if plan.kind == "grpo":
        lines += ['The stage needs `pip install "if-factory[train]"`; `if-factory train` runs it too (docs/grpo.md).',
                  "The batch counts answers: per_device_train_batch_size x gradient_accumulation_steps x processes",
                  "is a multiple of grpo_num_generations."]
    if plan.reference:
        lines.append(f"Reference: {plan.reference}.")
        if plan.reference == plan.model or plan.new_adapter or (not plan.load and not plan.whole):
            lines.append(f"The first step's preference loss is {LN2_NOTE} (before pref_ftx is added).")
    lines += [f"Serve after this stage: {plan.output_dir}", ""] if plan.whole else [
        f"Serve after this stage: adapter_name_or_path: {','.join(plan.serve)}" +
              ("   (all of them, in this order)" if plan.serve[1:] else ""), ""]
    lines += ["overwrite_output_dir is false: a stage that was killed goes on from its last checkpoint, and a",
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
