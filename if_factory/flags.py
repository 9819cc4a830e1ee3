"""The keys of our own stages among LLaMA-Factory's command-line flags."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import yaml


def take_flags(args: Sequence[str], prefix: str,
               keys: Collection[str] = ("stage",)) -> tuple[dict[str, Any], list[str]]:
    """What the flags of ``keys`` and those with ``prefix`` say, and the arguments without them.

    Values of flags with the prefix are read as YAML, as in a file; those of ``keys`` stay texts.
    """
    taken: dict[str, Any] = {}
    rest: list[str] = []
    tokens = list(args)
    while tokens:
        token = tokens.pop(0)
        flag, equals, value = token.partition("=")
        key = flag.removeprefix("--").replace("-", "_") if flag.startswith("--") else ""
        if key not in keys and not key.startswith(prefix):
            rest.append(token)
            continue
        if not equals:
            value = tokens.pop(0) if tokens and not tokens[0].startswith("--") else ""
        taken[key] = yaml.safe_load(value) if key.startswith(prefix) else value
    return taken, rest
