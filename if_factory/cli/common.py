"""What several commands have in common: options, and how ``KEY=VALUE`` arguments are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click


def difficulty_options(f: Any) -> Any:
    """What bins go by, of ``export`` and ``curriculum``."""
    f = click.option("--keep", multiple=True, type=click.Choice(["always_solved", "never_solved", "unmeasured"]),
                     help="Bin these rows too, which measured pass rates set apart; repeat it.")(f)
    return click.option("--difficulty", type=click.Choice(["count", "pass_rate", "both"]),
                        help="What bins go by: the method's own difficulty (mostly the number of constraints), pass "
                        "rates measured by `difficulty`, or both.")(f)


def engine_options(what: str) -> Callable[[Any], Any]:
    """``--engine``, ``--ray-address`` and ``--ray-workers``, as the API takes them; ``what`` is spread."""
    def alone(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value and context.params.get("engine") != "ray":
            raise click.UsageError("--ray-address and --ray-workers go with --engine ray")
        return value

    def add(f: Any) -> Any:
        for option in (
                click.option("--ray-workers", type=click.IntRange(1), metavar="N", callback=alone,
                             help="Worker processes; default one per CPU."),
                click.option("--ray-address", metavar="ADDRESS", callback=alone, help="A Ray cluster, `auto` for the "
                             "one this machine is part of; default $RAY_ADDRESS, else a Ray of its own here."),
                click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True,
                             is_eager=True, help=f"ray spreads {what} over processes and machines; what comes of it "
                             "is the same.")):
            f = option(f)
        return f

    return add


def plugin_option(f: Any) -> Any:
    """``--plugin``, any number of times, as ``plugins``."""
    return click.option("--plugin", "plugins", multiple=True, help="A file of your own constraint types.",
                        type=click.Path(path_type=Path, exists=True, dir_okay=False))(f)


def pairs(given: Sequence[str], option: str, form: str) -> dict[str, str]:
    """``A=B`` arguments as a dictionary; ``form`` (``ROLE=URL``) is shown where one is not of that form."""
    found = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not (key and equals and value):
            raise click.BadParameter(f"'{each}': expected {form}", param_hint=option)
        found[key] = value
    return found


def settings(given: Sequence[str]) -> dict[str, object]:
    """``--set [STAGE.]KEY=VALUE`` with values read as YAML, as LLaMA-Factory's command line reads them."""
    import yaml

    from if_factory.errors import UserError

    found: dict[str, object] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise UserError("expected KEY=VALUE or STAGE.KEY=VALUE", where=f"--set {setting}",
                            fix="for example --set num_train_epochs=3 --set dpo.learning_rate=5e-6")
        # YAML 1.1 reads 5e-6 as a string; LLaMA-Factory wants a number
        try:
            found[key] = float(value) if "e" in value.lower() else yaml.safe_load(value)
        except ValueError:
            found[key] = yaml.safe_load(value)
    return found
