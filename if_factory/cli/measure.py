"""Commands that look: evaluate, rank, repetition, audit, report, constraints."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.option("--model", "model_path", help="The base model: a Hugging Face folder or name.")
@click.option("--adapter", "adapters", multiple=True, type=FOLDER,
              help="A trained adapter; repeat it, in order, where a stage says so.")
@click.option("--curriculum", type=FOLDER,
              help="Instead of --adapter: a folder of YAML files; takes the adapters its export YAML merges.")
@click.option("--each-stage", is_flag=True, help="With --curriculum: after each stage.")
@click.option("--suite", default="held_out", show_default=True,
              help="`held_out`, or a .jsonl of prompts with constraints (IFEval rows, or yours).")
@click.option("-n", "--prompts", type=click.IntRange(1), help="At most so many prompts.")
@click.option("--constraints", "types", help="held_out: types or families to draw from, with commas; default all "
              "but those held out.")
@click.option("--low", type=click.IntRange(1, 6), help="held_out: fewest constraints on a prompt; default 1.")
@click.option("--high", type=click.IntRange(1, 6), help="held_out: most constraints on a prompt; default 3.")
@click.option("--like", type=FOLDER, help="The run that the training data is from: its types count as trained; "
              "held_out draws types and numbers as it did, unless given.")
@click.option("--system", default="", metavar="TEXT",
              help="System prompt of every prompt that has none of its own, before and after alike.")
@click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Prompts decoded together.")
@click.option("--judge", metavar="ENDPOINT", help="A URL, `embedded` or `embedded:FILE.gguf`: decides judged "
              "constraints, and usefulness after the rules.")
@click.option("--judge-model", help="The judge's name there; default its first.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, help="Holds the judge's key.")
@click.option("--read", type=click.IntRange(0), default=60, show_default=True,
              help="Answers of each model in blind.jsonl, shuffled, for a person to mark.")
@click.option("--score-blind", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Only compare the marks in this blind.jsonl with what was decided.")
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False))
def evaluate(model_path: str | None, adapters: tuple[Path, ...], curriculum: Path | None, each_stage: bool,
             suite: str, prompts: int | None, types: str | None, low: int | None, high: int | None,
             like: Path | None, system: str, max_tokens: int, batch: int, judge: str | None,
             judge_model: str | None, api_key_env: str, read: int,
             score_blind: Path | None, out: Path | None) -> None:
    """Answers that satisfy their constraints and attempt their request, before and after training, on the same
    held-out prompts, with 95 % confidence intervals."""
    if score_blind:
        from if_factory.evaluation import blind

        click.echo(blind.markdown(blind.score_blind(score_blind)), nl=False)
        return
    for name, given in (("--model", model_path), ("--out", out)):
        if given is None:
            raise click.UsageError(f"Missing option '{name}'.")
    assert model_path is not None
    assert out is not None
    if each_stage and not curriculum:
        raise click.UsageError("--each-stage needs --curriculum")
    from if_factory.chat.transformers_local import TransformersBackend
    from if_factory.evaluation.command import models_of, run, suite_like
    from if_factory.evaluation.passrate import markdown

    items, trained = suite_like(suite, prompts, types=tuple(types.split(",")) if types else (), low=low, high=high,
                                run_folder=like)
    chains = models_of(adapters, curriculum, each_stage=each_stage)
    results = asyncio.run(run(
        items, lambda chain, on_tokens: TransformersBackend(model_path, adapters=chain, batch_size=batch,
                                                            on_tokens=on_tokens),
        chains, out, trained=trained, max_tokens=max_tokens, concurrency=4 * batch, system=system, read=read,
        judge=_judge_for(judge, out, judge_model, api_key_env)))
    click.echo(markdown(results))
    click.echo(f"written: {out}/results.md, results.json, responses.jsonl, evaluation.log"
               + (", blind.jsonl" if read else ""))


def _judge_for(endpoint: str | None, out: Path, name: str | None, api_key_env: str) -> Any:
    from if_factory.cli.common import judge_at

    return judge_at(endpoint, out / "judge", name=name, api_key_env=api_key_env) if endpoint else None


@click.command()
@click.argument("triples", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", "model_path", required=True, help="The base model: a Hugging Face folder or name.")
@click.option("--adapter", "adapters", multiple=True, type=FOLDER,
              help="A trained adapter; repeat it, in order, where a stage says so.")
@click.option("--curriculum", type=FOLDER,
              help="Instead of --adapter: a folder of YAML files; takes the adapters its export YAML merges.")
@click.option("--also", multiple=True, metavar="NAME=ADAPTER[,ADAPTER]",
              help="Another trained model to put beside, e.g. sft=saves/sft; repeat it for more.")
@click.option("--template", help="Render as LLaMA-Factory's template of this name (as in training); default: the "
              "tokenizer's own chat template, as training without `template:` does.")
@click.option("-n", "--items", "most", type=click.IntRange(1), help="At most so many items.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws which constraints are used.")
@click.option("--max-tokens", type=click.IntRange(2), help="Leave out longer items; default: what the model has.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Tokens scored together; less needs less memory.")
@click.option("--float32", is_flag=True, help="Compute in float32 on a GPU too: exact margins, twice the memory.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False))
def rank(triples: Path, model_path: str, adapters: tuple[Path, ...], curriculum: Path | None,
         also: tuple[str, ...], template: str | None, most: int | None, seed: int, max_tokens: int | None,
         batch_tokens: int | None, float32: bool, out: Path) -> None:
    """Suri's ranking accuracy: how often a response is likelier after its own instruction than after a corrupted
    one, before and after training, in five settings.

    TRIPLES is an exported I-ORPO dataset (with its provenance file beside it), or rows with `main`, `constraints`,
    `corrupted` and `response`, or finished triples.
    """
    from if_factory.evaluation.ranking import rank as run_ranking
    from if_factory.evaluation.score import Scorer
    from if_factory.evaluation.triples import read_triples
    from if_factory.training.run import adapters_of

    items = read_triples(triples)[:most]
    if curriculum:
        adapters = adapters_of(curriculum)
    chains: dict[str, tuple[Path, ...]] = {"before": ()} | ({"after": adapters} if adapters else {})
    for name, chain in map(_named_adapters, also):
        if name in chains:
            raise click.BadParameter(f"'{name}' is used twice", param_hint="--also")
        chains[name] = chain
    models = {name: partial(Scorer, model_path, chain, template=template, float32=float32,
                            batch_tokens=batch_tokens) for name, chain in chains.items()}
    run_ranking(items, models, out, max_tokens=max_tokens, seed=seed,
                watch=lambda label, tokens: click.progressbar(length=tokens, label=f"{label}, tokens"))
    click.echo((out / "ranking.md").read_text(encoding="utf-8"))
    click.echo(f"written: {out}/ranking.md, ranking.json, ranking.jsonl")


def _named_adapters(text: str) -> tuple[str, tuple[Path, ...]]:
    name, _, paths = text.partition("=")
    if not (name and paths):
        raise click.BadParameter(f"'{text}' is not NAME=ADAPTER[,ADAPTER]", param_hint="--also")
    return name, tuple(Path(p) for p in paths.split(","))


@click.command()
@click.argument("generations", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--text", "column", help="The field that holds the text; default: what answers the row's prompt.")
@click.option("--tokens", "choice", default="auto", show_default=True,
              help="What lengths are counted in: `o200k_base` (tiktoken), `words`, or a model's folder; auto: "
              "o200k_base where it is installed, else words.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False),
              help="Write repetition.json and repetition.md here too.")
def repetition(generations: tuple[Path, ...], column: str | None, choice: str, as_json: bool,
               out: Path | None) -> None:
    """Length of generated texts and how often they repeat themselves, with 95 % confidence intervals.

    GENERATIONS are any .jsonl or .json files with a text per row; of `responses.jsonl` from `evaluate`, each
    model's answers are counted apart.
    """
    from if_factory.evaluation import repetition as counting
    from if_factory.files import dump_json, write_atomic

    counted_in = counting.tokens(choice)
    texts: dict[str, list[str | None]] = {}
    for path in generations:
        for label, found in counting.read_texts(path, column).items():
            texts.setdefault(label if len(generations) == 1 else f"{path.stem}: {label}", []).extend(found)
    results = {label: counting.measure(found, counted_in) for label, found in texts.items()}
    json_text = dump_json(counting.as_dict(results, counted_in), indent=1) + "\n"
    table = counting.markdown(results, counted_in)
    if out:
        write_atomic(out / "repetition.json", json_text)
        write_atomic(out / "repetition.md", table)
    click.echo(json_text if as_json else table, nl=False)


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--constraints", type=click.Path(path_type=Path, dir_okay=False),
              help="Where the constraints of DATASET's prompts are, if not in it: rows joined by prompt.")
@click.option("--loose", is_flag=True, help="IFEval's loose reading of every answer.")
@click.option("--ifeval-compat", is_flag=True, help="Decide as the reference checkers do where they err.")
@click.option("--examples", type=click.IntRange(0), default=5, show_default=True, help="Failures to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--fail-under", type=click.FloatRange(0, 1), help="Exit with 1 if a smaller share of rows holds.")
def audit(dataset: Path, constraints: Path | None, loose: bool, ifeval_compat: bool, examples: int, as_json: bool,
          fail_under: float | None) -> None:
    """Re-check any dataset's answers against its own constraints."""
    from if_factory.evaluation.audit import audit as run_audit
    from if_factory.evaluation.audit import print_report, to_json

    report = run_audit(dataset, constraints=constraints, mode="loose" if loose else "strict",
                       ifeval_compat=ifeval_compat)
    if as_json:
        click.echo(to_json(report))
    else:
        print_report(report, examples=examples)
    raise SystemExit(report.exit_status(fail_under))


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--evaluation", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="What `evaluate` wrote.")
@click.option("--saves", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="What training wrote, for the loss curves.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: RUN/report.html.")
def report(run_folder: Path, evaluation: Path | None, saves: Path | None, out: Path | None) -> None:
    """Write one self-contained HTML page: funnel, reasons, cost, pass rates, losses, sample rows."""
    from if_factory.report.html import write_report

    click.echo(write_report(run_folder, evaluation=evaluation, saves=saves, out=out))


@click.command()
@click.argument("family", required=False)
def constraints(family: str | None) -> None:
    """List the constraint types (of one FAMILY) with a sample description each."""
    from random import Random

    from rich.console import Console
    from rich.table import Table

    from if_factory.constraints.base import all_types

    table = Table("type", "difficulty", "for example")
    for kind in all_types():
        if family and family not in (kind.type, kind.type.split(":")[0]):
            continue
        rng = Random(kind.type)
        kwargs = kind.sample(rng, "Describe how a small bakery prepares its bread and cakes in the morning.")
        table.add_row(kind.type, str(kind.difficulty_hint),
                      kind.describe(kwargs, rng) if kwargs is not None else kind.descriptions[0])
    Console().print(table)


COMMANDS = (evaluate, rank, repetition, audit, report, constraints)
