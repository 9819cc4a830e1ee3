"""A recipe becomes data: seeds are read, models opened, the method run, and what is verified handed to export.

These are the calls behind ``if-factory plan``, ``preview``, ``run`` and ``export``; use them from Python alike.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from random import Random

from if_factory.chat.budget import Budget, Price, Usage, cut_notes
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.constraints.base import load_plugin
from if_factory.constraints.generated import configure, forget_time_outs, verify_many
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.inputs.seeds import builtin, read_seeds
from if_factory.methods.base import Emission, PlannedCalls
from if_factory.pipeline.runner import Observer, RunResult
from if_factory.pipeline.runner import run as run_stages
from if_factory.recipe import ModelSpec, Recipe
from if_factory.records import Candidate, Constraint, Record, Verdict
from if_factory.sandbox.pool import Limits

_logger = logging.getLogger(__name__)


def seeds_of(recipe: Recipe) -> list[Record]:
    """The recipe's seeds as records: prompts, or whatever its method starts from."""
    path = None if recipe.seeds == "builtin" else recipe.path(recipe.seeds)
    if recipe.definition.inputs is not None:
        return recipe.definition.inputs(path, recipe.method_options(), recipe.limit)
    return read_seeds(path or builtin("seeds"), method=recipe.method, limit=recipe.limit)


def prepare(recipe: Recipe) -> None:
    """What a run and its emission need in this process: the user's constraint types, the sandbox's settings."""
    load_plugins(recipe)
    spec = recipe.sandbox
    limits = Limits(cpu_seconds=spec.cpu_seconds, wall_seconds=spec.wall_seconds, memory_mb=spec.memory_mb)
    configure(workers=spec.workers, limits=limits, allow_weak=spec.allow_weak)


def load_plugins(recipe: Recipe) -> None:
    for given in recipe.constraints.plugins:
        load_plugin(recipe.path(given))


# ---------------------------------------------------------------- plan


@dataclass(frozen=True)
class Plan:
    """What a run will ask for. ``usd`` is ``None`` where a price is unknown.

    ``most_tokens`` are the completion tokens if every answer is as long as ``max_tokens`` allows; ``None`` where a
    model has no ``max_tokens`` (``unbounded`` names their roles).
    """

    seeds: int
    calls: list[PlannedCalls]
    minutes: tuple[float, float]
    usd: tuple[float, float] | None
    most_tokens: int | None = None
    unbounded: tuple[str, ...] = ()


def plan(recipe: Recipe, tokens_per_second: float) -> Plan:
    """Count the calls before any is made; ``low`` and ``high`` bound what depends on the answers."""
    load_plugins(recipe)
    seeds = seeds_of(recipe)
    calls = recipe.definition.plan(seeds, recipe.method_options(), set(recipe.models))
    prices = {role: _price(spec) for role, spec in recipe.models.items()}

    def usd(end: str) -> float | None:
        total = 0.0
        for c in calls:
            if c.role not in prices:  # a model that the method's loop trains, and asks in this process, is free
                continue
            price = prices[c.role]
            if price is None:
                return None
            total += getattr(c, end) * (c.prompt_tokens * price.prompt + c.completion_tokens * price.completion)
        return total / 1e6

    low, high = usd("low"), usd("high")
    tokens = [sum(getattr(c, end) * c.completion_tokens for c in calls) for end in ("low", "high")]
    limits = {role: spec.answer_tokens for role, spec in recipe.models.items()}
    unbounded = tuple(sorted({c.role for c in calls if limits.get(c.role, 0) is None}))
    most = None if unbounded else sum(c.high * (limits.get(c.role) or c.completion_tokens) for c in calls)
    return Plan(len(seeds), calls, (tokens[0] / tokens_per_second / 60, tokens[1] / tokens_per_second / 60),
                None if low is None or high is None else (low, high), most, unbounded)


# ---------------------------------------------------------------- run


@contextlib.asynccontextmanager
async def open_models(recipe: Recipe, log: ResponseLog | None, usage: Usage,
                      budget: Budget) -> AsyncIterator[dict[str, ChatClient]]:
    """The recipe's models, ready to be asked; an embedded server is started once and stopped at the end."""
    from if_factory.chat.embedded import EmbeddedServer
    from if_factory.chat.http import OpenAIBackend

    async with contextlib.AsyncExitStack() as stack:
        servers: dict[str, EmbeddedServer] = {}
        models: dict[str, ChatClient] = {}
        served: dict[str, str] = {}
        for role, spec in sorted(recipe.models.items()):
            url = spec.endpoint
            if spec.embedded:
                if url not in servers:
                    sharing = [s for s in recipe.models.values() if s.endpoint == url]
                    gguf = url.partition(":")[2]
                    servers[url] = await stack.enter_async_context(EmbeddedServer(
                        recipe.path(gguf) if gguf else None, parallel=max(s.concurrency for s in sharing),
                        context=max(s.context for s in sharing),
                        threads=min((s.threads for s in sharing if s.threads), default=None)))
                url = servers[url].base_url
            backend = OpenAIBackend(url, spec.model, api_key_env=spec.api_key_env, concurrency=spec.concurrency,
                                    timeout=spec.timeout, wait=spec.wait_for_server,
                                    revive=servers[spec.endpoint].revive if spec.embedded else None)
            stack.push_async_callback(backend.close)
            if not backend.model:
                await backend.discover()
            _refuse_namesake(served, backend.model, url, role)
            models[role] = ChatClient(
                role, backend, log=log, budget=budget, usage=usage, concurrency=spec.concurrency,
                temperature=spec.temperature, top_p=spec.top_p, max_tokens=spec.answer_tokens, seed=recipe.seed,
                price=_price(spec), outage=spec.wait_for_server, extra_body=spec.extra_body)
        yield models


def _price(spec: ModelSpec) -> Price | None:
    if spec.price is None:
        return Price(0, 0) if spec.embedded else None
    return Price(spec.price.prompt, spec.price.completion)


def _refuse_namesake(served: dict[str, str], model: str, url: str, role: str) -> None:
    """Answers are logged by model name: one name at two endpoints would share them without a word."""
    if served.setdefault(model, url) != url:
        raise UserError(f"the model '{model}' is served at {served[model]} and at {url}", where=f"models.{role}",
                        fix="serve one of them under another name (vLLM: --served-model-name), or give both roles "
                        "one endpoint")


async def run(recipe: Recipe, log: ResponseLog | None, *, observer: Observer | None = None,
              limit: int | None = None) -> tuple[RunResult, Usage]:
    """Run the method over the seeds; answers already in the log are not asked for again."""
    prepare(recipe)
    seeds = seeds_of(recipe)[:limit]
    usage = Usage()
    budget = Budget(**recipe.budget.model_dump())
    async with open_models(recipe, log, usage, budget) as models:
        result = await run_stages(recipe.definition.stages(recipe.method_options()), seeds, models,
                                  seed=recipe.seed, observer=observer, folder=log.path.parent if log else None)
    if result.complete:
        _refuse_nothing_answered(usage)
    for note in cut_notes(usage, {role: spec.answer_tokens for role, spec in recipe.models.items()}):
        _logger.warning(note)
    return result, usage


def _refuse_nothing_answered(usage: Usage) -> None:
    """A run in which every request was refused made nothing; that is no "finished"."""
    total = usage.total()
    if total.failed and not total.requests + total.replayed:
        reasons = ", ".join(f"{reason} {n}" for reason, n in sorted(usage.failures.items()))
        raise UserError(f"none of {total.failed} requests was answered ({reasons})", where="models",
                        fix="look at the server's messages above and at the model's keys in the recipe")


# ---------------------------------------------------------------- emission


def emit(recipe: Recipe, records: Iterable[Record], *, keep: bool = True) -> Emission:
    """The examples of finished records. Every verdict is made anew: no stored "pass" is taken on trust.

    With ``keep=False`` they are only counted, and memory does not grow with them.
    """
    prepare(recipe)
    forget_time_outs()  # emission is a function of the records in their order, not of the run before it
    options, out = recipe.method_options(), Emission(keep)
    for record in records:
        recipe.definition.emit(_rechecked(record), options, out, recipe.seed)
    return out


def _rechecked(record: Record) -> Record:
    """The record with every verdict of code made anew, generated code once for all candidates."""
    texts = [c.text for c in record.candidates]
    columns: list[Sequence[Verdict]] = []
    for i, constraint in enumerate(record.constraints):
        if constraint.kind == "generated_code":
            columns.append(verify_many(texts, constraint))
        else:
            columns.append([_verdict(c, i, constraint) for c in record.candidates])
    return record.model_copy(update={"candidates": tuple(
        c.model_copy(update={"verdicts": tuple(column[n] for column in columns)})
        for n, c in enumerate(record.candidates))})


def _verdict(candidate: Candidate, position: int, constraint: Constraint) -> Verdict:
    if constraint.kind == "judge" and position < len(candidate.verdicts):  # a judge is not asked twice
        return candidate.verdicts[position]
    return verify(candidate.text, [constraint])[0]


def replay_rows(recipe: Recipe) -> list[dict[str, str]]:
    """General alpaca rows drawn from the user's file with the run's seed; empty where none are asked for."""
    if not (recipe.replay.file and recipe.replay.rows):
        return []
    path = recipe.path(recipe.replay.file)
    rows = []
    for n, row in read_rows(path):
        for field in ("instruction", "output"):
            if not isinstance(row.get(field), str) or not row[field].strip():
                raise UserError("expected a non-empty string", where=f"{path}:{n}: field '{field}'",
                                fix="replay rows are alpaca rows: instruction, input (may be empty), output")
        rows.append({"instruction": row["instruction"], "input": str(row.get("input") or ""),
                     "output": row["output"], "system": str(row.get("system") or "")})
    return Random(recipe.seed).sample(rows, min(recipe.replay.rows, len(rows)))
