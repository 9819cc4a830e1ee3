"""Commands around training: model, serve, vllm-env, doctor, curriculum, train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from if_factory.cli.common import difficulty_options


@click.command()
@click.option("--to", "out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the Hugging Face model.")
@click.option("--gguf", type=click.Path(path_type=Path, dir_okay=False),
              help="A GGUF file; default: the embedded model's.")
def model(out: Path, gguf: Path | None) -> None:
    """Write the embedded model (or any Llama GGUF) as a Hugging Face folder, ready for training."""
    from if_factory import api

    api.write_model(out, gguf)
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


@click.command("vllm-env")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False),
              help="A new folder; default: where `endpoint: vllm:MODEL` looks.")
@click.option("--cpu/--gpu", default=None, help="Which build; default: GPU where there is an NVIDIA GPU.")
def vllm_env(folder: Path | None, cpu: bool | None) -> None:
    """Make vLLM's own environment, for `endpoint: vllm:MODEL`: vLLM cannot share LLaMA-Factory's."""
    from if_factory import api

    found = api.vllm_env(folder, cpu=cpu, say=lambda line: click.echo(line, err=True))
    click.echo(f"vLLM {found.version}{' (CPU)' if found.cpu else ''}: {found.python}")
    if folder:
        click.echo(f"export IF_FACTORY_VLLM_PYTHON={found.python}")


@click.command()
def doctor() -> None:
    """Say in one sentence each what is wrong with this environment, and the fix."""
    from if_factory import api

    findings = api.doctor()
    for finding in findings:
        click.echo(str(finding))
    if any(f.level == "error" for f in findings):
        raise SystemExit(1)


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--student", metavar="URL", help="The model's server; default the recipe's student.")
@click.option("--model", "model_path", help="Instead: a hub name or a folder, loaded into this process.")
@click.option("--adapter", "adapters", multiple=True, type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="With --model: what was trained already; repeat it, in order.")
@click.option("-k", "k", type=click.IntRange(1), default=8, show_default=True, help="Answers per prompt.")
@click.option("--judge", metavar="URL", help="Decides constraints that no code can; without it prompts that have only "
              "such ones are not measured.")
@click.option("--name", help="The model's name at --student; default its first.")
@click.option("--judge-name", help="The judge's name at --judge; default its first.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True)
@click.option("--temperature", type=click.FloatRange(0, 2), default=0.8, show_default=True)
@click.option("--max-tokens", type=click.IntRange(1), default=1024, show_default=True)
@click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Prompts decoded together.")
def difficulty(run_folder: Path, model_path: str | None, student: str | None, **given: Any) -> None:
    """Measure how often a model solves the prompts of RUN's rows: k answers each, checked as rows are.

    `export` and `curriculum` then bin by it. Safe to kill: the same command continues.
    """
    from if_factory import api

    if student and model_path:
        raise click.UsageError("give --student or --model, not both")
    report = api.difficulty(run_folder, student=student, model=model_path, **given)
    click.echo(f"{report.path}: {report.model}, " + ", ".join(f"{n} {name}" for name, n in report.counts().items()))
    if any(r.not_decided for r in report.rates):
        only = sum(r.answers == 0 and r.not_decided > 0 for r in report.rates)
        click.echo(f"a judge would decide constraints of {sum(r.not_decided > 0 for r in report.rates)} prompts, all "
                   f"those of {only}: give --judge URL")
    click.echo(f"next: if-factory export {run_folder} --into LLaMA-Factory/data")


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", "model_path", required=True, help="model_name_or_path: a hub name or a folder.")
@click.option("--template", help="LLaMA-Factory template; leave out to use the tokenizer's own chat template.")
@click.option("--dataset-dir", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True),
              help="The folder `export` wrote into.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the YAML files.")
@click.option("--saves", default="saves", show_default=True, help="Where the adapters go.")
@click.option("--stages", help="Datasets in training order, e.g. sft,dpo or sft,iorpo or sft,grpo; default: all "
              "exported SFT, then I-ORPO, DPO. grpo takes the prompts of `export --rl`.")
@click.option("--bins", metavar="N | 1-3,4-5", help="Default: as exported; 1 trains whole datasets.")
@click.option("--keep-order", is_flag=True, help="Train the rows of a stage in the order of the file; bins by "
              "difficulty go from easy to hard.")
@click.option("--set", "settings", multiple=True, metavar="[STAGE.]KEY=VALUE",
              help="Any LLaMA-Factory key, for every stage or one kind: dpo.learning_rate=5e-6.")
@click.option("--deepspeed", type=click.Choice(["z2", "z3", "z3_offload"]),
              help="Write DeepSpeed's configuration; the stages are then started with torchrun.")
@difficulty_options
def curriculum(run_folder: Path, model_path: str, template: str | None, dataset_dir: Path, out: Path, saves: str,
               stages: str | None, bins: str | None, keep_order: bool, settings: tuple[str, ...],
               deepspeed: Any, difficulty: Any, keep: tuple[str, ...]) -> None:
    """Write one LLaMA-Factory YAML per stage, easy to hard, with adapters chained, and one to merge them."""
    from if_factory import api
    from if_factory.cli import common

    if keep and not difficulty:
        raise click.UsageError("--keep goes with --difficulty")
    written = api.curriculum(
        run_folder, model=model_path, dataset_dir=dataset_dir, out=out, template=template, saves=saves,
        stages=stages.split(",") if stages else (), bins=bins, keep_order=keep_order,
        settings=common.settings(settings), deepspeed=deepspeed, difficulty=difficulty, keep=keep)
    for path in (*written.stages, *([written.merge] if written.merge else [])):
        click.echo(path)
    if written.cutoff:
        click.echo(written.cutoff)
    click.echo(f"next: if-factory train {out}")


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--allow-cut", is_flag=True, help="Train although cutoff_len cuts answers or the ends of prompts.")
def train(path: Path, overrides: tuple[str, ...], allow_cut: bool) -> None:
    """Train one YAML, or a folder of stages in order; `stage: iorpo` needs no start-up hook here.

    A FILE is run as `llamafactory-cli train FILE KEY=VALUE...` would. In a FOLDER finished stages are skipped.
    """
    from if_factory import api

    api.train(path, overrides, allow_cut=allow_cut, say=click.echo)


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for the tokenised triples and the YAML.")
def tokenize(path: Path, out: Path) -> None:
    """Write the triples of an I-ORPO YAML tokenised, with a YAML that stock LLaMA-Factory trains them by."""
    from if_factory import api

    click.echo(f"next: llamafactory-cli train {api.tokenize(path, out)}")


COMMANDS = (difficulty, curriculum, train, tokenize, model, serve, vllm_env, doctor)
