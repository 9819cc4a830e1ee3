"""The commands of batch files: send, watch, fetch."""

from __future__ import annotations

from pathlib import Path

import click

FOLDER = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, exists=True, file_okay=False))


@click.group()
def batch() -> None:
    """Send the batch files that `run --batch DIR` wrote, see how they are, read their answers into the run's log."""


@batch.command()
@FOLDER
def submit(folder: Path) -> None:
    """Send every file that has not been sent to the Batch API of its endpoint. Keys come from the environment."""
    from if_factory import api
    from if_factory.cli.show import show_batch

    show_batch(api.batch(folder, "submit"))


@batch.command()
@FOLDER
def status(folder: Path) -> None:
    """Show how far each batch is."""
    from if_factory import api
    from if_factory.cli.show import show_batch

    show_batch(api.batch(folder, "status"))


@batch.command()
@FOLDER
@click.argument("results", nargs=-1, metavar="[RESULTS]...",
                type=click.Path(path_type=Path, exists=True, dir_okay=False))
def fetch(folder: Path, results: tuple[Path, ...]) -> None:
    """Put the answers of what has ended into the run's log. Status 3 while batches are open.

    RESULTS are local files of results, of `vllm run-batch` for example; those with the name that `run --batch` gave are
    found without being named.
    """
    from if_factory import api
    from if_factory.cli.show import show_batch

    report = api.batch(folder, "fetch", results=results)
    show_batch(report)
    if report.open_files:
        raise SystemExit(3)


COMMANDS = (batch,)
