"""Step-by-Step Mastery, driven by scripted models (named as such): what wins, what is carried, what is emitted."""

import asyncio
import json
from collections import Counter

import pytest

from if_factory.api import emit
from if_factory.chat.base import ChatRequest, Completion
from if_factory.chat.budget import Usage
from if_factory.chat.log import ResponseLog
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.methods.soft_steps import METHOD, Options, stages
from if_factory.methods.soft_steps.constraints import step_prompts
from if_factory.pipeline.runner import run
from if_factory.recipe import parse
from if_factory.records import Constraint, Outcome, PreferenceExample, Record, Turn
from tests.judge.judge_script import part
from tests.pipeline.scripted import ScriptedEndpoint
from tests.support.models import scripted_client
from tests.support.soft_world import criteria_in, is_criteria, is_pair, is_write, number, reply, written

SEEDS = [Record.from_seed(f"Describe river number {i} to me.", method="soft_steps") for i in range(6)]


def question(request: ChatRequest) -> str:
    return request.messages[-1]["content"]


def world(*, answer=None, criterion=lambda response, text: True, pair=lambda first, second: "B", write=written):
    """A scripted teacher and judge: ``answer(prompt, sample)``, verdict per criterion, place that wins."""
    def say(request: ChatRequest) -> str:
        q = question(request)
        if is_write(q):
            made = write(q)
            return made if made.startswith("{") else json.dumps({"fits": True, "constraint": made})
        if is_criteria(q):
            return json.dumps({str(i): {"reason": "scripted", "satisfied": criterion(part(q, "RESPONSE"), text)}
                               for i, text in enumerate(criteria_in(q), 1)})
        if is_pair(q):
            winner = pair(part(q, "RESPONSE A"), part(q, "RESPONSE B"))
            return json.dumps({"reason": "scripted", "winner": winner})
        return answer(q, request.sample) if answer else f"answer {number(q) % 10**6}"
    return say


def play(records=SEEDS, options=None, preset="default", log=None, teacher=None, **roles):
    usage = Usage()
    models = {role: scripted_client(role, say, log=log, usage=usage)
              for role, say in {"teacher": teacher or world(), **roles}.items()}
    made = parse({"method": "soft_steps", "preset": preset, "models": {role: {} for role in models},
                  "options": options or {}})
    result = asyncio.run(run(stages(made.method_options()), records, models, seed=0))
    result.ledger.check()
    return result, emit(made, result.records), usage, models


def prefers(text_of):
    """A judge whose choice depends on the texts alone: the larger value of ``text_of`` wins."""
    return lambda first, second: "A" if text_of(first) > text_of(second) else "B"


def by_step(result) -> dict[str, list[Record]]:
    chains: dict[str, list[Record]] = {}
    for record in result.records:
        chains.setdefault(record.seed_prompt, []).append(record)
    return chains


ALL_SOFT = {"soft_share": 1.0, "steps": 3}


# ---------------------------------------------------------------- the chain


def test_every_instruction_is_the_one_before_it_and_one_constraint():
    result, _, _, _ = play([*SEEDS, Record.from_seed("Two lines:\n- a\n- b")], {"steps": 5})
    for chain in by_step(result).values():
        assert [r.difficulty for r in chain] == list(range(1, len(chain) + 1)) == [1, 2, 3, 4, 5]
        for before, after in zip([None, *chain], chain, strict=False):
            assert after.prompt.startswith(before.prompt if before else after.seed_prompt)
            assert after.constraints[:-1] == (before.constraints if before else ())
            added = after.prompt[len(before.prompt if before else after.seed_prompt):]
            assert after.constraints[-1].text.rstrip(".")[1:] in added
            assert ".." not in added.replace("...", "")


def test_a_request_to_be_repeated_stands_apart_from_what_is_added():
    repeat = Constraint(type="combination:repeat_prompt", kwargs={"prompt_to_repeat": "Say hi."}, text="Repeat it")
    assert step_prompts("Say hi.", [Constraint(type="x:y", text="be brief"), repeat]) == [
        "Say hi.\n\nBe brief.", "Say hi.\n\nBe brief. Repeat it."]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_the_share_of_soft_constraints_is_the_one_asked_for(share):
    seeds = [Record.from_seed(f"Describe river number {i}.") for i in range(60)]
    result, _, _, _ = play(seeds, {"steps": 4, "soft_share": share})
    kinds = Counter(c.kind for r in result.records if r.difficulty == 4 for c in r.constraints)
    assert kinds["judge"] / kinds.total() == pytest.approx(share, abs=0.05)


def test_the_writer_sees_everything_chosen_and_the_hard_constraints_to_come():
    seen = []
    result, _, _, _ = play(SEEDS[:1], {"steps": 4, "soft_share": 0.5},
                           teacher=world(write=lambda q: seen.append(q) or written(q)))
    whole = [c for c in result.records[-1].constraints if c.kind == "judge"]
    hard = [c.text for c in result.records[-1].constraints if c.kind == "code"]
    assert len(seen) == len(whole) == 2
    for i, asked in enumerate(seen):
        shown = [*hard, *(c.text for c in whole[:i])]
        assert all(f"- {text}\n" in asked for text in shown)


def test_a_contradicting_soft_constraint_is_replaced_by_one_of_another_aspect():
    tried = []

    def criterion(response, text):
        if "proposal" not in text:
            return True
        if response not in tried:
            tried.append(response)
        return tried.index(response) % 2 == 1  # every first try is inconsistent

    result, emission, _, _ = play(SEEDS[:1], ALL_SOFT, teacher=world(criterion=criterion))
    assert len(tried) == 6
    assert [c.text for c in result.records[-1].constraints] == tried[1::2]
    assert not any(reason.startswith("soft_constraint") for reason in emission.refused["dpo"])


@pytest.mark.parametrize(("write", "reason"), [
    (lambda q: '{"fits": false, "constraint": ""}', "soft_constraint_does_not_fit"),
    (lambda q: "{broken", "soft_constraint_wrong_json"), (lambda q: '{"fits": true}', "soft_constraint_empty"),
    (lambda q: '{"fits": true, "constraint": "..."}', "soft_constraint_empty"),
    (lambda q: "word " * 100, "soft_constraint_too_long"),
    # seen of a small teacher: what is no demand, the task's own sentence, and one of the instructions it was given
    (lambda q: "...I'm not sure about this one either.", "soft_constraint_no_demand"),
    (lambda q: "The new requirement is to create a document.", "soft_constraint_no_demand"),
    (lambda q: q.partition("<task>\n")[2].partition("\n</task>")[0].upper(), "soft_constraint_echo"),
    (lambda q: "Do not answer the task, do not change it", "soft_constraint_echo"),
    (lambda q: "Make sure that the answer suits this task and makes the answer better", "soft_constraint_echo")])
def test_a_constraint_that_cannot_be_written_costs_bounded_calls_and_is_counted(write, reason):
    result, emission, usage, _ = play(SEEDS[:2], {"steps": 2, "soft_share": 0.5, "soft_tries": 2},
                                      teacher=world(write=write))
    assert {len(chain) for chain in by_step(result).values()} == {1}
    assert usage.tally("constrain", "teacher").requests <= 2 * 2 * 3
    counted = {k: n for k, n in emission.refused["dpo"].items() if k.startswith("soft_constraint")}
    assert sum(counted.values()) == 2
    if reason != "soft_constraint_wrong_json":
        assert counted == {reason: 2}
    result, _, _, _ = play(SEEDS[:2], {"steps": 2, "soft_share": 1.0}, teacher=world(write=write))
    assert result.records == []
    assert all(r.reason.startswith("soft_constraint") for r in result.dropped)


def test_seeds_that_bring_constraints_are_rejected_with_a_reason():
    own = SEEDS[0].child("x", [Constraint(type="punctuation:no_comma")], 1)
    result, _, _, _ = play([own])
    assert [r.reason for r in result.dropped] == ["seed_has_constraints"]


# ---------------------------------------------------------------- who wins


def test_the_winner_is_carried_forward_and_no_answer_is_made_twice():
    best = {}  # per seed, the answer to I_1 is the best of all

    def value(text):
        return (text in best.values(), text)

    def answer(prompt, sample):
        text = f"answer {number(prompt) % 10**6}"
        seed = next(s.prompt for s in SEEDS if prompt.startswith(s.prompt))
        if prompt != seed and seed not in best:  # the shortest longer instruction is asked for first
            best[seed] = text
        return text

    result, emission, usage, models = play(options=ALL_SOFT, teacher=world(answer=answer, pair=prefers(value)))
    for chain in by_step(result).values():
        first = chain[0].candidates[1].text
        assert [r.candidates[0].text for r in chain[1:]] == [first, first]
        assert [r.extra["judgement"]["winner"] for r in chain] == [1, 0, 0]
    assert [e.chosen for e in emission["dpo"][:3]] == [emission["dpo"][0].chosen] * 3
    assert usage.tally("respond", "teacher").requests == len(SEEDS) * 4
    prompts = [q for q in map(question, models["teacher"].backend.requests)
               if not (is_write(q) or is_criteria(q) or is_pair(q))]
    assert len(prompts) == len(set(prompts)) == len(SEEDS) * 4


def test_the_judges_verdict_decides_which_side_is_chosen():
    old_is_better = world(pair=prefers(lambda text: number(text)))
    new_is_better = world(pair=prefers(lambda text: -number(text)))
    _, one, _, _ = play(options={"soft_share": 1.0, "steps": 1}, teacher=old_is_better)
    _, other, _, _ = play(options={"soft_share": 1.0, "steps": 1}, teacher=new_is_better)
    assert len(one["dpo"]) == len(other["dpo"]) == len(SEEDS)
    assert [(e.chosen, e.rejected) for e in one["dpo"]] == [(e.rejected, e.chosen) for e in other["dpo"]]


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_with_position_bias_yields_no_pair_and_says_why(place):
    result, emission, _, _ = play(options=ALL_SOFT, teacher=world(pair=lambda first, second: place))
    assert emission["dpo"] == []
    reason = "prefers_first" if place == "A" else "prefers_second"
    assert emission.refused["dpo"] == {reason: 3 * len(SEEDS)}
    assert all(r.extra["judgement"]["carried"] == 0 for r in result.records), "the newer answer did not win"


def test_a_tie_yields_no_pair_and_leaves_the_carried_answer_where_it_is():
    result, emission, _, _ = play(options=ALL_SOFT, teacher=world(pair=lambda first, second: "tie"))
    assert emission["dpo"] == []
    assert emission.refused["dpo"] == {"tie": 3 * len(SEEDS)}
    assert {r.candidates[0].source for r in result.records} == {"step_0"}


@pytest.mark.parametrize("broken", ["I would rather not say.", "", '{"winner": "A", "winner": "B"}', "[[B]]"])
def test_a_judge_that_always_fails_yields_no_pair_and_a_balanced_ledger(broken):
    result, emission, _, _ = play(options={**ALL_SOFT, "consistency": False}, teacher=world(),
                                  judge=lambda r: broken)
    assert emission["dpo"] == emission["sft"] == []
    assert emission.refused["dpo"] == {"no_verdict": 3 * len(SEEDS)}
    assert {r.extra["judgement"]["winner"] for r in result.records} == {None}
    assert {r.candidates[0].source for r in result.records} == {"step_0"}

    result, emission, _, _ = play(options=ALL_SOFT, teacher=world(), judge=lambda r: broken)
    assert result.records == []
    assert {r.reason for r in result.dropped} == {"soft_constraint_unjudged"}
    assert emission.counts() == {}


def test_a_judge_that_can_only_read_criteria_yields_no_pair_either():
    say = world()
    _, emission, _, _ = play(options=ALL_SOFT, judge=lambda r: "??" if is_pair(question(r)) else say(r))
    assert emission["dpo"] == []
    assert emission.refused["dpo"] == {"unread_no_json": 3 * len(SEEDS)}
    assert emission["sft"], "what passed every criterion is still a good answer"


NO_COMMA = {"steps": 1, "soft_share": 0.0, "include": ["punctuation:no_comma"]}


@pytest.mark.parametrize("who", ["old", "new"])
def test_hard_constraints_are_decided_by_code_whatever_the_judge_says(who):
    """The judge would always prefer the text with commas, and finds that it meets everything."""
    def answer(prompt, sample):
        is_seed = prompt in {s.prompt for s in SEEDS}
        return "buttered toast with jam" if (who == "old") == is_seed else "toast, jam, butter"

    options = {**NO_COMMA, "answer_tries": 1}
    result, emission, usage, _ = play(options=options,
                                      teacher=world(answer=answer, pair=prefers(lambda text: text.count(","))))
    assert {(e.chosen, e.rejected, e.violated) for e in emission["dpo"]} == {
        ("buttered toast with jam", "toast, jam, butter", (0,))}
    assert {r.extra["judgement"]["by"] for r in result.records} == {"code"}
    assert usage.tally("compare", "teacher").requests == 0


def test_the_judge_compares_what_code_finds_equal_and_is_told_what_is_new_and_what_is_checked():
    asked = []
    say = world(answer=lambda prompt, sample: f"plain words {number(prompt) % 1000}", pair=prefers(number))
    options = {"steps": 2, "soft_share": 0.5, "include": ["punctuation:no_comma"]}
    result, _, _, _ = play(SEEDS[:1], options, teacher=lambda r: asked.append(question(r)) or say(r))
    pairs = [q for q in asked if is_pair(q)]
    last = result.records[-1]
    hard, soft = (next(c for c in last.constraints if c.kind == kind) for kind in ("code", "judge"))
    final = [q for q in pairs if part(q, "REQUEST") == last.prompt]
    assert len(final) == 2
    for q in final:
        assert f"both responses meet these; leave them out of the comparison:\n- {hard.text}" in q
        assert soft.text in q.partition("What this comparison turns on:")[2]
    criteria = [c for q in asked if is_criteria(q) for c in criteria_in(q)]
    assert hard.text not in criteria, "the judge is never asked about what code decides"


def test_nobody_wins_if_both_fail_by_code_or_both_fail_a_criterion():
    _, emission, usage, _ = play(options={**NO_COMMA, "answer_tries": 1, "rescue_tries": 0},
                                 teacher=world(answer=lambda prompt, sample: f"a, b, {number(prompt)}"))
    assert emission.refused["dpo"] == {"both_fail_by_code": len(SEEDS)}
    assert usage.tally("compare", "teacher").requests == 0
    judge = world(criterion=lambda response, text: "proposal" in text)
    _, emission, _, models = play(options=ALL_SOFT, judge=judge)
    assert emission.refused["dpo"] == {"both_fail": 3 * len(SEEDS)}
    assert not any(is_pair(question(r)) for r in models["judge"].backend.requests)


def hard_pairs(**options):
    """Pairs of the hard bin (k above 3): an answer meets each constraint with odds of 7 in 10, and the judge prefers
    the one that meets more of the request's."""
    texts = set()

    def meets(response, text):
        texts.add(text)
        return number(response, text) % 10 < 7

    say = world(answer=lambda prompt, sample: f"answer {number(prompt, str(sample))}", criterion=meets)

    def judge(request):
        q = question(request)
        if not is_pair(q):
            return say(request)
        asked = sorted(text for text in texts if text in part(q, "REQUEST"))
        first, second = ((sum(meets(response, text) for text in asked), number(response))
                         for response in (part(q, "RESPONSE A"), part(q, "RESPONSE B")))
        return json.dumps({"reason": "scripted", "winner": "A" if first > second else "B"})

    chain = {"soft_share": 1.0, "steps": 5, "consistency": False, "answer_tries": 1, **options}
    _, emission, _, _ = play(SEEDS, chain, teacher=say, judge=judge)
    return [e for e in emission["dpo"] if e.difficulty > 3]


def test_the_hard_bin_fills_by_further_answers_or_by_better_ones():
    """An answer meets all of five such constraints once in six times, so few steps have a perfect winner."""
    starved, rescued = (hard_pairs(rescue_tries=tries) for tries in (0, 4))
    better = hard_pairs(winner="better")
    steps = 2 * len(SEEDS)
    assert len(starved) < len(rescued) < len(better)
    assert len(better) >= 0.7 * steps
    assert not any("chosen_violated" in e.provenance for e in rescued)
    assert any("chosen_violated" in e.provenance for e in better)


def test_a_better_answer_wins_if_both_orders_say_so_and_the_row_names_what_it_fails():
    def play_better(pair):
        return play(options={"soft_share": 1.0, "steps": 1, "winner": "better"}, teacher=world(
            criterion=lambda response, text: "proposal" in text, pair=pair))[1]

    emission = play_better(prefers(number))
    assert len(emission["dpo"]) == len(SEEDS)
    for e in emission["dpo"]:
        assert number(e.chosen) > number(e.rejected)
        assert e.provenance["chosen_violated"] == e.provenance["violated"] == [e.constraints[0].type]
        assert e.provenance["lost"] == "judged worse in both orders"
    assert emission["sft"] == []
    assert not any(e.label for e in emission["kto"])
    assert play_better(lambda first, second: "A").refused["dpo"] == {"prefers_first": len(SEEDS)}


def test_a_better_answer_that_fails_by_its_verdicts_what_the_other_meets_is_not_believed():
    emission = play(options={"soft_share": 1.0, "steps": 1, "winner": "better"}, teacher=world(
        criterion=lambda response, text: "proposal" in text or number(response) % 2 == 0,
        pair=prefers(lambda text: number(text) % 2)))[1]
    assert set(emission.refused["dpo"]) <= {"judge_contradicts_its_verdicts", "prefers_first", "prefers_second"}
    assert all(number(e.chosen) % 2 == 0 or number(e.rejected) % 2 for e in emission["dpo"])


def test_fewer_failures_by_code_win_without_a_judge_and_what_both_fail_is_left_out_of_its_comparison():
    def answer(prompt, sample):
        return "toast, jam!" if prompt in {s.prompt for s in SEEDS} else f"toast, jam and {number(prompt) % 99}"

    asked = []
    say = world(answer=answer, pair=prefers(lambda text: ("!" in text, text)))
    options = {"steps": 2, "soft_share": 0.0, "winner": "better", "answer_tries": 1,
               "include": ["punctuation:no_comma", "punctuation:no_exclamation"]}
    result, emission, _, _ = play(SEEDS[:1], options, teacher=lambda r: asked.append(question(r)) or say(r))
    by = {r.difficulty: r.extra["judgement"]["by"] for r in result.records}
    pairs = [q for q in asked if is_pair(q)]
    comma_first = result.records[0].constraints[0].type == "punctuation:no_comma"
    assert by == ({1.0: "judge", 2.0: "code"} if comma_first else {1.0: "code", 2.0: "judge"})
    comma = next(c.text for c in result.records[-1].constraints if c.type == "punctuation:no_comma")
    assert all(f"neither response meets these; leave them out of the comparison:\n- {comma}" in q for q in pairs)
    assert emission["dpo"]


def test_a_judge_that_prefers_what_fails_its_own_criteria_is_not_believed():
    def criterion(response, text):
        return "proposal" in text or number(response) % 2 == 0

    result, emission, _, _ = play(options={"soft_share": 1.0, "steps": 1},
                                  teacher=world(criterion=criterion, pair=prefers(lambda t: number(t) % 2)))
    for record in result.records:
        passes = [number(c.text) % 2 == 0 for c in record.candidates]
        if passes[0] != passes[1]:
            assert record.extra["judgement"]["reason"] == "judge_contradicts_its_verdicts"
            assert record.extra["judgement"]["carried"] == passes.index(True)
    assert "judge_contradicts_its_verdicts" in emission.refused["dpo"]


def test_what_was_judged_about_the_carried_answer_is_not_asked_again():
    asked = []
    say = world(pair=lambda first, second: "tie")

    def teacher(request):
        if is_criteria(question(request)) and "proposal" not in question(request):
            asked.append((part(question(request), "RESPONSE"), len(criteria_in(question(request)))))
        return say(request)

    result, _, _, _ = play(SEEDS[:1], ALL_SOFT, teacher=teacher)
    carried = result.records[0].candidates[0].text
    assert [n for text, n in asked if text == carried] == [1, 1, 1]
    assert sorted(n for text, n in asked if text != carried) == [1, 2, 3]


def test_an_unreadable_judgement_of_the_carried_answer_is_asked_for_again_at_the_next_step():
    say = world(pair=lambda first, second: "tie")
    seen = []

    def first_unread(request):
        q = question(request)
        if is_criteria(q) and "proposal" not in q:
            seen.append(q)
            return "??" if len(seen) <= 2 else say(request)
        return say(request)

    result, _, _, _ = play(SEEDS[:1], {"soft_share": 1.0, "steps": 2, "judge_tries": 1}, judge=first_unread)
    first, second = result.records
    assert [v.outcome for c in first.candidates for v in c.verdicts] == [Outcome.NO_VERDICT] * 2
    assert [v.outcome for c in second.candidates for v in c.verdicts] == [Outcome.PASS] * 4


def test_the_judge_sees_the_conversation_before_the_prompt():
    talk = Record.from_seed("And now?", system="Be kind.", history=(
        Turn(role="user", content="Hello there."), Turn(role="assistant", content="Good day.")))
    asked = []
    say = world()
    play([talk], ALL_SOFT, judge=lambda r: asked.append(question(r)) or say(r))
    shown = [part(q, "REQUEST") for q in asked if is_pair(q)]
    assert shown
    assert all(text in s for s in shown for text in ("Be kind.", "Hello there.", "Good day.", "And now?"))


def test_an_answer_that_fails_by_code_is_asked_for_again_and_kept_as_undesirable():
    def answer(prompt, sample):
        if prompt in {s.prompt for s in SEEDS}:
            return "the seed's own answer"
        return "at last no comma" if sample else "commas, again"

    result, emission, usage, _ = play(options={**NO_COMMA, "answer_tries": 3}, teacher=world(answer=answer))
    assert usage.tally("respond", "teacher").requests == len(SEEDS) * 3
    assert {(e.response, e.label) for e in emission["kto"] if not e.label} == {("commas, again", False)}
    assert {r.candidates[1].text for r in result.records} == {"at last no comma"}


def test_a_truncated_answer_never_wins():
    def answer(prompt, sample):
        text = f"answer {number(prompt)}"
        return text if prompt in {s.prompt for s in SEEDS} else Completion(text, finish_reason="length")

    _, emission, _, _ = play(options={"soft_share": 1.0, "steps": 1}, teacher=world(answer=answer))
    assert emission["dpo"] == []
    assert {e.response.split()[0] for e in emission["sft"]} == {"answer"}
    assert all(e.provenance["source"] == "step_0" for e in emission["sft"])


# ---------------------------------------------------------------- what is emitted


def test_a_row_keeps_k_the_new_type_who_decided_the_orders_and_the_judges_words():
    _, emission, _, _ = play(options=ALL_SOFT, teacher=world(pair=prefers(number)))
    row = emission["dpo"][2]
    assert isinstance(row, PreferenceExample)
    found = row.provenance
    assert (found["k"], found["steps"], row.difficulty) == (3, 3, 3)
    assert found["new"] == row.constraints[-1].type
    assert found["judgement"]["by"] == "judge"
    assert len(set(found["judgement"]["orders"])) == 1
    assert [json.loads(raw)["reason"] for raw in found["judgement"]["raw"]] == ["scripted", "scripted"]
    assert found["lost"] == "judged worse in both orders"


def test_sft_rows_of_the_last_step_or_of_all():
    teacher = world(pair=prefers(number))
    _, every, _, _ = play(options=ALL_SOFT, teacher=teacher)
    _, last, _, _ = play(options={**ALL_SOFT, "sft": "last"}, teacher=teacher)
    assert {e.difficulty for e in every["sft"]} == {1, 2, 3}
    assert {e.difficulty for e in last["sft"]} == {3}
    assert last.refused["sft"] == {"not_the_last_step": 2 * len(SEEDS)}


def test_kto_never_calls_an_answer_bad_that_fails_nothing():
    _, emission, _, _ = play(options=ALL_SOFT, teacher=world(pair=prefers(number)))
    assert emission["kto"]
    assert all(e.label for e in emission["kto"])
    assert emission.refused["kto"]["beaten_but_fails_nothing"] == 3 * len(SEEDS)


# constraints that a text of random words can meet
EASY = ["punctuation", "digits:none", "style:no_contractions", "keywords:forbidden_words"]


@pytest.mark.parametrize("preset", METHOD.presets)
def test_every_preset_runs_and_what_is_emitted_passes_an_independent_check(preset):
    seeds = [Record.from_seed(f"Tell me about river number {i}.") for i in range(25)]
    result, emission, usage, _ = play(seeds, {"include": EASY}, preset,
                                      teacher=lambda r: reply(question(r), r.sample))
    assert emission["dpo"]
    assert emission["sft"]
    assert emission["kto"]
    for e in emission["sft"]:
        assert not any(v.failed for v in verify(e.response, e.constraints))
    perfect = preset == "default"
    for e in emission["dpo"]:
        failed = [c.type for c, v in zip(e.constraints, verify(e.chosen, e.constraints), strict=True) if v.failed]
        assert not failed if perfect else set(failed) <= set(e.provenance.get("chosen_violated", []))
        assert e.violated or e.provenance["lost"]
    planned = METHOD.plan(seeds, parse({"method": "soft_steps", "preset": preset, "models": {"teacher": {}}})
                          .method_options(), {"teacher"})
    for stage in {c.stage for c in planned}:
        asked = usage.tally(stage, "teacher").requests
        assert sum(c.low for c in planned if c.stage == stage) <= asked
        assert asked <= sum(c.high for c in planned if c.stage == stage)
    refused = sum(emission.refused["dpo"].values())
    missing = sum(n for why, n in emission.refused["dpo"].items() if why.startswith("soft_constraint"))
    assert len(emission["dpo"]) + refused - missing == len(result.records), "every step is a pair or a reason"


def test_the_same_run_gives_the_same_records_in_any_order_of_arrival():
    def once(latency):
        endpoint = ScriptedEndpoint(latency, lambda r: reply(question(r), r.sample))
        model = scripted_client("teacher", endpoint)
        return asyncio.run(run(stages(Options()), SEEDS, {"teacher": model}, seed=3, window=3))

    one, two = once(1), once(2)
    assert one.records == two.records
    assert one.dropped == two.dropped


def test_a_second_run_asks_for_nothing_that_is_logged(tmp_path):
    log = ResponseLog(tmp_path / "responses.jsonl")
    first, _, _, _ = play(log=log)
    again, _, _, models = play(log=log, teacher=lambda r: pytest.fail("asked again"))
    log.close()
    assert again.records == first.records
    assert models["teacher"].backend.requests == []


# ---------------------------------------------------------------- options


@pytest.mark.parametrize(("options", "says"), [
    ({"soft_include": ["stile"]}, "style"), ({"bins": [3, 2]}, "rise"), ({"bins": [0]}, "rise"),
    ({"include": ["keywrds"]}, "keywords"), ({"answers": "student"}, "needs a model for that role"),
    ({"steps": 0}, "greater than or equal to 1"),
    ({"soft_include": ["style"], "soft_exclude": ["style"]}, "exclude less")])
def test_options_that_make_no_sense_are_refused_before_anything_is_asked(options, says):
    def plan():
        made = parse({"method": "soft_steps", "models": {"teacher": {}}, "options": options})
        METHOD.plan(SEEDS, made.method_options(), {"teacher"})

    with pytest.raises(UserError, match=says):
        plan()


def test_the_student_answers_when_asked_to():
    _, emission, usage, _ = play(options={**ALL_SOFT, "answers": "student"}, student=world(),
                                 teacher=world(pair=prefers(number)))
    assert usage.tally("respond", "student").requests == 4 * len(SEEDS)
    assert emission["dpo"][0].provenance["chosen_model"] == "student"
