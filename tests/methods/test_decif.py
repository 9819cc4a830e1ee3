"""DecIF, driven by a scripted teacher (named as such): what is dealt out, refined, judged, and let out."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.api import emit
from if_factory.chat.base import ChatRequest, Completion
from if_factory.chat.budget import Usage
from if_factory.chat.log import ResponseLog
from if_factory.chat.parse import Failure
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.verify import verify
from if_factory.emission import emit_sft
from if_factory.errors import UserError
from if_factory.files import dump_json
from if_factory.judge.verdicts import criterion
from if_factory.methods import base
from if_factory.methods.decif import METHOD, Options, inputs, plan, stages
from if_factory.methods.decif.consistency import nearly_in
from if_factory.methods.decif.ideas import read_list, without_cut_item
from if_factory.methods.decif.instructions import criteria_in, read_written
from if_factory.methods.decif.weaving import stated_by_code
from if_factory.pipeline.runner import run
from if_factory.recipe import parse
from if_factory.records import Candidate, Constraint, Outcome, Record, Verdict
from if_factory.similarity.dedup import near_duplicates
from tests.judge.judge_script import part
from tests.pipeline.scripted import ScriptedEndpoint
from tests.support.decif_teacher import kind, reply
from tests.support.models import scripted_client

# Types that the scripted answers obey or break by their sample alone.
EASY = ["punctuation:no_comma", "punctuation:no_question_mark", "digits:none"]


def teacher(**special):
    """The scripted teacher, but what a keyword names is answered by its function: ``judge=lambda request: ..``."""
    def say(request: ChatRequest) -> str | Completion:
        content = request.messages[-1]["content"]
        made = special.get(kind(content, request.schema))
        said = made(request) if made else None
        return reply(content, request.schema, request.sample) if said is None else said
    return say


def recipe(options=None, **rest):
    return parse({"method": "decif", "models": {"teacher": {}}, **rest,
                  "options": {"instructions": 8, "include": EASY, **(options or {})}})


def play(say=None, options=None, path=None, log=None, **rest):
    made = recipe(options, **rest)
    usage = Usage()
    models = {"teacher": scripted_client("teacher", say or teacher(), log=log, usage=usage)}
    opts = made.method_options()
    result = asyncio.run(run(stages(opts), inputs(path, opts, None), models, seed=0))
    result.ledger.check()
    return result, emit(made, result.records), usage


def reasons(result):
    return Counter((r.stage, r.reason) for r in result.dropped)


# ---------------------------------------------------------------- from nothing to rows


def test_from_nothing_to_rows_and_everything_emitted_passes_an_independent_check():
    result, emission, _ = play()
    assert len(result.records) == 8
    assert emission["sft"]
    assert emission["dpo"]
    for e in emission["sft"]:
        assert all(v.passed for v in verify(e.response, [c for c in e.constraints if c.kind == "code"]))
    for e in emission["dpo"]:
        assert e.violated
    assert {e.label for e in emission["kto"]} == {True, False}


def test_one_record_from_its_number_to_its_rows_keeps_its_id_and_all_it_went_through():
    options = recipe().method_options()
    started = {r.id: r for r in inputs(None, options, None)}
    result, emission, _ = play()
    assert [r.id for r in result.records] == list(started)
    for r in result.records:
        assert r.seed_prompt == started[r.id].seed_prompt == r.extra["domain"]
        assert {"number", "domain", "request", "scenario", "task"} <= set(r.extra)
        assert r.extra["task"] in r.prompt
    for e in emission["sft"]:
        assert e.record_id in started
        assert e.provenance["scenario"] in e.prompt


@pytest.mark.parametrize("variant", ["full", "small"])
def test_every_checkable_constraint_is_in_the_instruction_and_no_set_contradicts_itself(variant):
    """The scripted teacher weaves word for word; in the small variant the constraints are appended."""
    result, _, _ = play(options={"instructions": 60, "include": [], "responses": 1, "prompt_variant": variant})
    types = set()
    for r in result.records:
        drawn = [c for c in r.constraints if c.type != "judge:criterion"]
        assert r.difficulty == len(drawn) >= 1
        assert conflict(r.constraints) is None
        assert len({c.type for c in drawn}) == len(drawn)
        for c in drawn:
            assert " ".join(c.text.rstrip(".").lower()[1:].split()) in " ".join(r.prompt.lower().split())
        types |= {c.type for c in drawn}
    assert len(types) > 40  # the menu is richer than upstream's 30


def test_wild_instructions_have_no_drawn_constraint_and_are_still_judged():
    result, emission, _ = play(options={"wild_share": 1.0, "soft_share": 0.0})
    assert all(r.difficulty == 0 and r.extra["wild"] and r.prompt == r.extra["task"] for r in result.records)
    assert all({c.type for c in e.constraints} == {"judge:criterion"} for e in emission["sft"])


@pytest.mark.parametrize("preset", METHOD.presets)
def test_every_preset_runs(preset):
    options = {"domain_draws": 3, "domains_per_draw": 4, "requests_per_domain": 3, "scenarios_per_request": 2}
    result, emission, _ = play(options=options, preset=preset)
    assert len(result.records) == 8
    assert emission["sft"]


def test_the_same_bytes_whatever_the_order_of_answers():
    outcomes = set()
    for latency in range(4):
        endpoint = ScriptedEndpoint(latency, lambda r: reply(r.messages[-1]["content"], r.schema, r.sample))
        models = {"teacher": scripted_client("teacher", endpoint, concurrency=7)}
        options = recipe({"domain_draws": 2, "instructions": 20}).method_options()
        result = asyncio.run(run(stages(options), inputs(None, options, None), models, seed=0, window=5))
        outcomes.add(dump_json([r.model_dump(mode="json") for r in result.records]))
    assert len(outcomes) == 1


def test_a_longer_run_begins_with_the_rows_of_a_shorter_one():
    short, _, _ = play(options={"instructions": 5, "requests_per_domain": 3})
    long, _, _ = play(options={"instructions": 150, "requests_per_domain": 3})
    assert [r.prompt for r in long.records][:5] == [r.prompt for r in short.records]


# ---------------------------------------------------------------- ideas


def test_lists_are_asked_for_once_however_many_records_share_them(tmp_path):
    domains = tmp_path / "domains.jsonl"
    domains.write_text('{"domain": "Bees"}\n{"domain": "Ships"}\n{"domain": "ships!"}\n')
    options = {"instructions": 30, "requests_per_domain": 5, "scenarios_per_request": 3, "responses": 1}
    log = ResponseLog(tmp_path / "responses.jsonl")
    result, _, usage = play(options=options, path=domains, log=log)
    log.close()
    assert len(result.records) == 30
    assert usage.tally("requests", "teacher").requests == 2
    assert usage.tally("scenarios", "teacher").requests == 10
    assert {r.extra["domain"] for r in result.records} == {"Bees", "Ships"}
    assert len({r.extra["scenario"] for r in result.records}) == 30


@pytest.mark.parametrize("level", ["domain", "request", "scenario"])
def test_near_duplicates_of_domains_requests_and_scenarios_are_dealt_out_once(level):
    def noisy(request):
        """Every list of this level holds a theme of its own and, reworded a little, one that all lists share."""
        content = request.messages[-1]["content"]
        own = json.loads(reply(content, request.schema))["items"]
        shared = {"domain": "Bee Keeping", "request": "Plan a Long Walk",
                  "scenario": "A nurse in Oslo has to explain the new shift plan to her colleagues by Friday noon"}
        return json.dumps({"items": [shared[level] + "s", shared[level].upper(), *own]})

    say = teacher(**{f"{level}s": noisy})
    result, _, _ = play(say, {"instructions": 40, "domain_draws": 4, "domains_per_draw": 5, "responses": 1,
                              "requests_per_domain": 5, "scenarios_per_request": 5})
    used = list(dict.fromkeys(r.extra[level] for r in result.records))
    assert near_duplicates(used) == [None] * len(used)
    if level == "scenario":
        assert len(used) == len(result.records)


def test_when_every_scenario_repeats_another_the_rest_is_rejected_with_a_reason():
    same = json.dumps({"items": ["A baker in Cork needs a letter to her landlord about the broken oven today"]})
    result, _, _ = play(teacher(scenarios=lambda r: same), {"scenarios_per_request": 1})
    assert len(result.records) == 1
    assert reasons(result) == {("deal_scenarios", "no_distinct_scenario_left"): 7}


@pytest.mark.parametrize("text", [
    '{"items": ["plan a trip", "write a letter"]}', '["plan a trip", "write a letter"]',
    "Here are some:\n- plan a trip\n- write a letter", "1. Plan a trip.\n2. Write a letter.",
    "Sure!\n\n* **Plan a trip**\n* \"write a letter\"",
    '```json\n{"tasks": ["plan a trip", "write a letter"]}\n```',
    "<think>- no</think>\n- plan a trip\n- write a letter"])
def test_lists_are_read_however_they_are_written(text):
    assert read_list(text, level="request", count=5) == ["plan a trip", "write a letter"]


@pytest.mark.parametrize("text", ["", "I cannot help with that.", "{}", "- " + "word " * 30, '{"items": [1, 2]}'])
def test_what_is_no_list_is_a_failure_with_a_reason(text):
    assert isinstance(read_list(text, level="request", count=5), Failure)


@pytest.mark.parametrize("text", [
    '{"items": ["plan a trip", "write a letter", "compare two', '["plan a trip",\n "write a letter",\n "comp',
    "- plan a trip\n- write a letter\n- compare two"])
def test_the_item_that_the_token_limit_cut_is_no_item(text):
    cut = without_cut_item(Completion(text, finish_reason="length")).text
    assert read_list(cut, level="request", count=5) == ["plan a trip", "write a letter"]
    assert without_cut_item(Completion(text)).text == text


def test_what_only_repeats_the_question_is_no_answer():
    asked = "Area: Bees\nName 3 tasks, such as \"compare two hives\". {\"items\": [\"...\"]}"
    said = '{"items": ["Compare two hives.", "...", "write a label"]}'
    assert read_list(said, level="request", count=3, asked=asked) == ["write a label"]
    assert read_written('{"task": "Compare two hives."}', 0, asked).reason == "echo"
    assert read_written('{"task": "Compare my two hives."}', 0, asked).task == "Compare my two hives."


@given(st.text())
def test_no_reply_can_break_the_parsers(text):
    for parsed in (read_list(text, level="scenario", count=3), read_written(text, 2)):
        assert parsed


def test_domain_files_are_checked_with_file_row_and_field(tmp_path):
    bad = tmp_path / "d.jsonl"
    bad.write_text('{"domain": "Bees"}\n{"name": "Ships"}\n')
    with pytest.raises(UserError, match=r"d.jsonl:2: field 'domain'"):
        inputs(bad, Options(), None)
    assert len(list(inputs(None, Options(instructions=50), 7))) == 7
    with pytest.raises(UserError, match="scenarios"):
        inputs(None, Options(instructions=10**6), None)


# ---------------------------------------------------------------- faults


@pytest.mark.parametrize("what", ["requests", "scenarios", "instruction", "consistency", "criteria"])
@pytest.mark.parametrize("garbage", ["", "I'm sorry, but no.", "{", '{"items": []}', "null", "[[1]]"])
def test_garbage_costs_bounded_calls_and_is_counted_and_nothing_is_emitted(what, garbage):
    result, emission, usage = play(teacher(**{what: lambda r: garbage}), {"instructions": 2, "tries": 2})
    assert not result.records
    assert all(stage == what for stage, _ in reasons(result))
    assert usage.tally(what, "teacher").requests <= 2 * (2 + (what == "criteria"))
    assert not emission.datasets


def test_a_reply_that_can_be_read_at_the_second_try_costs_one_more_request():
    result, _, usage = play(teacher(instruction=lambda r: "What?" if r.sample == 0 else None))
    assert len(result.records) == 8
    assert usage.tally("instruction", "teacher").requests == 16


@pytest.mark.parametrize("judged", ["", "yes to all", '{"1": {"reason": "", "satisfied": true}}',
                                    '{"1": true, "1": true, "2": true}'])
def test_missing_and_half_verdicts_never_pass_and_never_fail(judged):
    result, emission, _ = play(teacher(judge=lambda r: judged), {"tries": 2, "soft_share": 0.0})
    assert len(result.records) == 8
    assert not emission["sft"]
    assert not emission["dpo"]
    assert all(not e.label for e in emission["kto"])  # what fails by code, and only that
    assert emission.refused["sft"]["no_verdict"] == 8


def test_one_criterion_that_fails_keeps_the_response_out_and_makes_it_a_rejected_side():
    def strict_on_the_first(request):
        numbers = list(request.schema["properties"])
        fails = "Here, then" not in request.messages[-1]["content"] and request.sample == 0
        return json.dumps({n: {"reason": "seen", "satisfied": not (fails and n == numbers[-1])} for n in numbers})

    options = {"include": ["digits:none"], "soft_share": 0.0, "responses": 2, "constraint_weights": [1]}
    result, emission, _ = play(teacher(judge=strict_on_the_first), options)
    assert len(emission["sft"]) == len(emission["dpo"]) == 8
    for e in emission["dpo"]:
        assert e.chosen.startswith("Here, then")
        assert e.rejected.startswith("here is")
        assert e.constraints[e.violated[0]].type == "judge:criterion"
    assert result.records[0].candidates[0].verdicts[-1].reason == "seen"


def test_what_fails_by_code_is_not_shown_to_the_judge_and_truncated_answers_neither():
    seen = []

    def watched(request):
        seen.append(request.messages[-1]["content"])

    def cut(request):
        return Completion("so much to", finish_reason="length") if request.sample == 2 else None

    _, emission, _ = play(teacher(judge=watched, respond=cut),
                          {"include": ["punctuation:no_comma"], "soft_share": 0.0, "responses": 4})
    assert len(seen) == 8  # of 32 responses: half have commas, one is cut off, one is left
    assert not any("Here, then" in text or "so much to" in text for text in seen)
    assert len(emission["sft"]) == 8


def test_the_judge_is_asked_at_temperature_0():
    seen = set()

    def watched(request):
        seen.add(request.temperature)

    play(teacher(judge=watched, consistency=watched))
    assert seen == {0.0}


# ---------------------------------------------------------------- consistency


def contradicts(request):
    """The judge names the request's first and last words as two parts that exclude each other."""
    words = part(request.messages[-1]["content"], "REQUEST").split()
    return json.dumps({"first": " ".join(words[:2]), "second": " ".join(words[-2:]), "possible": False})


def test_a_contradictory_instruction_is_refined_once_judged_again_and_keeps_what_it_was():
    refined = json.dumps({"task": "Write a short letter.", "drop": [1]})
    say = teacher(consistency=lambda r: None if "Write a short letter." in r.messages[-1]["content"] else
                  contradicts(r), refine=lambda r: refined)
    result, _, usage = play(say, {"constraint_weights": [0, 1], "soft_share": 0.0})
    assert usage.tally("consistency", "teacher").requests <= 3 * 8
    for r in result.records:
        assert r.prompt.startswith("Write a short letter.")
        assert r.difficulty == 1 == sum(c.kind == "code" for c in r.constraints)
        (because,) = r.extra["refined_because"]
        assert re.fullmatch(r'"Help me:?.*" and ".+" exclude each other\.', because)
        assert r.extra["task_before_refinement"].startswith("Help me")


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_an_instruction_that_stays_contradictory_is_rejected_after_a_bounded_number_of_refinements(rounds):
    result, _, usage = play(teacher(consistency=contradicts), {"refinements": rounds})
    assert reasons(result) == {("consistency", "contradictory"): 8}
    assert usage.tally("consistency", "teacher").requests == 8 * (2 * rounds + 1)


def test_a_refined_task_may_not_take_over_the_words_of_the_question():
    """Seen of a 1.5B model: "Write a budget. Find the two parts of the request that are hardest to do together.\""""
    task = "Write a budget. Rewrite the task so that it is compatible with the requirements."
    result, _, _ = play(teacher(consistency=contradicts, refine=lambda r: json.dumps({"task": task, "drop": []})),
                        {"prompt_variant": "small", "tries": 2})
    assert reasons(result) == {("consistency", "refinement_echo"): 8}


def test_a_refinement_may_not_drop_every_constraint():
    result, _, _ = play(teacher(consistency=contradicts,
                                refine=lambda r: json.dumps({"task": "Anything.", "drop": list(range(1, 9))})))
    assert reasons(result) == {("consistency", "refined_to_nothing"): 8}


@pytest.mark.parametrize(("first", "second"), [
    ("exactly 50 words", "at least 100"), ("", ""), ("...", "..."), ("Help me", "Help me"),
    ("Help me", "help ME."), ("the two parts of the request that are hardest to do together", "Help me")])
def test_a_contradiction_between_parts_that_the_request_does_not_have_is_none_that_anybody_saw(first, second):
    """Seen of a 1.5B judge: it gave the reason that stood in the prompt as an example; 4 of 6 were rejected."""
    said = json.dumps({"first": first, "second": second, "possible": False})
    result, _, usage = play(teacher(consistency=lambda r: said, stated=lambda r: verdicts(r, False)), {"tries": 2})
    assert len(result.records) == 8
    assert all(len(r.extra["unfounded"]) == 1 and not r.extra["refined_because"] for r in result.records)
    assert usage.tally("consistency", "teacher").requests <= 16


def verdicts(request, satisfied):
    return json.dumps({n: {"reason": "scripted", "satisfied": satisfied} for n in request.schema["properties"]})


@pytest.mark.parametrize("confirmed", [True, False])
def test_parts_in_the_judges_own_words_count_if_a_second_question_finds_them_in_the_request(confirmed):
    parts = ["a text that is very short", "every detail of the whole story", "no more than one sentence"]
    said = json.dumps({"analysis": "All three limit each other.", "parts": parts, "possible": False})
    asked = []

    def settle(request):
        asked.append(re.findall(r"^\d+\. (.*)$", request.messages[-1]["content"], re.M))
        return verdicts(request, confirmed)

    result, _, _ = play(teacher(consistency=lambda r: said, stated=settle), {"refinements": 0})
    assert asked == [parts] * 8
    assert len(result.records) == (0 if confirmed else 8)
    assert {r.detail for r in result.dropped} == ({
        '"a text that is very short", "every detail of the whole story" and "no more than one sentence" exclude each '
        "other."} if confirmed else set())


def test_what_is_quoted_with_small_changes_is_found_without_a_second_question():
    request = "Please write a letter to my landlord. It must have exactly 50 words, and do not use the word oven."
    for part_, found in [("write a letter to the landlord", True), ("It must have exactly 50 words.", True),
                         ("it must have exactly 60 words", False), ("a poem about the sea", False)]:
        assert nearly_in(part_, request) is found


@pytest.mark.parametrize("said", ["Does the answer ...?", "Is the answer...?", "Does the answer [Yes] …?"])
def test_a_question_that_is_the_prompts_own_form_is_no_criterion(said):
    result, _, _ = play(teacher(criteria=lambda r: json.dumps({"items": [said]})), {"tries": 1})
    assert reasons(result) == {("criteria", "criteria_no_question"): 8}


@pytest.mark.parametrize("variant", ["full", "small"])
def test_a_refined_instruction_states_its_constraints_once_whether_or_not_the_teacher_repeats_them(variant):
    def copies(request):
        first, *_ = re.findall(r"^\d+\. (.*)$", request.messages[-1]["content"], re.MULTILINE)
        key = "task" if variant == "small" else "instruction"
        return json.dumps({key: f"Write a short letter. {first}", "drop": []})

    say = teacher(consistency=lambda r: contradicts(r) if "Help me" in r.messages[-1]["content"] else None,
                  refine=copies, stated=lambda r: verdicts(r, False))
    result, _, _ = play(say, {"soft_share": 0.0, "constraint_weights": [0, 1], "prompt_variant": variant})
    assert len(result.records) == 8
    for r in result.records:
        drawn = [c for c in r.constraints if c.kind == "code"]
        assert len(drawn) == 2
        assert all(r.prompt.lower().count(c.text.rstrip(".").lower()) == 1 for c in drawn)


# ---------------------------------------------------------------- weaving

ONE = {"constraint_weights": [1], "soft_share": 0.0, "include": ["keywords:frequency"]}


def instructs(text):
    """The teacher writes this, whatever it was to demand."""
    return lambda request: json.dumps({"instruction": text, "requirements": dict.fromkeys(
        request.schema["properties"].get("requirements", {"properties": {}})["properties"], "Be kind to the reader.")})


def test_an_instruction_may_state_a_constraint_in_its_own_words_and_a_judge_finds_it():
    text = "Write a letter for me, and as he loves it so, let him read \"{}\" {} times or more."
    asked = []

    def weave(request):
        demand = request.messages[-1]["content"].partition("of the answer:\n- ")[2].partition("\n")[0]
        keyword = re.search(r"[\"']([^\"']+)[\"']", demand)
        return json.dumps({"instruction": text.format(keyword[1], re.search(r"\d+", demand)[0])})

    def watched(request):
        asked.append(request)

    result, emission, _ = play(teacher(instruction=weave, stated=watched), ONE)
    assert {r.prompt.partition("let him")[0] for r in result.records} == {text.partition("let him")[0]}
    assert all(r.prompt == r.extra["task"] and r.extra["stated"] == ["judge"] for r in result.records)
    assert all(r.constraints[0].text in q.messages[-1]["content"] for r, q in zip(result.records, asked, strict=True))
    assert {q.temperature for q in asked} == {0.0}
    assert "constraints" not in emission.counts()


def test_a_constraint_that_is_missing_is_asked_for_again_and_then_found():
    result, emission, usage = play(teacher(instruction=instructs("Write a letter for me.")), ONE)
    assert usage.tally("instruction", "teacher").requests == 16  # no judge where the keyword is not there at all
    assert all(r.extra["stated"] == ["code"] and r.prompt == r.extra["task"] for r in result.records)
    assert not any("Write a letter for me." in r.prompt for r in result.records)
    assert "constraints" not in emission.counts()


@pytest.mark.parametrize("rewritten", ["Write a long letter for me.", "", None])
def test_what_is_missing_in_the_second_version_too_is_appended_that_constraint_only_and_counted(rewritten):
    """Two constraints; the teacher states one of them in words that the judge accepts, and never the other."""
    base = "Write a letter for me, please, and leave all commas out."
    say = teacher(instruction=instructs(base), stated=lambda r: verdicts(r, True),
                  weave=lambda r: "?" if rewritten is None else json.dumps({"rewritten": rewritten}))
    result, emission, _ = play(say, {"constraint_weights": [0, 1], "soft_share": 0.0,
                                     "include": ["punctuation:no_comma", "keywords:frequency"]})
    assert len(result.records) == 8
    for r in result.records:
        code = [c for c in r.constraints if c.kind == "code"]
        how = dict(zip([c.type for c in code], r.extra["stated"], strict=True))
        assert how == {"punctuation:no_comma": "judge", "keywords:frequency": "appended"}
        keyword, comma = sorted(code, key=lambda c: c.type)
        assert r.prompt.startswith(base)
        assert keyword.text.rstrip(".").lower()[1:] in r.prompt.lower()
        assert comma.text.lower()[1:] not in r.prompt.lower()
    assert emission.counts()["constraints"]["refused"] == {"appended_not_woven": 8}


def test_a_judge_that_cannot_be_read_finds_nothing_and_no_record_is_lost_by_it():
    result, emission, _ = play(teacher(instruction=instructs("Write a letter, no commas in it."),
                                       stated=lambda r: "Surely.", weave=lambda r: "?"),
                               {"constraint_weights": [1], "soft_share": 0.0, "include": ["punctuation:no_comma"]})
    assert [r.extra["stated"] for r in result.records] == [["appended"]] * 8
    assert emission.counts()["constraints"]["refused"] == {"appended_not_woven": 8}


@pytest.mark.parametrize(("kwargs", "instruction", "found"), [
    ({"keyword": "gasoline"}, "Use the word \"gasoline\" at least 3 times, please.", True),
    ({"keyword": "gasoline"}, "Say “gasoline” three times or more.", None),
    ({"keyword": "gasoline", "relation": "at least"}, "Say GASOLINE three times.", None),
    ({"keyword": "gasoline"}, "Use the word petrol at least 3 times.", False),
    ({"keyword": "gasoline"}, "Use the word \"gasoline\" at least 30 times.", None)])
def test_code_decides_what_it_can_read_and_leaves_the_rest_to_a_judge(kwargs, instruction, found):
    constraint = Constraint(type="keywords:frequency", kwargs={"frequency": 3, **kwargs},
                            text="Use the word \"gasoline\" at least 3 times.")
    assert stated_by_code(constraint, instruction) is found


def test_an_instruction_may_be_as_long_as_its_task_and_a_small_teachers_task_may_not():
    long = "Help me with this. " + "Here are my notes from the meeting. " * 60
    say = teacher(instruction=lambda r: json.dumps({"instruction": long}), refine=lambda r: None)
    full, _, _ = play(say, {"wild_share": 1.0, "soft_share": 0.0})
    assert [r.prompt for r in full.records] == [long.strip()] * 8
    small, _, _ = play(say, {"wild_share": 1.0, "soft_share": 0.0, "prompt_variant": "small"})
    assert reasons(small) == {("instruction", "instruction_task_too_long"): 8}


def test_a_soft_constraint_that_the_teacher_never_words_is_left_out_and_the_rest_goes_on():
    def forgets(request):
        made = json.loads(reply(request.messages[-1]["content"], request.schema))
        return json.dumps({**made, "requirements": {}})

    result, emission, _ = play(teacher(instruction=forgets), {
        "constraint_weights": [0, 1], "soft_share": 0.5, "include": ["punctuation:no_comma"]})
    assert len(result.records) == 8
    assert all(r.difficulty == 1 and len(r.extra["unworded"]) == 1 for r in result.records)
    assert emission.counts()["constraints"]["refused"] == {"never_worded": 8}
    nothing, _, _ = play(teacher(instruction=forgets), {"constraint_weights": [1], "soft_share": 1.0})
    assert reasons(nothing) == {("instruction", "instruction_missing_requirement"): 8}


# ---------------------------------------------------------------- criteria and filters


def test_many_criteria_are_judged_in_groups_and_the_small_variant_judges_them_at_once():
    said = [f"Does the answer mention {word}?" for word in ("figs", "tea", "rain", "salt", "wool", "soap", "rope")]
    counts = {}
    for variant in ("full", "small"):
        options = {"max_criteria": 7, "responses": 1, "soft_share": 0.0, "prompt_variant": variant}
        _, emission, usage = play(teacher(criteria=lambda r: json.dumps({"items": said})), options)
        counts[variant] = usage.tally("judge", "teacher").requests
        planned = next(c for c in plan([Record.from_seed("x", extra={"domain": "d"})] * 8, Options(**options),
                                       {"teacher"}) if c.stage == "judge")
        assert counts[variant] <= planned.high
        assert emission["sft"]
    assert counts["full"] == 2 * counts["small"]


@given(st.lists(st.tuples(st.sampled_from(["Is it short", "Is it in Welsh", "Does it name 3 cats", "Note"]),
                          st.sampled_from(["?", ":", ".", ""]))))
def test_questions_are_criteria_each_once_and_in_order_and_headings_and_remarks_are_none(pairs):
    lines = [a + b for a, b in pairs]
    assert criteria_in(lines) == list(dict.fromkeys(line for line in lines if line.endswith("?")))


@pytest.mark.parametrize(("line", "taken"), [
    ("The answer names a harbour.", True), ("It must be written in the past tense", True),
    ("Answer is polite and short.", True), ("回答は丁寧ですか？", True),
    ("Here is what the answer must do:", False), ("Here is what it must do.", False),
    ("I should mention a harbour.", False), ("Sure, the answer must be short.", False), ("Answer: yes", False),
    ("The response:", False), ("Politeness and brevity.", False)])
def test_a_statement_of_what_the_answer_does_is_a_criterion_and_a_remark_is_none(line, taken):
    assert criteria_in([line]) == ([line] if taken else [])


def test_criteria_that_are_statements_are_judged_as_such_and_counted():
    said = ["The answer names a harbour.", "It must be short enough."]
    result, emission, usage = play(teacher(criteria=lambda r: json.dumps({"items": said})))
    assert len(result.records) == 8
    assert usage.tally("criteria", "teacher").requests == 8, "no second question is needed"
    assert all([c.text for c in r.constraints][-2:] == said for r in result.records)
    assert emission.counts()["constraints"]["refused"]["criteria_as_statements"] == 16
    assert emission["sft"]


def test_criteria_that_are_neither_are_turned_into_questions_by_a_second_question_and_counted():
    def notes_first(request):
        asked = request.messages[-1]["content"]
        if "they are not questions" not in asked:
            return json.dumps({"items": ["Politeness and brevity.", "A harbour, by name."]})
        assert "- Politeness and brevity." in asked
        return json.dumps({"items": ["Is the answer polite and brief?"]})

    result, emission, usage = play(teacher(criteria=notes_first), {"tries": 2})
    assert len(result.records) == 8
    assert usage.tally("criteria", "teacher").requests == 8 * 3
    assert all(r.constraints[-1].text == "Is the answer polite and brief?" for r in result.records)
    assert emission.counts()["constraints"]["refused"]["criteria_reworded"] == 8
    planned = [c for c in plan(result.records, Options(tries=2), {"teacher"}) if c.stage == "criteria"]
    assert planned[0].high == 8 * 3


@given(st.integers(1, 5), st.lists(st.sampled_from("1234567"), max_size=8, unique=True))
def test_requirements_are_tied_to_aspects_by_number_and_none_may_be_missing(soft, numbers):
    said = json.dumps({"task": "Do it now.", "requirements": {n: f"requirement {n}" for n in numbers}})
    read = read_written(said, soft)
    wanted = [str(i) for i in range(1, soft + 1)]
    if set(wanted) <= set(numbers):
        assert list(read.requirements.items()) == [(n, f"requirement {n}") for n in wanted]
    else:
        assert read.reason == "missing_requirement"


def judged_elsewhere(row):
    """A row of upstream's judged files as a record: results count only if there is exactly one per criterion."""
    criteria = criteria_in(row["criteria"])
    outcomes = {"YES": Outcome.PASS, "NO": Outcome.FAIL}
    results = [outcomes.get(result, Outcome.NO_VERDICT) for result in row["evaluation_results"]]
    if len(results) != len(criteria) or not criteria:
        results = [Outcome.NO_VERDICT] * max(1, len(criteria))
    constraints = [criterion(question) for question in criteria or ["(none was written)"]]
    record = Record.from_seed(row["refined_instruction"]).child(row["refined_instruction"], constraints, 1)
    return record.with_candidates(Candidate(text=row["response"], source="upstream",
                                            verdicts=tuple(Verdict(outcome=o) for o in results)))


@given(st.lists(st.sampled_from(["YES", "NO", "maybe"]), max_size=6), st.integers(0, 5))
def test_the_strict_filter_keeps_a_row_only_if_every_criterion_has_its_yes(results, criteria):
    row = {"refined_instruction": "Say hi.", "response": "Hi.", "evaluation_results": results,
           "criteria": ["Here are the questions:", *(f"Is it {i}?" for i in range(criteria))]}
    record = judged_elsewhere(row)
    kept = hasattr(emit_sft(record, record.candidates[0]), "response")
    assert kept == (criteria > 0 and results == ["YES"] * criteria)


@pytest.mark.parametrize(("name", "kept"), [("j_fixed.json", [0, 4]), ("edge.json", [3])])
def test_of_upstreams_judged_rows_exactly_those_with_a_yes_for_every_criterion_pass(shared, name, kept):
    rows = json.loads((shared / "data" / "decif" / name).read_text())
    records = [judged_elsewhere(row) for row in rows]
    out = [emit_sft(r, r.candidates[0]) for r in records]
    assert [i for i, e in enumerate(out) if hasattr(e, "response")] == kept


def verdict_on(numbers, failing):
    return json.dumps({n: {"reason": "seen", "satisfied": int(n) > failing} for n in numbers})


@pytest.mark.parametrize(("share", "passes"), [(0.6, True), (2 / 3, True), (0.7, False), (1.0, False)])
def test_the_soft_filter_says_what_share_holds_and_never_what_does_not(share, passes):
    say = teacher(judge=lambda r: verdict_on(r.schema["properties"], 1))  # one of three criteria fails
    options = {"soft_share": 0.0, "filter": "soft", "soft_pass": share}
    _, emission, _ = play(say, options)
    assert bool(emission["sft"]) == passes
    for e in emission["sft"]:
        assert [c.type for c in e.constraints if c.kind == "judge"] == ["judge:share"]
        assert len(e.constraints[-1].kwargs["of"]) == 3
    assert not play(say, {"soft_share": 0.0})[1]["sft"]


def test_under_the_soft_filter_half_verdicts_do_not_pass_either():
    half = teacher(judge=lambda r: '{"1": {"reason": "", "satisfied": true}}')
    assert not play(half, {"filter": "soft", "soft_pass": 0.1, "tries": 1, "soft_share": 0.0})[1]["sft"]


# ---------------------------------------------------------------- plan


def test_the_plan_bounds_the_calls_that_are_made(tmp_path):
    options = {"instructions": 40, "domain_draws": 3, "domains_per_draw": 4, "requests_per_domain": 3,
               "scenarios_per_request": 5}
    made = recipe(options).method_options()
    planned = plan(list(inputs(None, made, None)), made, {"teacher"})
    log = ResponseLog(tmp_path / "log.jsonl")
    _, _, usage = play(options=options, log=log)
    log.close()
    for stage in {c.stage for c in planned}:
        calls = [c for c in planned if c.stage == stage]
        asked = usage.tally(stage, "teacher").requests
        assert sum(c.low for c in calls) <= asked <= sum(c.high for c in calls), stage


def test_unknown_names_and_options_show_in_the_plan():
    for bad in ({"include": ["nope"]}, {"soft_exclude": ["nope"]}):
        with pytest.raises(UserError, match="nope"):
            plan([], Options(**bad), {"teacher"})
    with pytest.raises(UserError, match="weight"):
        recipe({"constraint_weights": [0, 0]})
    with pytest.raises(UserError, match="nobody"):
        recipe({"responses": 0})
    assert base.get_method("decif") is METHOD
