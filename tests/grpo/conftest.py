from pathlib import Path

import pytest

from tests.grpo.tiny import make_prompts
from tests.iorpo.tiny import need_llamafactory


@pytest.fixture(scope="package")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model and the prompt datasets."""
    need_llamafactory()
    pytest.importorskip("trl")
    return make_prompts(tmp_path_factory.mktemp("grpo"))
