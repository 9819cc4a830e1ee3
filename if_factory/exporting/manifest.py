"""What an export wrote, as a file of its own: ``<dataset folder>/.if_factory/<recipe>.json``.

A dataset's name alone does not say whose it is: ``demo_sft_v2_sft`` is the recipe ``demo_sft_v2``'s, not a stage
of ``demo``. So every export records its datasets, and whoever needs them (``curriculum``) reads the record. It is
in the dataset folder, not in the run folder, because one run can be exported into several folders with different
bins, and because a folder that is copied to a training machine then still says what is in it. It is not in
``dataset_info.json``, which belongs to LLaMA-Factory; each recipe has a file of its own, so no export touches
another's record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from if_factory.errors import UserError
from if_factory.exporting.dataset_info import stage_of
from if_factory.files import dump_json, read_text, write_atomic

FOLDER = ".if_factory"
REPLAY = "replay"
WHOLE = "all"  # the label of a dataset that holds every row, and of the only bin
_VERSION = 1


@dataclass(frozen=True, slots=True)
class ExportedDataset:
    """One dataset of an export.

    Attributes:
        name: the key in dataset_info.json.
        dataset: what the method emitted it as: ``sft``, ``dpo``, ``sft_external``..., or ``replay``.
        kind: the training stage it is for: ``sft``, ``dpo``, ``kto`` or ``iorpo``.
        bin: the label of its difficulty bin (``easy``); ``all`` where it holds every row.
        file: the data file, relative to the dataset folder.
        rows: rows in it.
        format: ``alpaca`` or ``sharegpt``.
    """

    name: str
    dataset: str
    kind: str
    bin: str
    file: str
    rows: int
    format: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one recipe exported into one dataset folder.

    Attributes:
        recipe: the recipe's ``name``.
        bins: the bins the export was asked for; a dataset with too few rows may have none.
        by_difficulty: the bins were cut at given difficulties, or by pass rate, so one may be missing because no row
            fell into it.
        datasets: everything written, in the order written.
        difficulty: what the bins go by: ``count``, ``pass_rate`` or ``both``.
        keep: rows that were binned although their pass rate would set them apart (``training/measured.py``).
    """

    recipe: str
    bins: int
    by_difficulty: bool
    datasets: tuple[ExportedDataset, ...]
    difficulty: str = "count"
    keep: tuple[str, ...] = ()

    def names(self) -> dict[tuple[str, str], str]:
        """(emitted dataset, bin label) -> name in dataset_info.json; replay rows left out."""
        return {(d.dataset, d.bin): d.name for d in self.datasets if d.dataset != REPLAY}

    def replay(self) -> tuple[str, ...]:
        """The names of the datasets of general rows to mix into SFT; none or one."""
        return tuple(d.name for d in self.datasets if d.dataset == REPLAY)


def manifest_path(folder: Path, recipe: str) -> Path:
    """Where the record of ``recipe`` is in the dataset folder."""
    return folder / FOLDER / f"{recipe}.json"


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Replace the record of the manifest's recipe in one step; returns its path."""
    path = manifest_path(folder, manifest.recipe)
    write_atomic(path, dump_json({"version": _VERSION, **asdict(manifest)}, indent=1) + "\n")
    return path


def read_manifest(folder: Path, recipe: str) -> Manifest | None:
    """The record of ``recipe``'s latest export into ``folder``; ``None`` if there is none.

    Raises:
        UserError: it is not a manifest, or it is of another recipe or a later version.
    """
    path = manifest_path(folder, recipe)
    if not path.is_file():
        return None
    fix = "run `if-factory export` again; it writes a new one"
    try:
        data = json.loads(read_text(path))
        if data["version"] != _VERSION:
            raise UserError(f"version {data['version']!r} of this file, expected {_VERSION}", where=str(path),
                            fix=fix)
        manifest = Manifest(str(data["recipe"]), int(data["bins"]), bool(data["by_difficulty"]),
                            tuple(ExportedDataset(**row) for row in data["datasets"]),
                            str(data.get("difficulty", "count")), tuple(map(str, data.get("keep", ()))))
    except (ValueError, TypeError, KeyError) as e:
        raise UserError(f"not a record of an export: {e!r}", where=str(path), fix=fix) from None
    if manifest.recipe != recipe:
        raise UserError(f"the record of '{manifest.recipe}', expected that of '{recipe}'", where=str(path),
                        fix=fix)
    return manifest


def left_over(before: Manifest | None, now: Manifest, entries: Mapping[str, object]) -> list[str]:
    """The registered datasets of an earlier export under the recipe's name that the one ``now`` did not write anew."""
    anew = {dataset.name for dataset in now.datasets}
    return [d.name for d in before.datasets if d.name not in anew and d.name in entries] if before else []


def manifest_of_names(recipe: str, emitted: Sequence[str], labels: Sequence[str],
                      entries: Mapping[str, Mapping[str, object]], *, by_difficulty: bool) -> Manifest:
    """The record of a folder that if-factory 0.1 exported into: it wrote none.

    Names are put together from what the run is known to emit (``emitted``, from its ledger) and looked up among
    ``entries``; none is taken apart, so another recipe's dataset is never taken for this one's. ``rows`` is -1:
    0.1 did not record it.

    Args:
        labels: the bins to look for, easiest first.
    """
    found: list[ExportedDataset] = []

    def look_up(name: str, dataset: str, label: str) -> None:
        if name in entries:
            kind = "sft" if dataset == REPLAY else stage_of(dataset)
            found.append(ExportedDataset(name, dataset, kind, label, str(entries[name].get("file_name", "")), -1,
                                         str(entries[name].get("formatting", "alpaca"))))

    for dataset in sorted(emitted):
        look_up(f"{recipe}_{dataset}", dataset, WHOLE)
        for label in labels if len(labels) > 1 else ():
            look_up(f"{recipe}_{dataset}_{label}", dataset, label)
    look_up(f"{recipe}_{REPLAY}", REPLAY, WHOLE)
    return Manifest(recipe, len(labels), by_difficulty, tuple(found))
