"""The child of the fork server: the last locks, then one function over all its inputs.

Standard library only; loaded by the fork server before it locks itself in. What runs here shares an interpreter
with a function that a model wrote, so nothing it says is believed about any other function.
"""

from __future__ import annotations

import json
import marshal
import os
import random
import re
import struct
import sys
import types
from collections.abc import Callable
from functools import wraps
from typing import Any

import clock  # type: ignore[import-not-found]  # a sibling, by its bare name

FRAME = struct.Struct("=16sII")  # nonce, position, length
DAY = 86_400
ZONES = ("/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo")  # CPython's list

# Acts that a function may try, be refused, and swallow in an `except: return False`. The refusal is the kernel's
# business; this list is there so that such a False is not taken for a verdict.
REFUSED = ("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill",
           "os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown",
           "os.truncate", "os.utime", "os.chdir", "shutil.", "tempfile.", "ctypes.", "urllib.", "ftplib.", "http.",
           "smtplib.", "pty.", "webbrowser.", "signal.pthread_kill", "fcntl.",
           "resource.", "sys.addaudithook", "syslog.")
_OPTIONAL = ("java", "org", "vms_lib")  # that the standard library itself tries to import


# Run before the first fork, so that the code below is warm in every child: what an interpreter notes about code and
# types when it first runs them would be noted, and its pages copied, in each child anew.
REHEARSAL = """
import re
def evaluate(response):
    words = re.findall(r"\\b[A-Za-z]+(?:'[a-z]+)?\\b", response)
    for line in response.split("\\n"):
        if not line.lower().startswith("one"):
            return False
    return len(words) == 2 and bool(re.search(r"^\\s*[^\\d]+[.!?]$", response))
"""


def prepared(options: dict[str, Any]) -> Callable[[int, bytes, bytes], None]:
    """The child's work, to be called in the child: lock, compile, load the function, answer for every input.

    Called in the fork server. All that is the same for every function is done here, before the fork: each page that
    a child is the first to touch costs about a microsecond, and those are most of what a function costs.
    """
    run, cap = options["run"], options["reply_bytes"]
    clock.freeze(clock.START + run * 400 * DAY)
    seed = seeded_when_used()
    refused, hook = watch()
    # Taken now, so that a function which patches a module does not garble its own answers.
    write, pack, text_of, read = os.write, FRAME.pack, repr, json.JSONDecoder().scan_once  # type: ignore[attr-defined]
    encode = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
        None, None, json.encoder.encode_basestring_ascii, None, ": ", ", ", False, False, False)

    def work(w: int, nonce: bytes, body: bytes) -> None:
        options["lock"]()
        sys.addaudithook(hook)  # it cannot be removed
        answer_all(w, nonce, body)

    def answer_all(w: int, nonce: bytes, body: bytes) -> None:
        def answer(position: int, found: dict[str, Any]) -> None:
            text = "".join(encode(found, 0)).encode()
            if len(text) > cap:
                text = "".join(encode({"error": f"returned more than {cap} bytes"}, 0)).encode()
            rest = pack(nonce, position, len(text)) + text
            while rest:
                rest = rest[write(w, rest):]

        request, _ = read(body.decode(), 0)
        known = request["code"]
        try:
            if known:  # to an earlier child, which had run none of it then
                code = marshal.loads(bytes.fromhex(known))  # noqa: S302
            else:
                code = compile(request["source"], "<verifier>", "exec", dont_inherit=True)
        except BaseException as e:
            answer(0, {"error": describe(e)})
            return
        made = "" if known else marshal.dumps(code).hex()
        answer(0, {"value": made} if len(made) < cap - 20 else {})  # before any of it has run
        module = types.ModuleType("verifier")
        sys.modules["verifier"] = module  # dataclasses and typing look their module up
        seed(run)
        function: Any = None
        try:
            exec(code, module.__dict__)  # noqa: S102
            function = module.__dict__.get(request["entry"])
            problem = "" if callable(function) else f"defines no function '{request['entry']}'"
        except BaseException as e:
            problem = describe(e)
        problem = problem or "; ".join(r for r in refused if not r.startswith("imports "))
        answer(1, {"error": problem} if problem else {})
        if problem:
            return
        for position, given in enumerate(request["inputs"], 2):
            refused.clear()
            seed(f"{run} {text_of(given)}")  # by content: neither what ran before nor the position matters
            try:
                value = plain(function(given))
                found = {"error": refused[0]} if refused else {"value": value}
            except BaseException as e:
                found = {"error": refused[0] if refused else describe(e)}
            answer(position, found)

    code = marshal.dumps(compile(REHEARSAL, "<verifier>", "exec")).hex()
    for known in ["", code] * 10:
        request = {"source": REHEARSAL, "code": known, "entry": "evaluate", "inputs": ["One two."] * 20}
        answer_all(sys.stdout.fileno(), bytes(16), json.dumps(request).encode())
    re.purge()
    del sys.modules["verifier"]
    return work


def seeded_when_used() -> Callable[[int | str], None]:
    """``random.seed`` put off until a function of ``random`` is called: few verifiers use it, and seeding is dear."""
    seed, pending = random.seed, list[int | str]()

    def first_seeded(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if pending:
                seed(pending.pop())
            return function(*args, **kwargs)
        return call

    def put_off(key: int | str) -> None:
        pending[:] = [key]

    for name, function in list(vars(random).items()):
        if getattr(function, "__self__", None) is random._inst:
            setattr(random, name, first_seeded(function))
    return put_off


def describe(e: BaseException) -> str:
    try:
        return f"raised {type(e).__name__}: {str(e)[:200]}".encode("utf-8", "replace").decode()
    except BaseException:
        return "raised an exception that cannot be printed"


def plain(value: Any, depth: int = 0) -> Any:
    """The value rebuilt of exact JSON types, so that no method of the function's own classes decides anything.

    Raises:
        TypeError: something else, named.
        ValueError: nested deeper than 20, or a number JSON does not have.
    """
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        if value.bit_length() > 1024:
            raise ValueError("returned an integer of more than 1024 bits")
        return value
    if kind is float:
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"returned {value}")
        return value
    if depth > 20:
        raise ValueError("returned something nested too deeply")
    if kind is list or kind is tuple:
        return [plain(v, depth + 1) for v in value]
    if kind is dict and all(type(k) is str for k in value):
        return {k: plain(v, depth + 1) for k, v in value.items()}
    if issubclass(kind, str):
        return str.__str__(value)
    raise TypeError(f"returned an object of type {kind.__name__}, which is neither a boolean nor JSON")


def watch() -> tuple[list[str], Callable[[str, tuple[Any, ...]], None]]:
    """A list, and the audit hook that adds to it every refused act, in words."""
    refused: list[str] = []
    prefixes, builtin, optional = (*sys.path, *ZONES), sys.stdlib_module_names, _OPTIONAL

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir"):
            path = args[0]
            writes = event == "open" and isinstance(args[1], str) and any(c in args[1] for c in "wax+")
            if isinstance(path, str) and path.startswith("<"):  # where a SyntaxError looks for its line
                return
            if not (isinstance(path, str) and path.startswith(prefixes)) or writes:
                refused.append(f"tried to open {str(path)[:100]!r}, which the sandbox refuses")
        elif event == "import":
            name = args[0].partition(".")[0]
            if name not in builtin and name not in optional and name != "verifier":
                refused.append(f"imports {name[:100]}, which is not in the standard library")
        elif event.startswith(REFUSED):
            refused.append(f"tried {event}, which the sandbox refuses")

    def no_thread(*args: Any, **kwargs: Any) -> None:
        refused.append("tried to start a thread, which the sandbox refuses")
        raise RuntimeError("can't start new thread")

    # Not every version audits these; `threading` takes them over when it is imported.
    for module in ("_thread", "threading"):
        for name in ("start_new_thread", "start_joinable_thread", "_start_new_thread", "_start_joinable_thread"):
            if hasattr(sys.modules.get(module), name):
                setattr(sys.modules[module], name, no_thread)
    return refused, hook
