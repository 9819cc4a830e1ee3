"""``difficulty``: how often a model solves the prompts of a run's rows."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from if_factory.api.common import AnyPath, gate_of, prepare, recipe_of_run, wait
from if_factory.api.data import emit
from if_factory.api.models import open_models
from if_factory.chat.base import Backend
from if_factory.chat.budget import Budget, Price, Usage
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.evaluation.progress import Progress
from if_factory.pipeline.rundir import RunDir
from if_factory.recipe import Recipe
from if_factory.records import Record
from if_factory.rewards.difficulty import FILE, Rate, ask_with, code_decides, measure, prompts_of_rows, write_rates
from if_factory.specs import ModelSpec
from if_factory.training.measured import ALWAYS, NEVER, UNMEASURED


@dataclass(frozen=True)
class DifficultyReport:
    """What ``difficulty`` found.

    Attributes:
        path: the file of rates, in the run's folder.
        rates: one per distinct prompt of the run's rows.
        model: the model that was asked.
    """

    path: Path
    rates: list[Rate] = field(repr=False)
    model: str

    def counts(self) -> dict[str, int]:
        """Prompts ``always_solved``, ``between``, ``never_solved`` and ``unmeasured``."""
        found = Counter(UNMEASURED if r.pass_rate is None else ALWAYS if r.pass_rate >= 1 else
                        NEVER if r.pass_rate <= 0 else "between" for r in self.rates)
        return {name: found[name] for name in (ALWAYS, "between", NEVER, UNMEASURED)}


def difficulty(run_folder: AnyPath, *, student: str | None = None, model: str | None = None,
               adapters: Sequence[AnyPath] = (), k: int = 8, judge: str | None = None, name: str | None = None,
               judge_name: str | None = None, api_key_env: str = "OPENAI_API_KEY", temperature: float = 0.8,
               max_tokens: int = 1024, batch: int = 16, backend: Backend | None = None,
               on_answer: Callable[[], None] | None = None) -> DifficultyReport:
    """Measure how hard the prompts of a run's rows are for a model: k answers each, checked as rows are.

    An answer counts that satisfies every constraint and attempts the request. Rates are written into the run's
    folder, where ``export`` and ``curriculum`` read them. Answers are logged in ``difficulty/`` there: a killed call
    continues, and the same call again asks nothing. Progress is on standard error and in ``difficulty.log`` there.

    Args:
        run_folder: the folder of a run, of any method.
        student: the model's server: a URL, ``embedded``, ``vllm:MODEL``...; default: the recipe's student.
        model: instead: a Hugging Face folder or name, loaded into this process, with ``adapters`` in order.
        k: answers per prompt.
        judge: a judge's server, for constraints that no code decides. Without one, prompts that have only such
            constraints are not measured; of others what code decides counts.
        name, judge_name: the models' names at their servers; default the first there.
        api_key_env: the variable with the servers' key.
        temperature, max_tokens: of an answer.
        batch: prompts decoded together by a model in this process.
        backend: instead of ``student`` and ``model``: one that is open already.
        on_answer: called for each answer as it arrives.

    Raises:
        UserError: there is no run, it has no rows, no model is named, or no request can succeed.
    """
    recipe, folder = recipe_of_run(run_folder), Path(run_folder)
    if k < 1:
        raise UserError(f"is {k}", where="-k", fix="ask for one answer at least")
    prepare(recipe)
    records = RunDir(folder).records()
    rows = emit(recipe, records)
    apart = recipe.definition.separate
    prompts = prompts_of_rows((e for dataset, examples in sorted(rows.datasets.items()) if dataset not in apart
                               for e in examples), {r.id for r in records if r.extra.get("bare")})
    if not prompts:
        raise UserError("this run has no rows whose prompts could be measured", where=str(folder),
                        fix="look at the run's ledger: it says where the records went")
    specs = {} if judge is None else {"judge": ModelSpec(endpoint=judge, model=judge_name, api_key_env=api_key_env)}
    if backend is None and model is None:
        specs["student"] = _student(recipe, student, name, api_key_env)
    answers = k * sum(judge is not None or code_decides(p) for p in prompts)
    with (contextlib.closing(ResponseLog(folder / "difficulty" / "responses.jsonl")) as log,
          Progress(answers, folder / "difficulty" / "difficulty.log") as progress):
        progress.model("difficulty", model or student or "the recipe's student")
        if backend is None and model is not None:
            from if_factory.chat.transformers_local import TransformersBackend

            backend = TransformersBackend(model, adapters=[Path(a) for a in adapters], batch_size=batch,
                                          on_tokens=progress.generated)

        def answered(tokens: int) -> None:
            progress.answer(tokens)
            if on_answer:
                on_answer()

        sampling = {"temperature": temperature, "max_tokens": max_tokens}
        rates, asked = wait(_measured(recipe, prompts, specs, backend, log, k, sampling, 4 * batch, answered))
    write_rates(folder, rates, {"model": asked, "k": k, "temperature": temperature})
    return DifficultyReport(folder / FILE, rates, asked)


def _student(recipe: Recipe, student: str | None, name: str | None, api_key_env: str) -> ModelSpec:
    if student is not None:
        return ModelSpec(endpoint=student, model=name, api_key_env=api_key_env)
    if "student" not in recipe.models:
        raise UserError(f"a run of {recipe.method} names no student", where="difficulty",
                        fix="say which model is to be trained: --model NAME, or --student URL where it is served")
    return recipe.models["student"]


async def _measured(recipe: Recipe, prompts: Sequence[Record], specs: dict[str, ModelSpec], backend: Backend | None,
                    log: ResponseLog, k: int, sampling: dict[str, float], concurrency: int,
                    on_answer: Callable[[int], None]) -> tuple[list[Rate], str]:
    asked = Recipe(models=specs, seed=recipe.seed)
    try:
        async with open_models(asked, log, Usage(), Budget()) as models:
            student = models.get("student")
            if backend is not None:
                student = ChatClient("student", backend, log=log, budget=Budget(), usage=Usage(), seed=recipe.seed,
                                     concurrency=concurrency, price=Price(0, 0))
            assert student is not None
            student.sampling |= {"temperature": sampling["temperature"], "max_tokens": int(sampling["max_tokens"])}
            judge = ask_with(models["judge"]) if "judge" in models else None
            found = await measure(prompts, student, gate_of(recipe), k=k, ask=judge, on_answer=on_answer)
            return found, student.backend.model
    finally:
        if backend is not None:
            await backend.close()
