"""IFEval's length family: sentences, paragraphs, words, and the first word of a paragraph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from random import Random
from typing import Any

from if_factory.constraints import relations
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.text import (
    count_sentences,
    count_words,
    first_word,
    opens_with,
    paragraphs,
    punkt_sentences,
)
from if_factory.constraints.text.vocabulary import draw_keyword
from if_factory.constraints.text.words import runs


class _Counted(ConstraintType):
    """A type that compares one count with ``relation`` and a number."""

    unit: str
    noun: str
    argument: str

    def count(self, response: str) -> int:
        raise NotImplementedError

    def count_compat(self, response: str) -> int:
        raise NotImplementedError

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return relations.holds(self.count(response), kwargs["relation"], kwargs[self.argument])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return relations.holds(self.count_compat(response), kwargs["relation"], kwargs[self.argument])

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={self.unit: relations.as_range(kwargs["relation"], kwargs[self.argument])})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        n = kwargs[self.argument]
        return {"bound": relations.bound(kwargs["relation"], n), "noun": relations.plural(n, self.noun)}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return relations.too_many_or_few(self.count(response), kwargs["relation"], kwargs[self.argument], self.noun)

    def why_compat(self, response: str, kwargs: Mapping[str, Any]) -> str:
        count = self.count_compat(response)
        return relations.too_many_or_few(count, kwargs["relation"], kwargs[self.argument], self.noun)


@lru_cache(maxsize=256)
def _count_runs(response: str) -> int:
    return len(runs(response))


@lru_cache(maxsize=256)
def _count_punkt(response: str) -> int:
    return len(punkt_sentences(response))


@register
class NumberSentences(_Counted):
    """How many sentences: ``relation`` ``num_sentences``. See ``text.sentences`` for what a sentence is."""

    type = "length_constraints:number_sentences"
    descriptions = (
        "Your response should contain {bound} {noun}",
        "Answer in {bound} {noun}",
        "Write {bound} {noun}",
        "The number of sentences in your reply must be {bound_number}",
        "Use {bound} {noun} in your answer",
    )
    difficulty_hint = 2
    unit, noun, argument = "sentences", "sentence", "num_sentences"

    def count(self, response: str) -> int:
        return count_sentences(response)

    def count_compat(self, response: str) -> int:
        return _count_punkt(response)

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**super().words(kwargs), "bound_number": f"{kwargs['relation']} {kwargs['num_sentences']}"}

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        relation, n = relations.draw(rng, (3, 7), (3, 8))
        return {"relation": relation, "num_sentences": n}


@register
class NumberWords(_Counted):
    """How many words: ``relation`` ``num_words``."""

    type = "length_constraints:number_words"
    descriptions = (
        "Answer with {bound} {noun}",
        "Your response should contain {bound} {noun}",
        "Write {bound} {noun}",
        "Keep to {bound} {noun} in your reply",
        "The length of your answer must be {bound} {noun}",
    )
    difficulty_hint = 2
    unit, noun, argument = "words", "word", "num_words"

    def count(self, response: str) -> int:
        return count_words(response)

    def count_compat(self, response: str) -> int:
        return _count_runs(response)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        relation, n = relations.draw(rng, (3, 20), (4, 20))
        return {"relation": relation, "num_words": n * 10}


@register
class NumberParagraphs(ConstraintType):
    """Exactly ``num_paragraphs`` non-empty paragraphs, divided by ``***``."""

    type = "length_constraints:number_paragraphs"
    descriptions = (
        "Write exactly {num_paragraphs} {noun} divided by the Markdown divider ***",
        "Your response should have {num_paragraphs} {noun}, with *** and nothing else as the divider between them",
        "Give your answer in {num_paragraphs} {noun}, separated by ***",
        "There should be exactly {num_paragraphs} {noun} in your reply; separate paragraphs with ***",
        "Divide the answer into {num_paragraphs} {noun} using the divider ***",
    )
    difficulty_hint = 4

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        parts = [p.strip() for p in re.split(r"\s?\*\*\*\s?", response)] if "***" in response else [response.strip()]
        inner = parts[1 if not parts[0] else 0:-1 if len(parts) > 1 and not parts[-1] else None]
        return all(inner) and len(inner) == int(kwargs["num_paragraphs"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"num_paragraphs": rng.randint(2, 4)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        n = int(kwargs["num_paragraphs"])
        return Demands(literals=("***",) if n > 1 else (), exclusive=frozenset({"separator"}),
                       counts={"paragraphs": Range(n, n), "words": Range(n)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {**kwargs, "noun": relations.plural(kwargs["num_paragraphs"], "paragraph")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = len([p for p in response.split("***") if p.strip()])
        return (f"has {relations.count_of(found, 'paragraph')} divided by ***; "
                f"exactly {kwargs['num_paragraphs']} without empty ones between were asked for")


@register
class NthParagraphFirstWord(ConstraintType):
    """``num_paragraphs`` divided by blank lines; number ``nth_paragraph`` (from 1) opens with ``first_word``."""

    type = "length_constraints:nth_paragraph_first_word"
    descriptions = (
        'Write exactly {num_paragraphs} {noun} separated by blank lines; '
        '{which} must start with the word "{first_word}"',
        'There should be {num_paragraphs} {noun} with a blank line between paragraphs, '
        'and the first word of {which} should be "{first_word}"',
        'Give your answer in exactly {num_paragraphs} {noun}, divided by blank lines, '
        'and begin {which} with the word "{first_word}"',
        'Your response must have exactly {num_paragraphs} {noun} (separated by blank lines), '
        'of which {which} opens with the word "{first_word}"',
        'Use {num_paragraphs} {noun} divided by blank lines and let {which} begin with "{first_word}"',
    )
    difficulty_hint = 4

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found, nth = paragraphs(response), self._nth(kwargs)
        return len(found) == int(kwargs["num_paragraphs"]) and self._opens(found[nth - 1], kwargs["first_word"])

    @staticmethod
    def _nth(kwargs: Mapping[str, Any]) -> int:
        nth = int(kwargs["nth_paragraph"])
        if not 1 <= nth <= int(kwargs["num_paragraphs"]):
            raise ValueError(f"'nth_paragraph' is {nth}, outside 1 to {kwargs['num_paragraphs']}")
        return nth

    @staticmethod
    def _opens(paragraph: str, word: str) -> bool:
        return opens_with(paragraph, word)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        parts = response.split("\n\n")
        full = sum(1 for p in parts if p.strip())
        nth = self._nth(kwargs)
        # The reference counts without empty parts but looks the paragraph up among all of them.
        if nth > full or not parts[nth - 1].strip():
            return False
        word = parts[nth - 1].split()[0].lstrip("'").lstrip('"')
        word = re.split(r"[.,?!'\"]", word, maxsplit=1)[0].lower()
        return full == int(kwargs["num_paragraphs"]) and word == kwargs["first_word"].lower()

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        n = rng.randint(2, 4)
        return {"num_paragraphs": n, "nth_paragraph": rng.randint(1, n),
                "first_word": draw_keyword(rng, seed_prompt)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        n, word = int(kwargs["num_paragraphs"]), kwargs["first_word"]
        return Demands(words=(word,), exclusive=frozenset({"separator"}),
                       starts=word if self._nth(kwargs) == 1 else None,
                       counts={"paragraphs": Range(n, n), "words": Range(n), f"word:{word.lower()}": Range(1)})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        which = "paragraph {}".format(kwargs["nth_paragraph"])
        return {**kwargs, "noun": relations.plural(kwargs["num_paragraphs"], "paragraph"), "which": which}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found, nth = paragraphs(response), self._nth(kwargs)
        if len(found) != int(kwargs["num_paragraphs"]):
            return (f"has {relations.count_of(len(found), 'paragraph')} separated by blank lines; "
                    f"exactly {kwargs['num_paragraphs']} were asked for")
        return f'paragraph {nth} starts with "{first_word(found[nth - 1])}", not "{kwargs["first_word"]}"'
