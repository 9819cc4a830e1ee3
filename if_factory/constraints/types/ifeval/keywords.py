"""IFEval's keyword family: required, forbidden and counted words, and counted letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints import relations
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.relations import quoted
from if_factory.constraints.text import contains_phrase, count_pattern, count_phrase, count_words
from if_factory.constraints.text.vocabulary import draw_forbidden, draw_keyword


def _phrases(kwargs: Mapping[str, Any], name: str) -> list[str]:
    phrases = kwargs[name]
    if not isinstance(phrases, list | tuple) or not phrases or not all(isinstance(p, str) and p for p in phrases):
        raise ValueError(f"'{name}' must be a list of words, found {phrases!r}")
    return list(phrases)


@register
class Existence(ConstraintType):
    """Every keyword occurs as a whole word, case ignored. ``keywords``: list of words or phrases."""

    type = "keywords:existence"
    descriptions = (
        "Include the {word} {listed} in your response",
        "Use the {word} {listed} at least once",
        "Your answer must contain the {word} {listed}",
        "Make sure that the {word} {listed} can be found in your reply",
        "Mention the {word} {listed} somewhere in the answer",
    )
    difficulty_hint = 1

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(contains_phrase(response, k) for k in _phrases(kwargs, "keywords"))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(count_pattern(k, response) for k in _phrases(kwargs, "keywords"))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"keywords": [draw_keyword(rng, seed_prompt)]}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        keywords = tuple(_phrases(kwargs, "keywords"))
        counts = {f"word:{k.lower()}": Range(1) for k in keywords}
        counts["words"] = Range(max(map(count_words, keywords), default=0))
        return Demands(words=keywords, counts=counts)

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"word": relations.plural(len(kwargs["keywords"]), "word"), "listed": quoted(kwargs["keywords"])}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        missing = [k for k in kwargs["keywords"] if not contains_phrase(response, k)] or kwargs["keywords"]
        return f"does not contain the {relations.plural(len(missing), 'word')} {quoted(missing)}"


@register
class Frequency(ConstraintType):
    """How often ``keyword`` occurs as a whole word, case ignored: ``relation`` ``frequency``."""

    type = "keywords:frequency"
    descriptions = (
        'Use the word "{keyword}" {bound} {times}',
        'The word "{keyword}" should appear {bound} {times} in your response',
        'In your answer the word "{keyword}" must occur {bound} {times}',
        'Write your reply so that it contains the word "{keyword}" {bound} {times}',
        'Mention the word "{keyword}" {bound} {times} in the answer',
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return relations.holds(count_phrase(response, kwargs["keyword"]), kwargs["relation"], kwargs["frequency"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = count_pattern(kwargs["keyword"].strip(), response)
        return relations.holds(found, kwargs["relation"], kwargs["frequency"])

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        relation, frequency = relations.draw(rng, (2, 4), (2, 4))
        return {"keyword": draw_keyword(rng, seed_prompt), "relation": relation, "frequency": frequency}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        keyword, wanted = kwargs["keyword"], relations.as_range(kwargs["relation"], kwargs["frequency"])
        counts = {f"word:{keyword.lower()}": wanted, "words": Range(wanted.low * count_words(keyword))}
        return Demands(words=(keyword,) if wanted.low > 0 else (),
                       forbidden=(keyword,) if wanted.high == 0 else (), counts=counts)

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"keyword": kwargs["keyword"], "bound": relations.bound(kwargs["relation"], kwargs["frequency"]),
                "times": relations.plural(kwargs["frequency"], "time")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        count = count_phrase(response, kwargs["keyword"])
        return (f'has the word "{kwargs["keyword"]}" {relations.count_of(count, "time")}; '
                f"{relations.bound(kwargs['relation'], kwargs['frequency'])} were asked for")


@register
class ForbiddenWords(ConstraintType):
    """None of ``forbidden_words`` occurs as a whole word, case ignored."""

    type = "keywords:forbidden_words"
    descriptions = (
        "Do not use the {word} {listed}",
        "Your response must not contain the {word} {listed}",
        "Avoid the {word} {listed} in your answer",
        "Write the answer without the {word} {listed}",
        "The {word} {listed} should not appear anywhere in your reply",
    )
    difficulty_hint = 2

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return not any(contains_phrase(response, w) for w in _phrases(kwargs, "forbidden_words"))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        banned = _phrases(kwargs, "forbidden_words")
        return not any(count_pattern(w, response, whole=True) for w in banned)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        word = draw_forbidden(rng, seed_prompt)
        return {"forbidden_words": [word]} if word else None

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        banned = tuple(_phrases(kwargs, "forbidden_words"))
        return Demands(forbidden=banned, counts={f"word:{w.lower()}": Range(0, 0) for w in banned})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        banned = kwargs["forbidden_words"]
        return {"word": relations.plural(len(banned), "word"), "listed": quoted(banned)}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        used = [w for w in kwargs["forbidden_words"] if contains_phrase(response, w)] or kwargs["forbidden_words"]
        return f"uses the forbidden {relations.plural(len(used), 'word')} {quoted(used)}"


@register
class LetterFrequency(ConstraintType):
    """How often ``letter`` occurs, case ignored: ``let_relation`` ``let_frequency``."""

    type = "keywords:letter_frequency"
    descriptions = (
        'The letter "{letter}" should appear {bound} {times} in your response',
        'Use the letter "{letter}" {bound} {times}',
        'In your answer the letter "{letter}" must occur {bound} {times}, capital or small',
        'Write your reply with {bound} {occurrences} of the letter "{letter}"',
        'Your whole answer should contain the letter "{letter}" {bound} {times}',
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return relations.holds(self._count(response, kwargs), kwargs["let_relation"], kwargs["let_frequency"])

    @staticmethod
    def _letter(kwargs: Mapping[str, Any]) -> str:
        letter = unicodedata.normalize("NFC", kwargs["letter"]).strip().lower()
        if len(letter) != 1:
            raise ValueError(f"'letter' must be one character, found {kwargs['letter']!r}")
        return letter

    def _count(self, response: str, kwargs: Mapping[str, Any]) -> int:
        text = response if response.isascii() else unicodedata.normalize("NFC", response)
        return text.lower().count(self._letter(kwargs))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        # A low limit on a common letter rules out any useful answer; one on a rare letter demands nothing.
        if rng.random() < 0.5:
            return {"letter": rng.choice("acdghilmnoprstu"), "let_relation": relations.AT_LEAST,
                    "let_frequency": rng.randint(5, 15)}
        return {"letter": rng.choice("bfjkpqvwxyz"), "let_relation": relations.LESS_THAN,
                "let_frequency": rng.randint(4, 8)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        wanted = relations.as_range(kwargs["let_relation"], kwargs["let_frequency"])
        return Demands(counts={f"letter:{self._letter(kwargs)}": wanted})

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        n = kwargs["let_frequency"]
        return {"letter": kwargs["letter"], "bound": relations.bound(kwargs["let_relation"], n),
                "times": relations.plural(n, "time"), "occurrences": relations.plural(n, "occurrence")}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = relations.count_of(self._count(response, kwargs), "time")
        return (f'has the letter "{kwargs["letter"]}" {found}; '
                f"{relations.bound(kwargs['let_relation'], kwargs['let_frequency'])} were asked for")
