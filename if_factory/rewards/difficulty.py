"""How hard a prompt is for one model: the share of its k answers that solve the prompt.

*Easy, then hard* in the papers of this package counts constraints, which says how much is asked and not what a model
can do. Here the model that is to be trained answers every prompt of the training rows k times; the share that
``solved.py`` accepts is the prompt's pass rate. ``pass_rates.jsonl`` in the run's folder holds the rates; ``export``
and ``curriculum`` read it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from if_factory.chat.base import RequestFailed
from if_factory.chat.client import ChatClient
from if_factory.chat.together import together
from if_factory.errors import UserError
from if_factory.files import read_rows, write_jsonl
from if_factory.judge.judge import Ask
from if_factory.records import Candidate, Example, Record, Turn, content_id
from if_factory.rewards.solved import solved_by_code, solved_by_judge, without_judged
from if_factory.usefulness.gate import Gate

FILE = "pass_rates.jsonl"
_TOGETHER = 256  # prompts whose answers are in memory, and embedded, together


@dataclass(frozen=True, slots=True)
class Rate:
    """One prompt.

    Attributes:
        prompt_id: of system prompt, history and prompt; see ``prompt_id``.
        prompt: the last user turn, for a reader.
        answers: how many came; ``decided``: those with a verdict; ``passed``: those that solve the prompt.
        passed_by_code: as ``passed`` without what a judge decided; what a verified reward can see.
        decided_by_code: those with a verdict of code and gate.
        not_decided: constraints of the prompt that only a judge decides, where none was asked.
    """

    prompt_id: str
    prompt: str
    answers: int
    decided: int
    passed: int
    decided_by_code: int
    passed_by_code: int
    not_decided: int = 0

    @property
    def pass_rate(self) -> float | None:
        """In [0, 1]; ``None`` where no answer has a verdict."""
        return round(self.passed / self.decided, 4) if self.decided else None

    @property
    def by_code(self) -> float | None:
        """In [0, 1], without what a judge decided; ``None`` where no answer has a verdict."""
        return round(self.passed_by_code / self.decided_by_code, 4) if self.decided_by_code else None


def prompt_id(system: str, history: Sequence[Turn], prompt: str) -> str:
    """What a rate is filed under: everything the model is shown."""
    return content_id(system, [t.model_dump() for t in history], prompt)


def id_of(example: Example) -> str:
    return prompt_id(example.system, example.history, example.prompt)


def prompts_of_rows(examples: Iterable[Example], bare: set[str]) -> list[Record]:
    """Every distinct conversation that rows ask, once, in order, with its constraints and no answers.

    Args:
        bare: ids of records whose prompt states constraints and no request (AutoIF's instructions).
    """
    found: dict[str, Record] = {}
    for e in examples:
        key = id_of(e)
        if key not in found:
            found[key] = Record(id=key, seed_prompt=e.prompt, prompt=e.prompt, system=e.system, history=e.history,
                                constraints=e.constraints, extra={"bare": True} if e.record_id in bare else {})
    return list(found.values())


async def measure(prompts: Sequence[Record], model: ChatClient, gate: Gate, *, k: int, ask: Ask | None = None,
                  on_answer: Callable[[int], None] | None = None) -> list[Rate]:
    """The pass rate of every prompt, in order.

    Without a judge a prompt of which code decides no constraint, but a judge would, is not asked and has no rate.

    Args:
        model: asked ``k`` times per prompt, at its own temperature; its log makes a killed measurement go on.
        ask: a judge, for criteria and for usefulness after rules and relevance.

    Raises:
        UserError: no request can succeed.
    """
    async def answers(record: Record) -> Record:
        given = await asyncio.gather(*(_answer(model, record, i, on_answer) for i in range(k)))
        return record.with_candidates(*(c for c in given if c is not None))

    rates = []
    for start in range(0, len(prompts), _TOGETHER):
        chunk = prompts[start:start + _TOGETHER]
        asked = [p for p in chunk if ask or code_decides(p)]
        answered = dict(zip((p.id for p in asked), await together(map(answers, asked)), strict=True))
        by_code = dict(zip(answered, solved_by_code(gate, list(answered.values())), strict=True))
        found = by_code
        if ask:
            found = dict(zip(answered, await together(solved_by_judge(gate, r, by_code[key], ask)
                                                  for key, r in answered.items()), strict=True))
        for p in chunk:
            final, first = found.get(p.id, []), by_code.get(p.id, [])
            judged = 0 if ask else len(p.constraints) - len(without_judged(p).constraints)
            rates.append(Rate(p.id, p.prompt, len(final), sum(s is not None for s in final), final.count(True),
                              sum(s is not None for s in first), first.count(True), judged))
    return rates


def code_decides(record: Record) -> bool:
    """Something but a judge says whether an answer is good; where nothing is asked for, the gate does."""
    return not record.constraints or any(c.kind != "judge" for c in record.constraints)


async def _answer(model: ChatClient, record: Record, sample: int, on_answer: Callable[[int], None] | None
                  ) -> Candidate | None:
    try:
        said = await model.chat(record.messages(), stage="difficulty", sample=sample)
    except RequestFailed:
        return None
    if on_answer:
        on_answer(said.completion_tokens)
    return Candidate(text=said.text, source="difficulty", model=model.backend.model)


def ask_with(judge: ChatClient) -> Ask:
    return partial(judge.chat, stage="difficulty")


# ---------------------------------------------------------------- the file


def write_rates(folder: Path, rates: Iterable[Rate], about: Mapping[str, Any]) -> None:
    """Replace the run's rates; ``about`` (model, k, temperature) stands in every row."""
    write_jsonl(folder / FILE, ({**asdict(r), "pass_rate": r.pass_rate, **about} for r in rates))


def read_rates(folder: Path) -> dict[str, Rate]:
    """The rates by ``prompt_id``; empty where none were measured.

    Raises:
        UserError: a row is not one of these.
    """
    path = folder / FILE
    if not path.is_file():
        return {}
    rates = {}
    for n, row in read_rows(path):
        try:
            rate = Rate(**{name: row[name] for name in Rate.__dataclass_fields__})
        except KeyError as e:
            raise UserError(f"the field {e} is missing", where=f"{path}:{n}",
                            fix="run `if-factory difficulty` again; answers it has got cost nothing") from None
        rates[rate.prompt_id] = rate
    return rates
