"""Which constraints each level asks for: a two-level list of categories and items, drawn without rival values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from random import Random

from pydantic import BaseModel

ITEM = 200  # characters
PER_LEVEL = 2, 3  # new items of a level (paper, section 3.1), where the list holds so many
CATEGORIES = 2  # at most so many new categories of a level
Items = list[tuple[str, str]]  # (category, item)


class Category(BaseModel):
    """One category as the teacher writes it; ``together``: one answer can meet several of its items at once."""

    name: str
    items: list[str]
    together: bool = False


def two_levels(categories: Sequence[Category]) -> dict[str, list[str]]:
    """Category to items, each item once, on one line and at most ``ITEM`` long: a longer one is no constraint,
    nor is one without a word, such as the prompt's own "..."."""
    out: dict[str, list[str]] = {}
    seen: set[str] = set()
    for category in categories:
        name = " ".join(category.name.split())
        for item in (" ".join(i.split()) for i in category.items):
            wordy = re.search(r"\w", name) and re.search(r"\w", item)
            if wordy and max(len(name), len(item)) <= ITEM and item.casefold() not in seen:
                seen.add(item.casefold())
                out.setdefault(name, []).append(item)
    return out


def combinable(categories: Sequence[Category]) -> list[str]:
    """The names of the categories whose items the teacher says go together; of one name all must say so."""
    said: dict[str, bool] = {}
    for category in categories:
        name = " ".join(category.name.split())
        said[name] = said.get(name, True) and category.together
    return [name for name, together in said.items() if together]


class Pool:
    """What can still be drawn for the levels of one instruction.

    Items of a category exclude each other ("Europe" and "Global"), so a category gives one item in all, unless it
    is in ``together``.
    """

    def __init__(self, categories: Mapping[str, Sequence[str]], rng: Random, together: Collection[str] = ()) -> None:
        self.rng = rng
        self.together = frozenset(together)
        self.left = {name: rng.sample(items, len(items)) for name, items in categories.items()}

    def offers(self) -> int:
        """How many items can be asked for at once in addition to those drawn."""
        return sum(len(items) if name in self.together else bool(items) for name, items in self.left.items())

    def draw(self, levels_above: int) -> Items:
        """Two or three items of at most two categories; fewer where the levels above would be left without any."""
        wanted = min(self.rng.randint(*PER_LEVEL), max(1, self.offers() - levels_above))
        open_ = [name for name, items in self.left.items() if items]
        chosen = self.rng.sample(open_, min(CATEGORIES, len(open_)))
        drawn: Items = []
        while len(drawn) < wanted and (rest := [n for n in chosen if self.left[n]]):
            # One of each before a second of one.
            name = min(rest, key=lambda n: (sum(c == n for c, _ in drawn), chosen.index(n)))
            drawn.append((name, self.left[name].pop()))
            if name not in self.together:
                chosen.remove(name)
        return drawn

    def accept(self, drawn: Items) -> None:
        """The items are asked for: other values of their categories are closed. Without it, they are only gone."""
        for name, _ in drawn:
            if name not in self.together:
                self.left[name] = []


def draw_levels(categories: Mapping[str, Sequence[str]], rng: Random, levels: int = 5,
                together: Collection[str] = ()) -> list[Items]:
    """The items of each level if the teacher refuses none; every level holds those of the level before it.

    Where the list offers at least one item per level, every level adds one.
    """
    pool = Pool(categories, rng, together)
    drawn: Items = []
    out: list[Items] = []
    for level in range(1, levels + 1):
        pool.accept(new := pool.draw(levels - level))
        drawn = [*drawn, *new]
        out.append(drawn)
    return out
