"""Commands that run Humpback's loop: humpback, humpback-sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

PAPER_STEPS = click.option("--paper-steps", is_flag=True, help="Steps and batch by the number of rows, as the paper "
                           "lists them; --set max_steps=... wins.")


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
@click.option("--endpoint", "endpoints", multiple=True, metavar="MODEL=URL",
              help="This server serves the model `backward`, `m0`, `m1`... (or 1, 2...: the one that rates in that "
              "round), merged; the command stops before a model without one. Default: in this process.")
@PAPER_STEPS
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any LLaMA-Factory key.")
def humpback(recipe: Path, model: str, template: str | None, out: Path, iterations: int, labelled: Path | None,
             limit: int | None, batch: int, endpoints: tuple[str, ...], paper_steps: bool,
             settings: tuple[str, ...]) -> None:
    """Humpback's loop: train a backward model, write instructions, rate, train forward, and again.

    Safe to kill: the same command goes on where it was.
    """
    import shlex

    from if_factory.cli import common
    from if_factory.loops import start
    from if_factory.loops.humpback import markdown
    from if_factory.pipeline.progress import Progress

    urls = {f"m{int(name) - 1}" if name.isdecimal() else name: url
            for name, url in common.pairs(endpoints, "--endpoint", "MODEL=URL").items()}
    report = start.humpback(recipe, model=model, out=out, template=template, iterations=iterations,
                            labelled=labelled, limit=limit, batch=batch, settings=common.settings(settings),
                            observer=Progress(), endpoints=urls, paper_steps=paper_steps, say=click.echo)
    click.echo(markdown(report.done.curations))
    if report.last is None:
        return
    command = ["if-factory", "evaluate", "--model", model, "--adapter", str(report.last),
               "--system", report.system, "-o", f"{out}/evaluation"]
    click.echo(f"next: {shlex.join(command)}")


@click.command("humpback-sizes")
@click.argument("recipe", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--model", required=True, help="The base model, as given to `humpback`.")
@click.option("--template", help="As given to `humpback`.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="The folder of a finished `humpback`.")
@click.option("--sizes", required=True, metavar="N,N,...", help="Mined rows to train on, e.g. 100,200,400.")
@click.option("--iteration", type=click.IntRange(1), default=1, show_default=True, help="Whose ratings to use.")
@click.option("--suite", default="held_out", show_default=True, help="As for `evaluate`.")
@click.option("-n", "--prompts", type=click.IntRange(1), help="At most so many prompts.")
@click.option("--base", type=click.Choice(["e", "2", "10"]), default="e", show_default=True,
              help="Logarithm of the fit: alpha is per factor of this.")
@click.option("--limit", type=click.IntRange(1), help="As given to `humpback`.")
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1), default=256, show_default=True)
@click.option("--arms", default="curated,uncurated", show_default=True, metavar="NAME,NAME,...",
              help="What is compared: curated, uncurated, a5, a4, augmented_only, seed_only, asked_as_seed, "
              "asked_without, no_system_prompt; or quality, complementary, system_prompts: tables of the paper.")
@PAPER_STEPS
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any LLaMA-Factory key.")
def humpback_sizes(recipe: Path, model: str, template: str | None, out: Path, sizes: str, iteration: int,
                   suite: str, prompts: int | None, base: Any, limit: int | None, batch: int, max_tokens: int,
                   arms: str, paper_steps: bool, settings: tuple[str, ...]) -> None:
    """Quality against quantity: train on N rows with and without curation, for several N, and fit every arm.

    The score is the win rate against the base model where the recipe names a judge, else the pass rate.
    """
    from if_factory.cli import common
    from if_factory.evaluation.scaling import markdown
    from if_factory.loops import start

    try:
        numbers = [int(n) for n in sizes.split(",")]
    except ValueError:
        raise click.BadParameter("expected numbers with commas between them", param_hint="--sizes") from None
    fits = start.humpback_sizes(
        recipe, model=model, out=out, sizes=numbers, template=template, iteration=iteration, suite=suite,
        prompts=prompts, base=base, limit=limit, batch=batch, max_tokens=max_tokens,
        settings=common.settings(settings), arms=arms.split(","), paper_steps=paper_steps, say=click.echo)
    click.echo(markdown(fits))


COMMANDS = (humpback, humpback_sizes)
