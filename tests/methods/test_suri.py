"""Suri, with scripted teachers and judges (named as such) and with constraints measured by code."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from if_factory.api import emit, seeds_of
from if_factory.chat.base import ChatRequest, RequestFailed
from if_factory.chat.budget import Usage
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.exporting.formats import write_dataset
from if_factory.inputs.documents import Text, text_record
from if_factory.methods.suri import METHOD, Options, inputs, stages
from if_factory.pipeline.runner import run
from if_factory.recipe import parse
from if_factory.records import Constraint, Record
from tests.support.models import scripted_client

SEEN = ["gull", "storm", "lamp", "wave", "boat", "rope", "fog", "rock", "tide", "sail", "net", "anchor", "crab",
        "shell", "wind", "buoy", "gale", "reef", "seal", "moon", "cliff", "harbour", "mast", "gannet"]
TEXT = " ".join(f"On day {i} the old keeper saw a {SEEN[i]} by the {SEEN[i + 1]}, and wrote {SEEN[i + 2]} and "
                f"{SEEN[i + 3]} into his log." for i in range(20))
CONSTRAINTS = ["Tell it in the third person.", "Set it at a lighthouse by the sea.", "Describe a daily habit.",
               "Keep every sentence short and plain."]
CORRUPTED = ["Tell it in the second person.", "Set it at a windmill in the hills.", "Describe a yearly feast.",
             "Keep every sentence long and ornate."]


def text(i: int = 0) -> Record:
    return text_record(Text(TEXT.replace("keeper", f"keeper{i}"), f"t.jsonl:{i}"), "suri")


def kind_of(request: ChatRequest) -> str:
    ask = request.messages[-1]["content"]
    return ("backtranslate" if "a person wrote" in ask else "corrupt" if "Rewrite every constraint" in ask else
            "label" if "Label each" in ask else "judge")


def asked_for(request: ChatRequest) -> list[str]:
    """The numbered constraints of a prompt, in order."""
    return re.findall(r"^\d+\. (.+)$", request.messages[-1]["content"], re.MULTILINE)


def scripted_teacher(**answers: Any) -> Any:
    """Answers by kind of request: a text, or a function of the request; what is not given is answered well."""
    def good(request: ChatRequest) -> str:
        kind = kind_of(request)
        if kind == "backtranslate":
            return json.dumps({"main_instruction": "Write a story about a keeper.", "constraints": CONSTRAINTS})
        if kind == "corrupt":
            return json.dumps({"rewrites": [{"number": i, "modified": CORRUPTED[CONSTRAINTS.index(c)]}
                                            for i, c in enumerate(asked_for(request), 1)]})
        if kind == "label":
            return json.dumps({"labels": [{"number": i, "type": "Stylistic", "scope": "broad"}
                                          for i in range(1, len(asked_for(request)) + 1)]})
        return scripted_judge()(request)

    def answer(request: ChatRequest) -> Any:
        own = answers.get(kind_of(request), good)
        return own(request) if callable(own) else own

    return answer


def scripted_judge(follows: Any = lambda constraint: constraint in CONSTRAINTS) -> Any:
    """Says of each criterion whether the text follows it; it finds them among those it may be asked about."""
    def answer(request: ChatRequest) -> str:
        ask = request.messages[-1]["content"]
        listed = sorted((c for c in (*CONSTRAINTS, *CORRUPTED) if c in ask), key=ask.index)
        return json.dumps({str(i): {"reason": "r", "satisfied": bool(follows(c))}
                           for i, c in enumerate(listed, 1)})

    return answer


def play(records: list[Record], options: dict[str, Any] | None = None, **roles: Any) -> Any:
    usage = Usage()
    models = {role: scripted_client(role, answer, usage=usage)
              for role, answer in roles.items()}
    result = asyncio.run(run(stages(Options(**(options or {}))), records, models, seed=0))
    result.ledger.check()
    return result, usage


def recipe(**options: Any) -> Any:
    return parse({"method": "suri", "models": {"teacher": {}}, "options": options})


def emitted(result: Any, **options: Any) -> Any:
    return emit(recipe(**options), result.records)


ALL = {"included": "all", "corrupted": "all", "triples_per_text": 1}


# ---------------------------------------------------------------- with a teacher


def test_a_text_becomes_a_triple_of_its_instruction_a_corrupted_one_and_itself():
    result, usage = play([text()], ALL, teacher=scripted_teacher())
    out = emitted(result, **ALL)
    [triple] = out["iorpo"]
    assert triple.response == text().candidates[0].text
    for c, m in zip(CONSTRAINTS, CORRUPTED, strict=True):
        assert c in triple.prompt
        assert c not in triple.prompt_rejected
        assert m in triple.prompt_rejected
    assert triple.corrupted == (0, 1, 2, 3)
    assert triple.difficulty == 0.25
    assert triple.provenance["main_instruction"] == "Write a story about a keeper."
    assert [c["text"] for c in triple.provenance["corruptions"]] == CORRUPTED
    assert triple.provenance["labels"][0] == {"type": "stylistic", "scope": "broad"}
    requests = [usage.tally(s, "teacher").requests for s in ("backtranslate", "corrupt", "label", "judge")]
    assert requests == [1, 1, 1, 2]


def test_sft_rows_are_the_true_instructions_and_kto_rows_are_twins_named_a_surrogate():
    result, _ = play([text()], ALL, teacher=scripted_teacher())
    out = emitted(result)
    assert [(e.prompt, e.response) for e in out["sft"]] == [(out["iorpo"][0].prompt, out["iorpo"][0].response)]
    good, bad = out["kto_surrogate"]
    assert (good.label, bad.label) == (True, False)
    assert bad.prompt == out["iorpo"][0].prompt_rejected
    assert [c.text for c in bad.constraints] == CORRUPTED
    assert bad.provenance["surrogate_of"] == "iorpo"
    assert not emitted(result, kto=False)["kto_surrogate"]
    assert not emitted(result, sft=False)["sft"]


def test_kto_twins_are_never_neighbours_in_the_file(tmp_path: Path):
    result, _ = play([text(i) for i in range(8)], ALL, teacher=scripted_teacher())
    write_dataset("k", emitted(result)["kto_surrogate"], tmp_path, "alpaca")
    outputs = [json.loads(line)["output"] for line in (tmp_path / "k.jsonl").read_text().splitlines()]
    assert len(outputs) == 16
    assert all(outputs[i] != outputs[i - 1] for i in range(16))


def test_a_constraint_the_text_does_not_follow_is_dropped_and_counted():
    judge = scripted_judge(lambda c: c in CONSTRAINTS[1:])
    result, _ = play([text()], ALL, teacher=scripted_teacher(), judge=judge)
    out = emitted(result)
    assert CONSTRAINTS[0] not in out["iorpo"][0].prompt
    assert out.refused["constraints"] == {"the_text_does_not_follow_it": 1}


def test_a_corrupted_constraint_that_the_text_still_follows_is_not_used():
    judge = scripted_judge(lambda c: c in CONSTRAINTS or c == CORRUPTED[2])
    result, _ = play([text()], ALL, teacher=scripted_teacher(), judge=judge)
    out = emitted(result)
    assert CONSTRAINTS[2] not in out["iorpo"][0].prompt
    assert out.refused["constraints"] == {"the_text_follows_the_corrupted_form": 1}


def test_a_judge_role_is_asked_instead_of_the_teacher():
    _, usage = play([text()], ALL, teacher=scripted_teacher(), judge=scripted_judge())
    assert usage.tally("judge", "judge").requests == 2
    assert usage.tally("judge", "teacher").requests == 0


def test_nothing_is_emitted_on_the_word_of_nobody():
    result, _ = play([text()], ALL, teacher=scripted_teacher(), judge=lambda r: "I cannot say.")
    assert result.records == []
    assert result.dropped[0].reason.startswith("judge_")


def test_negations_copies_and_echoes_are_asked_for_again_and_only_what_is_still_one_is_dropped():
    asked = []

    def corrupt(request: ChatRequest) -> str:
        listed = asked_for(request)
        asked.append(listed)
        first = len(asked) == 1
        # the first time a copy, the prompt's own example and a negation, then all but the last mended
        new = {c: CORRUPTED[CONSTRAINTS.index(c)] for c in listed}
        if first:
            new[CONSTRAINTS[0]] = CONSTRAINTS[0].upper()
            new[CONSTRAINTS[1]] = "Tell the story in the third person, close to the eldest brother."
        new[CONSTRAINTS[2]] = "Do not describe a daily habit."
        return "\n".join(f"- {c} -> {new[c]}" for c in listed)

    result, _ = play([text()], ALL, teacher=scripted_teacher(corrupt=corrupt))
    assert asked == [CONSTRAINTS, CONSTRAINTS[:3], [CONSTRAINTS[2]]]
    out = emitted(result)
    assert [c.text for c in out["iorpo"][0].constraints] == [CONSTRAINTS[0], CONSTRAINTS[1], CONSTRAINTS[3]]
    assert out.refused["constraints"] == {"negation_only": 1}


@pytest.mark.parametrize(("kind", "answer", "reason"), [
    ("backtranslate", "I would rather not.", "no_main_instruction"),
    ("backtranslate", '{"main_instruction": "Write.", "constraints": []}', "no_constraints"),
    ("corrupt", '["only one rewrite"]', "count_mismatch"),
    ("corrupt", "a story of one -> x\nof another thing -> y\nthird -> z\nfourth one -> u", "unknown_original"),
])
def test_a_teacher_that_cannot_be_read_costs_bounded_calls_and_a_counted_reason(kind, answer, reason):
    result, usage = play([text()], {**ALL, "tries": 2}, teacher=scripted_teacher(**{kind: answer}))
    assert [r.reason for r in result.dropped] == [reason]
    assert usage.tally(kind, "teacher").requests == 2


def test_a_text_with_nothing_left_is_rejected_with_what_became_of_its_constraints():
    result, _ = play([text()], ALL, teacher=scripted_teacher(), judge=scripted_judge(lambda c: False))
    assert [(r.reason, r.detail) for r in result.dropped] == [
        ("too_few_constraints", "the_text_does_not_follow_it 4")]


def test_constraints_that_quote_the_text_are_dropped():
    leak = "Say that the old keeper0 saw a gull by the storm, and wrote lamp and wave into his log."
    answer = json.dumps({"main_instruction": "Write.", "constraints": [leak, *CONSTRAINTS]})
    result, _ = play([text()], ALL, teacher=scripted_teacher(backtranslate=answer))
    assert emitted(result).refused["constraints"] == {"quotes_the_text": 1}


def test_unreadable_labels_cost_nothing_but_the_labels():
    result, _ = play([text()], ALL, teacher=scripted_teacher(label="what?"))
    assert emitted(result)["iorpo"][0].provenance["labels"] == [{}] * 4


def test_a_lost_request_rejects_its_text_and_no_other():
    def lost(request: ChatRequest) -> Any:
        ask = request.messages[-1]["content"]
        return RequestFailed("http_400") if "keeper1 " in ask else scripted_teacher()(request)

    result, _ = play([text(0), text(1), text(2)], ALL, teacher=lost)
    assert (len(result.records), len(result.dropped)) == (2, 1)


def test_the_schema_asks_for_a_main_instruction_unless_it_is_known():
    schemas = []

    def watch(request: ChatRequest) -> Any:
        if kind_of(request) == "backtranslate":
            schemas.append(request.schema)
        return scripted_teacher()(request)

    play([text(), text_record(Text(TEXT, "p", prompt="Tell me of the sea."), "suri")], ALL, teacher=watch)
    assert sorted(s["required"] for s in schemas) == [["constraints"], ["main_instruction", "constraints"]]


def test_a_known_instruction_stays_the_main_instruction():
    pair = text_record(Text(TEXT, "p.jsonl:1", prompt="Tell me of the sea."), "suri")
    answer = "Here you are:\n" + "\n".join(f"* {c}" for c in CONSTRAINTS)
    result, _ = play([pair], ALL, teacher=scripted_teacher(backtranslate=answer))
    [triple] = emitted(result)["iorpo"]
    assert triple.prompt.startswith("Tell me of the sea.")
    assert triple.provenance["seed_prompt"] == "Tell me of the sea."


# ---------------------------------------------------------------- how many


def test_one_of_many_corrupted_is_harder_than_all_of_them():
    one, _ = play([text()], {**ALL, "corrupted": 1}, teacher=scripted_teacher())
    every, _ = play([text()], ALL, teacher=scripted_teacher())
    assert one.records[0].difficulty > every.records[0].difficulty
    assert len(emitted(one)["iorpo"][0].corrupted) == 1


@pytest.mark.parametrize(("included", "corrupted", "sizes"), [
    ("all", "all", (4, 4)), ("all", 1, (4, 1)), (2, "all", (2, 2)), (1, 1, (1, 1)), (9, 9, (4, 4))])
def test_the_numbers_asked_for_are_the_numbers_made(included, corrupted, sizes):
    options = {"included": included, "corrupted": corrupted, "triples_per_text": 1}
    result, _ = play([text()], options, teacher=scripted_teacher())
    [triple] = emitted(result)["iorpo"]
    assert (len(triple.constraints), len(triple.corrupted)) == sizes


def test_several_triples_of_one_text_differ_and_an_instruction_is_one_sft_row():
    options = {"included": "all", "corrupted": 1, "triples_per_text": 8}
    result, _ = play([text()], options, teacher=scripted_teacher())
    out = emitted(result)
    assert 2 <= len(out["iorpo"]) <= 4, "four different single corruptions there are"
    assert len({e.prompt_rejected for e in out["iorpo"]}) == len(out["iorpo"])
    assert out.refused["iorpo"] == {"drawn_before": 8 - len(out["iorpo"])}
    assert len(out["sft"]) == 1
    assert [e.label for e in out["kto_surrogate"]].count(True) == 1


def test_same_seed_and_answers_are_the_same_records_whatever_else_is_there():
    alone, _ = play([text(3)], teacher=scripted_teacher())
    among, _ = play([text(i) for i in range(6)], teacher=scripted_teacher())
    assert [r for r in among.records if r.id in {a.id for a in alone.records}] == alone.records
    assert play([text(i) for i in range(6)], teacher=scripted_teacher())[0].records == among.records


# ---------------------------------------------------------------- constraints by code


def independent(e: Any) -> None:
    """What a triple promises, with the checkers alone."""
    corruptions = [Constraint.model_validate(c) for c in e.provenance["corruptions"]]
    assert all(v.passed for v in verify(e.response, e.constraints))
    assert e.corrupted
    assert all(v.failed for v in verify(e.response, [corruptions[i] for i in e.corrupted]))
    assert e.prompt != e.prompt_rejected
    for i, (right, wrong) in enumerate(zip(e.constraints, corruptions, strict=True)):
        assert right.text.rstrip(".")[1:] in e.prompt
        assert (wrong if i in e.corrupted else right).text.rstrip(".")[1:] in e.prompt_rejected


def test_without_any_model_the_shipped_texts_become_triples_that_hold():
    result, usage = play(inputs(None, Options(), None))
    assert usage.total().requests == 0
    out = emitted(result)
    assert len(out["iorpo"]) == 24
    assert len({e.record_id for e in out["iorpo"]}) == 24
    for e in out["iorpo"]:
        independent(e)


WORDS = st.lists(st.sampled_from(sorted({*re.findall(r"\w+", TEXT), "winter", "gulls", "nobody"})),
                 min_size=4, max_size=18)
PROSE = st.lists(st.lists(WORDS, min_size=1, max_size=6), min_size=1, max_size=6).map(lambda ps: "\n\n".join(
    " ".join(" ".join(s).capitalize() + "." for s in p) for p in ps))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(prose=PROSE, prompt=st.sampled_from(["", "Write about the sea."]))
def test_whatever_the_text_a_composed_triple_holds(prose: str, prompt: str):
    options = {"source": "composer", "min_words": 1, "triples_per_text": 2}
    result, _ = play([text_record(Text(prose, "t", prompt=prompt), "suri")], options)
    for e in emitted(result, **options)["iorpo"]:
        independent(e)


def test_a_text_that_was_changed_after_the_run_is_not_emitted():
    result, _ = play(inputs(None, Options(), 1))
    forged = result.records[0].candidates[0].model_copy(update={"text": "quite another text, in few words"})
    out = emit(recipe(), [r.model_copy(update={"candidates": (forged,)}) for r in result.records])
    assert out.datasets == {}
    assert sum(out.refused["iorpo"].values()) == len(result.records)


def test_both_sources_give_one_instruction():
    result, _ = play([text()], {**ALL, "source": "both", "constraints": 4}, teacher=scripted_teacher())
    kinds = {c.kind for c in emitted(result)["iorpo"][0].constraints}
    assert kinds == {"judge", "code"}


def test_include_and_exclude_choose_the_types():
    result, _ = play(inputs(None, Options(), 3), {"source": "composer", "include": ["keywords"],
                                                  "exclude": ["keywords:letter_frequency"]})
    types = {c.type for r in result.records for c in r.constraints}
    assert types
    assert types <= {"keywords:existence", "keywords:forbidden_words", "keywords:frequency"}


# ---------------------------------------------------------------- recipe, plan, files


def test_a_misspelt_constraint_type_is_found_before_anything_runs():
    with pytest.raises(UserError, match="did you mean 'keywords'"):
        seeds_of(parse({"method": "suri", "options": {"include": ["keywrds"]}}))


def test_a_text_that_is_there_twice_is_used_once_and_counted():
    result, _ = play([text(), text()], ALL, teacher=scripted_teacher())
    assert len(result.records) == 1
    assert [r.reason for r in result.dropped] == ["duplicate_seed"]


def test_texts_outside_the_window_are_counted():
    result, _ = play([text(), text_record(Text("Too short.", "t"), "suri")], ALL, teacher=scripted_teacher())
    assert [r.reason for r in result.dropped] == ["too_short"]


def test_the_response_of_a_pair_is_never_cut():
    long = text_record(Text(f"{TEXT} {TEXT}", "t", prompt="Write."), "suri")
    result, _ = play([long], {"source": "composer", "min_words": 10, "max_words": 350})
    assert [r.reason for r in result.dropped] == ["too_long"]


@pytest.mark.parametrize("source", ["teacher", "both"])
def test_a_source_that_needs_a_teacher_says_so_at_plan_and_at_run(source):
    made = parse({"method": "suri", "models": {}, "options": {"source": source}})
    with pytest.raises(UserError, match="needs a teacher"):
        made.definition.plan(seeds_of(made), made.method_options(), set())
    with pytest.raises(UserError, match="needs a teacher"):
        play([text()], {"source": source})


@pytest.mark.parametrize("preset", METHOD.presets)
def test_every_preset_is_valid_and_runs(preset):
    made = parse({"method": "suri", "preset": preset, "models": {"teacher": {}},
                  "options": {"min_words": 100, "max_words": 5024}})
    options = made.method_options().model_dump()
    result, _ = play([text()], options, teacher=scripted_teacher())
    assert emit(made, result.records)["iorpo"]


def test_paper_and_code_differ_in_how_many_constraints_an_instruction_holds():
    paper, code = (Options(**METHOD.presets[p]) for p in ("paper", "released"))
    assert (paper.min_words, paper.max_words, paper.included, paper.corrupted) == (2048, 5024, "all", "all")
    assert (code.included, code.corrupted) == (1, 1)


def test_the_plan_bounds_the_calls_that_are_made():
    records = [text(i) for i in range(5)]
    planned = METHOD.plan(records, Options(), {"teacher", "judge"})
    _, usage = play(records, teacher=scripted_teacher(), judge=scripted_judge())
    for call in planned:
        tally = usage.tally(call.stage, call.role)
        assert call.low <= tally.requests + tally.shared <= call.high, call.stage
    assert METHOD.plan(records, Options(source="composer"), set()) == []


def test_a_users_own_prompt_takes_the_place_of_ours(tmp_path: Path):
    (tmp_path / "backtranslate.jinja").write_text("MINE, which a person wrote: {{ text }}")
    seen: list[str] = []

    def watch(request: ChatRequest) -> Any:
        seen.append(request.messages[-1]["content"])
        return scripted_teacher()(request)

    play([text()], {**ALL, "prompts": str(tmp_path)}, teacher=watch)
    assert seen[0].startswith("MINE")


@pytest.mark.slow
def test_two_thousand_texts_balance_and_hold(tmp_path: Path):
    records = [text(i) for i in range(2000)]
    unreliable = scripted_judge(lambda c: c in CONSTRAINTS[:3])

    def teacher(request: ChatRequest) -> Any:
        if "keeper7" in request.messages[-1]["content"]:
            return RequestFailed("context_too_long")
        return scripted_teacher()(request)

    result, usage = play(records, teacher=teacher, judge=unreliable)
    lost = sum(str(i).startswith("7") for i in range(2000))
    assert len(result.dropped) == lost
    out = emitted(result)
    assert len(out["iorpo"]) == len(result.records)
    assert out.refused["constraints"]["the_text_does_not_follow_it"] == 2000 - lost
    assert usage.tally("judge", "judge").requests == 2 * (2000 - lost)
    rows = write_dataset("k", out["kto_surrogate"], tmp_path)
    assert rows.accepted == rows.written
    assert not rows.problems
