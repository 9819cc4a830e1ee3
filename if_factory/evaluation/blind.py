"""A person reads answers without knowing whose they are, and the decisions of code and gate are compared.

``blind.jsonl`` has the answers, shuffled; ``blind.key.json`` beside it says whose each is. The reader writes true
or false into ``satisfied`` and ``answers`` of each row; ``score_blind`` then reads the key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from if_factory.errors import UserError
from if_factory.evaluation.passrate import Item
from if_factory.evaluation.stats import wilson
from if_factory.files import dump_json, read_rows, read_text, write_atomic, write_jsonl
from if_factory.tables import markdown_table

_MARKS = ("satisfied", "answers")


def write_blind(items: Sequence[Item], texts: Mapping[str, Mapping[str, str | None]], folder: Path, n: int,
                seed: int = 0) -> None:
    """``n`` answers of every model to the same prompts, shuffled, and the key. Rows a person marked are kept.

    Prompts that some model gave no answer to are left out.
    """
    rng = Random(f"{seed}/blind")
    answered = [item for item in items if all(by_id[item.id] is not None for by_id in texts.values())]
    chosen = rng.sample(answered, min(n, len(answered)))
    rows = [(item, label) for item in chosen for label in texts]
    rng.shuffle(rows)
    out = [{"n": i, "prompt": item.prompt, "response": texts[label][item.id],
            "satisfied": None, "answers": None} for i, (item, label) in enumerate(rows, 1)]
    path = folder / "blind.jsonl"
    if path.is_file() and _marked(path, out):
        return
    write_jsonl(path, out)
    write_atomic(folder / "blind.key.json", dump_json(
        {"format": 1, "key": [{"n": i, "id": item.id, "label": label} for i, (item, label) in enumerate(rows, 1)]},
        indent=1) + "\n")


def _marked(path: Path, out: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the file holds marks of a person; they are never written over."""
    old = [row for _, row in read_rows(path)]
    if not any(row.get(m) is not None for row in old for m in _MARKS):
        return False
    if [(r.get("prompt"), r.get("response")) for r in old] == [(r["prompt"], r["response"]) for r in out]:
        return True
    raise UserError("holds marks of a person, on other answers than those of this evaluation", where=str(path),
                    fix="move it away together with blind.key.json, or evaluate into another folder")


def score_blind(path: Path) -> dict[str, Any]:
    """A person's marks beside those of code and gate.

    Returns:
        ``by_label[label]``: ``n``, and for ``person`` and ``program`` the counts of ``satisfied``, ``answers`` and
        ``both`` with Wilson's interval; ``agreement[mark]``: the four counts, named person then program
        (``yes_no``: the person says yes, the program no); ``differ``: rows that they differ on; ``unmarked``: rows
        left out.

    Raises:
        UserError: the key or ``responses.jsonl`` is missing or belongs to other answers, a mark is no boolean, or
            nothing is marked.
    """
    key_path, answers_path = path.with_name("blind.key.json"), path.with_name("responses.jsonl")
    try:
        entries = json.loads(read_text(key_path))["key"]
        key = {entry["n"]: (str(entry["id"]), str(entry["label"])) for entry in entries}
    except (ValueError, KeyError, TypeError):
        raise UserError("not the key of a blind reading", where=str(key_path)) from None
    answers = {row["id"]: row["responses"] for _, row in read_rows(answers_path)}
    found: dict[str, list[tuple[int, dict[str, bool], dict[str, bool]]]] = {}
    unmarked = 0
    for line, row in read_rows(path):
        where = f"{path}:{line}"
        if any(row.get(m) is None for m in _MARKS):
            unmarked += 1
            continue
        for m in _MARKS:
            if not isinstance(row[m], bool):
                raise UserError("expected true or false", where=f"{where}: field '{m}'")
        item, label = key.get(row.get("n"), ("", ""))
        said = answers.get(item, {}).get(label)
        if said is None or said.get("text") != row.get("response"):
            raise UserError("this answer is not in responses.jsonl", where=where,
                            fix="keep blind.jsonl, blind.key.json and responses.jsonl of one evaluation together")
        if "useful" not in said:
            raise UserError("nobody decided which answers are useful", where=str(answers_path),
                            fix="make it again with `if-factory evaluate`")
        program = {"satisfied": all(v["outcome"] == "pass" for v in said["strict"]),
                   "answers": (said["useful"] or {}).get("answers") is True}
        found.setdefault(label, []).append((row["n"], {m: row[m] for m in _MARKS}, program))
    if not found:
        raise UserError("no row is marked", where=str(path),
                        fix="write true or false into `satisfied` and `answers`")
    order = [label for label in next(iter(answers.values())) if label in found]
    every = [pair for label in order for pair in found[label]]
    return {"by_label": {label: {"n": len(found[label]),
                                 "person": _counts([p for _, p, _ in found[label]]),
                                 "program": _counts([g for _, _, g in found[label]])} for label in order},
            "agreement": {m: {f"{a}_{b}": sum(p[m] is (a == "yes") and g[m] is (b == "yes") for _, p, g in every)
                              for a in ("yes", "no") for b in ("yes", "no")} for m in _MARKS},
            "differ": {m: [n for n, p, g in every if p[m] is not g[m]] for m in _MARKS}, "unmarked": unmarked}


def _counts(marks: Sequence[Mapping[str, bool]]) -> dict[str, dict[str, float]]:
    hits = {**{m: sum(row[m] for row in marks) for m in _MARKS},
            "both": sum(all(row[m] for m in _MARKS) for row in marks)}
    rates = {k: wilson(v, len(marks)) for k, v in hits.items()}
    return {k: {"passed": r.passed, "n": r.n, "value": r.value, "low": r.low, "high": r.high}
            for k, r in rates.items()}


def markdown(scored: Mapping[str, Any]) -> str:
    """The comparison as tables."""
    rows = []
    for label, cells in scored["by_label"].items():
        for who in ("person", "program"):
            shown = (f"{c['passed']}/{c['n']} [{100 * c['low']:.0f}, {100 * c['high']:.0f}] %"
                     for c in (cells[who][k] for k in ("satisfied", "answers", "both")))
            rows.append((label, who, *shown))
    lines = markdown_table(("", "who", "satisfied", "attempts the request", "both"), rows)
    lines += ["", *markdown_table(
        ("mark", "both yes", "only the person", "only the program", "both no", "rows that differ"),
        ((m, a["yes_yes"], a["yes_no"], a["no_yes"], a["no_no"], ", ".join(map(str, scored["differ"][m])) or "none")
         for m, a in scored["agreement"].items()))]
    if scored["unmarked"]:
        lines += ["", f"Not marked and left out: {scored['unmarked']} rows."]
    return "\n".join(lines) + "\n"
