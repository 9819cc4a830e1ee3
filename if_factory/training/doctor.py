"""``if-factory doctor``: what is wrong with this environment, one sentence each, with the fix.

Every import is tried in a process of its own: a broken torch build can abort the interpreter, and we want
to say so rather than go down with it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from if_factory.errors import UserError

Level = Literal["ok", "warning", "error"]

TRAIN_PINS = '"torch==2.11.0" "torchvision==0.26.0" "torchaudio==2.11.0" "llamafactory==0.9.5"'
TESTED_LLAMAFACTORY = "0.9.5"
_REINSTALL = f"in a fresh environment: pip install {TRAIN_PINS}"
_IMPORT_SECONDS = 180.0
_MIN_FREE_GB = 10.0  # the training environment is 6 GB, checkpoints come on top

# (what the error says, what it means, what to do); the first that matches explains it.
_KNOWN: tuple[tuple[str, str, str], ...] = (
    (r"TorchAudio were compiled with different CUDA",
     "torch and torchaudio are builds for different CUDA versions", _REINSTALL),
    (r"torchvision::nms does not exist", "torchvision does not fit the installed torch",
     f"pip uninstall torchvision (text training does not need it), or {_REINSTALL}"),
    (r"lib(c10_cuda|torch_cuda|cudart|cublas|cudnn)[^:]*: cannot open shared object",
     "a CUDA build of a torch package is installed next to a CPU build of torch", _REINSTALL),
    (r"undefined symbol", "two torch packages are from different releases", _REINSTALL),
    (r"NumPy 1\.x cannot be run in|numpy\.core\.multiarray failed",
     "numpy 2 is installed under a package built for numpy 1", 'pip install "numpy<2"'),
    (r"is required for a normal functioning|transformers[<>=!~]=?[\d.]+.* but found|requires transformers",
     "transformers is a version that LLaMA-Factory refuses", _REINSTALL),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """``level`` ``error``: something you asked for cannot work; ``warning``: it works, but badly."""

    level: Level
    name: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.level:8}{self.name}: {self.message}" + (f"\n        fix: {self.fix}" if self.fix else "")


def check_environment() -> list[Finding]:
    """All findings, in a fixed order; what is fine is reported too."""
    with ThreadPoolExecutor(2) as pool:
        embedded = pool.submit(_embedded)
        training = pool.submit(_training)
        return [_python(), _disk(), _sandbox(), embedded.result(), _vllm(), *training.result()]


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= (3, 14):
        return Finding("warning", "python", f"{found} is newer than what training packages are built for",
                       "use Python 3.11 to 3.13 for training")
    return Finding("ok", "python", found)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    if free < _MIN_FREE_GB:
        return Finding("warning", "disk", f"{free:.1f} GB free here; training wants {_MIN_FREE_GB:.0f} GB",
                       "free space, or work in another folder")
    return Finding("ok", "disk", f"{free:.0f} GB free here")


def _sandbox() -> Finding:
    """How generated code (AutoIF) would be isolated here."""
    from if_factory.sandbox.probe import isolation, remedy

    found = isolation()
    if found.weak:
        return Finding("warning", "sandbox", f"generated code cannot be isolated here: {found.missing}", remedy())
    return Finding("ok", "sandbox", f"generated code is isolated by {found}")


def _embedded() -> Finding:
    if _version("xllamacpp") is None:
        return Finding("warning", "embedded model", "without xllamacpp `endpoint: embedded` cannot run",
                       'pip install "if-factory[embedded]", or use the URL of a server')
    return _imported("embedded model", "xllamacpp", f"xllamacpp {_version('xllamacpp')}",
                     'pip install --force-reinstall "xllamacpp>=2026.10"')


def _vllm() -> Finding:
    """vLLM's own environment, for ``endpoint: vllm:MODEL``; nothing else needs it."""
    from if_factory.chat.vllm_env import PYTHON_VARIABLE, VERSION, default_folder, find, gpus

    given = os.environ.get(PYTHON_VARIABLE)
    if not given and not default_folder().exists():
        return Finding("ok", "vllm", "not installed; only `endpoint: vllm:MODEL` needs it (`if-factory vllm-env`)")
    try:
        found = find()
    except UserError as e:
        return Finding("error", "vllm", f"{e.where}: {e.problem}", e.fix or "")
    if found.cpu and gpus():
        return Finding("warning", "vllm", f"the CPU build is installed ({found.python}) and there is a GPU",
                       "if-factory vllm-env --gpu --to FOLDER")
    if found.version.partition("+")[0] != VERSION:
        return Finding("warning", "vllm", f"{found.version} is installed; tested was {VERSION}", "if-factory vllm-env")
    return Finding("ok", "vllm", f"vLLM {found.version}{' for CPUs' if found.cpu else ''}: {found.python}")


def _training() -> list[Finding]:
    installed = _version("llamafactory")
    if installed is None:
        return [Finding("warning", "training", "LLaMA-Factory is not installed here; data can be made without it",
                        f"to train: {_REINSTALL}")]
    found = []
    torch = _imported("torch", "torch", f"torch {_version('torch')}", _REINSTALL)
    if torch.level != "ok":
        return [torch]  # everything else would fail for the same reason
    if installed != TESTED_LLAMAFACTORY:
        found.append(Finding("warning", "llamafactory",
                             f"{installed} is installed; our files were tested with {TESTED_LLAMAFACTORY}",
                             f'pip install "llamafactory=={TESTED_LLAMAFACTORY}"'))
    # torchaudio and torchvision break where LLaMA-Factory first uses them, not at `import llamafactory`.
    good = f"LLaMA-Factory {installed} imports, with transformers {_version('transformers')}"
    trainer = _imported("training", "llamafactory.train.tuner", good, _REINSTALL)
    found += [torch, trainer]
    if trainer.level == "ok":
        found += [_iorpo(), _device()]
    return found


def _iorpo() -> Finding:
    """Whether ``llamafactory-cli`` itself knows stage iorpo: asked of a process that starts as it would."""
    run = _run("from if_factory.iorpo.autoload import installed, wanted; print(installed(), wanted())")
    own = "`if-factory train` runs it all the same"
    if run.stdout.split() == ["True", "True"]:
        return Finding("ok", "stage iorpo", "llamafactory-cli knows it, through the start-up hook")
    if run.stdout.split() == ["True", "False"]:
        return Finding("ok", "stage iorpo", f"IF_FACTORY_AUTOLOAD hides it from llamafactory-cli; {own}")
    return Finding("warning", "stage iorpo", f"llamafactory-cli does not know it: no start-up hook here; {own}",
                   "install the package with pip, not through PYTHONPATH or --target")


def _device() -> Finding:
    run = _run("import torch; print(torch.cuda.device_count(), torch.version.cuda)")
    devices, _, cuda = run.stdout.strip().partition(" ")
    if devices not in ("", "0"):
        return Finding("ok", "device", f"{devices} GPU, CUDA {cuda}")
    if _has_nvidia():
        return Finding("error", "device", f"there is an NVIDIA GPU, but torch (CUDA {cuda}) cannot use it",
                       "update the NVIDIA driver, or install a torch build for the driver you have")
    cores, threads = len(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")
    advice = "" if threads else "; on a machine shared with other work set OMP_NUM_THREADS=1"
    return Finding("warning", "device", f"no GPU: training runs on {cores} CPU cores and suits small models only",
                   f"keep `use_cpu: true` in the YAML files{advice}")


def _has_nvidia() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))


def _imported(name: str, module: str, good: str, fix: str) -> Finding:
    """Import in a subprocess and say what came of it."""
    try:
        run = _run(f"import {module}")
    except subprocess.TimeoutExpired:
        return Finding("error", name, f"`import {module}` took longer than {_IMPORT_SECONDS:.0f} s", fix)
    if run.returncode == 0:
        return Finding("ok", name, good)
    if run.returncode < 0:
        return Finding("error", name, f"`import {module}` crashed Python (signal {-run.returncode})", fix)
    return explain(name, module, run.stderr, fix)


def explain(name: str, module: str, stderr: str, fix: str) -> Finding:
    """A traceback as one sentence: a known cause, a missing module, or its last line."""
    for pattern, meaning, remedy in _KNOWN:
        if re.search(pattern, stderr):
            return Finding("error", name, meaning, remedy)
    if missing := re.search(r"No module named '([\w.]+)'", stderr):
        return Finding("error", name, f"`import {module}` needs {missing[1]}, which is not installed", fix)
    lines = [line for line in stderr.splitlines() if line.strip()]
    return Finding("error", name, f"`import {module}` fails: {lines[-1].strip() if lines else 'no message'}", fix)


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=_IMPORT_SECONDS,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
