"""No loading bars and warnings of other libraries while a command reports its own progress."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator

_LOGGERS = ("transformers", "peft", "datasets", "huggingface_hub", "sentence_transformers", "torch", "accelerate")
# Read when a library is imported, so they count for those that are first imported inside.
_VARIABLES = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TQDM_DISABLE": "1"}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Warnings, log lines below ERROR and progress bars of other libraries do not show; all is restored after.

    Python's warning filters belong to the process: warnings of other threads are silent meanwhile, too.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        for name, value in _VARIABLES.items():
            stack.callback(_set, name, os.environ.get(name))
            os.environ[name] = value
        _hide_bars(stack)
        yield


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _hide_bars(stack: contextlib.ExitStack) -> None:
    """By each library's own switch, if it is imported already."""
    if "transformers" in sys.modules:
        from transformers.utils import logging as bars

        if bars.is_progress_bar_enabled():
            bars.disable_progress_bar()  # type: ignore[no-untyped-call]
            stack.callback(bars.enable_progress_bar)  # type: ignore[arg-type]
    if "datasets" in sys.modules:
        import datasets

        if not datasets.are_progress_bars_disabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
