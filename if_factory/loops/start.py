"""The loops as a user starts them, with ``if-factory online | humpback | humpback-sizes`` or from Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from if_factory.api.common import AnyPath, as_recipe, gate_of, prepare, recipe_of_run, seeds_of, wait
from if_factory.api.curricula import has_gpu, preset_keys
from if_factory.api.measuring import scaling
from if_factory.api.models import open_models
from if_factory.chat.base import Backend
from if_factory.chat.budget import Budget, Usage
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.evaluation.scaling import Base, Fit
from if_factory.evaluation.suites import suite as read_suite
from if_factory.loops import humpback as rounds
from if_factory.loops.online import Iteration, OnlineOptions, run_online
from if_factory.loops.rounds import Trainer, served, to_serve
from if_factory.loops.sizes import DEFAULT_ARMS, compare, read_rated
from if_factory.methods.humpback.options import ROUNDS, Options
from if_factory.methods.humpback.training import paper_steps as steps_of_the_paper
from if_factory.pipeline.result import Observer
from if_factory.pipeline.rundir import RunDir
from if_factory.recipe import Recipe
from if_factory.training.curriculum import CurriculumOptions
from if_factory.training.run import adapters_of


def online(run_folder: AnyPath, *, model: str, out: AnyPath, adapters: Sequence[AnyPath] = (),
           curriculum: AnyPath | None = None, template: str | None = None, iterations: int = 3, prompts: int = 256,
           samples: int = 8, temperature: float = 0.8, max_tokens: int = 512, batch: int = 16,
           all_pairs: bool = False, reference: Literal["previous", "start"] = "previous",
           endpoints: Mapping[int, str] | None = None, settings: Mapping[str, object] | None = None,
           say: Callable[[str], None] = print) -> list[Iteration]:
    """Online DPO: the model answers a run's prompts, answers are checked, and it learns from them; several times.

    Safe to kill: the same call continues.

    Args:
        run_folder: any run whose constraints code can decide.
        model: the base model: a Hugging Face folder or name.
        out: folder for answers, data, YAML files and adapters.
        adapters: what was trained before, such as the SFT stages, in order.
        curriculum: instead: a folder of YAML files; the adapters its export YAML merges.
        template: LLaMA-Factory template; ``None`` uses the tokenizer's own chat template.
        iterations, prompts, samples: how often, prompts per iteration, answers per prompt.
        temperature, max_tokens: of an answer.
        batch: prompts decoded together.
        all_pairs: every good with every bad answer, not two of each at most.
        reference: what an iteration is compared with: the model it starts from, or that of the beginning.
        endpoints: iteration -> URL of a server that serves the model as it is then; the loop stops before an
            iteration without one. Default: the model is loaded into this process.
        settings: LLaMA-Factory keys.
        say: called with one line per event.

    Raises:
        UserError: no checkable prompts, no pair in an iteration, no model, or a stage that failed.
    """
    from if_factory.chat.transformers_local import TransformersBackend, is_whole

    recipe, urls = recipe_of_run(run_folder), endpoints or {}
    prepare(recipe)

    def open_model(number: int, trained: Sequence[str]) -> Backend | None:
        if not urls:
            return TransformersBackend(model, adapters=trained, batch_size=batch)
        if number not in urls:
            say(to_serve(f"iteration {number}", f"{out}/yaml/{recipe.name}_export.yaml", str(number)))
            return None
        return served(urls[number], batch)

    training = CurriculumOptions(
        model=model, template=template, name=recipe.name, stages=("dpo",), seed=recipe.seed, cpu=not has_gpu(),
        **preset_keys(recipe, ("dpo",), settings or {}))
    start = adapters_of(Path(curriculum)) if curriculum else adapters
    if start and is_whole(Path(start[0])):
        raise UserError("is a whole model, not an adapter", where=str(start[0]), fix=f"give --model {start[0]}, and "
                        "the adapters trained on it, if any, with --adapter")
    options = OnlineOptions(
        iterations=iterations, prompts=prompts, samples=samples, temperature=temperature, max_tokens=max_tokens,
        concurrency=4 * batch, pairs_per_side=None if all_pairs else 2, reference=reference,
        adapters=tuple(map(str, start)), seed=recipe.seed)
    return run_online(RunDir(run_folder).records(), training, options, Path(out), open_model, say=say,
                      gate=gate_of(recipe))


@dataclass(frozen=True)
class HumpbackReport:
    """What the loop leaves.

    Attributes:
        done: the adapters by name, and a report per round.
        last: the adapter of the last round; ``None`` where the loop waits for a server.
        system: the system prompt it is to be asked under.
    """

    done: rounds.Rounds
    last: Path | None
    system: str


def humpback(recipe: Recipe | AnyPath, *, model: str, out: AnyPath, template: str | None = None,
             iterations: int = ROUNDS, labelled: AnyPath | None = None, limit: int | None = None,
             batch: int = 8, settings: Mapping[str, object] | None = None, observer: Observer | None = None,
             endpoints: Mapping[str, str] | None = None, paper_steps: bool = False,
             say: Callable[[str], None] = print) -> HumpbackReport:
    """Humpback's loop: train a backward model, write instructions, rate, train forward, and again.

    Safe to kill: the same call continues where it stopped.

    Args:
        recipe: a recipe of the method ``humpback``, or the path of one.
        model: the base model: a Hugging Face folder or name.
        out: folder for everything: data, YAML, adapters, the log, curation.md.
        template: LLaMA-Factory template; ``None`` uses the tokenizer's own chat template.
        iterations: rounds of rating.
        labelled: rows ``{prompt, response, label}``: precision and recall of every round's judge.
        limit: use only the first ``limit`` texts.
        batch: prompts decoded together.
        settings: LLaMA-Factory keys.
        observer: someone to show the progress to.
        endpoints: model (``backward``, ``m0``, ``m1``...) -> URL of a server that serves it, merged; the loop stops
            before a model without one, and ``say`` is told what to serve. Default: trained models are loaded into
            this process.
        paper_steps: steps and batch by the number of rows, as the paper lists them; what ``settings`` names wins.
        say: called with one line per event of the training.

    Raises:
        UserError: another method's recipe, nothing survives a step, a training fails, or no model answers.
    """
    loaded, where = as_recipe(recipe), "recipe" if isinstance(recipe, Recipe) else str(recipe)
    if loaded.method != "humpback":
        raise UserError(f"this recipe is of the method '{loaded.method}'", where=where,
                        fix="start from `if-factory init humpback`")
    loaded.limit = limit or loaded.limit
    trainer = _trainer(loaded, model, Path(out), template, settings, paper_steps, say)
    done = wait(rounds.run(loaded, trainer, iterations=iterations, labelled=Path(labelled) if labelled else None,
                           batch=batch, observer=observer, endpoints=endpoints))
    if done.waiting:
        say(to_serve(f"the model {done.waiting}", trainer.merges(done.waiting), done.waiting))
    return HumpbackReport(done, None if done.waiting else done.adapters[f"m{iterations}"],
                          cast(Options, loaded.method_options()).system_asked)


def _trainer(recipe: Recipe, model: str, folder: Path, template: str | None, settings: Mapping[str, object] | None,
             paper_steps: bool, say: Callable[[str], None]) -> Trainer:
    keys: dict[str, Any] = preset_keys(recipe, ("sft",), settings or {})["stage_overrides"]["sft"]
    named = {key.rpartition(".")[2] for key in settings or {}}
    each = int(keys.get("per_device_train_batch_size", 1))

    def by_rows(rows: int) -> dict[str, int]:
        steps, batch = steps_of_the_paper(rows)
        rule = {"max_steps": steps, "gradient_accumulation_steps": max(1, batch // each)}
        return {key: value for key, value in rule.items() if key not in named} if paper_steps else {}

    return Trainer(model, folder, template, seed=recipe.seed, cpu=not has_gpu(), settings=keys, say=say,
                   by_rows=by_rows)


def humpback_sizes(recipe: Recipe | AnyPath, *, model: str, out: AnyPath, sizes: Sequence[int],
                   template: str | None = None, iteration: int = 1, suite: str = "held_out",
                   prompts: int | None = None, base: Base = "e", limit: int | None = None, batch: int = 16,
                   max_tokens: int = 256, settings: Mapping[str, object] | None = None,
                   arms: Sequence[str] = DEFAULT_ARMS, paper_steps: bool = False,
                   say: Callable[[str], None] = print) -> dict[str, Fit]:
    """Quality against quantity: train on N rows with and without curation, for several N, and fit every arm.

    The score is the win rate against the base model where the recipe names a judge, else the pass rate. What is
    written is in ``sizes`` in the loop's folder.

    Args:
        recipe, model, template, limit: as given to ``humpback``.
        out: the folder of a finished ``humpback``.
        sizes: mined rows to train on, at least two numbers.
        iteration: whose ratings to use.
        suite, prompts: what is asked; see ``evaluate``.
        base: logarithm of the fit: alpha is per factor of this.
        batch: prompts decoded together.
        max_tokens: completion tokens per answer at most.
        settings: LLaMA-Factory keys.
        arms: what is compared: ``curated`` and ``uncurated``, or others of ``loops/sizes.py``.
        paper_steps: as given to ``humpback``.
        say: called with one line per event of the training.

    Raises:
        UserError: before anything is trained: an unknown arm, fewer than two sizes, more rows than there are, no
            prompts.
    """
    from if_factory.chat.transformers_local import TransformersBackend

    loaded, folder = as_recipe(recipe), Path(out) / "sizes"
    loaded.limit = limit or loaded.limit
    trainer = _trainer(loaded, model, folder, template, settings, paper_steps, say)
    pairs = list({r.id: r for r in seeds_of(loaded) if r.extra["form"] == "seed"}.values())

    async def compared(log: ResponseLog) -> dict[str, Any]:
        async with open_models(loaded, log, Usage(), Budget(**loaded.budget.model_dump())) as given:
            return await compare(trainer, pairs, read_rated(Path(out), iteration),
                                 cast(Options, loaded.method_options()), sizes, read_suite(suite, prompts),
                                 lambda adapters: TransformersBackend(model, adapters, batch_size=batch), log,
                                 judge=given.get("judge"), max_tokens=max_tokens, arms=arms)

    with closing(ResponseLog(folder / "responses.jsonl")) as log:
        points = wait(compared(log))
    label = "win rate against the base model (%)" if "judge" in loaded.models else "prompts passed, strict (%)"
    return scaling(points, folder, base=base, label=label)
