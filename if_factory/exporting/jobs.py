"""A folder read by several workers: each types its own files, and then the types must agree.

LLaMA-Factory hands ``preprocessing_num_workers`` to ``load_dataset``: the files of a folder, in its order, are shared
out among so many processes (fewer if there are fewer files). What each makes is then joined, by Arrow's rules, and must
have the types of the first process. Source: ``datasets`` 4.0.0 ``builder._prepare_split``, ``table.concat_tables``,
``Features.reorder_fields_as``.
"""

from __future__ import annotations

from collections.abc import Sequence

from if_factory.exporting.arrow import Mode, Type, Unloadable

_ADVICE = ("with preprocessing_num_workers above 1 the files of a folder are typed apart and must agree; write them "
           "alike, or preprocessing_num_workers: 1")


def joined(jobs: Sequence[tuple[Type, Mode]], read: Sequence[int]) -> Type:
    """The type of the whole dataset.

    Args:
        jobs: the type of each worker's files, and how its first file was read.
        read: the jobs of which rows are taken (``split`` may take few), from 0.

    Raises:
        Unloadable: they do not agree.
    """
    first = jobs[0][0]
    if read:
        table, mode = jobs[read[0]]
        for n in read[1:]:
            table = _merged(table, jobs[n][0], mode == jobs[n][1])
        _require_same(first, table, jobs[0][1] == mode)
    return first


def _merged(a: Type, b: Type, alike: bool, path: str = "") -> Type:
    """Arrow's ``concat_tables`` with its default promotions: null gives way, nothing else does."""
    if "null" in (a.kind, b.kind):
        return b if a.kind == "null" else a
    if a.kind != b.kind or (a.kind == "date" and not alike):  # Arrow's reader counts seconds, pandas' nanoseconds
        kinds = f"a {a.kind} in one file and a {b.kind} in another" if a.kind != b.kind else \
            "a date in a JSON list and in JSON lines, which are not the same type"
        raise Unloadable(f"is {kinds}: {_ADVICE}", field=path)
    return Type(a.kind, a.parts | {
        key: _merged(a.parts[key], part, alike, _below(path, key)) if key in a.parts else part
        for key, part in b.parts.items()})


def _require_same(first: Type, table: Type, alike: bool, path: str = "") -> None:
    if first.kind != table.kind or (first.kind == "date" and not alike):
        kinds = ["null throughout" if t.kind == "null" else f"a {t.kind}" for t in (first, table)]
        raise Unloadable(f"is {kinds[0]} in the files of the first worker and {kinds[1]} later: {_ADVICE}", field=path)
    for key in first.parts | table.parts:
        if key == "[]":
            continue
        if key not in first.parts or key not in table.parts:
            where = "in no file of the first worker" if key not in first.parts else "only in files of the first worker"
            raise Unloadable(f"is {where}: {_ADVICE}", field=_below(path, key))
    for key, part in first.parts.items():
        _require_same(part, table.parts[key], alike, _below(path, key))


def _below(path: str, key: str) -> str:
    return f"{path}[]" if key == "[]" else f"{path}.{key}" if path else key
