"""Ask models the prompts of a suite, greedily, and write what they said and how it scored.

Greedy decoding (temperature 0) so that before and after differ by the weights and not by the draw. A request
that got no answer is kept as ``null``: it has no verdict, never counts as a pass, and is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from if_factory.chat.base import Backend, RequestFailed
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.evaluation.passrate import MODES, Item, Results, check_all, markdown, measure
from if_factory.files import dump_json, write_atomic, write_jsonl


@dataclass(frozen=True, slots=True)
class Answer:
    """``text`` is ``None`` where the request failed; ``finish_reason`` then says why."""

    text: str | None
    finish_reason: str
    completion_tokens: int = 0


async def generate(items: Sequence[Item], backend: Backend, *, max_tokens: int = 1024, concurrency: int = 32,
                   log: ResponseLog | None = None,
                   on_answer: Callable[[Item, Answer], None] | None = None) -> dict[str, Answer]:
    """One greedy answer per item, by item id in the order of ``items``.

    Args:
        max_tokens: completion tokens at most; answers cut there are kept with ``finish_reason`` ``length``.
        concurrency: requests in flight at most; what fails in passing is tried again.
        log: answers in it are not asked for again. It knows models by name only, so two adapters served under
            one name need two logs.
        on_answer: called for each answer as it arrives, e.g. to move a progress bar.

    Raises:
        UserError: no request can succeed (no server, wrong key).
    """
    model = ChatClient("evaluated", backend, log=log, budget=Budget(), usage=Usage(), concurrency=concurrency,
                  temperature=0.0, max_tokens=max_tokens)
    answers: dict[str, Answer] = {}

    async def one(item: Item) -> None:
        try:
            done = await model.chat(item.messages(), stage="evaluate")
            answers[item.id] = Answer(done.text, done.finish_reason, done.completion_tokens)
        except RequestFailed as e:
            answers[item.id] = Answer(None, e.reason)
        if on_answer:
            on_answer(item, answers[item.id])

    try:
        async with asyncio.TaskGroup() as tasks:
            for item in items:
                tasks.create_task(one(item))
    except ExceptionGroup as several:
        raise several.exceptions[0] from None  # a UserError must reach the user as one
    return {item.id: answers[item.id] for item in items}


async def evaluate(items: Sequence[Item], models: Mapping[str, Backend], out: Path, *, max_tokens: int = 1024,
                   concurrency: int = 32, seed: int = 0, ifeval_compat: bool = False, system: str = "",
                   log: ResponseLog | None = None,
                   on_answer: Callable[[str, Item, Answer], None] | None = None) -> Results:
    """Generate with each model in turn, score, and write ``responses.jsonl``, ``results.json``, ``results.md``.

    A model is closed after its turn. Backends that load weights do so at their first request, so one model at a
    time is in memory, and none whose answers are all in the log.

    Args:
        models: by label; the first (``before``) is what the others are compared with.
        out: folder; files in it are replaced.
        system: the system prompt of every item that has none of its own, for every model.
        log: answers in it are not asked for again; see ``generate``.
        on_answer: called with the label too, for each answer as it arrives.
    """
    items = [item.under(system) for item in items]
    answers = {}
    for label, model in models.items():
        watch = None if on_answer is None else partial(on_answer, label)
        try:
            answers[label] = await generate(items, model, max_tokens=max_tokens, concurrency=concurrency, log=log,
                                            on_answer=watch)
        finally:
            await model.close()
    return write_results(items, answers, out, models={k: m.model for k, m in models.items()}, seed=seed,
                         ifeval_compat=ifeval_compat, system=system)


def write_results(items: Sequence[Item], answers: Mapping[str, Mapping[str, Answer]], out: Path, *,
                  models: Mapping[str, str] | None = None, seed: int = 0, ifeval_compat: bool = False,
                  system: str = "") -> Results:
    """Score answers that exist and write the three files; ``system`` is what they were given under, if any."""
    texts = {label: {k: a.text for k, a in by_id.items()} for label, by_id in answers.items()}
    results = measure(items, texts, seed=seed, ifeval_compat=ifeval_compat)
    generation = {label: {"model": (models or {}).get(label, ""),
                          "failed": sum(a.text is None for a in by_id.values()),
                          "cut_at_max_tokens": sum(a.finish_reason == "length" for a in by_id.values()),
                          "completion_tokens": sum(a.completion_tokens for a in by_id.values())}
                  for label, by_id in answers.items()}
    write_jsonl(out / "responses.jsonl", _rows(items, answers, ifeval_compat))
    written = {**results.as_dict(), "generation": generation, "seed": seed, "ifeval_compat": ifeval_compat,
               **({"system": system} if system else {})}
    write_atomic(out / "results.json", dump_json(written, indent=1) + "\n")
    write_atomic(out / "results.md", markdown(results))
    return results


def _rows(items: Sequence[Item], answers: Mapping[str, Mapping[str, Answer]],
          ifeval_compat: bool) -> list[dict[str, Any]]:
    verdicts = {(label, mode): check_all(items, {k: a.text for k, a in by_id.items()}, mode,
                                         ifeval_compat=ifeval_compat)
                for label, by_id in answers.items() for mode in MODES}
    return [{"id": item.id, "prompt": item.prompt, "system": item.system,
             "history": [t.model_dump() for t in item.history],
             "constraints": [c.model_dump() for c in item.constraints],
             "responses": {label: {"text": by_id[item.id].text, "finish_reason": by_id[item.id].finish_reason,
                                   **{mode: [v.model_dump(mode="json") for v in verdicts[label, mode][i]]
                                      for mode in MODES}}
                           for label, by_id in answers.items()}}
            for i, item in enumerate(items)]
