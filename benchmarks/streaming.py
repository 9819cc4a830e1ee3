"""Peak memory and CPU time of what reads or writes a whole run, on synthetic records (named as such).

    python benchmarks/streaming.py --records 20000,100000
    python benchmarks/streaming.py --records 20000 --package /path/of/another/checkout

`emission` counts what can be emitted of a run's finished records and writes the run folder, as `run` does at its end;
`export`, `report` and `audit` are the commands. `rows` is export's own part, without the checks of each answer: as many
SFT rows filed, cut into two bins, checked by LLaMA-Factory's rules and written. Each is a process of its own: peak is
its largest resident set (ru_maxrss), CPU its user and system time, both with the start of Python in them. Usefulness is
decided by rules. The last column is a hash of what was written: equal for two checkouts that write the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).resolve()
TOPICS = ("basil", "bread", "bicycles", "lighthouses", "rivers", "violins", "mortgages", "tomatoes", "snow", "glaciers")
VERBS = ("needs", "keeps", "takes", "gives", "shows", "holds", "finds", "brings")
PLACES = ("in the morning", "near the water", "before winter", "with little light", "on the balcony", "after rain")
STEPS = ("emission", "export", "report", "audit")
RECIPE = {"method": "complex_to_simple", "name": "synthetic", "seed": 1, "seeds": "builtin",
          "models": {"student": {"endpoint": "http://localhost:1/v1"}}}


def sentence(rng: Random, topic: str) -> str:
    return f"{topic.capitalize()} {rng.choice(VERBS)} {rng.choice(TOPICS)} {rng.choice(PLACES)}"


def record(i: int) -> dict[str, Any]:
    """A finished record: one or two constraints, an answer that passes them and one that fails one, verdicts as the
    checkers give them. About 1.3 kB."""
    rng, topic, number = Random(i), TOPICS[i % len(TOPICS)], 1 + i % 2
    seed = f"Tell me number {i} of the things that people should know about {topic}."
    constraints = [
        {"type": "punctuation:no_comma", "kwargs": {}, "text": "Use no commas.", "kind": "code"},
        {"type": "keywords:existence", "kwargs": {"keywords": [topic]}, "text": f"Use the word {topic}.",
         "kind": "code"}][:number]
    good = ". ".join(sentence(rng, topic) for _ in range(3)) + f". This is number {i}."
    bad = ", ".join(sentence(rng, topic) for _ in range(3)) + f". This is number {i}."
    passes = [{"outcome": "pass", "reason": ""}] * number
    fails = [{"outcome": "fail", "reason": "found a comma"}, *passes[1:]]
    candidates = [{"text": text, "source": source, "model": "none", "finish_reason": "stop", "verdicts": verdicts,
                   "usefulness": None} for text, source, verdicts in (
        (bad, "vanilla", fails), (good, "discrimination", passes))]
    history = [{"role": "user", "content": f"What is {topic}?"}, {"role": "assistant", "content": f"It is {topic}."}]
    return {"id": hashlib.blake2b(str(i).encode(), digest_size=8).hexdigest(), "parent": None,
            "method": "complex_to_simple", "seed_prompt": seed,
            "prompt": " ".join([seed, *(str(c["text"]) for c in constraints)]), "system": "",
            "history": history if i % 50 == 0 else [], "constraints": constraints, "candidates": candidates,
            "difficulty": float(1 + i % 5), "extra": {"category": topic}}


def write_run(folder: Path, n: int, *, records: bool = True) -> None:
    """A run folder with ``n`` synthetic records, or one that only says how many."""
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(json.dumps(RECIPE))
    with (folder / "records.jsonl").open("w") as f:
        f.writelines(json.dumps(record(i)) + "\n" for i in range(n if records else 0))
    (folder / "dropped.jsonl").write_text("")
    (folder / "usage.json").write_text("[]\n")
    (folder / "ledger.json").write_text(json.dumps({
        "complete": True, "stopped_by": None, "emission": {}, "stages": [
            {"stage": "answer", "taken": n, "advanced": n, "produced": n, "rejected": {}, "unfinished": 0}]}))


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as f:
        yield from map(json.loads, f)


def step(name: str, folder: Path, out: Path, more: dict[str, Any]) -> None:
    """One step in this process."""
    from if_factory import api

    if name == "emission":
        from if_factory.api.common import recipe_of_run
        from if_factory.api.data import emit
        from if_factory.chat.budget import Usage
        from if_factory.pipeline.ledger import Ledger
        from if_factory.pipeline.result import RunResult
        from if_factory.pipeline.rundir import RunDir
        from if_factory.pipeline.spool import SortedSpool
        from if_factory.records import Record

        recipe, spool = recipe_of_run(folder), SortedSpool(folder)
        for i, row in enumerate(rows(folder / "records.jsonl")):
            spool.put((i ^ 1, 0), Record.model_validate(row))  # out of order, as a run's records arrive
        emission = emit(recipe, spool, keep=False)
        out.mkdir(parents=True, exist_ok=True)
        RunDir(out).write(RunResult(spool, [], Ledger([]), True), Usage(), emission.counts(),
                          usefulness=emission.usefulness())
    elif name == "rows":
        from if_factory.exporting.formats import write_rows
        from if_factory.exporting.rows import Rows
        from if_factory.records import SFTExample
        from if_factory.training.bins import split_places

        filed, number = Rows("alpaca", folder), json.loads((folder / "ledger.json").read_text())["stages"][0]["taken"]
        for i in range(number):
            filed.append(SFTExample(record_id=str(i), prompt=f"Tell me number {i} of the things that we should know.",
                                    response=f"Glaciers bring snow. {'This is a sentence. ' * 10} Number {i}.",
                                    difficulty=i % 5, provenance={"method": "none", "source": "none"}))
        for n, places in enumerate((range(number), *split_places(filed.difficulties, 2))):
            write_rows(f"synthetic_{n}", filed, places, out)
    elif name == "export":
        api.export(folder, out, **more)
    elif name == "report":
        api.report(folder, out=out / "report.html")
    else:
        from if_factory.evaluation.audit_report import to_json

        os.chdir(out)  # the result names the file as it was given
        Path("audit.json").write_text(to_json(api.audit("synthetic_sft.jsonl")))


def measured(package: Path, name: str, folder: Path, out: Path, more: dict[str, Any]) -> tuple[float, float]:
    """(peak MiB, CPU seconds) of one step in a child process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = subprocess.run([sys.executable, HERE, "--step", name, folder, out, json.dumps(more)], env={
        **os.environ, "PYTHONPATH": str(package), "IF_FACTORY_EMBEDDINGS": "off"}, stdout=subprocess.PIPE)
    if code.returncode:
        raise SystemExit(f"{name} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak = float(code.stdout.decode().strip().splitlines()[-1])
    return peak, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def digest(folder: Path) -> str:
    """A hash over the names and bytes of every file."""
    found = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"):
        found.update(str(path.relative_to(folder)).encode())
        with path.open("rb") as f:
            while part := f.read(1 << 20):
                found.update(part)
    return found.hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", default="20000", help="numbers, with commas between them")
    parser.add_argument("--package", type=Path, default=HERE.parents[1], help="the checkout to measure")
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--export", type=json.loads, default={}, metavar="JSON", help="arguments of `export`")
    parser.add_argument("--folder", help="where to work; default the system's folder for temporary files")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        name, folder, out, more = given.step
        step(name, Path(folder), Path(out), json.loads(more))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print("| records | step | peak MiB | CPU s | records per CPU s | bytes written |")
    print("|---|---|---|---|---|---|")
    for n in map(int, given.records.split(",")):
        with tempfile.TemporaryDirectory(dir=given.folder) as place:
            folder = Path(place)
            write_run(folder / "run", n, records=given.steps != "rows")
            for name in given.steps.split(","):
                out = folder / ("again" if name == "emission" else "data")
                peak, cpu = measured(given.package, name, folder / "run", out, given.export)
                print(f"| {n:,} | {name} | {peak:.0f} | {cpu:.1f} | {n / cpu:,.0f} | {digest(out)} |", flush=True)


if __name__ == "__main__":
    main()
