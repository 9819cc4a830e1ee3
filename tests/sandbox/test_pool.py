"""What a caller of the pool may rely on: namespaces, determinism, flaky functions, time-outs, threads, asyncio."""

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from if_factory.sandbox import Limits, Pool, truth_value
from if_factory.sandbox.probe import HERE
from tests.sandbox.conftest import LIMITS

ROOT = Path(__file__).parents[2]


def outcomes(found: object) -> list[str]:
    return [v.outcome.value for v in found.verdicts]  # type: ignore[attr-defined]


# ---------------------------------------------------------------- a module of its own


def test_helpers_imports_constants_and_classes_at_the_top_are_seen(pool: Pool) -> None:
    source = """
import re
from collections import Counter
from dataclasses import dataclass, field
WORD = re.compile("[a-z]+")
@dataclass
class Rule:
    least: int
    seen: list[str] = field(default_factory=list)
def words(text): return WORD.findall(text)
def evaluate(response):
    def inner(): return Counter(words(response))
    return sum(inner().values()) >= Rule(2).least
"""
    found = pool.run(source, ["a b", "a"], runs=2)
    assert outcomes(found) == ["pass", "fail"]
    assert found.loaded
    assert not found.flaky


def test_one_function_does_not_see_anothers_names(pool: Pool) -> None:
    pool.run("def helper(): return True\ndef evaluate(x): return helper()", ["a"])
    assert "NameError" in pool.run("def evaluate(x): return helper()", ["a"]).reasons[0]


def test_code_for_the_main_module_does_not_run(pool: Pool) -> None:
    assert outcomes(pool.run("def evaluate(x): return True\nif __name__ == '__main__': 1 / 0", ["a"])) == ["pass"]


def test_the_packages_own_future_imports_do_not_leak_in(pool: Pool) -> None:
    source = "def evaluate(x: int): return evaluate.__annotations__['x'] is int"
    assert outcomes(pool.run(source, [1])) == ["pass"]


@pytest.mark.parametrize(("source", "why"), [
    ("def evaluate(x) return True", "SyntaxError"), ("", "defines no function 'evaluate'"),
    ("evaluate = 3", "defines no function"), ("def check(x): return True", "defines no function"),
    ("import nltk\ndef evaluate(x): return True", "No module named 'nltk'"), ("1 / 0", "ZeroDivisionError"),
    ("x = '\0'", "null bytes"), ("x = '\ud800'", "surrogates"), ("(" * 500 + ")" * 500, "does not load"),
    ("try: open('/usr/share/dict/words')\nexcept OSError: pass\ndef evaluate(x): return True", "tried to open"),
])
def test_what_does_not_load_says_why(pool: Pool, source: str, why: str) -> None:
    found = pool.run(source, ["a", "b"], runs=2)
    assert not found.loaded
    assert outcomes(found) == ["no_verdict"] * 2
    assert all("does not load" in r and why in r for r in found.reasons), found.reasons


@pytest.mark.parametrize("source", [["def evaluate(x): return True"], None, 3, {}])
def test_source_that_is_not_text_does_not_load(pool: Pool, source: object) -> None:
    found = pool.run(source, ["a"])  # type: ignore[arg-type]
    assert found.reasons == ("does not load: the source is not text",)


def test_an_optional_import_at_the_top_may_fail(pool: Pool) -> None:
    source = ("try: import regex as re\nexcept ImportError: import re\n"
              "def evaluate(x): return bool(re.match('a', x))")
    assert outcomes(pool.run(source, ["a", "b"])) == ["pass", "fail"]


def test_no_inputs_only_loads(pool: Pool) -> None:
    assert pool.run("def evaluate(x): return True", []).loaded
    assert not pool.run("def evaluate(x)", []).loaded


def test_another_entry(pool: Pool) -> None:
    found = pool.run("def check(a): return a == [1, {'b': None}]", [[1, {"b": None}]], entry="check")
    assert found.values == (True,)


# ---------------------------------------------------------------- values and verdicts


def test_values_come_back_as_json_and_none_is_told_from_nothing(pool: Pool) -> None:
    found = pool.run("def evaluate(x):\n    if x == 'crash': 1 / 0\n    return {'none': None}.get(x, (x, 1.5))",
                     ["none", "é\ud800\0", "crash"])
    assert found.values == (None, ["é\ud800\0", 1.5], None)
    assert found.returned == (True, True, False)
    assert found.reasons == ("returned null, which is neither true nor false",
                             'returned ["é\ud800\\u0000", 1.5], which is neither true nor false',
                             "raised ZeroDivisionError: division by zero")


@pytest.mark.parametrize(("value", "truth"), [
    (True, True), (False, False), ("True", True), ("false ", False), (1, True), (0.0, False), (2, None),
    (None, None), ([], None), ("yes", None), (float("nan"), None)])
def test_what_counts_as_a_boolean(value: object, truth: bool | None) -> None:
    assert truth_value(value) is truth


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.recursive(
    st.none() | st.booleans() | st.integers(-2**1000, 2**1000) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8),
    max_size=4))
def test_json_values_cross_unchanged(pool: Pool, inputs: list[object]) -> None:
    assert list(pool.run("def evaluate(x): return x", inputs).values) == inputs


# ---------------------------------------------------------------- determinism


@pytest.mark.parametrize("body", [
    "import random; return random.random() < 0.5", "import random; return random.choice('abcdef') in 'ace'",
    "return hash(x) % 1000 < 500", "return list(set('abcdefghijklmnop'))[:8]",
    "import os; return os.urandom(8).hex()",
    "import time; return time.time()", "import datetime; return datetime.datetime.now().isoformat()",
    "import datetime; return datetime.date.today().year % 2 == 0", "import uuid; return str(uuid.uuid4())"])
def test_chance_hash_order_and_date_make_a_function_flaky(pool: Pool, body: str) -> None:
    found = pool.run(f"def evaluate(x):\n    {body}", [f"text {i}" for i in range(12)], runs=2)
    assert found.flaky
    assert "flaky" in " ".join(found.reasons)


@pytest.mark.parametrize("body", [
    "import random; return random.random()", "return hash(x)", "return str(set('abcdefgh'))",
    "import datetime, time; return [datetime.datetime.now().isoformat(), time.time(), time.strftime('%c'), "
    "datetime.date.today().isoformat(), time.monotonic_ns(), str(datetime.datetime.now(datetime.UTC))]"])
def test_the_same_call_gives_the_same_value_in_every_fork_server(strong: None, pool: Pool, body: str) -> None:
    source = f"def evaluate(x):\n    {body}"
    with Pool(workers=1, limits=LIMITS) as other:
        first = pool.run(source, ["a", "b", "a"])
        for again in (other, pool):
            assert again.run(source, ["a", "b", "a"]).values == first.values
        assert first.values[0] == first.values[2]  # what ran before does not matter


def test_random_numbers_are_those_of_the_run_and_the_input(pool: Pool) -> None:
    source = ("import random\nfrom random import choice\nFIRST = random.random()\n"
              "def evaluate(x): return [FIRST, choice('abc'), random.gauss(0, 1)]\n")
    for run in (0, 1):
        first, own = Random(run).random(), Random(f"{run} 'x'")
        assert pool._once(pool._workers[0], source, ["x"], "evaluate", run).answers[0].value == [
            first, own.choice("abc"), own.gauss(0, 1)]
    seeds_itself = "import random\ndef evaluate(x):\n    random.seed(x)\n    return random.random()"
    assert pool.run(seeds_itself, [5]).values == (Random(5).random(),)



def test_the_frozen_classes_still_are_what_they_were(pool: Pool) -> None:
    source = """
import datetime
from datetime import date, datetime as dt, timedelta
def evaluate(x):
    parsed = dt.strptime("2024-02-29", "%Y-%m-%d")
    made = [parsed, dt(2024, 2, 29), parsed + timedelta(days=1), dt.fromisoformat("2024-02-29"), dt.min, dt.now()]
    assert all(isinstance(m, dt) and isinstance(m, date) for m in made)
    assert issubclass(dt, date) and not isinstance(date.today(), dt) and isinstance(parsed.date(), date)
    assert parsed == dt(2024, 2, 29) and dt.now() > parsed and parsed.date() == date(2024, 2, 29)
    assert repr(parsed) == "datetime.datetime(2024, 2, 29, 0, 0)"
    return dt.now().isoformat() == "2025-01-01T12:00:00"
"""
    assert pool.run(source, ["a"]).reasons == ("",)


# ---------------------------------------------------------------- time-outs, crashes, workers


def test_a_time_out_keeps_what_was_answered_before_it(pool: Pool) -> None:
    source = "def evaluate(x):\n    while x == 'b': pass\n    return True"
    found = pool.run(source, ["a", "b", "a", "a"], runs=2)
    assert outcomes(found) == ["pass", "no_verdict", "no_verdict", "no_verdict"]
    assert found.reasons[1] == "timed out: 0.3 s of CPU time"
    assert found.reasons[2] == "timed out on an earlier input"
    assert found.timed_out
    assert pool.run(source, ["a"]).reasons == ("timed out before; not run again",)
    pool.forget_time_outs()
    assert outcomes(pool.run(source, ["a"])) == ["pass"]


def test_limits_are_per_input_and_in_total(strong: None) -> None:
    source = "def evaluate(x):\n    for _ in range(x): pass\n    return True"
    with Pool(workers=1, limits=Limits(cpu_seconds=0.3, total_seconds=60)) as pool:
        assert outcomes(pool.run(source, [500_000] * 40)) == ["pass"] * 40  # about a second of CPU in all
    with Pool(workers=1, limits=Limits(cpu_seconds=0.3, total_seconds=0.5)) as pool:
        found = pool.run(source, [500_000] * 200)
        assert "over all its inputs" in " ".join(found.reasons)


def test_threads_and_tasks_share_the_workers_and_get_their_own_answers(strong: None) -> None:
    async def all_at_once(pool: Pool) -> list[object]:
        return [r.values[0] for r in await asyncio.gather(
            *(pool.arun(f"def evaluate(x): return x * {i}", [2]) for i in range(40)))]

    with Pool(workers=3, limits=LIMITS) as pool:
        assert asyncio.run(all_at_once(pool)) == [2 * i for i in range(40)]
        with ThreadPoolExecutor(8) as threads:
            values = threads.map(lambda i: pool.run(f"def evaluate(x): return x + {i}", [1]).values[0], range(40))
            assert list(values) == [1 + i for i in range(40)]


async def test_the_event_loop_goes_on_while_a_function_runs(pool: Pool) -> None:
    ticks = 0
    task = asyncio.create_task(pool.arun("def evaluate(x):\n    while True: pass  # loop", ["a"]))
    while not task.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert (await task).timed_out
    assert ticks > 3


def test_an_interrupt_between_question_and_answer_leaves_no_stale_answer(
        strong: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with Pool(workers=1, limits=LIMITS) as pool:
        server = pool._workers[0].server(0)

        def interrupt(*args: object) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(server, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            pool.run("def evaluate(x): return 'stale'", ["a"])
        assert pool.run("def evaluate(x): return 'fresh'", ["a"]).values == ("fresh",)


def test_a_closed_pool_says_so_and_wakes_whoever_waits(strong: None) -> None:
    pool = Pool(workers=1)
    found: list[object] = []

    def call(source: str) -> None:
        try:
            found.append(pool.run(source, ["a"]).reasons[0])
        except RuntimeError as e:
            found.append(str(e))

    block = "import select\ndef evaluate(x): select.select([], [], [])"
    threads = [threading.Thread(target=call, args=(block + "\n" * i,)) for i in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    pool.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(map(str, found)) == ["the sandbox worker died and was replaced"] + [
        "this sandbox pool is closed"] * 2
    with pytest.raises(RuntimeError, match="closed"):
        pool.run("def evaluate(x): return True", ["a"])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_parent_leaves_no_process_behind(strong: None) -> None:
    script = ("from if_factory.sandbox import Pool\npool = Pool(workers=1)\n"
              "print(pool._workers[0].server(0).process.pid, flush=True)\n"
              "pool.run('import select\\ndef evaluate(x): select.select([], [], [])', ['a'])")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        children = Path(f"/proc/{server}/task/{server}/children")
        for _ in range(500):
            if found := children.read_text().split():
                break
            time.sleep(0.01)
        os.kill(parent.pid, signal.SIGKILL)
    processes = [server, *map(int, found)]
    assert len(processes) == 2
    for _ in range(500):
        if not any(map(_alive, processes)):
            break
        time.sleep(0.01)
    assert not any(map(_alive, processes))


@pytest.mark.skipif(os.getuid() != 0, reason="the whole suite already runs as an ordinary user")
def test_an_ordinary_user_is_isolated_as_well(strong: None, tmp_path: Path) -> None:
    """uid 65534, with the first Python of this version that it may start."""
    script = ("from if_factory.sandbox import Pool, isolation\nimport os\n"
              "with Pool(workers=1) as pool:\n"
              "    found = pool.run('import os\\ndef evaluate(x):\\n try: os.listdir(chr(47))\\n"
              " except OSError: os._exit(13)\\n os._exit(66)', ['a'])\n"
              "    print(os.getuid(), isolation(), found.reasons[0],"
              " pool.run('def evaluate(x): return True', [1]).values)")
    import pydantic

    path = os.pathsep.join([str(ROOT), str(Path(pydantic.__file__).parents[1])])
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            run = subprocess.run([python, "-c", script], capture_output=True, text=True, user=65534, group=65534,
                                 extra_groups=[], cwd="/",
                                 env={"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"})
        except PermissionError:
            continue
        if "ModuleNotFoundError" in run.stderr or "Permission denied" in run.stderr:
            continue
        assert run.stdout == "65534 landlock+seccomp ended the process with status 13 (True,)\n", run.stderr
        return
    pytest.skip("no Python of this version that uid 65534 may start, or the checkout is not readable to it")


def test_more_answers_than_inputs_are_forged(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knew the nonce could have made a result longer than its inputs."""
    monkeypatch.syspath_prepend(HERE)
    zygote, nonce = importlib.import_module("zygote"), bytes(16)
    options = {"cpu_seconds": 9, "wall_seconds": 9, "total_seconds": 9, "reply_bytes": 9}
    for inputs, end in ((0, "forged"), (1, "done"), (2, "died")):
        (control, ours), (r, w) = os.pipe(), os.pipe()
        os.write(w, b"".join(zygote.child.FRAME.pack(nonce, i, 2) + b"{}" for i in range(3)))
        os.close(w)
        assert zygote.collect(r, control, os.getpid(), nonce, inputs, options)[1] == end
        for fd in (control, ours, r):
            os.close(fd)


# ---------------------------------------------------------------- compiled once


def test_a_function_is_compiled_once_and_what_it_does_to_itself_is_not_kept(pool: Pool) -> None:
    source = """
def evaluate(x):
    evaluate.__code__ = (lambda x: False).__code__
    return True
"""
    for _ in range(3):
        assert pool.run(source, ["a", "b"], runs=2).values == (True, False)
    assert source in pool._compiled
    broken = "def evaluate(x) return 1"
    reasons = {pool.run(broken, ["a"]).reasons[0] for _ in range(2)}
    assert reasons == {"does not load: raised SyntaxError: expected ':' (<verifier>, line 1)"}
    assert broken not in pool._compiled


def test_code_is_kept_of_so_many_functions_and_not_where_it_is_larger_than_an_answer(
        strong: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("if_factory.sandbox.pool._REMEMBERED", 2)
    sources = [f"def evaluate(x): return len(x) == {i}" for i in range(4)]
    long = sources[1] + "\n" + "\n".join(f"def f{i}(x): return x" for i in range(40))
    with Pool(workers=1, limits=Limits(reply_bytes=2000)) as pool:
        for source in (*sources, long, long):
            assert outcomes(pool.run(source, ["a", "", "abc"])) == [
                "pass" if f"== {len(x)}" in source else "fail" for x in ("a", "", "abc")]
        assert list(pool._compiled) == sources[-2:]
