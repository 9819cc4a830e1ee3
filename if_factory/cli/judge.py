"""Commands about the judge: calibrate."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from if_factory.judge.calibration import Calibration, Labelled


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
@click.option("--fail-under", type=click.FloatRange(0, 1), help="Exit with 1 if a kind's accuracy is below.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False),
              help="Folder for calibration.json, judged.jsonl and the log of replies.")
def calibrate(labelled: Path, url: str, name: str | None, api_key_env: str, concurrency: int, low: float,
              high: float, samples: int, tries: int, prompts: str | None, fail_under: float | None,
              out: Path) -> None:
    """Measure a judge against LABELLED rows: accuracy, kappa, position bias, unread replies."""
    from if_factory.files import dump_json, write_atomic, write_jsonl
    from if_factory.judge.calibration import read_labelled

    rows = read_labelled(labelled, low, high)
    how: dict[str, Any] = {"low": low, "high": high, "samples": samples, "tries": tries, "prompts": prompts}
    found = asyncio.run(_ask(rows, url, name, api_key_env, concurrency, out, how))
    figures = {kind: f.as_dict() for kind, f in found.figures.items()}
    write_atomic(out / "calibration.json", dump_json(figures, indent=2) + "\n")
    write_jsonl(out / "judged.jsonl", found.judged)
    _show(found)
    click.echo(f"written: {out}/calibration.json, judged.jsonl")
    if fail_under is not None and any((f.accuracy or 0) < fail_under for f in found.figures.values()):
        raise SystemExit(1)


async def _ask(rows: Labelled, url: str, name: str | None, api_key_env: str, concurrency: int, out: Path,
               how: dict[str, Any]) -> Calibration:
    from functools import partial

    from if_factory.cli.common import judge_at
    from if_factory.judge.calibration import calibrate as measure

    async with judge_at(url, out, name=name, api_key_env=api_key_env, concurrency=concurrency) as judge:
        return await measure(partial(judge.chat, stage="calibrate"), rows, **how)


def _show(found: Calibration) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("kind", "labels", "decided", "accuracy", "95 % interval", "kappa", "unread")
    for kind, f in found.figures.items():
        table.add_row(kind, str(f.n), str(f.decided), "-" if f.accuracy is None else f"{f.accuracy:.3f}",
                      f"{f.low:.3f} - {f.high:.3f}", "-" if f.kappa is None else f"{f.kappa:.3f}",
                      f"{f.unread / f.n:.3f}")
    Console().print(table)
    for kind, f in found.figures.items():
        shares = [f"{name.replace('_', ' ')} {v:.3f}" for name, v in f.more.items() if v is not None]
        if shares:
            click.echo(f"{kind}: {', '.join(shares)}")


COMMANDS = (calibrate,)
