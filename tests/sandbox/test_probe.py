"""Which isolation is chosen, what is said where there is none, and that a weaker level still runs functions."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from if_factory.errors import UserError
from if_factory.records import Outcome
from if_factory.sandbox import Isolation, Pool, jail, probe
from tests.sandbox.conftest import LIMITS

NO_LANDLOCK = OSError(errno.ENOSYS, "landlock_create_ruleset: Function not implemented")


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    cached = probe.isolation  # a test may put another function in its place, which may still be there afterwards
    cached.cache_clear()
    yield
    cached.cache_clear()


@pytest.fixture
def no_landlock(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise NO_LANDLOCK

    monkeypatch.setattr(jail, "landlock_abi", refuse)


def test_landlock_with_seccomp_comes_first(strong: None) -> None:
    assert probe.isolation() == Isolation("landlock+seccomp")


def test_bubblewrap_comes_second(no_landlock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_bwrap_works", lambda: True)
    found = probe.isolation()
    assert (found.level, found.weak) == ("bwrap", False)
    assert "Function not implemented" in str(found)


def test_resource_limits_alone_are_refused_unless_allowed(
        no_landlock: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_bwrap_works", lambda: False)
    with pytest.raises(UserError, match="cannot be isolated on this machine: Landlock") as e:
        Pool()
    assert "kernel from 5.13" in str(e.value)
    assert "allow_weak: true" in str(e.value)
    with Pool(workers=1, allow_weak=True) as pool:
        assert pool.isolation.level == "rlimits"


def test_a_system_that_is_not_linux_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe.sys, "platform", "darwin")
    with pytest.raises(UserError, match="darwin has neither Landlock nor seccomp") as e:
        probe.require(allow_weak=False)
    assert "Linux container or virtual machine" in str(e.value)


def test_a_refused_filter_is_noticed(strong: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "_bwrap_works", lambda: False)
    broken = tmp_path / "jail.py"
    broken.write_text("def no_new_privileges(): raise OSError('seccomp: Invalid argument')")
    monkeypatch.setattr(probe, "HERE", tmp_path)
    assert probe.isolation() == Isolation("rlimits", "seccomp: OSError: seccomp: Invalid argument; "
                                                     "bubblewrap does not work here either")


def test_locks_that_are_accepted_and_do_not_hold_are_found_at_the_start(
        strong: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A copy of the fork server whose Landlock does nothing."""
    for name in ("zygote.py", "child.py", "clock.py", "jail.py"):
        text = (probe.HERE / name).read_text()
        (tmp_path / name).write_text(text.replace("    abi = landlock_abi()\n", "    return 7\n"))
    monkeypatch.setattr("if_factory.sandbox.server.HERE", tmp_path)
    with pytest.raises(UserError, match="the kernel accepted the locks, yet listing the root folder worked"):
        Pool(workers=1)


def test_a_python_that_does_not_start_is_an_error_with_a_hint(
        strong: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("if_factory.sandbox.server.HERE", tmp_path)
    with pytest.raises(UserError, match="did not start"):
        Pool(workers=1)


LEVELS = [pytest.param("rlimits"), pytest.param("bwrap", marks=pytest.mark.skipif(
    not probe._bwrap_works(), reason="bubblewrap is not installed or not allowed here"))]


@pytest.mark.parametrize("level", LEVELS)
def test_a_weaker_level_runs_functions_and_keeps_its_limits(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "isolation", lambda: Isolation(level))
    with Pool(workers=1, limits=LIMITS, allow_weak=True) as pool:
        found = pool.run("import json\ndef evaluate(x): return json.loads(x) == [1]", ["[1]", "[2]"], runs=2)
        assert [v.outcome for v in found.verdicts] == [Outcome.PASS, Outcome.FAIL]
        assert pool.run("def evaluate(x):\n    while True: pass", ["a"]).timed_out
        assert "MemoryError" in pool.run("def evaluate(x): return len(bytearray(4 << 30))", ["a"]).reasons[0]
        assert "which the sandbox refuses" in pool.run(
            "def evaluate(x):\n try: open('/etc/passwd')\n except OSError: pass\n return False", ["a"]).reasons[0]


@pytest.mark.skipif(not probe._bwrap_works(), reason="bubblewrap is not installed or not allowed here")
def test_bubblewrap_hides_files_and_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    monkeypatch.setattr(probe, "isolation", lambda: Isolation("bwrap"))
    with Pool(workers=1, limits=LIMITS) as pool:
        for act in (f"open({str(tmp_path / 'secret')!r})", "os.listdir('/home')", "open('/etc/passwd')",
                    "__import__('socket').create_connection(('1.1.1.1', 53), 1)"):
            source = f"import os\ndef evaluate(x):\n try: {act}\n except OSError: os._exit(13)\n os._exit(66)"
            assert pool.run(source, ["a"]).reasons == ("ended the process with status 13",)


def test_the_fork_server_is_told_five_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert set(probe.environment(1)) == {"PYTHONHASHSEED", "PYTHONUTF8", "LD_BIND_NOW", "TZ", "LC_ALL"}


def test_importing_the_constraints_does_not_import_the_sandbox() -> None:
    code = "import sys, if_factory.constraints.verify; print('if_factory.sandbox' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert run.stdout == "False\n"
