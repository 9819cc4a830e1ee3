"""A scripted judge behind HTTP on loopback: no model; what it says of an answer is a function of the question."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.judge.judge_script import part

Says = Callable[[str, str], bool]  # response, criterion -> satisfied


@dataclass
class ScriptedJudgeServer:
    """Attributes:
        says: the verdict on one criterion.
        status: of the answers; not 200 refuses.
        seconds: wait before each answer.
        asked: the questions.
        keys: the Authorization headers.
    """

    says: Says
    url: str = ""
    status: int = 200
    seconds: float = 0.0
    asked: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def reply(self, question: str) -> str:
        response = part(question, "RESPONSE")
        criteria = re.findall(r"^(\d+)\. (.+)$", question.split("The criteria:")[1].split("Take the")[0], re.M)
        return json.dumps({n: {"evidence": "", "reasoning": "scripted", "satisfied": self.says(response, c)}
                           for n, c in criteria})


@contextmanager
def judge_server(says: Says) -> Iterator[ScriptedJudgeServer]:
    """Serves the model ``scripted`` until the end of the block."""
    script = ScriptedJudgeServer(says)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send({"data": [{"id": "scripted"}]}, 200)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            question = body["messages"][-1]["content"]
            script.asked.append(question)
            script.keys.append(self.headers["Authorization"])
            time.sleep(script.seconds)
            if script.status != 200:
                return self.send({"error": {"message": "scripted refusal"}}, script.status)
            message = {"role": "assistant", "content": script.reply(question)}
            self.send({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}, 200)

        def send(self, found: object, status: int) -> None:
            body = json.dumps(found).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # who asked has gone
                pass

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
