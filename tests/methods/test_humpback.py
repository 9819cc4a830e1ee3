"""Humpback, driven by scripted models (named as such): which texts are kept, and what for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory import api as factory
from if_factory.api import emit
from if_factory.cli.humpback import humpback
from if_factory.errors import UserError
from if_factory.methods.humpback import stages
from if_factory.methods.humpback.inputs import inputs
from if_factory.methods.humpback.options import PRESETS, ROUNDS, Options
from if_factory.methods.humpback.plan import plan
from if_factory.methods.humpback.steps import REVERSE, repeats_itself, scored
from if_factory.methods.humpback.training import paper_steps
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.runner import run
from if_factory.recipe import parse
from if_factory.records import Candidate, Record
from tests.support.models import scripted_client

GOOD = ("Bread needs four things: flour, water, salt and time. Mix the first three, fold the dough every hour, "
        "and let the last one do the work while you read. After a night in a cool kitchen the loaf is ready.")
SHORT = {"min_chars": 60, "max_chars": 600}


def texts(tmp_path: Path, *rows: str | dict[str, str]) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(r if isinstance(r, dict) else {"text": r}) + "\n" for r in rows))
    return path


def play(path: Path, backward, judge, /, **options) -> RunResult:
    made = Options.model_validate({**SHORT, **options})
    models = {role: scripted_client(role, answer)
              for role, answer in {"backward": backward, "judge": judge}.items()}
    return asyncio.run(run(stages(made), inputs(path, made, None), models, seed=0))


def emitted(result: RunResult, **options):
    return emit(parse({"method": "humpback", "options": {**SHORT, **options}}), result.records)


def rejected(result: RunResult) -> dict[str, int]:
    return dict(sum((row.dropped for row in result.ledger.rows), Counter()))


def rates(*scores: float):
    """A scripted judge that gives these scores, one per rating, over and over."""
    asked = iter(scores * 1000)
    return lambda request: json.dumps({"reason": "", "score": next(asked)})


def asks(request) -> str:
    return "How is a simple bread made?"


def test_a_text_with_a_good_mean_becomes_a_row_under_the_webs_system_prompt(tmp_path: Path) -> None:
    result = play(texts(tmp_path, GOOD), asks, rates(4, 5, 5))
    mined = [e for e in emitted(result)["sft"] if e.prompt == asks(None)]
    assert [(e.response, e.system) for e in mined] == [(GOOD, Options().system_web)]
    record = next(r for r in result.records if r.extra["form"] == "text")
    assert record.extra["score"] == pytest.approx(4.6667)
    assert record.difficulty == pytest.approx(0.3333)


def test_a_mean_below_k_is_counted_and_kept_inside(tmp_path: Path) -> None:
    result = play(texts(tmp_path, GOOD), asks, rates(4, 4, 5))
    out = emitted(result)
    assert not [e for e in out["sft"] if e.prompt == asks(None)]
    assert out.refused["sft"] == {"below_threshold": 1}
    assert not out["kto"]


def test_a_very_low_mean_is_an_undesirable_row(tmp_path: Path) -> None:
    rows = emitted(play(texts(tmp_path, GOOD), asks, rates(1)))["kto"]
    assert [(r.response, r.label) for r in rows] == [(GOOD, False)]


def test_seed_pairs_are_rows_under_their_own_system_prompt_and_reversed_for_the_backward_model(
        tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "Why?", "response": "Because of the tides."}\n')
    options = {"pairs": str(tmp_path / "pairs.jsonl")}
    out = emitted(play(texts(tmp_path, GOOD), asks, rates(1), **options), **options)
    assert [(e.prompt, e.response, e.system) for e in out["sft"]] == [
        ("Why?", "Because of the tides.", Options().system_seed)]
    assert [(e.prompt, e.response, e.system) for e in out["sft_backward"]] == [
        ("Because of the tides.", "Why?", REVERSE)]


def test_the_paper_needs_four_and_a_half_and_the_code_a_five() -> None:
    record = Record.from_seed("x", extra={"form": "text"}).with_candidates(Candidate(text="y", source="human"))
    for preset, scores, kept in (("paper", (4, 5), True), ("paper", (4, 4), False), ("released", (5,), True),
                                 ("released", (4.5,), False)):
        options = Options.model_validate(PRESETS[preset])
        assert scored(record, scores, 0, options.threshold).candidates[0].verified is kept


@pytest.mark.parametrize(("text", "reason"), [
    ("Too short to be of use to anybody at all.", "too_short"),
    ("No full stop and no end in sight, only one clause that goes on and on until somebody cuts it off in the mid",
     "no_end"),
    (f"{GOOD} The oven is hot by half past seven. The oven is hot by half past seven.", "repetitive"),
    ({"title": "NEWS OF TODAY", "text": GOOD}, "navigation_header"),
    ({"title": "Join our newsletter", "text": GOOD}, "navigation_header"),
])
def test_unusable_texts_are_rejected_by_reason(tmp_path: Path, text: str | dict[str, str], reason: str) -> None:
    assert rejected(play(texts(tmp_path, text), asks, rates(5))) == {reason: 1}


@given(st.lists(st.lists(st.sampled_from("abcdefghijklmnop"), min_size=6, max_size=8, unique=True), min_size=1,
                max_size=4))
def test_a_text_repeats_itself_exactly_if_two_sentences_are_nearly_equal(words: list[list[str]]) -> None:
    once = " ".join(f"{' '.join(2 * w for w in s).capitalize()}." for s in words)
    assert repeats_itself(f"{once} {once}", 0.7)


@pytest.mark.parametrize(("reply", "reason"), [
    ("", "instruction_empty"), (GOOD + " And more of it.", "instruction_copies_the_text"),
    (GOOD.split(". ")[1] + ".", "instruction_copies_the_text"),
    ("Explain how to keep basil alive on a balcony.", "near_duplicate"),
    ("Write a short summary of the text.", "instruction_speaks_of_the_text"),
    ("Write a two-sentence story about a lost key.", "instruction_copies_an_example"),
    ("Bake a loaf with the help of the passage above.", "instruction_speaks_of_the_text"),
])
def test_instructions_that_are_none_are_rejected_by_reason(tmp_path: Path, reply: str, reason: str) -> None:
    other = GOOD.replace("Bread", "Cake").replace("flour", "sugar")
    result = play(texts(tmp_path, GOOD, other), lambda r: reply, rates(5))
    assert rejected(result) == {reason: 2 if reason != "near_duplicate" else 1}


def test_an_instruction_that_speaks_of_the_text_is_asked_for_again(tmp_path: Path) -> None:
    replies = iter(["What is the text about?", "Tell me how to bake bread on a weekday."])
    result = play(texts(tmp_path, GOOD), lambda r: next(replies), rates(5))
    assert [r.prompt for r in result.records
            if r.extra["form"] == "text"] == ["Tell me how to bake bread on a weekday."]


def test_an_instruction_that_repeats_a_seed_leaks_nothing(tmp_path: Path) -> None:
    seed = next(r for r in inputs(texts(tmp_path, GOOD), Options(), None) if r.extra["form"] == "seed")
    result = play(texts(tmp_path, GOOD), lambda r: seed.prompt.upper(), rates(5))
    assert rejected(result) == {"repeats_a_seed": 1}


def test_ratings_that_cannot_be_read_are_asked_again_and_counted(tmp_path: Path) -> None:
    replies = iter(["hm", "Score: 5", '{"score": 4}', "maybe", "no idea", "none"] * 3)
    result = play(texts(tmp_path, GOOD), asks, lambda r: next(replies), judgements=2, judge_tries=2)
    record = next(r for r in result.records if r.extra["form"] == "text")
    assert len(record.extra["scores"]) + record.extra["unread"] == 2
    unread = play(texts(tmp_path, GOOD), asks, lambda r: "hm")
    assert rejected(unread) == {"score_unread": 1}


def test_long_texts_are_cut_at_the_ends_of_sentences(tmp_path: Path) -> None:
    made = Options.model_validate({"min_chars": 60, "max_chars": 280})
    pieces = [r.candidates[0].text for r in inputs(texts(tmp_path, f"{GOOD}\n\n{GOOD}"), made, None)
              if r.extra["form"] == "text"]
    assert len(pieces) == 2
    assert all(p.endswith(".") for p in pieces)


def test_the_shipped_pairs_and_texts_are_read() -> None:
    records = list(inputs(None, Options(), None))
    forms = Counter(r.extra["form"] for r in records)
    assert forms["seed"] >= 30
    assert forms["text"] >= 10
    assert len({r.id for r in records}) == len(records)
    limited = Counter(r.extra["form"] for r in inputs(None, Options(), 3))
    assert limited == {"seed": forms["seed"], "text": 3}


def test_a_pair_without_a_response_is_named(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "Why?"}\n')
    with pytest.raises(UserError, match=r"p\.jsonl:1: field 'response'"):
        list(inputs(None, Options(pairs=str(tmp_path / "p.jsonl")), None))


def test_the_plan_bounds_what_is_asked(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def count(role, answer):
        def reply(request):
            asked[role] += 1
            return answer(request)
        return reply

    path = texts(tmp_path, GOOD)
    play(path, count("backward", asks), count("judge", lambda r: "hm"))
    made = Options.model_validate(SHORT)
    planned = {c.role: c.high for c in plan(list(inputs(path, made, None)), made, {"backward", "judge"})}
    assert asked == {"backward": 1, "judge": 9}
    assert all(asked[role] <= planned[role] for role in asked)


def test_the_plan_shows_the_calls_of_models_that_the_loop_trains_and_they_cost_nothing() -> None:
    rounds = [f"curate_{t}" for t in range(1, ROUNDS + 1)]
    assert next(p.default for p in humpback.params if p.name == "iterations") == ROUNDS
    unnamed = {"method": "humpback", "limit": 5}
    planned = factory.plan(parse(unnamed), tokens_per_second=100)
    assert [(c.stage, c.role) for c in planned.calls] == [
        ("augment", "backward"), *((stage, "judge") for stage in rounds)]
    assert planned.calls[0].high == 5 * 3  # asked again where an instruction cannot be used
    assert planned.minutes[1] > 0
    assert planned.usd == (0, 0)
    paid = {"endpoint": "http://x/v1", "price": {"prompt": 1, "completion": 1}}
    named = factory.plan(parse({**unnamed, "models": {"judge": paid}}), tokens_per_second=100)
    assert [c.stage for c in named.calls] == ["augment", "curate", "usefulness"]
    assert named.usd is not None
    assert named.usd[1] > 0


def test_a_trained_backward_model_gets_the_text_as_it_was_trained_on(tmp_path: Path) -> None:
    seen = []

    def backward(request):
        seen.append(request.messages)
        return asks(request)

    play(texts(tmp_path, GOOD), backward, rates(5), backward="trained")
    play(texts(tmp_path, GOOD), backward, rates(5), backward="chat")
    assert list(seen[0]) == [{"role": "system", "content": REVERSE}, {"role": "user", "content": GOOD}]
    rules, *turns, asked = seen[1]  # a chat model is shown seed pairs, reversed, as turns
    assert (rules["role"], asked) == ("system", {"role": "user", "content": GOOD})
    assert [m["role"] for m in turns] == ["user", "assistant"] * 3


def test_a_prompt_may_have_two_responses_and_the_same_pair_counts_once(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps({"prompt": "Why?", "response": r}) + "\n"
                             for r in ("Tides.", "Wind.", "Tides.")))
    result = play(texts(tmp_path, GOOD), asks, rates(1), pairs=str(pairs))
    seeds = [r.candidates[0].text for r in result.records if r.extra["form"] == "seed"]
    assert seeds == ["Tides.", "Wind."]
    assert rejected(result) == {"duplicate_seed": 1}


@pytest.mark.parametrize("given", [{"min_chars": 900, "max_chars": 300}, {"max_chars": 0}])
def test_a_window_that_no_text_fits_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="max_chars"):
        Options.model_validate(given)


@pytest.mark.parametrize("text", ["x" * 200, "word " * 40, "。" * 100, "🙂 " * 60, "12 34 56 " * 20])
def test_texts_without_sentences_are_rejected_and_break_nothing(tmp_path: Path, text: str) -> None:
    for window in ({}, {"min_chars": 1, "max_chars": 3}):
        assert sum(rejected(play(texts(tmp_path, text), asks, rates(5), **window)).values()) == 1


def test_presets_have_the_paper_s_system_prompts_or_none_at_all() -> None:
    """Two empty system prompts were joined to one space, which was sent as a system message."""
    paper = Options.model_validate(PRESETS["paper"])
    assert paper.system_asked == "Answer in the style of an AI Assistant. Answer with knowledge from web search."
    none = Options.model_validate(PRESETS["paper"] | PRESETS["no_system_prompt"] | PRESETS["a4"])
    assert (none.system_asked, none.threshold) == ("", 4.0)
    assert Options(system_seed=" ", system_web=" ").system_asked == ""


def test_the_steps_are_the_papers_at_the_numbers_it_lists_and_between_them_elsewhere() -> None:
    listed = {100: (30, 8), 800: (300, 8), 1600: (600, 8), 3200: (500, 32), 6400: (600, 32), 12800: (600, 32),
              25600: (1200, 32), 51200: (1600, 32)}
    assert {n: paper_steps(n) for n in listed} == listed
    assert paper_steps(1200) == (450, 8)
    assert (paper_steps(1), paper_steps(3000), paper_steps(100_000)) == ((1, 8), (500, 32), (1600, 32))
