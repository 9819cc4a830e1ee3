"""Commands around training: model, serve, doctor, curriculum, train."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import click

from if_factory.cli.common import has_gpu, stage_overrides


@click.command()
@click.option("--to", "out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the Hugging Face model.")
@click.option("--gguf", type=click.Path(path_type=Path, dir_okay=False),
              help="A GGUF file; default: the embedded model's.")
def model(out: Path, gguf: Path | None) -> None:
    """Write the embedded model (or any Llama GGUF) as a Hugging Face folder, ready for training."""
    from if_factory.embedded_model.fetch import fetch_embedded
    from if_factory.embedded_model.gguf_to_hf import convert

    convert(gguf or fetch_embedded(), out)
    click.echo(f"{out}: model_name_or_path for LLaMA-Factory; leave `template` out, it uses the model's own")


@click.command()
@click.option("--gguf", type=click.Path(path_type=Path, dir_okay=False), help="Default: the embedded model.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--parallel", type=click.IntRange(1), default=16, show_default=True, help="Slots decoded together.")
@click.option("--context", type=click.IntRange(64), default=2048, show_default=True, help="Tokens per request.")
@click.option("--threads", type=click.IntRange(1),
              help="CPU threads; default the cores that other work leaves free.")
def serve(gguf: Path | None, port: int, parallel: int, context: int, threads: int | None) -> None:
    """Serve the embedded model on 127.0.0.1 as an OpenAI-compatible endpoint, until Ctrl-C."""
    from if_factory.chat.embedded import EmbeddedServer

    with EmbeddedServer(gguf, port=port, parallel=parallel, context=context, threads=threads) as server:
        click.echo(f"{server.base_url}  model {server.model_name}")
        server.watch()


@click.command()
def doctor() -> None:
    """Say in one sentence each what is wrong with this environment, and the fix."""
    from if_factory.training.doctor import check_environment

    findings = check_environment()
    for finding in findings:
        click.echo(str(finding))
    if any(f.level == "error" for f in findings):
        raise SystemExit(1)


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", "model_path", required=True, help="model_name_or_path: a hub name or a folder.")
@click.option("--template", help="LLaMA-Factory template; leave out to use the tokenizer's own chat template.")
@click.option("--dataset-dir", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="The folder `export` wrote into.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the YAML files.")
@click.option("--saves", default="saves", show_default=True, help="Where the adapters go.")
@click.option("--stages", help="Datasets in training order, e.g. sft,dpo or sft,iorpo; default: all exported SFT, "
              "then I-ORPO, DPO.")
@click.option("--bins", metavar="N | 1-3,4-5", help="As given to `export`.")
@click.option("--keep-order", is_flag=True, help="Train the rows of a stage in the order of the file; bins by "
              "difficulty go from easy to hard.")
@click.option("--set", "settings", multiple=True, metavar="[STAGE.]KEY=VALUE",
              help="Any LLaMA-Factory key, for every stage or one kind: dpo.learning_rate=5e-6.")
def curriculum(run_folder: Path, model_path: str, template: str | None, dataset_dir: Path, out: Path, saves: str,
               stages: str | None, bins: str | None, keep_order: bool, settings: tuple[str, ...]) -> None:
    """Write one LLaMA-Factory YAML per stage, easy to hard, with adapters chained, and one to merge them."""
    from if_factory.errors import UserError
    from if_factory.export.dataset_info import FILE_NAME, read_entries
    from if_factory.recipe import load
    from if_factory.training.curriculum import CurriculumOptions, bin_names, read_bins, write_curriculum

    recipe = load(run_folder / "recipe.yaml")
    entries = read_entries(dataset_dir / FILE_NAME)
    wanted = tuple(stages.split(",")) if stages else _exported(recipe.name, entries, recipe.definition.apart)
    cut = read_bins(bins) if bins else recipe.definition.bins(recipe.method_options())
    cut = 2 if cut is None else cut
    number = cut if isinstance(cut, int) else len(cut) + 1
    datasets = {(stage, label): f"{recipe.name}_{stage}" + (f"_{label}" if number > 1 else "")
                for stage in wanted for label in bin_names(number)}
    for (stage, label), name in list(datasets.items()):
        if name not in entries and not isinstance(cut, int):  # there may be no row as hard, or as easy
            del datasets[stage, label]
        elif name not in entries:
            uncut = f"{recipe.name}_{stage}" in entries  # too few rows for bins, or exported without
            whole = "give `--bins 1`" if uncut else f"leave '{stage}' out of --stages"
            raise UserError(f"no dataset '{name}' for stage {stage} '{label}'", where=str(dataset_dir / FILE_NAME),
                            fix=f"run `if-factory export {run_folder} --into {dataset_dir} --bins {number}`, "
                            f"or {whole}")
    replay = f"{recipe.name}_replay"
    options = CurriculumOptions(
        model=model_path, template=template, name=recipe.name, bins=number, stages=wanted,
        replay=(replay,) if replay in entries else (), output_root=saves, dataset_dir=str(dataset_dir),
        seed=recipe.seed, cpu=not has_gpu(), disable_shuffling=keep_order,
        stage_overrides=stage_overrides(settings, wanted, recipe.definition.training))
    for path in write_curriculum(options, datasets, out):
        click.echo(path)
    click.echo(f"next: if-factory train {out}")


def _exported(name: str, entries: Mapping[str, object], apart: Collection[str]) -> tuple[str, ...]:
    """The run's datasets, not their bins, that a curriculum trains when none are named: SFT first, never KTO."""
    from if_factory.errors import UserError

    own = [e.removeprefix(f"{name}_") for e in entries if e.startswith(f"{name}_")]
    whole = [d for d in own if not re.search(r"_(easy|hard|\d+)$", d) and d not in apart]
    found = tuple(d for kind in ("sft", "iorpo", "dpo") for d in sorted(whole) if d.partition("_")[0] == kind)
    if not found:
        raise UserError(f"no dataset of '{name}' to train", where="--stages", fix="run `if-factory export` first")
    return found


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
def train(path: Path, overrides: tuple[str, ...]) -> None:
    """Train one YAML, or a folder of stages in order; `stage: iorpo` needs no start-up hook here.

    A FILE is run as `llamafactory-cli train FILE KEY=VALUE...` would. In a FOLDER finished stages are skipped.
    """
    from if_factory.errors import UserError
    from if_factory.iorpo import launcher

    if path.is_file():
        launcher.train_file(path, overrides)
        return
    from if_factory.training.run import run_curriculum, stages_in

    if overrides:
        raise UserError("keys are overridden for one YAML only, not for a folder", where=" ".join(overrides),
                        fix=f"name the YAML: if-factory train {path}/STAGE.yaml {' '.join(overrides)}")
    stages = stages_in(path)
    run_curriculum(stages, cli=launcher.COMMAND if any(_is_iorpo(stage) for stage in stages) else ())


def _is_iorpo(path: Path) -> bool:
    import yaml

    from if_factory.files import read_text

    return bool(yaml.safe_load(read_text(path)).get("stage") == "iorpo")


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the tokenised triples and the YAML.")
def tokenize(path: Path, out: Path) -> None:
    """Write the triples of an I-ORPO YAML tokenised, with a YAML that stock LLaMA-Factory trains them by."""
    from if_factory.iorpo.tokenized import tokenize

    click.echo(f"next: llamafactory-cli train {tokenize(path, out)}")


COMMANDS = (curriculum, train, tokenize, model, serve, doctor)
