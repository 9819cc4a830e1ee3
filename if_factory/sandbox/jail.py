"""Locks a process puts on itself, by ctypes alone: Landlock, seccomp, capabilities and resource limits.

Standard library only and no import of the package: the jailed fork server loads this file by itself. Linux on
x86_64 and aarch64; nothing here needs a privilege. Sources: the kernel's ``Documentation/userspace-api/landlock``
and ``seccomp_filter``; system call numbers from ``arch/x86/entry/syscalls/syscall_64.tbl`` and
``include/uapi/asm-generic/unistd.h``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

# name -> (x86_64, aarch64); aarch64 has only the *at forms of the old path calls.
SYSCALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "open": (2, None), "close": (3, 57), "stat": (4, None), "fstat": (5, 80),
    "lstat": (6, None), "poll": (7, None), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "ioctl": (16, 29), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66),
    "access": (21, None), "pipe": (22, None), "select": (23, None), "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "dup": (32, 23), "dup2": (33, None), "pause": (34, None),
    "nanosleep": (35, 101), "getitimer": (36, 102), "alarm": (37, None), "setitimer": (38, 103),
    "getpid": (39, 172), "clone": (56, 220), "fork": (57, None), "exit": (60, 93), "wait4": (61, 260),
    "kill": (62, 129), "uname": (63, 160), "fcntl": (72, 25), "getcwd": (79, 17), "gettimeofday": (96, 169),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174),
    "getgid": (104, 176), "geteuid": (107, 175), "getegid": (108, 177), "getppid": (110, 173),
    "capset": (126, 91), "sigaltstack": (131, 132), "prctl": (157, 167), "setrlimit": (160, 164),
    "gettid": (186, 178), "futex": (202, 98), "sched_getaffinity": (204, 123), "getdents64": (217, 61),
    "restart_syscall": (219, 128), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "exit_group": (231, 94), "openat": (257, 56), "newfstatat": (262, 79),
    "faccessat": (269, 48), "pselect6": (270, 72), "ppoll": (271, 73), "set_robust_list": (273, 99),
    "dup3": (292, 24), "pipe2": (293, 59), "prlimit64": (302, 261), "seccomp": (317, 277),
    "getrandom": (318, 278), "statx": (332, 291), "rseq": (334, 293), "clone3": (435, 435),
    "close_range": (436, 436), "faccessat2": (439, 439), "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446),
}

# What CPython needs to compute, import from the standard library, and answer. Not here, so refused: everything
# that starts a process or thread, opens a socket, signals or looks into another process, changes a limit,
# writes to the file system, or reads a link. `fcntl` is allowed for five commands only, see FCNTL.
VERIFIER = (
    "read", "write", "open", "close", "stat", "fstat", "lstat", "poll", "lseek", "mmap", "mprotect", "munmap",
    "brk", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "pread64", "readv", "writev", "access", "select",
    "sched_yield", "mremap", "madvise", "dup", "pause", "nanosleep", "getitimer", "alarm", "setitimer", "getpid",
    "exit", "uname", "fcntl", "getcwd", "gettimeofday", "getrusage", "sysinfo", "times", "getuid", "getgid",
    "geteuid", "getegid", "getppid", "sigaltstack", "gettid", "futex", "sched_getaffinity", "getdents64",
    "restart_syscall", "clock_gettime", "clock_getres", "clock_nanosleep", "exit_group", "openat", "newfstatat",
    "faccessat", "faccessat2", "pselect6", "ppoll", "set_robust_list", "getrandom", "statx", "rseq",
)
# What the fork server needs on top; it never runs generated code.
SERVER = (*VERIFIER, "clone", "clone3", "fork", "kill", "wait4", "pipe", "pipe2", "dup2", "dup3", "prctl",
          "prlimit64", "setrlimit", "seccomp", "close_range")
# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC. Not F_SETOWN, F_SETSIG or F_SETFL: with O_ASYNC they let
# a pipe send a signal of choice to another process.
FCNTL = (0, 1, 2, 3, 1030)

_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ALLOW, _KILL, _EPERM = 0x7FFF0000, 0x80000000, 0x00050000 | 1
_LD, _JEQ, _JGE, _RET = 0x20, 0x15, 0x35, 0x06  # BPF: load word, jump if equal, jump if >=, return
_NR, _ARCH_AT, _ARG1 = 0, 4, 24  # offsets in struct seccomp_data

_FS_READ_FILE, _FS_READ_DIR = 1 << 2, 1 << 3
_FS_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}  # from this ABI on
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_SIGKILL = 9


class NotEnforced(OSError):
    """The kernel, or a container's own policy, does not offer this lock."""


def machine() -> str:
    """``x86_64`` or ``aarch64``.

    Raises:
        NotEnforced: another processor, or a 32-bit Python on one of these.
    """
    name = os.uname().machine
    if name not in _ARCH or struct.calcsize("P") != 8:
        raise NotEnforced(f"no system call table for {name}")
    return name


def numbers(names: Iterable[str], arch: str) -> list[int]:
    """The system call numbers of ``names`` on ``arch``, ascending; names it does not have are left out."""
    column = list(_ARCH).index(arch)
    return sorted(n for name in names if (n := SYSCALLS[name][column]) is not None)


Steps = list[tuple[int, int, int, int]]  # code, jump if true, jump if false, constant


def program(names: Iterable[str], arch: str) -> Steps:
    """A BPF filter: the calls named, and no other.

    A call of another architecture kills the process; any call not named fails with ``EPERM``. The numbers are
    found by bisection: the kernel runs every new filter over all its calls, once per fork, so length is time.
    """
    names = list(names)
    commands = [step for c in FCNTL for step in ((_JEQ, 0, 1, c), (_RET, 0, 0, _ALLOW))]
    special = {n: [(_LD, 0, 0, _ARG1), *commands, (_RET, 0, 0, _EPERM)] for n in numbers(["fcntl"], arch)}
    refuse, allow = [(_RET, 0, 0, _EPERM)], [(_RET, 0, 0, _ALLOW)]
    segments: list[tuple[int, Steps]] = [(0, refuse)]  # what is done from this number on
    for n in numbers(names, arch):
        for start, leaf in ((n, special.get(n, allow)), (n + 1, refuse)):
            if segments[-1][0] == start:
                segments.pop()
            if not segments or segments[-1][1] is not leaf:
                segments.append((start, leaf))
    return [(_LD, 0, 0, _ARCH_AT), (_JEQ, 1, 0, _ARCH[arch]), (_RET, 0, 0, _KILL), (_LD, 0, 0, _NR),
            *_bisect(segments)]


def _bisect(segments: Sequence[tuple[int, Steps]]) -> Steps:
    if len(segments) == 1:
        return segments[0][1]
    middle = len(segments) // 2
    below, above = _bisect(segments[:middle]), _bisect(segments[middle:])
    return [(_JGE, len(below), 0, segments[middle][0]), *below, *above]


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _syscall(name: str, *args: object) -> int:
    found = int(_libc().syscall(_number(name), *args))
    if found < 0:
        e = ctypes.get_errno()
        raise NotEnforced(e, f"{name}: {os.strerror(e)}")
    return found


def _number(name: str) -> ctypes.c_long:
    return ctypes.c_long(SYSCALLS[name][list(_ARCH).index(machine())] or 0)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    if _libc().prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero):
        raise NotEnforced(ctypes.get_errno(), f"prctl({option})")


def compiled(names: Iterable[str]) -> bytes:
    """The filter for this machine as the kernel reads it; made once, loaded after every fork."""
    return b"".join(struct.pack("=HBBI", *step) for step in program(names, machine()))


def filter_calls(code: bytes) -> None:
    """Install a ``compiled`` seccomp filter on this thread and all it will fork; it cannot be taken off.

    Raises:
        NotEnforced: no seccomp here, or ``no_new_privs`` is not set (``no_new_privileges``).
    """
    _syscall("seccomp", *_install(code))


def _install(code: bytes) -> tuple[object, ...]:
    filt = _Filter(len(code) // 8, code)
    return ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.byref(filt)  # SECCOMP_SET_MODE_FILTER


def no_new_privileges() -> None:
    """No set-user-id program raises what this process may do; Landlock and seccomp require it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def landlock_abi() -> int:
    """The kernel's Landlock version, 1 or more.

    Raises:
        NotEnforced: built without Landlock, switched off at boot, or refused by a container's policy.
    """
    return _syscall("landlock_create_ruleset", None, ctypes.c_size_t(0), ctypes.c_uint32(1))


def landlock(readable: Iterable[str], listable: Iterable[str]) -> int:
    """No file but those beneath ``readable`` can be opened, and only for reading; no TCP, no signal out.

    ``listable``: folders whose names may be listed. TCP is covered from ABI 4, signals and abstract sockets
    from ABI 6; seccomp covers them on every kernel. Not covered by Landlock: ``stat`` on any path.

    Returns:
        The ABI in force.

    Raises:
        NotEnforced: see ``landlock_abi``.
    """
    abi = landlock_abi()
    fs = _FS_ALL[max(v for v in _FS_ALL if v <= abi)]
    attr = struct.pack("=Q", fs) + struct.pack("=Q", 0b11) * (abi >= 4) + struct.pack("=Q", 0b11) * (abi >= 6)
    ruleset = _syscall("landlock_create_ruleset", attr, ctypes.c_size_t(len(attr)), ctypes.c_uint32(0))
    rules = [(p, _FS_READ_FILE | (_FS_READ_DIR if os.path.isdir(p) else 0)) for p in readable]
    for path, access in [*rules, *((p, _FS_READ_DIR) for p in listable)]:
        with contextlib.suppress(FileNotFoundError):  # a dangling link
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            _syscall("landlock_add_rule", ctypes.c_int(ruleset), ctypes.c_int(1), struct.pack("=Qi", access, fd),
                     ctypes.c_uint32(0))
            os.close(fd)
    _syscall("landlock_restrict_self", ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)
    return abi


def drop_capabilities() -> None:
    """What root may do beyond its user id; nothing to drop for an ordinary user."""
    header = struct.pack("=Ii", 0x20080522, 0)
    with contextlib.suppress(NotEnforced):
        _syscall("capset", header, bytes(24))


def hide_from_debuggers() -> None:
    """No other process of this user may trace this one or read its memory or its environment."""
    _prctl(_PR_SET_DUMPABLE, 0)


def limit_files() -> None:
    """Limits that the fork server shares with its children: nothing is written to a file, 16 descriptors."""
    for name, value in (("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NOFILE", 16), ("RLIMIT_MEMLOCK", 0),
                        ("RLIMIT_MSGQUEUE", 0)):
        if (which := getattr(resource, name, None)) is not None:
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(which, (value, value))


def child_lock(memory: int, code: bytes | None) -> tuple[Callable[[], None], Callable[[int], None]]:
    """What a child calls: it dies with its parent, has ``memory`` bytes of address space and no processes of its own,
    and makes the system calls of a ``compiled`` filter only. And what the fork server calls before it forks, with
    the seconds of CPU that the child may use.

    The calls are prepared here, so that little is left to do in each child. A limit that the system does not know or
    refuses (macOS: address space) is passed over; otherwise ``NotEnforced`` is raised.
    """
    libc, pair, zero = _libc(), ctypes.c_ulong * 2, ctypes.c_ulong(0)
    cpu = pair()
    calls: list[tuple[Any, tuple[object, ...], str]] = []
    if sys.platform == "linux":
        death = ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(_SIGKILL), zero, zero, zero
        calls.append((libc.prctl, death, "prctl"))
    for name, value in (("RLIMIT_AS", pair(memory, memory)), ("RLIMIT_NPROC", pair()), ("RLIMIT_CPU", cpu)):
        if (which := getattr(resource, name, None)) is not None:
            calls.append((libc.setrlimit, (ctypes.c_int(which), value), ""))
    if code is not None:
        calls.append((libc.syscall, (_number("seccomp"), *_install(code)), "seccomp"))

    def lock() -> None:
        for call, args, name in calls:
            if call(*args) and name:
                e = ctypes.get_errno()
                raise NotEnforced(e, f"{name}: {os.strerror(e)}")

    def allow_cpu(seconds: int) -> None:
        cpu[0] = cpu[1] = seconds

    return lock, allow_cpu
