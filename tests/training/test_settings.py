"""`--set` is looked at before a file is written: keys and kinds of values, as the installed LLaMA-Factory has them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from if_factory.api.curricula import preset_keys
from if_factory.errors import UserError
from if_factory.training.settings import known_keys, refuse_settings
from tests.exporting.reference import need_llamafactory
from tests.training.test_preset_training import recipe

HPARAMS = """
class FinetuningArguments:
    learning_rate: float = 5e-5
    max_steps: int | None = None
    bf16: bool = False
    optim: OptimizerNames | str = "adamw"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package that stands in for LLaMA-Factory, with a few of its keys."""
    (tmp_path / "llamafactory" / "hparams").mkdir(parents=True)
    (tmp_path / "llamafactory" / "__init__.py").write_text("raise AssertionError('imported')")
    (tmp_path / "llamafactory" / "hparams" / "finetuning_args.py").write_text(HPARAMS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "llamafactory", raising=False)
    known_keys.cache_clear()
    yield
    known_keys.cache_clear()


@pytest.mark.parametrize(("settings", "problem", "fix"), [
    ({"learning_rat": 3}, "no key 'learning_rat'", "did you mean 'learning_rate'"),
    ({"sft.learning_rate": "fast"}, "is 'fast'; expected a number", "write a number"),
    ({"max_steps": "many"}, "expected a number", "write a number"),
    ({"sft.bf16": "maybe"}, "expected true or false", "write true or false"),
])
def test_an_unknown_key_and_a_text_for_a_number_are_refused(settings: dict[str, Any], problem: str, fix: str,
                                                            installed: None) -> None:
    with pytest.raises(UserError, match=problem) as e:
        preset_keys(recipe("autoif", "default"), ("sft", "dpo"), settings)
    assert e.value.where == f"--set {next(iter(settings))}"
    assert fix in str(e.value.fix)


def test_what_it_knows_and_what_is_ours_pass(installed: None) -> None:
    refuse_settings({"learning_rate": 1e-4, "dpo.max_steps": None, "bf16": True, "optim": "adafactor",
                     "grpo_num_generations": 4, "logps_chunk_size": 64})


def test_without_llamafactory_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("if_factory.training.settings.known_keys", dict)
    refuse_settings({"anything": "goes"})


@pytest.mark.slow
def test_every_field_of_the_real_dataclasses_is_known() -> None:
    need_llamafactory()
    from dataclasses import fields

    from llamafactory.hparams.parser import _TRAIN_ARGS

    known_keys.cache_clear()
    assert {f.name for of in _TRAIN_ARGS for f in fields(of) if f.init} <= set(known_keys())
