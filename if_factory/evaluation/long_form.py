"""Long answers to Suri's instructions, before and after training: length, repetition, constraints kept to.

Every instruction is a main instruction with all its constraints, as in training; every model answers it once,
greedily. Length and repetition are ``repetition.py``'s; of every constraint of every answer a judge says yes, partly
or no. What the judge does not decide readably is counted apart and in no share.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from if_factory.chat.base import Backend
from if_factory.chat.log import ResponseLog
from if_factory.chat.parse import Failure
from if_factory.constraints.join import join
from if_factory.errors import UserError
from if_factory.evaluation import repetition
from if_factory.evaluation.generate import Answer, generate
from if_factory.evaluation.passrate import Item
from if_factory.evaluation.ranking import Triple
from if_factory.evaluation.repetition import Repetition, Tokens
from if_factory.evaluation.stats import Rate, cluster_rate
from if_factory.files import dump_json, write_atomic, write_jsonl
from if_factory.judge.grade import GRADES, Grade, judge_grade
from if_factory.judge.judge import Ask
from if_factory.tables import markdown_table


@dataclass(frozen=True, slots=True)
class LongForm:
    """What was measured, by model.

    Attributes:
        repetition: length and repetition.
        tokens: what lengths are counted in.
        grades: ``grades[model]["yes"]`` is a share of the decided constraints, resampled by text; empty without a
            judge.
        undecided: constraints that the judge did not decide readably.
    """

    repetition: Mapping[str, Repetition]
    tokens: Tokens
    grades: Mapping[str, Mapping[str, Rate]]
    undecided: Mapping[str, int]

    def markdown(self) -> str:
        """Two tables: the second only with a judge."""
        text = repetition.markdown(self.repetition, self.tokens)
        if not self.grades:
            return text
        cells = [(f"constraints kept to: {grade}", *(_share(rates[grade]) for rates in self.grades.values()))
                 for grade in GRADES]
        cells.append(("not decided", *(str(n) for n in self.undecided.values())))
        table = markdown_table(("the judge's verdict", *self.grades), cells, numbers=len(self.grades))
        return text + "\n" + "\n".join(table) + "\n"

    def as_dict(self) -> dict[str, Any]:
        """For long_form.json."""
        return {"repetition": repetition.as_dict(self.repetition, self.tokens),
                "constraints": {label: {grade: {"rate": rate.value, "low": rate.low, "high": rate.high,
                                                "constraints": rate.passed, "of": rate.n}
                                        for grade, rate in rates.items()} | {"undecided": self.undecided[label]}
                                for label, rates in self.grades.items()}}


def _share(rate: Rate) -> str:
    return f"{100 * rate.value:.0f} % ({rate.passed:,}/{rate.n:,}) [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"


def instruction_of(triple: Triple) -> str:
    """x_w: the finished one, or the main instruction with all its constraints."""
    return triple.given[0] if triple.given else join(triple.main, triple.constraints, Random(triple.id))


async def measure(triples: Sequence[Triple], models: Mapping[str, Backend], out: Path, *, max_tokens: int,
                  concurrency: int = 32, judge: Ask | None = None, counted_in: Tokens, seed: int = 0,
                  log: ResponseLog | None = None, on_model: Callable[[str, str], None] | None = None,
                  on_answer: Callable[[str, Answer], None] | None = None) -> LongForm:
    """Ask every model in turn, count, judge, and write ``long_form.md``, ``long_form.json``, ``responses.jsonl``.

    Args:
        on_model: called with label and model name before a model's turn, and with ``deciding`` before the judge's.
        on_answer: called with the label, for each answer as it arrives.

    Raises:
        UserError: a judge is given and no item has constraints apart; a model gave no answer at all.
    """
    if judge and not any(triple.constraints for triple in triples):
        raise UserError("no row has its constraints apart, so there is nothing to judge", where="--judge",
                        fix="give the exported I-ORPO dataset with its provenance file beside it, or no judge")
    items = [Item(t.id, instruction_of(t), t.constraints, system=t.system, history=t.history) for t in triples]
    answers: dict[str, dict[str, Answer]] = {}

    def answered(label: str, _: Item, answer: Answer) -> None:
        if on_answer:
            on_answer(label, answer)

    for label, model in models.items():
        if on_model:
            on_model(label, model.model)
        try:
            answers[label] = await generate(items, model, max_tokens=max_tokens, concurrency=concurrency, log=log,
                                            on_answer=partial(answered, label))
        finally:
            await model.close()
    counted = {label: repetition.measure([a.text for a in by_id.values()], counted_in, seed)
               for label, by_id in answers.items()}
    if judge and on_model:
        on_model("deciding", "the judge, one constraint at a time")
    graded = {label: await _grades(items, by_id, judge) for label, by_id in answers.items()} if judge else {}
    found = LongForm(counted, counted_in, {k: _rates(g, seed) for k, g in graded.items()},
                     {k: sum(isinstance(one, Failure) for each in g for one in each) for k, g in graded.items()})
    write_jsonl(out / "responses.jsonl", [
        {"id": item.id, "prompt": item.prompt, "constraints": [c.text for c in item.constraints],
         "responses": {label: by_id[item.id].text for label, by_id in answers.items()},
         "finish_reasons": {label: by_id[item.id].finish_reason for label, by_id in answers.items()},
         "judge": {label: [_row(one) for one in g[i]] for label, g in graded.items()}}
        for i, item in enumerate(items)])
    write_atomic(out / "long_form.json", dump_json(found.as_dict(), indent=1) + "\n")
    write_atomic(out / "long_form.md", found.markdown())
    return found


async def _grades(items: Sequence[Item], answers: Mapping[str, Answer], judge: Ask) -> list[list[Grade | Failure]]:
    async def of(item: Item) -> list[Grade | Failure]:
        text = answers[item.id].text
        if not text:
            return []
        return list(await asyncio.gather(*(judge_grade(judge, item.request or item.prompt, text, c.text)
                                           for c in item.constraints)))

    return list(await asyncio.gather(*map(of, items)))


def _rates(graded: Sequence[Sequence[Grade | Failure]], seed: int) -> dict[str, Rate]:
    decided = [[one.satisfied for one in each if isinstance(one, Grade)] for each in graded]
    counts = [Counter[str](each) for each in decided if each]
    return {grade: cluster_rate([c[grade] for c in counts], [c.total() for c in counts], seed) for grade in GRADES}


def _row(one: Grade | Failure) -> dict[str, str]:
    return {"undecided": one.reason} if isinstance(one, Failure) else one.model_dump()
