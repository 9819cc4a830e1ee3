"""Running an attack, and proving that the fork server which met it gives the next function right verdicts.

A function whose act the kernel refuses ends with status 13, one that succeeds with 66: an exit status says what
really happened, whatever the runner thinks of the function.
"""

import textwrap

from if_factory.records import Outcome
from if_factory.sandbox import FunctionResult, Pool

NEXT = """
import builtins, json, re, sys
def evaluate(response):
    assert json.loads(json.dumps([1])) == [1] and len("ab") == 2 and isinstance("a", str)
    assert sys.modules["json"] is json
    return re.fullmatch("[a-z]+", response) is not None
"""


def attack(pool: Pool, source: str, given: object = "x") -> FunctionResult:
    """Run it on one input, then prove that the pool serves the next function."""
    server = pool._workers[0].server(0).process.pid
    found = pool.run(textwrap.dedent(source), [given])
    after = pool.run(NEXT, ["abc", "ABC", "abc"])
    assert [v.outcome.value for v in after.verdicts] == ["pass", "fail", "pass"], after.reasons
    assert pool._workers[0].server(0).process.pid == server, "the fork server itself went down"
    return found


def no_verdict(found: FunctionResult) -> str:
    assert found.verdicts[0].outcome is Outcome.NO_VERDICT, found
    return found.reasons[0]


def refused(pool: Pool, act: str, given: object = "x") -> None:
    """The act raises ``OSError`` in the jail."""
    body = textwrap.indent(textwrap.dedent(act).strip(), "        ")
    source = (f"import os, sys\ndef evaluate(x):\n    try:\n{body}\n"
              "    except OSError:\n        os._exit(13)\n    os._exit(66)\n")
    assert no_verdict(attack(pool, source, given)) == "ended the process with status 13"


def libc_refused(pool: Pool, call: str, given: object = "x") -> None:
    """The call through ctypes, past everything that Python checks, fails with EPERM or EACCES."""
    source = f"""
        import ctypes, errno, os
        def evaluate(x):
            libc = ctypes.CDLL(None, use_errno=True)
            worked = {call} != -1
            denied = ctypes.get_errno() in (errno.EPERM, errno.EACCES)
            os._exit(66 if worked else 13 if denied else 99)
    """
    assert no_verdict(attack(pool, source, given)) == "ended the process with status 13"
