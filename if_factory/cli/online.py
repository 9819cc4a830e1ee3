"""Online DPO from the command line: sample, check, pair, train, again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command()
@click.argument("run_folder", metavar="RUN", type=FOLDER)
@click.option("--model", "model_path", required=True, help="The base model: a Hugging Face folder or name.")
@click.option("--adapter", "adapters", multiple=True, type=FOLDER,
              help="What was trained before, such as the SFT stages; repeat it, in order.")
@click.option("--curriculum", type=FOLDER,
              help="Instead of --adapter: a folder of YAML files; takes the adapters its export YAML merges.")
@click.option("--template", help="LLaMA-Factory template; leave out to use the tokenizer's own chat template.")
@click.option("--iterations", type=click.IntRange(1), default=3, show_default=True)
@click.option("-n", "--prompts", type=click.IntRange(1), default=256, show_default=True, help="Per iteration.")
@click.option("--samples", type=click.IntRange(2), default=8, show_default=True, help="Answers per prompt.")
@click.option("--temperature", type=click.FloatRange(0, 2, min_open=True), default=0.8, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1), default=512, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Prompts decoded together.")
@click.option("--all-pairs", is_flag=True, help="Every good with every bad answer, not two of each at most.")
@click.option("--reference", type=click.Choice(["previous", "start"]), default="previous", show_default=True,
              help="What an iteration is compared with: the model it starts from, or that of the beginning.")
@click.option("--endpoint", "endpoints", multiple=True, metavar="N=URL",
              help="Sample iteration N from this server, which serves the model as it is then; the command stops "
              "before an iteration without one.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any LLaMA-Factory key.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for answers, data, YAML files and adapters.")
def online(run_folder: Path, model_path: str, adapters: tuple[Path, ...], curriculum: Path | None,
           template: str | None, iterations: int, prompts: int, samples: int, temperature: float, max_tokens: int,
           batch: int, all_pairs: bool, reference: Any, endpoints: tuple[str, ...], settings: tuple[str, ...],
           out: Path) -> None:
    """Online DPO: the model answers RUN's prompts, answers are checked, and it learns from them; several times.

    Safe to kill: the same command continues. Prompts come from any run whose constraints code can decide.
    """
    from if_factory.cli import common
    from if_factory.loops import start

    urls = {_number(n): url for n, url in common.pairs(endpoints, "--endpoint", "N=URL").items()}
    done = start.online(
        run_folder, model=model_path, out=out, adapters=adapters, curriculum=curriculum, template=template,
        iterations=iterations, prompts=prompts, samples=samples, temperature=temperature, max_tokens=max_tokens,
        batch=batch, all_pairs=all_pairs, reference=reference, endpoints=urls,
        settings=common.settings(settings), say=click.echo)
    for each in done:
        click.echo(f"iteration {each.number}: {each.pass_rate:.1%} of {each.answers} answers to {each.prompts} "
                   f"prompts pass, {each.pairs} pairs, loss {each.losses[0]:.3f} -> {each.losses[-1]:.3f}")
    if done:
        click.echo(f"next: if-factory evaluate --model {model_path} --curriculum {out}/yaml --like {run_folder}")


def _number(given: str) -> int:
    if not given.isdecimal():
        raise click.BadParameter("expected N=URL", param_hint="--endpoint")
    return int(given)


COMMANDS = (online,)
