"""From a recipe to verified data: ``plan`` its cost, ``preview`` a few rows, ``run`` it, ``emit`` examples."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from if_factory.api.batching import WaveReport, open_batch_models, open_wave, refuse_pending, wave_report
from if_factory.api.common import (
    AnyPath,
    as_recipe,
    gate_of,
    iter_seeds,
    judges_usefulness,
    prepare,
    seeds_of,
    stages_of,
    wait,
)
from if_factory.api.models import open_models, price_of
from if_factory.api.ready import require_ready
from if_factory.chat.budget import Budget, Usage, cut_notes
from if_factory.chat.log import ResponseLog
from if_factory.constraints.generated import forget_time_outs, isolation_used
from if_factory.constraints.recheck import rechecked
from if_factory.errors import UserError
from if_factory.methods.base import Emission, PlannedCalls
from if_factory.pipeline.result import Observer, RunResult
from if_factory.pipeline.rundir import RunDir
from if_factory.pipeline.runner import run as run_stages
from if_factory.pipeline.spool import Spool, line_of, record_of
from if_factory.pipeline.spread import in_blocks, spread
from if_factory.recipe import Recipe
from if_factory.records import Example, Record
from if_factory.usefulness.gate import Gate, decided
from if_factory.usefulness.stage import NAME

if TYPE_CHECKING:
    from if_factory.batches.wave import Wave

_logger = logging.getLogger(__name__)
TOKENS_PER_SECOND = 95.0  # output speed of the embedded model on 2 CPU cores
RunStages = Callable[..., Awaitable[RunResult]]
Line = TypeVar("Line")


@dataclass(frozen=True)
class Plan:
    """What a run will ask for.

    Attributes:
        seeds: how many records it starts from.
        calls: per stage and role, with the lowest and the highest number of requests.
        minutes: lowest and highest, at the given output speed.
        usd: lowest and highest price; ``None`` where a model's price is unknown.
        most_tokens: completion tokens if every answer is as long as ``max_tokens`` allows; ``None`` where a model
            has no ``max_tokens``.
        unbounded: the roles whose models have none.
    """

    seeds: int
    calls: list[PlannedCalls]
    minutes: tuple[float, float]
    usd: tuple[float, float] | None
    most_tokens: int | None = None
    unbounded: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    """A few seeds taken through the method: the finished records, and what could be emitted of them."""

    records: Sequence[Record] = field(repr=False)
    emission: Emission = field(repr=False)


@dataclass(frozen=True)
class RunReport:
    """What ``run`` did.

    Attributes:
        folder: the run folder, which ``export``, ``curriculum`` and ``report`` take.
        result: the records, the dropped ones with their reasons, and the ledger of the stages.
        usage: requests, tokens and cost by stage and role.
        emission: how many rows can be exported, by dataset, and how many were refused, by reason; the rows
            themselves are not kept.
        sandbox: the isolation under which generated code ran; ``None`` where none ran.
        batch: what was written into batch files; ``None`` where the models were asked directly.
    """

    folder: Path
    result: RunResult = field(repr=False)
    usage: Usage = field(repr=False)
    emission: Emission = field(repr=False)
    sandbox: str | None
    batch: WaveReport | None = None

    @property
    def complete(self) -> bool:
        """False where a budget or Ctrl-C stopped the run, or requests wait for batches; the same call continues it."""
        return self.result.complete


def plan(recipe: Recipe | AnyPath, tokens_per_second: float = TOKENS_PER_SECOND) -> Plan:
    """Count the calls before any is made; ``low`` and ``high`` bound what depends on the answers.

    Args:
        recipe: a recipe, or the path of one.
        tokens_per_second: output speed of the endpoint, all requests together.

    Raises:
        UserError: the recipe, its seeds or a plugin is wrong.
    """
    recipe = as_recipe(recipe)
    require_ready(recipe)
    seeds = seeds_of(recipe)
    calls = list(recipe.definition.plan(seeds, recipe.method_options(), set(recipe.models)))
    if judges_usefulness(recipe):
        most = sum(c.high for c in calls if c.role != "judge")  # as if every reply were an answer that passes
        calls.append(PlannedCalls(NAME, "judge", 0, most, 450, 60))
    prices = {role: price_of(spec) for role, spec in recipe.models.items()}

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
    bound: int | None = None if unbounded else sum(c.high * (limits.get(c.role) or c.completion_tokens) for c in calls)
    return Plan(len(seeds), calls, (tokens[0] / tokens_per_second / 60, tokens[1] / tokens_per_second / 60),
                None if low is None or high is None else (low, high), bound, unbounded)


def preview(recipe: Recipe | AnyPath, out: AnyPath, *, rows: int = 3) -> Preview:
    """Take the first seeds through the method for real. Their answers are logged, so ``run`` does not ask again.

    Args:
        recipe: a recipe, or the path of one.
        out: the run folder; only its response log is written.
        rows: seeds to try.

    Raises:
        UserError: as ``run``.
    """
    recipe = as_recipe(recipe)
    require_ready(recipe)
    with RunDir(out) as folder:
        result, _ = wait(run_recipe(recipe, folder.log, limit=rows))
    return Preview(result.records, emit(recipe, result.records))


def run(recipe: Recipe | AnyPath, out: AnyPath, *, observer: Observer | None = None,
        batch: AnyPath | None = None, engine: Literal["local", "ray"] = "local", ray_address: str | None = None,
        ray_workers: int | None = None) -> RunReport:
    """Make the data. Safe to kill: the same call continues, and asks again only what was in flight.

    Args:
        recipe: a recipe, or the path of one.
        out: the run folder (docs/files.md says what is in it).
        observer: someone to show the progress to; ``if_factory.pipeline.progress.Progress`` is the terminal's.
        batch: a folder for batch files. No model is asked: what is not in the log is written there, and ``batch``
            sends it and reads the answers (docs/batch.md). The same call then goes on.
        engine: ``ray`` spreads records over the workers of a Ray cluster; the files are the same (docs/distributed.md).
        ray_address: of the cluster, ``auto`` for the one that this machine is part of; by default ``RAY_ADDRESS``, and
            without that a Ray of its own on this machine.
        ray_workers: processes; by default as many as there are CPUs.

    Raises:
        UserError: the recipe or its seeds are wrong, a model cannot be reached, the folder holds a run of
            another method or seed, or is in use, or requests of it are in batches that were sent.
    """
    recipe = as_recipe(recipe)
    if batch is not None and engine == "ray":
        raise UserError("a run by batch files asks no model, so there is nothing to spread over workers",
                        where="engine", fix="leave out `engine` or `batch`")
    require_ready(recipe)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(RunDir(out))
        folder.claim(recipe.resolved())
        if batch is None:
            refuse_pending(folder.path)
        wave = stack.enter_context(open_wave(batch, folder.path)) if batch is not None else None
        workers, stages = None, run_stages
        if engine == "ray":
            from if_factory.api.on_ray import connected_for, stages_on_ray

            workers = stack.enter_context(connected_for(recipe, ray_address, ray_workers))
            stages = partial(stages_on_ray, recipe, workers)
        result, usage = wait(run_recipe(recipe, folder.log, observer=observer, wave=wave, run_stages=stages))
        if workers and len(result.records) > _TOGETHER:
            lines = result.records.lines() if isinstance(result.records, Spool) else map(line_of, result.records)
            emission = emit_lines(recipe, lines, record_of, workers)
        else:
            emission = emit(recipe, result.records, keep=False, verified=workers is None)
        sandbox = isolation_used()
        folder.write(result, usage, emission.counts(), sandbox=sandbox,
                     usefulness=emission.usefulness())
    return RunReport(folder.path, result, usage, emission, sandbox, wave_report(wave) if wave else None)


async def run_recipe(recipe: Recipe, log: ResponseLog | None, *, observer: Observer | None = None,
                     limit: int | None = None, wave: Wave | None = None,
                     run_stages: RunStages = run_stages) -> tuple[RunResult, Usage]:
    """Run the method over the seeds; answers already in the log are not asked for again. Writes no outcome.

    Args:
        wave: where given, the models are not asked; what is not in the log is written there.
        run_stages: the engine; takes the arguments of ``if_factory.pipeline.runner.run``.
    """
    prepare(recipe)
    folder = log.path.parent if log else None
    seeds = Spool(folder)  # as objects they would take a kilobyte and a half each, to the end of the run
    for seed in iter_seeds(recipe):
        if limit is None or len(seeds) < limit:
            seeds.append(seed)
    usage = Usage()
    budget = Budget(**recipe.budget.model_dump())
    opened = open_models(recipe, log, usage, budget) if wave is None or log is None \
        else open_batch_models(recipe, log, usage, budget, wave)
    async with opened as models:
        stages, useful = stages_of(recipe)
        result = await run_stages(stages, seeds, models, seed=recipe.seed, observer=observer,
                                  folder=folder, useful=useful)
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


def emit(recipe: Recipe, records: Iterable[Record], *, keep: bool = True,
         take: Callable[[str, Example], None] | None = None, verified: bool = False) -> Emission:
    """The examples of finished records. Every verdict is computed again; a stored "pass" is not relied on.

    With ``keep=False`` they are only counted, and memory does not grow with them; ``take`` gets each, with the name
    of its dataset, as it is made.

    Args:
        verified: the stages have just decided about these records in this process, and what is decided is not
            computed again, unless a function timed out: then it depends on the order in which the answers came.
    """
    prepare(recipe)
    # Emission is a function of the records in their order, not of the run before it.
    verified = not forget_time_outs() and verified
    return _emitted(recipe, gate_of(recipe), records, Emission(keep, take=take), again=not verified)


def _emitted(recipe: Recipe, gate: Gate, records: Iterable[Record], out: Emission, *, again: bool) -> Emission:
    """``out`` with the examples of the records; with ``again`` everything is decided anew."""
    method, options, deciders = recipe.definition, recipe.method_options(), set(gate.deciders)
    for chunk in in_blocks(records, _TOGETHER):
        forget_time_outs()  # nor does a block depend on those before it, which another process may have
        for record in _checked(gate, chunk, again=again):
            deciders.update(c.usefulness.decided_by for c in record.candidates if c.usefulness)
            method.emit(record, options, out, recipe.seed)
    out.decided_by(deciders)
    return out


def emit_lines(recipe: Recipe, lines: Iterable[Line], read: Callable[[Line], Record], workers: int | None, *,
               take: Callable[[str, Example], None] | None = None) -> Emission:
    """``emit`` with ``keep=False``, by blocks of records, on Ray where there are ``workers``. To them records travel as
    the lines that they are kept as."""
    out = emit(recipe, (), keep=False)
    opens = partial(_emitter, recipe, read, keep=take is not None)
    for part in spread(opens, in_blocks(lines, _TOGETHER), workers):
        out.count(part)
        if take is not None:
            for dataset, examples in part.datasets.items():
                for example in examples:
                    take(dataset, example)
    return out


def _emitter(recipe: Recipe, read: Callable[[Line], Record], *, keep: bool) -> Callable[[Sequence[Line]], Emission]:
    """What ``emit_lines`` does with a block; plugins and the gate's model are loaded once for all of them."""
    prepare(recipe)
    gate = gate_of(recipe)
    return lambda lines: _emitted(recipe, gate, map(read, lines), Emission(keep), again=True)


def _checked(gate: Gate, records: Sequence[Record], *, again: bool) -> Iterable[Record]:
    """The records with their verdicts and what the gate says; with ``again`` also where they have them."""
    records = [rechecked(record) if again or not _has_verdicts(record) else record for record in records]
    open_ = [i for i, record in enumerate(records) if again or not _is_decided(record)]
    made = dict(zip(open_, decided(gate, [records[i] for i in open_]), strict=True))
    return [made.get(i, record) for i, record in enumerate(records)]


def _has_verdicts(record: Record) -> bool:
    return all(len(c.verdicts) == len(record.constraints) for c in record.candidates)


def _is_decided(record: Record) -> bool:
    """Whether the gate was asked about each answer. A conversation's last record gets its history after that."""
    return not record.history and all(c.usefulness is not None for c in record.candidates)


_TOGETHER = 64  # records whose answers are embedded together
