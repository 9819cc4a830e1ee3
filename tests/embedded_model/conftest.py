"""One conversion of the embedded model for all tests that need a Hugging Face directory."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def hf_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("torch", "transformers", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    from if_factory.embedded_model.fetch import fetch_embedded
    from if_factory.embedded_model.gguf_to_hf import convert

    return convert(fetch_embedded(), tmp_path_factory.mktemp("model") / "hf")
