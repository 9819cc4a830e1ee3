"""Suri's long answers, by scripted models: what is asked, counted, judged one constraint at a time, and written."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from if_factory.chat.parse import Failure
from if_factory.chat.scripted import ScriptedBackend
from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.evaluation.long_form import instruction_of, measure
from if_factory.evaluation.ranking import Triple
from if_factory.evaluation.repetition import tokens
from if_factory.judge.grade import judge_grade
from if_factory.records import Constraint
from tests.support.models import scripted_client

RULES = ("Tell it in the past tense.", "Name a harbour.", "Use short sentences.")
TRIPLES = [Triple(f"t{i}", "A gold text.", main=f"Write a story about boat {i}.",
                  constraints=tuple(Constraint(type="judge", kind="judge", text=r) for r in RULES))
           for i in range(3)]


def judge(answers):
    """A scripted judge: ``answers[constraint]`` is its reply about that constraint."""
    def reply(request):
        ask = request.messages[-1]["content"]
        found = [r for r in RULES if f"The constraint: {r}" in ask]
        return answers[found[0]] if found else "I cannot say."
    return partial(scripted_client("judge", reply).chat, stage="evaluate")


async def test_one_call_gives_length_repetition_and_verdicts_for_every_model(tmp_path: Path) -> None:
    asked = []

    def plain(request):
        asked.append(request.messages[-1]["content"])
        return "The boat left the old harbour in rain. " * 4

    models = {"before": ScriptedBackend("b", plain), "after": ScriptedBackend("a", lambda r: "Waves rose and fell.")}
    told: list[tuple[str, ...]] = []
    found = await measure(TRIPLES, models, tmp_path, max_tokens=100, counted_in=tokens("words"), judge=judge({
        RULES[0]: '{"quote": "left", "reason": "past", "satisfied": "yes"}',
        RULES[1]: '{"reason": "x", "satisfied": "Partially"}', RULES[2]: "nonsense"}),
        on_model=lambda *model: told.append(model), on_answer=lambda label, _: told.append((label,)))
    assert [label for label, *_ in told] == ["before"] * 4 + ["after"] * 4 + ["deciding"], "progress sees every answer"
    assert asked == [instruction_of(t) for t in TRIPLES]
    assert all(rule.rstrip(".") in ask for ask in asked for rule in RULES)
    assert (found.repetition["before"].length.value, found.repetition["after"].length.value) == (32, 4)
    assert [found.repetition[m].repeating[5].passed for m in ("before", "after")] == [3, 0]
    for model in ("before", "after"):
        assert {g: (r.passed, r.n) for g, r in found.grades[model].items()} == {
            "yes": (3, 6), "partly": (3, 6), "no": (0, 6)}
        assert found.undecided[model] == 3, "what cannot be read is in no share"
    rows = [json.loads(line) for line in (tmp_path / "responses.jsonl").read_text().splitlines()]
    assert [v.get("satisfied") for v in rows[0]["judge"]["after"]] == ["yes", "partly", None]
    assert "constraints kept to: partly" in (tmp_path / "long_form.md").read_text()
    assert json.loads((tmp_path / "long_form.json").read_text())["constraints"]["after"]["undecided"] == 3


async def test_without_a_judge_length_and_repetition_alone_are_measured(tmp_path: Path) -> None:
    given = [Triple("t", "y", given=("Write a poem.", "Write a list."))]
    found = await measure(given, {"before": ScriptedBackend("b", lambda r: "One two three.")}, tmp_path,
                          max_tokens=10, counted_in=tokens("words"))
    assert found.grades == {}
    assert "kept to" not in found.markdown()
    with pytest.raises(UserError, match="no row has its constraints apart"):
        await measure(given, {}, tmp_path, max_tokens=10, counted_in=tokens("words"), judge=judge({}))


@pytest.mark.parametrize(("reply", "grade"), [
    ('{"quote": "", "reason": "", "satisfied": "no"}', "no"), ('```json\n{"satisfied": "PARTLY"}\n```', "partly"),
    ('{"satisfied": true}', "yes"), ('{"satisfied": "yes"} {"satisfied": "no"}', None), ("yes", None),
    ('{"satisfied": "perhaps"}', None)])
async def test_a_grade_is_read_as_yes_partly_or_no_and_as_nothing_else(reply: str, grade: str | None) -> None:
    found = await judge_grade(partial(scripted_client("judge", lambda r: reply).chat, stage="s"), "p", "text", "c")
    assert isinstance(found, Failure) if grade is None else found.satisfied == grade


def test_the_command_shows_how_far_it_is_and_not_a_line_per_answer(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    class Scripted(ScriptedBackend):
        """A scripted model in the place of the one in this process."""

        def __init__(self, model: str, *, on_tokens, **_) -> None:
            def reply(_request):
                on_tokens(4)
                return "The boat came home."

            super().__init__(model, reply)

    monkeypatch.setattr("if_factory.chat.transformers_local.TransformersBackend", Scripted)
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps({"main": f"Write about boat {i}.", "constraints": ["Rhyme."],
                                        "corrupted": ["Write prose."], "response": "y"}) + "\n" for i in range(12)))
    done = CliRunner().invoke(main, ["long-form", str(file), "--model", "m", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    log = (tmp_path / "out" / "long_form.log").read_text()
    assert "before: 12 of 12 answers" in log
    assert len(log.splitlines()) < 12
