"""The command that serves rewards: serve-rewards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from if_factory.cli.common import plugin_option


@click.command("serve-rewards")
@click.option("--data", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="The trainer's prompts: a file that `export --rl` wrote.")
@click.option("--port", type=click.IntRange(0, 65535), default=8600, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="There is no access control.")
@click.option("--how", type=click.Choice(["fraction", "all"]), default="fraction", show_default=True,
              help="The share of constraints that hold, or 1 where all hold.")
@click.option("--usefulness/--no-usefulness", default=True, show_default=True,
              help="An answer that does not attempt its request earns 0.")
@click.option("--relevance", is_flag=True, help="Also by embedding (if-factory[embed]).")
@click.option("--after", metavar="TEXT", help="What the chat template puts between prompt and answer; default: the "
              "marks of common templates.")
@click.option("--undecided", type=float, metavar="NUMBER", help="The reward where no verdict can be had; default: the "
              "request is refused.")
@plugin_option
def serve_rewards(data: Path, **given: Any) -> None:
    """Answer LLaMA-Factory, slime and OpenRLHF with verified rewards over HTTP, until Ctrl-C.

    LLaMA-Factory: reward_model_type: api, reward_model: http://HOST:PORT.
    """
    from if_factory import api

    api.serve_rewards(data, say=click.echo, **given)


COMMANDS = (serve_rewards,)
