"""Commands that make data: init, plan, preview, run, export, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from if_factory.cli.common import difficulty_options, engine_options

if TYPE_CHECKING:
    from if_factory.recipe import Recipe

RECIPE = click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
OUT = click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False),
                   help="Run folder; default runs/<name of the recipe's file>.")


def overrides(f: Any) -> Any:
    """The recipe values people change from the command line."""
    f = click.option("--limit", type=click.IntRange(1), help="Only the first so many seeds.")(f)
    f = click.option("--endpoint", "endpoints", multiple=True, metavar="ROLE=URL",
                     help="Endpoint of any role, e.g. judge=http://localhost:8000/v1.")(f)
    f = click.option("--teacher", metavar="URL", help="Endpoint of the teacher.")(f)
    return click.option("--student", metavar="URL", help="Endpoint of the student.")(f)


def _load(path: Path, *, student: str | None, teacher: str | None, endpoints: tuple[str, ...],
          limit: int | None, shard: str | None = None) -> Recipe:
    from if_factory import api
    from if_factory.cli.common import pairs

    given = {role: url for role, url in (("student", student), ("teacher", teacher)) if url}
    return api.load_recipe(path, endpoints={**given, **pairs(endpoints, "--endpoint", "ROLE=URL")}, limit=limit,
                           shard=shard)


def _folder(recipe_path: Path, out: Path | None) -> Path:
    return out or Path("runs") / recipe_path.stem


@click.command()
@click.argument("method", default="complex_to_simple")
def init(method: str) -> None:
    """Print a commented recipe for METHOD, every default visible."""
    from if_factory import api

    click.echo(api.init(method), nl=False)


@click.command()
@RECIPE
@overrides
@click.option("--tokens-per-second", type=click.FloatRange(min=0, min_open=True), default=95, show_default=True,
              help="Output speed of the endpoint; 95 is the embedded model on 2 CPU cores.")
def plan(recipe: Path, tokens_per_second: float, **given: Any) -> None:
    """Show calls, tokens, minutes and price. Nothing is called."""
    from if_factory import api
    from if_factory.cli.show import show_plan

    loaded = _load(recipe, **given)
    show_plan(api.plan(loaded, tokens_per_second), tokens_per_second)
    for conflict in loaded.preset_conflicts():
        click.echo(f"preset {conflict}")


@click.command()
@RECIPE
@OUT
@overrides
@click.option("-n", "--rows", type=click.IntRange(1), default=3, show_default=True, help="Seeds to try.")
def preview(recipe: Path, out: Path | None, rows: int, **given: Any) -> None:
    """Run a few seeds for real and show the rows. Their answers are logged: `run` does not pay for them again."""
    from if_factory import api
    from if_factory.cli.show import show_records

    tried = api.preview(_load(recipe, **given), _folder(recipe, out), rows=rows)
    show_records(tried.records, tried.emission)


@click.command()
@RECIPE
@OUT
@overrides
@click.option("--shard", metavar="I/N", help="Only every N-th seed from the I-th on; `merge` joins the N runs.")
@click.option("--batch", metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
              help="Ask no model: write what is open as batch files into DIR (see `if-factory batch`).")
@engine_options("the records")
def run(recipe: Path, out: Path | None, shard: str | None, batch: Path | None, engine: Any, ray_address: str | None,
        ray_workers: int | None, **given: Any) -> None:
    """Make the data. Safe to kill: the same command continues, and asks again only what was in flight."""
    from if_factory import api
    from if_factory.cli.show import show_run
    from if_factory.pipeline.progress import Progress

    if engine == "ray" and batch:
        raise click.UsageError("--batch asks no model, so there is nothing to spread over workers: leave out "
                               "--engine ray")
    loaded = _load(recipe, shard=shard, **given)
    folder = out or Path("runs") / "-".join([recipe.stem, *(["shard", *shard.split("/")] if shard else [])])
    report = api.run(loaded, folder, observer=Progress(), batch=batch, engine=engine, ray_address=ray_address,
                     ray_workers=ray_workers)
    show_run(report)
    if not report.complete:
        raise SystemExit(3)


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...",
                type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder of the whole run.")
def merge(runs: tuple[Path, ...], out: Path) -> None:
    """Join the finished shards of a recipe (`run --shard`) into the run that one machine would have made."""
    from if_factory import api
    from if_factory.cli.show import show_run
    from if_factory.pipeline.progress import Progress

    report = api.merge(runs, out, observer=Progress())
    show_run(report)
    if not report.complete:
        raise SystemExit(3)


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--into", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="LLaMA-Factory's data folder (the one with dataset_info.json).")
@click.option("--format", "fmt", type=click.Choice(["alpaca", "sharegpt", "trl", "v1"]), default="alpaca",
              show_default=True, help="trl: for trl's own trainers; v1: for LLaMA-Factory's USE_V1=1, SFT alone.")
@click.option("--bins", metavar="N | 1-3,4-5", help="Also write each kind as datasets from easy to hard, for the "
              "curriculum: N of equal size, or by difficulty; default as the method says, else 2.")
@click.option("--files", default="", metavar="FOLDER",
              help="Put the data files into this folder inside the data folder; default beside dataset_info.json.")
@click.option("--force", is_flag=True, help="Replace entries of the same name in dataset_info.json.")
@click.option("--rl", type=click.Choice(["trl", "verl", "easyr1", "ms-swift", "openrlhf", "open-instruct"]),
              help="Write the prompts instead, with verified rewards, for this trainer and for LLaMA-Factory.")
@click.option("--pass-rate", metavar="LOW-HIGH", help="With --rl: only prompts whose pass rate, where the student's "
              "was measured, lies between these and is neither: 0-1.")
@click.option("--parquet", is_flag=True, help="Write .parquet files, with a dataset card for the Hugging Face hub.")
@click.option("--license", "licence", metavar="ID", help="With --parquet: the licence stated in the card, e.g. "
              "apache-2.0.")
@difficulty_options
@engine_options("the checks of records")
def export(run_folder: Path, into: Path, fmt: Any, bins: str | None, files: str, force: bool, rl: Any,
           pass_rate: str | None, parquet: bool, licence: str | None, difficulty: Any, keep: tuple[str, ...],
           engine: Any, ray_address: str | None, ray_workers: int | None) -> None:
    """Write the verified datasets and merge them into dataset_info.json; every row is checked again."""
    from if_factory import api
    from if_factory.cli.show import show_export, show_rl, show_unfinished
    from if_factory.pipeline.rundir import RunDir

    if licence and not parquet:
        raise click.UsageError("--license goes with --parquet")
    if rl and parquet:
        raise click.UsageError("--rl writes .jsonl files: leave out --parquet")
    if rl and engine == "ray":
        raise click.UsageError("--rl checks no answers: leave out --engine ray")
    if rl:
        show_rl(api.export_rl(run_folder, into, trainer=rl, bins=bins, files=files, force=force,
                              pass_rate=_between(pass_rate), difficulty=difficulty, keep=keep))
        show_unfinished(RunDir(run_folder).ledger())
        return
    if pass_rate:
        raise click.UsageError("--pass-rate goes with --rl")
    report = api.export(run_folder, into, format=fmt, bins=bins, files=files, force=force, difficulty=difficulty,
                        keep=keep, parquet=parquet, license=licence, engine=engine, ray_address=ray_address,
                        ray_workers=ray_workers)
    ledger = RunDir(run_folder).ledger()
    show_export(report, ledger)
    show_unfinished(ledger)


def _between(given: str | None) -> tuple[float, float] | None:
    if given is None:
        return None
    try:
        low, high = map(float, given.split("-"))
    except ValueError:
        raise click.BadParameter(f"'{given}': expected LOW-HIGH, such as 0-1 or 0.1-0.9",
                                 param_hint="--pass-rate") from None
    return low, high


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("names", nargs=-1)
@click.option("--all-problems", is_flag=True, help="Show every row, not the first ten per dataset.")
@click.option("--model", "model_path", metavar="M", help="Count the rows that cutoff_len cuts.")
@click.option("--template", help="LLaMA-Factory template: its tool format, and how tokens are counted.")
@click.option("--cutoff-len", type=click.IntRange(16), help="Tokens; default 2048, I-ORPO 15024.")
@click.option("--allow-cut", is_flag=True, help="End with status 0 although rows are cut.")
@engine_options("the datasets")
def check(folder: Path, names: tuple[str, ...], all_problems: bool, model_path: str | None, template: str | None,
          cutoff_len: int | None, allow_cut: bool, **where: Any) -> None:
    """Say which rows of the datasets NAMES in FOLDER (default: all local ones) LLaMA-Factory would drop."""
    from if_factory import api
    from if_factory.cli.show import rows_read, show_check

    reports = api.check(folder, names, model=model_path, template=template, cutoff_len=cutoff_len, say=rows_read,
                        **where)
    show_check(reports, limit=None if all_problems else 10)
    if allow_cut:
        for report in reports:
            report.cut = False
    if not all(r.ok for r in reports):
        raise SystemExit(1)


COMMANDS = (init, plan, preview, run, merge, export, check)
