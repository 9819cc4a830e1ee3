"""Attacks on what lies outside the jail: files, environment, processes, network, programs. One test each."""

import os
import re
import socket
from pathlib import Path

import pytest

from if_factory.sandbox import Pool
from tests.sandbox.attacks import attack, libc_refused, no_verdict, refused


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that everyone may read, in a folder where everyone may write."""
    path = tmp_path / "secret.txt"
    path.write_text("the secret")
    path.chmod(0o666)
    tmp_path.chmod(0o777)
    return path


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("path", ["/etc/passwd", "/etc/hostname", "/proc/self/environ", "/proc/self/maps",
                                  "/proc/self/fd/0", "/proc/1/cmdline", "/dev/mem", "/sys/kernel/vmcoreinfo"])
def test_system_file_is_not_read(pool: Pool, path: str) -> None:
    refused(pool, f"open({path!r}, 'rb').read()")


def test_user_file_is_not_read(pool: Pool, secret: Path) -> None:
    refused(pool, "open(x).read()", str(secret))


def test_file_is_not_read_by_a_raw_system_call(pool: Pool, secret: Path) -> None:
    libc_refused(pool, "libc.open(x.encode(), 0)", str(secret))


def test_path_that_walks_out_of_the_standard_library_is_refused(pool: Pool) -> None:
    refused(pool, "open(os.path.dirname(os.__file__) + '/../../../../../../../../etc/passwd').read()")


def test_folder_is_not_listed(pool: Pool) -> None:
    refused(pool, "os.listdir('/')")


def test_file_is_not_written(pool: Pool, secret: Path) -> None:
    refused(pool, "open(x + '.new', 'w').write('y')", str(secret))
    refused(pool, "open(x, 'a').write('y')", str(secret))
    assert [p.name for p in secret.parent.iterdir()] == ["secret.txt"]
    assert secret.read_text() == "the secret"


def test_standard_library_is_not_written(pool: Pool) -> None:
    refused(pool, "open(os.__file__, 'r+')")


@pytest.mark.parametrize("act", ["os.remove(x)", "os.rename(x, x + '2')", "os.truncate(x, 0)", "os.chmod(x, 0)",
                                 "os.mkdir(x + '2')", "os.link(x, x + '2')", "os.symlink(x, x + '2')",
                                 "os.mkfifo(x + '2')", "os.utime(x)", "os.chdir('/tmp')"])
def test_file_system_is_not_changed(pool: Pool, secret: Path, act: str) -> None:
    def state() -> tuple[int, int, int]:
        found = secret.stat()
        return found.st_mode, found.st_size, found.st_mtime_ns

    before = state()
    refused(pool, act, str(secret))
    assert state() == before
    assert [p.name for p in secret.parent.iterdir()] == ["secret.txt"]


def test_symlink_through_proc_does_not_lead_out(pool: Pool) -> None:
    refused(pool, "os.readlink('/proc/self/exe')")
    refused(pool, "os.listdir('/proc/self/root')")
    refused(pool, "open('/proc/self/cwd/etc/passwd')")


def test_reply_pipe_cannot_be_opened_again_through_proc(pool: Pool) -> None:
    refused(pool, "[os.open(f'/proc/self/fd/{n}', os.O_RDWR) for n in range(16)]")


def test_anonymous_memory_file_is_refused(pool: Pool) -> None:
    refused(pool, "os.memfd_create('x')")


# ---------------------------------------------------------------- the environment and other processes


def test_environment_is_empty(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    found = attack(pool, "import os\ndef evaluate(x): return [dict(os.environ), os.getenv('OPENAI_API_KEY')]")
    assert found.values[0] == [{}, None]


def test_parents_environment_is_not_read(pool: Pool) -> None:
    refused(pool, "open(f'/proc/{os.getppid()}/environ', 'rb').read()")
    refused(pool, "open(f'/proc/{x}/environ', 'rb').read()", os.getpid())


@pytest.mark.parametrize("who", ["os.getppid()", "x", "-1", "0"])
def test_no_process_is_signalled(pool: Pool, who: str) -> None:
    refused(pool, f"os.kill({who}, 9)", os.getpid())


def test_pipe_does_not_signal_for_the_function(pool: Pool) -> None:
    """F_SETOWN, F_SETSIG and O_ASYNC make the kernel send a signal of choice when a pipe becomes ready."""
    refused(pool, "import fcntl; fcntl.fcntl(1, fcntl.F_SETOWN, x)", os.getpid())
    refused(pool, "import fcntl; fcntl.fcntl(1, 10, 9)")
    refused(pool, "import fcntl; fcntl.fcntl(1, fcntl.F_SETFL, os.O_ASYNC)")


def test_parent_is_not_traced(pool: Pool) -> None:
    libc_refused(pool, "libc.ptrace(16, x, None, None)", os.getppid())
    libc_refused(pool, "libc.ptrace(0, 0, None, None)")


def test_memory_of_the_parent_is_not_read(pool: Pool) -> None:
    libc_refused(pool, "libc.process_vm_readv(x, None, 0, None, 0, 0)", os.getpid())


def test_limits_of_another_process_are_not_changed(pool: Pool) -> None:
    refused(pool, "import resource; resource.prlimit(x, resource.RLIMIT_CPU, (1, 1))", os.getpid())


def test_own_limits_are_not_raised(pool: Pool) -> None:
    refused(pool, "import resource; resource.prlimit(0, resource.RLIMIT_AS, (-1, -1))")
    libc_refused(pool, "libc.setrlimit(9, b'\\xff' * 16)")


# ---------------------------------------------------------------- the network


def test_tcp_does_not_connect(pool: Pool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        refused(pool, "import socket; socket.create_connection(('127.0.0.1', x), 1)", server.getsockname()[1])
        with pytest.raises(BlockingIOError):
            server.accept()


def test_udp_sends_nothing(pool: Pool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        refused(pool, "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
                      "s.sendto(b'x', ('127.0.0.1', x))", server.getsockname()[1])
        with pytest.raises(BlockingIOError):
            server.recv(10)


@pytest.mark.parametrize("abstract", [False, True])
def test_unix_socket_does_not_connect(pool: Pool, secret: Path, abstract: bool) -> None:
    name = f"\0if_factory_{os.getpid()}" if abstract else str(secret.parent / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        refused(pool, "import socket; socket.socket(socket.AF_UNIX).connect(x)", name)


def test_socketpair_and_netlink_are_refused(pool: Pool) -> None:
    refused(pool, "import socket; socket.socketpair()")
    refused(pool, "import socket; socket.socket(16, 3, 0)")


def test_name_is_not_resolved(pool: Pool) -> None:
    refused(pool, "import socket; socket.getaddrinfo('example.com', 80)")


# ---------------------------------------------------------------- programs, processes, threads


def test_program_does_not_start(pool: Pool, secret: Path) -> None:
    mark = f"{secret}.ran"
    refused(pool, "os.execv('/bin/sh', ['sh', '-c', 'touch ' + x])", mark)
    refused(pool, "import subprocess; subprocess.run(['/bin/sh', '-c', 'touch ' + x])", mark)
    refused(pool, "os.posix_spawn('/bin/sh', ['sh', '-c', 'touch ' + x], {})", mark)
    libc_refused(pool, "libc.execv(b'/bin/sh', None)", mark)
    assert not Path(mark).exists()


def test_os_system_does_not_start_a_shell(pool: Pool, secret: Path) -> None:
    found = attack(pool, "import os\ndef evaluate(x): os._exit(66 if os.system('touch ' + x) == 0 else 13)",
                   f"{secret}.ran")
    assert no_verdict(found) == "ended the process with status 13"
    assert not Path(f"{secret}.ran").exists()


def test_fork_bomb_makes_no_process(pool: Pool) -> None:
    refused(pool, "while True: os.fork()")
    libc_refused(pool, "libc.fork()")
    libc_refused(pool, "libc.vfork()")


def test_thread_bomb_makes_no_thread(pool: Pool) -> None:
    found = attack(pool, """
        import threading, time, os
        def evaluate(x):
            try:
                while True: threading.Thread(target=time.sleep, args=(60,)).start()
            except RuntimeError: os._exit(13)
    """)
    assert no_verdict(found) == "ended the process with status 13"


def test_daemon_thread_does_not_outlive_its_function(pool: Pool, secret: Path) -> None:
    found = attack(pool, """
        import _thread
        def loop(path):
            while True: open(path, "a").write("x")
        def evaluate(x):
            try: _thread.start_new_thread(loop, (x,))
            except Exception: pass
            return True
    """, str(secret))
    assert "a thread" in no_verdict(found)
    assert secret.read_text() == "the secret"


@pytest.mark.parametrize("call", ["unshare(0x10000000)", "setns(0, 0)", "mount(None, b'/', None, 4096, None)",
                                  "chroot(b'/tmp')", "setuid(0)", "prctl(22, 0, 0, 0, 0)",
                                  "personality(0x0040000)", "syscall(425, 1, None)", "syscall(321, 0, None, 0)",
                                  "syscall(298, None, 0, -1, -1, 0)", "syscall(323, 0)", "shmget(0, 4096, 0o666)"])
def test_kernel_interface_is_out_of_reach(pool: Pool, call: str) -> None:
    """Namespaces, mounts, io_uring, bpf, perf, userfaultfd, shared memory."""
    libc_refused(pool, f"libc.{call}")


def test_no_capability_of_root_is_left(pool: Pool) -> None:
    """The fork server has none, so its children have none."""
    status = Path(f"/proc/{pool._workers[0].server(0).process.pid}/status").read_text()
    held = {name: int(value, 16) for name, value in re.findall(r"(Cap(?:Inh|Prm|Eff|Amb)):\s*(\w+)", status)}
    assert held == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0}
