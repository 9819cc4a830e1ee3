"""``if-factory train x.yaml``: LLaMA-Factory's own launcher, with stage iorpo known and no start-up hook needed.

The module is started as ``launcher train x.yaml``, which is ``llamafactory-cli train x.yaml``, and, when that
starts torchrun, once per worker as the script ``launcher.py x.yaml``, in place of LLaMA-Factory's launcher.py.
"""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from if_factory.errors import UserError

_REMEMBERED = 100_000  # bytes of standard error
COMMAND = (sys.executable, "-m", "if_factory.iorpo.launcher")
_RAY_HOOK = "ray_init_kwargs.runtime_env.worker_process_setup_hook=if_factory.iorpo.autoload.force"
_RANK = re.compile(r"^\[rank\d+\]: ?")
_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*([A-Za-z_]\w*)(?:: |:?$)")
_WORKER = re.compile(r"Root Cause.*?rank\s*:\s*(\d+).*?exitcode\s*:\s*(-?\d+)", re.DOTALL)


def train_file(path: Path, overrides: Sequence[str] = (), env: Mapping[str, str] | None = None) -> None:
    """Run one LLaMA-Factory YAML of any stage in a process of its own; its output passes through.

    Args:
        path: the YAML.
        overrides: ``key=value``, as ``llamafactory-cli train`` takes them.
        env: variables to add for the training process.

    Raises:
        UserError: no LLaMA-Factory here, or the run failed; one sentence says how it ended.
    """
    from importlib.util import find_spec

    if find_spec("llamafactory") is None:
        raise UserError("llamafactory is not installed here", fix='pip install "if-factory[train]"')
    stderr = b""
    with subprocess.Popen([*COMMAND, "train", str(path), *overrides], stderr=subprocess.PIPE,
                          env={**os.environ, **(env or {})}) as process:
        assert isinstance(process.stderr, io.BufferedReader)
        try:
            while chunk := process.stderr.read1():  # not by lines: a progress bar ends none
                sys.stderr.buffer.write(chunk)
                sys.stderr.buffer.flush()
                stderr = (stderr + chunk)[-_REMEMBERED:]
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        lines = stderr.decode(errors="replace").splitlines()
        raise UserError(how_it_ended(lines, process.returncode), where=str(path), fix="fix the cause and run the "
                        "same command again: it continues from the last checkpoint in output_dir, if there is one")


def how_it_ended(stderr: Sequence[str], status: int) -> str:
    """One sentence for a run that failed: which worker died of what, or the exception that ended it.

    Args:
        stderr: the last lines of its standard error.
        status: its exit status; below 0 for a signal.
    """
    if worker := _WORKER.search("\n".join(stderr)):
        rank, code = int(worker[1]), int(worker[2])
        if code < 0:
            return f"training stopped because worker {rank} was {_killed(-code)}"
        return f"training stopped because worker {rank} failed: {_raised(stderr) or f'status {code}'}"
    if status < 0:
        return f"training was {_killed(-status)}"
    return f"training failed: {_raised(stderr) or f'status {status}'}"


def _killed(number: int) -> str:
    name = signal.Signals(number).name if number in signal.Signals._value2member_map_ else "unknown"
    often = "; often the machine has run out of memory" if number == signal.SIGKILL else ""
    return f"killed by signal {number} ({name}{often})"


def _raised(stderr: Sequence[str]) -> str:
    """The last exception that ended a traceback; torchrun's and its parent's only pass it on."""
    found, inside = "", False
    for line in stderr:
        line = _RANK.sub("", line)
        if line.startswith("Traceback (most recent call last)"):
            inside = True
        elif inside and (match := _RAISED.match(line)):
            inside = False
            if match[1] not in ("ChildFailedError", "CalledProcessError"):
                found = line.removeprefix("if_factory.errors.")
    return found


def main() -> None:
    """As LLaMA-Factory's command with ``train`` or ``export``, as its training script without."""
    from if_factory.iorpo.autoload import force

    force()
    if sys.argv[1:2] in (["train"], ["export"]):
        from llamafactory import cli, launcher

        launcher.__file__ = __file__  # what torchrun starts; torchrun itself stands beside this Python
        os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
        if _starts_ray(sys.argv[2:]):
            sys.argv.append(_RAY_HOOK)
        cli.main()
    else:
        from llamafactory.train.tuner import run_exp

        run_exp()


def _starts_ray(args: Sequence[str]) -> bool:
    """Whether Ray's workers, processes that know nothing of this one, will read a config file."""
    from llamafactory.extras.misc import use_ray

    return bool(use_ray()) and args[:1] != [] and args[0].endswith((".yaml", ".yml", ".json"))


if __name__ == "__main__":
    if __package__ is None:  # a script: its folder, with names like data and trainer, is no place to import from
        sys.path[:1] = []
        sys.path.append(str(Path(__file__).parents[2]))
    main()
