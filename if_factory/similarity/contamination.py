"""Contamination: prompts of a training set that are, nearly are, or rephrase the prompts of a benchmark.

Three checks of every training prompt, cheapest first: shared word n-grams (13 as in GPT-3 and AutoIF), the
cosine similarity to the nearest benchmark prompt (Conifer, figure 3), and for the nearest pairs a judge who says
whether one rephrases the other (Yang et al., 2023, "Rethinking Benchmark and Contamination for Language Models
with Rephrased Samples"; Conifer, table 5).
"""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from if_factory.chat.base import Completion, RequestFailed
from if_factory.chat.parse import Failure, ask_parsed
from if_factory.chat.schemas import schema_of
from if_factory.embedding import embed
from if_factory.judge.judge import Ask
from if_factory.judge.reply import read_one
from if_factory.pipeline.spread import in_blocks, spread
from if_factory.prompts import load
from if_factory.records import content_id
from if_factory.similarity.dedup import WORD, shingles

PROMPTS = Path(__file__).parent / "prompts"
_TOGETHER = 256  # prompts of a block


@dataclass(frozen=True, slots=True)
class Nearest:
    """A training prompt and the benchmark prompt nearest to it.

    Attributes:
        row: position of the training prompt; ``test``: position of the benchmark prompt.
        cosine: similarity in [0, 1].
        shared_ngram: whether n consecutive words of this training prompt occur in any prompt of the benchmark.
        rephrased: the judge's answer; ``None`` if it was not asked or the reply could not be read.
    """

    row: int
    benchmark: str
    test: int
    cosine: float
    shared_ngram: bool = False
    rephrased: bool | None = None

    def contaminated(self, cosine: float) -> str | None:
        """Why this prompt should go, most certain reason first; ``None`` if it may stay."""
        if self.shared_ngram:
            return "shared_ngram"
        if self.rephrased:
            return "rephrased"
        return "similar" if self.cosine >= cosine else None


def nearest(train: Sequence[str], benchmarks: Mapping[str, Sequence[str]], *, ngram: int = 13,
            model: str | None = None, workers: int | None = None) -> list[Nearest]:
    """For every training prompt and benchmark the nearest benchmark prompt, by row and then by benchmark.

    Args:
        ngram: words in a row that two prompts may not share; a benchmark prompt of fewer words counts whole.
        model: folder or name of a sentence-transformers model. Without one the cosine is that of the sets of
            words and word pairs, which sees shared wording and not shared meaning.
        workers: see ``spread``. Texts are embedded in this process all the same.
    """
    given = {name: tests for name, tests in sorted(benchmarks.items()) if tests}
    found = [n for part in spread(partial(_Comparer, given, ngram, by_words=model is None),
                                  in_blocks(enumerate(train), _TOGETHER), workers) for n in part]
    if model is None:
        return found
    # The last digits of an embedding depend on the texts beside it and on the machine.
    closest = {name: _by_embedding(train, tests, model) for name, tests in given.items()}
    return [replace(n, test=test, cosine=cosine) for n in found for test, cosine in [closest[n.benchmark][n.row]]]


class _Comparer:
    """What ``nearest`` does with a block of numbered training prompts.

    Args:
        by_words: look for the nearest by words; else only shared runs of words are looked for.
    """

    def __init__(self, benchmarks: Mapping[str, Sequence[str]], ngram: int, *, by_words: bool) -> None:
        self.ngram, self.by_words = ngram, by_words
        self.grams = {name: {g for text in tests for g in _ngrams(text, ngram)} for name, tests in benchmarks.items()}
        self.shingles = {name: _Shingles(tests if by_words else ()) for name, tests in benchmarks.items()}

    def __call__(self, train: Sequence[tuple[int, str]]) -> list[Nearest]:
        found = []
        for row, text in train:
            own, words = _ngrams(text, self.ngram), shingles(text) if self.by_words else frozenset()
            for name, grams in self.grams.items():
                test, cosine = self.shingles[name].nearest(words)
                found.append(Nearest(row, name, test, cosine, not grams.isdisjoint(own)))
        return found


def _ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    """The runs of ``n`` words; of a shorter text all its words, which only an equal text has."""
    words = tuple(WORD.findall(text.casefold()))
    return {words[i:i + n] for i in range(max(1, len(words) - n + 1))} if words else set()


class _Shingles:
    """A benchmark's prompts by their words and word pairs."""

    def __init__(self, tests: Sequence[str]) -> None:
        sets = [shingles(t) for t in tests]
        self.sizes = list(map(len, sets))
        self.postings: dict[str, list[int]] = defaultdict(list)
        for i, s in enumerate(sets):
            for element in s:
                self.postings[element].append(i)

    def nearest(self, own: frozenset[str]) -> tuple[int, float]:
        """The prompt most like a text with these shingles, the first of several, and the cosine."""
        shared: dict[int, int] = defaultdict(int)
        for element in own:
            for i in self.postings.get(element, ()):
                shared[i] += 1
        cosine, i = max(((n / sqrt(len(own) * self.sizes[i]), -i) for i, n in shared.items()), default=(0.0, 0))
        return -i, cosine


def _by_embedding(train: Sequence[str], tests: Sequence[str], model: str) -> list[tuple[int, float]]:
    vectors, targets = embed(train, model), embed(tests, model)
    cosines: Any = vectors @ targets.T
    return [(int(row.argmax()), float(row.max())) for row in cosines]


class _Same(BaseModel):
    same: bool
    reason: str = ""


async def ask_rephrased(ask: Ask, found: Sequence[Nearest], train: Sequence[str],
                        benchmarks: Mapping[str, Sequence[str]], *, top: int = 1, floor: float = 0.3,
                        tries: int = 3) -> list[Nearest]:
    """``found`` with the judge's word on the ``top`` nearest training prompts of every benchmark prompt.

    Args:
        floor: pairs less similar than this are not worth asking about.
    """
    by_test: dict[tuple[str, int], list[Nearest]] = defaultdict(list)
    for n in found:
        if n.cosine >= floor:
            by_test[n.benchmark, n.test].append(n)
    chosen = [n for group in by_test.values()
              for n in heapq.nlargest(top, group, key=lambda n: (n.cosine, -n.row))]
    said = await asyncio.gather(*(_same(ask, train[n.row], benchmarks[n.benchmark][n.test], tries)
                                  for n in chosen))
    answers = dict(zip(((n.row, n.benchmark) for n in chosen), said, strict=True))
    return [replace(n, rephrased=answers.get((n.row, n.benchmark), n.rephrased)) for n in found]


async def _same(ask: Ask, first: str, second: str, tries: int) -> bool | None:
    text = load(PROMPTS, "rephrase").render(first=first, second=second, mark=content_id(first, second))
    try:
        said = await ask_parsed(ask, [{"role": "user", "content": text}], _read, tries=tries,
                                schema=schema_of(_Same), temperature=0.0)
    except RequestFailed:  # one pair too long for the judge must not end the look at all others
        return None
    return None if isinstance(said, Failure) else said.same


def _read(text: str) -> _Same | Failure:
    return read_one(Completion(text), _Same, "same")


@dataclass(frozen=True, slots=True)
class Summary:
    """One benchmark's line of the report: how many training prompts cross each line, and the share of its prompts
    that some training prompt rephrases (Conifer's table 5 counts those)."""

    benchmark: str
    tests: int
    shared_ngram: int
    similar: int
    rephrased_tests: int
    asked: int

    @property
    def rephrased_share(self) -> float:
        return self.rephrased_tests / self.tests if self.tests else 0.0


def summarise(found: Sequence[Nearest], benchmarks: Mapping[str, Sequence[str]], cosine: float) -> list[Summary]:
    out = []
    for name, tests in benchmarks.items():
        own = [n for n in found if n.benchmark == name]
        out.append(Summary(name, len(tests), shared_ngram=sum(n.shared_ngram for n in own),
                           similar=sum(n.cosine >= cosine for n in own),
                           rephrased_tests=len({n.test for n in own if n.rephrased}),
                           asked=sum(n.rephrased is not None for n in own)))
    return out
