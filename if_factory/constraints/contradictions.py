"""Why a set of constraints cannot be satisfied together, from what its types demand.

Nothing here knows a constraint type: the demands of all constraints are merged and the rules below look for
arithmetic that does not come out. Looking at the whole set matters: three markers of two constraints may need
more words than a third constraint leaves, while each pair would be fine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from if_factory.constraints import text as measure
from if_factory.constraints.base import get
from if_factory.constraints.demands import Demands, Range, Unsatisfiable, merge
from if_factory.errors import UserError
from if_factory.records import Constraint

# Languages whose own script is not Latin: a required English word makes the answer bilingual at best.
_OTHER_SCRIPTS = frozenset(("ar", "bg", "bn", "el", "fa", "gu", "he", "hi", "ja", "kn", "ko", "mk", "ml", "mr",
                            "ne", "pa", "ru", "ta", "te", "th", "uk", "ur", "zh", "zh-cn", "zh-tw"))
# Languages in which ``\\w+`` and ``.!?`` count neither words nor sentences (no spaces, vowel signs, danda).
_UNCOUNTABLE = frozenset(("bn", "gu", "hi", "ja", "kn", "ml", "mr", "ne", "pa", "ta", "te", "th", "ur", "zh",
                          "zh-cn", "zh-tw"))
_LATIN = re.compile(r"[A-Za-z]")


def conflict(constraints: Sequence[Constraint], *, strict: bool = False) -> str | None:
    """Why no response can satisfy all of ``constraints``, or ``None`` if nothing speaks against it.

    ``strict`` reports only what the checkers themselves make impossible. Without it, sets are also reported
    that a checker might let pass but no sensible answer satisfies, such as an answer in Thai that opens with
    an English word. Constraints that code does not decide are taken to demand nothing.

    Raises:
        UserError: an unknown type, or arguments its demands cannot be computed from.
    """
    return clash([(c.type, _demands(c)) for c in constraints if c.kind == "code"], strict=strict)


def _demands(constraint: Constraint) -> Demands:
    try:
        return get(constraint.type).demands(constraint.kwargs)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise UserError(f"constraint '{constraint.type}' has unusable arguments {constraint.kwargs!r}: {e!r}",
                        fix="see docs/constraints.md for its arguments") from e


def clash(parts: Sequence[tuple[str, Demands]], *, strict: bool = False) -> str | None:
    """As ``conflict``, for types and demands that are already at hand."""
    for owner, form in parts:
        if form.owns is None:
            continue
        for other, demands in parts:
            if demands.owns is None and not {other, other.partition(":")[0]} & form.allows:
                return f"{other} makes no sense in a response that is wholly {form.owns} ({owner})"
    try:
        merged = merge(demands for _, demands in parts)
    except Unsatisfiable as e:
        return str(e)
    rules = _STRICT if strict else (*_STRICT, *_SENSIBLE)
    return next((why for rule in rules for why in rule(merged)), None)


# ---------------------------------------------------------------- what a set must write


def exact_texts(d: Demands) -> list[str]:
    """What the response contains letter by letter; a text inside another needs no room of its own."""
    return _outermost(d.literals)


def required_texts(d: Demands) -> list[str]:
    """``exact_texts`` and the words required in any case, each once."""
    counted = [unit[5:] for unit, limit in d.counts.items() if unit.startswith("word:") and limit.low]
    edges = [text for text in (d.starts, d.ends) if text]
    return _outermost([*d.literals, *d.words, *counted, *edges])


def _outermost(texts: Iterable[str]) -> list[str]:
    kept: list[str] = []
    for text in sorted(set(texts), key=lambda t: (-len(t), t)):
        if not any(text.lower() in longer.lower() for longer in kept):
            kept.append(text)
    return kept


# ---------------------------------------------------------------- what the checkers make impossible


def _forbidden_word(d: Demands) -> Iterator[str]:
    never = [*d.forbidden, *(u[5:] for u, r in d.counts.items() if u.startswith("word:") and r.high == 0)]
    for word in never:
        for text in required_texts(d):
            if measure.contains_phrase(text, word):
                yield f"{word!r} is forbidden but {_short(text)} is required"


def _forbidden_character(d: Demands) -> Iterator[str]:
    for text in required_texts(d):
        for char in d.forbidden_chars:
            if char in text:
                yield f"{char!r} is forbidden but {_short(text)} is required"
    if d.counts.get("numbers", Range()).low and set("0123456789") <= set(d.forbidden_chars):
        yield "digits are forbidden but a number is required"


def _wrong_case(d: Demands) -> Iterator[str]:
    if d.case is None:
        return
    for text in exact_texts(d):
        if text != (text.lower() if d.case == "lower" else text.upper()):
            yield f"the response is all {d.case} case but {_short(text)} is required as written"
    capitals = d.counts.get("capital_words", Range())
    if d.case == "lower" and capitals.low:
        yield f"the response is all lower case but needs {capitals.low} words in capitals"
    if d.case == "upper" and capitals.high is not None and capitals.high < fewest_words(d):
        yield f"the response is all upper case but may have only {capitals.high} words in capitals"


def _too_few_allowed(d: Demands) -> Iterator[str]:
    exact = exact_texts(d)
    texts = required_texts(d)
    for unit, limit in d.counts.items():
        if limit.high is None:
            continue
        needed = 0
        if unit == "capital_words":
            needed = sum(len(measure.capital_words(text)) for text in exact)
        elif unit == "numbers":
            needed = sum(len(re.findall(r"\d+", text)) for text in exact)
        elif unit.startswith("letter:"):
            needed = sum(text.lower().count(unit[-1].lower()) for text in texts)
        elif unit.startswith("word:"):
            needed = sum(measure.count_phrase(text, unit[5:]) for text in texts)
        elif unit == "words":
            needed = fewest_words(d)
        elif unit == "characters":
            needed = max(sum(map(len, texts)), 2 * fewest_words(d) - 1)
        elif unit == "word_letters":
            needed = max((len(word) for text in texts for word in re.findall(r"[^\W\d_]+", text)), default=0)
        elif unit == "line_characters":
            needed = max((len(line) for text in exact for line in text.split("\n")), default=0)
        elif unit == "sentence_words":
            sentences = d.counts.get("sentences", Range()).high
            needed = 1 if sentences is None else -(-fewest_words(d) // max(1, sentences))
        elif unit == "lines":
            needed = max(d.counts.get(part, Range()).low for part in ("paragraphs", "bullets", "numbered"))
        if needed > limit.high:
            yield f"at most {limit.high} of {unit} are allowed but the other constraints need {needed}"


def fewest_words(d: Demands) -> int:
    """A lower bound for the words of a complying response."""
    low = {unit: limit.low for unit, limit in d.counts.items()}
    repeated = sum(n for unit, n in low.items() if unit.startswith("word:"))
    texts = sum(measure.count_words(text) for text in required_texts(d))
    return max(1, texts, repeated, *(low.get(u, 0) for u in ("words", "sentences", "capital_words", "bullets")))


# ---------------------------------------------------------------- what no sensible answer does


def _other_script(d: Demands) -> Iterator[str]:
    if d.language in _OTHER_SCRIPTS:
        for text in required_texts(d):
            if _LATIN.search(text):
                yield f"the response is in another script ({d.language}) but {_short(text)} is required"
        for unit, limit in d.counts.items():
            if unit.startswith(("letter:", "capital_words")) and limit.low:
                yield f"the response is in another script ({d.language}) but needs Latin letters ({unit})"
    if d.language in _UNCOUNTABLE:
        for unit in ("words", "sentences", "sentence_words", "word_letters"):
            if unit in d.counts:
                yield f"{unit} cannot be counted in a response in {d.language}"


def _no_room(d: Demands) -> Iterator[str]:
    """Caps that leave no room for an answer around what must be written."""
    words = d.counts.get("words", Range())
    parts = sum(d.counts.get(part, Range()).low
                for part in ("bullets", "numbered", "rows", "headings", "paragraphs"))
    needed = sum(measure.count_words(text) for text in required_texts(d)) + 3 * parts
    needed = max(needed, 3 * d.counts.get("sentences", Range()).low)
    if words.high is not None and needed > words.high:
        yield f"at most {words.high} words leave no room for the {needed} that the other constraints need"
    characters = d.counts.get("characters", Range())
    if characters.high is not None and 7 * max(needed, words.low) > characters.high:
        yield f"{characters.high} characters leave no room for {max(needed, words.low)} words"


def _starved_letters(d: Demands) -> Iterator[str]:
    """A cap on one letter, against a number of words that needs it."""
    for unit, limit in d.counts.items():
        if unit.startswith("letter:") and limit.high is not None:
            words = d.counts.get("words", Range()).low
            if words > 40 * (limit.high + 1) / (3 if unit[-1].lower() in "eaoitns" else 1):
                yield f"{words} words cannot do with {limit.high} times {unit[-1]!r}"


Rule = Callable[[Demands], Iterator[str]]
_STRICT: tuple[Rule, ...] = (_forbidden_word, _forbidden_character, _wrong_case, _too_few_allowed)
_SENSIBLE: tuple[Rule, ...] = (_other_script, _no_room, _starved_letters)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
