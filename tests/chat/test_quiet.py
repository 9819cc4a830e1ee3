"""Other libraries' warnings and bars do not show while a command works, and all is as before afterwards."""

import logging
import warnings

import pytest

from if_factory.chat.quiet import quiet


def test_everything_is_silent_inside_and_restored_after() -> None:
    logger = logging.getLogger("peft")
    level = logger.level
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("inside", stacklevel=1)
            assert not logger.isEnabledFor(logging.WARNING)
        warnings.warn("outside", stacklevel=1)
    assert [str(w.message) for w in seen] == ["outside"]
    assert logger.level == level


def test_transformers_bars_come_back() -> None:
    pytest.importorskip("transformers")
    from transformers.utils import logging as bars

    assert bars.is_progress_bar_enabled()
    with quiet("transformers", "no_such_library"):
        assert not bars.is_progress_bar_enabled()
    assert bars.is_progress_bar_enabled()
