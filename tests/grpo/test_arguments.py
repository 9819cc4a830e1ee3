"""The keys of ``stage: grpo``, apart from LLaMA-Factory's; no training library is needed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from if_factory.errors import UserError
from if_factory.grpo.arguments import GrpoArguments, asks_for_grpo, split
from if_factory.grpo.register import add_stage
from if_factory.rewards.judge import JudgeOptions


def test_our_keys_are_taken_out_and_the_rest_is_an_sft_run() -> None:
    given = {"stage": "grpo", "learning_rate": 1e-5, "grpo_reward": "all", "grpo_num_generations": 4}
    assert asks_for_grpo(given)
    assert split(given) == ({"stage": "sft", "learning_rate": 1e-5},
                            GrpoArguments(reward="all", trl={"num_generations": 4}))
    assert given["stage"] == "grpo", "the caller's own is not touched"


def test_flags_say_the_same() -> None:
    flags = ["--do_train", "--stage", "grpo", "--grpo_beta=0.04", "--grpo-usefulness", "false", "--output_dir", "x"]
    assert asks_for_grpo(flags)
    assert split(flags) == (["--do_train", "--output_dir", "x", "--stage", "sft"],
                            GrpoArguments(usefulness=False, trl={"beta": 0.04}))
    assert not asks_for_grpo(["--stage", "sft"])


def test_a_judge_is_a_url_or_a_mapping_and_what_is_wrong_is_named() -> None:
    url = "http://127.0.0.1:8000/v1"
    assert split({"stage": "grpo", "grpo_judge": url})[1].judge == JudgeOptions(endpoint=url)
    named = {"endpoint": url, "model": "m"}
    assert split({"stage": "grpo", "grpo_judge": named})[1].judge == JudgeOptions(endpoint=url, model="m")
    assert split(["--stage", "grpo", f"--grpo_judge={{endpoint: '{url}', model: m}}"])[1].judge == JudgeOptions(**named)
    with pytest.raises(UserError, match=r"grpo_judge\.modle"):
        split({"stage": "grpo", "grpo_judge": {"endpoint": url, "modle": "m"}})


def test_other_stages_reach_llamafactory_as_they_are() -> None:
    seen = []

    def get_train_args(args=None):
        seen.append(args)
        return "parsed"

    def run_sft(model_args, data_args, training_args, finetuning_args, generating_args, callbacks=None):
        return "stock"

    tuner = SimpleNamespace(get_train_args=get_train_args, run_sft=run_sft, read_args=lambda args: args)
    add_stage(tuner)  # type: ignore[arg-type]
    add_stage(tuner)  # type: ignore[arg-type]
    config = {"stage": "sft", "learning_rate": 1e-5}
    assert tuner.get_train_args(config) == "parsed"
    assert seen == [config]
    assert tuner.run_sft(1, 2, 3, SimpleNamespace(), 5) == "stock"
    assert tuner.run_sft.__wrapped__ is run_sft


def test_a_llamafactory_whose_functions_have_changed_is_left_alone() -> None:
    tuner = SimpleNamespace(get_train_args=lambda args=None: None, run_sft=lambda everything: None)
    before = vars(tuner).copy()
    add_stage(tuner)  # type: ignore[arg-type]
    assert vars(tuner) == before
