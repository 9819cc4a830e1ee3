"""Finished records on disk: what was put in, in the order of the keys."""

import errno
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory import files
from if_factory.errors import UserError
from if_factory.pipeline.spool import SortedSpool, Spool
from if_factory.records import Candidate, Constraint, Outcome, Record, Verdict

keys = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)
text = st.text(st.characters(), max_size=20)  # lone surrogates too: a server may send them


def record(words: str) -> Record:
    made = Record.from_seed(words, extra={"said": words, "nested": {"n": [1, 2.5, None, True]}})
    return made.child(words, [Constraint(type="punctuation:no_comma", kwargs={"x": 1})], 0.1).with_candidates(
        Candidate(text=words, source="s", verdicts=(Verdict(outcome=Outcome.FAIL, reason=words),)))


@settings(deadline=None)
@given(st.dictionaries(keys, text, max_size=12), st.sampled_from([1, 10**6]))
def test_records_come_back_equal_and_in_the_order_of_their_keys(tmp_path_factory, given_texts, most):
    kept, expected = SortedSpool(tmp_path_factory.getbasetemp()), []
    kept._lines._file._max_size = most  # in a file from the first byte on, or never
    for key, words in given_texts.items():
        kept.put(key, record(words))
        assert len(kept) == len(expected) + 1
        expected.append((key, record(words)))
        in_order = [r for _, r in sorted(expected, key=lambda pair: pair[0])]
        assert kept == in_order, "reading in between harms nothing"
        assert kept[1:] == in_order[1:]
    assert [json.loads(line) for line in kept.lines()] == [r.model_dump(mode="json") for r in kept]
    assert sorted(kept.ids()) == sorted(r.id for r in kept)
    seeds = [key[0] for key, _ in sorted(expected, key=lambda pair: pair[0])]
    assert list(kept.by_seed()) == [(seed, [kept[i] for i, s in enumerate(seeds) if s == seed])
                                    for seed in sorted(set(seeds))]
    assert kept != [*kept, record("one more")]


@settings(deadline=None)
@given(st.lists(text, max_size=9))
def test_without_keys_the_order_is_that_of_putting_them_in(given_texts):
    kept = Spool()
    for words in given_texts:
        kept.append(record(words).model_copy(update={"id": words}))
    assert [r.prompt for r in kept] == list(kept.ids()) == given_texts
    assert kept[-1:] == [record(words).model_copy(update={"id": words}) for words in given_texts[-1:]]


def test_a_full_disk_is_said_and_leaves_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_IN_MEMORY", 10)
    kept = SortedSpool(tmp_path)

    def full(data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kept._lines._file, "write", full)
    with pytest.raises(UserError, match=r"(?s)temporary file: No space left .*free space"):
        kept.put((0,), record("x"))
    assert not list(tmp_path.iterdir())
