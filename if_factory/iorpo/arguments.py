"""The YAML keys of ``stage: iorpo`` that LLaMA-Factory does not have, and how they are separated from its own.

lambda, the weight of the odds-ratio term, is LLaMA-Factory's ``pref_beta``. Everything else of a run (model, LoRA,
data, optimizer, evaluation, checkpoints) is spelt as for any other stage.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from if_factory.errors import UserError, suggest
from if_factory.flags import take_flags

PREFIX = "iorpo_"
_KEYS = ("stage", "pref_loss")  # keys of LLaMA-Factory that the stage reads or sets itself
STAGE = "iorpo"
NllOn = Literal["response", "prompt_and_response"]
Head = Literal["auto", "chunked", "full"]
Args = dict[str, Any] | list[str]


@dataclass(frozen=True, slots=True)
class IorpoArguments:
    """Keys of the stage; in a YAML or as a flag each has the prefix ``iorpo_``.

    Args:
        nll_on: tokens of x_w + y that the likelihood term counts. ``response`` is the published formula, the mean
            over y; ``prompt_and_response`` is what Suri's own code computes, over all tokens of the batch.
        chunk_size: response tokens whose logits are held at one time.
        head: ``auto`` takes log-probabilities in chunks and falls back to whole logits, with a sentence why, if
            the model does something after its output head; ``chunked`` raises instead; ``full`` is stock's way.
        sequential: take the sequences of a batch one after the other, so that the activations of one exist at a
            time; one more forward pass per triple.
    """

    nll_on: NllOn = "response"
    chunk_size: int = 1024
    head: Head = "auto"
    sequential: bool = False

    def __post_init__(self) -> None:
        for name, allowed in (("nll_on", get_args(NllOn)), ("head", get_args(Head))):
            if getattr(self, name) not in allowed:
                raise UserError(f"unknown value {getattr(self, name)!r}", where=f"field '{PREFIX}{name}'",
                                fix="one of: " + ", ".join(allowed))
        if not isinstance(self.chunk_size, int) or isinstance(self.chunk_size, bool) or self.chunk_size < 1:
            raise UserError(f"expected a whole number of tokens, at least 1, found {self.chunk_size!r}",
                            where=f"field '{PREFIX}chunk_size'")
        if not isinstance(self.sequential, bool):
            raise UserError(f"expected true or false, found {self.sequential!r}",
                            where=f"field '{PREFIX}sequential'")

    def keys(self) -> dict[str, Any]:
        """The YAML keys that give these values."""
        return {PREFIX + name: value for name, value in asdict(self).items()}


def asks_for_iorpo(args: Args) -> bool:
    """Whether these arguments, a config or a list of flags, ask for the stage."""
    return (args if isinstance(args, dict) else take_flags(args, PREFIX, _KEYS)[0]).get("stage") == STAGE


def split(args: Args) -> tuple[Args, IorpoArguments]:
    """LLaMA-Factory's arguments, as a DPO run with the ORPO loss that passes all its checks, and ours.

    Raises:
        UserError: an unknown ``iorpo_`` key, a bad value, or a ``pref_loss`` that is not this stage's.
    """
    given, rest = (dict(args), []) if isinstance(args, dict) else take_flags(args, PREFIX, _KEYS)
    own = {key: given.pop(key) for key in list(given) if key.startswith(PREFIX)}
    arguments = _arguments(own)
    if (loss := given.pop("pref_loss", "orpo")) != "orpo":
        raise UserError(f"stage iorpo has its own loss, not '{loss}'", where="field 'pref_loss'",
                        fix="leave pref_loss out; lambda is pref_beta")
    del given["stage"]
    if isinstance(args, dict):
        return {**given, "stage": "dpo", "pref_loss": "orpo"}, arguments
    return [*rest, "--stage", "dpo", "--pref_loss", "orpo"], arguments


def _arguments(own: dict[str, Any]) -> IorpoArguments:
    known = {PREFIX + f.name: f.name for f in fields(IorpoArguments)}
    for key in own:
        if key not in known:
            problem = filter(None, (f"stage iorpo has no key '{key}'", suggest(key, known)))
            raise UserError("; ".join(problem), where=f"field '{key}'", fix="the keys are: " + ", ".join(known))
    return IorpoArguments(**{known[key]: value for key, value in own.items()})
