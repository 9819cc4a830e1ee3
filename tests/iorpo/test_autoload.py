"""The start-up hook in throw-away environments, with a stand-in for LLaMA-Factory: it never breaks a Python."""

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
NAMES = "import sys; print([getattr(f, '__name__', '') for f in sys.meta_path].count('IfFactoryHook'))"


def start(python: Path, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "IF_FACTORY_AUTOLOAD")}
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=60,
                          cwd="/", env={**clean, **env})


def said(python: Path, code: str, **env: str) -> str:
    """What the code printed; Python must start and end without a word on stderr."""
    run = start(python, code, **env)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout.strip()


def found_with(folder: Path) -> str:
    """PYTHONPATH for a folder, and for the packages that ours needs."""
    import yaml

    return os.pathsep.join((str(folder), str(Path(yaml.__file__).parents[1])))


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
    assert said(python, REGISTERED, PYTHONPATH=found_with(llamafactory)) == "True"


def test_the_module_is_imported_as_without_us(python: Path, llamafactory: Path) -> None:
    code = ("import sys, inspect, importlib; from llamafactory.train import tuner as t; "
            "print(type(t.__loader__).__name__, t.__spec__.name, t.__file__, len(inspect.getsource(t)), "
            "importlib.reload(t) is t)")
    path = found_with(llamafactory)
    assert said(python, code, PYTHONPATH=path) == said(python, code, PYTHONPATH=path, IF_FACTORY_AUTOLOAD="0")


def test_starting_python_imports_the_hook_and_nothing_else(python: Path, tmp_path: Path) -> None:
    code = "import sys; print(*sorted(sys.modules))"
    without = make_environment(tmp_path / "env", hook=False)
    assert {*said(python, code).split()} - {*said(without, code).split()} == {"if_factory_autoload"}
    assert (said(python, NAMES), said(without, NAMES)) == ("1", "0")


def test_imports_of_everything_else_are_not_ours(python: Path) -> None:
    code = "import json, sys, email.mime.text; print('if_factory' in sys.modules)"
    assert said(python, code) == "False"


@pytest.mark.parametrize("value", ["0", "false", "OFF", "no"])
def test_it_is_switched_off_by_a_variable(python: Path, llamafactory: Path, value: str) -> None:
    assert said(python, REGISTERED, PYTHONPATH=found_with(llamafactory), IF_FACTORY_AUTOLOAD=value) == "False"


def test_our_launcher_registers_whatever_the_environment_says_and_once(python: Path, llamafactory: Path) -> None:
    code = f"from if_factory.iorpo.autoload import force; force(); force(); {REGISTERED}"
    for value in ("0", "1"):
        assert said(python, code, PYTHONPATH=found_with(llamafactory), IF_FACTORY_AUTOLOAD=value) == "True"


def test_a_package_that_is_gone_leaves_python_and_llamafactory_as_they_were(
        tmp_path: Path, llamafactory: Path) -> None:
    python = make_environment(tmp_path / "env", package=None)
    assert said(python, "print('fine')") == "fine"
    assert said(python, REGISTERED, PYTHONPATH=str(llamafactory)) == "False"


@pytest.mark.parametrize("broken", ["raise RuntimeError('no')", "this is not Python", "import nowhere"])
def test_a_broken_package_leaves_python_and_llamafactory_as_they_were(
        tmp_path: Path, llamafactory: Path, broken: str) -> None:
    (tmp_path / "site" / "if_factory").mkdir(parents=True)
    (tmp_path / "site" / "if_factory" / "__init__.py").write_text(broken)
    python = make_environment(tmp_path / "env", package=tmp_path / "site")
    assert said(python, REGISTERED, PYTHONPATH=str(llamafactory)) == "False"


def test_a_broken_stage_costs_llamafactory_one_line_and_nothing_else(tmp_path: Path, llamafactory: Path) -> None:
    package = tmp_path / "site" / "if_factory"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "iorpo").mkdir()
    (package / "iorpo" / "__init__.py").touch()
    (package / "iorpo" / "autoload.py").write_text((ROOT / "if_factory" / "iorpo" / "autoload.py").read_text())
    run = start(make_environment(tmp_path / "env", package=tmp_path / "site"),
                "from llamafactory.train import tuner; print(tuner.run_exp())", PYTHONPATH=str(llamafactory))
    assert run.stdout.strip() == "stock"
    assert run.stderr.count("\n") == 1
    assert ("stage iorpo is not available (ModuleNotFoundError: No module named 'if_factory.iorpo.register')"
            in run.stderr)


def test_without_llamafactory_importing_it_fails_as_ever(python: Path) -> None:
    run = start(python, "import llamafactory.train.tuner")
    assert run.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'llamafactory'"


def test_wheel_and_editable_install_put_the_hook_beside_the_package(tmp_path: Path) -> None:
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed here")
    for version in ("standard", "editable"):
        (wheel,) = builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path / version), versions=[version])
        names = zipfile.ZipFile(wheel).namelist()
        assert "if_factory_autoload.pth" in names
        assert version == "editable" or "if_factory_autoload.py" in names  # editable: the project's folder has it
        # site reads .pth files by name: the one that names the package's folder must come first
        assert sorted(n for n in names if n.endswith(".pth"))[-1] == "if_factory_autoload.pth"
