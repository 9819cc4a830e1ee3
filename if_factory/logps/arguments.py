"""The key ``logps_chunk_size`` of LLaMA-Factory's own stages ``dpo`` and ``kto``, in a YAML or as a flag."""

from __future__ import annotations

from typing import Any

from if_factory.errors import UserError, suggest
from if_factory.flags import take_flags

KEY = "logps_chunk_size"
STAGES = ("dpo", "kto")  # LLaMA-Factory's stages whose loss reads log-probabilities only
_PREFIX = "logps_"
Args = dict[str, Any] | list[str]


def asks_for_chunks(args: Args) -> bool:
    """Whether these arguments, a config or a list of flags, have a key of ours."""
    keys = args if isinstance(args, dict) else take_flags(args, _PREFIX, ())[0]
    return any(str(key).startswith(_PREFIX) for key in keys)


def split(args: Args) -> tuple[Args, int | None]:
    """LLaMA-Factory's arguments, and the number of tokens per chunk; ``None`` where the key has no value.

    Raises:
        UserError: another key with its prefix, a bad value, or a stage that does not take the key.
    """
    given, rest = (dict(args), []) if isinstance(args, dict) else take_flags(args, _PREFIX, ())
    stage = (args if isinstance(args, dict) else take_flags(args, _PREFIX)[0]).get("stage", "sft")
    own = {key: given.pop(key) for key in list(given) if str(key).startswith(_PREFIX)}
    for key in own:
        if key != KEY:
            problem = filter(None, (f"there is no key '{key}'", suggest(key, [KEY])))
            raise UserError("; ".join(problem), where=f"field '{key}'", fix=f"the key is {KEY}")
    size, stock = own.get(KEY), given if isinstance(args, dict) else rest
    if size is None:
        return stock, None
    check_stage(str(stage))
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UserError(f"expected a whole number of tokens, at least 1, found {size!r}", where=f"field '{KEY}'")
    return stock, size


def check_stage(stage: str, where: str = f"field '{KEY}'") -> None:
    """Raises:
        UserError: a stage that does not take the key.
    """
    if stage not in STAGES:
        own = "; stage iorpo takes chunks always" if stage == "iorpo" else ""
        raise UserError(f"is for the stages {' and '.join(STAGES)}, not {stage}{own}", where=where,
                        fix="write iorpo_chunk_size" if stage == "iorpo" else "leave it out")
