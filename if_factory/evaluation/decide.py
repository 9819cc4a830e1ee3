"""Deciding on answers what no checker of form can: whether they attempt their request, and judged constraints."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from if_factory.chat.parse import Failure
from if_factory.evaluation.passrate import Item
from if_factory.judge.criteria import judge_criteria
from if_factory.judge.judge import Ask
from if_factory.records import Outcome, Usefulness, Verdict
from if_factory.usefulness import gate as gates
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.gate import Gate


async def usefulness(items: Sequence[Item], texts: Mapping[str, Mapping[str, str | None]], gate: Gate,
                     ask: Ask | None = None) -> dict[str, dict[str, Usefulness]]:
    """``{label: {item id: Usefulness}}`` of every answer there is, all models' answers together.

    An answer that was cut at the token limit is read as it stands: whether it attempts the request does not depend
    on its end, and holding the cut against it would reward a model for becoming short.

    Args:
        ask: a judge, who is asked about what rules and relevance let through.
    """
    asked = {item.id: Asked(item.prompt, item.constraints, request=item.request,
                            history=[t.content for t in item.history if t.role == "user"]) for item in items}
    wanted = [(label, item.id, text) for label, by_id in texts.items() for item in items
              if (text := by_id[item.id]) is not None]
    found = await gate.decide_with(ask, [gates.Item(asked[key], text) for _, key, text in wanted])
    decided: dict[str, dict[str, Usefulness]] = {label: {} for label in texts}
    for (label, key, _), each in zip(wanted, found, strict=True):
        decided[label][key] = each
    return decided


async def judged_constraints(items: Sequence[Item], texts: Mapping[str, Mapping[str, str | None]],
                             ask: Ask) -> dict[str, dict[str, dict[int, Verdict]]]:
    """``{label: {item id: {position: verdict}}}`` of constraints that only a judge decides.

    They are asked about even where a checker failed another constraint of the prompt: the rates count constraints.
    """
    async def one(item: Item, text: str) -> dict[int, Verdict]:
        places = [i for i, c in enumerate(item.constraints) if c.kind == "judge"]
        said = await judge_criteria(ask, item.prompt, text, [item.constraints[i].text for i in places])
        if isinstance(said, Failure):
            said = (Verdict(outcome=Outcome.NO_VERDICT, reason=f"judge: {said.reason}"),) * len(places)
        return dict(zip(places, said, strict=True))

    asked = [(label, item, text) for label, by_id in texts.items() for item in items
             if (text := by_id[item.id]) and any(c.kind == "judge" for c in item.constraints)]
    found = await asyncio.gather(*(one(item, text) for _, item, text in asked))
    decided: dict[str, dict[str, dict[int, Verdict]]] = {label: {} for label in texts}
    for (label, item, _), verdicts in zip(asked, found, strict=True):
        decided[label][item.id] = verdicts
    return decided
