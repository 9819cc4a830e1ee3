"""Ask models the prompts of a suite, greedily, decide on the answers, and write what they said and how it scored.

Greedy decoding (temperature 0) so that before and after differ by the weights and not by the draw. A request
that got no answer is kept as ``null``: it has no verdict, never counts as a pass, and is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from if_factory.chat.base import CUT_IN_THINKING, Backend, RequestFailed
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.chat.quiet import quiet
from if_factory.chat.together import together
from if_factory.evaluation.blind import write_blind
from if_factory.evaluation.decide import judged_constraints, usefulness
from if_factory.evaluation.passrate import MODES, Item, Judged, Results, check_all, markdown, measure
from if_factory.files import dump_json, write_atomic, write_jsonl
from if_factory.judge.judge import Ask
from if_factory.records import Usefulness
from if_factory.usefulness.gate import Gate


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

    await together(map(one, items))
    return {item.id: answers[item.id] for item in items}


async def evaluate(items: Sequence[Item], models: Mapping[str, Backend], out: Path, *, max_tokens: int = 1024,
                   concurrency: int = 32, seed: int = 0, ifeval_compat: bool = False, system: str = "",
                   log: ResponseLog | None = None, gate: Gate | None = None, judge: Ask | None = None,
                   trained: Collection[str] | None = None, read: int = 60,
                   on_model: Callable[[str, str], None] | None = None,
                   on_answer: Callable[[str, Item, Answer], None] | None = None) -> Results:
    """Generate with each model in turn, decide, and write ``responses.jsonl``, ``results.json``, ``results.md``.

    A model is closed after its turn. Backends that load weights do so at their first request, so one model at a
    time is in memory, and none whose answers are all in the log.

    Args:
        models: by label; the first (``before``) is what the others are compared with.
        out: folder; files in it are replaced.
        system: the system prompt of every item that has none of its own, for every model.
        log: answers in it are not asked for again; see ``generate``.
        gate: decides which answers attempt their request; default the rules and, where installed, relevance.
        judge: decides constraints that no code can, and usefulness after the gate.
        trained: the constraint types that training rows had; ``None`` is unknown.
        read: answers of each model to put into ``blind.jsonl``; 0 writes none.
        on_model: called with label and model name before a model's turn, and with ``deciding`` at the end.
        on_answer: called with the label too, for each answer as it arrives.
    """
    items = [item.under(system) for item in items]
    answers = {}
    for label, model in models.items():
        if on_model:
            on_model(label, model.model)
        watch = None if on_answer is None else partial(on_answer, label)
        try:
            answers[label] = await generate(items, model, max_tokens=max_tokens, concurrency=concurrency, log=log,
                                            on_answer=watch)
        finally:
            await model.close()
    texts = {label: {k: a.text for k, a in by_id.items()} for label, by_id in answers.items()}
    gate = gate or Gate()
    with quiet(*(["transformers", "sentence_transformers"] if "relevance" in gate.deciders else [])):
        deciders = [*gate.deciders, *(["judge"] if judge and gate.spec.judge != "off" else [])]
        if on_model:
            on_model("deciding", ", ".join(deciders))
        useful = await usefulness(items, texts, gate, judge)
    judged = await judged_constraints(items, texts, judge) if judge else None
    decided = Decided(useful, trained, judged, tuple(deciders))
    results = write_results(items, answers, out, models={k: m.model for k, m in models.items()}, seed=seed,
                            ifeval_compat=ifeval_compat, system=system, decided=decided)
    if read:
        write_blind(items, texts, out, read, seed)
    return results


@dataclass(frozen=True, slots=True)
class Decided:
    """What is known about answers beside what checkers say; see ``passrate.measure``."""

    useful: Mapping[str, Mapping[str, Usefulness]]
    trained: Collection[str] | None = None
    judged: Mapping[str, Judged] | None = None
    deciders: tuple[str, ...] = ()


def write_results(items: Sequence[Item], answers: Mapping[str, Mapping[str, Answer]], out: Path, *,
                  models: Mapping[str, str] | None = None, seed: int = 0, ifeval_compat: bool = False,
                  system: str = "", decided: Decided | None = None) -> Results:
    """Score answers that exist and write the three files; ``system`` is what they were given under, if any."""
    texts = {label: {k: a.text for k, a in by_id.items()} for label, by_id in answers.items()}
    results = measure(items, texts, seed=seed, ifeval_compat=ifeval_compat,
                      useful=decided.useful if decided else None, trained=decided.trained if decided else None,
                      judged=decided.judged if decided else None)
    generation = {label: {"model": (models or {}).get(label, ""),
                          "failed": sum(a.text is None for a in by_id.values()),
                          "cut_at_max_tokens": sum(a.finish_reason in ("length", CUT_IN_THINKING)
                                                   for a in by_id.values()),
                          "completion_tokens": sum(a.completion_tokens for a in by_id.values())}
                  for label, by_id in answers.items()}
    write_jsonl(out / "responses.jsonl", _rows(items, answers, ifeval_compat, decided))
    written = {**results.as_dict(), "generation": generation, "seed": seed, "ifeval_compat": ifeval_compat,
               **({"system": system} if system else {})}
    if decided:
        written["usefulness"] = {"decided_by": list(decided.deciders),
                                 "trained_types": None if decided.trained is None else sorted(decided.trained)}
    write_atomic(out / "results.json", dump_json(written, indent=1) + "\n")
    write_atomic(out / "results.md", report_text(results, generation, decided))
    return results


def report_text(results: Results, generation: Mapping[str, Mapping[str, Any]], decided: Decided | None) -> str:
    """The tables of ``results.md``, with who decided and how many answers were cut."""
    lines = [markdown(results)]
    cut = ", ".join(f"{label} {g['cut_at_max_tokens']}" for label, g in generation.items())
    lines.append(f"Answers cut at the token limit: {cut} of {results.prompts}.\n")
    if decided:
        lines.append(f"Usefulness was decided by: {', '.join(decided.deciders)}.\n")
    return "\n".join(lines)


def _rows(items: Sequence[Item], answers: Mapping[str, Mapping[str, Answer]],
          ifeval_compat: bool, decided: Decided | None) -> list[dict[str, Any]]:
    judged = (decided and decided.judged) or {}
    verdicts = {(label, mode): check_all(items, {k: a.text for k, a in by_id.items()}, mode,
                                         ifeval_compat=ifeval_compat, judged=judged.get(label))
                for label, by_id in answers.items() for mode in MODES}
    return [{"id": item.id, "prompt": item.prompt, "system": item.system,
             "history": [t.model_dump() for t in item.history],
             "constraints": [c.model_dump() for c in item.constraints],
             "responses": {label: {"text": by_id[item.id].text, "finish_reason": by_id[item.id].finish_reason,
                                   **{mode: [v.model_dump(mode="json") for v in verdicts[label, mode][i]]
                                      for mode in MODES},
                                   **_useful(decided, label, item.id)}
                           for label, by_id in answers.items()}}
            for i, item in enumerate(items)]


def _useful(decided: Decided | None, label: str, key: str) -> dict[str, Any]:
    if decided is None:
        return {}
    found = decided.useful[label].get(key)
    return {"useful": None if found is None else found.model_dump(mode="json")}
