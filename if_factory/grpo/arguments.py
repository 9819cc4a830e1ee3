"""The YAML keys of ``stage: grpo`` that LLaMA-Factory does not have: trl's after ``grpo_``, and ours.

Everything else of a run (model, LoRA, data, optimizer, checkpoints) is spelt as for any other stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from if_factory.errors import UserError, suggest
from if_factory.flags import take_flags

if TYPE_CHECKING:
    from if_factory.rewards.judge import JudgeOptions

PREFIX = "grpo_"
STAGE = "grpo"
Args = dict[str, Any] | list[str]


@dataclass(frozen=True, slots=True)
class GrpoArguments:
    """Keys of the stage; in a YAML or as a flag each has the prefix ``grpo_``.

    Args:
        reward: ``fraction`` of the constraints, or ``all``.
        usefulness: an answer that does not attempt the request earns 0, by rules; ``relevance``: also by embedding.
        skip_even_groups: nothing is computed for answers whose whole group earns the same (``even_groups.py``).
        plugins: files of your own constraint types, whose checkers run in a process of their own.
        reward_seconds: wall clock there for the answers to one prompt; what hangs has no verdict.
        judge: the endpoint that decides constraints which only a judge can.
        log_answers: every answer with its reward goes to ``answers.jsonl`` in the output folder.
        trl: fields of trl's ``GRPOConfig``: ``num_generations``, ``max_completion_length``, ``beta``...
    """

    reward: str = "fraction"
    usefulness: bool = True
    relevance: bool | str = False
    skip_even_groups: bool = False
    plugins: str | list[str] = field(default_factory=list)
    reward_seconds: float = 10.0
    judge: JudgeOptions | None = None
    log_answers: bool = False
    trl: dict[str, Any] = field(default_factory=dict)


_OWN = tuple(f.name for f in fields(GrpoArguments) if f.name != "trl")


def asks_for_grpo(args: Args) -> bool:
    """Whether these arguments, a config or a list of flags, ask for the stage."""
    return (args if isinstance(args, dict) else take_flags(args, PREFIX)[0]).get("stage") == STAGE


def split(args: Args) -> tuple[Args, GrpoArguments]:
    """LLaMA-Factory's arguments, as an SFT run, which passes all its checks for a policy that is trained; and ours."""
    given, rest = (dict(args), []) if isinstance(args, dict) else take_flags(args, PREFIX)
    own = {key.removeprefix(PREFIX): given.pop(key) for key in list(given) if str(key).startswith(PREFIX)}
    arguments = GrpoArguments(**{k: own.pop(k) for k in _OWN if k in own}, trl=own)
    if arguments.reward not in ("fraction", "all"):
        raise UserError(f"unknown value {arguments.reward!r}", where=f"field '{PREFIX}reward'",
                        fix="one of: fraction, all")
    if arguments.judge is not None:
        from if_factory.rewards.judge import judge_options

        arguments = replace(arguments, judge=judge_options(arguments.judge, f"{PREFIX}judge"))
    if isinstance(arguments.plugins, str):
        arguments = replace(arguments, plugins=[name.strip() for name in arguments.plugins.split(",")])
    if isinstance(args, dict):
        return {**given, "stage": "sft"}, arguments
    return [*rest, "--stage", "sft"], arguments


def config_of(config: Any, base: Any, arguments: GrpoArguments, training_args: Any, **defaults: Any) -> Any:
    """trl's configuration: LLaMA-Factory's training arguments, ours where the YAML says nothing, and its own keys.

    Args:
        config: trl's ``GRPOConfig``; ``base``: transformers' ``TrainingArguments``.
        defaults: values for fields of GRPOConfig that the YAML does not set.

    Raises:
        UserError: a ``grpo_`` key that there is not, or values that trl refuses together.
    """
    shared = {f.name for f in fields(base) if f.init}
    own = {f.name for f in fields(config) if f.init} - shared
    for key in arguments.trl:
        if key not in own:
            problem = filter(None, (f"stage grpo has no key '{PREFIX}{key}'", suggest(key, [*own, *_OWN])))
            raise UserError("; ".join(problem), where=f"field '{PREFIX}{key}'",
                            fix=f"write {key} without the prefix" if key in shared else
                            "the keys are those of trl's GRPOConfig, and " + ", ".join(PREFIX + k for k in _OWN))
    values = {name: getattr(training_args, name) for name in shared if hasattr(training_args, name)}
    values |= {k: v for k, v in defaults.items() if k in own} | arguments.trl | {"remove_unused_columns": False}
    try:
        return config(**values)
    except (ValueError, TypeError) as e:
        raise UserError(f"trl refuses these values: {e}", where="stage grpo",
                        fix="per_device_train_batch_size x gradient_accumulation_steps x processes counts answers, and "
                            f"is a multiple of {PREFIX}num_generations") from None
