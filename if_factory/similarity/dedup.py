"""Near-duplicates among many short texts: by word n-grams, or by embeddings where a model is given.

The n-gram method is an exact join, not a sketch: every text that repeats an earlier one at the threshold is found.
What makes it fast is prefix filtering (Bayardo et al. 2007, "Scaling up all pairs similarity search"): two sets
can only be as similar as the threshold if they share one of their rarest elements, so only those are indexed and
only texts that meet there are compared.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain, pairwise
from math import ceil
from typing import Literal, NamedTuple

from if_factory.embedding import embed
from if_factory.errors import UserError

WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]|[^\W_]+")
# The last s of a word of four letters or more: cats, not gas or glass.
_PLURAL = re.compile(r"(?<=[^\W_\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]{3})(?<!s)s(?![^\W_])")
_INSIDE_WORDS = dict.fromkeys(map(ord, "-'’\u2010\u2011\u00ad"))  # deleted: e-mail and email, don't and dont
_ARTICLES = frozenset(("a", "an", "the"))
_ROUNDING = 1e-9  # 0.7 * 10 is 7.000000000000001
_BLOCK = 1024  # texts compared at a time by embedding


def near_duplicates(texts: Sequence[str], *, threshold: float = 0.7,
                    method: Literal["auto", "ngram", "embedding"] = "auto",
                    model: str | None = None) -> list[int | None]:
    """For each text the index of the earlier text it repeats, or ``None``.

    Texts are taken in order; one that is at least ``threshold`` similar to a text that was kept is a repetition of
    the first such text, else it is kept itself. So no two kept texts are similar, and every dropped one is similar
    to a kept one. Equal input gives equal output.

    Args:
        threshold: in (0, 1]. Jaccard similarity of the sets of words and word pairs (see ``shingles``): one word
            of twenty replaced leaves 0.85, three leave 0.6. Or the cosine of embeddings, for which 0.85 to 0.95
            is usual.
        method: ``auto`` embeds if ``model`` is given and sentence-transformers is installed, else uses n-grams.
        model: folder or name of a sentence-transformers model.

    Raises:
        UserError: embeddings are asked for without a model or without sentence-transformers.
    """
    if not 0 < threshold <= 1:
        raise UserError(f"a similarity threshold of {threshold} is not within 0 and 1", fix="0.7 is a good start")
    if method == "embedding" or (method == "auto" and model and find_spec("sentence_transformers")):
        return _by_embedding(texts, threshold, model)
    return _by_ngram(texts, threshold)


# ---------------------------------------------------------------- n-grams


def shingles(text: str) -> frozenset[str]:
    """The words of a text and the pairs of neighbouring words, as they count in a comparison.

    Case, accents, punctuation, hyphens, articles and the plural's s do not; scripts written without spaces are
    taken character by character. A text without any word is its own only element: only its equals repeat it.
    """
    words = _words(text)
    return frozenset((*words, *map(" ".join, pairwise(words))))


def _words(text: str) -> list[str]:
    bare = text.casefold()
    if not bare.isascii():
        bare = "".join(c for c in unicodedata.normalize("NFKD", bare) if not unicodedata.combining(c))
    words = WORD.findall(_PLURAL.sub("", bare.translate(_INSIDE_WORDS)))
    return [word for word in words if word not in _ARTICLES] or words or [text.strip()]


def _by_ngram(texts: Sequence[str], threshold: float) -> list[int | None]:
    elements = _elements(texts)
    index: dict[int, list[int]] = defaultdict(list)  # element -> kept texts that have it in their prefix
    found: list[int | None] = []
    for i, own in enumerate(elements):
        # Of n elements, any set at the threshold shares at least threshold * n: so one of the rarest of them. The
        # rarest are those of no other text, which meet nothing.
        fewest = _at_least(threshold * own.size)
        prefix = own.shared[:max(0, len(own.shared) - fewest + 1)]
        met = {j for element in prefix for j in index[element]
               if fewest <= elements[j].size and threshold * elements[j].size <= own.size + _ROUNDING}
        mine = frozenset(own.shared) if met else frozenset()
        found.append(next((j for j in sorted(met)
                           if _similarity(own.size, mine, elements[j]) + _ROUNDING >= threshold), None))
        if found[i] is None:
            for element in prefix:
                index[element].append(i)
    return found


class _Elements(NamedTuple):
    """How many elements a text has, and the numbers of those that another text has too, the rarest first."""

    size: int
    shared: array[int]


def _elements(texts: Sequence[str]) -> list[_Elements]:
    """The ``shingles``, as numbers: these take a fraction of the memory, and most are one text's alone."""
    numbers: dict[str, int] = {}  # of the words, from 1; a pair's is made of its words'
    sets = []
    for text in texts:
        words = [numbers.setdefault(word, len(numbers) + 1) for word in _words(text)]
        sets.append(array("Q", {*words, *[first << 32 | second for first, second in pairwise(words)]}))
    del numbers
    in_order = sorted(chain.from_iterable(sets))  # a list takes a fraction of the memory of a dictionary's keys
    again = Counter(one for one, other in pairwise(in_order) if one == other)
    del in_order
    rank = {n: i for i, n in enumerate(sorted(again, key=again.__getitem__))}
    return [_Elements(len(each), array("I", sorted([rank[n] for n in each if n in rank]))) for each in sets]


def _at_least(x: float) -> int:
    return ceil(x - _ROUNDING)


def _similarity(size: int, shared: frozenset[int], other: _Elements) -> float:
    """Of a text of so many elements, those that another text has too given, to another one."""
    both = len(shared.intersection(other.shared))
    return both / (size + other.size - both)


# ---------------------------------------------------------------- embeddings


def _by_embedding(texts: Sequence[str], threshold: float, model: str | None) -> list[int | None]:
    if model is None:
        raise UserError("comparing by embedding needs a model",
                        fix="name a sentence-transformers model or its folder")
    if not texts:
        return []
    vectors = embed(texts, model)
    found: list[int | None] = []
    kept: list[int] = []
    for start in range(0, len(texts), _BLOCK):
        block = vectors[start:start + _BLOCK]
        before, inside = block @ vectors[kept].T >= threshold, block @ block.T >= threshold
        earlier = list(kept)
        for i, (old, new) in enumerate(zip(before, inside, strict=True)):
            first = earlier[int(old.argmax())] if old.any() else \
                next((j for j in kept[len(earlier):] if new[j - start]), None)
            found.append(first)
            if first is None:
                kept.append(start + i)
    return found
