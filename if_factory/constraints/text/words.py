"""What a word is, and where a phrase occurs.

Words are the segments of Unicode's word boundaries (UAX #29) that hold a letter or a digit: ``don't``, ``3.14``,
``1,000`` and ``e.g.`` are one each, ``well-known`` is two; a colon or semicolon always divides. Chinese and
Japanese are written without spaces: there every character counts as a word, as word processors count. In Thai,
Lao, Khmer and Burmese words can neither be seen nor counted: counting raises, so that the checker gives no
verdict.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from if_factory.constraints.text.normal import later, plain

HAN_KANA = ("\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096\u309d-\u309f"
            "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
            "\U00020000-\U0003ffff")
_UNCOUNTABLE = "\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1780-\u17dd"  # Thai, Lao, Burmese, Khmer
_HANGUL = "\uac00-\ud7a3"
# What stands directly beside a word without belonging to it: scripts without spaces, and Korean particles.
_NO_SPACES = HAN_KANA + _UNCOUNTABLE + _HANGUL

_CHARACTER = later(f"[{HAN_KANA}]")
_UNDECIDED = later(f"[{_UNCOUNTABLE}]")
# Scripts whose letters carry combining marks, and those without spaces: there the library decides. In pairs, from one
# character to another: as a pattern they would take longer to compile than a thousand texts to search.
_LIBRARY = ("\u0300\u036f\u0483\u0489\u0590\u1dff\u200c\u200d\u20d0\u20ff\u2c00\u2dff\u2e80\ud7ff\uf900\ufdff"
            "\ufe20\ufe2f\ufe70\ufeff\uff66\uffdc\U00010000\U0001efff\U00020000\U0003ffff")
# The same boundaries for the other texts, in a fifth of the time.
_WORD = re.compile(r"\w+(?:(?:(?<=[^\W\d_])['.](?=[^\W\d_])|(?<=\d)[',.](?=\d))\w+)*")
_NAME = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_](?!\w)\.?|[^\W_]+(?:['’-][^\W_]+)*")


def words(text: str) -> list[str]:
    """The words of a text, in order; see the module for what a word is.

    Raises:
        ValueError: the text is written in a script whose words cannot be told apart.
    """
    text = plain(text)
    return _WORD.findall(text) if text.isascii() or not any(map(_is_librarys, set(text))) else _segments(text)


@lru_cache(maxsize=4096)
def _is_librarys(char: str) -> bool:
    # An odd number of borders below it or at it; the last character of a pair is still inside.
    return char > "\u02ff" and (bisect_right(_LIBRARY, char) % 2 == 1 or char in _LIBRARY)


@lru_cache(maxsize=256)
def count_words(text: str) -> int:
    """How many words.

    Raises:
        ValueError: as ``words``.
    """
    return len(words(text))


@lru_cache(maxsize=1)
def _boundary() -> Any:
    import regex  # only where a text needs it: the import takes as long as a thousand checks

    return regex.compile(r"(?V1)(?w)\b")


def _segments(text: str) -> list[str]:
    if _UNDECIDED.search(text):
        raise ValueError("words cannot be counted in a script written without spaces (Thai, Lao, Khmer, Burmese)")
    found: list[str] = []
    for piece in _boundary().split(_CHARACTER.sub(r" \g<0> ", text)):
        found += [part for part in re.split("[:;]", piece) if any(map(str.isalnum, part))]
    return found


def without_spaces(text: str) -> bool:
    """Whether Han, kana, Thai, Lao, Khmer or Burmese characters occur, which no space divides into words."""
    return not text.isascii() and (_CHARACTER.search(text) or _UNDECIDED.search(text)) is not None


def capital_words(text: str) -> list[str]:
    """Words only in capitals, ``I`` and ``A`` included; ``SELF-MADE``, ``I'M`` and ``U.S.`` are one each."""
    return [w for chunk in capital_chunks(plain(text)) for w in _NAME.findall(chunk) if w.isupper()]


_NOT_ASCII = re.compile("[^\x00-\x7f]")


def count_upper(text: str) -> int:
    """How many capital letters."""
    return _cased(text, str.isupper, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")


def count_lower(text: str) -> int:
    """How many small letters."""
    return _cased(text, str.islower, b"abcdefghijklmnopqrstuvwxyz")


def _cased(text: str, is_one: Callable[[str], bool], ascii_ones: bytes) -> int:
    ascii_text = text.encode("ascii", "ignore")
    found = len(ascii_text) - len(ascii_text.translate(None, ascii_ones))
    return found if len(ascii_text) == len(text) else found + sum(map(is_one, _NOT_ASCII.findall(text)))


_RUNS = bytes(c if chr(c).isalnum() or c == ord("_") else ord(" ") for c in range(128)).ljust(256)


def runs(text: str) -> list[str]:
    """Runs of letters, digits and ``_``: ``re.findall(r"\\w+", text)``, in a third of the time for ASCII."""
    return text.encode().translate(_RUNS).decode().split() if text.isascii() else re.findall(r"\w+", text)


# One capital, a small letter behind it, and no apostrophe that could part the two.
_TITLE_CASE = re.compile(r"[^A-Z']*[A-Z][a-z][^A-Z']*")


def capital_chunks(text: str) -> list[str]:
    """What stands between white space, as far as it may hold a word only in capitals."""
    found = [chunk for chunk in text.split() if not chunk.islower()]
    return [chunk for chunk in found if not _TITLE_CASE.fullmatch(chunk)] if text.isascii() else found


def first_word(text: str) -> str:
    """The first word without the quotes, brackets and Markdown marks around it; ``""`` if there is none.

    Of a text without spaces it is the first run of letters: compare with ``opens_with``.
    """
    found = _NAME.search(plain(text))
    return found.group() if found else ""


# ---------------------------------------------------------------- phrases


_SPACELESS = later(f"[{_NO_SPACES}]")
_KOREAN = later(f"[{_HANGUL}]")


@lru_cache(maxsize=4096)
def _body(phrase: str) -> re.Pattern[str]:
    """The phrase without its borders. They are looked at one match at a time: in the pattern they would cost ten
    times the compilation."""
    return re.compile(r"\s+".join(re.escape(part) for part in phrase.split()), re.IGNORECASE)


def _is_letter(char: str) -> bool:
    """A letter or digit of a script that is written with spaces."""
    return char.isalnum() and not (char >= "\u0e00" and _SPACELESS.match(char))


def _whole(text: str, start: int, end: int) -> bool:
    """Whether the stretch is whole words; see ``find_phrase``."""
    first, last = text[start], text[end - 1]
    if start and first.isalnum():
        if not first.isascii() and _KOREAN.match(first):
            if _KOREAN.match(text[start - 1]):
                return False
        elif _is_letter(first) and _is_letter(text[max(0, start - 3):start].rstrip("_")[-1:] or " "):
            return False
    after = text[end:end + 3]
    if after and not after[0].isascii() and unicodedata.category(after[0])[0] == "M" and last.isalnum():
        return bool(_SPACELESS.match(last))  # a vowel sign belongs to the letter before it
    if after and _is_letter(last):
        return not _is_letter(after.lstrip("_")[:1] or " ")
    return True


# Signs outside ASCII that a regular expression with IGNORECASE takes for an ASCII letter.
_ASCII_LIKE = later("[\u0130\u0131\u017f\u212a]")


def _searcher(text: str, phrase: str) -> Callable[[int], tuple[int, int] | None]:
    """A function from a position to where ``phrase`` next occurs, whole words or not; see ``find_phrase``."""
    if phrase.isascii() and (text.isascii() or not _ASCII_LIKE.search(text)):
        # Most texts hold few of the phrases looked for, and this takes a twentieth of compiling a pattern.
        lower, parts = text.lower(), phrase.lower().split()
        if not all(part in lower for part in parts):
            return lambda start: None
        if len(parts) == 1:
            word = parts[0]

            def literal(start: int) -> tuple[int, int] | None:
                at = lower.find(word, start)
                return (at, at + len(word)) if at >= 0 else None

            return literal
    pattern = _body(phrase)

    def search(start: int) -> tuple[int, int] | None:
        found = pattern.search(text, start)
        return found.span() if found else None

    return search


def _whole_words(text: str, phrase: str, start: int = 0) -> Iterator[tuple[int, int]]:
    """Where a ``plain`` phrase occurs, from left to right, none overlapping; see ``find_phrase``."""
    search = _searcher(text, phrase)
    while found := search(start):
        if _whole(text, *found):
            yield found
            start = found[1]
        else:
            start = found[0] + 1


def find_phrase(text: str, phrase: str, start: int = 0) -> tuple[int, int] | None:
    """Where a ``plain`` phrase first occurs from ``start`` on, literally, as whole words, case ignored.

    Any white space matches any other. A border is asked for only where the phrase itself ends in a letter or digit
    (``C++`` has none after it), and only against letters that are written with spaces: ``花园`` occurs in
    ``花园里`` and ``AI`` in ``用AI写``. Underscores around a word are emphasis, inside one they join: ``_spade_``
    is the word, ``spade_size`` is not.
    """
    return next(_whole_words(text, phrase, start), None) if phrase else None


def count_phrase(text: str, phrase: str) -> int:
    """How often ``phrase`` occurs as whole words, case ignored (``cat`` does not occur in ``category``)."""
    phrase = plain(phrase).strip()
    return sum(1 for _ in _whole_words(plain(text), phrase)) if phrase else 0


def remove_phrase(text: str, phrase: str) -> str:
    """The ``plain`` text with a blank in place of every occurrence of ``phrase``; see ``find_phrase``."""
    phrase, text = plain(phrase).strip(), plain(text)
    at = 0
    while phrase and (found := find_phrase(text, phrase, at)):
        text, at = f"{text[:found[0]]} {text[found[1]:]}", found[0] + 1
    return text


def contains_phrase(text: str, phrase: str) -> bool:
    """Whether ``phrase`` occurs as whole words, case ignored; see ``find_phrase``."""
    phrase = plain(phrase).strip()
    return bool(phrase) and find_phrase(plain(text), phrase) is not None


_LITERALS = str.maketrans("", "", " -'\",:;!&/@%=_")  # these stand for themselves in a pattern


def count_pattern(pattern: str, text: str, *, whole: bool = False) -> int:
    """``len(re.findall(pattern, text, re.IGNORECASE))``; with ``whole`` the pattern stands between two ``\\b``.

    A pattern that opens and closes with an ASCII letter or digit, with blanks, hyphens, apostrophes and the like
    between them, stands for itself, which need not be compiled.

    Raises:
        re.error: Python refuses the pattern.
    """
    if not (pattern.isascii() and pattern.translate(_LITERALS).isalnum() and pattern[0].isalnum()
            and pattern[-1].isalnum()) or (not text.isascii() and _ASCII_LIKE.search(text)):
        return len(re.findall(rf"\b{pattern}\b" if whole else pattern, text, re.IGNORECASE))
    pattern, text = pattern.lower(), text.lower()
    if not whole:
        return text.count(pattern)
    count, at, size = 0, text.find(pattern), len(pattern)
    while at >= 0:
        found = not _is_word(text[at - 1:at]) and not _is_word(text[at + size:at + size + 1])
        count, at = count + found, text.find(pattern, at + (size if found else 1))
    return count


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


_BEFORE = "\"'«»‹›「」『』()[]{}<>*_#~`>|- \n\t\r¿¡"
_AFTER = "\"'«»‹›「」『』()[]{}<>*_~` \n\t\r"


def opens_with(text: str, phrase: str) -> bool:
    """Whether the text opens with the phrase as whole words; quotes, brackets and Markdown marks may precede."""
    phrase = plain(phrase).strip()
    text = plain(text)
    bare = text.lstrip(_BEFORE) if phrase[:1].isalnum() else text.lstrip()
    found = _body(phrase).match(bare) if phrase else None
    return found is not None and _whole(bare, 0, found.end())


def closes_with(text: str, phrase: str, *, after: str = ".") -> bool:
    """Whether the text ends with the phrase as whole words, case ignored.

    Quotation marks, brackets and Markdown marks may follow, and one of the marks in ``after``.
    """
    wanted, found = (" ".join(plain(t).lower().split()) for t in (phrase, text))
    if not wanted:
        return False
    tails = [found, found.rstrip(_AFTER)]
    if tails[1][-1:] and tails[1][-1] in after + {".": "。", "": ""}.get(after, ""):
        tails.append(tails[1][:-1].rstrip(_AFTER))
    for end in dict.fromkeys((wanted, wanted.rstrip(_AFTER))):
        for tail in tails:
            before = tail[:-len(end)][-1:] if end else ""
            if end and tail.endswith(end) and not (
                    end[0].isalnum() and before.isalnum() and not re.match(f"[{_NO_SPACES}]", end + before)):
                return True
    return False
