"""What the constraint types of public benchmarks share: ids and arguments of theirs, checkers of our own.

They are read, described and checked, but never drawn by ``compose``. ``check`` is a careful reader's verdict;
``check_compat`` is the public checker's, where it is known to differ (docs/constraints.md).
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from functools import lru_cache
from random import Random
from typing import Any, ClassVar

from if_factory.constraints import text as measure
from if_factory.constraints.base import ConstraintType
from if_factory.constraints.demands import Demands


class Public(ConstraintType):
    """A type that is read from data but not drawn; ``arguments`` are those it cannot do without."""

    composable = False
    difficulty_hint = 3
    arguments: ClassVar[tuple[str, ...]] = ()

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return None

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        for name in self.arguments:
            kwargs[name]
        return self.needs(kwargs)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        """The demands, of arguments that are all there."""
        return Demands()


PUNCTUATION = string.punctuation + " "
_REMOVED = str.maketrans("", "", string.punctuation)


def unmarked(text: str) -> str:
    """The text without ASCII punctuation, as the public checkers strip it."""
    return text.translate(_REMOVED)


_APART = re.compile(r"""(\.{3}|--|[;@#$%&?!\[\](){}<>"“”«»`]|[:,](?!\d))""")
_CLITIC = re.compile(r"(?i)(?<=[^'\s])('s|'m|'d|'ll|'re|'ve|n't)$")


@lru_cache(maxsize=1)
def _nltk() -> Callable[[str], list[str]] | None:
    """NLTK's tokeniser of a sentence, or ``None`` where it is not installed."""
    try:
        from nltk.tokenize import NLTKWordTokenizer
    except ImportError:
        return None
    tokenize: Callable[[str], list[str]] = NLTKWordTokenizer().tokenize
    return tokenize


def treebank_words(text: str) -> list[str]:
    """Tokens as NLTK's ``word_tokenize`` gives them: marks and clitics stand alone.

    With the extra ``[compat]`` NLTK's own; without it by plain rules, which differ in rare marks.
    """
    tokenize, found = _nltk(), list[str]()
    for sentence in measure.punkt_sentences(text):
        if tokenize:
            found += tokenize(sentence)
            continue
        chunks = sentence.split()
        for i, chunk in enumerate(chunks):
            parts = [part for part in _APART.split(chunk) if part]
            if i == len(chunks) - 1:
                for at in range(len(parts) - 1, -1, -1):  # the sentence's own full stop, before closing marks
                    if parts[at].endswith(".") and parts[at] not in (".", "..."):
                        parts[at:at + 1] = [parts[at][:-1], "."]
                        break
                    if parts[at][-1].isalnum():
                        break
            for part in parts:
                tail: list[str] = []
                while clitic := _CLITIC.search(part):
                    tail.insert(0, clitic.group())
                    part = part[:clitic.start()]
                found += [p for p in (part, *tail) if p]
    return found


def no_marks(sentence: str) -> list[str]:
    """The words of a sentence, lower case; see ``text.words``."""
    return [word.lower() for word in measure.words(sentence)]
