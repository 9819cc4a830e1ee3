"""Constraints put into other languages than English: one file per language, ``<ISO 639-1 code>.yaml``.

A file holds, for each type that is drawn for prompts in that language, two or more paraphrases, the words of the
relations ("at least {}"), words to draw keywords from, and texts drawn in place of English ones (closing phrases).
To add a language, copy a file and translate it: nothing else names the languages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from random import Random
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from if_factory.constraints.base import ConstraintType
from if_factory.constraints.text.words import HAN_KANA

_RELATIONS = ("relation", "let_relation", "capital_relation")
_NUMBERS = ("num_sentences", "num_words", "frequency", "let_frequency", "capital_frequency", "count", "num_rows")
# Arguments that are words of the prompt or common ones.
_WORDS = ("keyword", "word", "first_word")
_ENGLISH = frozenset("""
    the of and to a in is it you that for on are with as this be at have from or what how why when where who which
    write explain describe list give name tell create make translate summarize compare your my i we can do does
    """.split())  # noqa: SIM905
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")


class Language(BaseModel):
    """One language file; ``{}`` in ``quote`` and ``relations`` stands for the text or number."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    stop: str
    gap: str
    quote: str
    leads: list[str]
    relations: dict[str, str]
    languages: dict[str, str]
    common_words: list[str]
    draw: dict[str, dict[str, list[str]]]
    never: list[str]
    templates: dict[str, list[str]]
    function_words: str = ""
    script: str = ""

    def composes(self, kind: ConstraintType) -> bool:
        """Whether ``compose`` may draw the type for a prompt in this language."""
        family = kind.type.partition(":")[0]
        return kind.composable and kind.type in self.templates and not {kind.type, family} & set(self.never)

    def sample(self, kind: ConstraintType, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        """The type's own arguments, with words and phrases of this language in place of English ones."""
        drawn = kind.sample(rng, seed_prompt)
        if drawn is None:
            return None
        for name, texts in self.draw.get(kind.type, {}).items():
            drawn[name] = rng.choice(texts)
        for name in drawn:
            if name in _WORDS:
                drawn[name] = self._word(rng, seed_prompt)
            elif name == "keywords":
                drawn[name] = [self._word(rng, seed_prompt)]
            elif name == "forbidden_words":
                # None that the prompt asks about; the ends of words, which its forms differ in, do not count.
                asked = seed_prompt.casefold()
                left = [w for w in self.common_words if w.casefold()[:max(4, len(w) - 2)] not in asked]
                if not left:
                    return None
                drawn[name] = [rng.choice(left)]
        return drawn

    def _word(self, rng: Random, seed_prompt: str) -> str:
        common = self.function_words.split()
        own = [] if self.script else sorted({w.lower() for w in re.findall(r"(?<![\w'’])[^\W\d_]{5,12}(?![\w'’])",
                                                                          seed_prompt)} - set(common))
        return rng.choice(own) if own and rng.random() < 0.75 else rng.choice(self.common_words)

    def describe(self, kind: ConstraintType, kwargs: Mapping[str, Any], rng: Random) -> str:
        """One of the paraphrases, with the arguments filled in."""
        return rng.choice(self.templates[kind.type]).format_map(self.words(kind, kwargs))

    def words(self, kind: ConstraintType, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """What the paraphrases are formatted with; ``bound`` is the relation with its number."""
        shown: dict[str, Any] = {}
        for name, value in kwargs.items():
            if isinstance(value, list):
                shown[name] = ", ".join(self.quote.format(item) for item in value)
            elif name == "language":
                shown[name] = self.languages.get(str(value), str(value))
            else:
                words = isinstance(value, str) and name not in _RELATIONS
                shown[name] = self.quote.format(value) if words else value
        relation = next((kwargs[name] for name in _RELATIONS if name in kwargs), None)
        number = next((kwargs[name] for name in _NUMBERS if name in kwargs), None)
        if relation is not None:
            shown["bound"] = self.relations[relation].format(number)
        if "level" in kwargs:
            shown["marks"] = "#" * int(kwargs["level"])
        options = getattr(kind, "options", None)
        if options:
            shown["options"] = ", ".join(self.quote.format(option) for option in options)
        return shown


@cache
def languages() -> dict[str, Language]:
    """Every language with a file, by its code."""
    folder = files(__name__)
    return {entry.name.removesuffix(".yaml"): Language.model_validate(yaml.safe_load(entry.read_text("utf-8")))
            for entry in sorted(folder.iterdir(), key=lambda e: e.name) if entry.name.endswith(".yaml")}


@lru_cache(maxsize=4096)
def prompt_language(prompt: str) -> str:
    """``en``, or the code of the language with a file that the prompt is plainly written in.

    Chinese and Japanese are told by their characters, the others by at least two of their function words that
    make up a quarter of the prompt and are more than twice the English ones: a prompt that only quotes another
    language stays English.
    """
    if not prompt.isascii():
        letters = sum(map(str.isalpha, prompt))
        kana, han = len(_KANA.findall(prompt)), len(_HAN.findall(prompt))
        if 2 * (han + kana) > letters:
            return "ja" if 10 * kana > han else "zh"
    found = [word.lower() for word in re.findall(rf"[^\W\d_{HAN_KANA}]+", prompt)]
    scores = {code: sum(word in _function_words(code) for word in found) for code in languages()}
    best = max(scores, key=lambda code: scores[code])
    english = sum(word in _ENGLISH for word in found)
    return best if scores[best] >= 2 and 4 * scores[best] >= len(found) and scores[best] > 2 * english else "en"


@cache
def _function_words(code: str) -> frozenset[str]:
    return frozenset(languages()[code].function_words.split())


def language_of(prompt: str) -> Language | None:
    """The language file for a prompt; ``None`` for English and for languages without one."""
    return languages().get(prompt_language(prompt))
