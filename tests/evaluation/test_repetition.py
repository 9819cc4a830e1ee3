"""Repetition and length: counts known by hand, and a naive counter as the oracle."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.errors import UserError
from if_factory.evaluation import repetition
from if_factory.evaluation.repetition import Tokens, count, measure, read_texts, tokens

WORDS = tokens("words")
UNIQUE = " ".join(f"w{i}" for i in range(3000))
PHRASE = "all of this has happened before "  # 6 words


def test_counts_of_a_text_made_by_hand() -> None:
    # Three times the phrase with a word between: its two 5-grams occur 3 times each, nothing else repeats.
    text = " ".join(PHRASE + f"x{i}" for i in range(3))
    counted = count(text, WORDS.starts)
    assert (counted.length, counted.most) == (21, {5: 3, 10: 1})
    assert counted.windows == ((4, 17), (0, 0))  # 17 5-grams, 13 distinct


def test_a_gram_twice_is_not_a_repeating_text_but_counts_in_the_rate() -> None:
    twice = PHRASE + "and " + PHRASE
    result = measure([twice, UNIQUE], WORDS)
    assert result.repeating[5].passed == 0
    assert result.within[0].passed == 2


def test_ten_grams_need_ten_words_in_a_row() -> None:
    ten = "one two three four five six seven eight nine ten "
    assert count((ten + "a ") + (ten + "b ") + ten, WORDS.starts).most == {5: 3, 10: 3}
    assert count("same " * 14, WORDS.starts).most == {5: 10, 10: 5}


def test_overlapping_occurrences_count() -> None:
    assert count("a a a a a a a", WORDS.starts).most[5] == 3


def test_a_window_is_counted_on_its_own() -> None:
    # 2048 different words, then the first hundred again: new to the second window, so repeated in neither.
    words = UNIQUE.split()[:2048]
    assert count(" ".join([*words, *words[:100]]), WORDS.starts).windows == ((0, 2048), (0, 96))
    # The same hundred twice in the second window: 96 5-grams come back.
    assert count(" ".join([*words, *words[:100], *words[:100]]), WORDS.starts).windows[1][0] == 96


def test_windows_are_bounded_in_tokens_and_not_in_words() -> None:
    letters = Tokens("letters", lambda text: [i for i, c in enumerate(text) if not c.isspace()])
    counted = count("abcd " * 1000, letters.starts)
    assert counted.length == 4000
    assert counted.windows == ((511, 512), (483, 484))  # 512 words of 4 letters begin before letter 2048


def test_texts_without_words_are_counted_apart() -> None:
    result = measure([None, "", " \n", "a b c"], WORDS)
    assert (result.texts, result.no_text) == (1, 3)
    assert result.within[1].n == 0
    assert "none so long" in repetition.markdown({"m": result}, WORDS)
    with pytest.raises(UserError, match="no text"):
        measure([None, ""], WORDS)


def naive(words: list[str], n: int) -> tuple[int, int]:
    """(most occurrences, repeated ones) by comparing everything with everything."""
    grams = [words[i:i + n] for i in range(len(words) - n + 1)]
    most = max((sum(g == h for h in grams) for g in grams), default=0)
    return most, sum(any(g == h for h in grams[:i]) for i, g in enumerate(grams))


@given(st.lists(st.sampled_from(["a", "b", "Ä"]), max_size=60))
def test_agrees_with_a_naive_counter(words: list[str]) -> None:
    counted = count(" ".join(words), WORDS.starts)
    assert counted.most == {n: naive(words, n)[0] for n in (5, 10)}
    assert counted.windows[0] == (naive(words, 5)[1], max(0, len(words) - 4))


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_words_are_what_split_says(text: str) -> None:
    assert count(text, WORDS.starts).length == len(text.split())


def test_shares_carry_intervals_and_the_same_texts_the_same_bytes() -> None:
    texts = [(PHRASE + f"x{i} ") * 3 if i % 4 == 0 else f"{UNIQUE} {i}" for i in range(40)]
    result = measure(texts, WORDS)
    five = result.repeating[5]
    assert (five.passed, five.n) == (10, 40)
    assert five.low < 0.25 < five.high
    assert result.length.low is not None
    assert result.length.low < result.length.value
    plain = json.dumps(repetition.as_dict({"m": result}, WORDS))
    assert plain == json.dumps(repetition.as_dict({"m": measure(texts, WORDS)}, WORDS))


def write(path, *rows) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))


def test_reads_what_evaluate_wrote_and_any_other_rows(tmp_path) -> None:
    file = tmp_path / "r.jsonl"
    write(file, {"id": "1", "responses": {"before": {"text": "a"}, "after": {"text": None}}})
    assert read_texts(file) == {"before": ["a"], "after": [None]}
    write(file, {"text": "t"}, {"text": "u"})
    assert read_texts(file) == {"text": ["t", "u"]}
    write(file, {"instruction": "i", "output": "o"})
    assert read_texts(file) == {"response": ["o"]}
    write(file, {"generated": "g", "output": "o"})
    assert read_texts(file, "generated") == {"generated": ["g"]}


@pytest.mark.parametrize(("row", "column", "message"), [
    ({"a": 1}, None, r"r\.jsonl:1: no text"),
    ({"a": 1}, "b", "field 'b': no such field"),
    ({"a": 1}, "a", "field 'a': expected a text"),
])
def test_a_row_without_its_text_is_named(tmp_path, row, column, message) -> None:
    write(tmp_path / "r.jsonl", row)
    with pytest.raises(UserError, match=message):
        read_texts(tmp_path / "r.jsonl", column)


def test_without_tiktoken_words_are_counted_and_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert tokens().name == "words"
    with pytest.raises(UserError, match="TIKTOKEN_CACHE_DIR"):
        tokens("o200k_base")


def test_with_tiktoken_tokens_begin_where_it_says(monkeypatch) -> None:
    class Scripted:
        """A scripted encoding of two characters per token."""

        def encode(self, text, disallowed_special):
            assert disallowed_special == ()
            return [text[i:i + 2] for i in range(0, len(text), 2)]

        def decode_with_offsets(self, ids):
            return "".join(ids), [2 * i for i in range(len(ids))]

    scripted = type(sys)("tiktoken")
    scripted.get_encoding = lambda name: Scripted()
    monkeypatch.setitem(sys.modules, "tiktoken", scripted)
    chosen = tokens()
    assert chosen.name == "o200k_base"
    assert count("abcde <|endoftext|>", chosen.starts).length == 10
