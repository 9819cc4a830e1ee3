"""Make ``stage: grpo`` known to LLaMA-Factory: two functions of ``llamafactory.train.tuner`` get a wrapper.

As ``iorpo/register.py``: a config with ``stage: grpo`` is parsed as ``stage: sft``, with our keys as a mark on
``finetuning_args``; ``run_sft`` then runs our workflow. Any other config reaches the functions as it is.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

from if_factory.errors import UserError
from if_factory.grpo.arguments import asks_for_grpo, split

_MARK = "if_factory_grpo"
_WRAPPED = {"get_train_args": ["args"],
            "run_sft": ["model_args", "data_args", "training_args", "finetuning_args", "generating_args", "callbacks"]}
TESTED = "0.9.5"


def add_stage(tuner: ModuleType) -> None:
    """Wrap LLaMA-Factory's dispatch in this process; a second call changes nothing.

    Args:
        tuner: ``llamafactory.train.tuner``.
    """
    if any(hasattr(getattr(tuner, name, None), _MARK) for name in _WRAPPED):
        return
    for name, expected in _WRAPPED.items():
        function = getattr(tuner, name, None)
        found = list(inspect.signature(function).parameters) if callable(function) else None
        if found != expected:  # the stage is then unknown, and LLaMA-Factory says so when it is asked for
            return
    for name, make in (("get_train_args", _get_train_args), ("run_sft", _run_sft)):
        wrapper = make(getattr(tuner, name), tuner)
        setattr(wrapper, _MARK, True)
        setattr(tuner, name, wrapper)


def _get_train_args(original: Any, tuner: ModuleType) -> Any:
    @functools.wraps(original)
    def get_train_args(args: Any = None) -> Any:
        config = tuner.read_args(args)
        if not asks_for_grpo(config):
            return original(args)
        stock, ours = split(config)
        parsed = original(stock)
        for key in ("use_mca", "use_hyper_parallel", "use_dft_loss", "use_eaft_loss", "use_asft_loss"):
            if getattr(parsed[3], key, False):
                raise UserError(f"stage grpo cannot run with {key}", where=f"field '{key}'", fix="leave it out")
        parsed[3].grpo = ours
        return parsed
    return get_train_args


def _run_sft(original: Any, tuner: ModuleType) -> Any:
    @functools.wraps(original)
    def run_sft(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, generating_args: Any,
                callbacks: Any = None) -> Any:
        if getattr(finetuning_args, "grpo", None) is None:
            return original(model_args, data_args, training_args, finetuning_args, generating_args, callbacks)
        from if_factory.grpo.workflow import run_grpo

        return run_grpo(model_args, data_args, training_args, finetuning_args, callbacks)
    return run_sft
