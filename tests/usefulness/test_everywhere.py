"""The gate where a user meets it: `audit --useful`, `calibrate`, a run's judge, its methods and its report."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from if_factory.api import data
from if_factory.chat.base import ChatRequest
from if_factory.chat.budget import Usage
from if_factory.cli import main
from if_factory.constraints.recheck import rechecked
from if_factory.methods.soft_steps import Options as StepOptions
from if_factory.methods.soft_steps.comparisons import _comparison
from if_factory.pipeline.runner import run
from if_factory.pipeline.stage import Stage
from if_factory.records import Candidate, Constraint, Outcome, Record, Turn, Usefulness, Verdict
from if_factory.reporting.html import write_report
from if_factory.usefulness.gate import Gate, decided_aside, decided_for
from if_factory.usefulness.settings import UsefulnessSpec
from if_factory.usefulness.stage import judge_stage
from tests.judge.judge_script import ScriptedJudge, part
from tests.judge.test_calibration import served
from tests.reporting.test_html import write_run
from tests.support.models import scripted_client

NO_COMMA = {"type": "punctuation:no_comma", "kwargs": {}, "text": "Use no commas."}
ANSWER = "Lightning heats the air until it bursts and that makes the sound."
REFUSAL = "I cannot help with that."
PASS, FAIL = Verdict(outcome=Outcome.PASS), Verdict(outcome=Outcome.FAIL, reason="has a comma")


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(*arguments: str | Path, status: int = 0) -> str:
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == status, done.output
    return done.output


# ---------------------------------------------------------------- commands


def test_audit_says_of_anyones_rows_which_do_not_answer(tmp_path: Path) -> None:
    prompt = f"What causes thunder? {NO_COMMA['text']}"
    rows = [{"prompt": prompt, "response": text, "constraints": [NO_COMMA]} for text in (ANSWER, REFUSAL, REFUSAL)]
    path = write(tmp_path / "rows.jsonl", *rows)
    found = json.loads(command("audit", path, "--useful", "--json"))
    assert (found["usefulness"]["attempting"], found["usefulness"]["answers"]) == (1, 3)
    assert found["usefulness"]["reasons"] == {"refusal": 2}
    assert [r["row"] for r in found["usefulness"]["useless"]] == [2, 3]
    assert "usefulness" not in json.loads(command("audit", path, "--json"))
    text = command("audit", path, "--useful")
    assert "refusal" in text
    assert REFUSAL in text


def test_calibrate_measures_the_gate_and_the_judge_after_it(tmp_path: Path) -> None:
    elsewhere = "Bake the bread for forty minutes and let it cool on a rack before cutting."
    rows = [{"prompt": "What causes thunder?", "response": text, "answers": text == ANSWER, "split": split}
            for split in ("calibration", "held_out") for text in (ANSWER, REFUSAL, elsewhere)]
    path = write(tmp_path / "labelled.jsonl", *rows)
    command("calibrate", path, "-o", tmp_path / "rules")
    found = json.loads((tmp_path / "rules" / "usefulness.json").read_text())
    assert found["deciders"] == ["rules"]
    assert found["figures"]["held_out"]["recall_of_refusals"]["k"] == 1
    assert found["figures"]["held_out"]["recall_of_refusals"]["n"] == 2

    def reply(question: str) -> str:
        return json.dumps({"1": {"reason": "read", "satisfied": "bread" not in part(question, "RESPONSE")}})

    with served(reply) as url:
        command("calibrate", path, "-o", tmp_path / "judged", "--judge", url)
    found = json.loads((tmp_path / "judged" / "usefulness.json").read_text())
    assert found["deciders"] == ["rules", "judge"]
    assert found["figures"]["held_out"]["recall_of_refusals"]["k"] == 2
    assert found["figures"]["held_out"]["answers_kept"]["k"] == 1


def test_a_wrong_label_is_named_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path / "labelled.jsonl", {"prompt": "p", "response": "r", "answers": "yes"})
    output = command("calibrate", path, "-o", tmp_path / "out", status=2)
    assert "labelled.jsonl:1: field 'answers'" in "".join(output.split("\n"))


# ---------------------------------------------------------------- a run


def test_emission_decides_again_only_what_the_stages_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, again = Gate(UsefulnessSpec(relevance="off")), []
    monkeypatch.setattr(data, "rechecked", lambda record: again.append(record) or rechecked(record))
    constraint = Constraint(**NO_COMMA)
    seed = Record.from_seed("What causes thunder?").child("What causes thunder?", (constraint,), difficulty=1)
    checked = seed.with_candidates(Candidate(text=ANSWER, source="vanilla", verdicts=(PASS,)))
    whole = checked.model_copy(update={"candidates": tuple(decided_for(gate, checked, checked.candidates))})
    talk = whole.model_copy(update={"history": (Turn(role="user", content="Hello."),)})
    unchecked = seed.with_candidates(Candidate(text=ANSWER, source="vanilla"))
    found = data._checked(gate, [whole, checked, talk, unchecked], again=False)
    assert again == [unchecked]
    assert all(c.usefulness and c.verdicts == (PASS,) for record in found for c in record.candidates)
    again.clear()
    assert [r.candidates for r in data._checked(gate, [whole], again=True)] == [whole.candidates]
    assert again == [whole]


def judged_run(reply: Any, *texts: str) -> list[Candidate]:
    """The candidates of one record after a run whose last stage is the judge's."""
    constraint = Constraint(**NO_COMMA)
    seed = Record.from_seed("What causes thunder?")
    record = seed.child(f"{seed.prompt} {constraint.text}", (constraint,), difficulty=1)

    async def answers(record: Record, ctx: Any) -> Record:
        verdicts = [FAIL if "," in text else PASS for text in texts]
        return record.model_copy(update={"candidates": tuple(
            Candidate(text=t, source="vanilla", verdicts=(v,)) for t, v in zip(texts, verdicts, strict=True))})

    gate = Gate(UsefulnessSpec(relevance="off"))
    models = {"judge": scripted_client("judge", lambda request: reply(request), usage=Usage())}
    result = asyncio.run(run([Stage("answers", answers), judge_stage(gate)], [record], models, seed=0,
                             useful=partial(decided_aside, gate)))
    return list(result.records[0].candidates)


def test_a_judge_is_asked_about_what_passed_and_was_let_through_and_about_nothing_else() -> None:
    asked: list[str] = []

    def reply(request: ChatRequest) -> str:
        asked.append(part(request.messages[-1]["content"], "RESPONSE"))
        return json.dumps({"1": {"reason": "read", "satisfied": "Lightning" in asked[-1]}})

    nonsense = "The thunder of the sea is a kind of bread that people wear in winter."
    found = judged_run(reply, ANSWER, nonsense, REFUSAL, "Lightning, heat and air, in this order.")
    assert sorted(asked) == sorted([ANSWER, nonsense]), "neither the refusal nor the answer with commas"
    assert [c.usefulness.answers for c in found] == [True, False, False, True]
    assert [c.usefulness.decided_by for c in found] == ["judge", "judge", "rules", "rules"]


def test_a_judge_that_cannot_be_read_lets_nothing_through() -> None:
    (found,) = judged_run(lambda request: "hm", ANSWER)
    assert found.usefulness.answers is None
    assert not found.useful


def test_a_refusal_never_beats_an_answer_in_step_by_step() -> None:
    """It has no comma and the answer has one: by code the refusal would win, without the judge being asked."""
    step = Record.from_seed("What causes thunder?").model_copy(update={"constraints": (Constraint(**NO_COMMA),)})
    answer = Candidate(text="Lightning heats the air, which bursts.", source="a", verdicts=(FAIL,),
                       usefulness=Usefulness(answers=True))
    refusal = Candidate(text=REFUSAL, source="b", verdicts=(PASS,),
                        usefulness=Usefulness(answers=False, reason="refusal"))
    judge = ScriptedJudge(lambda question: pytest.fail("the judge need not be asked"))
    for held, new in ((answer, refusal), (refusal, answer)):
        found = asyncio.run(_comparison(step, held, new, judge, StepOptions()))
        assert found["winner"] is None
        assert found["reason"] == "one_does_not_attempt"
        assert (held, new)[found["carried"]] is answer


def test_the_report_shows_what_was_refused_and_who_decided(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    ledger = json.loads((folder / "ledger.json").read_text())
    ledger["usefulness"] = {"decided_by": ["rules"], "refused": {"refusal": [
        {"prompt": "What causes thunder?", "response": REFUSAL}]}}
    (folder / "ledger.json").write_text(json.dumps(ledger))
    page = write_report(folder).read_text()
    assert "Usefulness was decided by rules only" in page
    assert REFUSAL in page
