"""Commands that make data: init, plan, preview, run, export, check."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from if_factory.export.formats import Written
    from if_factory.methods.base import Emission
    from if_factory.recipe import Recipe
    from if_factory.records import Example, Record

RECIPE = click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
OUT = click.option("-o", "--out", type=click.Path(path_type=Path, file_okay=False),
                   help="Run folder; default runs/<name of the recipe>.")


def overrides(f: Any) -> Any:
    """The recipe values people change from the command line."""
    f = click.option("--limit", type=click.IntRange(1), help="Only the first so many seeds.")(f)
    f = click.option("--endpoint", "endpoints", multiple=True, metavar="ROLE=URL",
                     help="Endpoint of any role, e.g. judge=http://localhost:8000/v1.")(f)
    f = click.option("--teacher", metavar="URL", help="Endpoint of the teacher.")(f)
    return click.option("--student", metavar="URL", help="Endpoint of the student.")(f)


def _load(path: Path, *, student: str | None = None, teacher: str | None = None, endpoints: tuple[str, ...] = (),
          limit: int | None = None) -> Recipe:
    from if_factory.recipe import load

    given = {role: url for role, url in (("student", student), ("teacher", teacher)) if url}
    for each in endpoints:
        role, equals, url = each.partition("=")
        if not (role and equals and url):
            raise click.BadParameter("expected ROLE=URL", param_hint="--endpoint")
        given[role] = url
    recipe = load(path, endpoints=given)
    if limit:
        recipe.limit = limit
    return recipe


def _folder(recipe_path: Path, out: Path | None) -> Path:
    return out or Path("runs") / recipe_path.stem


@click.command()
@click.argument("method", default="complex_to_simple")
def init(method: str) -> None:
    """Print a commented recipe for METHOD, every default visible."""
    from if_factory.recipe import commented

    click.echo(commented(method), nl=False)


@click.command()
@RECIPE
@overrides
@click.option("--tokens-per-second", type=click.FloatRange(min=0, min_open=True), default=95, show_default=True,
              help="Output speed of the endpoint; 95 is the embedded model on 2 CPU cores.")
def plan(recipe: Path, tokens_per_second: float, **given: Any) -> None:
    """Show calls, tokens, minutes and price. Nothing is called."""
    from rich.console import Console
    from rich.table import Table

    from if_factory import api as factory

    planned = factory.plan(_load(recipe, **given), tokens_per_second)
    table = Table("stage", "role", "requests", "prompt tokens", "completion tokens",
                  title=f"{planned.seeds} seeds", title_justify="left")
    for c in planned.calls:
        span = [f"{c.low:,}" if c.low == c.high else f"{c.low:,} - {c.high:,}"]
        for each in (c.prompt_tokens, c.completion_tokens):
            span.append(f"{c.low * each:,}" if c.low == c.high else f"{c.low * each:,} - {c.high * each:,}")
        table.add_row(c.stage, c.role, *span)
    console = Console()
    console.print(table)
    low, high = planned.minutes
    console.print(f"time   {low:.0f} - {high:.0f} min at {tokens_per_second:g} output tokens/s")
    if planned.unbounded:
        console.print(f"bound  none: {', '.join(planned.unbounded)} without max_tokens, so an answer may be as "
                      "long as the server allows; the figures take its usual length")
    else:
        console.print(f"bound  {planned.most_tokens:,} completion tokens, every answer at its max_tokens")
    console.print("price  unknown (a model has no `price`)" if planned.usd is None
                  else f"price  {planned.usd[0]:.2f} - {planned.usd[1]:.2f} USD")


@click.command()
@RECIPE
@OUT
@overrides
@click.option("-n", "--rows", type=click.IntRange(1), default=3, show_default=True, help="Seeds to try.")
def preview(recipe: Path, out: Path | None, rows: int, **given: Any) -> None:
    """Run a few seeds for real and show the rows. Their answers are logged: `run` does not pay for them again."""
    from if_factory import api as factory
    from if_factory.cli.show import show_records
    from if_factory.pipeline.rundir import RunDir

    loaded = _load(recipe, **given)
    with RunDir(_folder(recipe, out)) as folder:
        result, _ = asyncio.run(factory.run(loaded, folder.log, limit=rows))
    show_records(result.records, factory.emit(loaded, result.records))


@click.command()
@RECIPE
@OUT
@overrides
def run(recipe: Path, out: Path | None, **given: Any) -> None:
    """Make the data. Safe to kill: the same command continues, and asks again only what was in flight."""
    from if_factory import api as factory
    from if_factory.cli.show import show_run
    from if_factory.constraints.generated import isolation_used
    from if_factory.pipeline.progress import Progress
    from if_factory.pipeline.rundir import RunDir

    loaded = _load(recipe, **given)
    with RunDir(_folder(recipe, out)) as folder:
        folder.claim(loaded.resolved())
        result, usage = asyncio.run(factory.run(loaded, folder.log, observer=Progress()))
        emission = factory.emit(loaded, result.records, keep=False)
        sandbox = isolation_used()
        folder.write(result, usage, emission.counts(), sandbox=sandbox)
    show_run(folder.path, result, usage, emission)
    if sandbox:
        click.echo(f"generated code was isolated by {sandbox}")
    if not result.complete:
        raise SystemExit(3)


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--into", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="LLaMA-Factory's data folder (the one with dataset_info.json).")
@click.option("--format", "fmt", type=click.Choice(["alpaca", "sharegpt"]), default="alpaca", show_default=True)
@click.option("--bins", metavar="N | 1-3,4-5", help="Also write each kind as datasets from easy to hard, for the "
              "curriculum: N of equal size, or by difficulty; default as the method says, else 2.")
@click.option("--files", default="", metavar="FOLDER",
              help="Put the data files into this folder inside the data folder; default beside dataset_info.json.")
@click.option("--force", is_flag=True, help="Replace entries of the same name in dataset_info.json.")
def export(run_folder: Path, into: Path, fmt: str, bins: str | None, files: str, force: bool) -> None:
    """Write the verified datasets and merge them into dataset_info.json; every row is checked again."""
    from if_factory import api as factory
    from if_factory.cli.show import show_export
    from if_factory.export.dataset_info import FILE_NAME, merge_entries

    recipe, records = _finished(run_folder)
    emission = factory.emit(recipe, records)
    written = list(_write_all(recipe, emission, into / files, fmt, bins))
    entries = {w.name: {**w.entry, "file_name": (Path(files) / w.path.name).as_posix()} for w in written}
    report = merge_entries(into / FILE_NAME, entries, force=force)
    show_export(written, emission, report)


def _finished(run_folder: Path) -> tuple[Recipe, list[Record]]:
    from if_factory.pipeline.rundir import RunDir
    from if_factory.recipe import parse

    folder = RunDir(run_folder)
    return parse(folder.recipe(), where=f"{run_folder}/recipe.yaml"), folder.records()


def _write_all(recipe: Recipe, emission: Emission, into: Path, fmt: Any, bins: str | None) -> Iterator[Written]:
    from if_factory.api import replay_rows
    from if_factory.export.formats import write_dataset, write_replay
    from if_factory.training.curriculum import bin_names

    for kind, examples in sorted(emission.datasets.items()):
        yield write_dataset(f"{recipe.name}_{kind}", examples, into, fmt)
        parts = _bins(recipe, examples, bins)
        for label, part in zip(bin_names(len(parts)), parts, strict=True) if len(parts) > 1 else ():
            if part:
                yield write_dataset(f"{recipe.name}_{kind}_{label}", part, into, fmt)
    if rows := replay_rows(recipe):
        yield write_replay(f"{recipe.name}_replay", rows, into)


def _bins(recipe: Recipe, examples: list[Example], bins: str | None) -> list[list[Example]]:
    """Easy to hard: as asked for, or as the method cuts; too few rows for two equal shares stay together."""
    from if_factory.training.curriculum import cut_bins, read_bins, split_bins

    wanted = read_bins(bins) if bins else recipe.definition.bins(recipe.method_options())
    if isinstance(wanted, int):
        return split_bins(examples, wanted)
    return split_bins(examples, min(2, len(examples))) if wanted is None else cut_bins(examples, wanted)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("names", nargs=-1)
@click.option("--all-problems", is_flag=True, help="Show every row, not the first ten per dataset.")
def check(folder: Path, names: tuple[str, ...], all_problems: bool) -> None:
    """Say which rows of the datasets NAMES in FOLDER (default: all local ones) LLaMA-Factory would drop."""
    from if_factory.cli.show import show_check
    from if_factory.export.acceptance import check_dataset, local_names

    reports = [check_dataset(folder, name) for name in names or local_names(folder)]
    show_check(reports, limit=None if all_problems else 10)
    if not all(r.ok for r in reports):
        raise SystemExit(1)


COMMANDS = (init, plan, preview, run, export, check)
