"""The dataset card of a folder of parquet files: a README.md whose head the Hugging Face hub's viewer reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from if_factory.errors import UserError
from if_factory.exporting.manifest import WHOLE, ExportedDataset
from if_factory.files import read_text, write_atomic

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"),
          (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))
_KINDS = {"sft": "supervised fine-tuning", "dpo": "preference pairs", "kto": "KTO", "iorpo": "I-ORPO triples"}


def write_card(folder: Path, recipe: str, method: str, datasets: Sequence[ExportedDataset],
               licence: str | None) -> Path:
    """Write the card of what one recipe exported into ``folder``, where the data files are; returns its path.

    It is README.md, or ``<recipe>.card.md`` where README.md is somebody else's. A licence stated in an earlier card
    stays unless another is given.
    """
    mark = f"<!-- dataset card of the if-factory recipe {recipe} -->"
    path = folder / "README.md"
    if path.exists() and mark not in read_text(path):
        path = folder / f"{recipe}.card.md"
    licence = licence or _stated(path)
    write_atomic(path, card(recipe, method, datasets, licence, mark))
    return path


def card(recipe: str, method: str, datasets: Sequence[ExportedDataset], licence: str | None, mark: str = "") -> str:
    """The card's text: YAML between lines of ``---``, then a table.

    One configuration per dataset, with its file as the split ``train``; the size is that of all whole datasets
    together, as bins hold their rows again.
    """
    size = sum(d.rows for d in datasets if d.bin == WHOLE)
    head: dict[str, Any] = {"license": licence} if licence else {}
    head |= {"task_categories": ["text-generation"], "tags": ["synthetic", "instruction-following"],
             "size_categories": [next((name for most, name in _SIZES if size < most), "1B<n<10B")],
             "configs": [{"config_name": d.name, **({"default": True} if i == 0 else {}),
                          "data_files": [{"split": "train", "path": Path(d.file).name}]}
                         for i, d in enumerate(datasets)]}
    yaml_head = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    if not licence:
        yaml_head = "# license: state one, e.g. apache-2.0; the hub lists the identifiers\n" + yaml_head
    table = "\n".join(f"| `{d.name}` | {_KINDS[d.kind]} | {d.bin} | {d.rows:,} |" for d in datasets)
    return f"""---
{yaml_head}---
{mark}

# {recipe}

Made with if-factory's method `{method}`: every answer was checked by code, or by a judge where code cannot decide.
What made each row is in `<dataset>.provenance.jsonl`, line for line.

| dataset | for | difficulty | rows |
|---|---|---|---|
{table}
"""


def _stated(path: Path) -> str | None:
    """The licence in the card that is there."""
    if not path.exists():
        return None
    head = read_text(path).removeprefix("---\n").partition("\n---\n")[0]
    try:
        found = yaml.safe_load(head)
    except yaml.YAMLError as e:
        raise UserError(f"not valid YAML: {e}", where=str(path), fix="correct its head, or delete it") from None
    licence = found.get("license") if isinstance(found, dict) else None
    return licence if isinstance(licence, str) else None
