import asyncio
import signal
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from if_factory.chat.base import RequestFailed, Transient
from if_factory.chat.budget import Budget
from if_factory.chat.log import ResponseLog
from if_factory.errors import UserError
from if_factory.pipeline.ledger import LedgerError
from if_factory.pipeline.result import StageFailed
from if_factory.pipeline.rundir import usage_rows
from if_factory.pipeline.runner import run
from if_factory.pipeline.stage import Dropped, Stage
from if_factory.records import Record
from tests.pipeline.scripted import KINDS, ScriptedEndpoint, ask, every_other, model, run_scripted, seeds, split

methods = st.lists(st.sampled_from(sorted(KINDS)), max_size=5)


def outcome(result, usage=None):
    rows = usage_rows(usage, [row.stage for row in result.ledger.rows]) if usage else None
    return result.records, result.dropped, result.ledger.to_dict(), rows


@settings(max_examples=75, deadline=None)
@given(methods, st.integers(0, 20), st.integers(1, 9), st.integers(1, 99))
def test_any_method_balances_and_its_outcome_does_not_depend_on_latency_or_window(kinds, n, window, latency):
    one, _, usage_one = run_scripted(kinds, n, window=1)
    other, _, usage_other = run_scripted(kinds, n, window=window, latency=latency)
    assert one.complete
    assert other.complete
    one.ledger.check()
    assert outcome(one, usage_one) == outcome(other, usage_other)
    assert one.ledger.rows[-1].produced == len(one.records)
    assert sum(row.dropped.total() for row in one.ledger.rows) == len(one.dropped)
    assert not any(row.unfinished for row in one.ledger.rows)


@settings(max_examples=25, deadline=None)
@example(kinds=["ask", "ask"], n=1, step=1, latency=0)  # the second stage asks what the first has asked
@given(kinds=methods, n=st.integers(1, 12), step=st.integers(1, 20), latency=st.integers(0, 99))
def test_a_budget_stops_cleanly_and_paying_on_ends_where_one_run_does(tmp_path_factory, kinds, n, step, latency):
    folder = tmp_path_factory.mktemp("budget")
    whole, _, usage_whole = run_scripted(kinds, n, log=folder / "whole.jsonl")
    log = folder / "responses.jsonl"
    paid = 0
    for limit in range(step, 10_000, step):
        part, endpoint, usage = run_scripted(kinds, n, latency=latency + limit, log=log,
                                             budget=Budget(max_requests=limit))
        part.ledger.check()
        paid += endpoint.started
        assert endpoint.answered == endpoint.started, "a request in flight was lost"
        with_log = ResponseLog(log)
        assert len(with_log) == paid
        with_log.close()
        assert part.complete == (part.stopped_by is None)
        if part.complete:
            break
        assert part.stopped_by == "budget"
    assert outcome(part, usage) == outcome(whole, usage_whole)


def test_records_and_rejects_come_in_the_order_of_the_seeds_and_their_children():
    result, _, _ = run_scripted(["split3", "ask", "dropped"], 4, latency=3)
    made = sorted([r.prompt for r in result.records])
    assert [r.prompt for r in result.records] == made
    assert made
    assert result.dropped
    assert {r.reason for r in result.dropped} == {"too_short"}


async def test_a_slow_answer_delays_its_own_record_and_no_other():
    others_done = asyncio.Event()
    finished = 0

    class OneSlow(ScriptedEndpoint):
        async def chat(self, request):
            if request.messages[0]["content"].startswith("seed 0 / 1"):
                await others_done.wait()  # for ever, if anyone waited for this one
            return await super().chat(request)

    async def count(record, ctx):
        nonlocal finished
        finished += 1
        if finished == 99:
            others_done.set()
        return record

    done = await asyncio.wait_for(run([split(2), Stage("ask", ask), Stage("count", count)], seeds(50),
                                      {"student": model(OneSlow())}, seed=0, window=8), timeout=30)
    assert len(done.records) == 100


async def test_seeds_are_taken_no_further_ahead_than_the_window():
    taken = finished = 0
    ahead = []

    def stream() -> Iterator[Record]:
        nonlocal taken
        for record in seeds(400):
            taken += 1
            ahead.append(taken - finished)
            yield record

    async def finish(record, ctx):
        nonlocal finished
        finished += record.prompt.count("/ 2")  # the last child of its seed
        return record

    result = await run([split(3), Stage("ask", ask), Stage("finish", finish)], stream(),
                       {"student": model(ScriptedEndpoint(1))}, seed=0, window=10)
    assert len(result.records) == 1200
    assert max(ahead) <= 11


async def test_only_an_all_stage_waits_for_everyone():
    seen = []

    async def whole(records, ctx):
        seen.append(len(records))
        return await every_other(records, ctx)

    result = await run([Stage("ask", ask), Stage("whole", whole, "all")], seeds(31),
                       {"student": model(ScriptedEndpoint(5))}, seed=0, window=4)
    assert seen == [31]
    assert len(result.records) == 16


async def test_a_family_stage_gets_what_became_of_one_seed_and_nothing_of_another():
    seen = []

    async def together(records, ctx):
        seen.append([r.prompt.split(" / ")[0] for r in records])
        return records[:1], [(r, Dropped("later")) for r in records[1:]]

    result = await run([split(3), Stage("ask", ask), Stage("dropped", KINDS["dropped"]().run),
                        Stage("together", together, "per_seed"), Stage("ask_again", ask)], seeds(20),
                       {"student": model(ScriptedEndpoint(2))}, seed=0, window=4)
    assert all(len(set(family)) == 1 for family in seen)
    assert [family[0] for family in seen] == sorted({f[0] for f in seen}, key=lambda s: int(s.split()[1]))
    assert len(result.records) == len(seen)
    assert result.ledger["together"].dropped["later"] == sum(len(f) - 1 for f in seen) > 0


async def test_a_stop_during_a_stage_that_waits_for_all_leaves_nothing_unaccounted():
    """Ctrl-C while such a stage is at its work: what it lets through must be counted somewhere."""
    async def stops(records, ctx):
        await ctx.chat("student", [{"role": "user", "content": "last"}])
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        await asyncio.sleep(0.05)
        return records, []

    for scope in ("all", "per_seed"):
        result = await run([Stage("ask", ask), Stage("stops", stops, scope)], seeds(6),
                           {"student": model(ScriptedEndpoint())}, seed=0)
        assert result.stopped_by == "interrupt"
        result.ledger.check()
        unfinished = sum(row.unfinished for row in result.ledger.rows)
        assert len(result.records) + unfinished + len(result.dropped) == 6


async def test_the_same_seed_twice_is_counted_and_worked_on_once():
    endpoint = ScriptedEndpoint()
    result = await run([Stage("ask", ask)], [*seeds(3), *seeds(2)], {"student": model(endpoint)}, seed=0)
    assert endpoint.started == 3
    assert result.ledger["seeds"].dropped == {"duplicate_seed": 2}
    assert [r.reason for r in result.dropped] == ["duplicate_seed"] * 2


async def test_a_record_whose_request_fails_is_counted_under_the_reason_of_the_failure():
    class Refuses(ScriptedEndpoint):
        async def chat(self, request):
            raise RequestFailed("content_filter")

    result = await run([Stage("ask", ask)], seeds(2), {"student": model(Refuses())}, seed=0)
    assert result.complete
    assert result.ledger["ask"].dropped == {"content_filter": 2}


async def test_a_bug_names_stage_and_record_and_loses_no_answer_under_way(tmp_path):
    log, endpoint, records = ResponseLog(tmp_path / "log.jsonl"), ScriptedEndpoint(4), seeds(40)

    async def buggy(record, ctx):
        if record.id == records[20].id:
            raise KeyError("oops")
        return record

    with pytest.raises(StageFailed, match=rf"stage 'buggy' failed on record '{records[20].id}'.*oops"):
        await run([Stage("ask", ask), Stage("buggy", buggy)], records, {"student": model(endpoint, log=log)},
                  seed=0, window=8)
    assert endpoint.answered == endpoint.started == len(log) < 40
    log.close()


async def test_a_mistake_of_the_user_comes_through_and_cancels_what_is_under_way():
    cancelled = 0

    class WrongKey(ScriptedEndpoint):
        async def chat(self, request):
            nonlocal cancelled
            if request.messages[0]["content"] == "seed 3":
                raise UserError("the server wants a key")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
                raise

    with pytest.raises(UserError, match="wants a key"):
        await asyncio.wait_for(run([Stage("ask", ask)], seeds(6), {"student": model(WrongKey())}, seed=0), 30)
    assert cancelled == 5


async def test_unreadable_inputs_stop_the_run_with_their_own_error():
    def broken() -> Iterator[Record]:
        yield from seeds(5)
        raise UserError("not valid JSON", where="seeds.jsonl:6")

    with pytest.raises(UserError, match=r"seeds\.jsonl:6"):
        await run([Stage("ask", ask)], broken(), {"student": model(ScriptedEndpoint())}, seed=0, window=2)


async def test_a_role_without_a_model_is_the_users_mistake():
    async def judge(record, ctx):
        assert not ctx.has("judge")
        await ctx.chat("judge", record.messages())
        return record

    with pytest.raises(UserError, match=r"stage 'judge' needs a model for the role 'judge'"):
        await run([Stage("judge", judge)], seeds(1), {"student": model(ScriptedEndpoint())}, seed=0)


@pytest.mark.parametrize(("decide", "accounted"), [
    (lambda records: (records[:-1], []), 4),
    (lambda records: (iter(records[:-1]), iter([])), 4),
    (lambda records: (records[:3], ((r, Dropped("x")) for r in records[3:4])), 4),
    (lambda records: (records, [(records[0], Dropped("x")), (records[0], Dropped("x"))]), 6),
    (lambda records: ((r.child("first child's", (), 0) for r in records[:2]), []), 2),
])
async def test_an_all_stage_that_loses_a_record_or_drops_it_twice_fails_the_run(decide, accounted):
    async def together(records, ctx):
        return decide(records)

    with pytest.raises(LedgerError, match=f"'together' took 5 records but accounts for {accounted}"):
        await run([Stage("together", together, "all")], seeds(5), {}, seed=0)


@pytest.mark.parametrize("decide", [
    lambda records: ([r.child(p, (), 0) for r in records for p in "ab"], []),
    lambda records: ([records[0], records[0].child("x", (), 0)], [(r, Dropped("x")) for r in records[1:]])])
async def test_an_all_stage_may_make_several_records_of_one(decide):
    async def together(records, ctx):
        return decide(records)

    result = await run([Stage("together", together, "all")], seeds(5), {}, seed=0)
    row = result.ledger["together"]
    assert (row.taken, row.produced) == (5, len(result.records))


async def test_an_all_stage_with_a_bug_is_named_wherever_it_shows():
    async def at_once(records, ctx):
        raise ZeroDivisionError

    async def later(records, ctx):
        return (r.with_extra(unread=1 // 0) for r in records), []

    for buggy in (at_once, later):
        with pytest.raises(StageFailed, match="stage 'buggy' failed: ZeroDivisionError"):
            await run([Stage("buggy", buggy, "all")], seeds(5), {}, seed=0)


async def test_what_a_stage_catches_does_not_hide_a_stop():
    """A stage that takes any error for a bad answer must not take the budget's end for one."""
    async def careless(record, ctx):
        try:
            return await ask(record, ctx)
        except Exception as e:
            raise Dropped("bad_answer") from e

    result = await run([Stage("careless", careless)], seeds(9),
                       {"student": model(ScriptedEndpoint(), budget=Budget(max_requests=4))}, seed=0)
    assert result.stopped_by == "budget"
    assert not result.dropped
    assert (len(result.records), result.ledger["careless"].unfinished) == (4, 5)


async def test_requests_of_a_record_that_was_given_up_still_reach_the_log(tmp_path):
    log, endpoint = ResponseLog(tmp_path / "log.jsonl"), ScriptedEndpoint(2)

    async def gives_up(record, ctx):
        asked = [asyncio.create_task(ctx.chat("student", record.messages(), sample=i)) for i in range(3)]
        await asyncio.wait(asked, return_when="FIRST_COMPLETED")
        raise Dropped("one_was_enough")

    result = await run([Stage("gives_up", gives_up)], seeds(1), {"student": model(endpoint, log=log)}, seed=0)
    assert result.complete
    assert endpoint.answered == endpoint.started == len(log) == 3
    log.close()


async def test_a_run_that_is_cancelled_from_outside_ends_and_leaves_no_task():
    class Never(ScriptedEndpoint):
        async def chat(self, request):
            await asyncio.Event().wait()

    before = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(run([Stage("ask", ask)], seeds(30), {"student": model(Never())}, seed=0), 0.05)
    assert asyncio.all_tasks() == before


def test_randomness_depends_on_seed_and_parts_alone():
    draws = {}

    async def main(seed):
        async def draw(record, ctx):
            draws[seed, record.prompt] = [ctx.rng(record.id, "a").random(), ctx.rng(record.id, "b").random()]
            return record
        await run([Stage("draw", draw)], seeds(2), {}, seed=seed)

    for seed in (1, 2, 1):
        before = dict(draws)
        asyncio.run(main(seed))
        assert all(draws[key] == value for key, value in before.items())
    values = [v for pair in draws.values() for v in pair]
    assert len(set(values)) == len(values) == 8


@pytest.mark.parametrize("end", ["rejected", "kept", "together"])
@pytest.mark.parametrize("n", [3_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_memory_per_record_is_bounded(repo, n, end):
    """Of records with 10 kB answers only the rejection stays, or the place in a file."""
    grown = int(subprocess.run([sys.executable, "-m", "tests.pipeline.memory", str(n), end], check=True, cwd=repo,
                               capture_output=True, text=True).stdout)
    before_there_is_a_file = 0 if end == "rejected" else 12 * 2**20
    assert (grown - before_there_is_a_file) / n < 2_000, f"{grown / n:.0f} bytes per record"


async def test_a_stop_does_not_wait_for_a_retry_that_is_an_hour_away(tmp_path):
    class Overloaded(ScriptedEndpoint):
        async def chat(self, request):
            if request.messages[0]["content"] == "seed 0":
                raise Transient("http_429", retry_after=3600)
            return await super().chat(request)

    log = ResponseLog(tmp_path / "log.jsonl")
    budget = Budget(max_requests=5)
    result = await asyncio.wait_for(run([Stage("ask", ask)], seeds(20), {
        "student": model(Overloaded(), log=log, budget=budget)}, seed=0), 60)
    log.close()
    assert result.stopped_by == "budget"
    assert (len(result.records), len(log)) == (4, 4)
    assert not result.dropped, "a request that was not tried to the end is no failure"


async def test_few_records_are_in_memory_at_a_stage_for_all_of_them_and_after_it():
    seen: list[weakref.ref[Record]] = []
    most = 0

    def watched(record: Record) -> Record:
        nonlocal most
        seen.append(weakref.ref(record))
        most = max(most, sum(ref() is not None for ref in seen))
        return record

    async def look(record, ctx):
        return watched(record.with_extra(number=len(seen)))

    async def together(records, ctx):
        dropped = {record.id for record in map(watched, records) if record.extra["number"] % 3}
        return ((watched(r.with_extra(number=0)) for r in map(watched, records) if r.id not in dropped),
                ((watched(r), Dropped("x")) for r in records if r.id in dropped))

    result = await run([Stage("before", look), Stage("together", together, "all"), Stage("after", look)], seeds(60), {},
                       seed=0, window=1)
    assert (len(result.records), len(result.dropped)) == (20, 40)
    assert most <= 4
