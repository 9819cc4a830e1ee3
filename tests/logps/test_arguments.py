"""``logps_chunk_size`` and the dispatch, with a module that stands in for LLaMA-Factory's ``train.tuner``."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from if_factory.errors import UserError
from if_factory.logps.arguments import asks_for_chunks, split
from if_factory.logps.register import add_stage


def scripted_tuner(**model_args: Any) -> ModuleType:
    """A module like llamafactory 0.9.5's ``train.tuner``, which returns what it was called with."""
    tuner = ModuleType("llamafactory.train.tuner")

    def read_args(args: Any = None) -> Any:
        return {"stage": "from sys.argv"} if args is None else args

    def get_train_args(args: Any = None) -> Any:
        return SimpleNamespace(**model_args), args, "training", SimpleNamespace(use_mca=False), "generating"

    def run_dpo(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any,
                callbacks: Any = None) -> Any:
        return "stock", callbacks

    def run_kto(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any,
                callbacks: Any = None) -> Any:
        return "stock", callbacks

    tuner.__dict__.update({f.__name__: f for f in (read_args, get_train_args, run_dpo, run_kto)})
    return tuner


@pytest.mark.parametrize("stage", ["dpo", "kto"])
def test_the_key_is_taken_out_and_the_rest_is_left_as_it_is(stage: str) -> None:
    config = {"stage": stage, "pref_beta": 0.1, "logps_chunk_size": 64}
    assert asks_for_chunks(config)
    assert split(config) == ({"stage": stage, "pref_beta": 0.1}, 64)
    assert config["logps_chunk_size"] == 64, "the caller's config is left as it is"


@pytest.mark.parametrize("flags", [["--stage", "kto", "--logps_chunk_size", "64", "--do_train"],
                                   ["--logps-chunk-size=64", "--stage", "kto", "--do_train"]])
def test_flags_are_split_like_a_config(flags: list[str]) -> None:
    assert asks_for_chunks(flags)
    assert split(flags) == (["--stage", "kto", "--do_train"], 64)


@pytest.mark.parametrize("args", [{}, {"stage": "dpo"}, [], ["--stage", "dpo"], ["-h"],
                                  ["--output_dir", "logps_chunk_size"]])
def test_nothing_else_is_taken_for_it(args: Any) -> None:
    assert not asks_for_chunks(args)


@pytest.mark.parametrize(("config", "words"), [
    ({"stage": "dpo", "logps_chunksize": 64}, "did you mean 'logps_chunk_size'"),
    ({"stage": "dpo", "logps_zzz": 64}, "the key is logps_chunk_size"),
    ({"stage": "dpo", "logps_chunk_size": 0}, "at least 1"),
    ({"stage": "dpo", "logps_chunk_size": "many"}, "at least 1"),
    ({"stage": "dpo", "logps_chunk_size": True}, "at least 1"),
    ({"stage": "sft", "logps_chunk_size": 64}, "is for the stages dpo and kto, not sft"),
    ({"logps_chunk_size": 64}, "not sft"),
    ({"stage": "grpo", "logps_chunk_size": 64}, "not grpo"),
    ({"stage": "iorpo", "logps_chunk_size": 64}, "write iorpo_chunk_size"),
    (["--stage", "rm", "--logps_chunk_size", "64"], "not rm"),
])
def test_a_wrong_key_value_or_stage_is_named_with_what_would_be_right(config: Any, words: str) -> None:
    with pytest.raises(UserError, match="logps_") as e:
        split(config)
    assert words in str(e.value)


def test_a_key_without_a_value_is_no_key() -> None:
    assert split({"stage": "sft", "logps_chunk_size": None}) == ({"stage": "sft"}, None)


@pytest.mark.parametrize("args", [{"stage": "dpo"}, {"stage": "sft"}, {}, ["--stage", "kto"], None])
def test_without_the_key_the_originals_get_the_very_arguments_and_run_functions_are_not_wrapped(args: Any) -> None:
    tuner = scripted_tuner()
    original, workflows = tuner.get_train_args, (tuner.run_dpo, tuner.run_kto)
    add_stage(tuner)
    once = tuner.get_train_args
    add_stage(tuner)
    assert tuner.get_train_args is once, "wrapped once"
    assert once.__wrapped__ is original
    parsed = once(args)
    assert parsed[1] is args
    assert not hasattr(parsed[3], "logps_chunk_size")
    assert (tuner.run_dpo, tuner.run_kto) == workflows


def test_with_the_key_a_run_is_marked_and_one_without_the_mark_is_stocks_own(
        monkeypatch: pytest.MonkeyPatch) -> None:
    stages = ModuleType("if_factory.logps.stages")
    stages.changed = list  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "if_factory.logps.stages", stages)
    tuner = scripted_tuner()
    originals = tuner.run_dpo, tuner.run_kto
    add_stage(tuner)
    _, stock, _, finetuning, _ = tuner.get_train_args({"stage": "dpo", "logps_chunk_size": 64})
    assert stock == {"stage": "dpo"}
    assert finetuning.logps_chunk_size == 64
    assert (tuner.run_dpo.__wrapped__, tuner.run_kto.__wrapped__) == originals
    assert tuner.run_dpo(1, 2, 3, SimpleNamespace(), "callbacks") == ("stock", "callbacks")
    stages.changed = lambda: ["get_batch_logps"]  # type: ignore[attr-defined]
    stages.TESTED = "0.9.5"  # type: ignore[attr-defined]
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.9.9")
    with pytest.raises(UserError, match=r"in 0\.9\.9 get_batch_logps is another function"):
        tuner.get_train_args({"stage": "dpo", "logps_chunk_size": 64})


@pytest.mark.parametrize("name", ["use_unsloth", "use_kt"])
def test_a_framework_that_replaces_the_models_forward_is_refused(name: str) -> None:
    tuner = scripted_tuner(**{name: True})
    add_stage(tuner)
    with pytest.raises(UserError, match=f"logps_chunk_size.*cannot be combined with {name}"):
        tuner.get_train_args({"stage": "kto", "logps_chunk_size": 64})


def test_a_tuner_with_nothing_we_know_is_left_alone() -> None:
    empty, other = ModuleType("tuner"), SimpleNamespace(get_train_args=lambda args, more: None)
    before = vars(other).copy()
    add_stage(empty)
    add_stage(other)  # type: ignore[arg-type]
    assert vars(other) == before
