"""Commands that measure: evaluate, rank, repetition, scaling, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from if_factory.cli.common import engine_options, plugin_option

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.option("--model", "model_path", help="The base model: a Hugging Face folder or name.")
@click.option("--adapter", "adapters", multiple=True, type=FOLDER,
              help="A trained adapter or whole model; repeat it, in order, where a stage says so.")
@click.option("--curriculum", type=FOLDER,
              help="Instead of --adapter: a folder of YAML files; takes what it trained.")
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
@plugin_option
def evaluate(model_path: str | None, adapters: tuple[Path, ...], curriculum: Path | None, each_stage: bool,
             suite: str, prompts: int | None, types: str | None, low: int | None, high: int | None,
             like: Path | None, system: str, max_tokens: int, batch: int, judge: str | None,
             judge_model: str | None, api_key_env: str, read: int,
             score_blind: Path | None, out: Path | None, plugins: tuple[Path, ...]) -> None:
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
    from if_factory import api
    from if_factory.evaluation.passrate import markdown

    results = api.evaluate(
        model_path, out, adapters=adapters, curriculum=curriculum, each_stage=each_stage, suite=suite,
        prompts=prompts, types=types.split(",") if types else (), low=low, high=high, like=like, system=system,
        max_tokens=max_tokens, batch=batch, judge=judge, judge_model=judge_model, api_key_env=api_key_env,
        read=read, plugins=plugins)
    click.echo(markdown(results))
    click.echo(f"written: {out}/results.md, results.json, responses.jsonl, evaluation.log"
               + (", blind.jsonl" if read else ""))


def _compared_models(f: Any) -> Any:
    """The models that ``rank`` and ``long-form`` put beside each other."""
    for option in (
            click.option("--also", multiple=True, metavar="NAME=ADAPTER[,ADAPTER]",
                         help="Another trained model to put beside, e.g. sft=saves/sft; repeat it for more."),
            click.option("--curriculum", type=FOLDER, help="Instead of --adapter: a folder of YAML files; takes what "
                         "it trained."),
            click.option("--adapter", "adapters", multiple=True, type=FOLDER,
                         help="A trained adapter or whole model; repeat it, in order, where a stage says so."),
            click.option("--model", "model_path", required=True,
                         help="The base model: a Hugging Face folder or name.")):
        f = option(f)
    return f


def _others(also: tuple[str, ...]) -> dict[str, list[str]]:
    """``--also`` as the adapters of each further model, by its name."""
    from if_factory.cli.common import pairs

    return {name: paths.split(",") for name, paths in pairs(also, "--also", "NAME=ADAPTER[,ADAPTER]").items()}


@click.command()
@click.argument("triples", type=click.Path(path_type=Path, dir_okay=False))
@_compared_models
@click.option("--template", help="Render as LLaMA-Factory's template of this name (as in training); default: the "
              "tokenizer's own chat template, as training without `template:` does.")
@click.option("-n", "--items", "most", type=click.IntRange(1), help="At most so many items.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws which constraints are used.")
@click.option("--max-tokens", type=click.IntRange(2), help="Leave out longer items; default: what the model has.")
@click.option("--batch-tokens", type=click.IntRange(1), help="Tokens scored together; less needs less memory.")
@click.option("--float32", is_flag=True, help="Compute in float32 on a GPU too: exact margins, twice the memory.")
@click.option("--preference", is_flag=True, help="Also show every model the response and both instructions, and ask "
              "which it was written for: Suri's p(preference | prompt).")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False))
def rank(triples: Path, model_path: str, adapters: tuple[Path, ...], curriculum: Path | None,
         also: tuple[str, ...], template: str | None, most: int | None, seed: int, max_tokens: int | None,
         batch_tokens: int | None, float32: bool, preference: bool, out: Path) -> None:
    """Suri's ranking accuracy: how often a response is likelier after its own instruction than after a corrupted
    one, before and after training, in five settings.

    TRIPLES is an exported I-ORPO dataset (with its provenance file beside it), or rows with `main`, `constraints`,
    `corrupted` and `response`, or finished triples.
    """
    from if_factory import api

    api.rank(triples, model_path, out, adapters=adapters, curriculum=curriculum, also=_others(also), template=template,
             items=most, seed=seed, max_tokens=max_tokens, batch_tokens=batch_tokens, float32=float32,
             preference=preference,
             watch=lambda label, tokens: click.progressbar(length=tokens, label=f"{label}, tokens"))
    click.echo((out / "ranking.md").read_text(encoding="utf-8"))
    click.echo(f"written: {out}/ranking.md, ranking.json, ranking.jsonl")


@click.command("long-form")
@click.argument("triples", type=click.Path(path_type=Path, dir_okay=False))
@_compared_models
@click.option("-n", "--items", "most", type=click.IntRange(1), help="At most so many instructions.")
@click.option("--max-tokens", type=click.IntRange(1), default=8192, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Prompts decoded together.")
@click.option("--tokens", default="auto", show_default=True, help="What lengths are counted in; see `repetition`.")
@click.option("--judge", metavar="ENDPOINT", help="A URL, `embedded` or `embedded:FILE.gguf`: says yes, partly or no "
              "of each constraint; without one only length and repetition are measured.")
@click.option("--judge-model", help="The judge's name there; default its first.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True, help="Holds the judge's key.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False))
def long_form(triples: Path, model_path: str, adapters: tuple[Path, ...], curriculum: Path | None,
              also: tuple[str, ...], most: int | None, max_tokens: int, batch: int, tokens: str,
              judge: str | None, judge_model: str | None, api_key_env: str, out: Path) -> None:
    """Long answers to Suri's instructions, before and after training: their length, how often they repeat
    themselves, and how many constraints a judge finds them to keep to (yes, partly, no).

    TRIPLES is what `rank` takes.
    """
    from if_factory import api

    found = api.long_form(triples, model_path, out, adapters=adapters, curriculum=curriculum, also=_others(also),
                          items=most, max_tokens=max_tokens, batch=batch, tokens=tokens, judge=judge,
                          judge_model=judge_model, api_key_env=api_key_env)
    click.echo(found.markdown())
    click.echo(f"written: {out}/long_form.md, long_form.json, responses.jsonl, long_form.log")


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
    from if_factory import api

    report = api.repetition(generations, column=column, tokens=choice, out=out)
    click.echo(report.as_json() if as_json else report.markdown(), nl=False)


@click.command()
@click.argument("points", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--base", type=click.Choice(["e", "2", "10"]), default="e", show_default=True,
              help="Logarithm of the fit: alpha is per factor of this.")
@click.option("--label", default="score (%)", show_default=True, help="What the score is, for the plot.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False))
def scaling(points: Path, base: Any, label: str, out: Path) -> None:
    """Fit score = alpha log N + C to runs at several N: rows {n, score, series}."""
    from if_factory import api
    from if_factory.evaluation.scaling import markdown

    click.echo(markdown(api.scaling(points, out, base=base, label=label)))


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--constraints", type=click.Path(path_type=Path, dir_okay=False),
              help="Where the constraints of DATASET's prompts are, if not in it: rows joined by prompt.")
@click.option("--loose", is_flag=True, help="IFEval's loose reading of every answer.")
@click.option("--ifeval-compat", is_flag=True, help="Decide as the reference checkers do where they err.")
@click.option("--useful", is_flag=True, help="Also say how many answers attempt their request, and why the others not.")
@click.option("--relevance", default="auto", show_default=True,
              help="With --useful: `auto`, `off`, or a sentence-transformers model.")
@click.option("--examples", type=click.IntRange(0), default=5, show_default=True, help="Failures to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--fail-under", type=click.FloatRange(0, 1), help="Exit with 1 if a smaller share of rows holds.")
@plugin_option
@engine_options("blocks of rows")
def audit(dataset: Path, constraints: Path | None, loose: bool, ifeval_compat: bool, useful: bool, relevance: str,
          examples: int, as_json: bool, fail_under: float | None, **where: Any) -> None:
    """Re-check any dataset's answers against its own constraints."""
    from if_factory import api
    from if_factory.evaluation.audit_report import print_report, to_json

    report = api.audit(dataset, constraints=constraints, mode="loose" if loose else "strict",
                       ifeval_compat=ifeval_compat, useful=useful, relevance=relevance, **where)
    if as_json:
        click.echo(to_json(report))
    else:
        print_report(report, examples=examples)
    raise SystemExit(report.exit_status(fail_under))


COMMANDS = (evaluate, rank, long_form, repetition, scaling, audit)
