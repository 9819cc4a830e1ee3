"""What two servers do with the same requests: the schemas of our methods, keywords of JSON schema, fields of a request.

Used by test_servers.py. Every finding is read from an answer; nothing is assumed from the server's name.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from if_factory.chat.schemas import sendable

SAMPLES = 2  # answers per keyword
Json = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """A server that runs; ``context`` is the tokens that a request may have."""

    name: str
    url: str
    model: str
    key: str = ""
    context: int = 2048


@dataclass(frozen=True)
class Reply:
    status: int
    body: Json

    @property
    def choice(self) -> Json:
        return dict((self.body.get("choices") or [{}])[0])

    @property
    def text(self) -> str:
        return str((self.choice.get("message") or {}).get("content") or "")

    @property
    def tokens(self) -> int:
        return int((self.body.get("usage") or {}).get("completion_tokens") or 0)

    @property
    def end(self) -> str:
        return str(self.choice.get("finish_reason"))

    @property
    def error(self) -> str:
        found = self.body.get("error") or self.body.get("message") or self.body
        said = found.get("message", found) if isinstance(found, dict) else found
        return f"{self.status} \"{' '.join(str(said).split())[:90]}\""


class Client:
    """Posts to one server; it batches what comes together."""

    def __init__(self, server: Server, http: aiohttp.ClientSession) -> None:
        self.server, self._http, self._slots = server, http, asyncio.Semaphore(64)

    async def post(self, **fields: Any) -> Reply:
        body = {"model": self.server.model, "max_tokens": 32, "temperature": 0.7, "seed": 1,
                "messages": [{"role": "user", "content": "Tell me about the sea."}], **fields}
        headers = {"Authorization": f"Bearer {self.server.key}"} if self.server.key else {}
        body = {key: value for key, value in body.items() if value is not None}
        async with self._slots, self._http.post(f"{self.server.url}/chat/completions", json=body,
                                                headers=headers) as reply:
            try:
                return Reply(reply.status, await reply.json(content_type=None))
            except ValueError:
                return Reply(reply.status, {"error": await reply.text()})

    async def with_schema(self, schema: Json, **fields: Any) -> Reply:
        return await self.post(response_format={
            "type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}, **fields)


# ---------------------------------------------------------------- the schemas of our methods


def schemas_of_methods() -> dict[str, Json]:
    """Name -> schema as it is sent, from a run of every method against its tests' scripted endpoint, and those of
    the judge's calls that these runs do not reach."""
    from if_factory.judge import criteria, judge, nli
    from if_factory.similarity import contamination

    found: dict[str, Json] = {}
    for method, schemas in _asked_by_methods():
        for i, schema in enumerate(schemas, 1):
            found[f"{method} {i}"] = schema
    for name, schema in (("judge: pair", judge._comparison_schema("full", 3)),
                         ("judge: pair, small", judge._comparison_schema("small", 0)),
                         ("judge: criteria", criteria._criteria_schema(3, "full")),
                         ("judge: criteria, small", criteria._criteria_schema(3, "small")),
                         ("judge: entailment", nli._SCHEMA),
                         ("contamination", contamination._Same.model_json_schema())):
        if sendable(schema) not in found.values():
            found[name] = sendable(schema)
    return found


def _asked_by_methods() -> Iterator[tuple[str, list[Json]]]:
    from if_factory import api
    from if_factory.errors import UserError
    from if_factory.methods.base import get_method
    from tests.support.method_cases import CASES

    for method, case in CASES.items():
        server, asked = case.server(), dict[str, Json]()
        complete = server.complete

        def note(body: bytes, asked: dict[str, Json] = asked,
                 complete: Callable[[bytes], Any] = complete) -> Any:
            sent = json.loads(body).get("response_format")
            if sent:
                schema = sent["json_schema"]["schema"]
                asked.setdefault(re.sub(r"\d+", "n", json.dumps(schema)), schema)
            return complete(body)

        server.complete = note  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory() as folder:
            try:
                asyncio.run(_run(api, method, case, server, Path(folder), [*case.roles, *(
                    {"judge"} & set(get_method(method).roles))]))
            except UserError as e:
                print(f"{method}: {e}")
        yield method, list(asked.values())


async def _run(api: Any, method: str, case: Any, server: Any, folder: Path, roles: list[str]) -> None:
    recipe: Json = {"method": method, "options": case.options, "limit": 3, "usefulness": {"relevance": "off"},
                    "models": {role: {"endpoint": await server.start(), "concurrency": 8} for role in roles[:1]}}
    recipe["models"] |= dict.fromkeys(roles[1:], recipe["models"][roles[0]])
    if case.row:
        (folder / "seeds.jsonl").write_text("".join(json.dumps(case.row(i)) + "\n" for i in range(3)))
        recipe["seeds"] = "seeds.jsonl"
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    try:
        await api.run_recipe(api.load_recipe(folder / "recipe.yaml"), None)
    finally:
        await server.stop()


async def try_schemas(client: Client, schemas: Mapping[str, Json]) -> dict[str, str]:
    """Name -> what came of it: whether every byte of the answer is one that the schema allows there."""
    replies = await asyncio.gather(*(client.with_schema(
        schema, max_tokens=20, messages=[{"role": "user", "content": "Answer about the sea in the form asked for."}])
        for schema in schemas.values()))
    return {name: _followed(schema, reply) for (name, schema), reply in zip(schemas.items(), replies, strict=True)}


def _followed(schema: Json, reply: Reply) -> str:
    if reply.status != 200:
        return f"refused: {reply.error}"
    return "followed" if follows(schema, reply.text) else f"NOT followed: {reply.text[:60]!r}"


def follows(schema: Json, text: str) -> bool:
    """Whether ``text`` is the schema's value, or the beginning of one (keys in the schema's order)."""
    from llguidance import LLMatcher, LLTokenizer

    matcher = LLMatcher(LLTokenizer("byte"), LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    data = text.strip().encode()
    return bool(not matcher.is_error() and matcher.validate_tokens(list(data)) == len(data))


# ---------------------------------------------------------------- keywords of JSON schema


def _word(**more: Any) -> Json:
    return {"type": "object", "properties": {"a": {"type": "string", **more}}, "required": ["a"]}


def _number(**more: Any) -> Json:
    return {"type": "object", "properties": {"a": {"type": "number", **more}}, "required": ["a"]}


def _listed(**more: Any) -> Json:
    return {"type": "object", "required": ["a"],
            "properties": {"a": {"type": "array", "items": {"enum": ["x", "y", "z"]}, **more}}}


_BEFORE = {"type": "object", "properties": {"reason": {"type": "string", "maxLength": 8}, "ok": {"type": "boolean"}},
           "required": ["ok"]}

# (keyword, schema, whether a complete value keeps it)
KEYWORDS: tuple[tuple[str, Json, Callable[[Json], bool]], ...] = (
    ("`maxLength`", _word(maxLength=12), lambda v: len(v["a"]) <= 12),
    ("`minLength`", _word(minLength=30, maxLength=40), lambda v: len(v["a"]) >= 30),
    ("`pattern` with `^` and `$`", _word(pattern="^[A-C]{2}$"), lambda v: bool(re.fullmatch("[A-C]{2}", v["a"]))),
    ("`pattern` without them", _word(pattern="[0-9]{3}", maxLength=20), lambda v: bool(re.search("[0-9]{3}", v["a"]))),
    ("`enum`", _word(enum=["red", "blue"]), lambda v: v["a"] in ("red", "blue")),
    ("`const`", _word(const="fixed"), lambda v: v["a"] == "fixed"),
    ("`minimum`, `maximum`, integers", _number(type="integer", minimum=3, maximum=5), lambda v: 3 <= v["a"] <= 5),
    ("`minimum`, `maximum`, numbers", _number(minimum=0.5, maximum=0.7), lambda v: 0.5 <= v["a"] <= 0.7),
    ("`multipleOf`", _number(minimum=0, maximum=10, multipleOf=2.5), lambda v: v["a"] % 2.5 == 0),
    ("`minItems`", _listed(minItems=3, maxItems=4), lambda v: len(v["a"]) >= 3),
    ("`maxItems`", _listed(maxItems=2), lambda v: len(v["a"]) <= 2),
    ("`uniqueItems`", _listed(minItems=3, maxItems=3, uniqueItems=True), lambda v: len(set(v["a"])) == len(v["a"])),
    ("`contains`", _listed(contains={"const": "z"}, maxItems=2), lambda v: "z" in v["a"]),
    ("wrong `type`", _word(type="text"), lambda v: True),
    ("`not`", _word(**{"not": {"const": "sea"}}, enum=["sea"]), lambda v: v["a"] != "sea"),
    ("an unknown keyword", _word(maxLength=9, madeUp=1), lambda v: True),
    ("an optional key first", _BEFORE, lambda v: list(v) in (["ok"], ["reason", "ok"])),
)


async def try_keywords(client: Client) -> dict[str, str]:
    async def one(schema: Json, keeps: Callable[[Json], bool]) -> str:
        replies = await asyncio.gather(*(client.with_schema(
            schema, seed=seed, max_tokens=40, messages=[{"role": "user", "content": "Fill in the form."}])
            for seed in range(SAMPLES)))
        if bad := next((r for r in replies if r.status != 200), None):
            return bad.error
        kept = complete = 0
        for reply in replies:
            try:
                value = json.loads(reply.text)
                kept, complete = kept + keeps(value), complete + 1
            except (ValueError, KeyError, TypeError):
                continue
        return f"kept in {kept} of {complete}" if complete else f"no complete value ({replies[0].text[:30]!r})"

    found = await asyncio.gather(*(one(schema, keeps) for _, schema, keeps in KEYWORDS))
    return {name: said for (name, _, _), said in zip(KEYWORDS, found, strict=True)}


# ---------------------------------------------------------------- fields of a request


async def try_fields(client: Client) -> dict[str, str]:
    """What a request's fields do; each line is its own few requests."""
    context = client.server.context

    def ended(reply: Reply) -> str:
        return f"200, {reply.tokens} tokens, `{reply.end}`" if reply.status == 200 else reply.error

    async def texts(n: int, **fields: Any) -> list[str]:
        return [r.text for r in await asyncio.gather(*(client.post(**fields) for _ in range(n)))]

    async def choices(**fields: Any) -> str:
        reply = await client.post(**fields)
        if reply.status != 200:
            return reply.error
        made = [c["message"]["content"] for c in reply.body["choices"]]
        return f"200, {len(made)} answers, {len(set(made))} different"

    async def alone_and_together(temperature: float) -> str:
        ask = {"temperature": temperature, "seed": 7, "max_tokens": 24}
        alone = await client.post(**ask)
        crowd = await asyncio.gather(*(client.post(**ask) for _ in range(2)), *(client.post(
            **{**ask, "messages": [{"role": "user", "content": f"Count from {i}."}]}) for i in range(3)))
        return f"{sum(r.text == alone.text for r in crowd[:2])} of 2 equal"

    user = {"role": "user", "content": "Say hello."}
    two = await texts(2, seed=5, temperature=1.0)
    return {
        "`max_tokens` alone beyond the context": ended(await client.post(max_tokens=context + 1)),
        "`max_tokens: 0`": ended(await client.post(max_tokens=0)),
        "prompt beyond the context": ended(await client.post(
            messages=[{"role": "user", "content": "sea " * (context + 50)}], max_tokens=4)),
        "`max_completion_tokens: 5` beside `max_tokens: 9`": ended(
            await client.post(max_completion_tokens=5, max_tokens=9)),
        "unknown model name": ended(await client.post(model="nobody", max_tokens=2)),
        "five `stop` strings": ended(await client.post(stop=list("vwxyz"), max_tokens=4)),
        "`stop: [\"\"]`": ended(await client.post(stop=[""], max_tokens=4)),
        "`n: 3` at temperature 0": await choices(n=3, temperature=0, max_tokens=8),
        "`n: 3` with a seed": await choices(n=3, temperature=1.0, max_tokens=8),
        "one seed twice at temperature 1": "equal" if two[0] == two[1] else "different",
        "alone and among others, temperature 0": await alone_and_together(0.0),
        "alone and among others, temperature 1": await alone_and_together(1.0),
        "`seed: -1`": ended(await client.post(seed=-1, max_tokens=2)),
        "`temperature: 3`": ended(await client.post(temperature=3, max_tokens=2)),
        "`top_p: 0`": ended(await client.post(top_p=0, max_tokens=2)),
        "`guided_json`": await _guided(client),
        "unknown field": ended(await client.post(made_up=1, max_tokens=2)),
        "empty list of messages": ended(await client.post(messages=[], max_tokens=2)),
        "last message from the assistant": await _continued(client),
        "two messages of the assistant at the end": ended(await client.post(messages=[
            user, {"role": "assistant", "content": "Hel"}, {"role": "assistant", "content": "lo"}], max_tokens=2)),
        "fields of a message": ", ".join(sorted(
            key for key, value in ((await client.post(max_tokens=2)).choice.get("message") or {}).items()
            if value is not None)),
    }


async def _guided(client: Client) -> str:
    reply = await client.post(guided_json=_word(enum=["red", "blue"]))
    if reply.status != 200:
        return reply.error
    return "followed" if reply.text.lstrip().startswith("{") else "200, ignored"


async def _continued(client: Client) -> str:
    begun = "Zorblax reports that"  # no model begins a turn so by itself
    reply = await client.post(messages=[{"role": "user", "content": "Name a colour."},
                                        {"role": "assistant", "content": begun}], max_tokens=8)
    if reply.status != 200:
        return reply.error
    return "continued and repeated" if reply.text.startswith(begun) else f"answers {reply.text[:40]!r}"
