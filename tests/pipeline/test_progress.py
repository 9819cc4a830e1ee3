import io

import pytest
from rich.console import Console

from if_factory.chat.budget import Usage
from if_factory.pipeline.ledger import Ledger
from if_factory.pipeline.progress import Progress
from if_factory.pipeline.runner import run
from if_factory.pipeline.stage import Stage
from tests.pipeline.scripted import ScriptedEndpoint, ask, model, seeds, some, split


def half_way(total=100) -> Progress:
    ledger, usage = Ledger(["compose", "respond"]), Usage()
    first, compose, respond = ledger.rows
    first.taken = first.advanced = first.produced = 50
    compose.taken = compose.advanced = 50
    compose.produced = respond.taken = 100
    respond.advanced = respond.produced = 80
    respond.dropped.update({"truncated": 15})
    tally = usage.tally("respond", "student")
    tally.requests, tally.completion_tokens, tally.cost = 95, 1900, None
    out = io.StringIO()
    progress = Progress(file=out)
    progress.start(ledger, {"student": model(ScriptedEndpoint(), usage=usage)}, total)
    progress.stop()
    return progress


def shown(progress: Progress) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(progress.table())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_has_a_row_per_stage_and_every_count():
    text = shown(half_way())
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    assert rows["compose"][:4] == ["50", "100", "0", "0"]
    assert rows["respond"][:6] == ["100", "80", "5", "15", "truncated", "15"]
    assert "95 requests" in text


def test_an_unknown_price_is_shown_as_unknown():
    assert "cost ?" in shown(half_way())
    assert "USD" not in shown(half_way())


def test_the_share_done_counts_what_is_not_made_yet():
    assert half_way(total=100).share() == pytest.approx(95 / 200), "compose asks no model and takes no time"
    assert half_way(total=None).share() == 0


def test_what_a_log_file_gets_is_plain_lines():
    progress = half_way()
    lines = progress.console.file.getvalue().splitlines()
    assert len(lines) == 1
    assert "seeds 50/100  finished 80  dropped 15" in lines[0]
    assert "\x1b" not in lines[0]


async def test_a_terminal_gets_a_table_that_ends_with_the_final_counts(monkeypatch):
    out = io.StringIO()
    progress = Progress(file=out)
    progress.console = Console(file=out, force_terminal=True, width=120)
    await run([split(2), Stage("ask", ask), some(3, None)], seeds(20), {"student": model(ScriptedEndpoint())},
              seed=0, observer=progress)
    last = out.getvalue().rsplit("stage", 1)[1]
    assert "produced_nothing" in last
    assert "40" in last
