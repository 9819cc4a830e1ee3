"""The command line: one module per group of commands. What a command needs is imported when it runs, so that
``--help`` answers at once."""

from __future__ import annotations

import sys

import click

from if_factory.cli import (
    batch,
    constraints,
    data,
    decontaminate,
    evaluation,
    humpback,
    judge,
    online,
    report,
    rewards,
    training,
)
from if_factory.errors import UserError
from if_factory.version import __version__


class _Cli(click.Group):
    """Lists commands in the order of a user's day, and turns a ``UserError`` into one message and status 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except UserError as e:
            click.echo(f"error: {e}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("interrupted; run the same command again to continue", err=True)
            sys.exit(130)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Verified instruction-following data for LLaMA-Factory, and the training that goes with it."""


for _module in (data, batch, training, rewards, online, humpback, evaluation, decontaminate, judge, report,
                constraints):
    for _command in _module.COMMANDS:
        main.add_command(_command)
