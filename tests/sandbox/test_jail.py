"""The filters of both processors, run by a small interpreter of BPF; the tables against the kernel's headers."""

import re
from pathlib import Path

import pytest

from if_factory.sandbox import jail

ALLOW, KILL, EPERM = 0x7FFF0000, 0x80000000, 0x00050001
ARCHES = ("x86_64", "aarch64")
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
           "aarch64": "/usr/include/asm-generic/unistd.h"}


def run(program: list[tuple[int, int, int, int]], arch: int, number: int, arg1: int = 0) -> int:
    """What the filter answers to a call: classic BPF, the four operations the filters use."""
    data = {0: number, 4: arch, 24: arg1 & 0xFFFFFFFF}
    at = loaded = 0
    while True:
        code, true, false, k = program[at]
        at += 1
        if code == 0x20:
            loaded = data[k]
        elif code == 0x15:
            at += true if loaded == k else false
        elif code == 0x35:
            at += true if loaded >= k else false
        elif code == 0x06:
            return k
        else:
            raise AssertionError(f"unknown operation {code:#x}")


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("names", [jail.VERIFIER, jail.SERVER])
def test_only_the_calls_named_pass(arch: str, names: tuple[str, ...]) -> None:
    program = jail.program(names, arch)
    allowed = set(jail.numbers(names, arch)) - set(jail.numbers(["fcntl"], arch))
    passed = {n for n in range(600) if run(program, jail._ARCH[arch], n) == ALLOW}
    assert passed - set(jail.numbers(["fcntl"], arch)) == allowed
    assert all(run(program, jail._ARCH[arch], n) in (ALLOW, EPERM) for n in range(600))


@pytest.mark.parametrize("arch", ARCHES)
def test_fcntl_passes_for_harmless_commands_only(arch: str) -> None:
    program, [fcntl] = jail.program(jail.VERIFIER, arch), jail.numbers(["fcntl"], arch)
    passed = {c for c in range(2000) if run(program, jail._ARCH[arch], fcntl, c) == ALLOW}
    assert passed == set(jail.FCNTL)


@pytest.mark.parametrize("arch", ARCHES)
def test_a_call_in_another_architectures_numbers_kills(arch: str) -> None:
    program = jail.program(jail.VERIFIER, arch)
    for other in (0x40000003, *(code for name, code in jail._ARCH.items() if name != arch)):
        assert run(program, other, 0) == KILL


def test_x32_calls_are_refused() -> None:
    assert run(jail.program(jail.VERIFIER, "x86_64"), jail._ARCH["x86_64"], 0x40000000) == EPERM


def test_what_must_not_be_there_is_not() -> None:
    forbidden = {"clone", "clone3", "fork", "kill", "prctl", "prlimit64", "setrlimit", "seccomp", "ioctl", "pipe2",
                 "capset", "wait4", "dup2", "dup3"}
    assert not forbidden & set(jail.VERIFIER)
    assert set(jail.VERIFIER) < set(jail.SERVER) <= set(jail.SYSCALLS)
    assert not any("sock" in n or "exec" in n or "ptrace" in n for n in jail.SYSCALLS)


@pytest.mark.parametrize("arch", ARCHES)
def test_numbers_are_the_kernels(arch: str) -> None:
    header = Path(HEADERS[arch])
    if not header.is_file():
        pytest.skip(f"{header} is not installed (linux-libc-dev)")
    text = header.read_text()
    known = {name: int(n) for name, n in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    aliases = re.findall(r"#define __NR_(\w+) __NR3264_(\w+)", text)
    known |= {name: known[old] for name, old in reversed(aliases) if old in known}
    column = ARCHES.index(arch)
    for name, numbers in jail.SYSCALLS.items():
        assert numbers[column] == known.get(name), name


def test_another_processor_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        machine = "riscv64"

    monkeypatch.setattr(jail.os, "uname", lambda: Machine)
    with pytest.raises(jail.NotEnforced, match="riscv64"):
        jail.machine()
