"""Constraints that only a judge decides, in rewards; the judge is a scripted server on loopback."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from if_factory.errors import UserError
from if_factory.records import Constraint
from if_factory.rewards import Rewarder, ground_truth_of, read_truth
from if_factory.rewards.judge import EndpointJudge, judge_options
from tests.support.judge_server import ScriptedJudgeServer, judge_server

PROMPT = "Describe the sea. Do not use commas. Sound cheerful."
NO_COMMA = Constraint(type="punctuation:no_comma", text="Do not use commas")
CHEERFUL = Constraint(type="judge:criterion", kind="judge", text="The answer sounds cheerful.")
TRUTH = ground_truth_of([NO_COMMA], PROMPT, [CHEERFUL])
GLAD = "The sea is a happy place and its waves dance on the sand all day."
GREY = "The sea is grey and its waves fall on the cold sand all day."
COMMA = "The sea, wide and happy, dances on the sand all day."


@pytest.fixture
def judge() -> Iterator[ScriptedJudgeServer]:
    with judge_server(lambda response, criterion: "happy" in response) as script:
        yield script


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("if_factory.chat.client._wait", lambda *_: 0.0)
    monkeypatch.setattr("if_factory.chat.http._CONNECT_WAITS", (0.0,))


def judged(rewarder: Rewarder, *texts: str, truth: str = TRUTH) -> list[tuple[float | None, tuple[bool | None, ...]]]:
    found = rewarder.judge([PROMPT] * len(texts), texts, [truth] * len(texts))
    return [(j.reward, j.satisfied) for j in found]


def test_without_a_judge_what_it_would_decide_is_no_part_of_the_reward() -> None:
    assert judged(Rewarder(), GLAD, GREY, COMMA) == [(1.0, (True,)), (1.0, (True,)), (0.0, (False,))]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_judge_s_verdicts_count_as_those_of_code(judge: ScriptedJudgeServer, workers: int) -> None:
    rewarder = Rewarder(judge=judge.url, workers=workers)
    assert judged(rewarder, GLAD, GREY, COMMA) == [(1.0, (True, True)), (0.5, (True, False)), (0.5, (False, True))]
    assert judged(rewarder, GLAD) == [(1.0, (True, True))], "a second call, on an event loop of its own"
    rewarder.close()


def test_a_judge_is_not_asked_what_is_decided(judge: ScriptedJudgeServer) -> None:
    assert judged(Rewarder(how="all", judge=judge.url), COMMA, "", "I cannot help with that.", GREY) == [
        (0.0, (False, None)), (0.0, (False, False)), (0.0, (True, None)), (0.0, (True, False))]
    assert len(judge.asked) == 1


def test_a_criterion_among_the_ids_needs_the_judge(judge: ScriptedJudgeServer,
                                                   caplog: pytest.LogCaptureFixture) -> None:
    truth = json.dumps({"instruction_id_list": ["judge:criterion", "punctuation:no_comma"], "kwargs": [{}, {}],
                        "constraints": [CHEERFUL.text, NO_COMMA.text], "prompt": PROMPT})
    assert judged(Rewarder(), GLAD, truth=truth) == [(None, (None, True))]
    assert "no checker for the constraint 'judge:criterion'" in caplog.text
    caplog.clear()
    assert judged(Rewarder(judge=judge.url), GLAD, GREY, truth=truth) == [(1.0, (True, True)), (0.5, (False, True))]
    assert not caplog.text


def test_criteria_of_several_kinds_keep_their_places(judge: ScriptedJudgeServer) -> None:
    share = replace(CHEERFUL, kwargs={"of": ["It is happy.", "It is glad."], "at_least": 1})
    truth = ground_truth_of([NO_COMMA], PROMPT, [share, CHEERFUL])
    assert read_truth(truth).judged == (share, CHEERFUL)
    judge.says = lambda response, criterion: criterion == "It is happy."
    assert judged(Rewarder(judge=judge.url), GLAD, truth=truth) == [(2 / 3, (True, True, False))]


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_judge_that_refuses_gives_no_verdict_and_is_told(judge: ScriptedJudgeServer, status: int,
                                                           caplog: pytest.LogCaptureFixture) -> None:
    judge.status = status
    with caplog.at_level(logging.WARNING):
        assert judged(Rewarder(judge=judge.url), GLAD, COMMA) == [(None, (True, None)), (None, (False, None))]
    assert "gave no verdict on 2 of 2 answers" in caplog.text
    judge.status = 200
    assert judged(Rewarder(judge=judge.url), GLAD) == [(1.0, (True, True))]


def test_one_answer_s_missing_verdict_is_the_mean_of_its_group(judge: ScriptedJudgeServer) -> None:
    judge.reply = (lambda said: lambda q: "no idea" if "cold" in q else said(q))(judge.reply)  # type: ignore[method-assign]
    found = judged(Rewarder(judge=judge.url, undecided="group_mean"), GLAD, GREY, COMMA)
    assert found == [(1.0, (True, True)), (0.75, (True, None)), (0.5, (False, True))]


def test_a_judge_that_is_away_gives_no_verdict(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert judged(Rewarder(judge="http://127.0.0.1:9/v1"), GLAD) == [(None, (True, None))]
    assert "gave no verdict on 1 of 1 answers" in caplog.text


def test_a_judge_that_hangs_is_given_up(judge: ScriptedJudgeServer, caplog: pytest.LogCaptureFixture) -> None:
    judge.seconds = 1.0
    with caplog.at_level(logging.WARNING):
        assert judged(Rewarder(judge={"endpoint": judge.url, "timeout": 0.2}), GLAD) == [(None, (True, None))]
    assert "within 0.2 s" in caplog.text


def test_the_key_comes_from_the_variable_and_the_model_s_name_is_sent(judge: ScriptedJudgeServer,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "secret")
    EndpointJudge(judge_options({"endpoint": judge.url, "model": "m", "api_key_env": "JUDGE_KEY"}, "judge")).check()
    assert judge.keys == ["Bearer secret"]


def test_the_first_question_finds_out_whether_there_is_a_judge(judge: ScriptedJudgeServer) -> None:
    EndpointJudge(judge_options(judge.url, "judge")).check()
    judge.status = 401
    with pytest.raises(UserError, match="wants a key") as e:
        EndpointJudge(judge_options(judge.url, "judge")).check()
    assert judge.url in str(e.value)
    with pytest.raises(UserError, match="test question got no verdict"):
        EndpointJudge(judge_options("http://127.0.0.1:9/v1", "judge")).check()


@pytest.mark.parametrize(("given", "said"), [
    ({"endpoint": "http://x/v1", "timout": 3}, "timout"), ({"endpoint": "http://x/v1", "timeout": 0}, "timeout"),
    ({"endpoint": "http://x/v1", "variant": "big"}, "variant"), ({"model": "m"}, "endpoint"), ("localhost", "URL"),
    ({"endpoint": "http://x/v1", "api_key": "sk"}, "environment variable"), (7, "mapping"), ({}, "endpoint"),
    ({"endpoint": "http://x/v1", "concurrency": "many"}, "concurrency")])
def test_options_of_no_use_are_named(given: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as e:
        judge_options(given, "grpo_judge")
    assert "grpo_judge" in str(e.value)


@pytest.mark.parametrize("given", ["polite", [3], [{"text": ""}], [{"text": "a", "kwargs": []}]])
def test_criteria_that_cannot_be_read_are_an_error(given: Any) -> None:
    truth = json.dumps({**json.loads(TRUTH), "judged": given})
    with pytest.raises(UserError, match="judged"):
        judged(Rewarder(), GLAD, truth=truth)
