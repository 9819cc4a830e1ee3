"""Lists: how many numbered items, what each item is like, in which order."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range


@register
class NumberedItems(ConstraintType):
    type = "list:numbered_items"
    descriptions = (
        "Include a numbered list of exactly {num_items} items, written 1. to {num_items}., each on its own line",
        "Your response must contain exactly {num_items} numbered points (1., 2. and so on), one per line",
        "Number exactly {num_items} items from 1. to {num_items}. and start a new line for each",
        "Use a list numbered 1. to {num_items}. with exactly {num_items} entries, one on each line",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        numbers = [n for n, mark, _ in measure.numbered_items(response) if mark == "."]
        return numbers == list(range(1, kwargs["num_items"] + 1))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"num_items": rng.randint(2, 7)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        n = kwargs["num_items"]
        return Demands(literals=tuple(f"{i}." for i in range(1, n + 1)), counts={"numbered": Range(n, n)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        found = [f"{n}." for n, mark, _ in measure.numbered_items(response) if mark == "."]
        return f"has the numbered lines {' '.join(found) or '(none)'} instead of 1. to {kwargs['num_items']}."


@register
class ItemWords(ConstraintType):
    type = "list:item_words"
    descriptions = (
        "Include a bulleted list in which no bullet point has more than {max_words} words",
        "Use bullet points (lines starting with -) of at most {max_words} words each",
        "Your response must contain bullet points, and each may have {max_words} words at most",
        "Give a list of bullets, none of them longer than {max_words} words",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        items = measure.bullets(response)
        return bool(items) and all(measure.count_words(item) <= kwargs["max_words"] for item in items)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"max_words": rng.randint(6, 15)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"bullets": Range(1), "item_words": Range(0, kwargs["max_words"])})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        longest = max(map(measure.count_words, measure.bullets(response)), default=0)
        return f"has a bullet point of {longest} words" if longest else "has no bullet points"


@register
class ItemStart(ConstraintType):
    type = "list:item_start"
    descriptions = (
        "Include a bulleted list in which every bullet point starts with the word '{word}'",
        "Use bullet points (lines starting with -), each beginning with '{word}'",
        "Your response must contain at least two bullet points, and '{word}' must be the first word of each",
        "Give a list of two or more bullets that all begin with the word '{word}'",
    )
    difficulty_hint = 3

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        items = measure.bullets(response)
        return len(items) > 1 and all(measure.opens_with(i, kwargs["word"]) for i in items)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"word": rng.choice(("Always", "Because", "Consider", "Remember", "The", "This", "Try", "When"))}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"bullets": Range(2), f"word:{kwargs['word'].lower()}": Range(2)})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        items = measure.bullets(response)
        wrong = next((i for i in items if not measure.opens_with(i, kwargs["word"])), None)
        return f"has the bullet point '{wrong[:40]}'" if wrong else f"has only {len(items)} bullet points"


@register
class AlphabeticalList(ConstraintType):
    type = "list:alphabetical"
    descriptions = (
        "Include at least {num_items} bullet points in alphabetical order",
        "Use {num_items} or more bullet points (lines starting with -) and sort them alphabetically",
        "Your response must contain {num_items} or more bullet points, ordered from A to Z",
        "Give a list of at least {num_items} bullets, sorted alphabetically",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        keys = _sort_keys(response)
        return len(keys) >= kwargs["num_items"] and keys == sorted(keys)

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any]:
        return {"num_items": rng.randint(3, 6)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(counts={"bullets": Range(kwargs["num_items"])})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        keys = _sort_keys(response)
        if len(keys) < kwargs["num_items"]:
            return f"has {len(keys)} bullet points, fewer than {kwargs['num_items']}"
        after, before = next((a, b) for a, b in pairwise(keys) if a > b)
        return f"lists '{before[:30]}' after '{after[:30]}'"


def _sort_keys(response: str) -> list[str]:
    """Each bullet in lower case without accents, from its first letter or digit on; ``É`` sorts as ``E``.

    Raises:
        ValueError: bullets in Han characters, whose order is a matter of the dictionary.
    """
    items = [re.sub(r"^[\W_]+", "", item) for item in measure.bullets(response)]
    if any(map(measure.without_spaces, items)):
        raise ValueError("alphabetical order is not defined for this script")
    return ["".join(c for c in unicodedata.normalize("NFKD", measure.plain(item).casefold())
                    if not unicodedata.combining(c)) for item in items]
