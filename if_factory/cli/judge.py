"""Commands about the judge: calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("labelled", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--judge", "url", default="embedded", show_default=True,
              help="The judge's endpoint: a URL, `embedded`, or `embedded:/path/to.gguf`.")
@click.option("--model", "name", help="Model name there; default the first it serves.")
@click.option("--api-key-env", default="OPENAI_API_KEY", show_default=True)
@click.option("--concurrency", type=click.IntRange(1), default=16, show_default=True, help="Requests in flight.")
@click.option("--low", type=float, default=1, show_default=True, help="Lowest score of the scale.")
@click.option("--high", type=float, default=5, show_default=True, help="Highest score of the scale.")
@click.option("--samples", type=click.IntRange(1), default=1, show_default=True, help="Scores averaged per row.")
@click.option("--tries", type=click.IntRange(1), default=3, show_default=True, help="Requests per judgement.")
@click.option("--prompts", type=click.Path(exists=True, file_okay=False),
              help="Folder with your own judge templates.")
@click.option("--prompt-variant", type=click.Choice(["full", "small"]), default="full", show_default=True,
              help="The judge's prompts, as the methods' option of this name.")
@click.option("--relevance", default="auto", show_default=True, help="Of the gate: `auto`, `off`, or a model.")
@click.option("--fail-under", type=click.FloatRange(0, 1), help="Exit with 1 if a kind's accuracy is below.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for calibration.json, judged.jsonl and the log of replies.")
def calibrate(labelled: Path, url: str, name: str | None, api_key_env: str, concurrency: int, low: float,
              high: float, samples: int, tries: int, prompts: str | None, prompt_variant: Any, relevance: str,
              fail_under: float | None, out: Path) -> None:
    """Measure a judge against LABELLED rows: accuracy, kappa, position bias, unread replies.

    Rows with `answers: true | false` measure the usefulness gate instead; a judge joins in if --judge is given.
    """
    from itertools import islice

    from if_factory import api
    from if_factory.cli.show import show_calibration, show_gate
    from if_factory.files import read_rows
    from if_factory.usefulness.calibration import is_labelled_answer

    if any(is_labelled_answer(row) for _, row in islice(read_rows(labelled), 1)):
        given = click.get_current_context().get_parameter_source("url") is not click.core.ParameterSource.DEFAULT
        measured = api.calibrate_usefulness(
            labelled, out, judge=url if given else None, model=name, api_key_env=api_key_env,
            concurrency=concurrency, tries=tries, prompts=prompts, relevance=relevance)
        show_gate(measured)
        click.echo(f"written: {out}/usefulness.json, decided.jsonl")
        raise SystemExit(int(fail_under is not None and any(
            (f.refused_rightly.value or 0) < fail_under for f in measured.figures.values())))

    found = api.calibrate(labelled, out, judge=url, model=name, api_key_env=api_key_env, concurrency=concurrency,
                          low=low, high=high, samples=samples, tries=tries, prompts=prompts,
                          prompt_variant=prompt_variant)
    embedded = "the embedded model (SmolLM2-135M-Instruct); --judge measures another"
    show_calibration(found, embedded if url == "embedded" else f"{name} at {url}" if name else url)
    click.echo(f"written: {out}/calibration.json, judged.jsonl")
    if fail_under is not None and any((f.accuracy or 0) < fail_under for f in found.figures.values()):
        raise SystemExit(1)


COMMANDS = (calibrate,)
