"""What one stage sees of a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from if_factory.chat.base import Completion
from if_factory.pipeline.stage import Useful
from if_factory.records import Candidate, Record, content_id


@dataclass(frozen=True, slots=True)
class StageContext:
    """The runner's ``stage.Context`` for the stage ``stage``.

    Attributes:
        ask: ``(role, messages, **request)`` -> the answer; the runner's.
        gate: decides whether answers attempt their request; ``None`` leaves it to emission.
    """

    stage: str
    roles: frozenset[str]
    seed: int
    ask: Callable[..., Awaitable[Completion]]
    gate: Useful | None = None

    async def chat(self, role: str, messages: Sequence[dict[str, str]], *, sample: int = 0,
                   schema: dict[str, Any] | None = None, stop: Sequence[str] = (),
                   **sampling: Any) -> Completion:
        return await self.ask(role, messages, stage=self.stage, sample=sample, schema=schema,
                              stop=tuple(stop), **sampling)

    def has(self, role: str) -> bool:
        return role in self.roles

    async def useful(self, record: Record, candidates: Sequence[Candidate]) -> list[Candidate]:
        if self.gate is None or not candidates:
            return list(candidates)
        return await self.gate(record, candidates)

    def rng(self, *parts: object) -> Random:
        return Random(content_id(self.seed, parts))
