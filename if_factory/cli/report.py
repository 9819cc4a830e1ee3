"""The command that writes the report of a run."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("run_folder", metavar="RUN", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--evaluation", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="What `evaluate` wrote.")
@click.option("--saves", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="What training wrote, for the loss curves.")
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: RUN/report.html.")
def report(run_folder: Path, evaluation: Path | None, saves: Path | None, out: Path | None) -> None:
    """Write one self-contained HTML page: funnel, reasons, cost, pass rates, losses, sample rows."""
    from if_factory import api

    click.echo(api.report(run_folder, evaluation=evaluation, saves=saves, out=out))


COMMANDS = (report,)
