"""A scripted DecIF teacher and judge: every reply is a function of the request. As a server, it is no model:

    python -m tests.support.decif_teacher --delay 0.05

prints its base URL and serves until killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from random import Random
from typing import Any

from tests.support.fake_endpoint import FakeEndpoint

_SYLLABLES = [a + b for a in "bdfgklmnprst" for b in "aeiou"]


def words(rng: Random, n: int) -> str:
    return " ".join("".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))) for _ in range(n))


def listed(text: str) -> list[str]:
    """The items of the dashed list that ``text`` begins with."""
    return re.findall(r"^- (.*)$", re.split(r"\n\s*\n", text.strip(), maxsplit=1)[0], re.M)


def kind(content: str, schema: Mapping[str, Any] | None) -> str:
    """What is asked for: ``domains``, ``requests``, ``scenarios``, ``instruction``, ``weave``, ``stated``,
    ``consistency``, ``refine``, ``criteria``, ``judge`` or ``respond``."""
    if schema is None:
        return "respond"
    keys = set(schema["properties"])
    if keys == {"items"}:
        return ("criteria" if "<request>" in content else "scenarios" if "Invent" in content
                else "requests" if content.startswith("Area:") else "domains")
    named = {"drop": "refine", "possible": "consistency", "rewritten": "weave", "task": "instruction",
             "instruction": "instruction"}
    found = next((what for key, what in named.items() if key in keys), "judge")
    return "stated" if found == "judge" and content.startswith("Decide which of the numbered demands") else found


def reply(content: str, schema: Mapping[str, Any] | None, sample: int = 0) -> str:
    """A good teacher's reply; responses obey "no commas" and "lowercase" for even samples and no other."""
    rng = Random(hashlib.blake2b(f"{content}{sample}".encode()).hexdigest())
    what = kind(content, schema)
    if what == "respond":
        return f"here is {words(rng, 30)}." if sample % 2 == 0 else f"Here, then, is {words(rng, 30)}."
    assert schema is not None
    if what in ("judge", "stated"):
        return json.dumps({n: {"reason": "seen", "satisfied": True} for n in schema["properties"]})
    if what == "consistency":
        return json.dumps({"analysis": "", "parts": [], "possible": True})
    if what == "instruction":
        soft = schema["properties"].get("requirements", {"properties": {}})["properties"]
        task = re.search(r"Situation: (.*)", content)
        assert task
        requirements = {n: words(rng, 8) for n in soft}
        if "task" in schema["properties"]:  # the small variant
            return json.dumps({"task": f"Help me: {task[1]}", "requirements": requirements})
        demands = [d for d in listed(content.partition("of the answer:")[2]) if not d.startswith("[")]
        return json.dumps({"requirements": requirements,
                           "instruction": ". ".join((f"Help me: {task[1]}", *demands, *requirements.values()))})
    if what == "weave":
        demands = re.findall(r"^\d+\. (?:\(missing\) )?(.*)$", content.partition("## What it must")[2], re.M)
        return json.dumps({"rewritten": ". ".join((words(rng, 12), *demands))})
    if what == "refine":
        demands = re.findall(r"^\d+\. (.*)$", content.partition("## What it demands")[2], re.M)
        key = "task" if "task" in schema["properties"] else "instruction"
        return json.dumps({key: ". ".join((words(rng, 12), *(demands if key == "instruction" else ()))), "drop": []})
    count = schema["properties"]["items"]["maxItems"]
    if what == "criteria":
        return json.dumps({"items": [f"Does the answer {words(rng, 5)}?" for _ in range(min(3, count))]})
    length = {"domains": 2, "requests": 3, "scenarios": 14}[what]
    return json.dumps({"items": [words(rng, length) for _ in range(count)]})


class TeacherServer(FakeEndpoint):
    """The scripted teacher behind an OpenAI-compatible address."""

    def complete(self, body: bytes) -> tuple[float, int, bytes, str]:
        asked = json.loads(body)
        schema = asked.get("response_format", {}).get("json_schema", {}).get("schema")
        key = hashlib.blake2b(body, digest_size=16).hexdigest()
        text = reply(asked["messages"][-1]["content"], schema, int(key, 16))  # the sample itself is not sent
        self.asked[key] += 1
        self.answered[key] += 1
        message = {"role": "assistant", "content": text}
        answer = {"id": key, "object": "chat.completion", "created": 0, "model": self.model,
                  "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                  "usage": {"prompt_tokens": len(body) // 4, "completion_tokens": len(text) // 4}}
        return self.delay, 200, json.dumps(answer).encode(), ""


async def _main(args: argparse.Namespace) -> None:
    server = TeacherServer(delay=args.delay)
    print(await server.start(args.port), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="a scripted DecIF teacher")
    parser.add_argument("--delay", type=float, default=0.05)
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(parser.parse_args()))
