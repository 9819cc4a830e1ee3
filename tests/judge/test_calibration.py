"""Calibration: figures against known ones, and a judge measured from the command line."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.intervals import wilson_interval
from if_factory.judge.calibration import (
    calibrate,
    cohen_kappa,
    criteria_figures,
    pair_figures,
    read_labelled,
    score_figures,
)
from if_factory.judge.judge import PairJudgement
from tests.judge.judge_script import ScriptedJudge, part

PAIRS = [{"prompt": f"p{i}", "a": f"right {i}", "b": f"wrong {i}", "label": "a"} for i in range(6)] + \
    [{"prompt": f"q{i}", "a": f"wrong {i}", "b": f"right {i}", "label": "b"} for i in range(6)]
CRITERIA = [{"prompt": "p", "response": f"right {i}", "criteria": ["is right", "is wrong"],
             "labels": [True, False]} for i in range(5)]
SCORES = [{"prompt": "p", "response": f"right {i}", "label": 5} for i in range(3)] + \
    [{"prompt": "p", "response": f"wrong {i}", "label": 1} for i in range(3)]


def good_judge(question: str) -> str:
    if "RESPONSE A" in question:
        return json.dumps({"winner": "A" if "right" in part(question, "RESPONSE A") else "B"})
    right = "right" in part(question, "RESPONSE")
    if "The criteria:" in question:
        return json.dumps({"1": {"satisfied": right}, "2": {"satisfied": not right}})
    return json.dumps({"score": 5 if right else 1})


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def figures(tmp_path, rows, reply, **options):
    labelled = read_labelled(write(tmp_path / "labelled.jsonl", rows), 1, 5)
    return (await calibrate(ScriptedJudge(reply), labelled, **options)).figures


async def test_a_perfect_judge_has_accuracy_and_kappa_1_on_every_kind(tmp_path):
    found = await figures(tmp_path, [*PAIRS, *CRITERIA, *SCORES], good_judge)
    assert {kind: (f.n, f.decided, f.accuracy, f.kappa) for kind, f in found.items()} == {
        "pairs": (12, 12, 1, 1), "criteria": (10, 10, 1, 1), "scores": (6, 6, 1, 1)}
    assert found["pairs"].more == {"consistent": 1, "tie": 0, "first_wins": 0.5}
    assert found["criteria"].more == {"false_pass": 0, "false_fail": 0}
    assert found["scores"].more == {"mean_error": 0}


async def test_a_judge_that_prefers_the_first_place_is_shown_to(tmp_path):
    found = (await figures(tmp_path, PAIRS, lambda q: '{"winner": "A"}'))["pairs"]
    assert (found.decided, found.undecided, found.accuracy, found.kappa) == (0, 12, None, None)
    assert found.more == {"consistent": 0, "tie": 0, "first_wins": 1}
    assert (found.low, found.high) == (0, 1)


async def test_an_unreadable_judge_is_counted_as_such_on_every_kind(tmp_path):
    found = await figures(tmp_path, [*PAIRS, *CRITERIA, *SCORES], lambda q: "hm", tries=1)
    assert {kind: (f.unread, f.n, f.decided, f.right) for kind, f in found.items()} == {
        "pairs": (12, 12, 0, 0), "criteria": (10, 10, 0, 0), "scores": (6, 6, 0, 0)}
    assert found["pairs"].as_dict()["unread_share"] == 1


async def test_a_lenient_judge_passes_what_is_not_met(tmp_path):
    yes = '{"1": {"satisfied": true}, "2": {"satisfied": true}}'
    found = (await figures(tmp_path, CRITERIA, lambda q: yes))["criteria"]
    assert (found.accuracy, found.kappa, found.more) == (0.5, 0, {"false_pass": 1, "false_fail": 0})


def test_ties_are_verdicts_and_disagreement_is_none():
    def said(winner, reason, first, second):
        return PairJudgement(winner, reason, (first, second))

    found = pair_figures([(said(None, "tie", "tie", "tie"), "tie"), (said("a", "agreed", "a", "a"), "a"),
                          (said("a", "agreed", "a", "a"), "b"), (said(None, "half_tie", "a", "tie"), "a"),
                          (said(None, "prefers_second", "b", "a"), "b"), (said(None, "unread_x", None, "a"), "a")])
    assert (found.n, found.unread, found.undecided, found.decided, found.right) == (6, 1, 2, 3, 2)
    assert found.more["consistent"] == 3 / 5
    assert found.more["first_wins"] == 3 / 7


def test_kappa_of_a_textbook_table():
    """Two readers and 50 proposals (20 both yes, 5 and 10 split, 15 both no): kappa 0.40."""
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)
    assert cohen_kappa([(1, 1)] * 5) is None
    assert cohen_kappa([]) is None
    assert criteria_figures(pairs).kappa == pytest.approx(0.4)


def test_scores_count_as_right_within_half_a_point_and_kappa_weighs_far_misses_more():
    near = score_figures([(1.5, 1), (2, 2), (4, 5), (5, 5)])
    far = score_figures([(5, 1), (2, 2), (4, 5), (5, 5)])
    assert (near.right, near.decided) == (3, 4)
    assert near.kappa > far.kappa
    assert near.more["mean_error"] == pytest.approx(0.375)


@settings(deadline=None)  # the first example imports scipy
@given(st.integers(0, 200), st.integers(1, 200))
def test_the_interval_is_scipys(k, n):
    stats = pytest.importorskip("scipy.stats")
    k = min(k, n)
    theirs = stats.binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson_interval(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(("row", "says"), [
    ({"prompt": "p", "a": "x", "b": "y", "label": "c"}, "'label'"), ({"prompt": "p", "a": "x", "b": 3}, "'label'"),
    ({"a": "x", "b": "y", "label": "a"}, "'prompt'"), ({"prompt": "p", "response": "r"}, "'label'"),
    ({"prompt": "p", "response": "r", "label": 7}, "from 1 to 5"),
    ({"prompt": "p", "response": "r", "label": True}, "from 1 to 5"),
    ({"prompt": "p", "response": "r", "criteria": ["c"], "labels": [True, False]}, "'labels'"),
    ({"prompt": "p", "response": "r", "criteria": [], "labels": []}, "'criteria'"),
    ({"prompt": "p", "response": "r", "criterion": "c", "label": "maybe"}, "'label'"),
    ({"prompt": "p", "response": " ", "label": 2}, "'response'")])
def test_a_wrong_row_is_named_with_its_field(tmp_path, row, says):
    path = write(tmp_path / "x.jsonl", [SCORES[0], row])
    with pytest.raises(UserError, match=rf"x\.jsonl:2.*|{says}") as e:
        read_labelled(path, 1, 5)
    assert says in str(e.value)
    assert "x.jsonl:2" in str(e.value)


def test_an_empty_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no labelled rows"):
        read_labelled(write(tmp_path / "x.jsonl", []), 1, 5)


@contextmanager
def served(reply):
    """A scripted judge behind an OpenAI-compatible endpoint."""
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send({"choices": [{"index": 0, "finish_reason": "stop", "message": {
                "role": "assistant", "content": reply(asked["messages"][-1]["content"])}}]})

        def send(self, value):
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_row_that_is_none_is_answered_with_the_columns(tmp_path):
    for row in ({}, {"prompt": "p", "a": "x", "b": "y", "label": "c"},
                {"prompt": "p", "response": "r", "criteria": []}):
        with pytest.raises(UserError) as caught:
            read_labelled(write(tmp_path / "rows.jsonl", [row]), 1, 5)
        assert '"criteria": [...], "labels": [true, ...]' in str(caught.value.fix)


def test_the_command_measures_a_judge_and_writes_what_it_said(tmp_path):
    labelled = write(tmp_path / "labelled.jsonl", [*PAIRS, *CRITERIA, *SCORES])
    with served(good_judge) as url:
        arguments = ["calibrate", str(labelled), "--judge", url, "-o", str(tmp_path / "out")]
        result = CliRunner().invoke(main, [*arguments, "--fail-under", "0.9"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        assert f"judge: {url}" in result.output
    found = json.loads((tmp_path / "out" / "calibration.json").read_text())
    assert {kind: f["accuracy"] for kind, f in found.items()} == {"pairs": 1, "criteria": 1, "scores": 1}
    judged = [json.loads(line) for line in (tmp_path / "out" / "judged.jsonl").read_text().splitlines()]
    assert [j["row"] for j in judged] == list(range(1, 24))
    assert json.loads(judged[0]["raw"][0]) == {"winner": "A"}

    with served(lambda q: '{"winner": "A"}') as url:
        pairs = write(tmp_path / "pairs.jsonl", PAIRS)
        result = CliRunner().invoke(main, ["calibrate", str(pairs), "--judge", url, "-o", str(tmp_path / "biased"),
                                           "--fail-under", "0.5"])
        assert result.exit_code == 1
        assert "first wins 1.000" in result.output
