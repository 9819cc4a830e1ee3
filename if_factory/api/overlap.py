"""How near a dataset's prompts are to a benchmark's, and a copy of the dataset without those."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from if_factory.api.common import AnyPath, wait
from if_factory.api.engines import Engine, workers_of
from if_factory.api.models import judge_at
from if_factory.errors import UserError
from if_factory.exporting.formats import provenance_path
from if_factory.files import dump_json, read_rows, write_atomic, write_jsonl
from if_factory.inputs.rows import prompts_of
from if_factory.similarity.contamination import Nearest, Summary, ask_rephrased, nearest, summarise


@dataclass(frozen=True)
class Contamination:
    """What was compared and found.

    Attributes:
        rows: rows of the dataset; ``prompts``: user turns in them, of which each is compared.
        nearest: for every prompt and benchmark the nearest benchmark prompt.
        row_of: the row (from 0) that each prompt stands in.
        summaries: counts by benchmark.
        judged: whether a judge was asked which of the nearest pairs are rephrased.
        histogram: the picture of the similarities; ``None`` without matplotlib.
    """

    rows: int
    prompts: int
    nearest: list[Nearest] = field(repr=False)
    row_of: list[int] = field(repr=False)
    summaries: list[Summary]
    judged: bool
    histogram: Path | None


@dataclass(frozen=True)
class Decontamination:
    """``path`` is the dataset without its contaminated rows; ``reasons`` has a reason for each of those, by row
    (from 0); ``found`` is what they were compared by."""

    path: Path
    rows: int
    reasons: dict[int, str] = field(repr=False)
    found: Contamination = field(repr=False)

    @property
    def counts(self) -> Counter[str]:
        """Dropped rows by reason."""
        return Counter(self.reasons.values())


def contamination(dataset: AnyPath, out: AnyPath, *, against: Sequence[AnyPath], cosine: float = 0.8,
                  ngram: int = 13, embed: str | None = None, judge: str | None = None,
                  judge_model: str | None = None, api_key_env: str = "OPENAI_API_KEY",
                  top: int = 1, engine: Engine = "local", ray_address: str | None = None,
                  ray_workers: int | None = None) -> Contamination:
    """Compare the prompts of a dataset with benchmarks; writes nearest.jsonl and, with matplotlib, similarity.png.

    Args:
        dataset: a .jsonl or .json file with prompts.
        out: folder for what is written.
        against: the benchmarks' prompts, a file each.
        cosine: similarity in [0, 1] from which a prompt counts as contaminated.
        ngram: words in a row that a prompt may not share with a benchmark.
        embed: a sentence-transformers model; without one wording is compared, not meaning.
        judge: a URL, ``embedded``, or ``embedded:/path/to.gguf``: are the nearest pairs rephrased?
        judge_model: its name there; default the first it serves.
        api_key_env: environment variable that holds the judge's key.
        top: nearest training prompts the judge sees per benchmark prompt.
        engine, ray_address, ray_workers: as ``run`` has them; blocks of prompts are spread. Embeddings and the
            judge stay here.

    Raises:
        UserError: a row has no prompt, a file no rows, or two benchmarks have one name; or Ray cannot be reached.
    """
    dataset, out, paths = Path(dataset), Path(out), [Path(p) for p in against]
    asked = _prompts(dataset)  # of each row all user turns: a conversation trains them all
    train, row_of = [p for turns in asked for p in turns], [i for i, turns in enumerate(asked) for _ in turns]
    stems = [path.stem for path in paths]
    if twice := next((s for s in stems if stems.count(s) > 1), None):
        raise UserError(f"two benchmarks are called '{twice}'", where="--against",
                        fix="give one file another name")
    benchmarks = {path.stem: [turns[-1] for turns in _prompts(path)] for path in paths}
    with workers_of(engine, ray_address, ray_workers) as workers:
        found = nearest(train, benchmarks, ngram=ngram, model=embed, workers=workers)
    if judge:
        async def ask(url: str) -> list[Nearest]:
            async with judge_at(url, out, name=judge_model, api_key_env=api_key_env) as model:
                return await ask_rephrased(partial(model.chat, stage="rephrase"), found, train, benchmarks,
                                           top=top)

        found = wait(ask(judge))
    nearest_first = sorted(found, key=lambda n: (-n.shared_ngram, -n.cosine, n.row, n.benchmark))
    write_jsonl(out / "nearest.jsonl", [
        {"row": row_of[n.row] + 1, "benchmark": n.benchmark, "test": n.test + 1, "cosine": round(n.cosine, 4),
         "shared_ngram": n.shared_ngram, "rephrased": n.rephrased, "prompt": train[n.row],
         "test_prompt": benchmarks[n.benchmark][n.test]} for n in nearest_first])
    return Contamination(len(asked), len(train), found, row_of, summarise(found, benchmarks, cosine), bool(judge),
                         _draw(found, out))


def decontaminate(dataset: AnyPath, out: AnyPath, *, against: Sequence[AnyPath], cosine: float = 0.8,
                  ngram: int = 13, embed: str | None = None, judge: str | None = None,
                  judge_model: str | None = None, api_key_env: str = "OPENAI_API_KEY",
                  top: int = 1, engine: Engine = "local", ray_address: str | None = None,
                  ray_workers: int | None = None) -> Decontamination:
    """Write a dataset to the folder ``out`` without its contaminated rows, and those to a file with their reasons.

    A .parquet dataset becomes a .jsonl one.

    Args: see ``contamination``.

    Raises:
        UserError: as ``contamination``; or the dataset would be overwritten, or its provenance file has another
            number of rows.
    """
    dataset, out = Path(dataset), Path(out)
    if (out / dataset.name).resolve() == dataset.resolve():
        raise UserError("the dataset would be overwritten", where=f"--out {out}", fix="choose another folder")
    rows = [row for _, row in read_rows(dataset)]
    sidecar = provenance_path(dataset)
    notes = [row for _, row in read_rows(sidecar)] if sidecar.is_file() else None
    if notes is not None and len(notes) != len(rows):
        raise UserError(f"{len(notes)} rows, the dataset has {len(rows)}", where=str(sidecar),
                        fix="export again, or remove this file")
    found = contamination(dataset, out, against=against, cosine=cosine, ngram=ngram, embed=embed, judge=judge,
                          judge_model=judge_model, api_key_env=api_key_env, top=top, engine=engine,
                          ray_address=ray_address, ray_workers=ray_workers)
    reasons: dict[int, str] = {}
    for n in found.nearest:
        if why := n.contaminated(cosine):
            reasons.setdefault(found.row_of[n.row], f"{why}:{n.benchmark}")
    kept = [i for i in range(len(rows)) if i not in reasons]
    target = out / (f"{dataset.stem}.jsonl" if dataset.suffix.lower() == ".parquet" else dataset.name)
    if dataset.suffix.lower() == ".json":
        write_atomic(target, dump_json([rows[i] for i in kept], indent=1) + "\n")
    else:
        write_jsonl(target, [rows[i] for i in kept])
    if notes is not None:
        write_jsonl(provenance_path(target), [{**notes[i], "row": n} for n, i in enumerate(kept, 1)])
    write_jsonl(out / f"{dataset.stem}.dropped.jsonl",
                [{"row": i + 1, "reason": why, **rows[i]} for i, why in sorted(reasons.items())])
    return Decontamination(target, len(rows), reasons, found)


def _draw(found: Sequence[Nearest], out: Path) -> Path | None:
    if find_spec("matplotlib") is None:
        return None
    from if_factory.reporting.plots import save, similarities

    by_benchmark: dict[str, list[float]] = {}
    for n in found:
        by_benchmark.setdefault(n.benchmark, []).append(n.cosine)
    save(similarities(by_benchmark), out / "similarity.png")
    return out / "similarity.png"


def _prompts(path: Path) -> list[list[str]]:
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
