import asyncio
import json
from collections import Counter

import pytest
from click.testing import CliRunner

from if_factory.chat.base import ChatRequest, Completion, RequestFailed
from if_factory.chat.log import ResponseLog
from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.evaluation.generate import evaluate, generate
from if_factory.evaluation.passrate import Item
from if_factory.records import Constraint

ITEMS = [Item(str(i), f"prompt {i}", (Constraint(type="punctuation:no_comma"),)) for i in range(20)]


@pytest.fixture(autouse=True)
def without_embeddings(monkeypatch):
    """Usefulness by rules only, as where sentence-transformers is not installed: these tests are not about it."""
    monkeypatch.setattr("if_factory.usefulness.gate.available", lambda: False)


class Scripted:
    """A scripted backend: answers by prompt, raises where the script holds an exception, replies out of order."""

    model = "scripted"

    def __init__(self, answers):
        self.answers = answers
        self.requests: list[ChatRequest] = []
        self.open = self.most_open = 0
        self.closed = False

    async def chat(self, request):
        self.requests.append(request)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        prompt = request.messages[-1]["content"]
        await asyncio.sleep(0.001 * (hash(prompt) % 5))
        self.open -= 1
        answer = self.answers(prompt)
        if isinstance(answer, Exception):
            raise answer
        return Completion(answer, "length" if len(answer) > 30 else "stop", completion_tokens=3)

    async def close(self):
        self.closed = True


async def test_asks_greedily_once_per_item_within_the_concurrency():
    model = Scripted(lambda p: p)
    answers = await generate(ITEMS, model, concurrency=3)
    assert list(answers) == [item.id for item in ITEMS]
    assert answers["7"].text == "prompt 7"
    assert {r.temperature for r in model.requests} == {0.0}
    assert len(model.requests) == len(ITEMS)
    assert model.most_open == 3


async def test_a_failed_request_is_kept_as_null_and_does_not_stop_the_rest(tmp_path):
    model = Scripted(lambda p: RequestFailed("too_long") if p == "prompt 3" else p)
    results = await evaluate(ITEMS, {"before": model}, tmp_path)
    assert results.rates["before"]["strict"].prompt.passed == 19
    assert results.rates["before"]["strict"].no_verdict == 1
    rows = [json.loads(line) for line in (tmp_path / "responses.jsonl").read_text().splitlines()]
    assert rows[3]["responses"]["before"]["text"] is None
    assert rows[3]["responses"]["before"]["finish_reason"] == "too_long"
    assert json.loads((tmp_path / "results.json").read_text())["generation"]["before"]["failed"] == 1


async def test_a_user_error_stops_everything_and_arrives_as_itself():
    with pytest.raises(UserError, match="no server"):
        await generate(ITEMS, Scripted(lambda p: UserError("no server")))


async def test_before_and_after_are_written_and_the_files_are_stable(tmp_path):
    def models():
        return {"before": Scripted(lambda p: p + ", with comma"), "after": Scripted(lambda p: p + " " + "x" * 40)}

    results = await evaluate(ITEMS, models(), tmp_path / "1")
    await evaluate(ITEMS, models(), tmp_path / "2", concurrency=1)
    assert results.comparisons["after"]["strict"].gained == 20
    for name in ("responses.jsonl", "results.json", "results.md"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    written = json.loads((tmp_path / "1" / "results.json").read_text())
    assert written["generation"]["after"]["cut_at_max_tokens"] == 20


PLAIN = "What causes thunder?"
GOOD = "Lightning heats the air so fast that it expands with a bang"
EMPTY = "There should be no comma anywhere in the answer"


async def test_an_answer_that_satisfies_its_constraints_and_says_nothing_is_not_counted(tmp_path):
    """Before: all useful, half with a comma. After: no comma anywhere, and nothing said. The pass rate rises."""
    no_comma = Constraint(type="punctuation:no_comma", text="Use no comma.")
    items = [Item(str(i), f"{PLAIN} ({i}) Use no comma.", (no_comma,), request=f"{PLAIN} ({i})") for i in range(8)]
    models = {"before": Scripted(lambda p: GOOD + (", as you hear" if int(p[22]) % 2 else "")),
              "after": Scripted(lambda p: EMPTY)}
    results = await evaluate(items, models, tmp_path, trained={"punctuation:no_comma"}, read=3)
    first = results.headline.measures[0]
    assert (first.values["before"].passed, first.values["after"].passed) == (4, 0)
    assert results.comparisons["after"]["strict"].prompt.value == 0.5
    assert "fewer answers attempt the request" in results.headline.warnings[0]
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["format"] == 2
    assert written["usefulness"] == {"decided_by": ["rules"], "trained_types": ["punctuation:no_comma"]}
    assert written["headline"]["measures"][0]["key"] == "satisfied_and_useful"
    assert written["headline"]["refused"]["after"] == {"echoes_constraint": 8}
    text = (tmp_path / "results.md").read_text()
    assert text.index("satisfied and useful") < text.index("prompt, strict")
    row = json.loads((tmp_path / "responses.jsonl").read_text().splitlines()[0])
    assert row["responses"]["after"]["useful"]["reason"] == "echoes_constraint"
    assert len((tmp_path / "blind.jsonl").read_text().splitlines()) == 6


async def test_a_cut_answer_is_read_as_it_stands_lest_shortness_be_rewarded(tmp_path):
    item = Item("1", PLAIN, (Constraint(type="punctuation:no_comma"),), request=PLAIN)
    results = await evaluate([item], {"before": Scripted(lambda p: GOOD)}, tmp_path)  # longer than 30: cut
    assert results.headline.measures[0].values["before"].passed == 1
    assert "Answers cut at the token limit: before 1 of 1." in (tmp_path / "results.md").read_text()


async def test_a_judge_decides_judged_constraints_and_usefulness(tmp_path):
    """Without a judge a soft constraint has no verdict; with one it can be measured after training."""
    soft = Constraint(type="soft:tone", kind="judge", text="Sound friendly.")
    item = Item("1", f"{PLAIN} Sound friendly.", (soft,), request=PLAIN)
    asked = []

    async def judge(messages, **options):
        text = messages[-1]["content"]
        asked.append(text)
        return Completion('{"1": {"reason": "", "satisfied": true}}')

    alone = await evaluate([item], {"before": Scripted(lambda p: GOOD)}, tmp_path)
    assert alone.rates["before"]["strict"].no_verdict == 1
    with_judge = await evaluate([item], {"before": Scripted(lambda p: GOOD)}, tmp_path, judge=judge)
    assert with_judge.rates["before"]["strict"].prompt.passed == 1
    assert len(asked) >= 2
    assert json.loads((tmp_path / "results.json").read_text())["usefulness"]["decided_by"] == ["rules", "judge"]


async def test_on_answer_sees_every_answer_with_its_label(tmp_path):
    seen = []
    await evaluate(ITEMS, {"before": Scripted(lambda p: p)}, tmp_path,
                   on_answer=lambda label, item, answer: seen.append((label, item.id)))
    assert sorted(seen) == sorted(("before", item.id) for item in ITEMS)


async def test_a_model_is_closed_before_the_next_is_asked_also_when_it_fails(tmp_path):
    first = Scripted(lambda p: p)

    def second(prompt):
        assert first.closed
        raise UserError("no server")

    models = {"before": first, "after": Scripted(second)}
    with pytest.raises(UserError, match="no server"):
        await evaluate(ITEMS, models, tmp_path)
    assert models["after"].closed


async def test_a_killed_evaluation_asks_only_for_what_the_log_does_not_hold(tmp_path):
    log = ResponseLog(tmp_path / "asked.jsonl")
    await generate(ITEMS[:15], Scripted(lambda p: p), log=log)
    again = Scripted(lambda p: p)
    results = await evaluate(ITEMS, {"before": again}, tmp_path, log=log)
    log.close()
    assert len(again.requests) == 5
    assert results.prompts == 20


async def test_answers_under_a_system_prompt_and_without_one_are_never_mixed_up(tmp_path):
    log = ResponseLog(tmp_path / "asked.jsonl")
    own = Item("own", "prompt own", ITEMS[0].constraints, system="Its own.")
    asked = []
    for system in ("", "Be brief.", "Be brief.", ""):
        model = Scripted(lambda p: p)
        await evaluate([*ITEMS, own], {"before": model}, tmp_path, log=log, system=system)
        assert json.loads((tmp_path / "results.json").read_text()).get("system", "") == system
        asked.append(Counter(r.messages[0]["content"] if len(r.messages) > 1 else None for r in model.requests))
    log.close()
    assert asked == [{None: 20, "Its own.": 1}, {"Be brief.": 20}, {}, {}]


@pytest.fixture
def opened(monkeypatch):
    """The scripted models that the command opens in place of transformers': with adapters they use no comma."""
    models = []

    def backend(path, adapters, batch_size, on_tokens):
        models.append(Scripted(lambda p: "no comma" if adapters else "one, comma"))
        models[-1].model = f"{path}+{len(adapters)}"
        return models[-1]

    monkeypatch.setattr("if_factory.chat.transformers_local.TransformersBackend", backend)
    return models


def arguments(tmp_path):
    return ["evaluate", "--model", "m", "--adapter", str(tmp_path), "-n", "8", "-o", str(tmp_path / "out"),
            "--constraints", "punctuation:no_comma", "--low", "1", "--high", "1"]


def test_the_command_evaluates_before_and_after_and_continues(tmp_path, opened):
    command = arguments(tmp_path)
    first = CliRunner().invoke(main, command)
    assert first.exit_code == 0, first.output
    # Two of the eight prompts, every third, have types that were never trained.
    assert "| constraints of trained types | 0.0 % (0/6)" in first.output
    assert "100.0 % (6/6)" in first.output
    assert "| constraints of types never trained |" in first.output
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["generation"]["after"]["model"] == "m+1"
    assert CliRunner().invoke(main, command).exit_code == 0
    assert [len(b.requests) for b in opened] == [8, 8, 0, 0]
    assert "satisfied and useful" in first.output
    log = (tmp_path / "out" / "evaluation.log").read_text()
    assert "16 of 16 answers" in log
    assert "after: m+1" in log
    assert "deciding: rules" in log


def test_the_command_scores_a_blind_reading_without_a_model(tmp_path, opened):
    CliRunner().invoke(main, arguments(tmp_path))
    path = tmp_path / "out" / "blind.jsonl"
    rows = [json.loads(line) | {"satisfied": True, "answers": True} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = CliRunner().invoke(main, ["evaluate", "--score-blind", str(path)])
    assert result.exit_code == 0, result.output
    assert "| after | person | 8/8" in result.output
    assert CliRunner().invoke(main, ["evaluate", "-o", str(tmp_path)]).exit_code == 2


def test_each_stage_is_evaluated_with_the_adapters_that_belong_to_it(tmp_path, opened, monkeypatch):
    """SFT continues its adapter, preference stages stand on top of what they load."""
    monkeypatch.chdir(tmp_path)
    loads = {"c_1_sft": "", "c_2_sft": "saves/c_1_sft", "c_3_dpo": "saves/c_2_sft"}
    for name, loaded in loads.items():
        (tmp_path / "saves" / name).mkdir(parents=True)
        stage = {"output_dir": f"saves/{name}", "dataset": "d", "dataset_dir": "."}
        stage |= {"adapter_name_or_path": loaded} if loaded else {}
        stage |= {"create_new_adapter": True} if "dpo" in name else {}
        (tmp_path / "yaml").mkdir(exist_ok=True)
        (tmp_path / "yaml" / f"{name}.yaml").write_text(json.dumps(stage))
    command = [*arguments(tmp_path)[:3], "--curriculum", "yaml", "--each-stage", *arguments(tmp_path)[5:]]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert [m.model for m in opened] == ["m+0", "m+1", "m+1", "m+2"]
    assert "| c_3_dpo |" in result.output
    assert json.loads((tmp_path / "out" / "results.json").read_text())["labels"] == ["before", *loads]


def test_the_command_asks_before_and_after_under_the_same_system_prompt(tmp_path, opened):
    result = CliRunner().invoke(main, [*arguments(tmp_path), "--system", "Be brief."])
    assert result.exit_code == 0, result.output
    for model in opened:
        assert {r.messages[0]["content"] for r in model.requests} == {"Be brief."}
    assert json.loads((tmp_path / "out" / "results.json").read_text())["system"] == "Be brief."
