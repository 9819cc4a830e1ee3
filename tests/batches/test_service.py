"""Batches at a fake Files and Batches API, with the real ``openai`` client; a scripted model answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from if_factory import api
from if_factory.cli import main
from if_factory.errors import UserError
from tests.batches.conftest import Small
from tests.support.batch_service import FakeBatches

pytest.importorskip("openai", reason="the Batch API is called with the package `openai`")


@pytest.fixture
def service(small: Small) -> Iterator[FakeBatches]:
    with FakeBatches(small.server) as fake:
        small.change(endpoint=fake.url)
        yield fake


def command(*arguments: Any, status: int = 0) -> str:
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    assert done.exit_code == status, done.output
    return " ".join(done.output.split())


def test_from_the_command_line_to_the_end(small: Small, service: FakeBatches) -> None:
    run = ("run", small.recipe, "-o", small.out, "--batch", small.files)
    said = command(*run, status=3)
    assert "not finished" in said
    assert "if-factory batch submit" in said
    assert "vllm run-batch -i" in said
    service.ends = "in_progress"
    command("batch", "submit", small.files)
    command("batch", "submit", small.files)  # there is nothing more to send
    assert len(service.batches) == 1
    assert "in_progress" in command("batch", "status", small.files)
    assert "not finished" in command("batch", "fetch", small.files, status=3)
    assert "8 requests of earlier files have no results yet" in command(*run, status=3)
    service.ends = "completed"
    assert "8 answers put into the log" in command("batch", "fetch", small.files)
    command(*run)
    assert set(service.paid.values()) == {1}
    assert service.keys == {"Bearer sk-very-secret-0123456789"}
    for file in [*small.out.rglob("*"), *small.files.rglob("*")]:
        assert not file.is_file() or b"sk-very-secret" not in file.read_bytes(), file


def test_a_batch_whose_making_was_not_heard_of_is_not_made_again(small: Small, service: FakeBatches) -> None:
    small.run()
    service.lose_reply = True
    with pytest.raises(UserError, match="nothing is sent twice"):
        api.batch(small.files, "submit")
    api.batch(small.files, "submit")
    assert len(service.batches) == 1
    assert small.fetch() == {"answered": 8}


def test_what_an_expired_batch_did_not_get_to_is_asked_again_and_nothing_else(small: Small,
                                                                              service: FakeBatches) -> None:
    service.ends = "expired"
    small.run()
    api.batch(small.files, "submit")
    assert small.fetch() == {"answered": 4, "not_tried": 4}
    service.ends = "completed"
    assert small.run().batch.opened == 4
    api.batch(small.files, "submit")
    assert small.fetch() == {"answered": 4}
    assert small.run().complete
    assert set(service.paid.values()) == {1}


def test_a_batch_that_failed_as_a_whole_says_why_and_leaves_its_requests_open(small: Small,
                                                                              service: FakeBatches) -> None:
    service.ends = "failed"
    small.run()
    api.batch(small.files, "submit")
    report = api.batch(small.files, "fetch")
    assert report.counts == {"no_line": 8}
    assert "Enqueued token limit" in next(iter(report.news.values()))
    assert small.run().batch.opened == 8
    assert not service.paid


def test_a_live_run_is_refused_while_its_requests_are_at_the_service(small: Small, service: FakeBatches) -> None:
    small.run()
    api.batch(small.files, "submit")
    with pytest.raises(UserError, match="8 requests of this run are in batches"):
        api.run(small.recipe, small.out)
    small.fetch()
    assert api.run(small.recipe, small.out).complete


def test_requests_answered_in_the_meantime_are_not_sent(small: Small, service: FakeBatches, tmp_path: Path) -> None:
    first = small.run()
    small.answer(first)
    results = small.files / first.batch.files[0].beside(".output.jsonl")
    results.rename(tmp_path / "part.jsonl")
    (tmp_path / "part.jsonl").write_text("".join((tmp_path / "part.jsonl").read_text().splitlines(keepends=True)[:2]))
    small.fetch(tmp_path / "part.jsonl")
    assert "2 of its 8 requests" in next(iter(api.batch(small.files, "submit").news.values()))
    assert not service.batches
    assert small.run().batch.opened == 6


def test_a_file_that_was_changed_or_has_no_service_is_not_sent(small: Small, service: FakeBatches) -> None:
    name = small.run().batch.files[0].name
    with open(small.files / name, "a") as f:
        f.write("{}\n")
    with pytest.raises(UserError, match="not the one that the run wrote"):
        api.batch(small.files, "submit")
    small.change(endpoint="vllm:fake", model=None)
    other = api.run(small.recipe, small.folder / "other", batch=small.folder / "vllm")
    assert other.batch.opened == 8
    with pytest.raises(UserError, match="has no Batch API"):
        api.batch(small.folder / "vllm", "submit")
