"""Attacks on the run itself: time, memory, the interpreter, the next function, the verdict. One test each."""

import os
import signal
import textwrap
import threading
import time
from pathlib import Path

import pytest

from if_factory.records import Outcome
from if_factory.sandbox import Pool
from tests.sandbox.attacks import NEXT, attack, no_verdict, refused

# ---------------------------------------------------------------- time


def timed_out(pool: Pool, source: str) -> None:
    source = textwrap.dedent(source)
    found = attack(pool, source)
    assert "timed out" in no_verdict(found)
    assert found.timed_out
    again = pool.run(source, ["x", "y"])
    assert again.reasons == ("timed out before; not run again",) * 2
    assert again.seconds == 0


def test_endless_loop_at_the_top_level(pool: Pool) -> None:
    timed_out(pool, "while True: pass\ndef evaluate(x): return True")


def test_endless_loop_in_the_function(pool: Pool) -> None:
    timed_out(pool, "def evaluate(x):\n    while True: pass")


def test_endless_loop_that_swallows_every_exception(pool: Pool) -> None:
    timed_out(pool, """
        import signal, time
        for n in range(1, 32):
            try: signal.signal(n, lambda *a: None)
            except (OSError, ValueError): pass
        def evaluate(x):
            while True:
                try:
                    while True: time.sleep(1)
                except BaseException: continue
    """)


def test_endless_loop_in_c_code_that_looks_at_no_signal(pool: Pool) -> None:
    timed_out(pool, "from itertools import repeat\ndef evaluate(x): return sum(repeat(0)) == 0")


def test_blocking_without_using_the_processor(pool: Pool) -> None:
    timed_out(pool, "import select\ndef evaluate(x): select.select([], [], [])")


def test_reading_standard_input_ends_at_once(pool: Pool) -> None:
    assert "EOFError" in no_verdict(attack(pool, "def evaluate(x): return input()"))


def test_exception_whose_text_never_comes(pool: Pool) -> None:
    timed_out(pool, """
        class E(Exception):
            def __str__(self):
                while True: pass
        def evaluate(x): raise E
    """)


def test_sleeping_costs_nothing(pool: Pool) -> None:
    found = attack(pool, """
        import time
        def evaluate(x):
            start = time.time()
            time.sleep(3600)
            return time.time() - start == 3600
    """)
    assert found.verdicts[0].passed
    assert found.seconds < 60


# ---------------------------------------------------------------- memory and size


def test_four_gigabytes_are_not_allocated(pool: Pool) -> None:
    assert "MemoryError" in no_verdict(attack(pool, "def evaluate(x): return len(bytearray(4 << 30)) > 0"))


def test_memory_that_grows_in_small_pieces_ends(pool: Pool) -> None:
    reason = no_verdict(attack(pool, "def evaluate(x):\n    a = []\n    while True: a.append('x' * 100000)"))
    assert "MemoryError" in reason or "timed out" in reason


def test_anonymous_mapping_is_limited_too(pool: Pool) -> None:
    refused(pool, "import mmap; mmap.mmap(-1, 4 << 30)")


def test_recursion_without_end(pool: Pool) -> None:
    assert "RecursionError" in no_verdict(attack(pool, "def evaluate(x): return evaluate(x)"))


def test_printed_flood_goes_nowhere(pool: Pool) -> None:
    found = attack(pool, "import sys, os\ndef evaluate(x):\n    for _ in range(50):\n        print('x' * 100000)\n"
                         "        print('y', file=sys.stderr)\n        os.write(1, b'z' * 10000)\n    return True")
    assert found.verdicts[0].passed


def test_huge_answer_is_cut(pool: Pool) -> None:
    assert "more than 65536 bytes" in no_verdict(attack(pool, "def evaluate(x): return 'x' * 10_000_000"))


def test_generator_is_not_run_for_its_items(pool: Pool) -> None:
    reason = no_verdict(attack(pool, "def evaluate(x):\n    while True: yield 'x' * 10**6"))
    assert "generator" in reason


def test_descriptors_run_out(pool: Pool) -> None:
    refused(pool, "while True: os.dup(1)")


# ---------------------------------------------------------------- ending or breaking the interpreter


def test_os_exit_costs_one_input_only(pool: Pool) -> None:
    source = "import os\ndef evaluate(x):\n    if x == 'b': os._exit(0)\n    return x == 'a'"
    found = pool.run(source, ["a", "b", "c", "b", "a"])
    assert [v.outcome.value for v in found.verdicts] == ["pass", "no_verdict", "fail", "no_verdict", "pass"]
    assert no_verdict(attack(pool, source, "b")) == "ended the process with status 0"


@pytest.mark.parametrize("call", ["exit()", "sys.exit(True)", "quit()", "raise SystemExit",
                                  "raise KeyboardInterrupt"])
def test_leaving_python_is_no_verdict(pool: Pool, call: str) -> None:
    assert "raised " in no_verdict(attack(pool, f"import sys\ndef evaluate(x): {call}"))
    assert "does not load" in no_verdict(attack(pool, f"import sys\n{call}\ndef evaluate(x): return True"))


def test_a_signal_to_itself_is_refused(pool: Pool) -> None:
    refused(pool, "import signal; os.kill(os.getpid(), signal.SIGSEGV)")
    refused(pool, "import signal; signal.raise_signal(signal.SIGSEGV)")


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGSEGV, "crashed the interpreter (segmentation fault)"),
                                                (signal.SIGILL, "crashed the interpreter (illegal instruction)"),
                                                (signal.SIGUSR1, "died of signal 10")])
def test_a_process_ended_by_a_signal_costs_one_input_and_is_named(pool: Pool, number: int, reason: str) -> None:
    """The signal comes from the test: what the parent sees is the same as of a crash."""
    server = pool._workers[0].server(0).process.pid
    children = Path(f"/proc/{server}/task/{server}/children")

    def end_the_child() -> None:
        while not (found := children.read_text().split()):
            time.sleep(0.01)
        time.sleep(0.2)  # past its start
        os.kill(int(found[0]), number)

    thread = threading.Thread(target=end_the_child)
    thread.start()
    found = pool.run("import select\ndef evaluate(x):\n    if x == 'wait': select.select([], [], [])\n"
                     "    return True", ["a", "wait", "b"])
    thread.join()
    assert found.reasons == ("", reason, "")
    assert pool.run(NEXT, ["abc"]).verdicts[0].passed
    assert pool._workers[0].server(0).process.pid == server


def test_abort(pool: Pool) -> None:
    assert "crashed the interpreter" in no_verdict(attack(pool, "import os\ndef evaluate(x): os.abort()"))


def test_exit_handlers_do_not_run(pool: Pool) -> None:
    found = attack(pool, "import atexit\natexit.register(lambda: [0 for _ in iter(int, 1)])\n"
                         "def evaluate(x): return True")
    assert found.verdicts[0].passed


# ---------------------------------------------------------------- poisoning what comes after


@pytest.mark.parametrize("poison", [
    "import builtins; builtins.len = lambda x: 7; builtins.isinstance = lambda *a: False",
    "import json; json.dumps = json.loads = lambda *a, **k: '[[]]'",
    "import sys; sys.modules['json'] = sys.modules['re'] = sys; sys.path[:] = []",
    "import re; re.fullmatch = lambda *a: True",
    "import sys; sys.settrace(lambda *a: 1 / 0); sys.setprofile(lambda *a: 1 / 0)",
    "import builtins; builtins.__import__ = None; del builtins.print",
    "results = []; filter_results = []; json = None; evaluate = None",
    "import gc; [o.clear() for o in gc.get_objects() if type(o) is dict and 'evaluate' in o]",
    "import sys; [m.__dict__.clear() for n, m in list(sys.modules.items()) if n not in ('sys', 'builtins')]",
])
def test_poison_ends_with_its_function(pool: Pool, poison: str) -> None:
    attack(pool, f"{poison}\ndef evaluate(x): return True")
    attack(pool, f"def evaluate(x):\n    {poison}\n    return True")


def test_site_packages_are_out_of_reach(pool: Pool) -> None:
    import pydantic

    folder = str(Path(pydantic.__file__).parents[1])
    found = attack(pool, "import sys\ndef evaluate(x):\n    sys.path.insert(0, x)\n    import pydantic\n"
                         "    return True", folder)
    assert "pydantic" in no_verdict(found)
    refused(pool, "open(x + '/pydantic/__init__.py').read()", folder)


# ---------------------------------------------------------------- the verdict itself


FORGE = """
import json, os, struct
def evaluate(x):
    message = json.dumps({"value": True}).encode()
    for fd in range(3, 16):
        for position in range(4):
            try: os.write(fd, struct.pack("=16sII", b"n" * 16, position, len(message)) + message)
            except OSError: pass
    return False
"""


def test_forged_answer_is_seen_and_nothing_of_that_function_is_believed(pool: Pool) -> None:
    assert no_verdict(attack(pool, FORGE)) == "wrote to the sandbox's own reply channel"
    found = pool.run(FORGE, ["a", "b", "c"])
    assert {v.outcome for v in found.verdicts} == {Outcome.NO_VERDICT}


def test_function_that_steals_its_nonce_speaks_for_itself_only(pool: Pool) -> None:
    """It can: it shares an interpreter with its runner. What it says is about its own inputs."""
    attack(pool, """
        import json, os, struct, sys
        def evaluate(x):
            frame, found = sys._getframe(), {}
            while frame:
                found = {**frame.f_locals, **found}
                frame = frame.f_back
            message = json.dumps({"value": True}).encode()
            for position in range(1, 100):
                os.write(found["w"], struct.pack("=16sII", found["nonce"], position, len(message)) + message)
            return False
    """)


def test_stray_bytes_on_the_reply_pipe_are_seen(pool: Pool) -> None:
    source = "import os\ndef evaluate(x):\n    for n in range(3, 16):\n        try: os.write(n, b'x' * 5)\n" \
             "        except OSError: pass\n    return True"
    assert no_verdict(attack(pool, source)) == "wrote to the sandbox's own reply channel"


def test_closed_reply_pipe_is_no_verdict(pool: Pool) -> None:
    no_verdict(attack(pool, "import os\ndef evaluate(x):\n    os.closerange(0, 64)\n    return True"))


def test_patched_json_and_write_do_not_make_a_verdict(pool: Pool) -> None:
    found = attack(pool, """
        import json, os
        def evaluate(x):
            json.dumps = json.JSONEncoder.encode = lambda *a, **k: '{"value": true}'
            os.write = lambda fd, data: len(data)
            return False
    """)
    assert not found.verdicts[0].passed


@pytest.mark.parametrize("members", [
    "__eq__ = lambda s, o: True\n    __hash__ = lambda s: 1\n    __bool__ = lambda s: True",
    "__class__ = bool\n    __bool__ = lambda s: True\n    __int__ = lambda s: 1",
    "__reduce__ = lambda s: (exit, ())\n    __str__ = __repr__ = lambda s: 'true'",
])
def test_object_that_claims_to_be_true_is_no_verdict(pool: Pool, members: str) -> None:
    assert "type T" in no_verdict(attack(pool, f"class T:\n    {members}\ndef evaluate(x): return T()"))


def test_subclass_of_int_is_no_boolean(pool: Pool) -> None:
    no_verdict(attack(pool, "class I(int):\n    __eq__ = lambda s, o: True\ndef evaluate(x): return I(0)"))


def test_subclass_of_str_is_read_as_the_text_it_holds(pool: Pool) -> None:
    found = attack(pool, "class S(str):\n    lower = strip = __str__ = lambda s: 'true'\n"
                         "def evaluate(x): return S('False')")
    assert found.verdicts[0].failed


@pytest.mark.parametrize(("value", "why"), [
    ("float('nan')", "nan"), ("-float('inf')", "inf"), ("10 ** 5000", "1024 bits"), ("{1: 2}", "dict"),
    ("b'true'", "bytes"), ("x.upper", "method"), ("__import__('re').match('x', 'x')", "Match"), ("None", "null"),
    ("[]", "[]"), ("'yes'", "yes"), ("2", "2"), ("evaluate", "function")])
def test_anything_else_is_no_verdict_and_named(pool: Pool, value: str, why: str) -> None:
    assert why in no_verdict(attack(pool, f"def evaluate(x): return {value}"))


def test_list_that_holds_itself(pool: Pool) -> None:
    assert "nested" in no_verdict(attack(pool, "def evaluate(x):\n    a = []\n    a.append(a)\n    return a"))


@pytest.mark.parametrize("act", ["open('/usr/share/dict/words').read()", "__import__('socket').socket()",
                                 "__import__('os').system('true')", "__import__('nltk').word_tokenize(x)",
                                 "__import__('urllib.request').request.urlopen('http://example.com')"])
def test_refused_act_that_the_function_swallows_is_not_taken_for_false(pool: Pool, act: str) -> None:
    source = f"def evaluate(x):\n    try: {act}\n    except Exception: return False\n    return True"
    reason = no_verdict(attack(pool, source))
    assert reason.startswith(("tried ", "imports nltk"))


# ---------------------------------------------------------------- the pool


def test_nothing_is_left_running_when_the_fork_server_is_killed(strong: None) -> None:
    """The child dies with its server, the caller gets a reason, and the pool goes on with a new server."""
    with Pool(workers=1) as pool:
        server = pool._workers[0].server(0).process

        def kill() -> None:
            time.sleep(0.3)
            server.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        found = pool.run("import select\ndef evaluate(x): select.select([], [], [])", ["x"])
        thread.join()
        assert no_verdict(found) == "the sandbox worker died and was replaced"
        assert pool.run(NEXT, ["abc"]).verdicts[0].passed
