"""Constraints that a given text already satisfies, each with a corrupted form that it does not: all by code.

The text is measured (its words, its last word, how often it says "river") and a constraint is written that holds,
then the same constraint with other arguments that does not: "Write between 240 and 290 words" and "Write between
410 and 460 words". Both are decided by the checkers, so no model is needed to make truly corrupted instructions.
A type without a rule here, a user's own included, is tried with the arguments it draws itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import Any, NamedTuple

from if_factory.constraints import relations
from if_factory.constraints import text as measure
from if_factory.constraints.base import ConstraintType, all_types, blame_plugin
from if_factory.constraints.compose import offered
from if_factory.constraints.conflicts import conflict
from if_factory.constraints.text.vocabulary import COMMON_WORDS, content_words
from if_factory.constraints.types.extra.sentences import prose_sentences
from if_factory.constraints.types.ifeval.language import LANGUAGES
from if_factory.constraints.verify import verify
from if_factory.records import Constraint

Kwargs = dict[str, Any]
Fit = Callable[[str, Random], tuple[Kwargs, Kwargs] | None]
_TRIES = 8  # drawings of a type's own arguments before it is given up for this text
# Types that say nearly the same of a text: of each group one is taken.
_ALIKE = ({"length:word_range", "length:exact_words", "length_constraints:number_words", "length:max_characters"},
          {"start:first_word", "start:phrase"}, {"end:last_word", "startend:end_checker"},
          {"length:exact_lines", "length_constraints:nth_paragraph_first_word"},
          {"keywords:frequency", "word:exact_count"})


class Corruptible(NamedTuple):
    """``constraint`` passes on the text, ``corrupted`` fails on it; they differ in their arguments only."""

    constraint: Constraint
    corrupted: Constraint


def draw_corruptible(text: str, rng: Random, n: int, *, include: Collection[str] = (),
                     exclude: Collection[str] = ()) -> list[Corruptible]:
    """Up to ``n`` constraints that ``text`` satisfies, of different types, families in turn.

    No corrupted form contradicts the other constraints or the other corrupted forms, so instructions with any of
    them corrupted can be followed by some text. The same text and generator state give the same constraints.

    Args:
        include: types or families to draw from (empty: all but those held out for evaluation); ``exclude`` is
            stronger.
    """
    drawn: list[Corruptible] = []
    for kind in _in_turn(include, exclude, rng):
        if len(drawn) == n:
            break
        if any(kind.type in group and {d.constraint.type for d in drawn} & group for group in _ALIKE):
            continue
        try:
            found = _corruptible(kind, text, rng)
        except Exception as e:
            blame_plugin(kind, e)
            raise
        if found and _coherent(found, drawn):
            drawn.append(found)
    return drawn


def _in_turn(include: Collection[str], exclude: Collection[str], rng: Random) -> list[ConstraintType]:
    """One type of every family in random order, then a second one of each, and so on."""
    families: dict[str, list[ConstraintType]] = {}
    for kind in offered(all_types(), include, exclude):
        families.setdefault(kind.family, []).append(kind)
    order: list[tuple[int, float, ConstraintType]] = []
    for kinds in families.values():
        rng.shuffle(kinds)
        order += [(turn, rng.random(), kind) for turn, kind in enumerate(kinds)]
    return [kind for _, _, kind in sorted(order, key=lambda entry: entry[:2])]


def _corruptible(kind: ConstraintType, text: str, rng: Random) -> Corruptible | None:
    fit = _FITS.get(kind.type)
    pair = fit(text, rng) if fit else _drawn(kind, text, rng)
    if pair is None:
        return None
    wording = rng.getrandbits(32)  # the same description for both: the edit is the arguments alone
    right, wrong = (Constraint(type=kind.type, kwargs=kwargs, text=kind.describe(kwargs, Random(wording)))
                    for kwargs in pair)
    verdicts = verify(text, [right, wrong])
    if not (verdicts[0].passed and verdicts[1].failed) or right.text == wrong.text:
        return None
    return Corruptible(right, wrong)


def _drawn(kind: ConstraintType, text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    right: Kwargs | None = None
    wrong: Kwargs | None = None
    for _ in range(_TRIES):
        kwargs = kind.sample(rng, text[:2000])
        # Nothing to draw, nothing to change, or a form of the whole response, which a human text does not have.
        if not kwargs or kind.demands(kwargs).owns:
            return None
        try:
            passed = kind.check(text, kwargs)
        except Exception:  # noqa: S112 a checker that cannot decide decides nothing here
            continue
        right, wrong = (kwargs, wrong) if passed else (right, kwargs)
        if right and wrong:
            return right, wrong
    return None


def _coherent(new: Corruptible, drawn: Sequence[Corruptible]) -> bool:
    right, wrong = [d.constraint for d in drawn], [d.corrupted for d in drawn]
    sets = ([*right, new.constraint], [*right, new.corrupted], [*wrong, new.constraint], [*wrong, new.corrupted])
    return all(conflict(each) is None for each in sets)


def topic(title: str, text: str) -> str:
    """An instruction that the text follows for certain: its title, or words that it uses most."""
    if title:
        return f'Write a text with the title "{title}".'
    counts = Counter(w.lower() for w in measure.words(text))
    top = sorted(content_words(text), key=lambda w: -counts[w])[:4]  # stable: as they first occur
    return f"Write a text about {', '.join(top[:-1])} and {top[-1]}." if len(top) > 1 else "Write a text."


def label_of(constraint: Constraint) -> dict[str, str]:
    """Suri's two labels: what a constraint is about, and whether it is about the whole text."""
    family = constraint.type.partition(":")[0]
    return {"type": "semantic" if family in ("keywords", "word") else "stylistic",
            "scope": "specific" if family in ("keywords", "word", "start", "end", "startend") else "broad"}


# ---------------------------------------------------------------- measuring


def _bounds(count: int, rng: Random) -> tuple[str, int, int] | None:
    """A relation, a number that ``count`` satisfies and one that it does not, both as people write them."""
    if rng.random() < 0.5:
        right, wrong = _round(count * rng.uniform(0.8, 1), down=True), _round(count * rng.uniform(1.3, 2) + 1)
        return (relations.AT_LEAST, right, wrong) if right > 0 else None
    right, wrong = _round(count * rng.uniform(1, 1.2) + 1), _round(count * rng.uniform(0.4, 0.8), down=True)
    return (relations.LESS_THAN, right, wrong) if wrong > 0 else None


def _round(x: float, *, down: bool = False) -> int:
    step = 50 if x >= 1000 else 10 if x >= 60 else 1
    return int(x // step * step) if down else int(-(-x // step) * step)


def _other(count: int, rng: Random, least: int = 1) -> int:
    """A different small number."""
    return rng.choice([n for n in range(max(least, count - 3), count + 4) if n != count])


def _counted(unit: Callable[[str], int], relation: str, number: str) -> Fit:
    def fit(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
        found = _bounds(unit(text), rng)
        return found and ({relation: found[0], number: found[1]}, {relation: found[0], number: found[2]})

    return fit


def _exactly(unit: Callable[[str], int], number: str, most: int = 30, least: int = 1) -> Fit:
    def fit(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
        count = unit(text)
        return ({number: count}, {number: _other(count, rng, least)}) if least <= count <= most else None

    return fit


def _word_range(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    count, width = measure.count_words(text), rng.choice((30, 50, 80, 100))
    low = max(10, (count - rng.randrange(width)) // 10 * 10)
    away = max(width, _round(count * rng.uniform(0.3, 0.8))) + 10
    other = low - away if rng.random() < 0.5 and low - away >= 20 else low + away
    return ({"min_words": low, "max_words": low + width}, {"min_words": other, "max_words": other + width})


def _at_most(unit: Callable[[str], int], number: str, *, step: int = 1, least: int = 5) -> Fit:
    def fit(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
        count = unit(text)
        right = -(-count // step) * step
        wrong = int(count * rng.uniform(0.4, 0.75)) // step * step
        return ({number: right}, {number: max(wrong, least)}) if least < count else None

    return fit


def _vocabulary(text: str) -> tuple[list[str], list[str]]:
    """Words of content in the text, and common words that are not in it."""
    own = content_words(text)
    return own, [w for w in COMMON_WORDS if not measure.contains_phrase(text, w)]


def _keywords(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    own, absent = _vocabulary(text)
    if len(own) < 5 or not absent:
        return None
    right = rng.sample(own, rng.randint(1, 3))
    wrong = list(right)
    wrong[rng.randrange(len(wrong))] = rng.choice(absent)
    return {"keywords": right}, {"keywords": wrong}


def _forbidden(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    own, absent = _vocabulary(text)
    if not own or len(absent) < 3:
        return None
    right = rng.sample(absent, rng.randint(1, 3))
    wrong = list(right)
    wrong[rng.randrange(len(wrong))] = rng.choice(own)
    return {"forbidden_words": right}, {"forbidden_words": wrong}


def _excluded(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    own, absent = _vocabulary(text)
    return ({"keyword": rng.choice(absent)}, {"keyword": rng.choice(own)}) if own and absent else None


def _repeated_word(text: str, rng: Random) -> tuple[str, int] | None:
    own = content_words(text)
    counts = {w: measure.count_phrase(text, w) for w in rng.sample(own, min(40, len(own)))}
    often = [w for w, n in counts.items() if 2 <= n <= 12]
    word = rng.choice(often) if often else None
    return (word, counts[word]) if word else None


def _frequency(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    found = _repeated_word(text, rng)
    if found is None:
        return None
    word, n = found
    relation, right, wrong = ((relations.AT_LEAST, n, n + rng.randint(2, 4)) if rng.random() < 0.5 else
                              (relations.LESS_THAN, n + 1, max(2, n - rng.randint(0, 1))))
    return ({"keyword": word, "relation": relation, "frequency": right},
            {"keyword": word, "relation": relation, "frequency": wrong})


def _word_count(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    found = _repeated_word(text, rng)
    return found and ({"word": found[0], "count": found[1]}, {"word": found[0], "count": _other(found[1], rng)})


def _letters(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    letter = rng.choice("abcdfghklmnoprstuvwy")
    found = _bounds(text.lower().count(letter), rng)
    return found and tuple({"letter": letter, "let_relation": found[0], "let_frequency": n}  # type: ignore[return-value]
                           for n in found[1:])


def _edge(name: str, cut: Callable[[str, int], str]) -> Fit:
    """The first or last words of the text, against those of another of its sentences."""
    def fit(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
        size = rng.randint(3, 5)
        own = cut(text, size)
        others = [edge for s in measure.sentences(text)
                  if (edge := cut(s, size))[:1].isalpha() and edge.lower() != own.lower()]
        return ({name: own}, {name: rng.choice(others)}) if own[:1].isalpha() and others else None

    return fit


def _first_words(text: str, n: int) -> str:
    found = re.match(rf"[\"'“”‘’«»()\[\]*_\s]*(\w[\w'’-]*(?:[ ,;]+\w[\w'’-]*){{{n - 1}}})", text)
    return found[1] if found else ""


def _last_words(text: str, n: int) -> str:
    found = re.search(rf"(\w[\w'’-]*(?:[ ,;]+\w[\w'’-]*){{{n - 1}}}[.!?…]*)[\"'”’»)\]*_\s]*$", text)
    return found[1] if found else ""


def _capitals(text: str) -> int:
    """Words in capitals as a reader sees them: ``I`` and ``A``, which the checker counts too, are just words."""
    return sum(len(re.findall(r"[^\W\d_]", word)) > 1 for word in measure.capital_words(text))


def _paragraph_word(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    parts = measure.paragraphs(text)
    if not 2 <= len(parts) <= 12:
        return None
    nth = rng.randrange(len(parts))
    word = measure.first_word(parts[nth])
    others = sorted({w for p in parts if (w := measure.first_word(p)) and w.lower() != word.lower()})
    if not word or not others:
        return None
    right: Kwargs = {"num_paragraphs": len(parts), "nth_paragraph": nth + 1, "first_word": word}
    change: Kwargs = {"first_word": rng.choice(others)} if rng.random() < 0.5 else \
                     {"num_paragraphs": len(parts) + rng.randint(1, 3)}
    return right, {**right, **change}


def _language(text: str, rng: Random) -> tuple[Kwargs, Kwargs] | None:
    code = measure.detect_language(text)
    if code not in LANGUAGES:
        return None
    return {"language": code}, {"language": rng.choice([c for c in ("de", "en", "es", "fr", "it") if c != code])}


_FITS: dict[str, Fit] = {
    "length:word_range": _word_range,
    "length:exact_words": lambda text, rng: None,  # no instruction of a person's asks for exactly 1,317 words
    "length:line_characters": lambda text, rng: None,  # in running text it only says how long a paragraph is
    "length:max_characters": _at_most(lambda t: len(t.strip()), "max_characters", step=100, least=100),
    "length:exact_lines": _exactly(lambda t: len(measure.lines(t)), "num_lines"),
    "length_constraints:number_words": _counted(measure.count_words, "relation", "num_words"),
    "length_constraints:number_sentences": _counted(measure.count_sentences, "relation", "num_sentences"),
    "length_constraints:nth_paragraph_first_word": _paragraph_word,
    "keywords:existence": _keywords,
    "keywords:forbidden_words": _forbidden,
    "keywords:exclude_word_harder": _excluded,
    "keywords:frequency": _frequency,
    "keywords:letter_frequency": _letters,
    "word:exact_count": _word_count,
    "word:max_letters": _at_most(lambda t: max(map(len, re.findall(r"[^\W\d_]+", t)), default=0), "max_letters",
                                 least=7),
    "sentence:max_words": _at_most(lambda t: max(map(measure.count_words, prose_sentences(t)), default=0),
                                   "max_words"),
    "start:first_word": _edge("word", lambda t, n: measure.first_word(t)),
    "start:phrase": _edge("phrase", _first_words),
    "end:last_word": _edge("word", lambda t, n: (measure.words(t) or [""])[-1]),
    "startend:end_checker": _edge("end_phrase", _last_words),
    "detectable_format:number_bullet_lists": _exactly(lambda t: len(measure.bullets(t, "*-")), "num_bullets"),
    "list:numbered_items": _exactly(lambda t: len(measure.numbered_items(t)), "num_items", least=2),
    "digits:exact_numbers": _exactly(lambda t: len(re.findall(r"\d+", t)), "count", 12),
    "change_case:capital_word_frequency": _counted(_capitals, "capital_relation", "capital_frequency"),
    "language:response_language": _language,
}
