"""Mistakes in an entry of dataset_info.json itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from if_factory.exporting.rules import COLUMNS, FORMATS, TAGS, Effect

REMOTE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
_KEYS = (*REMOTE, "file_name", "formatting", "ranking", "subset", "split", "folder", "num_samples", "columns",
         "tags")


@dataclass(frozen=True, slots=True)
class Problem:
    """``row`` counts from 1; ``None`` means the dataset as a whole.

    ``effect``: ``fails`` = LLaMA-Factory raises and trains nothing; ``dropped`` = this row is left out;
    ``kept`` = it is trained, but probably not as meant.
    """

    row: int | None
    field: str
    reason: str
    effect: Effect

    def __str__(self) -> str:
        place = f"row {self.row}" if self.row else "dataset"
        return f"{place}: field '{self.field}': {self.reason} -> {self.effect}" if self.field else \
               f"{place}: {self.reason} -> {self.effect}"


def maps_only(entry: dict[str, Any]) -> dict[str, Any]:
    """The entry without a ``columns`` or ``tags`` that is no object."""
    return {k: v for k, v in entry.items() if k not in ("columns", "tags") or isinstance(v, dict)}


def entry_problems(entry: dict[str, Any]) -> list[Problem]:
    """What LLaMA-Factory refuses in the entry, ignores, or takes for something else."""
    found = []
    formatting = entry.get("formatting", "alpaca")
    if formatting not in FORMATS:
        found.append(Problem(None, "formatting", f"unknown formatting {formatting!r}; known: {', '.join(FORMATS)}",
                             "fails"))
    for key in sorted(set(entry) - set(_KEYS)):
        near = get_close_matches(key, _KEYS, n=1)
        if near:
            found.append(Problem(None, key, f"unknown key, ignored by LLaMA-Factory; did you mean '{near[0]}'?",
                                 "kept"))
    if not isinstance(entry.get("ranking", False), bool):
        found.append(Problem(None, "ranking", f"is {entry['ranking']!r}, not true or false: no stage check is "
                             "made and it counts as " + ("true" if entry["ranking"] else "false"), "kept"))
    if entry.get("ranking") is True and isinstance(entry.get("columns"), dict):
        held = str(entry["columns"].get("rejected") or "")
        if "instruction" in held or "prompt" in held:
            found.append(Problem(None, "ranking", f"'{held}' seems to hold instructions, which stage dpo trains "
                                 "as answers; for I-ORPO triples set \"ranking\": false", "kept"))
    if not isinstance(split := entry.get("split", "train"), str):
        found.append(Problem(None, "split", f"a local file only has the split 'train', not {split!r}", "fails"))
    number = entry.get("num_samples")
    if number is not None and (not isinstance(number, int) or number < 1):
        found.append(Problem(None, "num_samples", f"is {number!r}, not a positive whole number", "fails"))
    return [*found, *_map_problems(entry, formatting)]


def _map_problems(entry: dict[str, Any], formatting: Any) -> Iterator[Problem]:
    chat = formatting != "alpaca"
    for key, known, needed in (
            ("columns", COLUMNS, ("messages",) if chat else ("prompt", "query", "response")),
            ("tags", TAGS, TAGS if chat else ())):
        if key not in entry:
            continue
        given = entry[key]
        if not isinstance(given, dict):
            yield Problem(None, key, f"is {given!r:.40}, not an object", "fails")
            continue
        for name in sorted(set(given) - set(known)):
            near = get_close_matches(name, known, n=1)
            yield Problem(None, f"{key}.{name}", "unknown name, ignored by LLaMA-Factory" +
                          (f"; did you mean '{near[0]}'?" if near else ""), "kept")
        lost = [name for name in needed if name not in given and not (entry.get("ranking") and name == "response")]
        if lost:
            yield Problem(None, key, f"does not name {', '.join(lost)}: what a map does not name is unset, "
                          "the defaults are lost", "kept")
    columns = entry.get("columns")
    if isinstance(columns, dict) and any(columns.get(c) for c in ("images", "videos", "audios")):
        yield Problem(None, "columns", "images, videos and audio are not checked", "kept")
