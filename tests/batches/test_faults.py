"""What can go wrong between a wave and its answers: nothing is lost, nothing is paid twice, each case is counted."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from if_factory import api
from if_factory.batches.answers import Results
from if_factory.batches.backend import BatchBackend
from if_factory.batches.folder import BatchFolder
from if_factory.batches.wave import Wave
from if_factory.chat.base import ChatRequest
from if_factory.chat.log import ResponseLog
from if_factory.cli import main
from if_factory.errors import UserError
from tests.batches.conftest import Small
from tests.support.batch_service import answer_line


def failed(request: dict[str, Any], status: int, message: str, *, vllm: bool = False) -> dict[str, Any]:
    """A line with an error, in OpenAI's form or in vLLM's."""
    error = {"error": {"message": message, "type": "x", "param": None, "code": status}}
    response = {"status_code": status, "request_id": "r", **({} if vllm else {"body": error})}
    return {"id": "x", "custom_id": request["custom_id"], "response": response, "error": error if vllm else None}


def test_a_finished_run_by_batches_asks_nothing_more(small: Small) -> None:
    first = small.run()
    assert (first.complete, first.result.stopped_by) == (False, "batch")
    assert first.result.ledger["respond"].unfinished == 4
    assert len(small.lines(first)) == first.batch.opened == 8
    small.answer(first)
    assert small.fetch() == {"answered": 8}
    last = small.run()
    assert last.complete
    assert last.batch.opened == 0
    assert last.batch.open_files == []
    assert len(last.result.records) == 4


def test_a_run_again_before_the_answers_writes_no_request_twice(small: Small) -> None:
    small.run()
    again = small.run()
    assert (again.batch.opened, again.batch.waiting, again.batch.files) == (0, 8, [])
    (small.files / again.batch.open_files[0].name).unlink()  # the user threw the file away
    assert small.run().batch.opened == 8


def test_lost_lines_are_asked_again_and_no_others(small: Small) -> None:
    first = small.run()
    lost = {line["custom_id"] for line in small.lines(first)[::3]}
    small.answer(first, lambda r: None if r["custom_id"] in lost else answer_line(small.server, r))
    assert small.fetch() == {"answered": 5, "no_line": 3}
    second = small.run()
    assert {line["custom_id"] for line in small.lines(second)} == lost
    small.answer(second)
    assert small.fetch() == {"answered": 3}
    assert small.run().complete
    assert set(small.server.asked.values()) == {1}


def test_results_read_twice_are_logged_once(small: Small) -> None:
    first = small.run()
    small.answer(first)
    results = small.files / first.batch.files[0].beside(".output.jsonl")
    small.fetch()
    log = (small.out / "responses.jsonl").read_bytes()
    assert small.fetch() == {}
    assert small.fetch(results) == {"repeated": 8}
    assert (small.out / "responses.jsonl").read_bytes() == log


def test_results_may_come_in_parts_and_under_any_name(small: Small, tmp_path: Path) -> None:
    first = small.run()
    small.answer(first)
    lines = (small.files / first.batch.files[0].beside(".output.jsonl")).read_text().splitlines(keepends=True)
    (small.files / first.batch.files[0].beside(".output.jsonl")).unlink()
    (tmp_path / "a.jsonl").write_text("".join(lines[:3]))
    (tmp_path / "b.jsonl").write_text("".join(lines[3:]))
    report = api.batch(small.files, "fetch", results=[tmp_path / "a.jsonl"])
    assert report.counts == {"answered": 3}
    assert len(report.open_files) == 1
    report = api.batch(small.files, "fetch", results=[tmp_path / "b.jsonl"])
    assert report.counts == {"answered": 5}
    assert report.open_files == []


def test_results_of_another_run_and_lines_that_are_none_are_counted_and_not_taken(small: Small) -> None:
    first = small.run()
    small.answer(first, lambda r: {**answer_line(small.server, r), "custom_id": f"other{r['custom_id']}"})
    with open(small.files / first.batch.files[0].beside(".output.jsonl"), "a") as f:
        f.write("<html>busy</html>\n[]\n")
    assert small.fetch() == {"no_line": 8, "foreign": 8, "unreadable": 2}
    assert (small.out / "responses.jsonl").read_bytes() == b""
    with pytest.raises(UserError, match="those of the run"):
        api.run(small.recipe, small.folder / "another", batch=small.files)


def test_a_fault_in_passing_is_asked_again_twice_and_then_lost_as_in_a_live_run(small: Small) -> None:
    report, bad = small.run(), ""
    for wave in (1, 2, 3):
        bad = bad or small.lines(report)[0]["custom_id"]
        assert report.batch.number == wave
        small.answer(report, lambda r, bad=bad: failed(r, 500, "oops") if r["custom_id"] == bad
                     else answer_line(small.server, r))
        counts = small.fetch()
        assert counts.pop("again" if wave < 3 else "lost") == 1
        assert counts == ({"answered": 7} if wave == 1 else {})
        report = small.run()
    assert report.complete
    assert report.batch.lost == 1
    assert [(each.stage, each.reason) for each in report.result.dropped] == [("respond", "http_500")]
    assert report.usage.failures == Counter(http_500=1)


@pytest.mark.parametrize("vllm", [False, True])
def test_a_request_refused_for_good_is_not_asked_again(small: Small, vllm: bool) -> None:
    report = small.run()
    bad = small.lines(report)[3]["custom_id"]
    small.answer(report, lambda r: failed(r, 400, "This model's maximum context length is 4096 tokens", vllm=vllm)
                 if r["custom_id"] == bad else answer_line(small.server, r))
    assert small.fetch() == {"answered": 7, "lost": 1}
    report = small.run()
    assert report.complete
    assert [each.reason for each in report.result.dropped] == ["context_too_long"]


def test_a_wrong_key_or_no_credit_loses_no_request(small: Small, caplog: pytest.LogCaptureFixture) -> None:
    report = small.run()
    small.answer(report, lambda r: failed(r, 401, "bad key sk-very-secret-0123456789"))
    assert small.fetch() == {"again": 8}
    assert "refused the key" in caplog.text
    assert "sk-very" not in caplog.text
    assert small.run().batch.opened == 8


def test_an_empty_answer_is_given_to_the_method_and_not_paid_again(small: Small) -> None:
    def line(request: dict[str, Any]) -> dict[str, Any]:
        row = answer_line(small.server, request)
        if request["custom_id"] == empty:
            row["response"]["body"]["choices"][0]["message"]["content"] = ""
        return row

    report = small.run()
    empty = small.lines(report)[0]["custom_id"]
    small.answer(report, line)
    assert small.fetch() == {"answered": 7, "empty": 1}
    report = small.run()
    assert report.complete
    assert sum(c.text == "" for record in report.result.records for c in record.candidates) == 1
    assert report.usage.total().requests + report.usage.total().replayed == 8


def test_what_the_recipe_says_of_a_model_is_in_the_body_as_the_live_client_sends_it(small: Small) -> None:
    small.change(temperature=None, max_tokens=77, extra_body={"top_k": 5, "seed": None})
    body = small.lines(small.run())[0]["body"]
    assert {key: body[key] for key in body if key != "messages"} == {
        "model": "fake", "top_p": 1.0, "max_tokens": 77, "top_k": 5}


def test_a_budget_in_requests_is_exact(small: Small) -> None:
    small.change({"max_requests": 3})
    report = small.run()
    assert (report.result.stopped_by, report.batch.opened) == ("budget", 3)
    assert small.run().batch.opened == 0
    small.answer(report)
    small.fetch()
    assert small.run().batch.opened == 0


def test_a_budget_in_money_stops_a_wave_before_it_is_sent(small: Small) -> None:
    """Before any answer is there a request counts as the most it may cost, about 0.0026; then as those before it."""
    small.change({"max_usd": 0.01}, price={"prompt": 1, "completion": 10}, max_tokens=250)
    report = small.run()
    assert (report.result.stopped_by, report.batch.opened) == ("budget", 4)
    small.answer(report)
    small.fetch()
    report = small.run()
    assert (report.result.stopped_by, report.batch.opened) == ("batch", 4)


def test_a_run_that_fails_or_is_killed_has_written_no_requests(tmp_path: Path) -> None:
    backend = BatchBackend("http://127.0.0.1:9/v1", "m")
    with BatchFolder(tmp_path) as folder:
        with contextlib.suppress(ZeroDivisionError), Wave(folder) as wave:
            wave.add("a", ChatRequest("m", ()), "s", backend, "http://x")
            raise ZeroDivisionError
        assert folder.files == []
        assert list(tmp_path.glob("wave*.part"))
        with Wave(folder) as wave:
            assert not list(tmp_path.glob("wave*.part"))
            assert "a" not in wave


def test_files_keep_to_the_limits_and_have_one_model_each(tmp_path: Path) -> None:
    with BatchFolder(tmp_path) as folder:
        with Wave(folder, most_lines=2, most_bytes=100_000) as wave:
            for model, texts in (("org/one", ["x"] * 5), ("two", ["y" * 60_000] * 2)):
                backend = BatchBackend("http://127.0.0.1:9/v1", model)
                for i, text in enumerate(texts):
                    request = ChatRequest(model, ({"role": "user", "content": text},), sample=i)
                    wave.add(request.key(), request, "s", backend, "http://127.0.0.1:9/v1")
        assert [(f.name, f.requests) for f in folder.files] == [
            ("wave01-org-one-01.jsonl", 2), ("wave01-org-one-02.jsonl", 2), ("wave01-org-one-03.jsonl", 1),
            ("wave01-two-04.jsonl", 1), ("wave01-two-05.jsonl", 1)]
        assert all((tmp_path / f.name).stat().st_size == f.bytes for f in folder.files)
    with BatchFolder(tmp_path) as folder:
        assert len(folder.pending()) == 7


async def test_a_refused_schema_is_sent_otherwise_in_the_next_wave_and_the_server_remembered(tmp_path: Path) -> None:
    """The live client tries without the schema's bounds, then without the schema; here each try is a wave."""
    url, schema = "http://127.0.0.1:9/v1", {"type": "object", "properties": {"a": {"type": "string", "maxLength": 9}}}
    requests = [ChatRequest("m", ({"role": "user", "content": text},), schema=schema) for text in "ab"]
    sent: list[Any] = []
    with BatchFolder(tmp_path) as folder:
        for wave_number in (1, 2, 3):
            backend = BatchBackend(url, "m")
            backend.recall(folder.servers.get(f"{url} m", {}))
            with Wave(folder) as wave:
                request = requests[0]
                known = folder.unanswered.get(request.key())
                wave.add(request.key(), request, "s", backend, url, known.form if known else None)
            file = folder.files[-1]
            line = json.loads((tmp_path / file.name).read_text())
            sent.append(line["body"].get("response_format", {}).get("json_schema", {}).get("schema"))
            good = {"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}]}
            row = failed(line, 400, "Invalid schema for response_format: maxLength", vllm=True) if wave_number < 3 \
                else {"custom_id": request.key(), "response": {"status_code": 200, "body": good}, "error": None}
            (tmp_path / "out.jsonl").write_text(json.dumps(row))
            log = ResponseLog(tmp_path / "run" / "responses.jsonl")
            read = Results(folder, log, [file])
            await read.take(tmp_path / "out.jsonl")
            read.close(file, "answered here")
            log.close()
            assert file.counts == ({"other_form": 1} if wave_number < 3 else {"answered": 1})
        learnt = BatchBackend(url, "m")
        learnt.recall(folder.servers[f"{url} m"])
        assert "response_format" not in json.loads(learnt.body(requests[1], learnt.form(requests[1])))
    assert [s and s["properties"]["a"] for s in sent] == [{"type": "string", "maxLength": 9}, {"type": "string"}, None]


def test_batch_files_and_ray_exclude_each_other_and_nothing_is_written(small: Small) -> None:
    run = ["run", str(small.recipe), "-o", str(small.out), "--batch", str(small.files), "--engine", "ray"]
    said = CliRunner().invoke(main, run)
    assert said.exit_code == 2
    assert "there is nothing to spread over workers" in " ".join(said.output.split())
    with pytest.raises(UserError, match="nothing to spread over workers"):
        api.run(small.recipe, small.out, batch=small.files, engine="ray")
    assert not small.out.exists()
    assert not small.files.exists()
