"""The reward function: what an answer earns, and that what cannot be decided earns nothing rather than 0."""

from __future__ import annotations

import json
import logging
from random import Random
from typing import Any

import pytest

from if_factory.constraints.compose import compose
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.records import Constraint
from if_factory.rewards import Rewarder, ground_truth_of, read_truth, reward, reward_of
from if_factory.rewards.truth import GENERATED
from tests.support.texts import story

PROMPT = "Describe the sea in two sentences. Do not use commas. Write everything in small letters."
GOOD = "the sea is wide and blue and full of fish. its waves break on the sand all day."
COMMA = "the sea is wide, blue and full of fish. its waves break on the sand all day."


def truth(*ids: str, kwargs: list[dict[str, Any]] | None = None, **more: Any) -> str:
    return json.dumps({"instruction_id_list": list(ids), "kwargs": [{} for _ in ids] if kwargs is None else kwargs,
                       "prompt": PROMPT, **more})


TWO = truth("punctuation:no_comma", "change_case:english_lowercase")


def test_an_answer_earns_the_fraction_of_constraints_that_hold() -> None:
    assert reward([PROMPT] * 3, [GOOD, COMMA, COMMA.upper()], [TWO] * 3) == [1.0, 0.5, 0.0]


def test_all_gives_one_or_nothing() -> None:
    assert reward_of(how="all")([PROMPT] * 2, [GOOD, COMMA], [TWO] * 2) == [1.0, 0.0]


def test_an_answer_that_does_not_attempt_the_request_earns_nothing() -> None:
    refusal = "i am sorry but i cannot help with that."
    assert reward([PROMPT], [refusal], [TWO]) == [0.0]
    assert reward_of(usefulness=False)([PROMPT], [refusal], [TWO]) == [1.0]
    assert Rewarder().judge([PROMPT], [refusal], [TWO])[0].useless == "refusal"


def test_an_empty_answer_earns_nothing_whatever_cannot_be_decided() -> None:
    assert reward([PROMPT] * 2, ["", " \n"], [truth("nobody:knows")] * 2) == [0.0, 0.0]


def test_conversations_and_other_columns_are_taken_as_trl_passes_them() -> None:
    prompts = [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]]
    completions = [[{"role": "assistant", "content": GOOD}]]
    assert reward(prompts=prompts, completions=completions, completion_ids=[[1]], ground_truth=[TWO], data_source=["x"],
                  trainer_state=None) == [1.0]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": COMMA}]}]]
    assert reward(prompts, parts, [TWO]) == [0.5]


def test_the_gate_looks_at_the_prompt_of_the_ground_truth_before_that_of_the_trainer() -> None:
    """A trainer's prompt may hold a chat template's tokens; an echo is an echo of the request."""
    question = "How do the tides work in a small harbour?"
    templated = f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
    assert reward([templated], [question], [truth("punctuation:no_comma", prompt=question)]) == [0.0]
    assert reward([question], [question], [truth("punctuation:no_comma", prompt="")]) == [0.0]


def test_reasoning_is_not_part_of_an_answer() -> None:
    assert reward([PROMPT], [f"<think>\nCommas, Capitals, no.\n</think>\n\n{GOOD}"], [TWO]) == [1.0]
    assert reward([PROMPT], ["<think>\nWell, the sea"], [TWO]) == [0.0], "cut inside its reasoning: no answer"


@pytest.mark.parametrize("text", [
    json.dumps([{"instruction_id": ["punctuation:no_comma"], "kwargs": [{}]}]),
    str([{"instruction_id": ["punctuation:no_comma"], "kwargs": [None]}]),
    json.dumps({"func_name": "validate_no_commas", "N": None, "quantifier": None}),
    json.dumps({"constraints": [{"type": "punctuation:no_comma", "kwargs": {}}], "prompt": PROMPT}),
    json.dumps({"eval_func": ["def evaluate(response):\n    return ',' not in response"], "instruction": "no commas"}),
    truth(GENERATED, kwargs=[{"functions": ["def evaluate(response):\n    return ',' not in response"]}]),
])
def test_every_form_of_ground_truth_that_is_read_elsewhere_is_read_here(text: str) -> None:
    assert reward([PROMPT] * 2, [GOOD, COMMA], [text] * 2) == [1.0, 0.0]


def test_a_written_ground_truth_is_read_back_as_it_was() -> None:
    constraints = (*compose(PROMPT, Random(3), n=4), Constraint(
        type=GENERATED, kind="generated_code", text="No commas.", kwargs={"functions": ["x"], "threshold": 0.5}))
    read = read_truth(ground_truth_of(constraints, PROMPT))
    assert (read.constraints, read.prompt) == (constraints, PROMPT)


def test_generated_functions_vote_in_the_sandbox_beside_checkers() -> None:
    functions = [f"def evaluate(response):\n    return {body}" for body in
                 ("'sea' in response", "len(response) > 10", "1 / 0", "'fish' in response")]
    both = truth("punctuation:no_comma", GENERATED, kwargs=[{}, {"functions": functions, "threshold": 0.9}])
    no_fish = "the sea is wide and blue. its waves break on the sand all day."
    assert reward([PROMPT] * 3, [GOOD, no_fish, COMMA], [both] * 3) == [1.0, 0.5, 0.5]


# ---------------------------------------------------------------- no verdict


def test_what_no_checker_or_function_can_decide_is_none_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    rewarder = Rewarder()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = rewarder.judge([PROMPT] * 2, [GOOD, COMMA], [truth("punctuation:no_comma", "nobody:knows")] * 2)
            assert [j.reward for j in found] == [None, None]
            assert found[1].satisfied == (False, None)
    assert [r.getMessage().count("nobody:knows") for r in caplog.records] == [1]
    silent = truth(GENERATED, kwargs=[{"functions": ["def evaluate(response):\n    return 1 / 0"]}])
    assert reward([PROMPT], [GOOD], [silent]) == [None]


def test_with_all_a_constraint_that_fails_decides_also_beside_one_without_a_verdict() -> None:
    mixed = truth("punctuation:no_comma", "nobody:knows")
    assert reward_of(how="all")([PROMPT] * 2, [GOOD, COMMA], [mixed] * 2) == [None, 0.0]


def test_group_mean_gives_an_undecided_answer_what_the_others_to_its_prompt_earned() -> None:
    """Then it has no advantage over its group, where trl would make 0 of it."""
    function = "def evaluate(response):\n    if 'wide' in response:\n        1 / 0\n    return 'sea' in response"
    one = truth(GENERATED, kwargs=[{"functions": [function]}])
    answers = [GOOD, "the sea is deep and cold in winter.", "an ocean is deep and cold in winter."]
    assert reward([PROMPT] * 3, answers, [one] * 3) == [None, 1.0, 0.0]
    assert reward_of(undecided="group_mean")([PROMPT] * 3, answers, [one] * 3) == [0.5, 1.0, 0.0]
    assert reward_of(undecided="group_mean")([PROMPT], [GOOD], [one]) == [None]


# ---------------------------------------------------------------- as verify says


def test_outcomes_are_those_of_verify() -> None:
    rng = Random(1)
    sets = [compose(PROMPT, rng, n=6) for _ in range(40)]
    rewarder = Rewarder(usefulness=False)
    for text in (story(3), story(40), "# A title\n\n* one\n* two, three\n\nP.S. {\"a\": 1}", GOOD, COMMA):
        found = rewarder.judge([PROMPT] * len(sets), [text] * len(sets), [ground_truth_of(s, PROMPT) for s in sets])
        for constraints, judged in zip(sets, found, strict=True):
            verdicts = verify(text, constraints)
            assert judged.satisfied == tuple(True if v.passed else False if v.failed else None for v in verdicts)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(("text", "says"), [
    ("the answer is 4", "cannot be read"), ("{}", "names no constraints"), ('{"prompt": "x"}', "names no constraints"),
    (truth("punctuation:no_comma", kwargs=[]), "kwargs"),
    (truth("length_constraints:number_words", kwargs=[{"num_words": "many"}]), "kwargs"),
])
def test_a_ground_truth_without_constraints_is_an_error_that_names_its_place(text: str, says: str) -> None:
    with pytest.raises(UserError, match=r"ground_truth\[1\]") as e:
        reward([PROMPT] * 2, [GOOD] * 2, [TWO, text])
    assert says in str(e.value)


def test_other_mistakes_are_errors_too() -> None:
    with pytest.raises(UserError, match="2 completions"):
        reward([PROMPT], [GOOD] * 2, [TWO])
    with pytest.raises(UserError, match="expected a string, found dict"):
        reward([PROMPT], [GOOD], [json.loads(TWO)])
    with pytest.raises(UserError, match="fraction, all"):
        reward_of(how="some")  # type: ignore[arg-type]


def test_a_reward_function_has_a_name_for_the_trainer_s_log() -> None:
    assert reward.__name__ == "reward"
    assert reward_of().__name__ == "if_reward"  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.relevance
def test_relevance_refuses_a_fluent_answer_about_something_else() -> None:
    pytest.importorskip("sentence_transformers")
    off_topic = "the engine of an old car needs oil and a new belt. a mechanic can replace both of them in an hour."
    assert reward([PROMPT], [off_topic], [TWO]) == [1.0]
    assert reward_of(relevance=True)([PROMPT] * 2, [off_topic, GOOD], [TWO] * 2) == [0.0, 1.0]
