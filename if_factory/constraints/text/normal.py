"""Letters as people and models type them: one form for every comparison of words and phrases.

Models write ``don’t`` with a curly apostrophe, ``long‑term`` with a non-breaking hyphen and ``é`` as one character
or as two. A reader sees the same word, so both sides of every literal comparison go through ``plain`` first. What
is about the characters themselves (commas, quotation marks around the response, exact symbols) does not.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Any, cast


class _Later:
    """A pattern that is compiled when it is first used."""

    def __init__(self, pattern: str, flags: int) -> None:
        self._arguments = pattern, flags

    def __getattr__(self, name: str) -> Any:
        compiled = re.compile(*self._arguments)
        for method in ("search", "match", "fullmatch", "findall", "finditer", "split", "sub"):
            setattr(self, method, getattr(compiled, method))
        return getattr(compiled, name)


def later(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """``re.compile`` on first use: large sets of letters take milliseconds, and most texts need none of them."""
    return cast("re.Pattern[str]", _Later(pattern, flags))


_SAME = {
    **dict.fromkeys("‘’‚‛ʼ＇", "'"), **dict.fromkeys("“”„‟＂", '"'), **dict.fromkeys("‐‑", "-"),
    **dict.fromkeys("\u00a0\u202f\u205f\u3000", " "), **{chr(c): " " for c in range(0x2000, 0x200B)},
    **dict.fromkeys("\u00ad\u200b\u2060\ufeff"),  # soft hyphen and zero-width marks: nothing to see
}
_TABLE = str.maketrans(_SAME)
_ODD = later("[" + re.escape("".join(_SAME)) + "]")


@lru_cache(maxsize=512)
def plain(text: str) -> str:
    """The text with composed letters (NFC), straight quotes and apostrophes, ASCII hyphens and plain spaces."""
    if text.isascii():
        return text
    text = unicodedata.normalize("NFC", text)
    return text.translate(_TABLE) if _ODD.search(text) else text


def folded(text: str) -> str:
    """``plain``, in lower case, any white space as one blank, none around it."""
    return " ".join(plain(text).lower().split())
