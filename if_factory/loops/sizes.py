"""Quality against quantity (Humpback, section 3.4 and 3.5): forward models on N rows, in several arms.

One forward model is trained from the base for every size and arm, on the seed pairs and N mined ones by default:

=====================  ==========================================================================================
``curated``            N pairs of A_k, k as the recipe says
``uncurated``          N pairs drawn from all candidates, whatever they were rated
``a5``, ``a4``         N pairs rated 4.5 or better, and 4 or better
``augmented_only``     N pairs of A_k without the seed pairs
``seed_only``          N seed pairs and no mined ones
``asked_as_seed``      the models of ``curated``, asked under S_a alone
``asked_without``      the models of ``curated``, asked without a system prompt
``no_system_prompt``   as ``curated``, trained and asked without a system prompt
=====================  ==========================================================================================

Each answers the same held-out prompts, and score = alpha log N + C is fitted to each arm. The others are asked under
both system prompts, S_a and S_w, which with the last three makes the paper's four settings of system prompts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal, cast

from if_factory.chat.base import Backend
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.emission import emit_sft
from if_factory.errors import UserError, suggest
from if_factory.evaluation.generate import generate
from if_factory.evaluation.passrate import Item, check_all, pass_rate
from if_factory.evaluation.scaling import Point
from if_factory.files import read_rows
from if_factory.judge.judge import judge_pair
from if_factory.loops.humpback import rows
from if_factory.loops.rounds import Trainer
from if_factory.methods.humpback.options import Options
from if_factory.methods.humpback.steps import scored
from if_factory.records import Record, SFTExample

Asked = Literal["both", "seed", "none"]


@dataclass(frozen=True, slots=True)
class Arm:
    """What one arm trains on, and how its models are asked.

    ``trained`` is the arm whose models these are, where it is another's. ``threshold``: mean rating from which a pair
    is mined, ``None`` as the recipe says, 0 all. ``systems``: whether the rows have system prompts.
    """

    threshold: float | None = None
    seeds: bool = True
    mined: bool = True
    systems: bool = True
    asked: Asked = "both"
    trained: str = ""


ARMS: dict[str, Arm] = {
    "curated": Arm(), "uncurated": Arm(threshold=0), "a5": Arm(threshold=4.5), "a4": Arm(threshold=4.0),
    "augmented_only": Arm(seeds=False), "seed_only": Arm(mined=False),
    "asked_as_seed": Arm(asked="seed", trained="curated"), "asked_without": Arm(asked="none", trained="curated"),
    "no_system_prompt": Arm(systems=False, asked="none"),
}
DEFAULT_ARMS = ("curated", "uncurated")
GROUPS = {"quality": ("a5", "a4", "uncurated"), "complementary": ("curated", "augmented_only", "seed_only"),
          "system_prompts": ("curated", "asked_as_seed", "asked_without", "no_system_prompt")}


def named_arms(names: Sequence[str]) -> tuple[str, ...]:
    """The arms meant by names of arms and of groups (``quality``, ``complementary``, ``system_prompts``), each once.

    Raises:
        UserError: there is no such arm.
    """
    for name in names:
        if name not in ARMS and name not in GROUPS:
            raise UserError(f"there is no arm '{name}'", where="--arms",
                            fix=suggest(name, [*ARMS, *GROUPS]) or f"one of: {', '.join([*ARMS, *GROUPS])}")
    return tuple(dict.fromkeys(arm for name in names for arm in GROUPS.get(name, (name,))))


def read_rated(folder: Path, iteration: int) -> list[Record]:
    """The candidates of a finished loop as that round rated them.

    Raises:
        UserError: there is no such round.
    """
    path = folder / f"rated_{iteration}.jsonl"
    if not path.is_file():
        raise UserError("this round has not been rated", where=str(path), fix="run `if-factory humpback` first")
    return [Record.model_validate(row) for _, row in read_rows(path)]


def arm_rows(arm: str, size: int, pairs: Sequence[Record], rated: Sequence[Record], options: Options,
             seed: int) -> list[SFTExample]:
    """The rows of one arm with ``size`` drawn ones among them, a smaller draw being part of a larger one.

    Raises:
        UserError: there are not as many.
    """
    spec = ARMS[arm]
    if not spec.systems:
        options = options.model_copy(update={"system_seed": "", "system_web": ""})
    if not spec.mined:
        return rows(_drawn(arm, size, pairs, seed), options, "sft")
    at_least = options.threshold if spec.threshold is None else spec.threshold
    drawn = _drawn(arm, size, [r for r in rated if r.extra["score"] >= at_least], seed)
    seeds = rows(pairs, options, "sft") if spec.seeds else []
    if spec.threshold != 0:
        kept = [scored(r, r.extra["scores"], r.extra["unread"], at_least) for r in drawn]
        return [*seeds, *rows(kept, options, "sft")]
    # This arm is not data that leaves the factory: it shows what training on unrated pairs would do.
    examples = []
    for record in drawn:
        bare = record.model_copy(update={"constraints": (), "system": options.system_web.strip()})
        examples.append(cast(SFTExample, emit_sft(bare, record.candidates[0].model_copy(update={"verdicts": ()}))))
    return [*seeds, *examples]


def _drawn(arm: str, size: int, pool: Sequence[Record], seed: int) -> list[Record]:
    if len(pool) < size:
        raise UserError(f"{len(pool)} {arm} rows, {size} asked for", where="--sizes",
                        fix="choose smaller sizes, give more texts or pairs, or lower `threshold`")
    return Random(f"{seed}/{arm}").sample(list(pool), len(pool))[:size]


async def compare(trainer: Trainer, pairs: Sequence[Record], rated: Sequence[Record], options: Options,
                  sizes: Sequence[int], items: Sequence[Item], open_model: Callable[[Sequence[Path]], Backend],
                  log: ResponseLog, *, judge: ChatClient | None = None, max_tokens: int = 256,
                  arms: Sequence[str] = DEFAULT_ARMS) -> dict[str, list[Point]]:
    """Points ``(N, score in per cent)`` by arm; ``arms`` may name groups of them.

    Where the arm does not say otherwise its models answer under both system prompts, S_a and S_w, as in the paper
    (66.5 against 60.0 without, section 3.5); the base model always does. The score is the share of prompts whose every
    constraint is satisfied or, with a ``judge``, the win rate
    against the base model (asked in both orders; a tie is half a win).

    Raises:
        UserError: before anything is trained: an unknown arm, fewer than two sizes, more rows than there are, no
            prompts.
    """
    arms = named_arms(arms)
    if len(set(sizes)) < 2 or min(sizes) < 1:
        raise UserError("a line needs two different sizes from 1 at least", where="--sizes",
                        fix="for example 100,200,400")
    if not items:
        raise UserError("there are no prompts to compare the models on", where="--suite")
    systems = {"both": options.system_asked, "seed": options.system_seed.strip(), "none": ""}
    asked = {how: [i.under(system) for i in items] for how, system in systems.items()}
    numbers = sorted(set(sizes))
    sets = {(name, n): arm_rows(name, n, pairs, rated, options, trainer.seed)
            for name in dict.fromkeys(ARMS[arm].trained or arm for arm in arms) for n in numbers}
    base = await _answers(open_model([]), asked["both"], log, max_tokens) if judge else {}
    points: dict[str, list[Point]] = {arm: [] for arm in arms}
    for arm in arms:
        spec = ARMS[arm]
        for n in numbers:
            name = spec.trained or arm
            adapter = trainer.sft(f"{name}_{n}", sets[name, n])
            here = asked[spec.asked]
            answers = await _answers(open_model([adapter]), here, log, max_tokens)
            score = (await _win_rate(judge, here, answers, base) if judge else
                     pass_rate(check_all(here, answers)).prompt.value)
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
