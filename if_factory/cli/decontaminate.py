"""Commands about contamination: how near a dataset's prompts are to a benchmark's, and a copy without those."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from if_factory.cli.common import engine_options

if TYPE_CHECKING:
    from if_factory.api import Contamination

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def comparing(f: Any) -> Any:
    """The arguments of both commands: what is compared, and how."""
    for option in reversed((
            click.argument("dataset", type=FILE),
            click.option("--against", multiple=True, required=True, type=FILE,
                         help="A benchmark's prompts (.jsonl or .json); repeat it for several."),
            click.option("--cosine", type=click.FloatRange(0, 1), default=0.8, show_default=True,
                         help="Similarity from which a prompt counts as contaminated."),
            click.option("--ngram", type=click.IntRange(2), default=13, show_default=True,
                         help="Words in a row that a prompt may not share with a benchmark."),
            click.option("--embed", metavar="MODEL",
                         help="A sentence-transformers model; without one wording is compared, not meaning."),
            click.option("--judge", metavar="URL", help="Ask this endpoint (a URL, `embedded`, or "
                         "`embedded:/path/to.gguf`): are the nearest pairs rephrased?"),
            click.option("--judge-model", metavar="NAME", help="Model name there; default the first it serves."),
            click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True),
            click.option("--top", type=click.IntRange(1), default=1, show_default=True,
                         help="Nearest training prompts the judge sees per benchmark prompt."),
            click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
                         help="Folder for what is written."),
            engine_options("blocks of prompts"))):
        f = option(f)
    return f


@click.command()
@comparing
def contamination(dataset: Path, out: Path, cosine: float, ngram: int, **how: Any) -> None:
    """Compare the prompts of DATASET with benchmarks: table, histogram, and the nearest pairs."""
    from if_factory import api

    _show(dataset, api.contamination(dataset, out, cosine=cosine, ngram=ngram, **how), cosine, ngram)


@click.command()
@comparing
def decontaminate(dataset: Path, out: Path, cosine: float, ngram: int, **how: Any) -> None:
    """Write DATASET to the folder --out without its contaminated rows; those go to a file with their reasons."""
    from if_factory import api

    done = api.decontaminate(dataset, out, cosine=cosine, ngram=ngram, **how)
    _show(dataset, done.found, cosine, ngram)
    dropped = len(done.reasons)
    click.echo(f"{done.rows} rows in, {done.rows - dropped} kept, {dropped} dropped" + "".join(
        f"; {why} {n}" for why, n in sorted(done.counts.items())))


def _show(dataset: Path, found: Contamination, cosine: float, ngram: int) -> None:
    from if_factory.cli.show import show_contamination

    show_contamination(dataset.name, found, cosine=cosine, ngram=ngram)
    if found.histogram is None:
        click.echo("no histogram: it needs matplotlib (pip install 'if-factory[eval]')", err=True)


COMMANDS = (contamination, decontaminate)
