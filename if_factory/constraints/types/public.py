"""What the constraint types of public benchmarks share: ids and arguments of theirs, checkers of our own.

They are read, described and checked, and drawn by ``compose`` where a recipe names them and they can be put onto any
prompt. ``check`` is a careful reader's verdict; ``check_compat`` is the public checker's, where it is known to differ
(docs/constraints.md).
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any, ClassVar

from if_factory.constraints import text as measure
from if_factory.constraints.base import ConstraintType
from if_factory.constraints.demands import Demands

# Types that ask only for something to be left out: plain words that a text is built of satisfy them.
AVOIDING = frozenset(("keywords:forbidden_words", "keywords:exclude_word_harder", "punctuation:no_comma",
                      "punctuation:no_exclamation", "punctuation:punctuation_exclamation",
                      "punctuation:no_question_mark", "digits:none", "style"))
# Types that any plain prose can satisfy, whatever its sentences are like.
PLAIN = AVOIDING | {"keywords:existence", "keywords:frequency", "length_constraints:number_words"}


class Public(ConstraintType):
    """A type of a public benchmark.

    Class attributes:
        arguments: those it cannot do without.
        never_with, allows, room: as in ``Demands``, whatever the arguments.
    """

    by_default = False
    difficulty_hint = 3
    arguments: ClassVar[tuple[str, ...]] = ()
    never_with: ClassVar[frozenset[str]] = frozenset()
    allows: ClassVar[frozenset[str]] = frozenset()
    room: ClassVar[int] = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "benchmark" not in cls.__dict__:
            cls.benchmark = cls.__module__.split(".")[-2]

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {} if self.composable and not self.arguments else None

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        for name in self.arguments:
            kwargs[name]
        needs = self.needs(kwargs)
        return replace(needs, never_with=self.never_with, allows=self.allows, room=needs.room + self.room)

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        """What a response must be like, of arguments that are all there."""
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
