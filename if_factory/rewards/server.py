"""Verified rewards over HTTP: what LLaMA-Factory, slime and OpenRLHF ask a reward server for.

The form is told by the body of a POST, whatever its path: ``{"messages": [text, ...]}`` is LLaMA-Factory's
(``reward_model_type: api``; a text is prompt and answer), ``{"query": [...], "prompts": [...], "labels": [...]}``
OpenRLHF's, ``{"prompt", "response", "label"}`` slime's. ``GET /health`` says how many prompts are known and what was
asked so far. Whatever is wrong is answered with a status of 400 or above and ``{"error": reason}``; never with a 0.

Sources: llamafactory 0.9.5 ``train/ppo/ppo_utils.py``, OpenRLHF 0.11.2 ``utils/agent.py``, slime 624b824
``rollout/rm_hub``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from if_factory.errors import UserError
from if_factory.rewards.function import Rewarder, content
from if_factory.rewards.known import Known, KnownPrompts
from if_factory.rewards.trainers import answer_in

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What one request may hold: bytes of its body, answers, characters of one answer."""

    body: int = 64 << 20
    answers: int = 4096
    characters: int = 1_000_000


class _Refused(Exception):
    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


@dataclass
class RewardServer:
    """The handlers.

    Attributes:
        undecided: the reward of an answer without a verdict, where the others to its prompt in the request give no
            mean; ``None``: the request is refused with status 422.
    """

    known: KnownPrompts
    rewarder: Rewarder
    undecided: float | None = None
    limits: ServerLimits = field(default_factory=ServerLimits)
    counts: dict[str, int] = field(default_factory=lambda: {"requests": 0, "answers": 0, "undecided": 0, "refused": 0})

    def app(self) -> web.Application:
        app = web.Application(client_max_size=self.limits.body)
        app.router.add_get("/health", self.health)
        app.router.add_post("/{path:.*}", self.score)
        return app

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "prompts": len(self.known), **self.counts})

    async def score(self, request: web.Request) -> web.Response:
        self.counts["requests"] += 1
        try:
            try:
                body = json.loads(await request.text())
            except web.HTTPRequestEntityTooLarge:
                raise _Refused(f"the body is larger than {self.limits.body} bytes", 413) from None
            except (ValueError, RecursionError) as e:
                raise _Refused(f"the body is not JSON: {e}") from None
            if not isinstance(body, dict):
                raise _Refused("expected an object")
            return web.json_response(await self._answered(body))
        except (_Refused, UserError) as e:
            self.counts["refused"] += 1
            _logger.warning("refused: %s", e)
            return web.json_response({"error": str(e)}, status=getattr(e, "status", 400))

    async def _answered(self, body: Mapping[str, Any]) -> Any:
        if "messages" in body:
            scores = await self._scores([self.known.find(text) for text in self._texts(body, "messages")])
            return {"object": "score", "model": str(body.get("model", "if_factory")), "scores": scores}
        if "query" in body:
            scores = await self._scores(self._openrlhf(body))
            return {"rewards": scores, "scores": scores}
        if "response" in body:
            (score,) = await self._scores([self._slime(body)])
            return score
        raise _Refused("expected 'messages' (LLaMA-Factory), 'query' (OpenRLHF) or 'prompt' and 'response' (slime)")

    def _texts(self, body: Mapping[str, Any], name: str) -> list[str]:
        given = body.get(name)
        if not isinstance(given, list) or not all(isinstance(t, str) for t in given):
            raise _Refused(f"field '{name}': expected a list of texts")
        if not 0 < len(given) <= self.limits.answers:
            raise _Refused(f"field '{name}': {len(given)} texts, expected 1 to {self.limits.answers}")
        if any(len(t) > self.limits.characters for t in given):
            raise _Refused(f"field '{name}': a text of more than {self.limits.characters} characters", 413)
        return given

    def _openrlhf(self, body: Mapping[str, Any]) -> list[tuple[Known, str]]:
        queries = self._texts(body, "query")
        prompts, labels = (body.get(name) for name in ("prompts", "labels"))
        if not isinstance(prompts, list) or len(prompts) != len(queries):
            return [self.known.find(query) for query in queries]
        given = labels if isinstance(labels, list) and len(labels) == len(queries) else [None] * len(queries)
        return [(self._of(prompt, label), answer_in(query, str(prompt)))
                for query, prompt, label in zip(queries, prompts, given, strict=True)]

    def _slime(self, body: Mapping[str, Any]) -> tuple[Known, str]:
        answer = body["response"]
        if not isinstance(answer, str) or len(answer) > self.limits.characters:
            raise _Refused(f"field 'response': expected a text of at most {self.limits.characters} characters")
        prompt = body.get("prompt")
        if isinstance(prompt, list):
            prompt = next((content(m) for m in reversed(prompt) if isinstance(m, dict) and m.get("role") == "user"), "")
        return self._of(prompt, body.get("label")), answer

    def _of(self, prompt: Any, label: Any) -> Known:
        """The label where it is a ``ground_truth``, else what is known of the prompt."""
        text = prompt if isinstance(prompt, str) else ""
        if isinstance(label, str) and label.lstrip().startswith(("{", "[")):
            return Known((text,), (text,), label)
        if not text:
            raise _Refused("field 'prompt': expected a text or messages")
        return self.known.of_prompt(text)

    async def _scores(self, pairs: list[tuple[Known, str]]) -> list[float]:
        prompts = [[{"role": "user", "content": text} for text in known.users] for known, _ in pairs]
        judged = await asyncio.to_thread(self.rewarder.judge, prompts, [answer for _, answer in pairs],
                                         [known.truth for known, _ in pairs])
        self.counts["answers"] += len(judged)
        scores = []
        for place, each in enumerate(judged):
            reward = each.reward
            if reward is None:
                self.counts["undecided"] += 1
                reward = self.undecided
            if reward is None:
                raise _Refused(f"answer {place}: a verdict on its constraints cannot be had, and no other answer to "
                               "its prompt gives a mean; serve with --undecided NUMBER to have a number instead", 422)
            scores.append(reward)
        return scores


def serve(server: RewardServer, host: str, port: int, *, say: Any = print) -> None:
    """Serve until Ctrl-C; says the address once it listens.

    Raises:
        UserError: the port is taken, or the address is not this machine's.
    """
    async def forever() -> None:
        runner = web.AppRunner(server.app(), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as e:
            raise UserError(f"cannot listen on {host}:{port}: {e.strerror or e}", where="--port",
                            fix="name a free port, or 0 for any") from None
        bound = runner.addresses[0][1]
        say(f"http://{host}:{bound}  {len(server.known)} prompts; health: http://{host}:{bound}/health")
        try:
            await _signalled()
        finally:
            await runner.cleanup()
        raise KeyboardInterrupt

    asyncio.run(forever())


async def _signalled() -> None:
    """Wait for Ctrl-C or a request to end; a shell that starts a server in the background has Ctrl-C ignored."""
    told, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends the wait as an exception
            loop.add_signal_handler(number, told.set)
    await told.wait()
