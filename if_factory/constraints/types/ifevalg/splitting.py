"""Sentences as the public checkers of IFEvalG divide a text, for their verdicts in compat mode.

They do not use Punkt but rewriting rules: dots of titles, web addresses, decimals, initials and company names are
kept, every other ``.``, ``?`` and ``!`` ends a sentence, and a quotation mark behind one goes before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

_DOT, _END = "\ue000", "\ue001"  # a dot that ends nothing; the end of a sentence
_OPENERS = (r"(?:Mr|Mrs|Ms|Dr|Prof|Capt|Cpt|Lt|Wherever|"
            r"(?:He|She|It|They|Their|Our|We|But|However|That|This)\s)")


def _keep_dots(found: re.Match[str]) -> str:
    return found.group().replace(".", _DOT)


def _end_behind(found: re.Match[str]) -> str:
    return found.group() + _END


def _rule(pattern: str, becomes: str | Callable[[re.Match[str]], str]) -> Callable[[str], str]:
    return partial(re.compile(pattern).sub, becomes)


_RULES = (
    _rule(r"(?:Mr|St|Mrs|Ms|Dr)\.", _keep_dots),
    _rule(r"\.(?=com|net|org|io|gov|edu|me)", _DOT),
    _rule(r"[0-9]\.[0-9]", _keep_dots),
    _rule(r"\.{2,}", lambda found: _DOT * len(found.group()) + _END),
    _rule(r"Ph\.D\.", _keep_dots),
    _rule(r"\s[A-Za-z]\. ", lambda found: " " + _keep_dots(found)[1:]),
    _rule(rf"[A-Z]\.[A-Z]\.(?:[A-Z]\.)?(?= {_OPENERS})", _end_behind),
    _rule(r"[A-Za-z]\.[A-Za-z]\.[A-Za-z]\.", _keep_dots),
    _rule(r"[A-Za-z]\.[A-Za-z]\.", _keep_dots),
    _rule(rf" (?:Inc|Ltd|Jr|Sr|Co)\. (?={_OPENERS})", lambda found: found.group()[:-2] + _END + " "),
    _rule(r" (?:Inc|Ltd|Jr|Sr|Co)\.", _keep_dots),
    _rule(r" [A-Za-z]\.", _keep_dots),
    _rule(r"\.”", "”."),
    *(_rule(rf'\{mark}"', f'"{mark}') for mark in ".!?"),
    _rule(r"[.?!]", _end_behind),
)


def divided(text: str) -> list[str]:
    """The sentences, stripped; empty ones between two marks are kept, as the public checkers keep them."""
    text = f" {text}  ".replace("\n", " ")
    for rewrite in _RULES:
        text = rewrite(text)
    found = [part.strip() for part in text.replace(_DOT, ".").split(_END)]
    return found[:-1] if not found[-1] else found
