"""Quality against quantity, with a scripted trainer and scripted models in place of transformers'."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from if_factory.chat.base import ChatRequest
from if_factory.chat.client import ChatClient
from if_factory.chat.log import ResponseLog
from if_factory.chat.scripted import ScriptedBackend
from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.evaluation.passrate import Item
from if_factory.evaluation.scaling import Point
from if_factory.files import read_rows, write_jsonl
from if_factory.loops.rounds import Trainer
from if_factory.loops.sizes import DEFAULT_ARMS, arm_rows, compare, named_arms, read_rated
from if_factory.methods.humpback.inputs import read_pairs
from if_factory.methods.humpback.options import Options
from if_factory.methods.humpback.steps import scored
from if_factory.methods.humpback.training import paper_steps
from if_factory.records import Candidate, Constraint, Record
from tests.support.models import scripted_client
from tests.training.test_training import TRAINER

LOWER = Constraint(type="change_case:english_lowercase", text="all in lowercase")
ITEMS = [Item(str(i), f"Question {i}?", (LOWER,)) for i in range(4)]
OPTIONS = Options()


def rated(good: int, bad: int) -> list[Record]:
    def pair(i: int, score: float) -> Record:
        record = Record.from_seed(f"Instruction {i}", method="humpback", extra={"form": "text"})
        return scored(record.with_candidates(Candidate(text=f"Text {i}.", source="human")), [score], 0, 4.5)

    return [pair(i, 5 if i < good else 2) for i in range(good + bad)]


class Lab:
    """Models by what they were trained on: the more curated rows, the more questions are answered well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: list[str] = []
        self.systems: set[str] = set()

    def open(self, adapters: Sequence[Path]) -> ScriptedBackend:
        name = adapters[0].name if adapters else "base"
        self.opened.append(name)
        data = next((p for p in sorted((self.folder / "data").glob("*_*.jsonl"), reverse=True)
                     if p.stem in name and ".provenance" not in p.name), None)
        mined = [r["instruction"] for _, r in read_rows(data) if r["system"] == OPTIONS.system_web] if data else []
        good = sum(int(i.split()[1]) < 6 for i in mined) if "uncurated" not in name else 1

        def answer(request: ChatRequest) -> str:
            self.systems.add(request.messages[0]["content"])
            number = int(request.messages[-1]["content"].split()[1].rstrip("?"))
            return "a good answer that is all in small letters" if number < good else "POOR"

        return ScriptedBackend(name, answer)

    def compare(self, records: Sequence[Record], sizes: Sequence[int], judge: ChatClient | None = None,
                items: Sequence[Item] = ITEMS, arms: Sequence[str] = DEFAULT_ARMS) -> dict[str, list[Point]]:
        trainer = Trainer("m", self.folder, cli=TRAINER, say=lambda line: None)
        log, pairs = ResponseLog(self.folder / "responses.jsonl"), read_pairs(None)[:3]
        try:
            return asyncio.run(compare(trainer, pairs, records, OPTIONS, sizes, items, self.open, log, judge=judge,
                                       max_tokens=8, arms=arms))
        finally:
            log.close()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.chdir(tmp_path)  # the scripted trainer notes its calls in the current folder
    return Lab(tmp_path / "sizes")


def test_every_arm_and_size_is_trained_and_scored_on_the_same_prompts(lab: Lab, tmp_path: Path) -> None:
    points = lab.compare(rated(6, 6), [4, 2])
    assert points == {"curated": [(2, 50.0), (4, 100.0)], "uncurated": [(2, 25.0), (4, 25.0)]}
    assert len((tmp_path / "calls.txt").read_text().splitlines()) == 4
    for arm in ("curated", "uncurated"):
        for n in (2, 4):
            rows = [r for _, r in read_rows(lab.folder / "data" / f"{arm}_{n}.jsonl")]
            systems = [r["system"] for r in rows]
            assert systems.count(OPTIONS.system_seed) == 3
            assert systems.count(OPTIONS.system_web) == n


def test_the_models_answer_under_both_system_prompts_as_in_the_paper(lab: Lab) -> None:
    lab.compare(rated(4, 0), [1, 2])
    assert lab.systems == {f"{OPTIONS.system_seed} {OPTIONS.system_web}"}


def test_with_a_judge_the_score_is_the_win_rate_against_the_base_and_a_tie_is_half(lab: Lab) -> None:
    def verdict(request: ChatRequest) -> str:
        ask = request.messages[-1]["content"]
        first, second = (ask.find(word) for word in ("good", "POOR"))
        same = first < 0 or second < 0
        return json.dumps({"reason": "", "winner": "tie" if same else "A" if first < second else "B"})

    judge = scripted_client("judge", verdict)
    points = lab.compare(rated(6, 6), [2, 4], judge)
    # the base answers nothing well: each good answer wins, each poor one ties
    assert points == {"curated": [(2, 75.0), (4, 100.0)], "uncurated": [(2, 62.5), (4, 62.5)]}
    assert lab.opened[0] == "base"


def test_a_model_that_says_nothing_loses_without_anybody_being_asked(lab: Lab) -> None:
    def nobody(request: ChatRequest) -> str:
        raise AssertionError("asked")

    judge = scripted_client("judge", nobody)
    lab.open = lambda adapters: ScriptedBackend(  # type: ignore[method-assign]
        adapters[0].name if adapters else "base", lambda request: "" if adapters else "something")
    assert lab.compare(rated(2, 0), [1, 2], judge)["curated"] == [(1, 0.0), (2, 0.0)]


@pytest.mark.parametrize(("sizes", "items", "message"), [
    ([2, 7], ITEMS, "6 curated rows, 7 asked for"), ([2, 2], ITEMS, "two different sizes"),
    ([0, 2], ITEMS, "two different sizes"), ([1, 2], [], "no prompts")])
def test_what_cannot_be_compared_is_said_before_anything_is_trained(lab: Lab, tmp_path: Path, sizes: list[int],
                                                                    items: list[Item], message: str) -> None:
    with pytest.raises(UserError, match=message):
        lab.compare(rated(6, 6), sizes, items=items)
    assert not (tmp_path / "calls.txt").exists()


def test_a_smaller_draw_is_part_of_a_larger_one_and_only_the_uncurated_arm_holds_what_was_rated_low() -> None:
    records = rated(6, 6)
    low = {r.prompt for r in records if not r.candidates[0].verified}
    for arm in ("curated", "uncurated"):
        small, large = ([e.prompt for e in arm_rows(arm, n, [], records, OPTIONS, 0)] for n in (3, 6))
        assert large[:3] == small
        assert bool(low & set(large)) is (arm == "uncurated")


def graded(*scores: float) -> list[Record]:
    """Pairs rated as given, their instructions called by their rating."""
    made = (Record.from_seed(f"Instruction {i} rated {score}", method="humpback", extra={"form": "text"})
            for i, score in enumerate(scores))
    return [scored(r.with_candidates(Candidate(text=f"Text {r.prompt}.", source="human")),
                   [float(r.prompt.split()[-1])], 0, OPTIONS.threshold) for r in made]


def test_a4_holds_what_was_rated_four_or_better_and_a5_what_was_rated_four_and_a_half() -> None:
    records = graded(5, 4.5, 4, 4, 3, 1)
    for arm, n, least in (("a5", 2, 4.5), ("a4", 4, 4.0), ("curated", 2, 4.5)):
        prompts = [e.prompt for e in arm_rows(arm, n, [], records, OPTIONS, 0)]
        assert len(prompts) == n
        assert min(float(p.split()[-1]) for p in prompts) == least
        with pytest.raises(UserError, match=f"{n} {arm} rows"):
            arm_rows(arm, n + 1, [], records, OPTIONS, 0)


def test_the_complementary_arms_train_on_mined_rows_alone_and_on_seed_pairs_alone() -> None:
    pairs, records = read_pairs(None)[:4], rated(6, 0)
    systems = {arm: [e.system for e in arm_rows(arm, 3, pairs, records, OPTIONS, 0)]
               for arm in named_arms(["complementary"])}
    assert systems == {"curated": [OPTIONS.system_seed] * 4 + [OPTIONS.system_web] * 3,
                       "augmented_only": [OPTIONS.system_web] * 3, "seed_only": [OPTIONS.system_seed] * 3}
    with pytest.raises(UserError, match="4 seed_only rows, 5 asked for"):
        arm_rows("seed_only", 5, pairs, records, OPTIONS, 0)


def test_the_four_settings_of_system_prompts_ask_the_same_models_and_train_one_arm_without(lab: Lab,
                                                                                       tmp_path: Path) -> None:
    asked: dict[str, set[str]] = {}

    def opened(adapters: Sequence[Path]) -> ScriptedBackend:
        def answer(request: ChatRequest) -> str:
            first = request.messages[0]
            system = first["content"] if first["role"] == "system" else ""
            asked.setdefault(adapters[0].name.removesuffix("_1_sft_all"), set()).add(system)
            return "all in small letters"

        return ScriptedBackend(adapters[0].name, answer)

    lab.open = opened  # type: ignore[method-assign]
    points = lab.compare(rated(4, 0), [1, 2], arms=["system_prompts"])
    assert list(points) == ["curated", "asked_as_seed", "asked_without", "no_system_prompt"]
    both = f"{OPTIONS.system_seed} {OPTIONS.system_web}"
    for n in (1, 2):
        assert asked[f"curated_{n}"] == {both, OPTIONS.system_seed, ""}
        assert asked[f"no_system_prompt_{n}"] == {""}
        rows = [r for _, r in read_rows(lab.folder / "data" / f"no_system_prompt_{n}.jsonl")]
        assert {r.get("system", "") for r in rows} == {""}
    trained = (tmp_path / "calls.txt").read_text().splitlines()
    assert len(trained) == 4, "a model that is only asked differently is not trained again"


def test_arms_are_named_one_by_one_or_by_the_table_they_are_in() -> None:
    assert named_arms(["a4", "quality"]) == ("a4", "a5", "uncurated")
    with pytest.raises(UserError, match="there is no arm 'a6'"):
        named_arms(["a6"])


# ---------------------------------------------------------------- from the command line


@pytest.fixture
def finished(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_jsonl(tmp_path / "rated_1.jsonl", (r.model_dump(mode="json") for r in rated(6, 6)))
    (tmp_path / "recipe.yaml").write_text("method: humpback\nlimit: 1\n")
    monkeypatch.setattr("if_factory.chat.transformers_local.TransformersBackend",
                        lambda model, adapters, batch_size: lab.open(adapters))
    script = tmp_path / "llamafactory-cli"
    script.write_text(f'#!/bin/sh\nexec {TRAINER[0]} {TRAINER[1]} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr("if_factory.training.run._find_cli", lambda: str(script))
    (tmp_path / "suite.jsonl").write_text("".join(
        json.dumps({"prompt": f"Question {i}?", "constraints": [LOWER.model_dump()]}) + "\n" for i in range(4)))
    return tmp_path


def invoke(folder: Path, sizes: str, *more: str):
    return CliRunner().invoke(main, [
        "humpback-sizes", str(folder / "recipe.yaml"), "--model", "m", "-o", str(folder),
        "--suite", str(folder / "suite.jsonl"), "--sizes", sizes, *more])


def test_the_command_writes_points_and_both_fits(finished: Path) -> None:
    result = invoke(finished, "2,4")
    assert result.exit_code == 0, (result.output, result.exception)
    points = [row for _, row in read_rows(finished / "sizes" / "points.jsonl")]
    assert [(p["series"], p["n"], p["score"]) for p in points] == [
        ("curated", 2, 50.0), ("curated", 4, 100.0), ("uncurated", 2, 25.0), ("uncurated", 4, 25.0)]
    fits = json.loads((finished / "sizes" / "scaling.json").read_text())
    assert fits["curated"]["alpha"] == pytest.approx(50 / 0.693147, rel=1e-4)
    assert fits["uncurated"]["alpha"] == pytest.approx(0)


def test_the_command_takes_arms_and_the_steps_of_the_paper(finished: Path) -> None:
    result = invoke(finished, "2,4", "--arms", "a5", "--paper-steps")
    assert result.exit_code == 0, (result.output, result.exception)
    config = yaml.safe_load(next((finished / "sizes" / "yaml" / "a5_4").glob("*sft*.yaml")).read_text())
    rows = 32 + 4  # seed pairs and mined ones
    assert (config["max_steps"], config["gradient_accumulation_steps"]) == paper_steps(rows) == (11, 8)
    assert config["warmup_ratio"] == 0.1
    result = invoke(finished, "2,4", "--arms", "a5", "--paper-steps", "--set", "max_steps=3")
    config = yaml.safe_load(next((finished / "sizes" / "yaml" / "a5_4").glob("*sft*.yaml")).read_text())
    assert (config["max_steps"], config["gradient_accumulation_steps"]) == (3, 8), "what the user sets wins"
    assert config["warmup_ratio"] == 0.0, "fewer than ten steps have no warm-up"


@pytest.mark.parametrize(("sizes", "message"), [("2", "two different sizes"), ("2,x", "numbers with commas"),
                                                ("2,²", "numbers with commas"), ("2,70", "70 asked for")])
def test_sizes_that_make_no_sense_are_explained(finished: Path, sizes: str, message: str) -> None:
    result = invoke(finished, sizes)
    assert result.exit_code != 0
    assert message in f"{result.output} {result.exception}"


def test_a_folder_without_that_round_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rated_2\.jsonl"):
        read_rated(tmp_path, 2)
