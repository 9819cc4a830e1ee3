"""Online DPO (AutoIF, Dong et al. 2024, section 3.3): what a model learns from next are its own answers, checked.

In each iteration the current model (base and adapters so far) answers K times per prompt, every answer is checked,
answers that pass are paired with answers that fail, and a DPO stage is written and trained by LLaMA-Factory. The
prompts are those of any run whose constraints code can decide. An interrupted iteration continues where it
was, and a finished one costs nothing: answers are logged under the weights that gave them, stages know their data.

Adapters are chained as in ``training/curriculum.py``: with ``reference="previous"`` every iteration starts a new
one and is compared with the model it starts from; with ``"start"`` one adapter goes on and the reference stays the
model of the beginning.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from if_factory.chat.base import CUT_IN_THINKING, Backend, RequestFailed
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.emission import emit_preference
from if_factory.errors import UserError
from if_factory.exporting.dataset_info import FILE_NAME, merge_entries
from if_factory.exporting.formats import write_dataset
from if_factory.files import dump_json, write_atomic
from if_factory.methods.autoif.cross_validation import Bound, pairs
from if_factory.methods.autoif.votes import put_to_vote
from if_factory.records import Candidate, PreferenceExample, Record, content_id
from if_factory.training.curriculum import CurriculumOptions, StagePlan, write_export, write_stage
from if_factory.training.run import run_curriculum
from if_factory.usefulness.gate import Gate, decided_for

# Given the adapters so far, in order: the model that is sampled from.
Opener = Callable[[int, Sequence[str]], Backend | None]


@dataclass(frozen=True, slots=True)
class OnlineOptions:
    """``prompts`` and ``samples`` are per iteration and per prompt; ``temperature`` 0.8 is the paper's.

    ``positive``: share of an instruction's functions that a chosen answer passes. ``pairs_per_side``: chosen and
    rejected answers drawn per prompt, ``None`` for all. ``adapters``: what was trained before, in order.
    """

    iterations: int = 3
    prompts: int = 256
    samples: int = 8
    temperature: float = 0.8
    max_tokens: int = 512
    concurrency: int = 64
    positive: Bound = "> 0.5"
    pairs_per_side: int | None = 2
    reference: Literal["previous", "start"] = "previous"
    adapters: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Iteration:
    """What an iteration did, in answers: ``passed``, ``failed`` and ``no_verdict`` add up to ``answers``.

    ``cut`` of them met the token limit and ``useless`` do not attempt their prompt: they make no pair; ``lost``
    never came.
    """

    number: int
    model: str
    prompts: int
    answers: int
    passed: int
    failed: int
    no_verdict: int
    cut: int
    lost: int
    pairs: int
    refused: dict[str, int] = field(default_factory=dict)
    losses: tuple[float, ...] = ()
    useless: int = 0

    @property
    def pass_rate(self) -> float:
        return self.passed / self.answers if self.answers else 0.0


def checkable(records: Sequence[Record]) -> list[Record]:
    """The prompts whose constraints code can decide, each once, without their old answers.

    What a judge decided is left out: it is not asked again. Prompts without a constraint of another kind go too,
    and so do bare instructions (AutoIF), which ask for nothing.
    """
    found: dict[str, Record] = {}
    for record in records:
        constraints = tuple(c for c in record.constraints if c.kind != "judge")
        if constraints and not record.extra.get("bare"):
            found.setdefault(record.prompt, record.model_copy(update={
                "constraints": constraints, "candidates": (), "extra": {}}))
    return list(found.values())


def run_online(records: Sequence[Record], training: CurriculumOptions, options: OnlineOptions, out: Path,
               opener: Opener, *, cli: Sequence[str] = (), env: Mapping[str, str] | None = None,
               say: Callable[[str], None] = print, gate: Gate | None = None) -> list[Iteration]:
    """Sample, check, pair, train, ``options.iterations`` times; stops early where ``opener`` has no model.

    Args:
        records: of a finished run; see ``checkable``.
        training: model, template and LLaMA-Factory keys; its ``output_root`` and ``dataset_dir`` are set here.
        out: folder for answers, data, YAML and adapters.
        opener: ``(iteration, adapters)`` -> backend, or None to stop before that iteration.
        cli, env: see ``run_curriculum``.
        gate: decides whether answers attempt their prompts; default rules, and relevance where it is installed.

    Raises:
        UserError: no checkable prompts, no pair in an iteration, no model, a stage that failed.
    """
    prompts = checkable(records)
    if not prompts:
        raise UserError("no prompt here has constraints that code can decide", where=str(out),
                        fix="take the run of a method that makes them: autoif, complex_to_simple")
    order = Random(content_id(options.seed, "online")).sample(prompts, len(prompts))
    done: list[Iteration] = []
    adapters = options.adapters
    for number in range(1, options.iterations + 1):
        backend = opener(number, adapters)
        if backend is None:
            break
        start = (number - 1) * options.prompts
        drawn = [order[i % len(order)] for i in range(start, start + min(options.prompts, len(order)))]
        iteration, examples = asyncio.run(_sample(number, drawn, backend, options, out / f"iteration_{number}",
                                                  gate or Gate()))
        say(f"iteration {number}: {iteration.answers} answers, {iteration.pass_rate:.1%} pass, "
            f"{iteration.pairs} pairs")
        plan = _stage(number, training, options, adapters, out)
        written = write_dataset(plan.datasets[0], examples, out / "data", "alpaca")
        merge_entries(out / "data" / FILE_NAME, {written.name: written.entry}, force=True)
        placed = replace(_placed(training, out), rows={written.name: len(examples)})
        stage = write_stage(placed, plan, out / "yaml", number, options.iterations)
        (result,) = run_curriculum([stage], cli=cli, env=env, say=say)
        write_export(placed, plan, out / "yaml")
        adapters = plan.serve
        done.append(_noted(iteration, result.losses, out))
    return done


async def _sample(number: int, records: Sequence[Record], backend: Backend, options: OnlineOptions,
                  folder: Path, gate: Gate) -> tuple[Iteration, list[PreferenceExample]]:
    """The answers of this iteration, and the pairs they make."""
    log = ResponseLog(folder / "responses.jsonl")
    model = ChatClient("policy", backend, log=log, budget=Budget(), usage=Usage(), concurrency=options.concurrency,
                  temperature=options.temperature, max_tokens=options.max_tokens, seed=options.seed)

    async def answer(record: Record, sample: int) -> Candidate | None:
        try:
            said = await model.chat(record.messages(), stage="sample", sample=sample)
        except RequestFailed:
            return None
        return Candidate(text=said.text.strip(), source=f"online_{number}", model=backend.model,
                         finish_reason=said.finish_reason)

    try:
        given = await asyncio.gather(*(asyncio.gather(*(answer(record, k) for k in range(options.samples)))
                                       for record in records))
    finally:
        await backend.close()
        log.close()
        _free_memory()
    return await _paired(number, records, given, backend.model, options, folder, gate)


async def _paired(number: int, records: Sequence[Record], given: Sequence[Sequence[Candidate | None]], model: str,
                  options: OnlineOptions, folder: Path, gate: Gate) -> tuple[Iteration, list[PreferenceExample]]:
    count: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    examples: list[PreferenceExample] = []
    for record, candidates in zip(records, given, strict=True):
        count["lost"] += sum(c is None for c in candidates)
        useful = decided_for(gate, record, [c for c in candidates if c is not None])
        count["useless"] += sum(not c.useful for c in useful)
        voted = await put_to_vote(record.constraints, useful)
        for v in voted:
            outcome = "failed" if v.candidate.failed_positions else "no_verdict"
            count["passed" if v.candidate.verified else outcome] += 1
            count["cut"] += v.candidate.finish_reason in ("length", CUT_IN_THINKING)
        whole = {v.candidate.text: v for v in voted if v.candidate.finish_reason == "stop" and v.candidate.text}
        good = [v for v in whole.values() if v.accepted(options.positive) and v.candidate.useful]
        bad = [v for v in whole.values() if v.refused() and v.candidate.may_be_rejected]
        if not (good and bad):
            refused["nothing_to_reject" if good else "nothing_to_choose"] += 1
        rng = Random(content_id(options.seed, number, record.id))
        for chosen, rejected in pairs(good, bad, rng, options.pairs_per_side):
            example = emit_preference(
                record.model_copy(update={"extra": {}}).with_extra(
                    iteration=number, functions_passed=chosen.votes, functions_passed_rejected=rejected.votes),
                chosen.candidate, rejected.candidate)
            if isinstance(example, PreferenceExample):
                examples.append(example)
            else:
                refused[example.reason] += 1
    answers = count["passed"] + count["failed"] + count["no_verdict"]
    if not examples:
        raise UserError("no prompt has both an answer that passes and one that fails: "
                        f"{count['passed']} of {answers} pass, {count['cut']} were cut",
                        where=f"{folder}: iteration {number}",
                        fix="more --prompts, --samples or --max-tokens, or a run with easier or harder prompts")
    return Iteration(number, model, len(records), answers, count["passed"], count["failed"], count["no_verdict"],
                     count["cut"], count["lost"], len(examples), dict(sorted(refused.items())),
                     useless=count["useless"]), examples


def _free_memory() -> None:
    """The training that follows is another process and needs the accelerator's memory."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _placed(training: CurriculumOptions, out: Path) -> CurriculumOptions:
    return replace(training, output_root=str(out / "saves"), dataset_dir=str(out / "data"))


def _stage(number: int, training: CurriculumOptions, options: OnlineOptions, load: tuple[str, ...],
           out: Path) -> StagePlan:
    name = f"{training.name}_online_{number}"
    saved = str(out / "saves" / name)
    new = bool(load) and (options.reference == "previous" or number == 1)
    serve = (*load, saved) if new or not load else (*load[:-1], saved)
    reference = " + ".join((training.model, *(load if new else load[:-1])))
    return StagePlan(name=name, stage="dpo", kind="dpo", bin=f"online {number}", datasets=(name,),
                     output_dir=saved, load=load, new_adapter=new, serve=serve, reference=reference)


def _noted(iteration: Iteration, losses: tuple[float, ...], out: Path) -> Iteration:
    iteration = replace(iteration, losses=losses)
    note: dict[str, Any] = {**asdict(iteration), "pass_rate": iteration.pass_rate}
    write_atomic(out / f"iteration_{iteration.number}" / "summary.json", dump_json(note, indent=1) + "\n")
    return iteration
