"""Worker processes: the same rewards as without, and a checker that hangs or kills costs its own answer only."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from if_factory.constraints.base import _REGISTRY
from if_factory.constraints.compose import compose
from if_factory.errors import UserError
from if_factory.rewards import Rewarder, ground_truth_of
from tests.support.texts import story

PROMPT = "Describe the sea to a child."
PLUGIN = '''
import os, time
from if_factory.constraints.base import ConstraintType, register

@register
class Odd(ConstraintType):
    type = "test:odd"
    descriptions = ("a", "b", "c")

    def check(self, response, kwargs):
        print("a plugin may print")
        if "hang" in response:
            time.sleep(600)
        if "die" in response:
            os._exit(3)
        return "good" in response

    def sample(self, rng, seed_prompt):
        return None
'''
TRUTH = json.dumps({"instruction_id_list": ["test:odd"], "kwargs": [{}], "prompt": PROMPT})


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "odd_type.py"
    path.write_text(PLUGIN)
    yield path
    _REGISTRY.pop("test:odd", None)  # other tests look at every type


def test_worker_processes_say_what_this_process_says() -> None:
    rng = Random(2)
    texts = [t for t in (story(3), story(40), "", "The sea is blue\nand wide, is it not?") for _ in range(3)]
    truths = [ground_truth_of(compose(PROMPT, rng, n=4), PROMPT) for _ in texts]
    here, there = Rewarder(workers=0), Rewarder(workers=2)
    expected = here.judge([PROMPT] * len(texts), texts, truths)
    for _ in range(2):
        assert there.judge([PROMPT] * len(texts), texts, truths) == expected
    there.close()


def test_a_checker_that_hangs_or_ends_its_process_costs_its_own_answer_only(plugin: Path) -> None:
    rewarder = Rewarder(plugins=[plugin], seconds=1, usefulness=False)
    answers = ["a good sea", "now hang", "a bad sea", "now die"]
    found = rewarder.judge([PROMPT] * 4, answers, [TRUTH] * 4)
    assert [j.reward for j in found] == [1.0, None, 0.0, None]
    assert rewarder.judge([PROMPT], ["good again"], [TRUTH])[0].reward == 1.0
    rewarder.close()


def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(plugin: Path) -> None:
    rewarder = Rewarder(plugins=[plugin], usefulness=False)
    assert rewarder.judge([PROMPT], ["good"], [TRUTH])[0].reward == 1.0
    assert rewarder._workers is not None
    worker = rewarder._workers._workers[0]
    assert worker is not None
    os.kill(worker._process.pid, signal.SIGKILL)
    assert [j.reward for j in rewarder.judge([PROMPT] * 2, ["good", "bad"], [TRUTH] * 2)] == [1.0, 0.0]
    rewarder.close()


def test_a_plugin_that_does_not_load_is_an_error_with_its_place(tmp_path: Path) -> None:
    broken = tmp_path / "broken_type.py"
    broken.write_text("import no_such_module\n")
    with pytest.raises(UserError, match=r"broken_type\.py:1"):
        Rewarder(plugins=[broken])
