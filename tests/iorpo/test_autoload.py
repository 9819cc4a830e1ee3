"""The start-up hook, in throw-away environments with a stand-in for LLaMA-Factory: it must never break a Python."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.iorpo.environments import ROOT, make_environment

TUNER = """
def read_args(args=None): return args
def get_train_args(args=None): return "stock"
def run_dpo(model_args, data_args, training_args, finetuning_args, callbacks=None): return "stock"
def run_exp(args=None, callbacks=None): return get_train_args(args)
"""
REGISTERED = ("from llamafactory.train import tuner; "
              "print(hasattr(tuner.get_train_args, '__wrapped__') and hasattr(tuner.run_dpo, '__wrapped__'))")
INSTALLED = "import sys; print([type(f).__name__ for f in sys.meta_path if not isinstance(f, type)].count('Hook'))"


def start(python: Path, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "IF_FACTORY_AUTOLOAD")}
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, env={**clean, **env}, timeout=60)


def said(python: Path, code: str, **env: str) -> str:
    """What the code printed; Python must start and end without a word on stderr."""
    run = start(python, code, **env)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.strip()


@pytest.fixture(scope="module")
def llamafactory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package ``llamafactory`` that has a ``train.tuner`` and nothing else."""
    folder: Path = tmp_path_factory.mktemp("stand_in")
    train = folder / "llamafactory" / "train"
    train.mkdir(parents=True)
    (train.parent / "__init__.py").touch()
    (train / "__init__.py").touch()
    (train / "tuner.py").write_text(TUNER)
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("env"))


def test_llamafactorys_dispatch_is_wrapped_when_it_is_imported(python: Path, llamafactory: Path) -> None:
    # click, yaml and the like are found through this environment's own packages
    import yaml

    path = os.pathsep.join((str(llamafactory), str(Path(yaml.__file__).parents[1])))
    assert said(python, REGISTERED, PYTHONPATH=path) == "True"
    assert said(python, REGISTERED, PYTHONPATH=path, IF_FACTORY_AUTOLOAD="0") == "False"


def test_the_module_is_imported_as_without_us(python: Path, llamafactory: Path) -> None:
    code = ("import sys, inspect, importlib; from llamafactory.train import tuner as t; print(type(t.__loader__).__name__, "
            "t.__spec__.name, t.__file__, len(inspect.getsource(t)), importlib.reload(t) is t)")
    on, off = (start(python, code, PYTHONPATH=str(llamafactory), IF_FACTORY_AUTOLOAD=v).stdout for v in ("1", "0"))
    assert on == off != ""


def test_starting_python_imports_nothing_but_two_small_modules_of_ours(python: Path, tmp_path: Path) -> None:
    code = "import sys; print(*sorted(sys.modules))"
    without = make_environment(tmp_path / "env", hook=False)
    more = set(said(python, code).split()) - set(said(without, code).split())
    assert more == {"if_factory", "if_factory._autoload"}


@pytest.mark.parametrize("value", ["0", "false", "OFF", "no"])
def test_it_is_switched_off_by_a_variable(python: Path, value: str) -> None:
    assert said(python, INSTALLED) == "1"
    assert said(python, INSTALLED, IF_FACTORY_AUTOLOAD=value) == "0"


def test_a_package_that_is_gone_leaves_a_silent_python(tmp_path: Path) -> None:
    assert said(make_environment(tmp_path / "env", package=None), INSTALLED) == "0"


@pytest.mark.parametrize("broken", ["raise RuntimeError('no')", "this is not Python", "import nowhere"])
def test_a_broken_package_leaves_a_silent_python(tmp_path: Path, broken: str) -> None:
    (tmp_path / "site" / "if_factory").mkdir(parents=True)
    (tmp_path / "site" / "if_factory" / "__init__.py").write_text(broken)
    assert said(make_environment(tmp_path / "env", package=tmp_path / "site"), INSTALLED) == "0"


def test_a_broken_stage_costs_llamafactory_one_line_and_nothing_else(tmp_path: Path, llamafactory: Path) -> None:
    package = tmp_path / "site" / "if_factory"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "_autoload.py").write_text((ROOT / "if_factory" / "_autoload.py").read_text())
    run = start(make_environment(tmp_path / "env", package=tmp_path / "site"),
                "from llamafactory.train import tuner; print(tuner.run_exp())", PYTHONPATH=str(llamafactory))
    assert run.stdout.strip() == "stock"
    assert run.stderr.count("\n") == 1
    assert "stage iorpo is not available (ModuleNotFoundError: No module named 'if_factory.iorpo')" in run.stderr


def test_without_llamafactory_importing_it_fails_as_ever(python: Path) -> None:
    run = start(python, "import llamafactory.train.tuner")
    assert run.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'llamafactory'"


def test_wheel_and_editable_install_put_the_hook_beside_the_package(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed here")
    for version in ("standard", "editable"):
        (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path / version), versions=[version])
        names = zipfile.ZipFile(wheel).namelist()
        assert "if_factory_autoload.pth" in names
        # site reads .pth files by name: the one that names the package's folder must come first
        assert sorted(n for n in names if n.endswith(".pth"))[-1] == "if_factory_autoload.pth"
