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
    import shlex
    from typing import cast

    from if_factory.cli.common import has_gpu, stage_overrides
    from if_factory.errors import UserError
    from if_factory.loops.humpback import markdown, run
    from if_factory.loops.rounds import Trainer
    from if_factory.methods.humpback.options import Options
    from if_factory.pipeline.progress import Progress
    from if_factory.recipe import load

    loaded = load(recipe)
    if loaded.method != "humpback":
        raise UserError(f"this recipe is of the method '{loaded.method}'", where=str(recipe),
                        fix="start from `if-factory init humpback`")
    loaded.limit = limit or loaded.limit
    keys: dict[str, Any] = stage_overrides(settings, ("sft",), loaded.definition.training)["sft"]
    trainer = Trainer(model, out, template, seed=loaded.seed, cpu=not has_gpu(), settings=keys, say=click.echo)
    done = asyncio.run(run(loaded, trainer, iterations=iterations, labelled=labelled, batch=batch,
                           observer=Progress()))
    click.echo(markdown(done.curations))
    last = done.adapters[f"m{iterations}"]
    command = ["if-factory", "evaluate", "--model", model, "--adapter", str(last),
               "--system", cast(Options, loaded.method_options()).system_asked, "-o", f"{out}/evaluation"]
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
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any LLaMA-Factory key.")
def humpback_sizes(recipe: Path, model: str, template: str | None, out: Path, sizes: str, iteration: int,
                   suite: str, prompts: int | None, base: Any, limit: int | None, batch: int, max_tokens: int,
                   settings: tuple[str, ...]) -> None:
    """Quality against quantity: train on N rows with and without curation, for several N, and fit both arms.

    The score is the win rate against the base model where the recipe names a judge, else the pass rate.
    """
    from typing import cast

    from if_factory.api import open_models, seeds_of
    from if_factory.chat.budget import Budget, Usage
    from if_factory.chat.log import ResponseLog
    from if_factory.chat.transformers_local import TransformersBackend
    from if_factory.cli.common import has_gpu, stage_overrides
    from if_factory.evaluation.suites import suite as build
    from if_factory.loops.rounds import Trainer
    from if_factory.loops.sizes import compare, read_rated
    from if_factory.methods.humpback.options import Options
    from if_factory.recipe import load

    loaded = load(recipe)
    loaded.limit = limit or loaded.limit
    try:
        numbers = [int(n) for n in sizes.split(",")]
    except ValueError:
        raise click.BadParameter("expected numbers with commas between them", param_hint="--sizes") from None
    keys: dict[str, Any] = stage_overrides(settings, ("sft",), loaded.definition.training)["sft"]
    trainer = Trainer(model, out / "sizes", template, seed=loaded.seed, cpu=not has_gpu(), settings=keys,
                      say=click.echo)
    pairs = list({r.id: r for r in seeds_of(loaded) if r.extra["form"] == "seed"}.values())
    log = ResponseLog(out / "sizes" / "responses.jsonl")

    async def go() -> dict[str, Any]:
        async with open_models(loaded, log, Usage(), Budget(**loaded.budget.model_dump())) as given:
            return await compare(trainer, pairs, read_rated(out, iteration),
                                 cast(Options, loaded.method_options()), numbers, build(suite, prompts),
                                 lambda adapters: TransformersBackend(model, adapters, batch_size=batch), log,
                                 judge=given.get("judge"), max_tokens=max_tokens)

    try:
        points = asyncio.run(go())
    finally:
        log.close()
    label = "win rate against the base model (%)" if "judge" in loaded.models else "prompts passed, strict (%)"
    _fit_and_draw(points, out=out / "sizes", base=base, label=label)


@click.command()
@click.argument("points", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--base", type=click.Choice(["e", "2", "10"]), default="e", show_default=True,
              help="Logarithm of the fit: alpha is per factor of this.")
@click.option("--label", default="score (%)", show_default=True, help="What the score is, for the plot.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False))
def scaling(points: Path, base: Any, label: str, out: Path) -> None:
    """Fit score = alpha log N + C to runs at several N: rows {n, score, series}."""
    from if_factory.evaluation.scaling import read_points

    _fit_and_draw(read_points(points), out=out, base=base, label=label)


def _fit_and_draw(series: dict[str, Any], *, out: Path, base: Any, label: str) -> None:
    from dataclasses import asdict
    from importlib.util import find_spec

    from if_factory.evaluation.scaling import fit, markdown
    from if_factory.files import dump_json, write_atomic, write_jsonl

    fits = {name: fit(points, base) for name, points in series.items()}
    write_jsonl(out / "points.jsonl", [{"series": name, "n": n, "score": round(score, 4)}
                                       for name, points in series.items() for n, score in points])
    plain = {name: {k: None if v != v else v for k, v in asdict(f).items()} for name, f in fits.items()}
    write_atomic(out / "scaling.json", dump_json(plain, indent=1) + "\n")
    write_atomic(out / "scaling.md", markdown(fits))
    if find_spec("matplotlib"):
        from if_factory.report.plots import save
        from if_factory.report.plots import scaling as draw

        save(draw(series, fits, label), out / "scaling.png")
    click.echo(markdown(fits))


COMMANDS = (humpback, humpback_sizes, scaling)
