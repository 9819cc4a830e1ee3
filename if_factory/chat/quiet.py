"""No loading bars and warnings of other libraries while a command reports its own progress."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module

_LOGGERS = ("transformers", "peft", "datasets", "huggingface_hub", "sentence_transformers", "torch", "accelerate")


@contextlib.contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Warnings, log lines below ERROR and progress bars of other libraries do not show; all is restored after.

    Python's warning filters belong to the process: warnings of other threads are silent meanwhile, too.

    Args:
        libraries: imported first where they are installed, because a library sets its own log level and bars when
            it is imported. One that is first imported inside may be heard.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in libraries:
            with contextlib.suppress(ImportError):
                import_module(name)
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        _hide_bars(stack)
        yield


def _hide_bars(stack: contextlib.ExitStack) -> None:
    """By each library's own switch, if it is imported already."""
    if "transformers" in sys.modules:
        from transformers.utils import logging as bars

        if bars.is_progress_bar_enabled():
            bars.disable_progress_bar()
            stack.callback(bars.enable_progress_bar)
    if "datasets" in sys.modules:
        import datasets

        if not datasets.are_progress_bars_disabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
