"""Humpback's rounds with scripted models at an endpoint and a scripted trainer (both named as such)."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.loops.humpback import Rounds, precision_recall, run
from if_factory.loops.rounds import Trainer
from if_factory.recipe import parse
from tests.support.fake_endpoint import FakeEndpoint
from tests.training.test_training import TRAINER

OPTIONS = {"min_chars": 200, "max_chars": 900, "judgements": 2}


def script(body: dict) -> str:
    """A scripted backward model and a scripted judge in one: the score depends on the text alone."""
    ask = body["messages"][-1]["content"]
    if "You rate one response" not in ask:
        first = re.search(r"TEXT\n(.*?)[.\n]", ask)
        return f"Write about: {' '.join((first[1] if first else ask).split()[:9])}?"
    response = re.search(r"(?s) RESPONSE\n(.*?)\n\S+ END", ask)[1]
    return json.dumps({"reason": "", "score": 5 if len(response) % 2 else 2})


async def _at_servers(folder: Path, names: tuple[str, ...], said: list[str]) -> tuple[Rounds, dict[str, int]]:
    """The loop without a model in its recipe, with a server for each of these models: one script, one model name."""
    servers = {name: FakeEndpoint(delay=0, script=script) for name in names}
    urls = {name: await server.start() for name, server in servers.items()}
    try:
        recipe = parse({"method": "humpback", "limit": 12, "models": {}, "options": OPTIONS})
        trainer = Trainer("m", folder, cli=TRAINER, say=said.append)
        done = await run(recipe, trainer, endpoints=urls)
        return done, {name: server.requests for name, server in servers.items()}
    finally:
        for server in servers.values():
            await server.stop()


def test_trained_models_behind_endpoints_are_asked_in_turn_and_the_loop_stops_before_one_that_nobody_serves(
        tmp_path: Path) -> None:
    said: list[str] = []
    for names, waiting, trained_so_far in ((("m0",), "backward", ["backward"]),
                                           (("backward",), "m0", ["backward", "m0"]),
                                           (("backward", "m0"), "m1", ["backward", "m0", "m1"])):
        done, _ = asyncio.run(_at_servers(tmp_path / "h", names, said))
        assert (done.waiting, list(done.adapters)) == (waiting, trained_so_far)
        assert (tmp_path / "h" / "yaml" / waiting / f"{waiting}_export.yaml").is_file()
    done, asked = asyncio.run(_at_servers(tmp_path / "h", ("backward", "m0", "m1"), said))
    assert (done.waiting, list(done.adapters)) == ("", ["backward", "m0", "m1", "m2"])
    assert [c.iteration for c in done.curations] == [1, 2]
    assert (asked["backward"], asked["m0"]) == (0, 0), "their answers are in their logs"
    assert asked["m1"] == 2 * len(done.records), "and what m0 said under the same name is not taken for m1's"


def test_an_endpoint_for_a_model_that_is_never_asked_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="asks no model 'm2'"):
        asyncio.run(_at_servers(tmp_path / "h", ("m2",), []))


def test_the_command_says_what_to_serve_and_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}

    async def stopped(recipe, trainer, **how) -> Rounds:
        given.update(how["endpoints"])
        return Rounds({"backward": Path("saves/backward")}, [], [], waiting="backward")

    monkeypatch.setattr("if_factory.loops.humpback.run", stopped)
    (tmp_path / "r.yaml").write_text("method: humpback\n")
    result = CliRunner().invoke(main, ["humpback", "r.yaml", "--model", "m", "-o", "h", "--endpoint", "m1=http://b/v1",
                                       "--endpoint", "1=http://a/v1"])
    assert result.exit_code == 0, result.output
    assert given == {"m1": "http://b/v1", "m0": "http://a/v1"}
    assert "llamafactory-cli export h/yaml/backward/backward_export.yaml" in result.output
    assert "--endpoint backward=URL" in result.output
    assert "next:" not in result.output


def play(folder: Path, *, iterations: int = 2, labelled: Path | None = None, **options) -> tuple[Rounds, int]:
    async def go() -> tuple[Rounds, int]:
        server = FakeEndpoint(delay=0, script=script)
        url = await server.start()
        try:
            recipe = parse({"method": "humpback", "limit": 12, "models": {"backward": url, "judge": url},
                            "options": {**OPTIONS, **options}})
            trainer = Trainer("m", folder, cli=TRAINER, say=lambda line: None)
            return await run(recipe, trainer, iterations=iterations, labelled=labelled), server.requests
        finally:
            await server.stop()

    return asyncio.run(go())


def trained(folder: Path, name: str) -> list[dict]:
    return [row for _, row in read_rows(folder / "data" / f"{name}.jsonl")]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the scripted trainer notes its calls in the current folder


def test_every_round_trains_seeds_and_what_was_kept_from_the_base(tmp_path: Path) -> None:
    done, _ = play(tmp_path / "h")
    assert list(done.adapters) == ["m1", "m2"]
    kept = [r for r in done.records if r.candidates[0].verified]
    assert 0 < len(kept) < len(done.records)
    rows = trained(tmp_path / "h", "m2")
    systems = [r["system"] for r in rows]
    assert systems.count("Answer with what is known from the web.") == len(kept)
    assert systems.count("Answer the way a helpful assistant does.") == 32
    yaml = next((tmp_path / "h" / "yaml" / "m2").glob("*sft*.yaml")).read_text()
    assert "adapter_name_or_path" not in yaml.split("\n\n", 1)[1]  # from the base again


def test_the_report_counts_what_was_rated_kept_and_unread(tmp_path: Path) -> None:
    done, _ = play(tmp_path / "h")
    first, second = done.curations
    assert first.candidates == first.rated == sum(first.histogram.values())
    assert set(first.histogram) == {"2", "5"}
    assert first.kept == first.histogram["5"]
    assert (first.agreement, second.agreement) == (None, 1.0)
    assert first.unread_share == 0
    assert "| 1 | fake |" in (tmp_path / "h" / "curation.md").read_text()


def test_the_judge_is_measured_on_labelled_rows(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps({"prompt": "p", "response": "x" * n, "label": label}) + "\n"
                            for n, label in ((3, True), (4, True), (5, False), (7, True))))
    first = play(tmp_path / "h", iterations=1, labelled=path)[0].curations[0]
    assert first.precision == pytest.approx(2 / 3)  # kept: 3, 5 and 7 characters
    assert first.recall == pytest.approx(2 / 3)


def test_a_finished_loop_asks_and_trains_nothing_again(tmp_path: Path) -> None:
    play(tmp_path / "h")
    calls = (tmp_path / "calls.txt").read_text()
    before = (tmp_path / "h" / "curation.json").read_bytes()
    _, requests = play(tmp_path / "h")
    assert requests == 0
    assert (tmp_path / "calls.txt").read_text() == calls
    assert (tmp_path / "h" / "curation.json").read_bytes() == before


def test_texts_that_all_fail_stop_the_loop_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no text got an instruction: too_short \d+"):
        play(tmp_path / "h", min_chars=100_000, max_chars=100_001)


@pytest.mark.parametrize("row", ['{"prompt": "p", "response": "r"}',
                                 '{"prompt": "p", "response": "r", "label": 1}'])
def test_a_labelled_row_without_a_label_is_named(tmp_path: Path, row: str) -> None:
    (tmp_path / "l.jsonl").write_text(row + "\n")
    with pytest.raises(UserError, match=r"l\.jsonl:1: field 'label'"):
        play(tmp_path / "h", labelled=tmp_path / "l.jsonl")


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([True, False, None])), min_size=1))
def test_precision_and_recall_are_the_textbooks(rows: list[tuple[bool, bool | None]]) -> None:
    labels, said = [label for label, _ in rows], [s for _, s in rows]
    precision, recall = precision_recall(labels, said)
    hits = [(label, s) for label, s in rows if label and s is True]
    chosen, wanted = [s for s in said if s is True], [label for label in labels if label]
    assert precision == (len(hits) / len(chosen) if chosen else None)
    assert recall == (len(hits) / len(wanted) if wanted else None)


def test_the_ledger_of_the_loop_counts_every_text_to_the_last_round(tmp_path: Path) -> None:
    done, _ = play(tmp_path / "h")
    stages = json.loads((tmp_path / "h" / "ledger.json").read_text())["stages"]
    assert [s["stage"] for s in stages] == ["seeds", "filter", "augment", "distinct", "curate_1", "curate_2"]
    for stage in stages:
        assert stage["taken"] == stage["advanced"] + sum(stage["dropped"].values())
    assert stages[-1]["taken"] == stages[-2]["taken"] == stages[3]["produced"] - 32  # pairs are not rated
    dropped = [row for _, row in read_rows(tmp_path / "h" / "dropped.jsonl")]
    assert len(dropped) == sum(sum(s["dropped"].values()) for s in stages)
    assert len(done.records) + stages[-1]["dropped"].get("score_unread", 0) == stages[-1]["taken"]


def test_pairs_given_twice_are_trained_once(tmp_path: Path) -> None:
    pair = json.dumps({"prompt": "Why?", "response": "Because of the tides."}) + "\n"
    (tmp_path / "pairs.jsonl").write_text(2 * pair)
    play(tmp_path / "h", iterations=1, pairs=str(tmp_path / "pairs.jsonl"))
    assert [r["instruction"] for r in trained(tmp_path / "h", "m1")].count("Why?") == 1


def test_an_empty_labelled_file_is_an_error_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "l.jsonl").write_text("")
    with pytest.raises(UserError, match="no labelled rows"):
        play(tmp_path / "h", labelled=tmp_path / "l.jsonl")
    assert not (tmp_path / "h").exists()


def test_a_loop_stopped_half_way_trains_nothing_on_the_half(tmp_path: Path) -> None:
    async def go() -> None:
        server = FakeEndpoint(delay=0, script=script)
        url = await server.start()
        try:
            recipe = parse({"method": "humpback", "limit": 12, "models": {"backward": url, "judge": url},
                            "options": OPTIONS, "budget": {"max_requests": 16}})
            await run(recipe, Trainer("m", tmp_path / "h", cli=TRAINER, say=lambda line: None))
        finally:
            await server.stop()

    with pytest.raises(UserError, match="stopped by budget"):
        asyncio.run(go())
    assert not (tmp_path / "calls.txt").exists()


def test_a_labelled_row_too_long_for_the_judge_counts_as_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps({"prompt": "p", "response": r, "label": True}) + "\n"
                            for r in ("xxx", "too long for it")))

    async def go() -> Rounds:
        server = Refusing(delay=0, script=script)
        url = await server.start()
        try:
            recipe = parse({"method": "humpback", "limit": 12, "models": {"backward": url, "judge": url},
                            "options": OPTIONS})
            trainer = Trainer("m", tmp_path / "h", cli=TRAINER, say=lambda line: None)
            return await run(recipe, trainer, iterations=1, labelled=path)
        finally:
            await server.stop()

    first = asyncio.run(go()).curations[0]
    assert (first.precision, first.recall) == (1.0, 0.5)


class Refusing(FakeEndpoint):
    """Answers 400, as a server does to what does not fit its context, where a text says so."""

    def complete(self, body: bytes) -> tuple[float, int, bytes, str]:
        if b"too long for it" in body:
            return 0, 400, b'{"error":{"message":"context length exceeded"}}', ""
        return super().complete(body)


def test_the_command_ends_with_the_evaluation_under_both_system_prompts(tmp_path: Path,
                                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    async def finished(recipe, trainer, **how) -> Rounds:
        return Rounds({"m2": Path("my saves/m2")}, [], [])

    monkeypatch.setattr("if_factory.loops.humpback.run", finished)
    (tmp_path / "r.yaml").write_text('method: humpback\noptions: {system_seed: "It\'s S_a.", system_web: S_w.}\n')
    result = CliRunner().invoke(main, ["humpback", "r.yaml", "--model", "m", "-o", "h"])
    assert result.exit_code == 0, result.output
    assert shlex.split(result.output.splitlines()[-1].removeprefix("next: ")) == [
        "if-factory", "evaluate", "--model", "m", "--adapter", "my saves/m2", "--system", "It's S_a. S_w.",
        "-o", "h/evaluation"]
