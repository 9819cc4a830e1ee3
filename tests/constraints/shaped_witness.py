"""Complying texts for constraints that shape every word or sentence: each has a layout of its own.

The other constraints of a set with one of them only leave something out, or ask for words, a number of words or of
sentences; see ``AVOIDING`` and ``PLAIN`` in ``types/public.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

from if_factory.constraints.demands import Demands, Range
from if_factory.records import Constraint

Words = Sequence[str]
_SHORT = "air bud cub dim fig gum hub mix nut oat pot rug sky tub zip arm".split()  # noqa: SIM905
_CONTENT = "garden bread music bright river stone window green paper summer field winter".split()  # noqa: SIM905
_ALPHABET = """ant bee cat dog egg fox gem hen ink jar key log map net oak pig quiz rat sun top urn van web xylem yak
zoo""".split()  # noqa: SIM905
_PRIME = (2, 3, 5, 7)


def shaped(constraint: Constraint, demands: Demands, fillers: Words) -> Iterator[str]:
    """Texts for ``constraint`` with what the demands of its whole set require, built of ``fillers``."""
    banned = {w.lower() for w in demands.forbidden} | {u[5:] for u in demands.counts if u.startswith("word:")}
    yield from SHAPES[constraint.type](constraint.kwargs, _Asked(demands, fillers, banned))


class _Asked:
    """What the rest of the set asks for: words, and how many words and sentences."""

    def __init__(self, demands: Demands, fillers: Words, banned: set[str]) -> None:
        self.banned = banned
        self.fillers = list(dict.fromkeys(w for w in fillers if w not in banned))
        self.short = self.free(_SHORT)
        self.required = [w.lower() for w in demands.words if f"word:{w.lower()}" not in demands.counts]
        self.required += [u[5:] for u, limit in demands.counts.items() if u.startswith("word:")
                          for _ in range(limit.low)]
        self.words = demands.counts.get("words", Range())
        self.sentences = demands.counts.get("sentences", Range())

    def free(self, words: Words) -> list[str]:
        return [w for w in words if w not in self.banned]

    def counts(self) -> Iterator[tuple[int, int]]:
        """Numbers of sentences and of words to try."""
        most = self.sentences.high or 12
        for sentences in range(max(1, self.sentences.low), most + 1):
            for words in (self.words.low, 20, 30, self.words.low + 30):
                yield sentences, words


def _written(sentences: Sequence[Words], marks: str = ".") -> str:
    return " ".join(_capital(" ".join(s)) + mark for s, mark in zip(sentences, cycle(marks), strict=False))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------- plain prose with one thing in place

Place = Callable[[list[list[str]], list[str]], None]


def _prose(asked: _Asked, place: Place, *, marks: str = ".", fillers: Words = (), least: int = 1,
           own: Words = ()) -> Iterator[str]:
    """Sentences of fillers and required words; ``place`` changes them, taking its own fillers from the second.

    ``own`` are words that ``place`` writes itself, which are then not written again.
    """
    for count, words in asked.counts():
        for sentences in range(max(count, least), max(count, least) + len(marks)):
            stock = cycle(asked.free(fillers or asked.fillers))
            required = list(asked.required)
            for word in own:
                if word in required:
                    required.remove(word)
            rest = islice(stock, max(0, words - len(required) - sentences))
            found: list[list[str]] = [[next(stock)] for _ in range(sentences)]
            for i, word in enumerate([*required, *rest]):
                found[i % sentences].append(word)
            place(found, list(islice(stock, 12)))
            yield _written(found, marks)


def _nothing(found: list[list[str]], stock: list[str]) -> None:
    """The sentences stay as they are."""


def _position(keyword: str, n: int, m: int) -> Place:
    def place(found: list[list[str]], stock: list[str]) -> None:
        found += [[stock.pop()] for _ in range(n - len(found))]
        for i in range(m - 1 - len(found[n - 1])):
            found[n - 1].append(stock[i])
        found[n - 1].insert(m - 1, keyword)
    return place


def _positioned(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    keyword = kwargs["keyword"]
    return _prose(asked, _position(keyword, kwargs["n"], kwargs["m"]), own=[keyword])


def _in_sentence(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    return _prose(asked, _position(kwargs["word"], kwargs["N"], 1), own=[kwargs["word"]])


def _second(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    def place(found: list[list[str]], stock: list[str]) -> None:
        if len(found) == 1:
            found[0] += stock[:3]
        found[0].insert(1, kwargs["keyword"])
        found[-1] += [kwargs["keyword"], stock[3]]
    return _prose(asked, place, own=[kwargs["keyword"]] * 2)


def _each(first: str = "", last: str = "") -> Place:
    def place(found: list[list[str]], stock: list[str]) -> None:
        for sentence in found:
            sentence[:0] = [first] if first else []
            sentence += [last] if last else []
    return place


def _then_bullets(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    for text in _prose(asked, _nothing, least=2):
        yield f"{text}\n* {asked.short[0]}\n* {asked.short[1]}"


# ---------------------------------------------------------------- every word, every line


def _chained(asked: _Asked, fits: Callable[[str, str], bool], words: Words) -> Iterator[str]:
    chain: list[str] = []
    for word in words:
        if not chain or fits(chain[-1], word):
            chain.append(word)
    yield _written([chain[:6]])


def _alphabet(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    for start in range(22):
        yield _written([_ALPHABET[start:start + 4]])


def _only(fits: Callable[[str], object]) -> Callable[[dict[str, Any], _Asked], Iterator[str]]:
    return lambda kwargs, asked: iter([_written([[w for w in asked.fillers if fits(w)][:5]])])


def _alliterating(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    for letter in "stwbalo":
        words = sorted({w for w in asked.fillers if w[0] == letter})
        if len(words) >= 3:
            yield _written([words[:2], words[:3]])


def _growing(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    stock = cycle(asked.fillers)
    yield _written([list(islice(stock, 2 + i * kwargs["small_n"])) for i in range(3)])


def _composed(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    stock = cycle(asked.fillers)
    yield "\n***\n".join(_written([list(islice(stock, kwargs["n_words"])) for _ in range(kwargs["n_sent"])])
                         for _ in range(3))


def _linked(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    a, b, c, d = asked.short[:4]
    yield _written([[a, b], [b, c], [c, d]])


def _lines(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    a, b, c, d = asked.short[:4]
    yield f"{_capital(a)} {b} {a}.\n{_capital(c)} {d} {c}."


def _with_required(asked: _Asked) -> list[str]:
    words = [*asked.short[:3], *asked.required]
    return words if len(words) % 2 == 0 else [*words, asked.short[3]]


def _japanese(kwargs: dict[str, Any], asked: _Asked) -> Iterator[str]:
    words = list(islice(cycle(asked.fillers), 2 * kwargs["N"] + 1))
    words[kwargs["N"] - 1::kwargs["N"]] = ["水", "水"]
    yield _written([words])


SHAPES: dict[str, Callable[[dict[str, Any], _Asked], Iterator[str]]] = {
    "keywords:keyword_specific_position": _positioned,
    "words:keywords_specific_position": _positioned,
    "sentence:keyword": _in_sentence,
    "words:words_position": _second,
    "first_word:first_word_sent": lambda k, a: _prose(a, _each(first=k["first_word"]), own=[k["first_word"].lower()]),
    "last_word:last_word_sent": lambda k, a: _prose(a, _each(last=k["last_word"]), own=[k["last_word"].lower()]),
    "format:emoji": lambda k, a: _prose(a, _each(last="🌟")),
    "words:repeats": lambda k, a: _prose(a, _nothing),
    "ratio:stop_words": lambda k, a: _prose(a, _nothing, fillers=_CONTENT),
    "ratio:sentence_type": lambda k, a: _prose(a, _nothing, marks="..?"),
    "ratio:sentence_balance": lambda k, a: _prose(a, _nothing, marks=".?!"),
    "format:no_bullets_bullets": _then_bullets,
    "keywords:no_adjacent_consecutive": lambda k, a: _chained(a, lambda x, y: ord(y[0]) - ord(x[0]) != 1, a.fillers),
    "words:no_consecutive": lambda k, a: _chained(a, lambda x, y: x[0] != y[0], a.fillers),
    "count:count_unique": lambda k, a: iter([_written([list(dict.fromkeys(a.fillers))[:6]])]),
    "words:alphabet": _alphabet,
    "words:vowel": _only(lambda w: not set(w) & set("iu")),
    "words:consonants": _only(re.compile("[bcdfghjklmnpqrstvwxyz]{2}").search),
    "words:prime_lengths": _only(lambda w: len(w) in _PRIME),
    "words:paragraph_last_first": _lines,
    "words:last_first": _linked,
    "sentence:increment": _growing,
    "sentence:alliteration_increment": _alliterating,
    "ratio:sentence_words": lambda k, a: iter([_written([a.short[:2], a.short[2:4], a.short[4:6]])]),
    "count:counting_composition": _composed,
    "format:newline": lambda k, a: iter(["\n".join(_with_required(a))]),
    "format:line_indent": lambda k, a: iter(["\n".join(" " * i + w for i, w in enumerate(_with_required(a)))]),
    "format:no_whitespace": lambda k, a: iter(["-".join(a.short[:3])]),
    "detectable_format:square_brackets": lambda k, a: iter([" ".join(f"[{w}]" for w in _with_required(a))]),
    "detectable_format:bigram_wrapping": lambda k, a: iter([" ".join(
        f"<<{x} {y}>>" for x, y in zip(*[iter(_with_required(a))] * 2, strict=True))]),
    "detectable_format:sentence_hyphens": lambda k, a: iter(["-".join(
        f"{_capital(w)} {a.fillers[0]}." for w in _with_required(a))]),
    "count:words_japanese": _japanese,
    "format:options": lambda k, a: iter([k["options"].split("/")[0]]),
}
