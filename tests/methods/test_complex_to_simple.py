"""From Complex to Simple, driven by scripted models (named as such): what is accepted, kept, and emitted."""

import asyncio
import re

import pytest

from if_factory.api import emit
from if_factory.chat.base import ChatRequest, RequestFailed
from if_factory.chat.budget import Usage
from if_factory.constraints.verify import verify
from if_factory.methods import base
from if_factory.methods.complex_to_simple import METHOD, Options, stages
from if_factory.pipeline.runner import run
from if_factory.recipe import parse
from if_factory.records import Constraint, Record
from tests.support.models import scripted_client

LOWER = Constraint(type="change_case:english_lowercase", text="Use lower case only.")
NO_COMMA = Constraint(type="punctuation:no_comma", text="Use no commas.")
QUOTED = Constraint(type="startend:quotation", text="Wrap the answer in double quotes.")
BAD = "Hello, I am a friendly assistant, and I like long walks on the beach in the evening."


def record(*constraints: Constraint, prompt: str = "Introduce yourself.") -> Record:
    seed = Record.from_seed(prompt, method="complex_to_simple")
    return seed.child(prompt + " " + " ".join(c.text for c in constraints), constraints, len(constraints))


def play(records, options=None, **roles):
    """Run the method on records with one scripted answer function per role."""
    usage = Usage()
    models = {role: scripted_client(role, answer, usage=usage)
              for role, answer in roles.items()}
    options = Options(**(options or {"student_samples": 1}))
    return asyncio.run(run(stages(options), records, models, seed=0)), usage


def draft_of(request: ChatRequest) -> str:
    return re.search(r"<draft>\n(.*?)\n</draft>", request.messages[-1]["content"], re.S)[1]


def good_teacher(request: ChatRequest) -> str:
    """Mends exactly the constraint it is asked about."""
    ask, draft = request.messages[-1]["content"], draft_of(request)
    missed = ask.split("## The requirement it misses\n")[1].split("\n")[0]
    mended = {LOWER.text: draft.lower(), NO_COMMA.text: draft.replace(",", ""), QUOTED.text: f'"{draft}"'}[missed]
    return f"Here you are.\n<revised>{mended}</revised>"


def recipe(**options):
    return parse({"models": {"student": {}}, "options": options})


def test_a_good_teacher_corrects_one_constraint_at_a_time_until_all_hold():
    result, usage = play([record(LOWER, NO_COMMA, QUOTED)], student=lambda r: BAD, teacher=good_teacher)
    chain = [c for c in result.records[0].candidates if c.source == "discrimination"]
    assert [len(c.failed_positions) for c in chain] == [2, 1, 0]
    assert usage.tally("correct", "teacher").requests == 3


def test_a_revision_that_breaks_what_held_is_never_taken_over():
    def careless(request):  # lower case as asked, but with new commas
        return f"<revised>{draft_of(request).lower()}, really</revised>"

    result, _ = play([record(LOWER, NO_COMMA)], student=lambda r: BAD.replace(",", ""), teacher=careless)
    sources = [c.source for c in result.records[0].candidates]
    assert "discrimination" not in sources
    assert "discarded_revision" in sources
    assert not emit(recipe(), result.records)["sft"]


@pytest.mark.parametrize("answer", ["I cannot do that.", "<revised></revised>", "", f"<revised>{BAD}</revised>"])
def test_a_teacher_that_answers_garbage_costs_bounded_calls_and_emits_nothing(answer):
    result, usage = play([record(LOWER, NO_COMMA)], {"student_samples": 1, "correction_rounds": 2,
                                                      "correction_tries": 3},
                         student=lambda r: BAD, teacher=lambda r: answer)
    assert usage.tally("correct", "teacher").requests <= 2 * 2 * 3
    emission = emit(recipe(), result.records)
    assert emission["sft"] == emission["dpo"] == []
    assert emission.refused["sft"] == {"no_verified_answer": 1}


def test_an_answer_that_needs_no_correction_is_emitted_and_the_teacher_is_not_asked():
    result, usage = play([record(NO_COMMA)], student=lambda r: "Hello there friend.", teacher=good_teacher)
    assert usage.tally("correct", "teacher").requests == 0
    assert [e.response for e in emit(recipe(), result.records)["sft"]] == ["Hello there friend."]
    refused = emit(recipe(sft_uncorrected=False), result.records)
    assert not refused["sft"]
    assert refused.refused["sft"] == {"needed_no_correction": 1}


def test_best_of_n_without_a_teacher_pairs_a_verified_sample_with_a_failing_one():
    answers = [BAD, "I am a baker who walks to the beach every evening with a dog and a friend of mine.",
               "A baker, a swimmer."]
    result, _ = play([record(NO_COMMA)], {"student_samples": 3}, student=lambda r: answers[r.sample])
    emission = emit(recipe(pairs_per_prompt=5), result.records)
    assert [(e.chosen, e.rejected) for e in emission["dpo"]] == [(answers[1], BAD), (answers[1], answers[2])]
    assert {(e.response, e.label) for e in emission["kto"]} == {(a, a == answers[1]) for a in answers}
    assert all(e.violated == (0,) for e in emission["dpo"])


def test_pairs_per_prompt_bounds_the_pairs_and_the_nearest_failure_comes_first():
    good = "we walk along the beach in the evening and look at the waves"
    answers = [good, good.title().replace("And", ","), good.replace("and", ",")]
    result, _ = play([record(NO_COMMA, LOWER)], {"student_samples": 3}, student=lambda r: answers[r.sample])
    pairs = emit(recipe(pairs_per_prompt=1), result.records)["dpo"]
    assert [(e.chosen, e.rejected) for e in pairs] == [(good, answers[2])]


def test_pairs_from_corrections_have_one_chosen_and_the_text_before_each_correction():
    result, _ = play([record(LOWER, NO_COMMA, QUOTED)], student=lambda r: BAD, teacher=good_teacher)
    pairs = emit(recipe(rejected_from="corrections", pairs_per_prompt=6), result.records)["dpo"]
    assert len(pairs) == 3
    assert len({p.chosen for p in pairs}) == 1
    assert {len(p.violated) for p in pairs} == {1, 2, 3}


def test_a_truncated_answer_is_counted_and_not_emitted():
    from if_factory.chat.base import Completion

    result, _ = play([record(NO_COMMA)], student=lambda r: Completion(text="no end to", finish_reason="length"))
    emission = emit(recipe(), result.records)
    assert emission["sft"] == emission["kto"] == []
    assert emission.refused["sft"] == {"truncated": 1}


def test_contradictory_constraints_of_an_input_row_are_rejected_with_a_reason():
    result, _ = play([record(Constraint(type="keywords:existence", kwargs={"keywords": ["cat"]}),
                             Constraint(type="keywords:forbidden_words", kwargs={"forbidden_words": ["cat"]}))],
                     student=lambda r: BAD)
    assert [r.reason for r in result.dropped] == ["unsatisfiable_constraints"]


def test_a_lost_request_rejects_its_record_and_no_other():
    def half(request):
        return RequestFailed("http_400") if "one" in request.messages[-1]["content"] else "fine answer"

    result, _ = play([record(NO_COMMA, prompt="Say one."), record(NO_COMMA, prompt="Say two.")], student=half)
    assert len(result.records) == 1
    assert len(result.dropped) == 1
    result.ledger.check()


def test_stored_verdicts_are_not_trusted_at_emission():
    result, _ = play([record(NO_COMMA)], student=lambda r: "all good here")
    forged = result.records[0].candidates[0].model_copy(update={"text": "bad, bad"})
    assert not emit(recipe(), [result.records[0].model_copy(update={"candidates": (forged,)})])["sft"]


def test_a_users_own_prompt_template_takes_the_place_of_ours(tmp_path):
    (tmp_path / "correct.jinja").write_text("MINE: {{ violated }}")
    seen = []
    play([record(NO_COMMA)], {"student_samples": 1, "correction_tries": 1, "prompts": str(tmp_path)},
         student=lambda r: BAD, teacher=lambda r: seen.append(r.messages[-1]["content"]) or "<revised>x</revised>")
    assert seen == ["MINE: Use no commas."]


def test_composed_prompts_hold_the_seed_and_say_every_constraint():
    seeds = [Record.from_seed(f"Describe a bicycle number {i}.") for i in range(30)]
    result, _ = play(seeds, {"min_constraints": 1, "max_constraints": 5, "prompts_per_seed": 2,
                             "student_samples": 1}, student=lambda r: BAD)
    assert len(result.records) == 60
    for r in result.records:
        assert 1 <= len(r.constraints) <= 5
        assert r.difficulty == len(r.constraints)
        assert r.seed_prompt in r.prompt
        for c in r.constraints:
            assert c.text.rstrip(".").lower()[1:] in r.prompt.lower()
        assert ".." not in r.prompt.replace("...", "")


@pytest.mark.parametrize("preset", METHOD.presets)
def test_every_preset_runs_and_everything_emitted_passes_an_independent_check(preset):
    seeds = [Record.from_seed(f"Tell me about river number {i}.") for i in range(20)]
    teacher = lambda r: ('{"keywords": ["water", "stream"]}' if "JSON" in r.messages[-1]["content"]  # noqa: E731
                         else BAD.lower() if "<draft>" not in r.messages[-1]["content"]
                         else f"<revised>{draft_of(r).lower().replace(',', '')}</revised>")
    made = parse({"preset": preset, "models": {"student": {}, "teacher": {}}})
    result, _ = play(seeds, made.method_options().model_dump(), student=lambda r: BAD, teacher=teacher)
    emission = emit(made, result.records)
    for e in emission["sft"]:
        assert all(v.passed for v in verify(e.response, e.constraints))
    for e in emission["dpo"]:
        assert all(v.passed for v in verify(e.chosen, e.constraints))
        assert any(v.failed for v in verify(e.rejected, e.constraints))


def test_the_plan_bounds_the_calls_that_are_made():
    options = Options(student_samples=2, teacher_samples=1, correction_rounds=2, correction_tries=2)
    seeds = [Record.from_seed(f"Say something about topic {i}.") for i in range(10)]
    planned = base.get_method("complex_to_simple").plan(seeds, options, {"student", "teacher"})
    _, usage = play(seeds, options.model_dump(), student=lambda r: BAD, teacher=lambda r: "<revised>no</revised>")
    for call in planned:
        # equal requests of two prompts are asked once, so the low end is not exact here
        assert usage.tally(call.stage, call.role).requests <= call.high


def arm(*presets: str):
    """The records and rows of an arm: a student that always uses commas and capitals, a teacher that mends both."""
    def teacher(request: ChatRequest) -> str:
        ask = request.messages[-1]["content"]
        if "JSON" in ask:
            return '{"keywords": ["water"]}'
        mended = BAD.lower().replace(",", "")
        return f"<revised>{mended}</revised>" if "<draft>" in ask else mended

    made = parse({"preset": list(presets), "models": {"student": {}, "teacher": {}},
                  "options": {"include": ["change_case:english_lowercase", "punctuation:no_comma"],
                              "max_constraints": 2 if "single" not in presets else 1, "min_constraints": 1}})
    seeds = [Record.from_seed(f"Tell me about river number {i}.") for i in range(6)]
    result, usage = play(seeds, made.method_options().model_dump(), student=lambda r: BAD, teacher=teacher)
    return made, result, usage


def test_the_arms_of_the_papers_table_differ_in_who_answers_and_in_nothing_else():
    """Vanilla, generation, discrimination (SFT) and contrastive (DPO): the same prompts for the same seed."""
    prompts, rows = {}, {}
    for name in ("vanilla", "generation", "discrimination", "contrastive"):
        made, result, usage = arm(name)
        prompts[name] = [r.prompt for r in result.records]
        assert usage.tally("respond", "student").requests == (0 if name == "generation" else 6)
        emission = emit(made, result.records)
        rows[name] = {kind: len(emission[kind]) for kind in ("sft", "dpo", "kto")}
        assert made.training().stages == (("dpo",) if name == "contrastive" else ("sft",))
        assert made.training().bins == 1
    assert len({tuple(p) for p in prompts.values()}) == 1
    assert {kind: bool(n) for kind, n in rows["contrastive"].items()} == {"sft": False, "dpo": True, "kto": False}
    for name in ("generation", "discrimination"):
        assert rows[name]["sft"] > rows["vanilla"]["sft"] == 0, "the student's answers break every constraint"
        assert rows[name]["dpo"] == rows[name]["kto"] == 0


def test_single_and_composed_set_the_number_of_constraints_of_an_arm():
    for preset, span in (("single", (1, 1)), ("composed", (3, 5))):
        for name in ("vanilla", "generation", "discrimination", "contrastive"):
            made = parse({"preset": [name, preset], "models": {"student": {}, "teacher": {}}})
            assert (made.method_options().min_constraints, made.method_options().max_constraints) == span
            assert made.training().stages, "the arm's training stays"
    made, result, _ = arm("discrimination", "single")
    assert {len(r.constraints) for r in result.records} == {1}


def test_rules_correct_what_they_can_and_the_teacher_is_asked_for_the_rest():
    options = {"student_samples": 1, "correct_by_code": True}
    result, usage = play([record(NO_COMMA, QUOTED)], options, student=lambda r: BAD, teacher=good_teacher)
    assert usage.tally("correct", "teacher").requests == 0
    emission = emit(recipe(**options), result.records)
    fixed = f'"{BAD.replace(",", "")}"'
    assert [(e.response, e.provenance["source"]) for e in emission["sft"]] == [(fixed, "edited")]
    assert [(e.chosen, e.rejected) for e in emission["dpo"]] == [(fixed, BAD)]

    title = Constraint(type="detectable_format:title", text="Give a title in double angular brackets.")
    result, usage = play([record(NO_COMMA, title)], {**options, "correction_tries": 1, "correction_rounds": 1},
                         student=lambda r: BAD, teacher=lambda r: f"<revised>{draft_of(r).replace(',', '')}</revised>")
    assert usage.tally("correct", "teacher").requests == 2
    assert "edited" not in {c.source for c in result.records[0].candidates}


def test_a_refusal_without_its_comma_is_still_a_refusal():
    options = {"student_samples": 1, "correct_by_code": True}
    result, _ = play([record(NO_COMMA)], options, student=lambda r: "I'm sorry, but I cannot help with that.")
    emission = emit(recipe(**options), result.records)
    assert emission["sft"] == emission["dpo"] == []
    assert emission.refused["sft"] == {"refusal": 1}
