from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.iorpo.tiny import make_root, need_llamafactory


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model and triples for it; see ``tiny.make_root``. Its data folder may be added to."""
    need_llamafactory()
    folder: Path = make_root(tmp_path_factory.mktemp("iorpo"))
    return folder


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What LLaMA-Factory's loggers say; they do not pass it on to the root logger."""
    logger = logging.getLogger("llamafactory")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)
