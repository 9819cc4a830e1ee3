"""From a finished run to datasets that LLaMA-Factory reads, and the check of such datasets."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

from if_factory.api.common import AnyPath, recipe_of_run
from if_factory.api.data import emit_lines
from if_factory.api.engines import Engine, workers_of
from if_factory.errors import UserError
from if_factory.exporting.acceptance import CheckReport, check_dataset, local_names
from if_factory.exporting.card import write_card
from if_factory.exporting.dataset_info import (
    FILE_NAME,
    MergeReport,
    dataset_entry,
    merge_entries,
    read_entries,
    require_mergeable,
    stage_of,
)
from if_factory.exporting.formats import Format, Written, data_path, provenance_path, write_rows
from if_factory.exporting.manifest import (
    REPLAY,
    WHOLE,
    ExportedDataset,
    Manifest,
    left_over,
    read_manifest,
    write_manifest,
)
from if_factory.exporting.rows import UNREGISTERED, Rows
from if_factory.exporting.rules import TrainingStage
from if_factory.inputs.general import General, read_general
from if_factory.inputs.selection import require_languages
from if_factory.methods.base import Emission
from if_factory.pipeline.rundir import RunDir, record_of_line
from if_factory.pipeline.spread import spread
from if_factory.recipe import Recipe
from if_factory.records import Example
from if_factory.rewards.difficulty import Rate, id_of, read_rates
from if_factory.training.bins import bin_names, cut_places, read_bins, split_places
from if_factory.training.cutoff import Encoder
from if_factory.training.measured import By, RateOf, measured_places, names_apart
from if_factory.training.preflight import cut_lines

E = TypeVar("E", bound=Example)


@dataclass(frozen=True)
class ExportReport:
    """What ``export`` wrote.

    Attributes:
        datasets: every dataset, with its rows and how many of them LLaMA-Factory accepts.
        emission: how many rows there are, by dataset, and what was refused, by reason; the rows themselves are not
            kept (``emit`` has them).
        merged: what became of dataset_info.json.
        manifest: what was exported, as ``curriculum`` will read it.
        general: the rows mixed in against forgetting, where the recipe asks for some.
        card: the dataset card, where parquet files were written.
        left_over: datasets that an earlier export under the recipe's name wrote and this one did not; they stay
            registered.
    """

    datasets: list[Written] = field(repr=False)
    emission: Emission = field(repr=False)
    merged: MergeReport
    manifest: Manifest = field(repr=False)
    general: General | None = field(default=None, repr=False)
    card: Path | None = None
    left_over: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bins:
    """How rows are cut by difficulty.

    Attributes:
        number: how many bins there are; ``None`` for two of equal share, or one where there are too few rows.
        uppers: the upper difficulty of every bin but the last; ``None`` for equal shares.
        by: ``count`` is the method's own difficulty, the others use measured pass rates.
        keep: of ``APART``, what is binned all the same.
    """

    number: int | None
    uppers: tuple[float, ...] | None = None
    by: By = "count"
    keep: tuple[str, ...] = ()

    @property
    def labels(self) -> list[str]:
        """The bins' names, easiest first."""
        return bin_names(self.number or 2)


def bins_of(recipe: Recipe, asked: str | int | None = None, by: By = "count", keep: Sequence[str] = ()) -> Bins:
    """The bins asked for (``2``, ``"1-3,4-5"``), else those of the preset's training, else those of the method; by
    pass rate as many of equal share.

    Raises:
        UserError: ``asked`` names no bins, or bins by the number of constraints where pass rates decide.
    """
    given = asked or recipe.training().bins
    wanted = read_bins(str(given)) if given else recipe.definition.bins(recipe.method_options())
    if by != "count" and asked and not isinstance(wanted, int):
        raise UserError(f"are bins by the method's own difficulty, not by {by}", where=f"--bins {asked}",
                        fix="give a number of bins, or --difficulty count")
    kept = () if by == "count" else names_apart(keep)
    if wanted is None or isinstance(wanted, int):
        return Bins(wanted, None, by, kept)
    return Bins(len(wanted) + 1, tuple(wanted), by, kept)  # by pass rate: where nothing is measured, by these


def export(run_folder: AnyPath, into: AnyPath, *, format: Format = "alpaca", bins: str | int | None = None,
           files: str = "", force: bool = False, difficulty: By | None = None, keep: Sequence[str] = (),
           parquet: bool = False, license: str | None = None, engine: Engine = "local",
           ray_address: str | None = None, ray_workers: int | None = None) -> ExportReport:
    """Write the verified datasets of a run and merge them into dataset_info.json; every row is checked again.

    A stopped run is exported as far as it came. Beside dataset_info.json, ``.if_factory/<recipe's name>.json``
    records what was written. Nothing is written before it is clear that all of it can be.

    Args:
        run_folder: the folder of a run.
        into: LLaMA-Factory's data folder, the one with dataset_info.json; both are made if need be.
        format: ``alpaca`` or ``sharegpt``; or ``trl``, which only writes files (and no I-ORPO triples), or ``v1``,
            for LLaMA-Factory's ``USE_V1=1``, which writes the SFT datasets alone, each with a YAML that names it:
            nothing is registered in dataset_info.json, which neither reads.
        bins: also write each kind as datasets from easy to hard: a number of bins of about equal size, or bins by
            difficulty (``"1-3,4-5"``); default as the method says, else 2.
        files: a folder inside ``into`` for the data files; default beside dataset_info.json.
        force: replace entries of the same name in dataset_info.json, and files that are not an export's.
        difficulty: what bins go by: ``count`` (the method's own difficulty), ``pass_rate`` as measured by
            ``difficulty``, or ``both``; default by pass rate where it was measured, else by count. Rows of prompts
            that the model always or never solves, or that were not measured, are datasets of their own, in no bin.
        keep: of ``always_solved``, ``never_solved``, ``unmeasured``, what is binned all the same.
        parquet: write .parquet files, and beside them a dataset card for the Hugging Face hub.
        license: the hub's identifier of a licence, for the card.
        engine, ray_address, ray_workers: as for ``run``: where records are checked. The files are written here.

    Raises:
        UserError: there is no run, more bins than rows, LLaMA-Factory would refuse a dataset, or an entry of the
            same name and other content is there, or a file of that name which is not an export's.
    """
    recipe, into = recipe_of_run(run_folder), Path(into)
    if not (into / files).resolve().is_relative_to(into.resolve()):
        raise UserError(f"'{files}' is not inside the data folder", where="--files", fix=f"name a folder in {into}")
    rates = read_rates(Path(run_folder))
    cut = bins_of(recipe, bins, difficulty_of(run_folder, rates, difficulty), keep)
    rows: dict[str, Rows] = {}
    disk = Path(run_folder) if os.access(run_folder, os.W_OK) else None

    def take(dataset: str, example: Example) -> None:
        if format == "v1" and stage_of(dataset) != "sft":
            return
        rate = rates.get(id_of(example)) if rates else None
        if rate is not None and rate.decided:  # a part of the row's provenance
            example = example.model_copy(update={"provenance": {
                **example.provenance, "pass_rate": rate.pass_rate, "pass_rate_of": rate.decided}})
        if dataset not in rows:
            rows[dataset] = Rows(format, disk, every_answer=recipe.definition.verifies_history(dataset))
        rows[dataset].append(example, rate.pass_rate if rate else None)

    read = partial(record_of_line, Path(run_folder).absolute())
    with workers_of(engine, ray_address, ray_workers) as workers:
        emission = emit_lines(recipe, RunDir(run_folder).iter_lines(), read, workers, take=take)
    written, exported, registered = [], [], format not in UNREGISTERED
    general = replay_rows(recipe, _own_sft(recipe, emission))
    datasets = _named(recipe, rows, general, format, cut, disk)
    paths = [data_path(each.name, into / files, as_parquet=parquet) for each in datasets]
    files_of = [(Path(files) / path.name).as_posix() for path in paths]
    if format == "alpaca" or format == "sharegpt":  # spelled out for mypy: the entry takes two formats
        require_mergeable(into / FILE_NAME, {
            each.name: dataset_entry(file, format, each.kind) for each, file in zip(datasets, files_of, strict=True)
        }, force=force)
    try:
        before = read_manifest(into, recipe.name)
    except UserError:  # a broken record is written anew
        before = None
    _refuse_foreign(paths, {d.file for d in before.datasets} if before else set(), into, force=force)
    for each, file in zip(datasets, files_of, strict=True):
        made = write_rows(each.name, each.rows, each.places, into / files, as_parquet=parquet)
        written.append(made)
        exported.append(ExportedDataset(each.name, each.dataset, each.kind, each.label, file, made.written, format))
        if registered:
            made.entry["file_name"] = file
    if format == "v1" and not written:
        raise UserError("the run has no SFT dataset, and LLaMA-Factory's version 1 trains nothing else",
                        where=str(run_folder), fix="use --format alpaca or sharegpt, without USE_V1")
    card = None
    if parquet and exported:
        card = write_card(into / files, recipe.name, recipe.method, exported, license)
    if not registered:
        return ExportReport(written, emission, MergeReport(into / FILE_NAME), _manifest(recipe, cut), general, card)
    merged = merge_entries(into / FILE_NAME, {w.name: w.entry for w in written}, force=force)
    manifest = _manifest(recipe, cut, exported)
    left = left_over(before, manifest, read_entries(into / FILE_NAME))
    write_manifest(into, manifest)
    return ExportReport(written, emission, merged, manifest, general, card, tuple(left))


def _manifest(recipe: Recipe, cut: Bins, exported: Sequence[ExportedDataset] = ()) -> Manifest:
    return Manifest(recipe.name, len(cut.labels), cut.uppers is not None or cut.by != "count", tuple(exported), cut.by,
                    cut.keep)


def difficulty_of(run_folder: AnyPath, rates: Mapping[str, Rate], asked: By | None) -> By:
    """What bins go by: as asked, else by pass rate where there are rates.

    Raises:
        UserError: pass rates are asked for, and there are none; or an unknown word.
    """
    if asked is not None and asked not in get_args(By):
        raise UserError(f"is '{asked}'", where="--difficulty", fix="one of: " + ", ".join(get_args(By)))
    if asked in ("pass_rate", "both") and not rates:
        raise UserError("no pass rate was measured for this run", where=f"{run_folder}: --difficulty {asked}",
                        fix=f"run `if-factory difficulty {run_folder} --model MODEL`, or give --difficulty count")
    return asked or ("pass_rate" if rates else "count")


def _own_sft(recipe: Recipe, emission: Emission) -> int:
    """SFT rows that a curriculum trains."""
    return sum(rows for dataset, rows in emission.rows.items()
               if stage_of(dataset) == "sft" and dataset not in recipe.definition.separate)


@dataclass(frozen=True, slots=True)
class _Named:
    """A dataset that is to be written: its name, whose it is, and which rows it has."""

    name: str
    dataset: str
    label: str
    rows: Rows
    places: Sequence[int]

    @property
    def kind(self) -> TrainingStage:
        return "sft" if self.dataset == REPLAY else stage_of(self.dataset)


def _named(recipe: Recipe, datasets: Mapping[str, Rows], general: General | None, fmt: Format, cut: Bins,
           disk: Path | None) -> list[_Named]:
    """All datasets of an export, in order: each kind whole, then by bins, and the general rows last."""
    found = []
    for dataset, rows in sorted(datasets.items()):
        name = f"{recipe.name}_{dataset}"
        found.append(_Named(name, dataset, WHOLE, rows, range(len(rows))))
        try:
            parts = _parts(rows.rates, rows.difficulties, cut)
        except UserError as e:
            raise UserError(f"{name}: {e.problem}", where=f"--bins {cut.number}", fix=e.fix) from None
        found += [_Named(f"{name}_{label}", dataset, label, rows, places) for label, places in parts]
    if general and general.examples:
        rows = Rows(fmt, disk, every_answer=recipe.definition.verifies_history("sft"))
        for example in general.examples:
            rows.append(example)
        found.append(_Named(f"{recipe.name}_{REPLAY}", REPLAY, WHOLE, rows, range(len(rows))))
    return found


def _refuse_foreign(paths: Sequence[Path], ours: Collection[str], into: Path, *, force: bool) -> None:
    """A data file of an export is in its record, or has its provenance beside it; any other is the user's own."""
    for path in paths:
        if not force and path.exists() and not provenance_path(path).exists() and \
                path.relative_to(into).as_posix() not in ours:
            raise UserError("a file of this name is there, and no export wrote it", where=str(path),
                            fix="give the recipe another `name`, or replace the file with --force (`force=True`)")


def parts_of(examples: Sequence[E], cut: Bins, rate_of: RateOf) -> list[tuple[str, list[E]]]:
    """The bins with rows, easiest first, and what is set apart, each with its label; nothing for a single bin.

    Rows of which none was measured are cut as the method says.
    """
    parts = _parts([rate_of(e) for e in examples], [e.difficulty for e in examples], cut)
    return [(label, [examples[i] for i in places]) for label, places in parts]


def _parts(rates: Sequence[float | None], own: Sequence[float], cut: Bins) -> list[tuple[str, Sequence[int]]]:
    """``parts_of`` as places (from 0) of rows with these pass rates and difficulties of their own."""
    if cut.by != "count" and any(rate is not None for rate in rates):
        number = cut.number or 2
        if number == 1:
            return []
        bins, apart = measured_places(rates, own, number, cut.by, cut.keep)
        named = [*zip(bin_names(number), bins, strict=True), *apart.items()]
        return [(label, part) for label, part in named if part]
    if cut.by != "count" and cut.uppers is None and cut.number:
        cut = Bins(min(cut.number, len(own)))
    # Where no number was asked for, too few rows for two equal shares stay together.
    parts = cut_places(own, cut.uppers) if cut.uppers is not None else \
        split_places(own, cut.number or min(2, len(own)))
    return [(label, part) for label, part in zip(bin_names(len(parts)), parts, strict=True) if part
            ] if len(parts) > 1 else []


def check(folder: AnyPath, names: Sequence[str] = (), *, model: str | None = None, template: str | None = None,
          cutoff_len: int | None = None, say: Callable[[int], None] | None = None, engine: Engine = "local",
          ray_address: str | None = None, ray_workers: int | None = None) -> list[CheckReport]:
    """Which rows of the datasets in a folder LLaMA-Factory would drop, and why. Nothing is written.

    Args:
        folder: the one with dataset_info.json.
        names: datasets; default: all whose files are in the folder.
        model: count, with this model's tokenizer, the rows of which ``cutoff_len`` cuts a token.
        template: LLaMA-Factory template, for its tool format and for counting tokens.
        cutoff_len: in tokens; default as our curricula have it.
        say: told the number of rows read so far; on Ray of each dataset as a whole.
        engine, ray_address, ray_workers: as ``run`` has them; datasets are spread, each to one worker.

    Raises:
        UserError: there is no dataset_info.json, or no dataset of that name, or no tokenizer; or Ray cannot be
            reached.
    """
    folder = Path(folder)
    names = names or local_names(folder)
    with workers_of(engine, ray_address, ray_workers) as workers:
        opens = partial(_checker, folder, model, template, cutoff_len, say if workers is None else None)
        reports = []
        for report in spread(opens, names, workers):
            reports.append(report)
            if say and workers:
                say(report.rows)
    return reports


def _checker(folder: Path, model: str | None, template: str | None, cutoff_len: int | None,
             say: Callable[[int], None] | None) -> Callable[[str], CheckReport]:
    """What ``check`` does with a dataset."""
    def check(name: str) -> CheckReport:
        report = check_dataset(folder, name, template=template, say=say)
        if model is not None and report.accepted and not report.prompts:
            encoder = Encoder(model, {"template": template, "mask_history": report.stage == "sft"})
            report.cut_lines, report.cut = cut_lines(folder, report.name, report.stage, encoder, cutoff_len)
        return report

    return check


def replay_rows(recipe: Recipe, sft_rows: int = 0) -> General | None:
    """General rows drawn from the user's file with the run's seed; ``None`` where none are asked for.

    Args:
        sft_rows: the run's own, for ``replay.ratio``.

    Raises:
        UserError: the file is broken, or a language is unknown.
    """
    spec = recipe.replay
    require_languages(spec.languages, "replay.languages")
    if not (spec.file and (wanted := spec.wanted(sft_rows))):
        return None
    return read_general(recipe.path(spec.file), wanted, recipe.seed, max_characters=spec.max_characters,
                        languages=spec.languages)
