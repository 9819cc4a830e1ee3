"""Faults while ``stage: grpo`` runs: the rewards go on, and what could not be had is told and is not a 0."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from if_factory.errors import UserError
from if_factory.grpo.even_groups import check, with_advantage
from if_factory.grpo.server import RewardServer
from tests.grpo.test_stage import train
from tests.grpo.tiny import COLUMNS, config, prompt
from tests.iorpo.tiny import losses, register_data
from tests.rewards.test_workers import PLUGIN
from tests.support.judge_server import judge_server


class _Scores(BaseHTTPRequestHandler):
    """Answers every other request with an error."""

    asked: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"]
        self.asked.append(len(texts))
        good = len(self.asked) % 2 == 0
        body = json.dumps({"scores": [len(t) / 1000 for t in texts]}).encode() if good else b"no"
        self.send_response(200 if good else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    _Scores.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), _Scores)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_reward_server_that_fails_once_is_asked_again(url: str) -> None:
    assert RewardServer(url, wait=0).scores(["ab", "abcd"]) == [0.002, 0.004]
    assert _Scores.asked == [2, 2]


def test_a_reward_server_that_is_away_gives_no_score_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    waited: list[float] = []
    with caplog.at_level(logging.WARNING):
        assert RewardServer("http://127.0.0.1:9/", sleep=waited.append).scores(["a"]) is None
    assert waited == [2.0, 4.0]
    assert "rewarded without it" in caplog.text


@pytest.mark.parametrize("url", ["file:///etc/hosts", "127.0.0.1:80"])
def test_only_a_server_is_asked(url: str) -> None:
    with pytest.raises(UserError, match="no URL"):
        RewardServer(url)


@pytest.mark.parametrize("keys", [{"loss_type": "grpo"}, {"beta": 0.1}, {"world_size": 2},
                                  {"top_entropy_quantile": 0.5}])
def test_groups_are_left_out_only_where_that_changes_nothing(keys: dict[str, Any]) -> None:
    usual = {"loss_type": "dapo", "beta": 0.0, "world_size": 1, "top_entropy_quantile": 1.0, "use_liger_loss": False}
    check(SimpleNamespace(**usual))
    with pytest.raises(UserError, match="would change the loss"):
        check(SimpleNamespace(**(usual | keys)))


def test_the_answers_with_an_advantage_are_kept_row_by_row() -> None:
    torch = pytest.importorskip("torch")
    ids, number = torch.arange(6).reshape(3, 2), torch.tensor(6)
    kept = with_advantage({"advantages": torch.tensor([1.0, 0.0, -1.0]), "ids": ids, "num_items_in_batch": number})
    assert kept is not None
    assert kept["ids"].tolist() == [[0, 1], [4, 5]]
    assert kept["num_items_in_batch"] is number
    assert with_advantage({"advantages": torch.zeros(3), "ids": ids}) is None


@pytest.mark.e2e
def test_a_run_that_leaves_out_even_groups_is_the_run_that_computes_them(root: Path, tmp_path: Path) -> None:
    keys = {"max_steps": 6, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "lora_dropout": 0.0}
    whole = train(config(root, tmp_path / "whole", **keys))
    short = train(config(root, tmp_path / "short", grpo_skip_even_groups=True, grpo_log_answers=True, **keys))
    assert {0.5} <= set(losses(whole, "frac_reward_zero_std")), "no step had groups of both kinds"
    for key in ("reward", "loss", "grad_norm"):
        assert losses(short, key) == pytest.approx(losses(whole, key), abs=1e-6), key
    rows = [json.loads(line) for line in (tmp_path / "short" / "answers.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [step for step in range(6) for _ in range(8)]
    means = [sum(row["reward"] for row in rows[8 * i:8 * i + 8]) / 8 for i in range(6)]
    assert means == pytest.approx(losses(short, "reward"), abs=1e-4)


@pytest.mark.e2e
def test_a_reward_model_that_goes_away_costs_its_part_of_the_reward_only(root: Path, tmp_path: Path, url: str,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("if_factory.grpo.server._TRIES", 1)
    alone = train(config(root, tmp_path / "alone", max_steps=1))
    log = train(config(root, tmp_path / "out", max_steps=2, reward_model=url, reward_model_type="api"))
    assert losses(log, "reward/server_away") == [1.0, 0.0]
    assert losses(log, "reward")[0] == losses(alone, "reward")[0], "the first step is that of a run without the server"
    assert losses(log, "rewards/reward_model/mean")[1] > 0


@pytest.mark.e2e
def test_a_judge_that_goes_away_during_a_run_leaves_answers_without_a_verdict(root: Path, tmp_path: Path) -> None:
    """A scripted judge on loopback answers the test question and the first step, and refuses the second."""
    rows = [{**prompt(i), "ground_truth": json.dumps({**json.loads(prompt(i)["ground_truth"]),
                                                      "judged": ["Its length is even."]})} for i in range(4)]
    register_data(root / "data", "judged_prompts", rows, {"columns": COLUMNS})
    keys = {"dataset": "judged_prompts", "max_steps": 2, "per_device_train_batch_size": 8, "grpo_log_answers": True}
    with judge_server(lambda response, criterion: len(response) % 2 == 0) as script:
        answered = script.reply

        def reply(question: str) -> str:
            if len(script.asked) > 8:  # more than the test question and the seven or eight answers of a step
                script.status = 401
            return answered(question)

        script.reply = reply  # type: ignore[method-assign]
        log = train(config(root, tmp_path / "out", grpo_judge={"endpoint": script.url, "timeout": 20}, **keys))
    answers = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 16
    first = [a for a in answers[:8] if a["satisfied"] and a["answer"].strip()]
    assert first
    assert all(len(a["satisfied"]) == 3 for a in first)
    assert any(a["satisfied"][2] is not None for a in first)
    lost = [a for a in answers if None in a["satisfied"]]
    assert lost, "the judge was there to the end"
    for i in range(0, len(answers), 4):  # such an answer has the mean of its group, or no reward
        group = answers[i:i + 4]
        known = [a["reward"] for a in group if None not in a["satisfied"]]
        mean = pytest.approx(sum(known) / len(known)) if known else None
        assert all(a["reward"] == mean for a in group if None in a["satisfied"])
    assert losses(log, "reward/undecided")[1] > 0


@pytest.mark.e2e
def test_a_checker_that_hangs_costs_its_own_answer_only(root: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "odd_type.py"
    # of a random model's answers a few hang, and the others pass or fail
    plugin.write_text(PLUGIN.replace('"hang" in response', 'len(response) % 7 == 0')
                      .replace('"good" in response', 'len(response) % 2 == 0'))
    rows = [{**prompt(i), "ground_truth": json.dumps({"instruction_id_list": ["test:odd"], "kwargs": [{}]})}
            for i in range(4)]
    register_data(root / "data", "odd_prompts", rows, {"columns": COLUMNS})
    log = train(config(root, tmp_path / "out", dataset="odd_prompts", max_steps=2, per_device_train_batch_size=8,
                       grpo_plugins=str(plugin), grpo_reward_seconds=0.3, grpo_log_answers=True))
    answers = [json.loads(line) for line in (tmp_path / "out" / "answers.jsonl").read_text().splitlines()]
    lost = [a for a in answers if not a["satisfied"]]
    assert 0 < len(lost) < len(answers)
    assert sum(losses(log, "reward/undecided")) * 8 == pytest.approx(len(lost))
    for i in range(0, len(answers), 4):  # what is lost is given the mean of its group, not 0
        group = answers[i:i + 4]
        known = [a["reward"] for a in group if a["satisfied"]]
        assert all(a["reward"] == pytest.approx(sum(known) / len(known)) for a in group if not a["satisfied"] and known)
