"""Faults in a constraint type of the user's own: each names the type and the file, none ends in a traceback."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from random import Random

import pytest

from if_factory.constraints import verify as verifying
from if_factory.constraints.base import load_plugin, try_plugins
from if_factory.constraints.compose import compose
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.methods.suri.measuring import draw_corruptible
from if_factory.records import Constraint, Outcome

GOOD = '''from if_factory.constraints.base import ConstraintType, register

@register
class Tags(ConstraintType):
    type = "mine:tags"
    descriptions = ("Use {count} tags", "Write {count} tags", "Put in {count} tags")
    def check(self, response, kwargs):
        return response.count("#") == kwargs["count"]
    def sample(self, rng, seed_prompt):
        return {"count": rng.randint(1, 2)}
'''


@pytest.fixture
def mine(own_types, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verifying, "_warned", set())
    return tmp_path / "mine.py"


@pytest.mark.parametrize(("old", "new", "said", "line"), [
    ('"Put in {count} tags"', '"Put in {cuont} tags"', "the placeholder {cuont}", ""),
    ('{"count": rng', '{"number": rng', "the placeholder {count}", ""),
    ('"Put in {count} tags"', '"Put in {} tags"', "a description cannot be filled in", ""),
    ('rng.randint(1, 2)', 'int("two")', "ValueError: invalid literal", ":10"),
    ('return {"count": rng.randint(1, 2)}', "return {}[seed_prompt]", "KeyError", ":10")])
def test_a_type_that_cannot_be_drawn_or_described_is_named_with_its_file(mine: Path, old: str, new: str, said: str,
                                                                         line: str) -> None:
    mine.write_text(GOOD.replace(old, new))
    load_plugin(mine)
    for attempt in (lambda: try_plugins("Say hello"),
                    lambda: [compose("Say hello", Random(i), n=1, include=["mine"]) for i in range(20)]):
        with pytest.raises(UserError) as caught:
            attempt()
        assert "'mine:tags'" in caught.value.problem
        assert said in caught.value.problem
        assert caught.value.where == f"{mine}{line}"


def test_suri_names_such_a_type_too(mine: Path) -> None:
    mine.write_text(GOOD.replace("Write {count}", "Write {cuont}"))
    load_plugin(mine)
    with pytest.raises(UserError, match=r"'mine:tags': a description has the placeholder \{cuont\}"):
        [draw_corruptible("#", Random(i), 1, include=["mine"]) for i in range(20)]


@pytest.mark.parametrize(("old", "new", "line"), [("def check", "def chek", 3), ("def sample(", "def sample(:", 9)])
def test_a_type_without_a_checker_is_reported_at_its_own_file(mine: Path, old: str, new: str, line: int) -> None:
    mine.write_text(GOOD.replace(old, new))
    with pytest.raises(UserError) as caught:
        load_plugin(mine)
    assert caught.value.where == f"{mine}:{line}"


def test_a_checker_that_raises_is_said_once(mine: Path) -> None:
    mine.write_text(GOOD.replace('kwargs["count"]', 'kwargs["cuont"]'))
    load_plugin(mine)
    asked = [Constraint(type="mine:tags", kwargs={"count": 2})]
    said = f"the checker of 'mine:tags' ({mine}) raised KeyError: 'cuont'; its verdicts are missing"
    with pytest.warns(UserWarning, match=re.escape(said)):
        assert verify("#a #b", asked)[0].outcome is Outcome.NO_VERDICT
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        verify("#a", asked)
        verify("x", [Constraint(type="keywords:existence", kwargs={})])
