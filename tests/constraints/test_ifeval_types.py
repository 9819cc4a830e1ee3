"""Each of the 25 IFEval types: what it says, what it checks and what it demands belong together."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.constraints.base import get
from if_factory.constraints.text.vocabulary import STOP_WORDS
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.inputs.ifeval import read_constraints
from if_factory.records import Constraint, Outcome

SEED = "Is it true that volcanoes warm the glaciers around them?"
ENGLISH = "zebras graze quietly near the tall trees that stand by the river and never run away from zookeepers"
FOREIGN = {
    "de": "Die Katze schläft auf dem Sofa und träumt von einer langen Reise durch das ganze Land.",
    "es": "El gato duerme en el sofá y sueña con un largo viaje por todo el país durante el verano.",
    "fr": "Le chat dort sur le canapé et rêve d'un long voyage à travers tout le pays pendant l'été.",
    "it": "Il gatto dorme sul divano e sogna un lungo viaggio attraverso tutto il paese durante l'estate.",
    "nl": "De kat slaapt op de bank en droomt van een lange reis door het hele land tijdens de zomer.",
    "pt": "O gato dorme no sofá e sonha com uma longa viagem por todo o país durante o verão.",
}
Args = dict[str, Any]


def around(relation: str, n: int) -> tuple[int, int]:
    """A number that satisfies the relation and one that just fails it."""
    return (n, n - 1) if relation == "at least" else (n - 1, n)


def repeat(piece: str, count: int, between: str = " ") -> str:
    return between.join([piece] * count)


def counted(relation: str, n: int, build: Callable[[int], str]) -> tuple[str, str]:
    good, bad = around(relation, n)
    return build(good), build(bad)


def paragraphs(k: Args, word: str) -> str:
    n, nth = k["num_paragraphs"], k["nth_paragraph"]
    return "\n\n".join(f"{word.title()} comes." if i == nth else "Zebras run." for i in range(1, n + 1))


# type -> arguments -> (a text that complies, a text that just does not)
TEXTS: dict[str, Callable[[Args], tuple[str, str]]] = {
    "keywords:existence": lambda k: (f"{ENGLISH} {k['keywords'][0].upper()}!", f"{ENGLISH} {k['keywords'][0]}xx"),
    "keywords:frequency": lambda k: counted(k["relation"], k["frequency"],
                                            lambda n: f"Zebras: {repeat(k['keyword'], n, ', ')}."),
    "keywords:forbidden_words": lambda k: (f"qua {k['forbidden_words'][0]}xx vel",
                                           f"Zebras, {k['forbidden_words'][0].title()}."),
    "keywords:letter_frequency": lambda k: counted(k["let_relation"], k["let_frequency"],
                                                   lambda n: f"1 {repeat(k['letter'].upper(), n)}."),
    "language:response_language": lambda k: (FOREIGN[k["language"]], ENGLISH),
    "length_constraints:number_sentences": lambda k: counted(k["relation"], k["num_sentences"],
                                                             lambda n: repeat("Dr. Smith saw zebras.", n)),
    "length_constraints:number_words": lambda k: counted(k["relation"], k["num_words"],
                                                         lambda n: repeat("don't", n)),
    "length_constraints:number_paragraphs": lambda k: (repeat("Zebras run.", k["num_paragraphs"], "\n***\n"),
                                                       repeat("Zebras run.", k["num_paragraphs"] + 1, "\n***\n")),
    "length_constraints:nth_paragraph_first_word": lambda k: (paragraphs(k, k["first_word"]),
                                                              paragraphs(k, k["first_word"] + "xx")),
    "detectable_content:number_placeholders": lambda k: (repeat("See [name].", k["num_placeholders"]),
                                                         repeat("See [name].", k["num_placeholders"] - 1) + " []"),
    "detectable_content:postscript": lambda k: (f"Zebras run.\n\n{k['postscript_marker']} They rest.",
                                                f"Zebras run.\n\n{k['postscript_marker']}"),
    "detectable_format:number_bullet_lists": lambda k: (repeat("* a zebra", k["num_bullets"], "\n"),
                                                        repeat("- a zebra", k["num_bullets"] + 1, "\n")),
    "detectable_format:constrained_response": lambda k: ("My answer is no.", "My answer is no. My answer is yes."),
    "detectable_format:number_highlighted_sections": lambda k: (
        repeat("*zebras* run", k["num_highlights"]), repeat("**zebras** run", k["num_highlights"] - 1) + " ***"),
    "detectable_format:multiple_sections": lambda k: (
        "\n".join(f"{k['section_spliter']} {i + 1}\nZebras." for i in range(k["num_sections"])),
        "\n".join(f"{k['section_spliter']} 1\nZebras." for _ in range(k["num_sections"]))),
    "detectable_format:json_format": lambda k: ('```json\n{"zebras": 3}\n```', 'Here it is: {"zebras": 3}'),
    "detectable_format:title": lambda k: ("<<Zebras>>\nThey run.", "<< >>\n<Zebras>"),
    "combination:two_responses": lambda k: ("Zebras run.\n******\nZebras rest.", "Zebras.\n******\nZebras."),
    "combination:repeat_prompt": lambda k: (f"{k['prompt_to_repeat']} Zebras.", f"Sure! {k['prompt_to_repeat']}"),
    "startend:end_checker": lambda k: (f"Zebras run. {k['end_phrase']}", f"{k['end_phrase']} Zebras."),
    "startend:quotation": lambda k: ('"Zebras run."', '"Zebras" run.'),
    "change_case:english_capital": lambda k: (ENGLISH.upper(), ENGLISH.upper() + " a"),
    "change_case:english_lowercase": lambda k: (ENGLISH, ENGLISH + " A"),
    "change_case:capital_word_frequency": lambda k: counted(k["capital_relation"], k["capital_frequency"],
                                                            lambda n: f"Zebras run. {repeat('FAST', n)}"),
    "punctuation:no_comma": lambda k: (ENGLISH, ENGLISH + ", slowly"),
}
TYPES = sorted(TEXTS)


def draw(type_id: str, seed: int) -> Args:
    args = get(type_id).sample(Random(seed), SEED)
    assert args is not None
    return args


@pytest.mark.parametrize("type_id", TYPES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_complying_text_passes_and_one_step_away_fails_with_a_reason(type_id: str, seed: int) -> None:
    kind, args = get(type_id), draw(type_id, seed)
    good, bad = TEXTS[type_id](args)
    assert kind.check(good, args), (good, args)
    assert not kind.check(bad, args), (bad, args)
    why = kind.why(bad, args)
    assert why
    assert "does not satisfy" not in why


@pytest.mark.parametrize("type_id", TYPES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_every_description_names_every_argument_and_agrees_in_number(type_id: str, seed: int) -> None:
    kind, args = get(type_id), draw(type_id, seed)
    shown = {"language": {"de": "German", "es": "Spanish", "fr": "French", "it": "Italian", "nl": "Dutch",
                          "pt": "Portuguese"}.get(args.get("language", ""))}
    for template in kind.descriptions:
        text = template.format_map(kind.words(args))
        for name, value in args.items():
            for part in value if isinstance(value, list) else [shown.get(name) or value]:
                spoken = {"less than": ("fewer than", "less than")}.get(part, (str(part),))
                assert any(s in text for s in spoken), (text, name, part)
        assert text[-1] not in ".;:!?", text
        for noun in ("time", "word", "sentence", "paragraph", "placeholder", "section", "part"):
            assert f" 1 {noun}s" not in text


@pytest.mark.parametrize("type_id", TYPES)
def test_there_are_at_least_five_different_descriptions(type_id: str) -> None:
    assert len(set(get(type_id).descriptions)) >= 5


@pytest.mark.parametrize("type_id", TYPES)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_same_seed_draws_describes_and_demands_the_same(type_id: str, seed: int) -> None:
    kind = get(type_id)
    one, two = draw(type_id, seed), draw(type_id, seed)
    assert one == two
    assert kind.describe(one, Random(seed)) == kind.describe(two, Random(seed))
    assert kind.demands(one) == kind.demands(two)
    assert not any(r.empty for r in kind.demands(one).counts.values())


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_keywords_are_words_with_a_meaning_of_their_own(seed: int) -> None:
    word = draw("keywords:existence", seed)["keywords"][0]
    assert word.isalpha()
    assert word not in STOP_WORDS


def test_types_that_do_not_fit_a_seed_are_skipped() -> None:
    assert get("detectable_format:constrained_response").sample(Random(0), "Write a poem about glaciers.") is None
    assert get("combination:repeat_prompt").sample(Random(0), "First line\nSecond line") is None


@pytest.mark.parametrize(("keyword", "text", "strict", "compat"), [
    ("c++", "I like C++ best.", True, None),         # as a regular expression it is not even valid
    ("react.js", "reactXjs", False, True),           # "." is a full stop, not any character
    ("form", "information", False, True),            # a part of a word is not the word
])
def test_keywords_are_words_not_regular_expressions(keyword: str, text: str, strict: bool,
                                                    compat: bool | None) -> None:
    kind, args = get("keywords:existence"), {"keywords": [keyword]}
    assert kind.check(text, args) is strict
    if compat is not None:
        assert kind.check_compat(text, args) is compat


def test_a_text_without_a_detectable_language_is_in_no_language() -> None:
    kind = get("language:response_language")
    assert not kind.check("12 34", {"language": "de"})
    assert kind.check_compat("12 34", {"language": "de"})


@pytest.mark.parametrize(("type_id", "text", "args"), [
    ("change_case:english_capital", "WATER BOILS AT 100 DEGREES.", {}),  # langdetect: Afrikaans
    ("change_case:english_lowercase", "dogs are loyal pets.", {}),  # langdetect: Catalan
    ("language:response_language", "Dogs are loyal pets.", {"language": "en"}),
])
def test_a_short_text_is_not_failed_on_a_guess_about_its_language(type_id: str, text: str, args: Args) -> None:
    (verdict,) = verify(text, [Constraint(type=type_id, kwargs=args)])
    assert verdict.outcome is Outcome.NO_VERDICT
    assert "too short" in verdict.reason


def test_demands_state_what_collides() -> None:
    def demands(type_id: str, **args: Any) -> Any:
        return get(type_id).demands(args)

    assert "P.S." in demands("detectable_content:postscript", postscript_marker="P.S.").literals
    assert demands("detectable_format:multiple_sections", section_spliter="SECTION", num_sections=3) \
        .counts["capital_words"].low == 3
    assert "," in demands("punctuation:no_comma").forbidden_chars
    assert demands("keywords:frequency", keyword="Ice", relation="less than", frequency=1).forbidden == ("Ice",)
    assert demands("keywords:frequency", keyword="ice", relation="less than", frequency=0).counts["word:ice"].empty
    assert demands("startend:quotation").starts == demands("startend:quotation").ends == '"'
    assert demands("length_constraints:number_paragraphs", num_paragraphs=2).exclusive \
        == demands("combination:two_responses").exclusive


def test_rows_in_ifeval_form_are_read_without_their_null_arguments() -> None:
    row = {"instruction_id_list": ["keywords:existence", "punctuation:no_comma"], "constraints": ["a", "b"],
           "kwargs": [{"keywords": ["ice"], "relation": None}, None]}
    one, two = read_constraints(row, "rows.jsonl:1")
    assert (one.kwargs, one.text, two.kwargs, two.text) == ({"keywords": ["ice"]}, "a", {}, "b")


@pytest.mark.parametrize(("ids", "kwargs", "message"), [
    (None, [], "field 'instruction_id_list': expected a list, found NoneType"),
    (["keywords:existence"], [], "field 'kwargs': 1 ids but 0 kwargs"),
    (["keywords:existance"], [{}], "did you mean 'keywords:existence'"),
    ([7], [{}], "field 'instruction_id_list'[0]: expected a constraint id, found int"),
    (["keywords:existence"], [{"keywords": None}],
     "field 'kwargs'[0]: keywords:existence needs the argument 'keywords'"),
    (["keywords:existence"], [{"keywords": "ice"}], "must be a list of words"),
    (["keywords:existence"], ["ice"], "expected an object of arguments, found str"),
    (["length_constraints:number_words"], [{"relation": "around", "num_words": 3}], "unknown relation 'around'"),
    (["keywords:letter_frequency"], [{"letter": "ab", "let_relation": "at least", "let_frequency": 1}],
     "must be one character"),
    (["language:response_language"], [{"language": "xx"}], "unknown language code 'xx'"),
    (["length_constraints:nth_paragraph_first_word"],
     [{"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"}], "outside 1 to 2"),
])
def test_a_bad_row_is_named_with_file_row_and_field(ids: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(UserError) as e:
        read_constraints({"instruction_id_list": ids, "kwargs": kwargs}, "rows.jsonl:4")
    assert message in str(e.value)
    assert "rows.jsonl:4: field" in str(e.value)


def test_arguments_met_before_are_each_rows_own_and_bad_ones_are_refused_again() -> None:
    row = {"instruction_id_list": ["keywords:letter_frequency"],
           "kwargs": [{"letter": "a", "let_relation": "at least", "let_frequency": 1}]}
    [first], [second] = read_constraints(row, "rows.jsonl:1"), read_constraints(row, "rows.jsonl:2")
    assert first == second
    assert first.kwargs is not second.kwargs
    row["kwargs"] = [{"letter": "a", "let_relation": "at least", "let_frequency": "one"}]
    for number in (3, 4):
        with pytest.raises(UserError, match=f"rows.jsonl:{number}: field"):
            read_constraints(row, f"rows.jsonl:{number}")


def test_a_verdict_of_the_reference_stands_where_our_own_count_gives_none() -> None:
    """Our count refuses Thai, the reference's does not: the reason alone is missing, not the verdict."""
    short = Constraint(type="length_constraints:number_words", kwargs={"relation": "at least", "num_words": 19})
    [ours], [reference] = verify("สวัสดี", [short]), verify("สวัสดี", [short], ifeval_compat=True)
    assert ours.outcome is Outcome.NO_VERDICT
    assert reference.failed
    assert "2 words" in reference.reason  # the count it went by


def test_the_reason_in_compat_mode_is_the_references_count():
    constraint = Constraint(type="length_constraints:number_words", kwargs={"relation": "at least", "num_words": 5})
    ours, theirs = (verify("I don't know.", [constraint], ifeval_compat=compat)[0].reason for compat in (False, True))
    assert ("3" in ours, "4" in theirs) == (True, True)


@pytest.mark.parametrize(("type_id", "kwargs", "answer", "reason"), [
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "- a\n- b\n---", "has 3 bullet points"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 3}, "2 * 3 * 4", "has 1 highlighted part")])
def test_the_reason_in_compat_mode_gives_the_references_count(
        type_id: str, kwargs: dict[str, Any], answer: str, reason: str) -> None:
    """It said "has 2 bullet points; exactly 2 were asked for" of an answer that the reference fails."""
    [verdict] = verify(answer, [Constraint(type=type_id, kwargs=kwargs)], ifeval_compat=True)
    assert verdict.failed
    assert verdict.reason.startswith(reason)
