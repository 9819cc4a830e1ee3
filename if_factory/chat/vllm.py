"""vLLM's own OpenAI-compatible server, started in vLLM's environment, on loopback, with a key for this run.

``VllmServer`` starts it, waits until it is ready, restarts it once if it dies, and stops it with all its processes.
Once it runs it is a server like any other and ``http.OpenAIBackend`` talks to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import aiohttp

from if_factory.chat.catalogue import listed
from if_factory.chat.vllm_env import VllmEnvironment, clean
from if_factory.errors import UserError

_logger = logging.getLogger(__name__)
_KEEPER = Path(__file__).with_name("keeper.py")
_SAY_EVERY = 20.0  # seconds between two lines about a server that is starting
_TAIL = 1 << 18  # bytes of its output that are read again
_END_SECONDS = 10.0  # between asking a server to end and killing it
# 0.32.0's CPU build ended in the middle of runs when it read long prompts piece by piece beside other requests.
_CPU_FLAGS: dict[str, Any] = {"enable-chunked-prefill": False}
_OURS = ("model", "host", "port", "api-key", "uds", "root-path")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PROCESS = re.compile(r"^\(\w+ pid=\d+\) ")
_LEVEL = re.compile(r"^(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) \S+ \S+ \[\S+\] ")
_EXCEPTION = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception): |^\S+\.py: error: ")
_ABOVE = re.compile(r"see (?:root cause|stack trace)", re.IGNORECASE)
_NOISE = re.compile(r"^nanobind: | - (?:leaked |\.\.\. skipped)|^See https?://|^\s*\^+\s*$|^Traceback ")


class VllmServer:
    """An ``async`` context manager inside which ``base_url`` answers.

    Args:
        model: a folder or a hub name.
        environment: vLLM's; see ``vllm_env.find``.
        args: vLLM's flags by name: ``{max-model-len: 4096, enforce-eager: true}``.
        gpus: which GPUs it takes, as in ``CUDA_VISIBLE_DEVICES``; none leaves that variable alone.
        start_timeout: seconds until the server must answer; a first start fetches and compiles.

    Attributes:
        base_url: ``http://127.0.0.1:PORT/v1``, set on entry.
        model_name: what the server calls the model: the hub's name, or the folder's.
        api_key: of this run, known to us and, through its environment, to the server.

    Raises:
        UserError: a flag is one of ours, the model's folder is not there, or the server does not start in time.
    """

    def __init__(self, model: str | Path, environment: VllmEnvironment, *, args: Mapping[str, Any] | None = None,
                 gpus: Sequence[str] = (), start_timeout: float = 1800) -> None:
        self.model, self.environment, self.gpus = str(model), environment, tuple(gpus)
        self.flags = flags({**(_CPU_FLAGS if environment.cpu else {}), **_named(args or {})})
        self.start_timeout = start_timeout
        self.api_key = secrets.token_urlsafe(32)
        self.port = 0
        self.base_url = ""
        self.model_name = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._restarted = False
        self._lock = asyncio.Lock()
        self._restart: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process that keeps the server, which leads the process group of all of it."""
        return self._process.pid if self._process else None

    async def start(self) -> VllmServer:
        self.port = self.port or _free_port()
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        # A file, not a pipe: nobody has to drain it, and it is there to quote.
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-I", str(_KEEPER), str(self.environment.python), "-m",
                   "vllm.entrypoints.openai.api_server", "--model", self.model, "--host", "127.0.0.1",
                   "--port", str(self.port), "--disable-uvicorn-access-log", *self._name_flag(), *self.flags]
        # A session of its own, so that Ctrl-C reaches us alone, and all of the server's processes end as one group.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self._output,  # noqa: ASYNC220
                                         stderr=subprocess.STDOUT, start_new_session=True, env=self._environment())
        try:
            await self._until_ready()
        except BaseException:
            self._end()
            raise
        return self

    def _name_flag(self) -> list[str]:
        """A folder is served under its own name: with its whole path, a run could not go on after a move."""
        if "--served-model-name" in self.flags or not Path(self.model).is_dir():
            return []
        return ["--served-model-name", Path(self.model).name]

    def _environment(self) -> dict[str, str]:
        defaults = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_HOST_IP": "127.0.0.1"}
        found = {**defaults, **clean(), "VLLM_API_KEY": self.api_key, "PYTHONUNBUFFERED": "1"}
        # Compilers that vLLM calls by name are in its environment.
        found["PATH"] = f"{self.environment.python.parent}{os.pathsep}{found.get('PATH', os.defpath)}"
        if self.gpus:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return found

    async def _until_ready(self) -> None:
        assert self._process
        began = said = time.monotonic()
        _logger.warning("vLLM %s starts with %s%s; this takes a minute or more", self.environment.version, self.model,
                        f" on GPU {','.join(self.gpus)}" if self.gpus else "")
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.api_key}"},
                                         timeout=aiohttp.ClientTimeout(total=30)) as session:
            while not await self._is_ready(session):
                now = time.monotonic()
                if self._process.poll() is not None:
                    raise UserError(f"vLLM did not start ({self._how_it_ended()}): {self.last_words()}",
                                    where=f"vllm:{self.model}",
                                    fix="correct `args` or the model; on too little memory lower max-model-len or "
                                        "gpu-memory-utilization (without a GPU: kv-cache-memory-bytes)")
                if now - began > self.start_timeout:
                    raise UserError(f"vLLM was not ready after {self.start_timeout:g} s: {self.last_words()}",
                                    where=f"vllm:{self.model}", fix="set the model's `start_timeout` higher; "
                                    "`args: {enforce-eager: true}` starts faster")
                if now - said > _SAY_EVERY:
                    said = now
                    _logger.warning("vLLM is starting, %.0f s: %s", now - began, self._last_line())
                await asyncio.sleep(min(1.0, 0.05 + (now - began) / 10))
        _logger.warning("vLLM serves '%s' after %.0f s", self.model_name, time.monotonic() - began)

    async def _is_ready(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self.base_url.removesuffix("/v1") + "/health") as reply:
                await reply.read()  # a connection closed with bytes unread is reset: the server would log an error
                if reply.status != 200:
                    return False
            async with session.get(f"{self.base_url}/models") as reply:
                served = listed(await reply.read()) if reply.status == 200 else []
        except (aiohttp.ClientError, OSError):  # a TimeoutError too
            return False
        if served:
            self.model_name = str(served[0]["id"])
        return bool(served)

    # ------------------------------------------------------------ a server that died

    async def revive(self) -> bool:
        """Start the server again if it died, once; false if it was stopped or has not died.

        Raises:
            UserError: it died a second time, or does not start.
        """
        async with self._lock:
            if self._process is None:
                return False
            if self._process.poll() is None:  # another request has seen to it
                return self._restarted
            await self._start_again()
            return True

    async def revive_behind(self) -> bool:
        """As ``revive``, beside other servers: nothing waits for it, and one that dies twice is left to its fate."""
        if self._restart is None and self._process is not None and self._process.poll() is not None:
            self._restart = asyncio.create_task(self._start_again_or_say())
        elif self._restart is not None and self._restart.done() and self._process and self._process.poll() is not None:
            _logger.warning("vLLM at %s died again (%s) and is not started a third time: %s", self.base_url,
                            self._how_it_ended(), self.last_words())
            self._end()
        return False

    async def _start_again_or_say(self) -> None:
        try:
            await self._start_again()
        except UserError as e:
            _logger.warning("%s; the other servers go on", e)

    async def _start_again(self) -> None:
        how, said = self._how_it_ended(), self.last_words()
        if self._restarted:
            raise UserError(f"vLLM died again ({how}): {said}", where=f"vllm:{self.model}",
                            fix="free memory, or lower `concurrency` or max-model-len in `args`, then run the same "
                            "command again; answers so far are kept")
        _logger.warning("vLLM died (%s): %s\nstarting it again", how, said)
        self._end()
        self._restarted = True
        await self.start()

    def _how_it_ended(self) -> str:
        status = self._process.returncode if self._process else 0
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(status - 128).name}"
        return f"exit status {status}"

    def _said(self) -> list[tuple[str, str]]:
        """The end of what the server wrote: (level or "", line without the marks of its logger)."""
        if self._output is None:
            return []
        end = self._output.seek(0, os.SEEK_END)
        text = os.pread(self._output.fileno(), _TAIL, max(0, end - _TAIL)).decode("utf-8", "replace")
        return said(text.replace(self.api_key, "***"))

    def _last_line(self) -> str:
        return next((line for _, line in self._said()[::-1]), "no message").strip()[:160]

    def last_words(self) -> str:
        """The exception that ended it, if it names one, and its last lines."""
        lines = self._said()
        raised = [line for level, line in lines if level in ("", "ERROR", "CRITICAL") and _EXCEPTION.match(line)]
        cause = [line for line in raised if not _ABOVE.search(line)] or raised
        shown = dict.fromkeys([*cause[-1:], *(line.strip() for _, line in lines[-4:])])
        return "\n    ".join(line[:400] for line in shown) or "no message"

    # ------------------------------------------------------------ stopping

    async def stop(self) -> None:
        """End the server and all its processes; what is in flight is lost."""
        if self._restart is not None:
            self._restart.cancel()
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            if process.poll() is None:
                _signal(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_END_SECONDS)
            _signal(process.pid, signal.SIGKILL)  # what is left of the group
            process.wait()
            if process.stdin:
                process.stdin.close()
        if self._output:
            self._output.close()
            self._output = None

    async def __aenter__(self) -> VllmServer:
        return await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.stop()


def said(text: str) -> list[tuple[str, str]]:
    """vLLM's log as (level or "", line), without empty lines and what says nothing."""
    found = []
    for line in _COLOUR.sub("", text).splitlines():
        line = _PROCESS.sub("", line).rstrip()
        level = match["level"] if (match := _LEVEL.match(line)) else ""
        line = _LEVEL.sub("", line)
        if line.strip() and not _NOISE.search(line):
            found.append((level, line))
    return found


def _signal(group: int, which: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, which)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def flags(args: Mapping[str, Any]) -> list[str]:
    """vLLM's command line: ``{a_b: 1}`` is ``--a-b 1``, true and false ``--a-b`` and ``--no-a-b``, a list several
    values, a mapping JSON; ``null`` leaves a flag out.

    Raises:
        UserError: a name is no flag's, or one that the run sets itself.
    """
    found: list[str] = []
    for key, value in args.items():
        name = str(key).lstrip("-").replace("_", "-")
        if not re.fullmatch(r"[a-z][a-z0-9-]*(?:\.[a-z0-9.-]+)?", name):
            raise UserError(f"'{key}' is no flag of vLLM", where="models: args",
                            fix="write flags as {max-model-len: 4096, enforce-eager: true}")
        if name in _OURS:
            raise UserError(f"'{key}' is set by the run itself", where="models: args",
                            fix="start vLLM yourself and give its URL as `endpoint`, to set it")
        if value is None:
            continue
        if isinstance(value, bool):
            found.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, Mapping):
            found += [f"--{name}", json.dumps(value)]
        else:
            values = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
            found += [f"--{name}", *map(str, values)]
    return found


def _named(args: Mapping[str, Any]) -> dict[str, Any]:
    """By the names that vLLM documents: ``--max_model_len`` is ``max-model-len``."""
    return {str(key).lstrip("-").replace("_", "-"): value for key, value in args.items()}


def gpus_needed(args: Mapping[str, Any]) -> int:
    """GPUs that one server takes with these flags: tensor by pipeline by data parallel."""
    named = _named(args)
    n = 1
    for key in ("tensor-parallel-size", "pipeline-parallel-size", "data-parallel-size"):
        value = named.get(key)
        n *= value if isinstance(value, int) and value > 0 else 1
    return n


def fingerprint(folder: Path) -> dict[str, str]:
    """What tells the weights in a folder from others under the same name: a hash of sizes and samples (1 MB a file).

    Empty for a hub name, where the name says it."""
    files = sorted([*folder.glob("*.safetensors"), *folder.glob("*.bin"), *folder.glob("*.pt")])
    if not files:
        return {}
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as f:
            for i in range(16):
                f.seek(i * size // 16)
                digest.update(f.read(65536))
    return {"weights": digest.hexdigest()}
