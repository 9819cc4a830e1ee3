"""Quality against quantity (Humpback, section 3.4): forward models on N mined rows, with and without curation.

One forward model is trained from the base for every size and arm: the seed pairs and N pairs of A_k
(``curated``), or the seed pairs and N pairs drawn from all candidates whatever they were rated (``uncurated``).
Each answers the same held-out prompts, and w = alpha log N + C is fitted to each arm, N being the mined rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import cast

from if_factory.chat.base import Backend
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.emission import emit_sft
from if_factory.errors import UserError
from if_factory.evaluation.generate import generate
from if_factory.evaluation.passrate import Item, check_all, pass_rate
from if_factory.evaluation.scaling import Point
from if_factory.files import read_rows
from if_factory.judge.judge import judge_pair
from if_factory.loops.humpback import rows
from if_factory.loops.rounds import Trainer
from if_factory.methods.humpback.options import Options
from if_factory.records import Record, SFTExample

ARMS = ("curated", "uncurated")


def read_rated(folder: Path, iteration: int) -> list[Record]:
    """The candidates of a finished loop as that round rated them.

    Raises:
        UserError: there is no such round.
    """
    path = folder / f"rated_{iteration}.jsonl"
    if not path.is_file():
        raise UserError("this round has not been rated", where=str(path), fix="run `if-factory humpback` first")
    return [Record.model_validate(row) for _, row in read_rows(path)]


def arm_rows(arm: str, size: int, rated: Sequence[Record], options: Options, seed: int) -> list[SFTExample]:
    """``size`` mined rows for one arm, a smaller draw being part of a larger one.

    Raises:
        UserError: there are not as many.
    """
    pool = [r for r in rated if arm == "uncurated" or r.candidates[0].verified]
    if len(pool) < size:
        raise UserError(f"{len(pool)} {arm} rows, {size} asked for", where="--sizes",
                        fix="choose smaller sizes, mine more texts, or lower `threshold`")
    drawn = Random(f"{seed}/{arm}").sample(pool, len(pool))[:size]
    if arm == "curated":
        return rows(drawn, options, "sft")
    # This arm is not data that leaves the factory: it shows what training on unrated pairs would do.
    examples = []
    for record in drawn:
        bare = record.model_copy(update={"constraints": (), "system": options.system_web.strip()})
        examples.append(cast(SFTExample, emit_sft(bare, record.candidates[0].model_copy(update={"verdicts": ()}))))
    return examples


async def compare(trainer: Trainer, pairs: Sequence[Record], rated: Sequence[Record], options: Options,
                  sizes: Sequence[int], items: Sequence[Item], open_model: Callable[[Sequence[Path]], Backend],
                  log: ResponseLog, *, judge: ChatClient | None = None, max_tokens: int = 256
                  ) -> dict[str, list[Point]]:
    """Points ``(N, score in per cent)`` by arm.

    All answer under both system prompts, S_a and S_w, as in the paper (66.5 against 60.0 without, section 3.5).
    The score is the share of prompts whose every constraint is satisfied or, with a ``judge``, the win rate
    against the base model (asked in both orders; a tie is half a win).

    Raises:
        UserError: before anything is trained: fewer than two sizes, more rows than there are, no prompts.
    """
    if len(set(sizes)) < 2 or min(sizes) < 1:
        raise UserError("a line needs two different sizes from 1 at least", where="--sizes",
                        fix="for example 100,200,400")
    if not items:
        raise UserError("there are no prompts to compare the models on", where="--suite")
    items = [i.under(options.system_asked) for i in items]
    seed_rows = rows(pairs, options, "sft")
    sets = {(arm, n): [*seed_rows, *arm_rows(arm, n, rated, options, trainer.seed)]
            for arm in ARMS for n in sorted(set(sizes))}
    base = await _answers(open_model([]), items, log, max_tokens) if judge else {}
    points: dict[str, list[Point]] = {arm: [] for arm in ARMS}
    for (arm, n), examples in sets.items():
        adapter = trainer.sft(f"{arm}_{n}", examples)
        answers = await _answers(open_model([adapter]), items, log, max_tokens)
        score = (await _win_rate(judge, items, answers, base) if judge else
                 pass_rate(check_all(items, answers)).prompt.value)
        points[arm].append((n, 100 * score))
    return points


async def _answers(backend: Backend, items: Sequence[Item], log: ResponseLog,
                   max_tokens: int) -> dict[str, str | None]:
    try:
        done = await generate(items, backend, max_tokens=max_tokens, log=log)
    finally:
        await backend.close()
    return {key: answer.text for key, answer in done.items()}


async def _win_rate(judge: ChatClient, items: Sequence[Item], answers: Mapping[str, str | None],
                    base: Mapping[str, str | None]) -> float:
    async def one(item: Item) -> float:
        ours, theirs = (answers[item.id] or "").strip(), (base[item.id] or "").strip()
        if not (ours and theirs):  # nothing said loses to anything said, without asking
            return (1 + bool(ours) - bool(theirs)) / 2
        said = await judge_pair(partial(judge.chat, stage="win_rate"), item.prompt, ours, theirs)
        return {"a": 1.0, "b": 0.0}.get(said.winner or "", 0.5)

    wins = await asyncio.gather(*map(one, items))
    return sum(wins) / len(wins)
