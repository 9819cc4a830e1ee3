"""Which isolation this machine offers, strongest first, and what to do where it offers none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from if_factory.errors import UserError
from if_factory.sandbox import jail

Level = Literal["landlock+seccomp", "bwrap", "rlimits"]
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Isolation:
    """``level`` in force; ``missing`` says, for the levels above it, why they are not."""

    level: Level
    missing: str = ""

    @property
    def weak(self) -> bool:
        """Resource limits alone: generated code could read files and use the network."""
        return self.level == "rlimits"

    def __str__(self) -> str:
        return f"{self.level} ({self.missing})" if self.missing else self.level


@cache
def isolation() -> Isolation:
    """The strongest level whose parts work here. The fork server tries its locks once more when it starts."""
    if sys.platform != "linux":
        return Isolation("rlimits", f"{sys.platform} has neither Landlock nor seccomp")
    why = _no_landlock()
    if not why:
        return Isolation("landlock+seccomp")
    if _bwrap_works():
        return Isolation("bwrap", why)
    return Isolation("rlimits", f"{why}; bubblewrap does not work here either")


def require(allow_weak: bool) -> Isolation:
    """The level in force.

    Raises:
        UserError: it is a weak one and ``allow_weak`` is false.
    """
    found = isolation()
    if found.weak and not allow_weak:
        raise UserError(f"generated code cannot be isolated on this machine: {found.missing}",
                        where="sandbox", fix=remedy())
    return found


def remedy() -> str:
    if sys.platform != "linux":
        return ("run in a Linux container or virtual machine (kernel 5.13 or later), or, if you trust the model "
                "that writes the code, set `sandbox: {allow_weak: true}`")
    return ("use a kernel from 5.13 on with Landlock in its `lsm=` list and a container policy that lets Landlock "
            "and seccomp through (Docker's default does), or install bubblewrap, or, if you trust the model that "
            "writes the code, set `sandbox: {allow_weak: true}`")


def _no_landlock() -> str:
    """Why Landlock and seccomp cannot be had; empty if they can."""
    try:
        jail.machine()
        jail.landlock_abi()
    except OSError as e:
        return f"Landlock: {e}"
    # Whether a filter can be installed shows only by installing one, so a process is spent on it.
    code = ("import sys; sys.path.insert(0, sys.argv[1]); import jail; jail.no_new_privileges(); "
            "jail.filter_calls(jail.compiled(jail.SERVER))")
    run = subprocess.run([sys.executable, "-P", "-s", "-S", "-B", "-c", code, str(HERE)], capture_output=True,
                         text=True, timeout=60, env=environment(0))
    return f"seccomp: {(run.stderr.strip().splitlines() or ['killed'])[-1]}" if run.returncode else ""


def _bwrap_works() -> bool:
    try:
        return subprocess.run([*bwrap(), sys.executable, "-S", "-c", ""], capture_output=True, timeout=60,
                              env=environment(0)).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def bwrap() -> list[str]:
    """The command prefix: own namespaces for everything, Python and the system libraries read-only, no more."""
    python = str(Path(sys.executable).resolve().parent)
    roots = sorted({sys.base_prefix, sys.prefix, sys.base_exec_prefix, python})
    shown = [p for p in ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", *roots) if os.path.exists(p)]
    hidden = sorted({sysconfig.get_path(key) for key in ("purelib", "platlib")})
    return [shutil.which("bwrap") or "bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop",
            "ALL", *(arg for p in shown for arg in ("--ro-bind", p, p)), "--proc", "/proc", "--dev", "/dev",
            *(arg for p in hidden if os.path.isdir(p) for arg in ("--tmpfs", p)),
            "--ro-bind", str(HERE), str(HERE), "--chdir", "/"]


def environment(hash_seed: int) -> dict[str, str]:
    """All that the fork server is told; it clears even this before it forks."""
    own = {"PYTHONHASHSEED": str(hash_seed), "PYTHONUTF8": "1", "LD_BIND_NOW": "1", "TZ": "UTC0", "LC_ALL": "C.UTF-8"}
    # A Python whose own shared library is found by this variable does not start without it.
    return own | {k: v for k in ("LD_LIBRARY_PATH",) if (v := os.environ.get(k))}
