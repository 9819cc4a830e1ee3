"""From datasets to the stages that train on them: ``curriculum`` writes LLaMA-Factory's YAML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from if_factory.api.common import AnyPath, recipe_of_run
from if_factory.api.datasets import bins_of, export
from if_factory.errors import UserError, deprecated
from if_factory.exporting.dataset_info import FILE_NAME, TRUTH_KEY, read_entries
from if_factory.exporting.formats import Format
from if_factory.exporting.manifest import WHOLE, Manifest, manifest_of_names, manifest_path, read_manifest
from if_factory.files import read_text
from if_factory.logps.arguments import KEY as CHUNKS
from if_factory.logps.arguments import STAGES as CHUNKED_STAGES
from if_factory.methods.training import PresetTraining, write_keys
from if_factory.pipeline.rundir import RunDir
from if_factory.recipe import Recipe
from if_factory.training.curriculum import CurriculumOptions, bin_names, kind_of, write_curriculum
from if_factory.training.cutoff import Settings, count_cuts, encoder_for, fitting_cutoff
from if_factory.training.deepspeed import Zero
from if_factory.training.measured import APART, By, names_apart
from if_factory.training.settings import refuse_settings

_ORDER = ("sft", "iorpo", "dpo")  # kinds a curriculum trains when no stage is named; KTO only when it is


@dataclass(frozen=True, slots=True)
class Curriculum:
    """The YAML files of a curriculum.

    Attributes:
        stages: one per stage, in training order.
        merge: for ``llamafactory-cli export``, which merges the adapters into the base model; ``None`` where the
            last stage trains the whole model.
        cutoff: the sentence on the ``cutoff_len`` chosen, with the longest row.
    """

    stages: tuple[Path, ...]
    merge: Path | None
    cutoff: str = ""


def curriculum(run_folder: AnyPath, *, model: str, dataset_dir: AnyPath, out: AnyPath, template: str | None = None,
               saves: str = "saves", stages: Sequence[str] = (), bins: str | int | None = None,
               keep_order: bool = False, settings: Mapping[str, object] | None = None,
               deepspeed: Zero | None = None, difficulty: By | None = None, keep: Sequence[str] = ()) -> Curriculum:
    """Write one LLaMA-Factory YAML per stage, easy to hard, with adapters chained, and one to merge them.

    Which datasets are the run's is read from the record that ``export`` left in ``dataset_dir``. ``cutoff_len`` is
    chosen so that no row is cut, 2048 at least.

    Args:
        run_folder: the folder of the run that was exported.
        model: ``model_name_or_path``: a hub name or a folder.
        dataset_dir: the folder ``export`` wrote into.
        out: folder for the YAML files.
        template: LLaMA-Factory template; ``None`` uses the tokenizer's own chat template.
        saves: where the adapters go.
        stages: datasets in training order (``["sft", "dpo"]``); default: all exported SFT, then I-ORPO, then DPO, with
            those in one stage that the method says belong together (``Method.together``).
            ``grpo`` trains on the prompts that ``export_rl`` wrote.
        bins: train in this many bins; default as exported. ``1`` trains whole datasets.
        keep_order: train the rows of a stage in the order of the file.
        settings: any LLaMA-Factory key, for every stage or, after its name and a dot, for one stage or kind:
            ``{"num_train_epochs": 3, "dpo.learning_rate": 5e-6}``. ``finetuning_type: full`` or ``freeze`` trains
            the model's own weights.
        deepspeed: ``z2``, ``z3`` or ``z3_offload``: writes DeepSpeed's configuration too.
        difficulty: what bins go by, see ``export``; default as exported. Where it differs from that, the run's
            datasets in ``dataset_dir`` are written anew with these bins.
        keep: with ``difficulty``: rows to bin that would be set apart, see ``export``.

    Raises:
        UserError: nothing was exported, a stage has no dataset, or a setting or the template is unknown.
    """
    recipe, dataset_dir = recipe_of_run(run_folder), Path(dataset_dir)
    entries = read_entries(dataset_dir / FILE_NAME)
    manifest = read_manifest(dataset_dir, recipe.name)
    if difficulty and manifest and (difficulty, names_apart(keep)) != (manifest.difficulty, manifest.keep):
        manifest = _cut_anew(manifest, run_folder, dataset_dir, bins, difficulty, keep)
        entries = read_entries(dataset_dir / FILE_NAME)
    if manifest is None and list(stages) == ["grpo"]:  # prompts need no export of examples beside them
        manifest = Manifest(recipe.name, len(bins_of(recipe, bins).labels), False, ())
    manifest = manifest or _without_record(recipe, run_folder, dataset_dir, bins)
    preset = recipe.training()
    together = () if stages else recipe.definition.together
    wanted = tuple(stages) or _preset_stages(preset, manifest) or default_stages(
        manifest, recipe.definition.separate, together)
    number = len(bins_of(recipe, bins).labels) if bins else manifest.bins
    export = f"run `if-factory export {run_folder} --into {dataset_dir}"
    if manifest.difficulty != "count" and number > 1:
        _refuse_nothing_between(manifest, wanted)
    datasets = _chosen(manifest, [stage for stage in wanted if stage != "grpo"], number, export)
    if "grpo" in wanted:
        datasets |= _prompts(recipe.name, entries, number, export)
    beside = _beside(manifest, wanted, together, number, datasets)
    for name in (*datasets.values(), *(n for names in beside.values() for n in names), *manifest.replay()):
        if name not in entries:
            raise UserError(f"the exported dataset '{name}' is not in it any more",
                            where=str(dataset_dir / FILE_NAME),
                            fix=f"run `if-factory export {run_folder} --into {dataset_dir}` again")
    options = CurriculumOptions(
        model=model, template=template, name=recipe.name, bins=number, stages=wanted, beside=beside,
        replay=manifest.replay(), output_root=saves, dataset_dir=str(dataset_dir), seed=recipe.seed, cpu=not has_gpu(),
        disable_shuffling=keep_order, deepspeed=deepspeed,
        rows={d.name: d.rows for d in manifest.datasets}, **preset_keys(recipe, wanted, settings or {}))
    encoder = encoder_for(model, {"template": template, "mask_history": True})
    reports = [count_cuts(dataset_dir, [name], kind, encoder, Settings())
               for at, first in datasets.items() if (kind := kind_of(at[0])) != "grpo"
               for name in (first, *beside.get(at, ()))]
    reports += [count_cuts(dataset_dir, [name], "sft", encoder, Settings()) for name in manifest.replay()
                if any(kind_of(stage) == "sft" for stage in wanted)]
    cutoff, sentence = fitting_cutoff(reports)
    options = _long_enough(options, cutoff)
    paths = write_curriculum(options, datasets, Path(out))
    merge = None if "output_dir" in yaml.safe_load(read_text(paths[-1])) else paths.pop()
    if all("cutoff_len" in keys for keys in options.stage_overrides.values()):
        sentence = ""  # the user's own value stands in every file
    return Curriculum(tuple(paths), merge, sentence)


def _beside(manifest: Manifest, wanted: Sequence[str], together: Sequence[str], number: int,
            datasets: dict[tuple[str, str], str]) -> dict[tuple[str, str], list[str]]:
    """What is trained beside the first dataset of ``together``, by (stage, bin label).

    A bin in which that dataset has no row is added to ``datasets``, with the next one's rows.
    """
    names, found = manifest.names(), {}
    for stage in wanted:
        for label in bin_names(number) if stage in together else ():
            here = [names[dataset, label] for dataset in together if (dataset, label) in names]
            if here:
                datasets[stage, label], found[stage, label] = here[0], here[1:]
    return found


def _preset_stages(preset: PresetTraining, manifest: Manifest) -> tuple[str, ...]:
    """The stages the preset's authors train, where all of them were exported."""
    exported = {d.dataset for d in manifest.datasets if d.bin == WHOLE}
    return preset.stages if preset.stages and exported.issuperset(preset.stages) else ()


def preset_keys(recipe: Recipe, stages: Sequence[str], settings: Mapping[str, object]) -> dict[str, Any]:
    """The arguments of ``CurriculumOptions`` that follow from the recipe's presets and the user's ``settings``.

    Raises:
        UserError: as ``stage_overrides`` does, or a key or value that the installed LLaMA-Factory does not take.
    """
    refuse_settings(settings)
    preset, own = recipe.training(), recipe.definition.training
    written = write_keys(preset, stages, settings)
    training = {name: {**own.get(name, {}), **written.values.get(name, {})} for name in {*own, *written.values}}
    if recipe.constraints.plugins:  # or no answer to their constraints has a verdict
        training["grpo"] = {"grpo_plugins": [str(recipe.path(p).absolute()) for p in recipe.constraints.plugins]}
    names = " + ".join(recipe.presets)
    notes = [f"Preset {names}: a value with a comment is its authors'; the others are ours.",
             *(f"Not stated by them: {each}." for each in preset.not_stated)]
    return {"stage_overrides": stage_overrides(settings, stages, training), "comments": written.comments,
            "settings": tuple(settings),
            "notes": tuple(notes) if preset.keys or preset.not_stated else ()}


def _long_enough(options: CurriculumOptions, cutoff: int) -> CurriculumOptions:
    """``cutoff_len`` as it fits the rows; a preset's own is kept where it does, and raised where it does not."""
    keys = {name: dict(values) for name, values in options.stage_overrides.items()}
    comments = {name: dict(values) for name, values in options.comments.items()}
    for name, said in comments.items():
        stated = keys[name].get("cutoff_len", cutoff)
        if "cutoff_len" in said and stated < cutoff:
            keys[name]["cutoff_len"] = cutoff
            said["cutoff_len"] += f"; raised from {stated}, which would cut a row"
    return replace(options, cutoff_len=cutoff, stage_overrides=keys, comments=comments)


def default_stages(manifest: Manifest, apart: Sequence[str] = (), together: Sequence[str] = ()) -> tuple[str, ...]:
    """What a curriculum trains when no stage is named: SFT first, then I-ORPO, then DPO, never KTO.

    Args:
        apart: emitted datasets for a model of their own (``Method.separate``); left out.
        together: datasets that share the stage of the first of them (``Method.together``).

    Raises:
        UserError: none of them was exported.
    """
    kinds = {d.dataset: d.kind for d in manifest.datasets if d.bin == WHOLE and d.name not in manifest.replay()}
    shared = [d for d in together if d in kinds][1:]
    found = tuple(d for kind in _ORDER for d in sorted(kinds)
                  if kinds[d] == kind and d not in apart and d not in shared)
    if not found:
        raise UserError(f"no dataset of '{manifest.recipe}' to train", where="--stages",
                        fix="run `if-factory export` first")
    return found


def _cut_anew(manifest: Manifest, run_folder: AnyPath, dataset_dir: Path, bins: str | int | None, difficulty: By,
              keep: Sequence[str]) -> Manifest:
    """The run exported again as it was, into the same files, with bins by ``difficulty``."""
    first = next((d for d in manifest.datasets if d.name not in manifest.replay()), None)
    if first is None:
        return manifest
    number = None if manifest.bins == 2 or (difficulty == "count" and manifest.by_difficulty) else manifest.bins
    fmt: Format = "sharegpt" if first.format == "sharegpt" else "alpaca"
    folder = Path(first.file).parent.as_posix()
    return export(run_folder, dataset_dir, format=fmt, bins=bins or number, files="" if folder == "." else folder,
                  difficulty=difficulty, keep=keep).manifest


def _refuse_nothing_between(manifest: Manifest, stages: Sequence[str]) -> None:
    for stage in stages:
        labels = {label: name for (dataset, label), name in manifest.names().items() if dataset == stage}
        apart = [label for label in labels if label in APART]
        if apart and not any(label in labels for label in bin_names(manifest.bins)):
            raise UserError(f"every row of {stage} is set apart ({', '.join(apart)}): no bin is left to train",
                            where=f"curriculum: difficulty {manifest.difficulty}",
                            fix="give " + " ".join(f"--keep {label}" for label in apart) + ", or --difficulty count")


def _chosen(manifest: Manifest, stages: Sequence[str], number: int, export: str) -> dict[tuple[str, str], str]:
    """(stage, bin label) -> dataset. A bin cut at a difficulty may have no row; other gaps are errors."""
    names, chosen = manifest.names(), {}
    for stage in stages:
        for label in bin_names(number):
            if (stage, label) in names:
                chosen[stage, label] = names[stage, label]
            elif not (manifest.by_difficulty and number == manifest.bins > 1 and (stage, WHOLE) in names):
                whole = "give `--bins 1`" if (stage, WHOLE) in names else f"leave '{stage}' out of --stages"
                expected = "_".join((manifest.recipe, stage, *([label] if number > 1 else [])))
                raise UserError(f"no dataset '{expected}' for stage {stage} '{label}': the last export of "
                                f"'{manifest.recipe}' did not write it", where="curriculum",
                                fix=f"{export} --bins {number}`, or {whole}")
    return chosen


def _prompts(recipe: str, entries: Mapping[str, Any], number: int, export: str) -> dict[tuple[str, str], str]:
    """(``grpo``, bin label) -> prompt dataset that ``export_rl`` registered; one without prompts is left out."""
    names = {label: f"{recipe}_rl" if label == WHOLE else f"{recipe}_rl_{label}" for label in bin_names(number)}
    found = {("grpo", label): name for label, name in names.items() if TRUTH_KEY in entries.get(name, {})}
    if not found:
        raise UserError(f"no prompt dataset '{next(iter(names.values()))}' for stage grpo", where="curriculum",
                        fix=f"{export} --rl trl --bins {number}`, or leave 'grpo' out of --stages")
    return found


def _without_record(recipe: Recipe, run_folder: AnyPath, dataset_dir: Path, bins: str | int | None) -> Manifest:
    """What if-factory 0.1 exported, which left no record: found by the names its datasets must have."""
    cut, path = bins_of(recipe, bins), manifest_path(dataset_dir, recipe.name)
    found = manifest_of_names(recipe.name, sorted(RunDir(run_folder).emission()), cut.labels,
                              read_entries(dataset_dir / FILE_NAME), by_difficulty=cut.uppers is not None)
    if not found.datasets:
        raise UserError(f"'{recipe.name}' was not exported into this folder", where=str(dataset_dir),
                        fix=f"run `if-factory export {run_folder} --into {dataset_dir}` first")
    deprecated(f"{path} is missing (exported by if-factory 0.1); datasets are looked up by name",
               "export again to record them")
    return found


def has_gpu() -> bool:
    """Without importing torch: the base install has none."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()


def stage_overrides(settings: Mapping[str, object], stages: Sequence[str],
                    training: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """LLaMA-Factory keys by stage and kind: the method's own (``training``), then ``settings``.

    Args:
        settings: ``key`` for every stage, ``stage.key`` for one stage or all stages of a kind.

    Raises:
        UserError: a setting names a stage that is not trained, or one that does not take it.
    """
    kinds = {stage.partition("_")[0] for stage in stages}
    chunked = [name for name in (*sorted(kinds), *stages) if name.partition("_")[0] in CHUNKED_STAGES]
    found = {name: dict(training.get(name, {})) for name in (*sorted(kinds), *stages)}
    for given, value in settings.items():
        stage, dot, key = given.rpartition(".")
        if not key or (dot and stage not in found):
            raise UserError("expected KEY=VALUE or STAGE.KEY=VALUE", where=f"--set {given}",
                            fix=f"the stages here are: {', '.join(found)}")
        if key == CHUNKS:  # "for every stage": for those that know it
            if not (chunked and (not dot or stage in chunked)):
                raise UserError(f"is for the stages {' and '.join(CHUNKED_STAGES)}", where=f"--set {given}",
                                fix=f"the stages here are: {', '.join(found)}")
            for kind in (stage,) if dot else chunked:
                found[kind][key] = value
            continue
        for kind in (stage,) if dot else found:
            found[kind][key] = value
    return found
