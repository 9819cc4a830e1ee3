"""Before and after: evaluate, rank, repetition, scaling, audit, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, closing
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from if_factory.api.common import AnyPath, wait
from if_factory.api.engines import Engine, workers_of
from if_factory.api.evaluation import run as run_evaluation
from if_factory.api.evaluation import suite_like
from if_factory.api.models import judge_at
from if_factory.chat.log import ResponseLog
from if_factory.constraints.base import load_plugin
from if_factory.constraints.verify import Mode
from if_factory.errors import UserError
from if_factory.evaluation import repetition as counting
from if_factory.evaluation.audit import audit as audit_file
from if_factory.evaluation.audit_report import AuditReport
from if_factory.evaluation.long_form import LongForm
from if_factory.evaluation.passrate import Item, Results
from if_factory.evaluation.progress import Progress
from if_factory.evaluation.rank import Ranked
from if_factory.evaluation.rank import rank as run_ranking
from if_factory.evaluation.repetition import Repetition, Tokens
from if_factory.evaluation.scaling import Base, Fit, Point, fit, read_points
from if_factory.evaluation.scaling import markdown as scaling_table
from if_factory.files import dump_json, write_atomic, write_jsonl
from if_factory.training.run import adapters_by_stage, adapters_of
from if_factory.usefulness.settings import UsefulnessSpec

# Shows progress, as click.progressbar does: a context manager with ``update(steps, label)``.
Bar = AbstractContextManager[Any]


def evaluation_suite(suite: str = "held_out", prompts: int | None = None, *, types: Sequence[str] = (),
                     low: int | None = None, high: int | None = None, like: AnyPath | None = None) -> list[Item]:
    """The prompts of an evaluation, with their constraints.

    Args:
        suite: ``held_out``, or a .jsonl of prompts with constraints, for which only ``prompts`` counts.
        prompts: at most so many.
        types: types or families to draw from; default: as ``like``, else all but ``HELD_OUT_TYPES``.
        low, high: fewest and most constraints on a prompt; default: as ``like``, else 1 and 3.
        like: a run folder; what is not given is drawn as its method drew it.

    Raises:
        UserError: the file or an argument is wrong, or ``like`` holds no run.
    """
    return suite_like(suite, prompts, types=types, low=low, high=high, run_folder=Path(like) if like else None)[0]


def chains(adapters: Sequence[AnyPath] = (), curriculum: AnyPath | None = None,
           also: Mapping[str, Sequence[AnyPath]] | None = None) -> dict[str, tuple[Path, ...]]:
    """The adapters of every model to compare, by label: ``before`` has none, ``after`` has those given.

    Args:
        adapters: what was trained, in order.
        curriculum: instead: a folder of YAML files; the adapters its export YAML merges.
        also: further models by label.

    Raises:
        UserError: the curriculum is not trained yet, or a label is used twice.
    """
    trained = adapters_of(Path(curriculum)) if curriculum else tuple(map(Path, adapters))
    found: dict[str, tuple[Path, ...]] = {"before": ()} | ({"after": trained} if trained else {})
    for label, chain in (also or {}).items():
        if label in found:
            raise UserError(f"'{label}' is used twice", where="--also", fix="give each model another name")
        found[label] = tuple(map(Path, chain))
    return found


def evaluate(model: str, out: AnyPath, *, adapters: Sequence[AnyPath] = (), curriculum: AnyPath | None = None,
             each_stage: bool = False, suite: str = "held_out", prompts: int | None = None,
             types: Sequence[str] = (), low: int | None = None, high: int | None = None,
             like: AnyPath | None = None, system: str = "", max_tokens: int = 512, batch: int = 16,
             judge: str | None = None, judge_model: str | None = None, api_key_env: str = "OPENAI_API_KEY",
             read: int = 60, plugins: Sequence[AnyPath] = ()) -> Results:
    """Answers that satisfy their constraints and attempt their request, before and after, on the same prompts.

    Progress is on standard error and in ``evaluation.log``. Killed, the same call continues; with one more adapter
    it asks only that one.

    Args:
        model: the base model: a Hugging Face folder or name.
        out: folder for results.md, results.json, responses.jsonl, blind.jsonl and the logs.
        adapters, curriculum: what was trained; see ``chains``.
        each_stage: of the curriculum, the model after each stage and not only the last.
        suite, prompts, types, low, high: what is asked; see ``evaluation_suite``.
        like: the run that the training data is from: its types count as trained, all others do not.
        system: system prompt of every prompt that has none of its own, before and after alike.
        max_tokens: completion tokens per answer at most.
        batch: prompts decoded together.
        judge: a URL, ``embedded``, or ``embedded:/path/to.gguf``; decides judged constraints, and usefulness after
            rules and relevance.
        judge_model, api_key_env: its name there (default its first) and the variable with its key.
        read: answers of each model in blind.jsonl, for a person to mark; 0 writes none.
        plugins: files of your own constraint types.

    Raises:
        UserError: an adapter, the suite or a plugin is missing or wrong, or transformers is not installed.
    """
    from if_factory.chat.transformers_local import TransformersBackend

    for plugin in plugins:
        load_plugin(Path(plugin))
    out = Path(out)
    items, trained = suite_like(suite, prompts, types=types, low=low, high=high,
                                run_folder=Path(like) if like else None)
    weights = ({"before": ()} | adapters_by_stage(Path(curriculum)) if curriculum and each_stage
               else chains(adapters, curriculum))
    asked = judge_at(judge, out / "judge", name=judge_model, api_key_env=api_key_env) if judge else None

    def opened(chain: tuple[Path, ...], on_tokens: Callable[[int], None]) -> TransformersBackend:
        return TransformersBackend(model, adapters=chain, batch_size=batch, on_tokens=on_tokens)

    return wait(run_evaluation(items, opened, weights, out, trained=trained, max_tokens=max_tokens,
                               concurrency=4 * batch, system=system, read=read, judge=asked))


def rank(triples: AnyPath, model: str, out: AnyPath, *, adapters: Sequence[AnyPath] = (),
         curriculum: AnyPath | None = None, also: Mapping[str, Sequence[AnyPath]] | None = None,
         template: str | None = None, items: int | None = None, seed: int = 0, max_tokens: int | None = None,
         batch_tokens: int | None = None, float32: bool = False, preference: bool = False,
         watch: Callable[[str, int], Bar] | None = None) -> Ranked:
    """Suri's ranking accuracy: how often a response is likelier after its own instruction than after a corrupted
    one, before and after training, in five settings.

    Args:
        triples: an exported I-ORPO dataset with its provenance file beside it, or rows with ``main``,
            ``constraints``, ``corrupted`` and ``response``, or finished triples.
        model: the base model: a Hugging Face folder or name.
        out: folder for ranking.md, ranking.json, ranking.jsonl and what a killed call continues from.
        adapters, curriculum, also: what was trained; see ``chains``.
        template: render as LLaMA-Factory's template of this name, as in training; default: the tokenizer's own.
        items: at most so many.
        seed: draws which constraints are used.
        max_tokens: leave out longer items; default: what the model has positions for.
        batch_tokens: tokens scored together; less needs less memory.
        float32: compute in float32 on a GPU too: exact margins, twice the memory.
        preference: also ask which of the two instructions a response was written for: Suri's p(preference | prompt).
        watch: ``(label, tokens to score)`` -> a progress bar.

    Raises:
        UserError: no item, none that fits, or a model cannot be opened.
    """
    from if_factory.evaluation.score import Scorer
    from if_factory.evaluation.triples import read_triples

    given = read_triples(Path(triples))[:items]
    models = {label: partial(Scorer, model, chain, template=template, float32=float32, batch_tokens=batch_tokens)
              for label, chain in chains(adapters, curriculum, also).items()}
    return run_ranking(given, models, Path(out), max_tokens=max_tokens, seed=seed, preference=preference,
                       watch=watch)


def long_form(triples: AnyPath, model: str, out: AnyPath, *, adapters: Sequence[AnyPath] = (),
              curriculum: AnyPath | None = None, also: Mapping[str, Sequence[AnyPath]] | None = None,
              items: int | None = None, max_tokens: int = 8192, batch: int = 4, tokens: str = "auto",
              judge: str | None = None, judge_model: str | None = None,
              api_key_env: str = "OPENAI_API_KEY") -> LongForm:
    """Long answers to Suri's instructions, before and after: length, repetition, and a judge's yes, partly or no
    on each constraint. Progress is on standard error and in ``long_form.log``.

    Args:
        triples: what ``rank`` takes; the judge needs the constraints apart.
        model: the base model: a Hugging Face folder or name.
        out: folder for long_form.md, long_form.json, responses.jsonl and what a killed call continues from.
        adapters, curriculum, also: what was trained; see ``chains``.
        items: at most so many.
        max_tokens: completion tokens per answer at most.
        batch: prompts decoded together.
        tokens: what lengths are counted in; see ``repetition``.
        judge: a URL, ``embedded``, or ``embedded:/path/to.gguf``; default: no constraint is judged.
        judge_model, api_key_env: its name there (default its first) and the variable with its key.

    Raises:
        UserError: no item, no constraints to judge, an adapter is missing, or transformers is not installed.
    """
    from if_factory.chat.transformers_local import TransformersBackend
    from if_factory.evaluation.long_form import measure
    from if_factory.evaluation.triples import read_triples

    out = Path(out)
    given, counted_in = read_triples(Path(triples))[:items], counting.tokens(tokens)
    weights = chains(adapters, curriculum, also)

    async def run() -> LongForm:
        async with AsyncExitStack() as stack:
            log = stack.enter_context(closing(ResponseLog(out / "asked.jsonl")))
            asked = None
            if judge:
                client = await stack.enter_async_context(
                    judge_at(judge, out / "judge", name=judge_model, api_key_env=api_key_env))
                asked = partial(client.chat, stage="evaluate")
            progress = stack.enter_context(Progress(len(given) * len(weights), out / "long_form.log"))
            models = {label: TransformersBackend(model, adapters=chain, batch_size=batch,
                                                 on_tokens=progress.generated) for label, chain in weights.items()}
            return await measure(given, models, out, max_tokens=max_tokens, concurrency=4 * batch, judge=asked,
                                 counted_in=counted_in, log=log, on_model=progress.model,
                                 on_answer=lambda _, answer: progress.answer(answer.completion_tokens))

    return wait(run())


@dataclass(frozen=True)
class RepetitionReport:
    """Length and repetition of generated texts, by label; ``tokens`` is what lengths are counted in."""

    results: dict[str, Repetition]
    tokens: Tokens

    def as_json(self) -> str:
        """One JSON text, the same for the same files."""
        return dump_json(counting.as_dict(self.results, self.tokens), indent=1) + "\n"

    def markdown(self) -> str:
        """One table."""
        return counting.markdown(self.results, self.tokens)


def repetition(generations: Sequence[AnyPath], *, column: str | None = None, tokens: str = "auto",
               out: AnyPath | None = None) -> RepetitionReport:
    """Length of generated texts and how often they repeat themselves, with 95 % confidence intervals.

    Args:
        generations: .jsonl or .json files with a text per row; of ``responses.jsonl`` from ``evaluate`` each
            model's answers are counted separately.
        column: the field that holds the text; default: what answers the row's prompt.
        tokens: ``o200k_base`` (tiktoken), ``words``, a model's folder, or ``auto``: the first where it is
            installed, else the second.
        out: folder for repetition.json and repetition.md; default: nothing is written.

    Raises:
        UserError: a file, the column or the tokenizer is missing.
    """
    counted_in = counting.tokens(tokens)
    texts: dict[str, list[str | None]] = {}
    for path in map(Path, generations):
        for label, found in counting.read_texts(path, column).items():
            texts.setdefault(label if len(generations) == 1 else f"{path.stem}: {label}", []).extend(found)
    report = RepetitionReport({label: counting.measure(t, counted_in) for label, t in texts.items()}, counted_in)
    if out:
        write_atomic(Path(out) / "repetition.json", report.as_json())
        write_atomic(Path(out) / "repetition.md", report.markdown())
    return report


def audit(dataset: AnyPath, *, constraints: AnyPath | None = None, mode: Mode = "strict",
          ifeval_compat: bool = False, useful: bool = False, relevance: str = "auto", engine: Engine = "local",
          ray_address: str | None = None, ray_workers: int | None = None,
          plugins: Sequence[AnyPath] = ()) -> AuditReport:
    """Re-check any dataset's answers against its own constraints.

    Args:
        dataset: a .jsonl or .json file.
        constraints: where the constraints of its prompts are, if not in it: rows joined by prompt.
        mode: ``strict``, or ``loose``: IFEval's loose reading of every answer.
        ifeval_compat: decide as the reference checkers do where they err.
        useful: also say how many answers attempt their request, by rules and, as ``relevance`` says (``auto``,
            ``off`` or a model), by relevance.
        engine, ray_address, ray_workers: as ``run`` has them; blocks of rows are spread.
        plugins: files of your own constraint types.

    Raises:
        UserError: the file or a plugin cannot be read, or no row has constraints; or Ray cannot be reached.
    """
    for plugin in plugins:
        load_plugin(Path(plugin))
    with workers_of(engine, ray_address, ray_workers) as workers:
        return audit_file(Path(dataset), constraints=constraints, mode=mode, ifeval_compat=ifeval_compat,
                          useful=UsefulnessSpec(relevance=relevance) if useful else None, workers=workers)


def scaling(points: AnyPath | Mapping[str, Sequence[Point]], out: AnyPath, *, base: Base = "e",
            label: str = "score (%)") -> dict[str, Fit]:
    """Fit score = alpha log N + C to runs at several N, by series.

    Args:
        points: a file of rows ``{n, score, series}``, or the points by series.
        out: folder for points.jsonl, scaling.json, scaling.md and, with matplotlib, scaling.png.
        base: logarithm of the fit: alpha is per factor of this.
        label: what the score is, for the plot.

    Raises:
        UserError: a row is wrong, or a series has fewer than two sizes.
    """
    out, series = Path(out), points if isinstance(points, Mapping) else read_points(Path(points))
    fits = {name: fit(found, base) for name, found in series.items()}
    write_jsonl(out / "points.jsonl", [{"series": name, "n": n, "score": round(score, 4)}
                                       for name, found in series.items() for n, score in found])
    plain = {name: {k: None if v != v else v for k, v in asdict(f).items()} for name, f in fits.items()}
    write_atomic(out / "scaling.json", dump_json(plain, indent=1) + "\n")
    write_atomic(out / "scaling.md", scaling_table(fits))
    if find_spec("matplotlib"):
        from if_factory.reporting import plots

        plots.save(plots.scaling(series, fits, label), out / "scaling.png")
    return fits


def report(run_folder: AnyPath, *, evaluation: AnyPath | None = None, saves: AnyPath | None = None,
           out: AnyPath | None = None) -> Path:
    """Write one self-contained HTML page: funnel, reasons, cost, pass rates, losses, sample rows.

    Args:
        run_folder: the folder of a run.
        evaluation: what ``evaluate`` wrote; default ``evaluation`` in the run folder.
        saves: what training wrote, for the loss curves; default ``saves`` in the run folder.
        out: the page; default ``report.html`` in the run folder.

    Returns:
        The page.

    Raises:
        UserError: there is no finished run, or a file of it is broken.
    """
    from if_factory.reporting.html import write_report

    evaluated, trained, page = (Path(p) if p else None for p in (evaluation, saves, out))
    return write_report(Path(run_folder), evaluation=evaluated, saves=trained, out=page)
