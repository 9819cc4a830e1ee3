"""Scripted judges for tests: no model, every reply a function of what is asked."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from if_factory.chat.base import Completion

Reply = str | Completion


class ScriptedJudge:
    """Called like ``partial(ctx.chat, "judge")``; keeps what it was asked in ``asked``."""

    def __init__(self, reply: Callable[[str], Reply]) -> None:
        self.reply = reply
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def __call__(self, messages: Sequence[dict[str, str]], **options: Any) -> Completion:
        await asyncio.sleep(0)
        self.asked.append((messages[-1]["content"], options))
        reply = self.reply(messages[-1]["content"])
        return reply if isinstance(reply, Completion) else Completion(reply)


def part(question: str, name: str) -> str:
    """The text that stands under the mark ``name`` in a judge prompt."""
    found = re.search(rf"^(\w+) {name}\n(.*?)\n\1 (?:RESPONSE|END)", question, re.S | re.M)
    assert found, f"no {name} in the question"
    return found[2]


def pair_judge(prefers: Callable[[str, str], str]) -> ScriptedJudge:
    """``prefers(first, second)`` says A, B or tie by what stands in the two places."""
    return ScriptedJudge(lambda question: json.dumps(
        {"reason": "scripted", "winner": prefers(part(question, "RESPONSE A"), part(question, "RESPONSE B"))}))
