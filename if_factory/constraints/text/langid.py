"""langdetect's algorithm and profiles, several times faster and in a fraction of its memory.

Same n-grams, same seeded sampling, same arithmetic as langdetect 1.0.9 with ``DetectorFactory.seed = 0``, hence
the same answer (a test compares them). What differs: the profiles are one file (``langid.bin``, written by
``scripts/pack_language_profiles.py``) of which only the n-grams of the characters that occur are looked at, a
word's n-grams are looked up once, sampling stops as soon as no other language can win, and a text that is plainly
English is not sampled at all.
"""

from __future__ import annotations

import json
import random
import re
import sys
import threading
from array import array
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from if_factory.constraints.text.words import runs

_TRIALS = 7
_ITERATIONS = 1000
_CONVERGED = 0.99999
_MAX_CHARS = 10000
_LEAST_PROBABILITY = 0.1
_FILE = Path(__file__).with_name("langid.bin")  # scripts/pack_language_profiles.py describes its form
_LOCK = threading.Lock()


class _Profiles:
    """The profiles of all languages: how often each n-gram was seen in which, and how many 1-, 2- and 3-grams in all.

    ``places``: the number of each n-gram of the blocks read so far. A block is 128 characters, and holds the n-grams
    whose highest character is one of them.
    """

    def __init__(self) -> None:
        content = _FILE.read_bytes()
        start = content.index(b"\n") + 1
        head, raw, parts = json.loads(content[:start]), memoryview(content), []
        for size in head["sizes"]:
            parts.append(raw[start:start + size])
            start += size
        self.names: list[str] = head["names"]
        self.starts, self.counts = (_numbers(part) for part in parts[:2])
        self.languages, self._text = parts[2:]
        self._totals = [[of[n] for of in head["n_words"]] for n in range(3)]
        self._unread: dict[int, list[int]] = {int(block): place for block, place in head["blocks"].items()}
        self.places: dict[str, int] = {}
        self.read("a")

    def read(self, chars: Iterable[str]) -> None:
        """Makes sure that the n-grams of these characters are among ``places``."""
        for block in {ord(char) >> 7 for char in chars}:
            if place := self._unread.get(block):
                first, n, start, size = place
                grams = str(self._text[start:start + size], "utf-8").split("\n")
                self.places.update(zip(grams, range(first, first + n), strict=True))
                self._unread.pop(block, None)  # last: another thread may ask meanwhile

    def row(self, gram: str) -> list[float]:
        """The probability of a known n-gram in each language."""
        found, totals = [0.0] * len(self.names), self._totals[len(gram) - 1]
        place = self.places[gram]
        here = slice(self.starts[place], self.starts[place + 1])
        for language, count in zip(self.languages[here], self.counts[here].tolist(), strict=True):
            found[language] = count / totals[language]
        return found


def _numbers(part: memoryview) -> memoryview | array[int]:
    if sys.byteorder == "little":
        return part.cast("I")
    swapped = array("I", part.tobytes())
    swapped.byteswap()
    return swapped


_loaded = lru_cache(maxsize=1)(_Profiles)


def _profiles() -> _Profiles:
    with _LOCK:  # one for all threads
        return _loaded()


@lru_cache(maxsize=16384)
def _row(gram: str) -> list[float]:
    return _profiles().row(gram)


# What langdetect makes of characters outside kana, Hangul and Han, which are its to map, where it does not keep them.
# Beside these, accented Vietnamese letters are one letter, and punctuation is a blank.
_CHANGED = {"\xa0": " ", "\xab": " ", "\xb0": " ", "\xbb": " ", "\u0219": "\u015f", "\u021b": "\u0163",
            "\u06cc": "\u064a"}


@lru_cache(maxsize=8192)
def _normal(char: str) -> str:
    if char < "\x80":
        return char if char.isalpha() else " "
    if "\u1ea0" <= char <= "\u1eff":
        return "\u1ec3"
    if "\u2000" <= char <= "\u206f":
        return " "
    if char < "\u3040" or char > "\ud7af":
        return _CHANGED.get(char, char)
    from langdetect.utils.ngram import NGram

    return str(NGram.normalize(char))


_NO_LETTER = re.compile("[^A-Za-z]")


def _normalized(text: str) -> str:
    return _NO_LETTER.sub(" ", text) if text.isascii() else "".join(map(_normal, text))


_ADDRESS = re.compile("://|@")
_VIETNAMESE_MARKS = re.compile("[\u0300\u0301\u0303\u0309\u0323]")


def _clean(text: str) -> str:
    """Without addresses, with one blank for several, and without Latin letters where they are the minority."""
    if _ADDRESS.search(text):
        from langdetect.detector import Detector

        text = Detector.MAIL_RE.sub(" ", Detector.URL_RE.sub(" ", text))
    if not text.isascii() and _VIETNAMESE_MARKS.search(text):
        from langdetect.utils.ngram import NGram

        text = NGram.normalize_vi(text)
    text = text[:_MAX_CHARS]
    while "  " in text:
        text = text.replace("  ", " ")
    if text.isascii():
        return text
    # langdetect means to leave out Vietnamese letters here, but compares a number with their block's name.
    others = sum(map("\u0300".__le__, text))
    return re.sub("[A-z]", "", text) if others and len(re.findall("[A-z]", text)) * 2 < others else text


@lru_cache(maxsize=32768)
def _grams_of(word: str) -> tuple[str, ...]:
    """The known 1- to 3-grams of ``" word"`` or ``" word "`` (a blank is a character), by their last character.

    Words in capitals are left out from their second letter on.
    """
    if not word:
        return ()
    padded = f" {word}"
    found = [word[0], padded[:2]]
    in_capitals = False
    shouted = not word[1:].islower() and any(map(str.isupper, word[1:]))
    for a, b, c in zip(padded, padded[1:], padded[2:], strict=False):
        if shouted:
            in_capitals = c.isupper() and (in_capitals or b.isupper())
            if in_capitals:
                continue
        found += (c, b + c, a + b + c)
    profiles = _profiles()
    if not word.isascii():
        profiles.read(word)
    return tuple(filter(profiles.places.__contains__, found))


def _grams(text: str) -> list[str]:
    words = _normalized(text).split(" ")
    found: list[str] = []
    for word in words[:-1]:
        if word:
            found += _grams_of(word + " ")
    return found + list(_grams_of(words[-1]))


# langdetect skips words in capitals, so only small letters count here.
_ENGLISH = frozenset("the and of to is that with for this are it you be can your have from or by not".split())  # noqa: SIM905
_FOREIGN = re.compile(r"(?![\x00-\x7f])[^\W\d_]")


def _plainly_english(text: str) -> bool:
    """At least 20 words, a fifth of them the commonest English ones, and no letter that is not ASCII (curly quotes and
    emoji may occur): saves the sampling."""
    head = text[:_MAX_CHARS]
    common = sum(map(_ENGLISH.__contains__, runs(head)))
    return common >= 4 and 20 <= len(head.split()) <= 5 * common and (
        head.isascii() or not _FOREIGN.search(head))


@lru_cache(maxsize=2048)
def detect(text: str) -> str | None:
    """The likeliest language (ISO 639-1; ``zh-cn``, ``zh-tw`` for Chinese), or ``None`` if undetectable."""
    if _plainly_english(text):
        return "en"
    grams = _grams(_clean(text))
    if not grams:
        return None
    languages = _profiles().names
    rng = random.Random(0)
    size, bits, draw = len(grams), len(grams).bit_length(), rng.getrandbits

    def drawn() -> list[float]:
        """The row of ``rng.choice(grams)``."""
        while (at := draw(bits)) >= size:
            pass
        return _row(grams[at])

    total = [0.0] * len(languages)
    start = [1.0 / len(languages)] * len(languages)
    for trial in range(_TRIALS):
        w = (0.5 + rng.gauss(0.0, 1.0) * 0.05) / 10000
        probabilities = [p * (w + a) for p, a in zip(start, drawn(), strict=True)]
        for five in range(_ITERATIONS // 5 + 1):
            norm = sum(probabilities)
            probabilities = [p / norm for p in probabilities]
            if max(probabilities) > _CONVERGED or five == _ITERATIONS // 5:
                break
            # Five steps at once: the same products in the same order.
            probabilities = [p * (w + a) * (w + b) * (w + c) * (w + d) * (w + e) for p, a, b, c, d, e in zip(
                probabilities, drawn(), drawn(), drawn(), drawn(), drawn(), strict=True)]
        total = [t + p for t, p in zip(total, probabilities, strict=True)]
        first, second = sorted(total)[:-3:-1]
        if first - second > _TRIALS - trial - 1:
            break  # the trials left cannot change the order
    best = max(total)
    return languages[total.index(best)] if best > _LEAST_PROBABILITY * _TRIALS else None
