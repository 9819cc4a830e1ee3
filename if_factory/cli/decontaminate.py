"""Commands about contamination: how near a dataset's prompts are to a benchmark's, and a copy without those."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from if_factory.similarity.contamination import Nearest

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def looks(f: Any) -> Any:
    """What both commands compare, and how."""
    for option in reversed((
            click.argument("dataset", type=FILE),
            click.option("--against", multiple=True, required=True, type=FILE,
                         help="A benchmark's prompts (.jsonl or .json); repeat it for several."),
            click.option("--cosine", type=click.FloatRange(0, 1), default=0.8, show_default=True,
                         help="Similarity from which a prompt counts as contaminated."),
            click.option("--ngram", type=click.IntRange(2), default=13, show_default=True,
                         help="Words in a row that a prompt may not share with a benchmark."),
            click.option("--embed", "model", metavar="MODEL",
                         help="A sentence-transformers model; without one wording is compared, not meaning."),
            click.option("--judge", metavar="URL", help="Ask this endpoint (a URL, `embedded`, or "
                         "`embedded:/path/to.gguf`): are the nearest pairs rephrased?"),
            click.option("--judge-model", metavar="NAME", help="Model name there; default the first it serves."),
            click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True),
            click.option("--top", type=click.IntRange(1), default=1, show_default=True,
                         help="Nearest training prompts the judge sees per benchmark prompt."),
            click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
                         help="Folder for what is written."))):
        f = option(f)
    return f


@click.command()
@looks
def contamination(dataset: Path, out: Path, cosine: float, **how: Any) -> None:
    """Compare the prompts of DATASET with benchmarks: table, histogram, and the nearest pairs."""
    _look(dataset, out, cosine, **how)


@click.command()
@looks
def decontaminate(dataset: Path, out: Path, cosine: float, **how: Any) -> None:
    """Write DATASET to the folder --out without its contaminated rows; those go to a file with their reasons."""
    from collections import Counter

    from if_factory.errors import UserError
    from if_factory.export.formats import provenance_path
    from if_factory.files import dump_json, read_rows, write_atomic, write_jsonl

    if (out / dataset.name).resolve() == dataset.resolve():
        raise UserError("the dataset would be overwritten", where=f"--out {out}", fix="choose another folder")
    rows = [row for _, row in read_rows(dataset)]
    sidecar = provenance_path(dataset)
    notes = [row for _, row in read_rows(sidecar)] if sidecar.is_file() else None
    if notes is not None and len(notes) != len(rows):
        raise UserError(f"{len(notes)} rows, the dataset has {len(rows)}", where=str(sidecar),
                        fix="export again, or remove this file")
    reasons: dict[int, str] = {}
    found, row_of = _look(dataset, out, cosine, **how)
    for n in found:
        if why := n.contaminated(cosine):
            reasons.setdefault(row_of[n.row], f"{why}:{n.benchmark}")
    kept = [i for i in range(len(rows)) if i not in reasons]
    if dataset.suffix.lower() == ".json":
        write_atomic(out / dataset.name, dump_json([rows[i] for i in kept], indent=1) + "\n")
    else:
        write_jsonl(out / dataset.name, [rows[i] for i in kept])
    if notes is not None:
        write_jsonl(provenance_path(out / dataset.name),
                    [{**notes[i], "row": n} for n, i in enumerate(kept, 1)])
    write_jsonl(out / f"{dataset.stem}.dropped.jsonl",
                [{"row": i + 1, "reason": why, **rows[i]} for i, why in sorted(reasons.items())])
    click.echo(f"{len(rows)} rows in, {len(kept)} kept, {len(reasons)} dropped" + "".join(
        f"; {why} {n}" for why, n in sorted(Counter(reasons.values()).items())))


def _look(dataset: Path, out: Path, cosine: float, *, against: tuple[Path, ...], ngram: int, model: str | None,
          judge: str | None, judge_model: str | None, api_key_env: str,
          top: int) -> tuple[list[Nearest], list[int]]:
    """What is nearest to every prompt, and the row each prompt stands in."""
    from rich.console import Console
    from rich.table import Table

    from if_factory.errors import UserError
    from if_factory.files import write_jsonl
    from if_factory.similarity.contamination import nearest, summarise

    asked = _prompts(dataset)  # of each row all user turns: a conversation trains them all
    train, row_of = [p for turns in asked for p in turns], [i for i, turns in enumerate(asked) for _ in turns]
    stems = [path.stem for path in against]
    if twice := next((s for s in stems if stems.count(s) > 1), None):
        raise UserError(f"two benchmarks are called '{twice}'", where="--against",
                        fix="give one file another name")
    benchmarks = {path.stem: [turns[-1] for turns in _prompts(path)] for path in against}
    found = nearest(train, benchmarks, ngram=ngram, model=model)
    if judge:
        found = asyncio.run(_ask(found, train, benchmarks, out, judge, judge_model, api_key_env, top))
    table = Table("benchmark", "prompts", f"sharing {ngram} words", f"of cosine >= {cosine:g}",
                  "benchmark prompts rephrased", title_justify="left",
                  title=f"{dataset.name}: {len(asked)} rows, {len(train)} prompts")
    for s in summarise(found, benchmarks, cosine):
        said = f"{s.rephrased_tests} ({100 * s.rephrased_share:.2f} %)" if judge else "not asked"
        table.add_row(s.benchmark, str(s.tests), str(s.shared_ngram), str(s.similar), said)
    Console().print(table)
    nearest_first = sorted(found, key=lambda n: (-n.shared_ngram, -n.cosine, n.row, n.benchmark))
    write_jsonl(out / "nearest.jsonl", [
        {"row": row_of[n.row] + 1, "benchmark": n.benchmark, "test": n.test + 1, "cosine": round(n.cosine, 4),
         "shared_ngram": n.shared_ngram, "rephrased": n.rephrased, "prompt": train[n.row],
         "test_prompt": benchmarks[n.benchmark][n.test]} for n in nearest_first])
    _draw(found, out)
    return found, row_of


def _draw(found: list[Nearest], out: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        click.echo("no histogram: it needs matplotlib (pip install 'if-factory[eval]')", err=True)
        return
    from if_factory.report.plots import save, similarities

    by_benchmark: dict[str, list[float]] = {}
    for n in found:
        by_benchmark.setdefault(n.benchmark, []).append(n.cosine)
    save(similarities(by_benchmark), out / "similarity.png")


def _prompts(path: Path) -> list[list[str]]:
    from if_factory.errors import UserError
    from if_factory.files import read_rows
    from if_factory.inputs.rows import prompts_of

    prompts = []
    for n, row in read_rows(path):
        turns = prompts_of(row)
        if not turns:
            raise UserError("this row has no prompt", where=f"{path}:{n}",
                            fix="expected one of prompt, instruction, query, question, conversations, messages")
        prompts.append(turns)
    if not prompts:
        raise UserError("the file has no rows", where=str(path))
    return prompts


async def _ask(found: list[Nearest], train: list[str], benchmarks: dict[str, list[str]], out: Path, url: str,
               model: str | None, api_key_env: str, top: int) -> list[Nearest]:
    from functools import partial

    from if_factory.cli.common import judge_at
    from if_factory.similarity.contamination import ask_rephrased

    async with judge_at(url, out, name=model, api_key_env=api_key_env) as judge:
        return await ask_rephrased(partial(judge.chat, stage="rephrase"), found, train, benchmarks, top=top)


COMMANDS = (contamination, decontaminate)
