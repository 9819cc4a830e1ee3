"""Throw-away virtual environments: the start-up hook needs a site-packages folder that is not ours."""

from __future__ import annotations

import shutil
import site
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOOK = ROOT / "if_factory_autoload.pth"
_SCRIPTS = {"llamafactory-cli": "from llamafactory.cli import main",
            "torchrun": "from torch.distributed.run import main", "if-factory": "from if_factory.cli import main"}


def make_environment(folder: Path, *, package: Path | None = ROOT, hook: bool = True, base: bool = False) -> Path:
    """An environment and the path of its Python.

    Args:
        package: the folder that holds ``if_factory``; ``None`` for one in which it was uninstalled.
        hook: whether its site-packages has the start-up hook, as after ``pip install``.
        base: lay it over this Python's packages, and give it their commands.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next((folder / "lib").glob("python*")) / "site-packages"
    lines = [str(package)] if package else []
    if base:
        lines += [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))] or site.getsitepackages()
    (packages / "_layers.pth").write_text("".join(f"{line}\n" for line in lines))
    if hook:
        shutil.copy(HOOK, packages)
        shutil.copy(HOOK.with_suffix(".py"), packages)
    python = folder / "bin" / "python"
    for name, code in _SCRIPTS.items() if base else ():
        script = folder / "bin" / name
        script.write_text(f"#!{python}\nimport sys\n{code}\nsys.exit(main())\n")
        script.chmod(0o755)
    return python
