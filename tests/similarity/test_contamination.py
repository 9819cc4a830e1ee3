"""Contamination: what is copied, nearly copied or rephrased is found, and only that is dropped."""

from __future__ import annotations

import asyncio
import contextlib
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.chat.base import RequestFailed
from if_factory.cli import main
from if_factory.similarity import contamination
from if_factory.similarity.contamination import ask_rephrased, nearest, summarise
from tests.pipeline.test_spread import pickling
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.models import scripted_client

TESTS = ["Write a short story about a lighthouse keeper who finds a message in a bottle on a stormy winter night.",
         "List three causes of the French revolution and explain each of them in two sentences."]
COPY = TESTS[0]
LONG = ("Please be brief. Write a short story about a lighthouse keeper who finds a message in a bottle on a "
        "stormy winter night. Use no commas and end with a question, and mention every season of the year once.")
REPHRASED = "Name three reasons for the revolution in France, with two sentences of explanation for each."
CLEAN = "How do I keep basil alive in a pot on a balcony that faces north?"
TRAIN = [CLEAN, COPY, LONG, REPHRASED]


def judge(answer):
    model = scripted_client("judge", answer)
    return partial(model.chat, stage="rephrase")


def test_copies_and_shared_runs_of_words_are_found_and_a_clean_prompt_is_not() -> None:
    found = nearest(TRAIN, {"bench": TESTS})
    assert [n.contaminated(0.8) for n in found] == [None, "shared_ngram", "shared_ngram", None]
    assert found[1].cosine == pytest.approx(1)
    assert found[3].test == 1
    assert found[3].cosine > found[0].cosine


def test_prompts_compared_in_blocks_are_compared_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmarks = {"b": TESTS, "none": [], "a": TESTS[::-1]}
    whole = nearest(TRAIN * 3, benchmarks)
    monkeypatch.setattr(contamination, "_TOGETHER", 5)
    monkeypatch.setattr(contamination, "spread", pickling)
    assert nearest(TRAIN * 3, benchmarks, workers=2) == whole
    assert [(n.row, n.benchmark) for n in whole] == [(row, name) for row in range(12) for name in "ab"]


def test_a_short_benchmark_prompt_must_be_all_of_a_prompt() -> None:
    found = nearest(["Write a poem about the sea and its tides.", "write a POEM!"], {"bench": ["Write a poem."]})
    assert [n.shared_ngram for n in found] == [False, True]


WORDS = st.lists(st.sampled_from(["red", "sea", "wind", "old", "map"]), min_size=1, max_size=8).map(" ".join)


@settings(max_examples=100)
@given(st.lists(WORDS, min_size=1, max_size=5), st.lists(WORDS, min_size=1, max_size=5), st.integers(2, 4))
def test_the_nearest_is_the_one_brute_force_finds(train: list[str], tests: list[str], n: int) -> None:
    from if_factory.similarity.dedup import shingles

    def cosine(a: str, b: str) -> float:
        return len(shingles(a) & shingles(b)) / (len(shingles(a)) * len(shingles(b))) ** 0.5

    def runs(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words)} if len(words) < n else {tuple(words[i:i + n]) for i in range(len(words) - n + 1)}

    for found, text in zip(nearest(train, {"b": tests}, ngram=n), train, strict=True):
        assert found.cosine == pytest.approx(max(cosine(text, t) for t in tests))
        assert found.shared_ngram == any(runs(text) & runs(t) for t in tests)


def test_the_judge_is_asked_about_the_nearest_pairs_only_and_counts_per_benchmark_prompt() -> None:
    asked = []

    def answer(request):
        asked.append(request.messages[0]["content"])
        return json.dumps({"reason": "", "same": "reasons for the revolution" in asked[-1]})

    found = nearest(TRAIN, {"bench": TESTS})
    said = asyncio.run(ask_rephrased(judge(answer), found, TRAIN, {"bench": TESTS}))
    assert len(asked) == 2
    assert [n.rephrased for n in said] == [None, False, None, True]
    line, = summarise(said, {"bench": TESTS}, 0.8)
    assert (line.tests, line.shared_ngram, line.rephrased_tests, line.asked) == (2, 2, 1, 2)
    assert line.rephrased_share == 0.5


def test_an_unread_judge_contaminates_nothing() -> None:
    found = asyncio.run(ask_rephrased(judge(lambda r: "hm"), nearest([REPHRASED], {"b": TESTS}), [REPHRASED],
                                      {"b": TESTS}))
    assert found[0].rephrased is None
    assert found[0].contaminated(0.99) is None


# ---------------------------------------------------------------- from the command line


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    data = write(tmp_path / "x.jsonl", [{"instruction": t, "input": "", "output": "o"} for t in TRAIN])
    write(tmp_path / "x.provenance.jsonl", [{"row": i + 1, "record_id": f"r{i}"} for i in range(4)])
    return data, write(tmp_path / "bench.jsonl", [{"prompt": t} for t in TESTS])


def test_decontaminate_drops_what_crosses_a_line_and_keeps_the_sidecar_in_step(files, tmp_path: Path) -> None:
    data, bench = files
    before = data.read_bytes()
    out = tmp_path / "clean"
    result = CliRunner().invoke(main, ["decontaminate", str(data), "--against", str(bench), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert "4 rows in, 2 kept, 2 dropped; shared_ngram:bench 2" in result.output
    assert [json.loads(line)["instruction"] for line in (out / "x.jsonl").open()] == [CLEAN, REPHRASED]
    notes = [json.loads(line) for line in (out / "x.provenance.jsonl").open()]
    assert notes == [{"row": 1, "record_id": "r0"}, {"row": 2, "record_id": "r3"}]
    dropped = [json.loads(line) for line in (out / "x.dropped.jsonl").open()]
    assert [(d["row"], d["reason"]) for d in dropped] == [(2, "shared_ngram:bench"), (3, "shared_ngram:bench")]
    assert data.read_bytes() == before


def test_contamination_only_looks_and_names_the_nearest_pairs(files, tmp_path: Path) -> None:
    data, bench = files
    out = tmp_path / "look"
    result = CliRunner().invoke(main, ["contamination", str(data), "--against", str(bench), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert not (out / "x.jsonl").exists()
    pairs = [json.loads(line) for line in (out / "nearest.jsonl").open()]
    assert [p["row"] for p in pairs] == [2, 3, 4, 1]


async def test_a_judge_at_an_endpoint_makes_decontaminate_drop_a_rephrased_prompt(files, tmp_path: Path) -> None:
    data, bench = files

    def answer(body: dict) -> str:
        return json.dumps({"reason": "", "same": "reasons for the revolution" in body["messages"][0]["content"]})

    server = FakeEndpoint(delay=0, script=answer)
    url = await server.start()
    try:
        result = await asyncio.to_thread(CliRunner().invoke, main, [
            "decontaminate", str(data), "--against", str(bench), "-o", str(tmp_path / "o"), "--judge", url])
    finally:
        await server.stop()
    assert result.exit_code == 0, result.output
    assert "rephrased:bench 1" in result.output


async def test_the_judge_may_be_a_model_that_this_process_serves(files, tmp_path: Path, monkeypatch) -> None:
    data, bench = files
    server = FakeEndpoint(delay=0, script=lambda body: json.dumps({"reason": "", "same": True}))
    url = await server.start()
    served = []

    @contextlib.asynccontextmanager
    async def embedded(gguf, parallel, **_):
        served.append((gguf, parallel))
        yield SimpleNamespace(base_url=url, revive=None)

    monkeypatch.setattr("if_factory.chat.embedded.EmbeddedServer", embedded)
    try:
        for n, judge in enumerate(("embedded", "embedded:/models/own.gguf")):
            out = tmp_path / str(n)
            result = await asyncio.to_thread(CliRunner().invoke, main, [
                "decontaminate", str(data), "--against", str(bench), "-o", str(out), "--judge", judge])
            assert result.exit_code == 0, result.output
            assert "rephrased:bench" in result.output
            assert (out / "asked.jsonl").stat().st_size > 0
    finally:
        await server.stop()
    assert served == [(None, 16), (Path("/models/own.gguf"), 16)]


def test_a_row_without_a_prompt_is_named(files, tmp_path: Path) -> None:
    data, bench = files
    write(bench, [{"prompt": "x"}, {"text": "y"}])
    result = CliRunner().invoke(main, ["contamination", str(data), "--against", str(bench), "-o", str(tmp_path)])
    assert result.exit_code != 0
    assert "bench.jsonl:2" in str(result.output) + str(result.exception)


def run_cli(command: str, data: Path, *against: Path, out: Path):
    return CliRunner().invoke(main, [command, str(data), "-o", str(out),
                                     *(a for path in against for a in ("--against", str(path)))])


def said(result) -> str:
    return f"{result.output} {result.exception}"


@pytest.mark.parametrize("row", [
    {"conversations": [{"from": "human", "value": COPY}, {"from": "gpt", "value": "a"},
                       {"from": "human", "value": CLEAN}, {"from": "gpt", "value": "b"}]},
    {"instruction": CLEAN, "input": "", "output": "b", "history": [[COPY, "a"]]},
    {"prompt": CLEAN, "history": [{"role": "user", "content": COPY}, {"role": "assistant", "content": "a"}]}])
def test_an_earlier_turn_of_a_conversation_counts_as_its_last_one_does(files, tmp_path: Path, row) -> None:
    _, bench = files
    data = write(tmp_path / "talk.jsonl", [row, {"prompt": CLEAN}])
    result = run_cli("decontaminate", data, bench, out=tmp_path / "o")
    assert "2 rows in, 1 kept, 1 dropped" in result.output, said(result)
    assert {json.loads(line)["row"] for line in (tmp_path / "o" / "nearest.jsonl").open()} == {1, 2}


def test_the_dataset_is_never_overwritten(files) -> None:
    data, bench = files
    before = data.read_bytes()
    result = run_cli("decontaminate", data, bench, out=data.parent)
    assert result.exit_code != 0
    assert "would be overwritten" in said(result)
    assert data.read_bytes() == before


def test_a_list_stays_a_list(files, tmp_path: Path) -> None:
    _, bench = files
    data = tmp_path / "list.json"
    data.write_text(json.dumps([{"prompt": t} for t in TRAIN]))
    run_cli("decontaminate", data, bench, out=tmp_path / "o")
    assert [r["prompt"] for r in json.loads((tmp_path / "o" / "list.json").read_text())] == [CLEAN, REPHRASED]


def test_two_benchmarks_of_one_name_are_an_error_and_not_one_benchmark(files, tmp_path: Path) -> None:
    data, bench = files
    (tmp_path / "other").mkdir()
    result = run_cli("contamination", data, bench, write(tmp_path / "other" / "bench.jsonl", [{"prompt": "x"}]),
                     out=tmp_path / "o")
    assert "two benchmarks are called 'bench'" in said(result)


def test_a_benchmark_without_rows_is_named(files, tmp_path: Path) -> None:
    data, _ = files
    result = run_cli("decontaminate", data, write(tmp_path / "empty.jsonl", []), out=tmp_path / "o")
    assert "empty.jsonl" in said(result)
    assert "no rows" in said(result)


def test_a_dataset_against_itself_loses_every_row(files, tmp_path: Path) -> None:
    data, _ = files
    result = run_cli("decontaminate", data, data, out=tmp_path / "o")
    assert "4 rows in, 0 kept, 4 dropped" in result.output, said(result)
    assert (tmp_path / "o" / "x.jsonl").read_text() == ""


def test_a_sidecar_out_of_step_is_an_error(files, tmp_path: Path) -> None:
    data, bench = files
    write(tmp_path / "x.provenance.jsonl", [{"row": 1}])
    result = run_cli("decontaminate", data, bench, out=tmp_path / "o")
    assert "1 rows, the dataset has 4" in said(result)
    assert not (tmp_path / "o").exists()


def test_a_shared_run_is_seen_in_a_script_without_spaces() -> None:
    test = "写一个关于灯塔看守人在暴风雨之夜发现漂流瓶的短篇故事"
    found = nearest(["请注意，" + test + "，并且不要使用逗号。", "怎样在朝北的阳台上种罗勒？"], {"b": [test]})
    assert [n.shared_ngram for n in found] == [True, False]


def test_a_pair_that_the_judge_cannot_take_does_not_end_the_look() -> None:
    def answer(request):
        if "lighthouse" in request.messages[0]["content"]:
            raise RequestFailed("too long")
        return '{"reason": "", "same": true}'

    found = asyncio.run(ask_rephrased(judge(answer), nearest(TRAIN, {"b": TESTS}), TRAIN, {"b": TESTS}))
    assert [n.rephrased for n in found] == [None, None, None, True]
