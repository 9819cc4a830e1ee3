"""Near-duplicates: the fast join finds what comparing everything with everything finds, and nothing else."""

from __future__ import annotations

import sys
import tracemalloc
from random import Random
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory import embedding
from if_factory.errors import UserError
from if_factory.similarity.dedup import near_duplicates, shingles

WORDS = ["plan", "plans", "budget", "trip", "a", "the", "e-mail", "email", "Café", "cafe", "42", "!", "書く",
         "नमस्ते"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), max_size=30)


def brute_force(given_texts, threshold):
    found, kept = [], []
    for i, text in enumerate(given_texts):
        own = shingles(text)
        first = next((j for j in kept if len(own & shingles(given_texts[j])) + 1e-9
                      >= threshold * len(own | shingles(given_texts[j]))), None)
        found.append(first)
        if first is None:
            kept.append(i)
    return found


@given(texts, st.sampled_from([0.1, 1 / 3, 0.5, 0.6, 0.7, 0.75, 0.9, 1.0]))
def test_the_join_finds_exactly_what_comparing_all_pairs_finds(given_texts, threshold):
    assert near_duplicates(given_texts, threshold=threshold) == brute_force(given_texts, threshold)


@given(st.lists(st.text(max_size=30), max_size=12))
def test_any_text_can_be_compared_and_equal_texts_repeat_each_other(given_texts):
    found = near_duplicates(given_texts * 2)
    assert found[:len(given_texts)] == near_duplicates(given_texts)
    assert all(j is not None for j in found[len(given_texts):])


@pytest.mark.parametrize(("first", "second"), [
    ("Health care", "healthcare plans!"), ("draft an email", "write an email"), ("", "!!!"),
    ("plan a trip", "plan")])
def test_different_things_are_kept(first, second):
    assert near_duplicates([first, second]) == [None, None]


@pytest.mark.parametrize(("first", "second"), [
    ("Draft an e-mail", "draft emails"), ("Personal finance", "personal finances."), ("café menus", "Cafe Menu"),
    ("A nurse in Oslo has to explain a new shift plan to twelve colleagues before the weekend begins.",
     "A nurse in Oslo has to explain the new shift plan to ten colleagues before the weekend begins.")])
def test_case_accents_hyphens_articles_plurals_and_a_changed_word_do_not_make_a_new_text(first, second):
    assert near_duplicates([first, second]) == [None, 0]


def test_a_repetition_names_the_first_text_kept_not_another_repetition():
    assert near_duplicates(["plan a trip", "Plan a trip!", "plan the trips", "bake bread"]) == [None, 0, 0, None]


@pytest.mark.parametrize("threshold", [0, -1, 1.1])
def test_a_threshold_outside_0_and_1_is_an_error_of_the_user(threshold):
    with pytest.raises(UserError):
        near_duplicates(["a"], threshold=threshold)


def test_what_one_text_alone_has_takes_little_memory():
    texts = [" ".join(f"word{i * j % 5003}" for j in range(1, 16)) for i in range(1, 4001)]
    elements = sum(len(shingles(text)) for text in texts)
    tracemalloc.start()
    near_duplicates(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / elements < 90, f"{peak / elements:.0f} bytes per element"


def test_twenty_thousand_texts_are_not_compared_pair_by_pair(monkeypatch):
    from if_factory.similarity import dedup

    rng, compared, similarity = Random(0), [0], dedup._similarity

    def counted(*given):
        compared[0] += 1
        return similarity(*given)

    monkeypatch.setattr(dedup, "_similarity", counted)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrtuvwxyz", k=6)) for _ in range(8000)]
    weights = [1 / (rank + 1) for rank in range(len(vocabulary))]  # as words in texts are distributed
    made = [" ".join(rng.choices(vocabulary, weights, k=15)) for _ in range(20_000)]
    made[1::100] = made[::100]
    found = near_duplicates(made)
    assert all(found[i] is not None for i in range(1, 20_000, 100))
    assert compared[0] < 20_000 * 100  # of 200,000,000 pairs


class TestEmbedding:
    """With a scripted encoder in the place of sentence-transformers: what is made of the vectors."""

    @pytest.fixture(autouse=True)
    def encoder(self, monkeypatch):
        numpy = pytest.importorskip("numpy")
        module = ModuleType("sentence_transformers")

        class SentenceTransformer:
            def __init__(self, name, device=None):
                assert name == "scripted"

            def encode(self, given_texts, normalize_embeddings, **_):
                assert normalize_embeddings
                angles = numpy.array([float(text) for text in given_texts]) / 180 * numpy.pi
                return numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1)

        module.SentenceTransformer = SentenceTransformer
        monkeypatch.setitem(sys.modules, "sentence_transformers", module)
        embedding.load.cache_clear()
        yield
        embedding.load.cache_clear()

    def found(self, degrees, threshold=0.9):
        return near_duplicates([str(d) for d in degrees], threshold=threshold, method="embedding",
                               model="scripted")

    def test_near_vectors_repeat_the_first_kept_one_and_no_chain_forms(self):
        assert self.found([0, 20, 40, 41, 90]) == [None, 0, None, 2, None]  # cos 25.8 degrees = 0.9

    def test_blocks_make_no_difference(self, monkeypatch):
        from if_factory.similarity import dedup

        degrees = [Random(i).uniform(0, 360) for i in range(99)]
        whole = self.found(degrees, 0.99)
        for size in (1, 7, 50):
            monkeypatch.setattr(dedup, "_BLOCK", size)
            assert self.found(degrees, 0.99) == whole

    def test_without_a_model_it_is_an_error_of_the_user(self):
        with pytest.raises(UserError, match="model"):
            near_duplicates(["a"], method="embedding")


def test_without_sentence_transformers_embedding_says_what_to_install_and_auto_uses_n_grams(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setattr("if_factory.similarity.dedup.find_spec", lambda name: None)
    with pytest.raises(UserError, match="if-factory\\[embed\\]"):
        near_duplicates(["a"], method="embedding", model="any")
    assert near_duplicates(["Plan a trip", "plan trip"], model="any") == [None, 0]
