"""Humpback's rounds: a backward model is trained and writes instructions, forward models rate and are trained.

::

    backward   base + seed pairs reversed          -> writes an instruction for every text
    m0         base + seed pairs                   -> rates all (instruction, text) pairs
    m1         base + seed pairs + A_k by m0       -> rates all pairs again
    m2         base + seed pairs + A_k by m1

Every model starts from the base again, every round rates all candidates. After a kill the same command continues:
answers are in the log, finished trainings are not run again, a torn one resumes from its checkpoint. A recipe
that names a model for the role ``backward`` or ``judge`` has it stand in for the trained one.
Source: arXiv 2308.06259, section 3.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import cast

from if_factory.api.common import gate_of, seeds_of
from if_factory.api.models import open_models
from if_factory.api.ready import require_ready
from if_factory.chat.base import RequestFailed
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.files import dump_json, read_rows, write_atomic, write_jsonl
from if_factory.judge.judge import judge_score
from if_factory.loops.rounds import Trainer, local_model, served_model
from if_factory.methods.base import Emission
from if_factory.methods.humpback import stages
from if_factory.methods.humpback.emit import emit
from if_factory.methods.humpback.options import ROUNDS, Options
from if_factory.methods.humpback.steps import rubric
from if_factory.pipeline.result import Observer, RunResult
from if_factory.pipeline.runner import run as run_stages
from if_factory.recipe import Recipe
from if_factory.records import Record, SFTExample
from if_factory.tables import markdown_table
from if_factory.usefulness.gate import Gate, decided

# Tokens of an answer; a batch takes as long as its longest. A rating holds a reason of at most 160 characters.
MOST = {"backward": 256, "judge": 256}
HALF = 0.5  # width of a bar of the score histogram


@dataclass(frozen=True, slots=True)
class Curation:
    """The outcome of one round of rating.

    Attributes:
        judge: the model that rated.
        candidates: pairs that were to be rated; ``rated``: those with a score; ``kept``: those in A_k.
        unread_share: of all ratings that got a reply, those that could not be read.
        histogram: pairs by mean score, in steps of half a point.
        agreement: share of the pairs rated in both rounds that are in A_k in both or in neither; ``None`` first.
        precision, recall: of "reaches k" against the labelled rows; ``None`` without them or where undefined.
    """

    iteration: int
    judge: str
    candidates: int
    rated: int
    kept: int
    unread_share: float
    histogram: dict[str, int]
    agreement: float | None = None
    precision: float | None = None
    recall: float | None = None


@dataclass(frozen=True, slots=True)
class Rounds:
    """What the loop leaves: the adapters by name (``backward``, ``m0``, ``m1``...), a report per round, and the
    pairs as the last round rated them. ``waiting`` is the model that must be served before the loop can go on."""

    adapters: dict[str, Path]
    curations: list[Curation]
    records: Sequence[Record]
    waiting: str = ""


async def run(recipe: Recipe, trainer: Trainer, *, iterations: int = ROUNDS, labelled: Path | None = None,
              batch: int = 8, observer: Observer | None = None,
              endpoints: Mapping[str, str] | None = None) -> Rounds:
    """Run the loop below ``trainer.folder``.

    Args:
        labelled: rows ``{"prompt", "response", "label": true | false}`` to measure each round's judge on.
        batch: prompts decoded together by models in this process.
        endpoints: model (``backward``, ``m0``, ``m1``...) -> URL of a server of it, merged; the loop stops, without an
            error, before a model that has none. Default: trained models are loaded into this process.

    Raises:
        UserError: nothing survives a step, a training fails, a model cannot be asked, or an endpoint is for a model
            that the loop never asks.
    """
    urls = endpoints or {}
    asked = ("backward", *(f"m{t}" for t in range(iterations)))
    if unknown := sorted(set(urls) - set(asked)):
        raise UserError(f"this loop asks no model '{unknown[0]}'", where="--endpoint", fix=f"one of {', '.join(asked)}")
    require_ready(recipe)
    options = cast(Options, recipe.method_options())
    gate = gate_of(recipe)
    seeds = seeds_of(recipe)
    pairs = list({r.id: r for r in seeds if r.extra["form"] == "seed"}.values())  # as the ledger counts them
    known = _labelled(labelled) if labelled else []
    log, usage = ResponseLog(trainer.folder / "responses.jsonl"), Usage()
    adapters: dict[str, Path] = {}
    curations: list[Curation] = []
    scored: Sequence[Record] = []
    try:
        async with open_models(recipe, log, usage, Budget(**recipe.budget.model_dump())) as given:
            def playing(role: str, adapter: str) -> contextlib.AbstractAsyncContextManager[ChatClient]:
                if role in given:
                    return contextlib.nullcontext(given[role])
                if urls:
                    return served_model(role, urls[adapter], adapters[adapter], trainer.folder, usage, batch=batch,
                                        max_tokens=MOST[role], seed=recipe.seed)
                return local_model(role, trainer.model, [adapters[adapter]], log, usage, batch=batch,
                                   max_tokens=MOST[role], seed=recipe.seed)

            if "backward" not in given:
                options = options.model_copy(update={"backward": "trained"})
                adapters["backward"] = trainer.sft("backward", rows(pairs, options, "sft_backward", gate))
                if urls and "backward" not in urls:
                    return Rounds(adapters, curations, scored, waiting="backward")
            async with playing("backward", "backward") as model:
                augmented = await run_stages(stages(options)[:-1], seeds, {"backward": model}, seed=recipe.seed,
                                             observer=observer)
            _require_complete(augmented, trainer.folder)
            candidates = [r for r in augmented.records if r.extra["form"] == "text"]
            results = [augmented]
            _account(trainer.folder, results)
            if not candidates:
                raise UserError(f"no text got an instruction: {_reasons(augmented)}", where=str(trainer.folder),
                                fix="look at the window of characters and at the texts")
            if "judge" not in given:
                adapters["m0"] = trainer.sft("m0", rows(pairs, options, "sft", gate))
            for t in range(1, iterations + 1):
                before = scored
                if urls and "judge" not in given and f"m{t - 1}" not in urls:
                    return Rounds(adapters, curations, scored, waiting=f"m{t - 1}")
                async with playing("judge", f"m{t - 1}") as judge:
                    result = await run_stages(stages(options)[-1:], candidates, {"judge": judge}, seed=recipe.seed,
                                              observer=observer)
                    _require_complete(result, trainer.folder)
                    said = await asyncio.gather(*(_reaches(judge, row, options) for row in known))
                    name = judge.backend.model
                scored = result.records
                results.append(result)
                _account(trainer.folder, results)
                curations.append(_report(t, name, result, before, known, said, options))
                _write(trainer.folder, t, result, curations)
                adapters[f"m{t}"] = trainer.sft(f"m{t}", rows([*pairs, *scored], options, "sft", gate))
    finally:
        log.close()
    return Rounds(adapters, curations, scored)


def rows(records: Sequence[Record], options: Options, dataset: str,
         gate: Gate | None = None) -> list[SFTExample]:
    """What the records emit under one dataset's name; a pair whose response does not attempt its prompt is none."""
    out, gate = Emission(), gate or Gate()
    for record in decided(gate, records):
        emit(record, options, out, 0)
    return cast(list[SFTExample], out[dataset])


# ---------------------------------------------------------------- the report of a round


def _report(iteration: int, judge: str, result: RunResult, before: Sequence[Record], known: Sequence[Row],
            said: Sequence[bool | None], options: Options) -> Curation:
    rated = result.records
    lost = sum(r.reason == "score_unread" for r in result.dropped)  # the others never got a reply
    unread = sum(r.extra["unread"] for r in rated) + lost * options.judgements
    kept = {r.id for r in rated if r.candidates[0].verified}
    kept_before = {r.id for r in before if r.candidates[0].verified}
    both = {r.id for r in rated} & {r.id for r in before}
    agreement = sum((i in kept) == (i in kept_before) for i in both) / len(both) if both else None
    bars = Counter(math.floor(r.extra["score"] / HALF) * HALF for r in rated)
    precision, recall = precision_recall([label for _, _, label in known], said)
    asked = (len(rated) + lost) * options.judgements
    return Curation(iteration, judge, len(rated) + len(result.dropped), len(rated), len(kept),
                    unread / asked if asked else 0.0, {f"{low:g}": n for low, n in sorted(bars.items())},
                    agreement, precision, recall)


def precision_recall(labels: Sequence[bool], said: Sequence[bool | None]) -> tuple[float | None, float | None]:
    """Of "kept" against "should be kept"; ``None`` where nothing was kept or should be. Unread is not kept."""
    hits = sum(bool(s) and label for s, label in zip(said, labels, strict=True))
    chosen, wanted = sum(bool(s) for s in said), sum(labels)
    return (hits / chosen if chosen else None), (hits / wanted if wanted else None)


Row = tuple[str, str, bool]


def _labelled(path: Path) -> list[Row]:
    found = []
    for n, row in read_rows(path):
        for field, kind in (("prompt", str), ("response", str), ("label", bool)):
            if not isinstance(row.get(field), kind):
                raise UserError(f"expected a {kind.__name__}", where=f"{path}:{n}: field '{field}'",
                                fix='a labelled row is {"prompt": "...", "response": "...", "label": true}')
        found.append((row["prompt"], row["response"], row["label"]))
    if not found:
        raise UserError("no labelled rows: the file has none", where=str(path), fix="leave out --labelled")
    return found


async def _reaches(judge: ChatClient, row: Row, options: Options) -> bool | None:
    try:
        said = await judge_score(partial(judge.chat, stage="labelled"), row[0], row[1], low=1, high=5,
                                 rubric=rubric(options), samples=options.judgements, tries=options.judge_tries,
                                 prompts=options.prompts)
    except RequestFailed:  # too long for the judge, say: not kept, as a candidate would not be
        return None
    return None if said.mean is None else said.mean >= options.threshold


def _require_complete(result: RunResult, folder: Path) -> None:
    """A round trains on all of its pairs or not at all: a partial set would be taken for the complete one."""
    if not result.complete:
        raise UserError(f"stopped by {result.stopped_by}", where=str(folder),
                        fix=f"{result.to_continue}; answers so far are in the log")


def _account(folder: Path, results: Sequence[RunResult]) -> None:
    """``ledger.json``: the stages up to the first rating, then one ``curate`` per round; ``dropped.jsonl``."""
    ledger = results[0].ledger.to_dict()
    dropped = [r._asdict() for r in results[0].dropped]
    for t, result in enumerate(results[1:], 1):
        name = f"curate_{t}"
        ledger.append({**result.ledger["curate"].to_dict(), "stage": name})
        dropped += [{**r._asdict(), "stage": name} for r in result.dropped]
    write_jsonl(folder / "dropped.jsonl", dropped)
    write_atomic(folder / "ledger.json", dump_json({"stages": ledger}, indent=2) + "\n")


def _write(folder: Path, iteration: int, result: RunResult, curations: Sequence[Curation]) -> None:
    write_jsonl(folder / f"rated_{iteration}.jsonl", (r.model_dump(mode="json") for r in result.records))
    write_atomic(folder / "curation.json", dump_json([asdict(c) for c in curations], indent=1) + "\n")
    write_atomic(folder / "curation.md", markdown(curations))


def markdown(curations: Sequence[Curation]) -> str:
    """One line per round: what was rated, kept and unread, and how the rounds agree."""
    head = ("round", "judge", "rated", "kept", "unread", "agrees with the round before", "precision", "recall",
            "pairs by score")
    rows = []
    for c in curations:
        bars = ", ".join(f"{low}: {n}" for low, n in c.histogram.items())
        shares = map(_share, (c.unread_share, c.agreement, c.precision, c.recall))
        rows.append((str(c.iteration), c.judge, f"{c.rated} of {c.candidates}", str(c.kept), *shares, bars))
    return "\n".join(markdown_table(head, rows)) + "\n"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _reasons(result: RunResult) -> str:
    counts = Counter(r.reason for r in result.dropped)
    return ", ".join(f"{reason} {n}" for reason, n in sorted(counts.items())) or "there were no texts"
