"""Texts are read from where people keep them, lose only what is not theirs, and are cut where a reader would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.constraints.text import count_words
from if_factory.errors import UserError
from if_factory.inputs.documents import clean, read_texts, segment, text_record, why_not

PROSE = "The boat came in at noon. Nobody was there to meet it. The gulls sat on the wall and looked away."


def paragraphs(n: int, words: int = 20) -> str:
    return "\n\n".join(" ".join([f"Part{i}"] + ["word"] * (words - 2) + ["end."]) for i in range(n))


# ---------------------------------------------------------------- reading


def test_the_shipped_texts_are_short_original_prose_with_titles():
    texts = list(read_texts(None))
    assert len(texts) == 12
    assert len({t.title for t in texts}) == 12
    for t in texts:
        assert 150 <= count_words(t.text) <= 400
        assert why_not(t.text, min_words=100, max_words=1500) is None
        assert clean(t.text) == (t.text, {})
        assert t.text.isascii()


def test_a_folder_is_read_file_by_file_in_order(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text(PROSE)
    (tmp_path / "a.md").write_text("# A Day\n\n" + PROSE)
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": PROSE, "id": "x"}) + "\n")
    (tmp_path / "ignored.pdf").write_bytes(b"%PDF")
    texts = list(read_texts(tmp_path))
    assert [t.source for t in texts] == ["a.md", "two.txt", "c.jsonl:1"]
    assert [t.title for t in texts] == ["A Day", "", ""]
    assert texts[2].extra == {"seed_id": "x"}
    assert len(list(read_texts(tmp_path, limit=2))) == 2


def test_rows_are_texts_or_pairs_whose_instruction_is_known(tmp_path: Path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"body": PROSE, "title": "T"}) + "\n")
    assert next(read_texts(path, column="body")).title == "T"
    path.write_text(json.dumps({"prompt": "Write.", "response": PROSE}) + "\n")
    [pair] = read_texts(path)
    assert (pair.text, pair.prompt) == (PROSE, "Write.")
    record = text_record(pair, "suri")
    assert record.candidates[0].source == "human"
    assert record.prompt == record.seed_prompt == "Write."
    assert record.id == text_record(pair, "suri").id


@pytest.mark.parametrize(("row", "said"), [
    ({"content": "x"}, "text_column: content"), ({"text": ""}, "non-empty"), ({"text": 3}, "non-empty"),
    ({"response": "x"}, "field 'prompt'"), ({}, "missing")])
def test_a_row_without_a_text_is_named_with_its_place(row: object, said: str, tmp_path: Path):
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"text": PROSE}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=said) as e:
        list(read_texts(path))
    assert "t.jsonl:2" in str(e.value)


@pytest.mark.parametrize("name", ["gone.txt", "gone.jsonl", "gone.parquet", "gone"])
def test_a_missing_place_is_a_user_error(name: str, tmp_path: Path):
    with pytest.raises(UserError):
        list(read_texts(tmp_path / name))


def test_an_empty_folder_or_file_is_a_user_error(tmp_path: Path):
    with pytest.raises(UserError, match="no texts"):
        list(read_texts(tmp_path))
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(UserError, match="empty"):
        list(read_texts(tmp_path))


def test_parquet_is_read_with_the_datasets_library(tmp_path: Path):
    datasets = pytest.importorskip("datasets", reason="the datasets library is not installed here")
    datasets.Dataset.from_list([{"text": PROSE, "n": i} for i in range(3)]).to_parquet(tmp_path / "t.parquet")
    assert [t.source for t in read_texts(tmp_path / "t.parquet")] == [f"t.parquet:{i}" for i in (1, 2, 3)]


# ---------------------------------------------------------------- cleaning


def test_what_is_not_the_text_goes_and_is_counted():
    raw = (f"{PROSE}\r\n\r\n- 12 -\r\n\r\n{PROSE}\n\nRead more\n\nCopyright 1998 by X. All rights reserved.\n\n"
           "References\n\nSmith, J. (1999). On boats. pp. 3-9.\nJones, K. (2001). On gulls. doi:10.1/x\n")
    text, removed = clean(raw)
    assert text == f"{PROSE}\n\n{PROSE}"
    assert removed == {"page_number": 1, "boilerplate": 2, "bibliography": 3}


def test_a_licence_around_a_book_goes():
    raw = f"Hi\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n{PROSE}\n*** END OF THE PROJECT GUTENBERG\nMore"
    assert clean(raw) == (PROSE, {"licence": 4})


@pytest.mark.parametrize("kept", [
    "I like to read more novels in winter than in summer.", "She shared this with nobody.",
    "Notes\n\nHe wrote the notes down and played them. The tune was simple.", "In 1914 everything changed.",
    "A poem\nof short lines\nstays as it is", "Click. The door was shut."])
def test_prose_that_only_looks_like_it_stays(kept: str):
    assert clean(kept) == (kept, {})


# ---------------------------------------------------------------- cutting


def test_a_text_within_the_window_is_one_piece_as_it_is():
    assert segment(PROSE, min_words=1, max_words=100) == [PROSE]


def test_pieces_are_about_equal_and_end_with_paragraphs():
    pieces = segment(paragraphs(10), min_words=30, max_words=90)
    assert [count_words(p) for p in pieces] == [60, 80, 60] or max(map(count_words, pieces)) <= 90
    assert all(p.startswith("Part") and p.endswith("end.") for p in pieces)
    assert "\n\n".join(pieces) == paragraphs(10)


def test_a_paragraph_that_is_too_long_is_cut_between_sentences():
    pieces = segment(" ".join([PROSE] * 20), min_words=30, max_words=60)
    assert all(count_words(p) <= 60 and p.endswith((".",)) and p[0].isupper() for p in pieces)
    assert " ".join(pieces) == " ".join([PROSE] * 20)


@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=30), most=st.integers(20, 80),
       least=st.integers(1, 20))
def test_no_word_is_lost_and_only_a_sentence_may_be_over_the_window(sizes: list[int], most: int, least: int):
    text = "\n\n".join(" ".join(["Word"] * n) + "." for n in sizes)
    pieces = segment(text, min_words=least, max_words=most)
    assert sum(map(count_words, pieces)) == sum(sizes)
    for piece in pieces:
        assert count_words(piece) <= most or count_words(piece) in sizes


# ---------------------------------------------------------------- turning away


@pytest.mark.parametrize(("text", "why"), [
    (PROSE, None), ("Short.", "too_short"), (PROSE * 40, "too_long"), (PROSE + " \ufffd" * 5 + ".", "garbled"),
    ("\n".join(f"Smith, J. (19{i}). On the boats. Sea Press, pp. 1-9." for i in range(60, 66)), "bibliography"),
    (" ".join(f"{i} | {i * 7} |" for i in range(40)) + ".", "not_prose"), ("word " * 150 + ".", "not_prose"),
    ("\n".join(["The same line again and again.", "Another one."] * 5), "repetitive"),
    (PROSE + " And then the", "no_end"), (f'{PROSE} "Come back!"', None)])
def test_why_a_piece_is_not_used(text: str, why: str | None):
    assert why_not(text, min_words=5, max_words=400) == why
