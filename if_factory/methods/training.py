"""What the authors of a method train with: LLaMA-Factory keys of a preset, each with the place that states it.

A value that neither the paper nor its repository states is not here: the curriculum's own default stands, and
``not_stated`` says so in the YAML and in the method's page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["BATCH", "Key", "PresetTraining", "Written", "combine", "training_table", "write_keys"]
Tuning = Literal["lora", "full"]
BOTH: tuple[Tuning, ...] = ("lora", "full")
# Not a key of LLaMA-Factory: sequences (or pairs) per optimizer step, written as gradient_accumulation_steps.
BATCH = "batch"
_ACCUMULATION, _PER_DEVICE = "gradient_accumulation_steps", "per_device_train_batch_size"


@dataclass(frozen=True, slots=True)
class Key:
    """One training key as the authors set it.

    Attributes:
        stage: the dataset or kind of stage it is for: ``sft``, ``dpo``, ``iorpo``.
        name: LLaMA-Factory's key, or ``batch``.
        value: what is written.
        place: where the paper or its repository states it.
        tuning: the kinds of finetuning it is written for; where one is missing, our default stands, and ``why``
            says why.
        stated: the authors' value, where ``value`` is another.
        why: why the value, or the default in its place, is not the authors'.
    """

    stage: str
    name: str
    value: Any
    place: str
    tuning: tuple[Tuning, ...] = BOTH
    stated: Any = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class PresetTraining:
    """How a preset trains.

    Attributes:
        keys: what is stated.
        not_stated: what is not, in words.
        not_taken: what is stated and has no key here, and why.
        stages: datasets in training order; ``None``: every one that was exported.
        bins: bins of difficulty; ``None``: as the method says. 1 is for papers without a curriculum.
    """

    keys: tuple[Key, ...] = ()
    not_stated: tuple[str, ...] = ()
    not_taken: tuple[str, ...] = ()
    stages: tuple[str, ...] | None = None
    bins: int | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """Keys by stage, and the comment beside each: ``values["dpo"]["pref_beta"]``, ``comments`` alike."""

    values: Mapping[str, Mapping[str, Any]]
    comments: Mapping[str, Mapping[str, str]]


def combine(presets: Sequence[tuple[str, PresetTraining]]) -> PresetTraining:
    """Several presets as one: of a key, of the stages and of the bins the last one's stands.

    A key that an earlier preset sets to another value says so in its ``place``.
    """
    keys: dict[tuple[str, str], tuple[str, Key]] = {}
    not_stated: tuple[str, ...] = ()
    not_taken: tuple[str, ...] = ()
    stages, bins = None, None
    for name, training in presets:
        for key in training.keys:
            before, old = keys.get((key.stage, key.name), (name, key))
            place = f"preset {name}: {key.place}" if len(presets) > 1 else key.place
            place += f"; preset {before}: {old.value}" if old.value != key.value else ""
            keys[key.stage, key.name] = name, Key(key.stage, key.name, key.value, place, key.tuning, key.stated,
                                                  key.why)
        not_stated, not_taken = training.not_stated or not_stated, training.not_taken or not_taken
        stages = training.stages if training.stages is not None else stages
        bins = training.bins if training.bins is not None else bins
    return PresetTraining(tuple(key for _, key in keys.values()), not_stated, not_taken, stages, bins)


def write_keys(training: PresetTraining, stages: Iterable[str], settings: Mapping[str, object]) -> Written:
    """The keys of ``training`` that hold for these stages, without those the user sets (``settings``).

    Which values hold, those for an adapter or those for all weights, follows ``finetuning_type`` in ``settings``.
    """
    values: dict[str, dict[str, Any]] = {}
    comments: dict[str, dict[str, str]] = {}
    for name in dict.fromkeys(each for stage in stages for each in (stage.partition("_")[0], stage)):
        whole = _setting(settings, name, "finetuning_type", "lora") != "lora"
        for key in training.keys:
            if key.stage != name or ("full" if whole else "lora") not in key.tuning:
                continue
            written, value, comment = key.name, key.value, _comment(key)
            if key.name == BATCH:
                written, per_device = _ACCUMULATION, int(str(_setting(settings, name, _PER_DEVICE, 1)))
                value = max(1, int(key.value) // per_device)
                comment = f"{key.value} a step on one device: on N devices divide by N; {comment}"
            if _setting(settings, name, written, None) is None:
                values.setdefault(name, {})[written] = value
                comments.setdefault(name, {})[written] = comment
    return Written(values, comments)


def _setting(settings: Mapping[str, object], stage: str, key: str, default: object) -> object:
    kind = stage.partition("_")[0]
    return next((settings[k] for k in (f"{stage}.{key}", f"{kind}.{key}", key) if k in settings), default)


def _comment(key: Key) -> str:
    changed = f"; stated: {key.stated}; {key.why}" if key.stated is not None else ""
    return f"{key.place}{changed}"


def training_table(training: PresetTraining) -> str:
    """The keys as a Markdown table, for the method's page."""
    lines = ["| stage | key | stated by the authors | LoRA | full | place; why ours differs |",
             "|---|---|---|---|---|---|"]
    for key in training.keys:
        stated = key.value if key.stated is None else key.stated
        other = "-" if key.name.startswith("lora_") else "our default"
        cells = [str(key.value) if tuning in key.tuning else other for tuning in BOTH]
        why = f"; {key.why}" if key.why else ""
        lines.append(f"| {key.stage} | `{key.name}` | {stated} | {cells[0]} | {cells[1]} | {key.place}{why} |")
    if not training.keys:
        lines = []
    if training.not_taken:
        lines += ["", f"Stated and not taken over: {'; '.join(training.not_taken)}."]
    if training.not_stated:
        lines += ["", f"Not stated, so ours: {'; '.join(training.not_stated)}."]
    return "\n".join(lines).strip() + "\n"
