"""langdetect's algorithm and profiles, several times faster and in a fraction of its memory.

Same n-grams, same seeded sampling, same arithmetic as langdetect 1.0.9 with ``DetectorFactory.seed = 0``, hence
the same answer (a test compares them). What differs: profiles stay as they are on disk instead of becoming 55
numbers for each of 100,000 n-grams, those that hold no n-gram of ASCII letters are read only for other texts, a
word's n-grams are looked up once, sampling stops as soon as no other language can win, and a text that is plainly
English is not sampled at all.
"""

from __future__ import annotations

import importlib.util
import json
import random
import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_TRIALS = 7
_ITERATIONS = 1000
_CONVERGED = 0.99999
_MAX_CHARS = 10000
_LEAST_PROBABILITY = 0.1


# Profiles without any n-gram of ASCII letters and signs alone (a test looks): to a text of such they are all zeros.
_NOT_ASCII = ("ar", "fa", "hi", "ja", "ko", "mr", "ne", "ur", "zh-cn", "zh-tw")
_OTHER_LETTERS = re.compile("[\x80-\u1fff\u223c\u2c00-\ufdff\ufe10-\uffff]")


_LOCK = threading.Lock()


class _Profiles:
    """langdetect's profiles in the order of their names: how often each n-gram was seen, how many 1-, 2- and 3-grams
    in all. What was found out for texts of ASCII letters stays true when the other profiles are read."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("langdetect")  # not imported: its folder is all that is needed
        if spec is None or not spec.submodule_search_locations:
            raise ImportError("No module named 'langdetect'")
        folder = Path(spec.submodule_search_locations[0]) / "profiles"
        self.files = {p.name: p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".")}
        self.names = list(self.files)
        self.partial = True
        self.seen: list[dict[str, int]] = [{}] * len(self.names)
        self.totals = [[1, 1, 1]] * len(self.names)
        self._read(name for name in self.names if name not in _NOT_ASCII)

    def _read(self, names: Iterable[str]) -> None:
        for name in names:
            profile, place = json.loads(self.files[name].read_bytes()), self.names.index(name)
            self.seen[place], self.totals[place] = profile["freq"], profile["n_words"]
        self.by_length = [[(seen.get, total[n]) for seen, total in zip(self.seen, self.totals, strict=True)]
                          for n in range(3)]

    def complete(self) -> None:
        """Reads what texts of ASCII letters do not need. Other threads wait, or ask about such letters meanwhile."""
        if self.partial:
            with _LOCK:
                if self.partial:
                    self._read(_NOT_ASCII)
                    self.partial = False

    def knows(self, gram: str) -> bool:
        """Whether any profile has the n-gram."""
        for seen in self.seen:  # noqa: SIM110  a generator would take twice the time
            if gram in seen:
                return True
        return False

    def row(self, gram: str) -> list[float]:
        """The probability of the n-gram in each language."""
        return [get(gram, 0) / total for get, total in self.by_length[len(gram) - 1]]


_loaded = lru_cache(maxsize=1)(_Profiles)


def _profiles() -> _Profiles:
    with _LOCK:  # one for all threads
        return _loaded()


@lru_cache(maxsize=16384)
def _row(gram: str) -> list[float]:
    return _profiles().row(gram)


@lru_cache(maxsize=65536)
def _known(gram: str) -> bool:
    return _profiles().knows(gram)


@lru_cache(maxsize=8192)
def _normal(char: str) -> str:
    if "\u2000" <= char <= "\u206f":
        return " "  # punctuation
    if char > "\uffff":
        return char  # emoji, for the most part
    from langdetect.utils.ngram import NGram

    return str(NGram.normalize(char))


_NO_LETTER = re.compile("[^A-Za-z]")


def _normalized(text: str) -> str:
    return _NO_LETTER.sub(" ", text) if text.isascii() else "".join(map(_normal, text))


_ADDRESS = re.compile("://|@")
_VIETNAMESE_MARKS = re.compile("[\u0300\u0301\u0303\u0309\u0323]")
_FAR = re.compile("[\u0300-\U0010ffff]")


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
    others = len(_FAR.findall(text))
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
    shouted = any(map(str.isupper, word[1:]))
    for i in range(2, len(padded)):
        if shouted:
            in_capitals = padded[i].isupper() and (in_capitals or padded[i - 1].isupper())
            if in_capitals:
                continue
        found += (padded[i], padded[i - 1:i + 1], padded[i - 2:i + 1])
    return tuple(filter(_known, found))


def _grams(text: str) -> list[str]:
    text = _normalized(text)
    if _OTHER_LETTERS.search(text):
        _profiles().complete()
    words = text.split(" ")
    found: list[str] = []
    for word in words[:-1]:
        if word:
            found += _grams_of(word + " ")
    return found + list(_grams_of(words[-1]))


# langdetect skips words in capitals, so only small letters count here.
_ENGLISH = re.compile(r"\b(?:the|and|of|to|is|that|with|for|this|are|it|you|be|can|your|have|from|or|by|not)\b")


_FOREIGN = re.compile(r"(?![\x00-\x7f])[^\W\d_]")


def _plainly_english(text: str) -> bool:
    """At least 20 words, a fifth of them the commonest English ones, and no letter that is not ASCII (curly quotes and
    emoji may occur): saves the sampling."""
    head = text[:_MAX_CHARS]
    common = len(_ENGLISH.findall(head))
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
