"""Measured difficulty with a scripted student whose pass rates are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from if_factory.api import curriculum, difficulty, emit, export, export_rl
from if_factory.api.common import recipe_of_run
from if_factory.chat.base import ChatRequest
from if_factory.chat.scripted import ScriptedBackend
from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.exporting.manifest import read_manifest
from if_factory.pipeline.rundir import RunDir
from if_factory.rewards.difficulty import measure, read_rates
from if_factory.rewards.solved import solved_by_judge
from if_factory.training.measured import By, measured_places
from if_factory.usefulness.gate import Gate
from tests.rewards.runs import JUDGED, LOWER, NO_COMMA, record, write_run
from tests.support.models import scripted_client

# Subject -> of eight answers, how many solve the prompt. What fails has a comma; one that refuses is useless.
SOLVED = {"sea": 8, "moon": 6, "ship": 4, "tide": 2, "shore": 1, "harbour": 0}


def answer(request: ChatRequest) -> str:
    subject = next(s for s in SOLVED if s in request.messages[-1]["content"])
    if request.sample < SOLVED[subject]:
        return f"the {subject} is wide and full of life."
    return f"the {subject}, in short, is wide." if request.sample % 2 else "i am sorry but i cannot help with that."


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The number of constraints says the opposite of what the model can do."""
    sets = {"sea": (NO_COMMA, LOWER), "moon": (NO_COMMA, LOWER), "ship": (NO_COMMA, LOWER), "tide": (NO_COMMA,),
            "shore": (NO_COMMA,), "harbour": (NO_COMMA,)}
    return write_run(tmp_path / "run", [
        record(f"Describe the {s}.", *c, answers=[f"the {s} is wide and full of life."]) for s, c in sets.items()])


def measured(run: Path) -> ScriptedBackend:
    backend = ScriptedBackend("student", answer)
    difficulty(run, backend=backend)
    return backend


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def subjects(path: Path) -> list[str]:
    return [r["instruction"].split(".")[0].removeprefix("Describe the ") for r in rows(path)]


def test_rates_are_those_of_the_scripted_student_and_nothing_is_asked_twice(run: Path) -> None:
    asked: list[ChatRequest] = []

    def counted(request: ChatRequest) -> str:
        asked.append(request)
        return answer(request)

    report = difficulty(run, backend=ScriptedBackend("student", counted))
    assert [r.pass_rate for r in report.rates] == [n / 8 for n in SOLVED.values()]
    assert report.counts() == {"always_solved": 1, "between": 4, "never_solved": 1, "unmeasured": 0}
    assert len(asked) == 48
    before = report.path.read_bytes()
    difficulty(run, backend=ScriptedBackend("student", counted))
    assert (len(asked), report.path.read_bytes()) == (48, before)


def test_it_says_how_far_it_is(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured(run)
    assert "difficulty: 48 of 48 answers" in capsys.readouterr().err
    assert "difficulty: 48 of 48 answers" in (run / "difficulty" / "difficulty.log").read_text()


def test_a_killed_measurement_goes_on(run: Path) -> None:
    asked: list[ChatRequest] = []

    def dies(request: ChatRequest) -> str | Exception:
        asked.append(request)
        return KeyboardInterrupt() if len(asked) > 20 else answer(request)  # type: ignore[return-value]

    with pytest.raises(BaseException):  # noqa: B017, PT011 - what a kill looks like from here
        difficulty(run, backend=ScriptedBackend("student", dies))
    assert not read_rates(run)
    again: list[ChatRequest] = []
    difficulty(run, backend=ScriptedBackend("student", lambda r: (again.append(r), answer(r))[1]))
    assert 0 < len(again) <= 28
    assert [r.passed for r in read_rates(run).values()] == list(SOLVED.values())


def test_export_bins_by_what_was_measured_and_sets_the_extremes_apart(run: Path, tmp_path: Path) -> None:
    measured(run)
    export(run, tmp_path / "data")
    assert subjects(tmp_path / "data" / "demo_sft_easy.jsonl") == ["moon", "ship"]
    assert subjects(tmp_path / "data" / "demo_sft_hard.jsonl") == ["tide", "shore"]
    assert subjects(tmp_path / "data" / "demo_sft_always_solved.jsonl") == ["sea"]
    assert subjects(tmp_path / "data" / "demo_sft_never_solved.jsonl") == ["harbour"]
    assert len(rows(tmp_path / "data" / "demo_sft.jsonl")) == 6
    said = {r["seed_prompt"]: (r["pass_rate"], r["pass_rate_of"])
            for r in rows(tmp_path / "data" / "demo_sft.provenance.jsonl")}
    assert said["Describe the ship."] == (0.5, 8)


def test_without_rates_bins_go_by_count_as_before(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "data")
    assert subjects(tmp_path / "data" / "demo_sft_easy.jsonl") == ["tide", "shore", "harbour"]
    with pytest.raises(UserError, match="no pass rate was measured"):
        export(run, tmp_path / "data", difficulty="pass_rate")


def test_curriculum_cuts_anew_by_pass_rate_and_keeps_what_is_asked(run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    export(run, data)
    measured(run)
    kept = curriculum(run, model="none", dataset_dir=data, out=tmp_path / "yaml", stages=["sft"], template="default",
                      difficulty="pass_rate", keep=["never_solved", "always_solved"])
    assert [p.name for p in kept.stages] == ["demo_1_sft_easy.yaml", "demo_2_sft_hard.yaml"]
    assert subjects(data / "demo_sft_easy.jsonl") == ["sea", "moon", "ship"]
    assert subjects(data / "demo_sft_hard.jsonl") == ["tide", "shore", "harbour"]
    manifest = read_manifest(data, "demo")
    assert manifest is not None
    assert (manifest.difficulty, manifest.keep) == ("pass_rate", ("always_solved", "never_solved"))
    curriculum(run, model="none", dataset_dir=data, out=tmp_path / "yaml", stages=["sft"], template="default",
               difficulty="count")
    assert subjects(data / "demo_sft_easy.jsonl") == ["tide", "shore", "harbour"]


def test_both_orders_by_the_mean_of_the_two_ranks(run: Path, tmp_path: Path) -> None:
    examples = emit(recipe_of_run(run), RunDir(run).records())["sft"]
    rate = dict(zip((e.record_id for e in examples), (1.0, 0.6, 0.2, 0.8, 0.5, 0.0), strict=True))

    def cut(by: By, number: int) -> list[list[str]]:
        bins, _ = measured_places([rate[e.record_id] for e in examples], [e.difficulty for e in examples], number, by)
        return [[examples[i].prompt.split(".")[0].removeprefix("Describe the ") for i in b] for b in bins]

    assert cut("pass_rate", 2) == [["moon", "tide"], ["ship", "shore"]]
    assert cut("both", 2) == [["tide", "shore"], ["moon", "ship"]]
    assert cut("both", 4) == [["tide"], ["shore"], ["moon"], ["ship"]]


def test_a_stage_of_extremes_only_says_how_to_keep_them(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [record("Describe the sea.", NO_COMMA, answers=["the sea is wide and blue."])])
    measured(run)
    export(run, tmp_path / "data")
    with pytest.raises(UserError, match=r"always_solved.*no bin is left"):
        curriculum(run, model="none", dataset_dir=tmp_path / "data", out=tmp_path / "y", stages=["sft"])


def test_verified_rewards_take_the_measured_rate(run: Path, tmp_path: Path) -> None:
    measured(run)
    report = export_rl(run, tmp_path / "data", pass_rate=(0, 1))
    assert (report.rows, report.measured, report.refused["pass_rate"]) == (4, 4, 2)
    assert {r["extra_info"]["measured"] for r in rows(report.data)} == {8}


async def test_what_only_a_judge_decides_is_unmeasured_without_one() -> None:
    prompts = [record("Describe the sea.", JUDGED), record("Describe the sea.", NO_COMMA, JUDGED)]
    client = scripted_client("student", answer)
    alone, half = await measure(prompts, client, Gate(), k=8)
    assert (alone.pass_rate, alone.answers, alone.not_decided) == (None, 0, 1)
    assert (half.pass_rate, half.not_decided) == (1.0, 1)

    def says(request: ChatRequest) -> str:
        warm = "Be warm" in request.messages[-1]["content"]
        return json.dumps({"1": {"reason": "", "satisfied": not warm}})

    judge = scripted_client("judge", says)

    async def ask(messages: Any, **options: Any) -> Any:
        return await judge.chat(messages, stage="difficulty", **options)

    alone, half = await measure(prompts, client, Gate(), k=8, ask=ask)
    assert (alone.pass_rate, half.pass_rate, half.by_code) == (0.0, 0.0, 1.0)
    bad = record("Describe the sea.", NO_COMMA, answers=["a, b"])
    assert await solved_by_judge(Gate(), bad, [False], ask) == [False]


def test_the_command_needs_a_model_that_it_is_told(run: Path) -> None:
    said = CliRunner().invoke(main, ["difficulty", str(run), "--student", "http://x/v1", "--model", "m"])
    assert said.exit_code == 2
    assert "not both" in said.output
