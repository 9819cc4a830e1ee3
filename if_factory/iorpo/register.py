"""Make ``stage: iorpo`` known to LLaMA-Factory: two functions of ``llamafactory.train.tuner`` get a wrapper.

- ``get_train_args``: a config with ``stage: iorpo`` is parsed as ``stage: dpo, pref_loss: orpo``, so that every
  check of LLaMA-Factory that looks at the stage does the right thing (no reference model, paired data), and the
  result carries our own keys as a mark, ``finetuning_args.iorpo``.
- ``run_dpo``: with the mark it runs our workflow.

Any other config reaches the original functions as it is. Nothing is wrapped outside the module ``tuner``, and the
data hooks (``iorpo/data.py``) are in force only while an I-ORPO run loads its data.

A LLaMA-Factory whose internals have moved is noticed when the stage is used, never at import.
"""

from __future__ import annotations

import functools
import inspect
from types import ModuleType
from typing import Any

from if_factory.errors import UserError
from if_factory.iorpo.arguments import asks_for_iorpo, split
from if_factory.iorpo.compat import moved
from if_factory.iorpo.sequential import check_sequential

_MARK = "if_factory_original"
_WRAPPED = {"get_train_args": ["args"],
            "run_dpo": ["model_args", "data_args", "training_args", "finetuning_args", "callbacks"]}
# Keys of LLaMA-Factory's DPO stage that this loss has no term for; their default switches them off.
_NO_TERM = ("pref_ftx", "pref_bco_weight", "ld_alpha", "ref_model")


def add_stage(tuner: ModuleType) -> None:
    """Wrap LLaMA-Factory's dispatch in this process; a second call changes nothing.

    Args:
        tuner: ``llamafactory.train.tuner``.
    """
    if any(hasattr(getattr(tuner, name, None), _MARK) for name in (*_WRAPPED, "run_exp")):
        return
    problem = _moved(tuner)
    if problem is None:
        _put(tuner, "get_train_args", _get_train_args(tuner.get_train_args, tuner))
        _put(tuner, "run_dpo", _run_dpo(tuner.run_dpo))
    else:
        name = next((n for n in ("run_exp", "get_train_args") if callable(getattr(tuner, n, None))), None)
        if name is not None:
            _put(tuner, name, _refuse(getattr(tuner, name), problem))


def _put(module: ModuleType, name: str, wrapper: Any) -> None:
    setattr(wrapper, _MARK, getattr(module, name))
    setattr(module, name, wrapper)


def _moved(tuner: ModuleType) -> str | None:
    for name, expected in _WRAPPED.items():
        function = getattr(tuner, name, None)
        if not callable(function):
            return f"{tuner.__name__}.{name} is gone"
        found = list(inspect.signature(function).parameters)
        if found != expected:
            return f"{tuner.__name__}.{name} takes ({', '.join(found)}) instead of ({', '.join(expected)})"
    return None


def _get_train_args(original: Any, tuner: ModuleType) -> Any:
    @functools.wraps(original)
    def get_train_args(args: Any = None) -> Any:
        config = tuner.read_args(args)
        if not asks_for_iorpo(config):
            return original(args)
        stock, ours = split(config)
        parsed = original(stock)
        finetuning_args = parsed[3]
        for key in _NO_TERM:
            if getattr(finetuning_args, key, None):
                raise UserError("stage iorpo has no such term", where=f"field '{key}'", fix="leave it out")
        if getattr(finetuning_args, "use_mca", False):
            raise UserError("stage iorpo cannot run under USE_MCA=1, whose trainers are not LLaMA-Factory's own")
        if ours.sequential:
            check_sequential(parsed[2], finetuning_args)
        finetuning_args.iorpo = ours
        return parsed
    return get_train_args


def _run_dpo(original: Any) -> Any:
    @functools.wraps(original)
    def run_dpo(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any,
                callbacks: Any = None) -> Any:
        if getattr(finetuning_args, "iorpo", None) is None:
            return original(model_args, data_args, training_args, finetuning_args, callbacks)
        from if_factory.iorpo.workflow import run_iorpo

        return run_iorpo(model_args, data_args, training_args, finetuning_args, callbacks)
    return run_dpo


def _refuse(original: Any, problem: str) -> Any:
    """The original, except that asking for the stage says why it cannot run."""
    @functools.wraps(original)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        from llamafactory.hparams import read_args

        config = next((a for a in (*args, *kwargs.values()) if isinstance(a, dict | list)), None)
        if asks_for_iorpo(config if config is not None else read_args()):
            raise moved(problem)
        return original(*args, **kwargs)
    return guarded
