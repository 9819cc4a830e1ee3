"""A scripted teacher and judge for Step-by-Step Mastery: no model, every reply a function of the question.

    python -m tests.support.soft_world --delay 0.02

serves them as an OpenAI-compatible endpoint until killed. Answers often miss a checkable constraint, the teacher
sometimes says that an aspect does not fit, and the judge now and then prefers whatever stands first, ties,
rambles or contradicts itself, each for a share of the questions.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import re

from tests.judge.judge_script import part
from tests.support.fake_endpoint import WORDS, FakeEndpoint


def number(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=6).digest())


def is_write(question: str) -> bool:
    return question.startswith("You add one requirement")


def is_criteria(question: str) -> bool:
    return question.startswith("You check one response")


def is_pair(question: str) -> bool:
    return question.startswith("You compare two responses")


def criteria_in(question: str) -> list[str]:
    return re.findall(r"^\d+\. (.*)$", question.partition("The criteria:\n")[2], re.M)


def written(question: str) -> str:
    demand = question.partition("It demands ")[2].partition(".")[0]
    seed = question.partition("<task>\n")[2].partition("\n</task>")[0]
    return f"Please see to it that {demand} is given its place, as in case {number(seed) % 97}"


def reply(question: str, sample: int = 0) -> str:
    dice = number(question, str(sample)) % 1000
    if is_write(question):
        return json.dumps({"fits": False, "constraint": ""} if dice < 50
                          else {"fits": True, "constraint": written(question)})
    if is_criteria(question):
        response = part(question, "RESPONSE")
        return json.dumps({str(i): {"reason": "scripted", "satisfied": number(response, criterion) % 10 > 0}
                           for i, criterion in enumerate(criteria_in(question), 1)})
    if is_pair(question):
        first, second = part(question, "RESPONSE A"), part(question, "RESPONSE B")
        winner = "A" if dice < 100 else "tie" if dice < 150 else "A" if number(first) > number(second) else "B"
        return "I cannot say." if dice > 990 else json.dumps({"reason": "scripted", "winner": winner})
    words = [WORDS[number(question, str(sample), str(i)) % len(WORDS)] for i in range(30 + dice % 60)]
    text = " ".join(words).capitalize()
    return re.sub(r" (\w+ \w+ \w+)(?= )", r", \1." if dice % 2 else r" \1", text, count=3) + "."


class SoftEndpoint(FakeEndpoint):
    """``FakeEndpoint`` (delays, faults, counts), answering as above."""

    def complete(self, body: bytes) -> tuple[float, int, bytes, str]:
        seconds, status, answer, header = super().complete(body)
        if status == 200:
            asked = json.loads(body)
            completion = json.loads(answer)
            text = reply(asked["messages"][-1]["content"], asked.get("seed") or 0)
            completion["choices"][0]["message"]["content"] = text
            completion["usage"]["completion_tokens"] = len(text.split())
            answer = json.dumps(completion).encode()
        return seconds, status, answer, header


async def _main(delay: float) -> None:
    print(await SoftEndpoint(delay=delay).start(), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a scripted teacher and judge")
    parser.add_argument("--delay", type=float, default=0.02)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args().delay))
