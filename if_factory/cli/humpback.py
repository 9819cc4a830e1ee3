"""The command that runs Humpback's rounds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", required=True, help="The base model: a Hugging Face folder or name.")
@click.option("--template", help="LLaMA-Factory template; leave out to use the tokenizer's own chat template.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for everything: data, YAML, adapters, the log, curation.md.")
@click.option("--iterations", type=click.IntRange(1), default=2, show_default=True, help="Rounds of rating.")
@click.option("--labelled", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Rows {prompt, response, label: true|false}: precision and recall of every round's judge.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many texts.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Prompts decoded together.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any LLaMA-Factory key.")
def humpback(recipe: Path, model: str, template: str | None, out: Path, iterations: int, labelled: Path | None,
             limit: int | None, batch: int, settings: tuple[str, ...]) -> None:
    """Humpback's loop: train a backward model, write instructions, rate, train forward, and again.

    Safe to kill: the same command goes on where it was.
    """
    from if_factory.cli.training import _has_gpu, _overrides
    from if_factory.errors import UserError
    from if_factory.loops.humpback import markdown, run
    from if_factory.loops.rounds import Trainer
    from if_factory.pipeline.progress import Progress
    from if_factory.recipe import load

    loaded = load(recipe)
    if loaded.method != "humpback":
        raise UserError(f"this recipe is of the method '{loaded.method}'", where=str(recipe),
                        fix="start from `if-factory init humpback`")
    loaded.limit = limit or loaded.limit
    keys: dict[str, Any] = _overrides(settings, ("sft",), loaded.definition.training)["sft"]
    trainer = Trainer(model, out, template, seed=loaded.seed, cpu=not _has_gpu(), settings=keys, say=click.echo)
    done = asyncio.run(run(loaded, trainer, iterations=iterations, labelled=labelled, batch=batch,
                           observer=Progress()))
    click.echo(markdown(done.curations))
    last = done.adapters[f"m{iterations}"]
    click.echo(f"next: if-factory evaluate --model {model} --adapter {last} -o {out}/evaluation")


COMMANDS = (humpback,)
