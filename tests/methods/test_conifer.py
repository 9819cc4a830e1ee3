"""Conifer, driven by scripted models (named as such): what each stage keeps, and which text is ever trained on."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from if_factory.api import emit
from if_factory.api.common import stages_of
from if_factory.api.datasets import bins_of
from if_factory.chat.base import ChatRequest
from if_factory.chat.budget import Usage
from if_factory.chat.scripted import ScriptedBackend
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.methods.base import Emission
from if_factory.methods.conifer import PRESETS, Options, plan, stages
from if_factory.methods.conifer.answers import converse, is_hardest
from if_factory.methods.conifer.emit import emit as emit_record
from if_factory.methods.conifer.levels import Category, combinable, draw_levels, two_levels
from if_factory.methods.conifer.versions import EXPLAIN, feasible
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.runner import run
from if_factory.recipe import parse
from if_factory.records import Candidate, Record, Turn
from tests.support.models import scripted_client

CATEGORIES = {"Audience": ["children", "nurses", "pilots"], "Place": ["a harbour", "a farm", "a city"],
              "Method": ["by example", "by analogy", "step by step"], "Tone": ["calm", "proud", "dry"],
              "Season": ["winter", "summer"], "Topics": ["ebb", "flood", "neap tides"]}
TOGETHER = ["Topics"]
WEAK = "A weak attempt."


class Teacher:
    """A scripted teacher that plays every part well; ``broken`` overrides the reply of one part."""

    def __init__(self, **broken: str) -> None:
        self.broken = broken
        self.asked: Counter[str] = Counter()

    def __call__(self, request: ChatRequest) -> str:
        ask = request.messages[-1]["content"]
        part = next((name for words, name in (
            ("new instructions about that subject", "reframe"), ("2 to 5 items each", "constrain"),
            ("things that a person might add", "constrain"),
            ("Version so far", "recombine"), ("can be answered as it stands", "answerable"),
            ("<how> and </how>", "explain"), ("between <feedback>", "feedback"), ("satisfied", "judge"),
        ) if words in ask), "answer")
        self.asked[part] += 1
        return self.broken.get(part) or getattr(self, part)(ask)

    def reframe(self, ask: str) -> str:
        topic = ask.split("## What the person asked\n")[1].split("\n")[0]
        return json.dumps({"instructions": [f"{verb} {topic}" for verb in ("Explain", "Compare", "Plan")]})

    def constrain(self, ask: str) -> str:
        lists = [{"name": k, "items": v, "together": k in TOGETHER} for k, v in CATEGORIES.items()]
        return "Here it is:\n```json\n" + json.dumps({"categories": lists}) + "\n```"

    def recombine(self, ask: str) -> str:
        task = ask.split("## The task")[1]
        version = task.split("Version so far: ")[1].split("\n")[0]
        add = task.split("Constraints to add: ")[1].split("\n")[0]
        return json.dumps({"reason": "They fit.", "compatible": True, "version": f"{version}, observing {add}"})

    def answerable(self, ask: str) -> str:
        return '{"reason": "clear", "answerable": true}'

    def explain(self, ask: str) -> str:
        n = len(re.findall(r"^\d+\. ", ask.split("## Requirements of form")[1].split("Write the")[0], re.M))
        points = "\n".join(f"{i}. It is met." for i in range(1, n + 1))
        return f"<answer>\nthe answer\n</answer>\n<how>\n{points}\n</how>"

    def feedback(self, ask: str) -> str:
        return "<feedback>You left out the audience.</feedback>"

    def judge(self, ask: str) -> str:
        numbers = re.findall(r"^(\d+)\. ", ask, re.M)
        good = WEAK not in ask
        return json.dumps({n: {"reason": "seen" if good else "missing", "satisfied": good} for n in numbers})

    def answer(self, ask: str) -> str:
        return (f"A good answer to {ask[:40]} says that the moon pulls the water twice a day while the shore turns "
                f"beneath it by {len(ask)} metres.")


def play(teacher: Teacher, n: int = 1, **options: object) -> RunResult:
    """A run without format constraints in the levels, unless they are asked for."""
    options = {"format_levels": [], **options}
    usage = Usage()
    models = {role: scripted_client(role, answer, usage=usage)
              for role, answer in {"teacher": teacher, "student": lambda r: WEAK}.items()}
    seeds = [Record.from_seed(f"how tides work, part {i}?", method="conifer") for i in range(n)]
    return asyncio.run(run(stages(Options.model_validate(options)), seeds, models, seed=0))


def test_the_small_variant_asks_nobody_to_rewrite_anything() -> None:
    teacher = Teacher()
    result = play(teacher, **PRESETS["small"])
    assert not teacher.asked["reframe"] + teacher.asked["recombine"]
    rows = emitted(result, **PRESETS["small"])
    (conversation,) = (row for row in rows["sft"] if row.prompt)
    asked = [c.text for c in conversation.constraints if c.kind == "judge"]
    assert all(f"\n- {text}" in conversation.prompt for text in asked)
    categories = [text.partition(":")[0] for text in asked]
    assert len(set(categories)) == len(categories)  # Topics go together, says the teacher; here nothing does


def emitted(result: RunResult, **options: object):
    return emit(parse({"method": "conifer", "models": {"teacher": {}}, "options": options}), result.records)


def rejected(result: RunResult) -> dict[str, int]:
    return dict(sum((row.dropped for row in result.ledger.rows), Counter()))


CATEGORY = st.text("abcdef", min_size=1, max_size=4)
ITEMS = st.lists(st.text("uvwxyz", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])  # slow where the machine is busy
@given(st.dictionaries(CATEGORY, st.tuples(ITEMS, st.booleans()), min_size=1, max_size=8), st.integers(0, 999),
       st.integers(1, 5))
def test_every_level_holds_the_one_below_and_no_category_gives_rival_values(lists, seed, levels) -> None:
    categories = {name: items for name, (items, _) in lists.items()}
    together = {name for name, (_, said) in lists.items() if said}
    drawn = draw_levels(categories, Random(seed), levels, together)
    assert len(drawn) == levels
    offers = sum(len(items) if name in together else 1 for name, items in categories.items())
    for lower, upper in pairwise(drawn):
        assert upper[:len(lower)] == lower
        new = upper[len(lower):]
        assert len(new) <= 3
        assert len({category for category, _ in new}) <= 2
        assert new or offers < levels  # where the list holds enough, every level asks for more
    assert all(item in categories[category] for category, item in drawn[-1])
    assert len(set(drawn[-1])) == len(drawn[-1]) > 0
    assert all(n == 1 for name, n in Counter(name for name, _ in drawn[-1]).items() if name not in together)


def test_a_conversation_climbs_the_levels_and_every_turn_of_it_was_verified() -> None:
    result = play(Teacher(), format_share=0.0)
    rows = emitted(result, format_share=0.0)["sft"]
    assert len(rows) == 3  # one per reframed instruction
    for row in rows:
        assert row.difficulty == 5
        assert [t.role for t in row.history] == ["user", "assistant"] * 4
        asked = [t.content for t in row.history if t.role == "user"] + [row.prompt]
        assert [a.count("observing") for a in asked] == [1, 2, 3, 4, 5]
        answers = [t.content for t in row.history if t.role == "assistant"] + [row.response]
        assert all(a.startswith("A good answer") for a in answers)


@pytest.mark.parametrize(("preset", "levels", "turns"), [
    ("hard_to_easy", [5, 4, 3, 2, 1], 9), ("easy_only", [1, 2, 3], 5), ("hard_only", [4, 5], 3)])
def test_the_ablations_change_the_order_and_the_levels(preset: str, levels: list[int], turns: int) -> None:
    options = {**PRESETS[preset], "format_share": 0.0}
    result = play(Teacher(), **options)
    by_prompt = {r.prompt: int(r.extra["level"]) for r in result.records}
    for row in emitted(result, **options)["sft"]:
        asked = [t.content for t in row.history if t.role == "user"] + [row.prompt]
        assert [by_prompt[a] for a in asked] == levels
        assert len(row.history) + 1 == turns


def test_random_order_is_a_seeded_shuffle_and_single_turn_has_no_history() -> None:
    orders = set()
    for result in (play(Teacher(), 8, order="random", format_share=0.0) for _ in range(2)):
        by_prompt = {r.prompt: int(r.extra["level"]) for r in result.records}
        orders.add(str([[by_prompt[t.content] for t in row.history if t.role == "user"]
                        for row in emitted(result)["sft"]]))
    assert len(orders) == 1
    assert "[1, 2, 3, 4]" not in orders.pop().split("], [")[0]
    single = emitted(play(Teacher(), order="single_turn", format_share=0.0))["sft"]
    assert len(single) == 15
    assert not any(row.history for row in single)


@pytest.mark.parametrize(("feedback", "datasets"), [
    ("both", {"sft", "sft_internal", "sft_external"}), ("internal", {"sft", "sft_internal"}),
    ("external", {"sft", "sft_external"}), ("none", {"sft"})])
def test_feedback_is_what_was_asked_for(feedback: str, datasets: set[str]) -> None:
    options = {"feedback": feedback, "format_share": 1.0, "format_types": ["change_case:english_lowercase"]}
    assert {d for d in emitted(play(Teacher(), **options), **options).datasets if d.startswith("sft")} == datasets


def test_internal_feedback_is_checked_above_the_rule_and_has_a_point_per_requirement() -> None:
    options = {"format_share": 1.0, "format_types": ["change_case:english_lowercase", "punctuation:no_comma"]}
    for row in emitted(play(Teacher(), **options), **options)["sft_internal"]:
        above, below = row.response.split("\n\n---\n")
        scoped = [c for c in row.constraints if c.type == "scope:above_rule"]
        assert len(below.split("\n")) == len(scoped)
        assert all(v.passed for v in verify(row.response, scoped))
        assert above == "the answer"  # "It is met." below the rule has capitals: they do not count
        assert row.prompt.endswith(EXPLAIN)


def test_an_explained_answer_that_breaks_its_format_is_never_emitted() -> None:
    class Loud(Teacher):
        def explain(self, ask: str) -> str:
            return super().explain(ask).replace("the answer", "THE ANSWER")

    options = {"format_share": 1.0, "format_types": ["change_case:english_lowercase"]}
    result = play(Loud(), **options)
    assert not emitted(result, **options)["sft_internal"]
    assert rejected(result)["no_verified_answer"] == 15


def test_the_weak_attempt_is_in_the_prompt_and_never_in_a_response() -> None:
    rows = emitted(play(Teacher(), format_share=0.0))
    assert len(rows["sft_external"]) == 3
    for row in rows["sft_external"]:
        assert WEAK in row.prompt
        assert "You left out the audience." in row.prompt
        assert not row.history
    for dataset, examples in rows.datasets.items():
        for row in examples:
            if dataset.startswith("sft"):
                assert WEAK not in row.response
                assert all(WEAK not in t.content for t in row.history)


def test_masked_external_rows_are_a_dataset_of_their_own() -> None:
    rows = emitted(play(Teacher(), format_share=0.0), external="masked")
    assert not rows["sft_external"]
    for row in rows["sft_external_masked"]:
        assert row.history[1] == Turn(role="assistant", content=WEAK)
        assert row.prompt.startswith("You left out the audience.")


def test_failing_attempts_are_rejected_sides_against_the_verified_answer() -> None:
    rows = emitted(play(Teacher(), format_share=0.0))
    assert [(p.rejected, p.history) for p in rows["dpo"]] == [(WEAK, ())] * 3
    assert all(p.violated for p in rows["dpo"])
    assert Counter(k.label for k in rows["kto"]) == {True: 3, False: 3}


@pytest.mark.parametrize(("part", "reply", "reason", "n"), [
    ("reframe", '{"instructions": []}', "refused", 1),
    ("reframe", '{"instructions": ["Only one"]}', "too_few_reframed", 1),
    ("reframe", "I cannot.", "reframe_no_json", 1),
    ("constrain", '{"categories": []}', "refused", 3),
    ("constrain", '{"categories": [{"name": "A", "items": ["k1", "k2", "k3", "k4", "k5"]}]}', "too_few_items", 3),
    ("answerable", '{"answerable": false}', "needs_context", 3),
    ("answerable", "perhaps", "needs_context_unread", 3),
    ("judge", '{"1": {"satisfied": false}}', "no_verified_answer", 15),
    ("answer", WEAK, "no_verified_answer", 15),
])
def test_what_goes_wrong_is_rejected_with_its_reason(part: str, reply: str, reason: str, n: int) -> None:
    result = play(Teacher(**{part: reply}), format_share=0.0)
    assert rejected(result) == {reason: n}
    assert not any(emitted(result).datasets.values())


def test_a_conflict_among_drawn_requirements_is_seen_without_asking() -> None:
    from if_factory.pipeline.stage import Dropped
    from if_factory.records import Constraint

    def scoped(kind: str, **kwargs: object) -> Constraint:
        return Constraint(type="scope:above_rule", kwargs={"type": kind, "kwargs": kwargs, "text": ""})

    record = Record.from_seed("x").child("x y", [scoped("change_case:english_lowercase"),
                                                 scoped("change_case:english_capital")], 5)
    with pytest.raises(Dropped, match="contradictory_constraints"):
        asyncio.run(feasible(record, None, options=Options()))  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_rows() -> None:
    first, second = (emitted(play(Teacher(), 4)).datasets for _ in range(2))
    assert first == second


def test_the_plan_bounds_what_is_asked() -> None:
    teacher = Teacher()
    seeds = [Record.from_seed(f"how tides work, part {i}?") for i in range(3)]
    play(teacher, 3)
    planned = plan(seeds, Options(), {"teacher", "student"})
    assert sum(teacher.asked.values()) <= sum(c.high for c in planned if c.role == "teacher")


# ---------------------------------------------------------------- upstream's samples (spec 3.7)


def _json(shared: Path, name: str):
    return json.loads((shared / "data" / "conifer" / name).read_text(encoding="utf-8"))


def _levels(shared: Path) -> list[Record]:
    records = []
    for row in _json(shared, "06_answer.json").values():
        record = Record.from_seed(row["query"]).child(row["question"], (), difficulty=int(row["diff"].split()[1]))
        verified = Candidate(text=row["answer"], source="answer", verdicts=())
        records.append(record.model_copy(update={
            "candidates": (verified,), "extra": {"form": "conversation", "question": row["query"],
                                                "level": record.difficulty}}))
    return records


def test_conversations_group_upstreams_answers_as_upstream_does(shared: Path) -> None:
    done, _ = asyncio.run(converse(_levels(shared), _NoContext(), options=Options()))
    ours = [[*((t.role, t.content) for t in r.history), ("user", r.prompt), ("assistant", r.candidates[0].text)]
            for r in done if "turn_of" not in r.extra]
    theirs = [[(m["role"], m["content"]) for m in talk["messages"]]
              for talk in _json(shared, "06_multi_turn.json")]
    assert sorted(ours) == sorted(theirs)
    assert sorted(len(t) // 2 for t in ours) == [1, 2, 3]


def test_a_conversation_holds_an_answer_once_and_the_level_left_out_is_counted(shared: Path) -> None:
    levels = _levels(shared)
    three = [r for r in levels if sum(o.parent == r.parent for o in levels) == 3]
    same = [r.model_copy(update={"candidates": three[-1].candidates}) for r in three[1:]]
    done, _ = asyncio.run(converse([three[0], *same], _NoContext(), options=Options()))
    (talk,) = [r for r in done if "turn_of" not in r.extra and "answer_of_another_level" not in r.extra]
    assert [turn.content for turn in talk.history] == [three[0].prompt, three[0].candidates[0].text]
    emission = Emission()
    for record in done:
        emit_record(record, Options(), emission, 0)
    assert emission.refused["sft"]["answer_of_another_level"] == 1


def test_an_answer_that_the_judge_finds_useless_is_in_no_conversation() -> None:
    refused = "A good answer that says what the moon does to the water, and nothing about the question of this level."

    class Partly(Teacher):
        def answer(self, ask: str) -> str:
            return refused if ask.count("observing") == 2 else super().answer(ask)

        def judge(self, ask: str) -> str:
            useless = "attempts what the request asks for" in ask and refused in ask
            return json.dumps({"1": {"reason": "read", "satisfied": False}}) if useless else super().judge(ask)

    recipe = parse({"method": "conifer", "models": {"teacher": {}, "judge": {}},
                    "options": {"format_levels": [], "format_share": 0.0, "reframed": 1, "levels": [1, 2, 3]}})
    made, useful = stages_of(recipe)
    models = {role: scripted_client(role, Partly()) for role in ("teacher", "judge")}
    result = asyncio.run(run(made, [Record.from_seed("how tides work?", method="conifer")], models, seed=0,
                             useful=useful))
    emission = emit(recipe, result.records)
    (row,) = emission["sft"]
    assert refused not in [turn.content for turn in row.history]
    assert [turn.role for turn in row.history] == ["user", "assistant"]  # level 1, below level 3
    assert emission.refused["sft"] == {"off_topic": 1, "turn_of_a_conversation": 1}


def test_the_hardest_versions_are_upstreams_references(shared: Path) -> None:
    hardest = {r.prompt for r in _levels(shared) if is_hardest(r, Options())}
    assert hardest == {row["prompt"] for row in _json(shared, "07_reference.json")}


class _NoContext:
    def rng(self, *parts: object) -> Random:
        return Random(0)


# ---------------------------------------------------------------- what a hostile teacher or seed does


@pytest.mark.parametrize("wording", ["The same every time.", "Explain how tides work, part 0?"])
def test_one_wording_for_different_constraints_is_no_level(wording: str) -> None:
    class Lazy(Teacher):
        def recombine(self, ask: str) -> str:
            return json.dumps({"compatible": True, "version": wording})

    result = play(Lazy(), reframed=1, redraws=0)
    assert rejected(result) == {"recombine_version_repeats": 4 if wording.startswith("The") else 5}


def test_a_clash_that_the_teacher_sees_is_counted_and_other_values_are_drawn() -> None:
    class Careful(Teacher):
        def recombine(self, ask: str) -> str:
            task = ask.split("## The task")[1]
            if "Season: summer" in task and "Place: a farm" in task:
                return '{"reason": "Nobody is there.", "compatible": false, "version": ""}'
            return super().recombine(ask)

    result = play(Careful(), 12, reframed=1, format_share=0.0)
    assert rejected(result)["items_clash"] > 0
    assert {r.detail for r in result.dropped if r.reason == "items_clash"} == {"Nobody is there."}
    for record in result.records:
        asked = [c.text for c in record.constraints]
        assert not {"Season: summer", "Place: a farm"} <= set(asked)
    assert all(len(row.history) == 8 for row in emitted(result)["sft"])  # every level was filled all the same


def test_a_teacher_that_refuses_everything_is_asked_for_a_limited_time() -> None:
    teacher = Teacher(recombine='{"compatible": false}')
    result = play(teacher, reframed=1)
    assert rejected(result)["items_clash"] == teacher.asked["recombine"] <= 5 * 3
    assert not result.records


def test_code_checks_part_of_every_conversation() -> None:
    class Quiet(Teacher):
        def answer(self, ask: str) -> str:
            return super().answer("x".ljust(len(ask))).lower()

    options = {"format_share": 0.0, "format_levels": [1, 3, 5],
               "format_types": ["change_case:english_lowercase", "punctuation:no_comma"]}
    result = play(Quiet(), **options)
    by_level = {(r.parent, r.extra["level"]): [c for c in r.constraints if c.kind == "code"] for r in result.records}
    assert {level: len(c) for (_, level), c in by_level.items()} == {1: 1, 2: 1, 3: 2, 4: 2, 5: 2}
    for record in result.records:
        assert all(c.text.rstrip(".").lower() in record.prompt.lower() for c in record.constraints if c.kind == "code")
    assert len(emitted(result)["sft"]) == 3
    loud = play(Teacher(), **options)  # capitals: no answer passes
    assert not any(emitted(loud).datasets.values())
    off = play(Quiet(), **options, format_and_number=False)
    assert not any(c.kind == "code" for r in off.records for c in r.constraints)


def test_queries_are_selected_by_length_and_language_with_counted_reasons() -> None:
    queries = ["Why?", "How do tides work on a round planet?", "word " * 60,
               "Warum gibt es an der Nordsee zweimal am Tag Ebbe und Flut, und warum nicht am Mittelmeer?"]
    models = {"teacher": scripted_client("teacher", Teacher())}
    options = Options.model_validate({**PRESETS["paper"], "reframed": 1, "format_levels": [], "format_share": 0.0})
    seeds = [Record.from_seed(q.strip(), method="conifer") for q in queries]
    result = asyncio.run(run(stages(options), seeds, models, seed=0))
    assert rejected(result) == {"query_too_short": 1, "query_too_long": 1, "query_language": 1}
    assert len(result.records) == 5
    assert plan(seeds, options, {"teacher"})[0].low == 1
    with pytest.raises(UserError, match="unknown language 'englsh'"):
        stages(Options(query_languages=["englsh"]))


def test_lists_without_rivals_on_a_hundred_recorded_ones(shared_lists: list[dict[str, list[str]]]) -> None:
    filled = [draw_levels(lists, Random(i), 5) for i, lists in enumerate(shared_lists)]
    assert len(filled) == 100
    rivals = sum(len({c for c, _ in level}) < len(level) for levels in filled for level in levels)
    assert rivals == 0
    assert all(len(levels) == 5 and levels[0] for levels in filled)
    assert all(len(low) < len(high) for levels in filled for low, high in pairwise(levels))


@pytest.fixture(params=["generated", "recorded"])
def shared_lists(request: pytest.FixtureRequest) -> list[dict[str, list[str]]]:
    """A hundred lists of categories: made here, or parts of those that the authors' samples hold."""
    if request.param == "generated":
        rng = Random(5)
        return [{f"aspect {c}": [f"value {c}.{i}" for i in range(rng.randint(2, 5))]
                 for c in range(rng.randint(5, 9))} for _ in range(100)]
    found = list(_json(request.getfixturevalue("shared"), "03_constraint_list.json").values())
    assert all(len(lists) >= 5 for lists in found)
    return [_sample(found[i % len(found)], Random(i)) for i in range(100)]


def _sample(lists: dict[str, list[str]], rng: Random) -> dict[str, list[str]]:
    """At least five of the categories, in another order."""
    names = rng.sample(sorted(lists), rng.randint(5, len(lists)))
    return {name: lists[name] for name in names}


def test_categories_of_one_name_are_one_and_no_item_comes_twice() -> None:
    found = two_levels([Category(name="Tone", items=["calm", "dry"]),
                        Category(name=" Tone\n", items=["proud", "Calm", " ", "x" * 201, "two\nlines"]),
                        Category(name="Place", items=["dry", "größer"]), Category(name="", items=["a"]),
                        Category(name="Method", items=["...", "-"]), Category(name="...", items=["a"])])
    assert found == {"Tone": ["calm", "dry", "proud", "two lines"], "Place": ["größer"]}
    assert combinable([Category(name="Tone", items=["a"], together=True), Category(name=" Tone", items=["b"]),
                       Category(name="Place", items=["c"], together=True)]) == ["Place"]


def test_the_prompts_own_examples_are_no_categories() -> None:
    class Echo(Teacher):
        def constrain(self, ask: str) -> str:
            return ask[ask.index('{"categories"'):ask.index("Instruction: Compare renting")]

    assert rejected(play(Echo())) == {"refused": 3}


def test_a_teacher_that_says_more_than_asked_for_costs_no_more() -> None:
    class Generous(Teacher):
        def reframe(self, ask: str) -> str:
            return json.dumps({"instructions": [f"Explain tide {i}" for i in range(40)]})

    teacher = Generous()
    play(teacher, reframed=3)
    assert teacher.asked["constrain"] == 3


def alone(teacher: ScriptedBackend, seed: Record, **options: object) -> RunResult:
    """One seed, one instruction, a teacher and no student."""
    models = {"teacher": scripted_client("teacher", teacher)}
    given = Options.model_validate({"reframed": 1, "format_levels": [], **options})
    return asyncio.run(run(stages(given), [seed], models, seed=0))


class CutAtFirst(ScriptedBackend):
    """Answers to the first version are cut off by the token limit."""

    async def chat(self, request: ChatRequest):
        done = await super().chat(request)
        cut = done.text.startswith("A good answer") and request.messages[-1]["content"].count("observing") == 1
        return replace(done, finish_reason="length") if cut else done


def test_an_answer_cut_off_stands_in_no_conversation() -> None:
    result = alone(CutAtFirst("teacher", Teacher()), Record.from_seed("how tides work?"), format_share=0)
    cut = rejected(result).get("no_verified_answer", 0)
    assert 0 < cut < 5
    assert {r.detail for r in result.dropped} == {"truncated"}
    row, = emitted(result)["sft"]
    assert len(row.history) == 2 * (5 - cut - 1)


def test_the_seeds_own_conversation_is_not_part_of_what_stands_alone() -> None:
    seed = Record.from_seed("and at night?", method="conifer", system="Be kind.", history=(
        Turn(role="user", content="how tides work"), Turn(role="assistant", content="An unverified answer.")))
    rows = emitted(alone(ScriptedBackend("teacher", Teacher()), seed, format_share=1.0))
    assert rows["sft_internal"]
    for row in [*rows["sft"], *rows["sft_internal"]]:
        assert row.system == "Be kind."
        assert "An unverified answer." not in str(row.history)


def test_where_no_requirement_of_form_can_be_drawn_nothing_is_to_be_explained(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("if_factory.methods.conifer.versions.compose", lambda *a, **k: [])
    result = play(Teacher(), reframed=1, format_share=1.0)
    assert {r.extra["form"] for r in result.records} == {"conversation"}


def test_feedback_that_cannot_be_read_is_counted() -> None:
    out = emitted(play(Teacher(feedback="no tags"), format_share=0.0))
    assert not out["sft_external"]
    assert out.refused["sft_external"] == {"feedback_unread": 3}
    assert len(out["dpo"]) == 3


def test_the_teachers_own_failures_at_the_hardest_version_are_rejected_sides_too() -> None:
    class Second(Teacher):
        def answer(self, ask: str) -> str:
            self.tried = [*getattr(self, "tried", []), ask]
            return WEAK if self.tried.count(ask) == 1 else super().answer(ask)

    result = alone(ScriptedBackend("teacher", Second()), Record.from_seed("how tides work"), format_share=0)
    pairs = emitted(result)["dpo"]
    assert [(p.rejected, p.difficulty) for p in pairs] == [(WEAK, 5)]


@pytest.mark.parametrize("levels", [[], [0], [6]])
def test_levels_that_do_not_exist_are_refused(levels: list[int]) -> None:
    with pytest.raises(ValueError, match="levels"):
        Options(levels=levels)


def test_a_misspelt_type_is_said_before_anything_is_asked() -> None:
    for options in (Options(format_types=["sports"]), Options(format_types=["lenght"])):
        with pytest.raises(UserError, match="neither a constraint type nor a family"):
            stages(options)
        with pytest.raises(UserError, match="neither a constraint type nor a family"):
            plan([], options, {"teacher"})
    with pytest.raises(ValueError, match="format_types"):
        Options(format_types=[])  # an empty list would mean every type there is


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_no_preset_climbs_by_the_order_of_its_stages(preset: str) -> None:
    """Table 4 compares conversations that climb with single turns that do not: bins would make both climb."""
    recipe = parse({"method": "conifer", "preset": preset, "models": {"teacher": {}}})
    assert bins_of(recipe).labels == ["all"]
    assert bins_of(recipe, "1-3,4-5").labels == ["easy", "hard"]  # it can be asked for


def test_the_preset_of_the_paper_sets_what_the_docs_say() -> None:
    options = parse({"method": "conifer", "preset": "paper", "models": {"teacher": {}}}).method_options()
    assert isinstance(options, Options)
    assert (options.reframed, options.answers, options.levels, options.feedback) == (3, 1, [1, 2, 3, 4, 5], "both")
    assert (options.query_characters, options.query_words, options.query_languages) == (200, 5, ["en"])
    assert (options.order, options.external) == ("easy_to_hard", "masked")
