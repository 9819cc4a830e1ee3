"""Make ``logps_chunk_size`` known to LLaMA-Factory: one function of ``llamafactory.train.tuner`` gets a wrapper.

``get_train_args`` takes the key out, lets the original parse the rest, and leaves the value as a mark on
``finetuning_args``. Only then are ``run_dpo`` and ``run_kto`` wrapped too; for arguments with the mark they run
LLaMA-Factory's own workflow with the trainers of ``stages.py`` in the place of its own. A config without the key
reaches the original functions as it is.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from if_factory.errors import UserError
from if_factory.logps.arguments import KEY, asks_for_chunks, split

_MARK = "if_factory_logps"
_WORKFLOWS = ("run_dpo", "run_kto")
_RUN = ["model_args", "data_args", "training_args", "finetuning_args", "callbacks"]


def add_stage(tuner: ModuleType) -> None:
    """Wrap LLaMA-Factory's reading of its arguments in this process; a second call changes nothing.

    It must be the outermost wrapper: the stages of this package are others to the functions below theirs.

    Args:
        tuner: ``llamafactory.train.tuner``.
    """
    function = getattr(tuner, "get_train_args", None)
    if not callable(function) or hasattr(function, _MARK) or _parameters(function) != ["args"]:
        return  # of another version: the key is unknown there, and LLaMA-Factory says so
    wrapper = _get_train_args(function, tuner)
    setattr(wrapper, _MARK, True)
    tuner.get_train_args = wrapper  # type: ignore[attr-defined]


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _get_train_args(original: Any, tuner: ModuleType) -> Any:
    @functools.wraps(original)
    def get_train_args(args: Any = None) -> Any:
        config = tuner.read_args(args)
        if not asks_for_chunks(config):
            return original(args)
        stock, chunk_size = split(config)
        parsed = original(stock)
        if chunk_size is not None:
            _check(parsed[0], parsed[3], tuner)
            parsed[3].logps_chunk_size = chunk_size
            for name in _WORKFLOWS:
                _wrap_workflow(tuner, name)
        return parsed
    return get_train_args


def _check(model_args: Any, finetuning_args: Any, tuner: ModuleType) -> None:
    """Raises:
        UserError: a combination that would not compute what stock computes.
    """
    for name in ("use_unsloth", "use_kt"):
        if getattr(model_args, name, False):
            raise UserError(f"cannot be combined with {name}, which replaces the model's forward",
                            where=f"field '{KEY}'", fix="leave one of the two out")
    if getattr(finetuning_args, "use_mca", False):
        raise UserError("cannot run under USE_MCA=1, whose trainers are not LLaMA-Factory's own",
                        where=f"field '{KEY}'", fix="leave it out")
    for name in _WORKFLOWS:
        function = getattr(tuner, name, None)
        if not callable(function) or _parameters(function) != _RUN:
            raise _moved(f"{tuner.__name__}.{name} is gone or takes other arguments")
    from if_factory.logps.stages import changed

    if names := changed():
        raise _moved(f"{names[0]} is another function")


def _moved(what: str) -> UserError:
    from importlib.metadata import version

    from if_factory.logps.stages import TESTED

    return UserError(f"was tested with llamafactory {TESTED}; in {version('llamafactory')} {what}",
                     where=f"field '{KEY}'", fix="install a tested version, or leave the key out")


def _wrap_workflow(tuner: ModuleType, name: str) -> None:
    original = getattr(tuner, name)
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def run(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any, callbacks: Any = None) -> Any:
        if getattr(finetuning_args, KEY, None) is None:
            return original(model_args, data_args, training_args, finetuning_args, callbacks)
        with _our_trainers():
            return original(model_args, data_args, training_args, finetuning_args, callbacks)

    setattr(run, _MARK, True)
    setattr(tuner, name, run)


@contextmanager
def _our_trainers() -> Iterator[None]:
    """While a run with the key goes on, the workflows find our trainers under the names of LLaMA-Factory's."""
    from llamafactory.train.dpo import trainer as dpo
    from llamafactory.train.kto import workflow as kto

    from if_factory.logps.stages import ChunkedDPOTrainer, ChunkedKTOTrainer

    stock = dpo.CustomDPOTrainer, kto.CustomKTOTrainer
    dpo.CustomDPOTrainer, kto.CustomKTOTrainer = ChunkedDPOTrainer, ChunkedKTOTrainer
    try:
        yield
    finally:
        dpo.CustomDPOTrainer, kto.CustomKTOTrainer = stock
