"""A stand-in for a Python with vLLM: no model, only the server's manners. Started as the interpreter would be.

    stand_in_vllm.py -c PROBE                                      what is installed
    stand_in_vllm.py -m vllm.entrypoints.openai.api_server ...     serve

Environment variables say how it behaves: STAND_IN_FOLDER (each start writes ``start-N.json`` there, each answered
request a line to ``answered``), STAND_IN_DIES (a message: end with status 1 before listening), STAND_IN_SLOW (seconds
before listening).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(os.environ["STAND_IN_FOLDER"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    name, root = "", ""

    def do_GET(self) -> None:
        if self.path == "/health":
            self._say(200, {})
        elif self._has_key():
            self._say(200, {"object": "list", "data": [{"id": self.name, "root": self.root, "owned_by": "vllm"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._has_key():
            return
        if body["model"] != self.name:
            return self._say(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        text = body["messages"][-1]["content"]
        time.sleep(0.05)
        with open(FOLDER / "answered", "a") as f:
            f.write(f"{os.getpid()} {json.dumps(text)}\n")
        self._say(200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": f"answer to {text}"},
                                     "finish_reason": "stop"}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
        return None

    def _has_key(self) -> bool:
        right = self.headers.get("Authorization") == f"Bearer {os.environ['VLLM_API_KEY']}"
        if not right:
            self._say(401, {"error": "Unauthorized"})
        return right

    def _say(self, status: int, body: dict[str, object]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing when a client goes away, as uvicorn does: what is written last is the server's last words."""


def note_start(start: dict[str, object]) -> int:
    """The number of this start; two servers may start at the same moment."""
    note = FOLDER / f".{os.getpid()}"
    note.write_text(json.dumps(start))
    for number in itertools.count():
        try:
            os.link(note, FOLDER / f"start-{number}.json")
        except FileExistsError:
            continue
        return number
    raise AssertionError


def main() -> None:
    if sys.argv[1] == "-c":
        print(json.dumps({os.environ.get("STAND_IN_PACKAGE", "vllm"): "0.0-stand-in"}))
        return
    assert sys.argv[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    parser = argparse.ArgumentParser()
    for flag in ("--model", "--host", "--port", "--served-model-name"):
        parser.add_argument(flag)
    given, other = parser.parse_known_args(sys.argv[3:])
    helper = subprocess.Popen(["sleep", "600"])  # as vLLM's engine is a process beside the server's
    number = note_start({
        "pid": os.getpid(), "helper": helper.pid, "command": sys.argv, "flags": other, "model": given.model,
        "port": given.port, "host": given.host, "environment": dict(os.environ)})
    print(f"INFO 11-30 01:02:03 [model.py:1] loading weights (start {number})", flush=True)
    time.sleep(float(os.environ.get("STAND_IN_SLOW", "0")))
    if message := os.environ.get("STAND_IN_DIES"):
        print(f"(EngineCore pid=7) ERROR 11-30 01:02:03 [core.py:99] {message}", file=sys.stderr)
        print("RuntimeError: Engine core initialization failed. See root cause above.", file=sys.stderr, flush=True)
        sys.exit(1)
    Handler.name, Handler.root = given.served_model_name or given.model, given.model
    Server((given.host, int(given.port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
