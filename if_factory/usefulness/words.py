"""Words as the usefulness rules compare them: without case, light English endings and function words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

# One character of a script that is written without spaces is a word of its own.
WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]|[^\W_]+(?:['’][^\W_]+)*")

_FUNCTION_WORDS = frozenset("""
    a about after again all also am an and any are aren't as at be because been before being below both but
    by can could did didn't do does doesn't doing don't done down during each either else ever every few for
    from further get gets getting give given gives go goes going got had has have having he her here here's
    hers him his how however i i'd i'll i'm i've if in into is isn't it it's its itself just let let's like
    made make makes making may me might mine more most much must my myself need needs neither nor not now of
    off on once only or other our ours out over own per please same shall she should since so some someone
    something such take than that that's the their theirs them then there there's these they thing things
    this those through thus to too under until up upon us use used uses using very want wants was wasn't we
    well were what what's when where where's whether which while who whom whose why will with within without
    won't would you you'd you'll you're you've your yours yourself s t d m ll ve re certainly sure okay ok
    indeed simply really actually follow following follows
    """.split())  # noqa: SIM905


# What ``WORD`` leaves of ASCII text: letters in lower case, digits and apostrophes; a blank for all else.
_ASCII_WORDS = bytes(c + 32 if 65 <= c <= 90 else c if 48 <= c <= 57 or 97 <= c <= 122 or c == 39 else 32
                     for c in range(256))


def words(text: str) -> list[str]:
    """The words of a text in lower case, in order; each character of a script without spaces is one."""
    text = text.replace("’", "'")
    if not text.isascii():
        return WORD.findall(text.casefold())
    tokens = text.encode().translate(_ASCII_WORDS).decode().split()  # many times faster than the pattern
    if "'" not in text:
        return tokens
    return [word for token in tokens for word in (WORD.findall(token) if "'" in token else (token,))]


@lru_cache(maxsize=8192)  # most texts say most of it in fewer words
def stem(word: str) -> str:
    """The word without the commonest English endings: enough to see ``removes`` in ``remove``."""
    if word.endswith("'s"):
        word = word[:-2]
    if len(word) > 4 and word.isascii():
        for ending in ("ing", "ies", "ed", "es", "ly", "s", "y", "e"):
            if word.endswith(ending) and len(word) - len(ending) > 2 and not word.endswith("ss"):
                return word[:-len(ending)].rstrip("e")
    return word


def content(tokens: Iterable[str]) -> list[str]:
    """The stems of what is no function word, in order; repetitions stay."""
    return [stem(w) for w in tokens if w not in _FUNCTION_WORDS]


def contents(tokens: Iterable[str]) -> Iterator[str]:
    """``content``, one by one: for those who may not need them all."""
    return (stem(w) for w in tokens if w not in _FUNCTION_WORDS)
