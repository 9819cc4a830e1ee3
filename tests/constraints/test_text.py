"""What a word, a sentence, a bullet and the like are, on texts where it matters."""

from __future__ import annotations

import re
from importlib import import_module

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from if_factory.constraints import text as measure


@pytest.mark.parametrize(("text", "expected"), [
    ("Hello world. This is it.", ["Hello world.", "This is it."]),
    ("no end mark at all", ["no end mark at all"]),
    ('He said "Stop!" and left. Then he slept.', ['He said "Stop!" and left.', "Then he slept."]),
    ("Dr. J. K. Smith, e.g. the elder, lives at No. 5 Elm St. now.",
     ["Dr. J. K. Smith, e.g. the elder, lives at No. 5 Elm St. now."]),
    ("We met in the U.S. He left.", ["We met in the U.S.", "He left."]),
    ("It costs 3.50. Is that much?! Yes...", ["It costs 3.50.", "Is that much?!", "Yes..."]),
    ("1. First item.\n2. Second item.", ["First item.", "Second item."]),
    ("A title\n\nOne. Two.", ["A title", "One.", "Two."]),
    ("**Bold.** Next one.\n\n***\n\nLast.", ["**Bold.**", "Next one.", "Last."]),
    ("My answer is no. Why? Because.", ["My answer is no.", "Why?", "Because."]),
    ("你好。再见。", ["你好。", "再见。"]),
    ("", []),
    ("*** ...", []),
])
def test_sentences_end_where_a_reader_would_end_them(text: str, expected: list[str]) -> None:
    found = measure.sentences(text)
    assert [" ".join(s.replace("***", "").split()) for s in found] == expected


@given(st.text(alphabet="aB.!?\"') \n1…。*", max_size=60))
def test_sentences_lose_no_letter_and_keep_the_order(text: str) -> None:
    kept = "".join(measure.sentences(text))
    # A list number ("1. ") is no part of a sentence.
    assert [c for c in kept if c.isalpha()] == [c for c in text if c.isalpha()]
    assert all(any(c.isalnum() for c in s) for s in measure.sentences(text))


_PIECES = st.sampled_from([
    "He ran.", "why", " ", "\n", "\n\n", "Mr. Fox", "etc. and", "...", '"Stop!" she said', "1. one", "*", "- item\n",
    "No. 5.", "U.S.", "?!", "é.", "He", " 3.5 "])


@given(st.lists(_PIECES, max_size=14).map("".join))
def test_whether_there_are_so_many_sentences_is_what_counting_them_says(text: str) -> None:
    there = len(measure.sentences(text))
    assert [measure.has_sentences(text, n) for n in range(there + 3)] == [n <= there for n in range(there + 3)]


@given(st.integers(1, 30), st.sampled_from(["He ran.", "Why not?", "Stop!", "It costs 3.5 euros.", "Mr. Fox."]))
def test_n_sentences_are_counted_as_n(n: int, sentence: str) -> None:
    assert measure.count_sentences(" ".join([sentence] * n)) == n


def test_reference_sentences_follow_punkt_not_the_reader() -> None:
    assert measure.punkt_sentences("1. First item.\n2. Second one.") == ["1.", "First item.", "2.", "Second one."]
    assert len(measure.punkt_sentences("- one\n- two\n- three")) == 1


@pytest.mark.parametrize(("text", "count"), [("don't stop", 2), ("well-known", 2), ("a, b; c", 3), ("", 0)])
def test_words(text: str, count: int) -> None:
    assert measure.count_words(text) == len(measure.words(text)) == count


@pytest.mark.parametrize(("text", "phrase", "count"), [
    ("Cat, cat; category", "cat", 2), ("C++ and c++.", "C++", 2), ("ice\n cream", "ice cream", 1), ("x", "", 0),
    ("a.b aXb", "a.b", 1), ("well-being", "being", 1)])
def test_phrases_are_whole_words_and_no_patterns(text: str, phrase: str, count: int) -> None:
    assert measure.count_phrase(text, phrase) == count
    assert measure.contains_phrase(text, phrase) is (count > 0)


def test_capital_words_join_what_a_reader_joins() -> None:
    text = "I'M HERE: SELF-MADE, iPhone, U.S. P.P.S 24, NASA's."
    assert measure.capital_words(text) == ["I'M", "HERE", "SELF-MADE", "U.S.", "P.P.S"]


def test_lists_and_marks() -> None:
    text = "* a\n- b\n  * c\n**bold**\n-5\n1. one\n2) two\n---\n"
    assert measure.bullets(text) == ["a", "b", "c"]
    assert measure.numbered_items(text) == [(1, ".", "one"), (2, ")", "two")]
    assert measure.placeholders("[a] [] [b](url) [c d]") == ["a", "c d"]
    assert measure.count_highlights("*a* **b c** ***d*** 2 * 3 * 4") == 3
    assert measure.paragraphs("a\nb\n\n \n\nc\n") == ["a\nb", "c"]
    assert measure.lines(" a\n\n b ") == ["a", "b"]
    assert measure.strip_code_fence('```json\n{"a": 1}\n```') == '{"a": 1}'
    assert measure.first_word('**"Hello,"** she said') == "Hello"


@pytest.mark.parametrize(("text", "language"), [
    ("The cat sat on the mat and looked at the bird in the tree with great interest.", "en"),
    ("Die Katze schläft auf dem Sofa und träumt von einer langen Reise.", "de"),
    ("Сегодня хорошая погода, и мы идём гулять в парк.", "ru"),
    ("今日はとても良い天気です。", "ja"),
    ("123 456", None), ("", None)])
def test_languages_are_told_apart_and_no_language_is_none(text: str, language: str | None) -> None:
    assert measure.detect_language(text) == language


@pytest.mark.parametrize("text", ["." * 50_000, "a." * 20_000, "(" * 50_000, "*" * 50_000, "a" * 100_000,
                                  "!? " * 20_000, "[" * 20_000, "\n" * 20_000])
def test_hostile_texts_are_measured_in_linear_time(text: str) -> None:
    """A checker that hangs stops a whole run; quadratic rules would take minutes on these."""
    for measured in (measure.sentences, measure.punkt_sentences, measure.bullets, measure.placeholders,
                     measure.count_highlights, measure.count_bold,
                     measure.titles, measure.paragraphs, measure.words, measure.capital_words):
        measured(text)


@given(pattern=st.sampled_from(["sun", "the sun", "A1", "k", "is", "i", "c++", "a.c", "a_b", "é", " s", "(sun|sea)",
                                "sun-tea", "s's", "a, b", "-s"]),
       text=st.text(alphabet="sunteaikAIKS1_ .,'-éßıİſK\n", max_size=60))
@example(pattern="k", text="K")
@example(pattern="sun", text="sunsun sun_ sun")
def test_a_pattern_is_counted_as_a_regular_expression_counts_it(pattern: str, text: str) -> None:
    for whole in (False, True):
        try:
            wanted = len(re.findall(rf"\b{pattern}\b" if whole else pattern, text, re.IGNORECASE))
        except re.error:
            with pytest.raises(re.error):
                measure.count_pattern(pattern, text, whole=whole)
        else:
            assert measure.count_pattern(pattern, text, whole=whole) == wanted


@given(st.text(max_size=40))
@example("Ǆǅǆ ªⅧⓐ ʰ \ud800 a_b Éé")
def test_letters_and_runs_are_counted_as_python_counts_them(text: str) -> None:
    words = import_module("if_factory.constraints.text.words")  # not the function of that name

    assert words.count_upper(text) == sum(map(str.isupper, text))
    assert words.count_lower(text) == sum(map(str.islower, text))
    assert words.runs(text) == re.findall(r"\w+", text)


@given(st.text(alphabet="aé\u02ff\u0300ก中\u2019\U0001f600\U0001efff\U0003ffff", max_size=3))
@example("\ud7ff")
@example("\ue000")
def test_texts_of_other_scripts_go_to_the_library(text: str) -> None:
    words = import_module("if_factory.constraints.text.words")  # not the function of that name

    pairs = zip(words._LIBRARY[::2], words._LIBRARY[1::2], strict=True)
    wanted = any(low <= char <= high for low, high in pairs for char in text)
    assert any(map(words._is_librarys, text)) is wanted


@pytest.mark.parametrize("text", [
    "NASA said Cannot CANnot I'M I'll Dn't A Ab aB McDonald U.S. AND/OR B2B self-MADE Hello,World O'Neil X",
    "ÉCOLE École NASA l’ÉTÉ Straße ǅ", "", "no capital here",
])
def test_passing_over_chunks_without_a_capital_word_loses_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = import_module("if_factory.constraints.text.words")  # not the function of that name
    from if_factory.constraints.types.ifeval import case

    def capitals() -> tuple[list[str], list[str]]:
        return measure.capital_words(text), [t for t in case._treebank_tokens(text) if t.isupper()]

    found = capitals()
    for module in (words, case):
        monkeypatch.setattr(module, "capital_chunks", str.split)
    assert found == capitals()


@given(st.text(alphabet="aA b\n.İıſKé-", max_size=30), st.sampled_from(["a", "ab", "a b", "s", "k", "i", "a.", "-a"]))
def test_a_phrase_found_without_a_pattern_is_where_the_pattern_finds_it(text: str, phrase: str) -> None:
    words = import_module("if_factory.constraints.text.words")  # not the function of that name

    search = words._searcher(text, phrase)
    pattern = words._body(phrase)
    for start in range(len(text) + 1):
        by_pattern = pattern.search(text, start)
        assert search(start) == (by_pattern.span() if by_pattern else None)


@given(st.text(alphabet="S1 \t\n>-*`~.", max_size=40))
def test_lines_outside_code_are_those_the_parser_leaves(text: str) -> None:
    from if_factory.constraints.text import markdown

    heading = re.compile(r"^[ \t>*\-]*S *1", re.MULTILINE)
    kept = "\n".join(
        "" if n in code else line for code in [{
            n for t in markdown._parser().parse(text) if t.type in ("fence", "code_block") and t.map
            for n in range(*t.map)}]
        for n, line in enumerate(text.split("\n")))
    assert [m.group() for m in measure.outside_code(heading, text)] == heading.findall(kept)
    assert measure.without_code(text) == kept
