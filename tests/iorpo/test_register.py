"""The stage's keys and the dispatch, with a module that stands in for LLaMA-Factory's ``train.tuner``."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from if_factory.errors import UserError
from if_factory.iorpo.arguments import IorpoArguments, asks_for_iorpo, split
from if_factory.iorpo.launcher import how_it_ended
from if_factory.iorpo.register import add_stage


def scripted_tuner(**functions: Any) -> ModuleType:
    """A module like llamafactory 0.9.5's ``train.tuner``, which returns what it was called with."""
    tuner = ModuleType("llamafactory.train.tuner")

    def read_args(args: Any = None) -> Any:
        return {"stage": "from sys.argv"} if args is None else args

    def get_train_args(args: Any = None) -> Any:
        finetuning = SimpleNamespace(use_mca=False, pref_ftx=0.0, pref_bco_weight=0.0, ld_alpha=None,
                                     ref_model=None)
        if isinstance(args, dict):
            finetuning.__dict__.update({k: v for k, v in args.items() if k == "pref_ftx"})
        return "model", args, "training", finetuning, "generating"

    def run_dpo(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any,
                callbacks: Any = None) -> Any:
        return "stock", model_args, data_args, training_args, finetuning_args, callbacks

    def run_exp(args: Any = None, callbacks: Any = None) -> Any:
        return "ran", args

    tuner.__dict__.update({f.__name__: f for f in (read_args, get_train_args, run_dpo, run_exp)} | functions)
    return tuner


def test_an_iorpo_config_becomes_a_dpo_run_with_the_orpo_loss_and_our_keys_apart() -> None:
    config = {"stage": "iorpo", "pref_beta": 0.4, "iorpo_chunk_size": 64, "cutoff_len": 99}
    stock, ours = split(config)
    assert stock == {"stage": "dpo", "pref_loss": "orpo", "pref_beta": 0.4, "cutoff_len": 99}
    assert ours == IorpoArguments(chunk_size=64)
    assert config["stage"] == "iorpo", "the caller's config is left as it is"


@pytest.mark.parametrize("flags", [
    ["--stage", "iorpo", "--iorpo_chunk_size", "64", "--iorpo_nll_on", "prompt_and_response", "--do_train"],
    ["--do_train", "--iorpo-chunk-size=64", "--stage=iorpo", "--iorpo_nll_on=prompt_and_response"],
])
def test_flags_are_split_like_a_config(flags: list[str]) -> None:
    assert asks_for_iorpo(flags)
    stock, ours = split(flags)
    assert stock == ["--do_train", "--stage", "dpo", "--pref_loss", "orpo"]
    assert ours == IorpoArguments(nll_on="prompt_and_response", chunk_size=64)


@pytest.mark.parametrize("args", [{}, {"stage": "sft"}, {"iorpo_head": "full"}, [], ["--stage", "dpo"], ["-h"],
                                  ["--stage"], ["--output_dir", "iorpo"]])
def test_nothing_else_is_taken_for_iorpo(args: Any) -> None:
    assert not asks_for_iorpo(args)


@pytest.mark.parametrize(("key", "value", "words"), [
    ("iorpo_chunksize", 64, "did you mean 'iorpo_chunk_size'"),
    ("iorpo_zzz", 1, "the keys are: iorpo_nll_on, iorpo_chunk_size, iorpo_head"),
    ("iorpo_chunk_size", 0, "at least 1"),
    ("iorpo_chunk_size", "many", "at least 1"),
    ("iorpo_chunk_size", True, "at least 1"),
    ("iorpo_nll_on", "prompt", "one of: response, prompt_and_response"),
    ("iorpo_head", None, "one of: auto, chunked, full"),
    ("iorpo_sequential", "yes", "true or false"),
    ("pref_loss", "sigmoid", "lambda is pref_beta"),
])
def test_a_wrong_key_or_value_is_named_with_what_would_be_right(key: str, value: Any, words: str) -> None:
    with pytest.raises(UserError, match=key) as e:
        split({"stage": "iorpo", key: value})
    assert words in str(e.value)


def test_our_arguments_and_their_keys_are_the_same_thing() -> None:
    ours = IorpoArguments("prompt_and_response", 7, "full", True)
    assert split({"stage": "iorpo", **ours.keys()})[1] == ours


@pytest.mark.parametrize("args", [{"stage": "dpo", "pref_loss": "orpo"}, {"stage": "sft"}, {}, ["--stage", "kto"],
                                  None])
def test_other_stages_reach_the_originals_with_the_very_arguments_they_were_given(args: Any) -> None:
    tuner = scripted_tuner()
    originals = tuner.get_train_args, tuner.run_dpo
    add_stage(tuner)
    assert (tuner.get_train_args.__wrapped__, tuner.run_dpo.__wrapped__) == originals
    parsed = tuner.get_train_args(args)
    assert parsed[1] is args
    assert not hasattr(parsed[3], "iorpo")
    callbacks: list[Any] = []
    reached = tuner.run_dpo(*parsed[:4], callbacks)
    assert reached[0] == "stock"
    assert all(a is b for a, b in zip(reached[1:], (*parsed[:4], callbacks), strict=True))


def test_an_iorpo_config_is_parsed_as_dpo_and_marked() -> None:
    tuner = scripted_tuner()
    add_stage(tuner)
    _, args, _, finetuning, _ = tuner.get_train_args({"stage": "iorpo", "iorpo_head": "full"})
    assert args == {"stage": "dpo", "pref_loss": "orpo"}
    assert finetuning.iorpo == IorpoArguments(head="full")


def test_a_term_this_loss_does_not_have_is_refused_not_ignored() -> None:
    tuner = scripted_tuner()
    add_stage(tuner)
    with pytest.raises(UserError, match=r"pref_ftx.*no such term"):
        tuner.get_train_args({"stage": "iorpo", "pref_ftx": 1.0})
    tuner.get_train_args({"stage": "dpo", "pref_ftx": 1.0})


def test_registering_twice_wraps_once() -> None:
    tuner = scripted_tuner()
    add_stage(tuner)
    once = tuner.get_train_args
    add_stage(tuner)
    assert tuner.get_train_args is once


def other_run_dpo(model_args: Any, everything: Any) -> Any:
    return "moved"


def other_get_train_args(args: Any, more: Any) -> Any:
    return "moved"


@pytest.mark.parametrize(("moved", "words"), [
    ({"run_dpo": other_run_dpo}, "run_dpo takes (model_args, everything) instead of (model_args, data_args"),
    ({"get_train_args": other_get_train_args}, "get_train_args takes (args, more) instead of (args)"),
    ({"run_dpo": None}, "run_dpo is gone"),
])
def test_a_llamafactory_whose_internals_moved_says_so_when_the_stage_is_used_and_not_before(
        moved: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hparams = ModuleType("llamafactory.hparams")
    hparams.read_args = lambda: {"stage": "iorpo"}  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "llamafactory.hparams", hparams)
    tuner = scripted_tuner(**moved)
    add_stage(tuner)
    assert tuner.run_exp({"stage": "dpo"}) == ("ran", {"stage": "dpo"}), "other stages still run"
    for asked in ({"stage": "iorpo"}, ["--stage", "iorpo"], None):
        with pytest.raises(UserError) as e:
            tuner.run_exp(asked) if asked is not None else tuner.run_exp()
        said = str(e.value)
        assert words in said
        assert "tested with llamafactory 0.9.2 to 0.9.5" in said
        assert "if-factory tokenize" in said


def test_a_tuner_with_nothing_we_know_is_left_alone() -> None:
    add_stage(ModuleType("llamafactory.train.tuner"))


TORCHRUN = """
E1121 08:44 torch/distributed/elastic] failed (exitcode: {code}) local_rank: 1 (pid: 77)
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
Root Cause (first observed failure):
[0]:
  time      : 2026-11-21_08:44:21
  host      : here
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 77)
  error_file: <N/A>
subprocess.CalledProcessError: Command '['torchrun']' returned non-zero exit status 1.
"""


@pytest.mark.parametrize(("said", "status", "sentence"), [
    (TORCHRUN.format(code=-9), 1, "training stopped because worker 1 was killed by signal 9 (SIGKILL; often the "
                                  "machine has run out of memory)"),
    ("[rank1]: Traceback (most recent call last):\n[rank1]:   File x\n[rank1]: ValueError: no good"
     + TORCHRUN.format(code=1), 1, "training stopped because worker 1 failed: ValueError: no good"),
    ("Traceback (most recent call last):\n  File x\nif_factory.errors.UserError: field 'x': bad\nlast line", 1,
     "training failed: UserError: field 'x': bad"),
    ("Traceback (most recent call last):\nKeyError: 1\n\nDuring handling of the above exception:\n\n"
     "Traceback (most recent call last):\n  call()\n  ^^^^\nray.exceptions.Unavailable: gone\nWarning: later", 1,
     "training failed: ray.exceptions.Unavailable: gone"),
    ("WARNING: not an exception", 1, "training failed: status 1"),
    ("", -15, "training was killed by signal 15 (SIGTERM)"),
    ("", 3, "training failed: status 3"),
])
def test_a_run_that_failed_is_one_sentence(said: str, status: int, sentence: str) -> None:
    assert how_it_ended(said.splitlines(), status) == sentence
