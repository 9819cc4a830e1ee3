"""A scripted teacher for AutoIF, in process or as a server. No model: it knows one family of instructions.

"Mention river, stone and lamp at least once." It writes functions for it, some of them wrong or unreadable, and
answers that meet it, some of them not; which, depends on the request alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from random import Random

from tests.support.fake_endpoint import FakeEndpoint

CONSONANTS, VOWELS = "bdfgklmnprstvz", "aeiou"


def word(rng: Random) -> str:
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(3))


def instruction(seed: object) -> str:
    rng = Random(str(seed))
    return "Mention {}, {} and {} at least once.".format(*(word(rng) for _ in range(3)))


def words_of(text: str) -> list[str]:
    return [w for m in re.findall(r"Mention (\w+), (\w+) and (\w+) at least once", text) for w in m]


def teach(ask: str, draw: int) -> str:
    """The answer to ``ask``; ``draw`` tells equal requests apart."""
    if match := re.search(r"Write (\d+) new requirements", ask):
        new = [instruction((draw, i)) for i in range(int(match[1]))]
        return "Here they are:\n" + "\n".join(f"- {text}" for text in new)
    if "Could a Python function decide" in ask:
        return json.dumps({"reason": "scripted", "checkable": "feel" not in ask})
    if "Write a Python function `evaluate(response)`" in ask:  # all in one JSON object, as upstream asks
        return function(ask.split("every answer has to meet:\n\n")[1].split("\n")[0], draw)
    if "Complete this Python function" in ask:
        return function(ask.split('"""')[1], draw, part="function")
    if "Write test cases for it" in ask:
        return function(ask.split("The requirement: ")[1].split("\n")[0], draw, part="cases")
    if "For each function write the requirement" in ask:
        names = re.findall(r"\[(.*?)\]", ask)
        return json.dumps({"instructions": [f"Name {n.replace(chr(39), '')}." for n in names]})
    if "Two requirements for a text" in ask:
        return json.dumps({"reason": "scripted", "relation": "entailment"})
    if "You rate one response" in ask:
        return json.dumps({"reason": "scripted", "score": 9 if len(ask) % 7 else 6})
    return reply(ask, draw)


def function(text: str, draw: int, *, part: str = "both") -> str:
    words = words_of(text)
    good, bad = f"{draw} times a {' and a '.join(words)}.", f"{draw} times a {words[0]}."
    source = {0: f"def evaluate(response):\n    return all(w in response.lower() for w in {words})",
              1: f"def evaluate(response):\n    text = response.lower()\n    for w in {words}:\n"
                 "        if w not in text:\n            return False\n    return True",
              2: "def evaluate(response):\n    return True",
              3: f"import re\ndef evaluate(response):\n    found = [re.search(w, response) for w in {words}]\n"
                 "    return 'true' if all(found) else 'false'"}[draw % 4]
    cases = [{"input": good, "output": True}, {"input": bad, "output": False}, {"input": "", "output": "False"}]
    if draw % 7 == 6:
        return "I would rather not."
    if part == "function":
        return f"```python\n{source}\n\nprint(evaluate('tried'))\n```\nIt looks for the words."
    if part == "cases":
        return json.dumps({"cases": cases})
    return f"```json\n{json.dumps({'func': source, 'cases': cases})}\n```"


def reply(ask: str, draw: int) -> str:
    words = words_of(ask)
    kept = words if draw % 2 else words[1:]
    query = re.sub(r"Mention [^.]* at least once\.?", " ", ask)
    subject = " ".join(re.findall(r"[A-Za-z]{5,}", query)[:6])
    return (f"Answer {draw % 100}: patience, practice and a curious neighbour make {subject} easier to grasp, "
            f"and {', '.join(kept) or 'nobody'} came along.")


class ScriptedServer(FakeEndpoint):
    """``teach`` behind an OpenAI-compatible endpoint; what is drawn depends on the whole request."""

    def complete(self, body: bytes) -> tuple[float, int, bytes, str]:
        key = hashlib.blake2b(body, digest_size=16).hexdigest()
        self.asked[key] += 1
        request = json.loads(body)
        text = teach(request["messages"][-1]["content"], int(key[:6], 16))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        answer = {"id": key, "object": "chat.completion", "created": 0, "model": self.model, "choices": [choice],
                  "usage": {"prompt_tokens": len(body) // 4, "completion_tokens": len(text) // 4}}
        self.answered[key] += 1
        return self.delay, 200, json.dumps(answer).encode(), ""


if __name__ == "__main__":
    import asyncio

    async def main() -> None:
        server = ScriptedServer(delay=0.01)
        print(await server.start(), flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
