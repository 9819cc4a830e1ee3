"""Why a set of constraints cannot be satisfied together, from what its types demand.

The demands of all constraints are merged, and the rules below look for ranges that do not intersect and for
texts that do not fit. They compare demands, not types; only two rules name a form that one type has (the
``***`` divider and the postscript). The whole set is looked at, because three markers of two constraints may
need more words than a third constraint leaves, while each pair would be fine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from if_factory.constraints import text as measure
from if_factory.constraints.base import get
from if_factory.constraints.demands import Demands, Unsatisfiable, merge
from if_factory.errors import UserError
from if_factory.verdicts import Constraint

# Languages whose own script is not Latin: a required English word makes the answer bilingual at best.
_OTHER_SCRIPTS = frozenset(("ar", "bg", "bn", "el", "fa", "gu", "he", "hi", "ja", "kn", "ko", "mk", "ml", "mr",
                            "ne", "pa", "ru", "ta", "te", "th", "uk", "ur", "zh", "zh-cn", "zh-tw"))
# Languages whose words cannot be counted (Thai), or not as the English text of a constraint means it: in
# Chinese and Japanese every character counts as a word.
_UNCOUNTABLE = frozenset(("ja", "th", "zh", "zh-cn", "zh-tw"))
_LATIN = re.compile(r"[A-Za-z]")
_SPOKEN = re.compile(r"[^\W\d_]{2,}")


def conflict(constraints: Sequence[Constraint], *, strict: bool = False) -> str | None:
    """Why no response can satisfy all of ``constraints``, or ``None`` if nothing speaks against it.

    ``strict`` reports only what the checkers themselves make impossible. Without it, sets are also reported
    that the checkers might let pass but no sensible answer satisfies, such as a title inside a JSON document
    or an answer in Thai that opens with an English word. Constraints that code does not decide are taken to
    demand nothing.

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
    if not strict and (why := _out_of_place(parts)):
        return why
    try:
        whole = Whole(merge(demands for _, demands in parts))
    except Unsatisfiable as e:
        return str(e)
    rules = _STRICT if strict else (*_STRICT, *_SENSIBLE)
    return next((why for rule in rules for why in rule(whole)), None)


def _out_of_place(parts: Sequence[tuple[str, Demands]]) -> str | None:
    """Why one type makes no sense beside another, by what each says of types."""
    for owner, form in parts:
        for other, demands in parts:
            names = (other, other.partition(":")[0])
            if other != owner and not form.never_with.isdisjoint(names):
                return f"{other} asks for the same as {owner}, or for what it leaves no place for"
            if form.owns and demands.owns is None and form.allows.isdisjoint(names):
                return f"{other} makes no sense in a response that is wholly {form.owns} ({owner})"
            if form.allows and not form.owns and other != owner and form.allows.isdisjoint(names):
                return f"{other} makes no sense beside {owner}, which shapes the whole response"
    return None


# ---------------------------------------------------------------- what a set must write


class Whole:
    """The merged demands of a set, with what they make a response contain.

    Attributes:
        exact: texts that stand in it letter by letter.
        texts: those and the words required in any case; one inside another needs no room of its own.
        fewest_words: a lower bound for its words.
    """

    def __init__(self, demands: Demands) -> None:
        self.demands = demands
        self.exact = _outermost(demands.literals)
        edges = [text for text in (demands.starts, demands.ends) if text]
        counted = [unit[5:] for unit, limit in demands.counts.items() if unit.startswith("word:") and limit.low]
        self.texts = _outermost([*demands.literals, *demands.words, *counted, *edges])
        repeated = sum(self.low(unit) for unit in demands.counts if unit.startswith("word:"))
        written = sum(measure.count_words(text) for text in self.texts)
        self.fewest_words = max(1, written, repeated,
                                *map(self.low, ("words", "sentences", "capital_words", "bullets")))

    def low(self, unit: str) -> int:
        return self.demands.counts[unit].low if unit in self.demands.counts else 0

    def high(self, unit: str) -> int | None:
        return self.demands.counts[unit].high if unit in self.demands.counts else None


def _outermost(texts: Iterable[str]) -> list[str]:
    kept: dict[str, str] = {}
    for text in sorted(set(texts), key=lambda t: (-len(t), t)):
        lower = text.lower()
        if not any(lower in longer for longer in kept):
            kept[lower] = text
    return list(kept.values())


# ---------------------------------------------------------------- what the checkers make impossible


def _forbidden_word(whole: Whole) -> Iterator[str]:
    counts = whole.demands.counts
    never = {*whole.demands.forbidden, *(unit[5:] for unit in counts if unit.startswith("word:")
                                         and whole.high(unit) == 0)}
    for word in sorted(never):
        for text in whole.texts:
            if measure.contains_phrase(text, word):
                yield f"{word!r} is forbidden but {_short(text)} is required"


def _forbidden_character(whole: Whole) -> Iterator[str]:
    never = whole.demands.forbidden_chars
    for text in whole.texts:
        for char in never:
            if char in text:
                yield f"{char!r} is forbidden but {_short(text)} is required"
    if whole.low("numbers") and set("0123456789") <= set(never):
        yield "digits are forbidden but a number is required"


def _wrong_case(whole: Whole) -> Iterator[str]:
    case, most = whole.demands.case, whole.high("capital_words")
    if case is None:
        return
    for text in whole.exact:
        if text != (text.lower() if case == "lower" else text.upper()):
            yield f"the response is all {case} case but {_short(text)} is required as written"
    if case == "lower" and whole.low("capital_words"):
        yield f"the response is all lower case but needs {whole.low('capital_words')} words in capitals"
    if case == "upper" and most is not None and most < whole.fewest_words:
        yield f"the response is all upper case but may have only {most} words in capitals"


def _too_few_allowed(whole: Whole) -> Iterator[str]:
    exact, texts, fewest_words = whole.exact, whole.texts, whole.fewest_words
    for unit, limit in whole.demands.counts.items():
        if limit.high is None:
            continue
        needed = 0
        if unit == "capital_words":
            # "P.P.S" may go on as "P.P.S.", which is one word: take the reading with fewer.
            needed = sum(min(len(measure.capital_words(text + more)) for more in ("", ".")) for text in exact)
        elif unit == "numbers":
            needed = sum(len(re.findall(r"\d+", text)) for text in exact)
        elif unit.startswith("letter:"):
            needed = sum(text.lower().count(unit[-1].lower()) for text in texts)
        elif unit.startswith("word:"):
            needed = sum(measure.count_phrase(text, unit[5:]) for text in texts)
        elif unit == "words":
            needed = fewest_words
        elif unit == "characters":
            needed = max(sum(map(len, texts)), 2 * fewest_words - 1)
        elif unit == "letters":
            needed = sum(sum(map(str.isalpha, text)) for text in texts)
        elif unit == "word_repeats":
            needed = max((whole.low(word) for word in whole.demands.counts if word.startswith("word:")), default=0)
        elif unit == "word_letters":
            needed = max((len(word) for text in texts for word in re.findall(r"[^\W\d_]+", text)), default=0)
        elif unit == "line_characters":
            needed = max((len(line) for text in exact for line in text.split("\n")), default=0)
        elif unit == "sentence_words":
            sentences = whole.high("sentences")
            needed = 1 if sentences is None else -(-fewest_words // max(1, sentences))
            needed = max(needed, *(measure.count_words(s) for text in exact for s in measure.sentences(text)), 0)
        elif unit == "sentences":
            # Every list item is a sentence of its own.
            items = whole.low("bullets") + whole.low("numbered")
            needed = max([1, items, *map(measure.count_sentences, texts)])
        elif unit == "repeated_starts":
            needed = max((_repeated_starts(text) for text in texts), default=0)
        elif unit == "lines":
            needed = max(map(whole.low, ("paragraphs", "bullets", "numbered")))
        if needed > limit.high:
            yield f"at most {limit.high} of {unit} are allowed but the other constraints need {needed}"


# ---------------------------------------------------------------- what no sensible answer does


def _other_language(whole: Whole) -> Iterator[str]:
    """A required phrase in another language. Short English is often taken for another, so it is let pass."""
    language = whole.demands.language
    shortest = 9 if language == "en" else 3
    for text in whole.texts if language else ():
        if len(_SPOKEN.findall(text)) >= shortest and measure.detect_language(text.lower()) != language:
            yield f"the response is in '{language}' but {_short(text)}, in another language, is required"


def _other_script(whole: Whole) -> Iterator[str]:
    language = whole.demands.language
    if language in _OTHER_SCRIPTS:
        for text in whole.texts:
            if _LATIN.search(text):
                yield f"the response is in another script ({language}) but {_short(text)} is required"
        for unit in whole.demands.counts:
            if unit.startswith(("letter:", "capital_words")) and whole.low(unit):
                yield f"the response is in another script ({language}) but needs Latin letters ({unit})"
    if language in _UNCOUNTABLE:
        for unit in ("words", "sentences", "sentence_words", "word_letters"):
            if unit in whole.demands.counts:
                yield f"{unit} cannot be counted in a response in {language}"


def _no_room(whole: Whole) -> Iterator[str]:
    """Caps that leave no room for an answer around what must be written."""
    parts = sum(map(whole.low, ("bullets", "numbered", "rows", "headings", "paragraphs")))
    needed = sum(measure.count_words(text) for text in whole.texts) + 3 * parts
    needed = max(needed, 3 * whole.low("sentences")) + whole.demands.room
    words, characters = whole.high("words"), whole.high("characters")
    letters, longest = whole.high("letters"), whole.high("sentence_words")
    if letters is not None and 5 * max(needed, whole.low("words")) > letters:
        yield f"{letters} letters leave no room for {max(needed, whole.low('words'))} words"
    if words is not None and needed > words:
        yield f"at most {words} words leave no room for the {needed} that the other constraints need"
    sentences, opening = whole.high("sentences"), measure.count_sentences(whole.demands.starts or "")
    items = whole.low("bullets") + whole.low("numbered")
    if sentences is not None and items and items >= sentences:
        yield f"at most {sentences} sentences leave no room for an answer beside {items} list items"
    if sentences is not None and opening and items and opening + items >= sentences:
        yield (f"at most {sentences} sentences leave no room for an answer beside the {opening} it must open with and "
               f"{items} list items")
    if sentences is not None and opening >= sentences:
        yield f"at most {sentences} sentences leave no room for an answer after the {opening} it must open with"
    if whole.demands.room and sentences is not None and longest is not None and needed > sentences * longest:
        yield f"{sentences} sentences of at most {longest} words leave no room for {needed} words"
    needed = max(needed, whole.low("words"))
    if characters is not None and 7 * needed > characters:
        yield f"{characters} characters leave no room for {needed} words"


def _starved_letters(whole: Whole) -> Iterator[str]:
    """A cap on one letter, against a number of words that needs it."""
    for unit, limit in whole.demands.counts.items():
        if unit.startswith("letter:") and limit.high is not None:
            words = whole.low("words")
            if words > 40 * (limit.high + 1) / (3 if unit[-1].lower() in "eaoitns" else 1):
                yield f"{words} words cannot do with {limit.high} times {unit[-1]!r}"


def _too_few_lines(whole: Whole) -> Iterator[str]:
    lines = whole.high("lines")
    table = whole.low("rows") + 2 if whole.low("rows") else 0
    code = sum(3 * limit.low for unit, limit in whole.demands.counts.items() if unit.endswith(" blocks"))
    paragraphs = 2 * whole.low("paragraphs") - 1 if "***" in whole.demands.literals else whole.low("paragraphs")
    needed = max(1, paragraphs) + 2 * ("postscript" in whole.demands.exclusive)
    listed = table + code + sum(map(whole.low, ("bullets", "numbered", "headings", "sections", "marked_items")))
    needed += listed + (1 if listed and whole.demands.ends else 0)
    if lines is not None and needed > lines:
        yield f"{lines} lines leave no room for the {needed} that the other constraints need"


Rule = Callable[[Whole], Iterator[str]]
_STRICT: tuple[Rule, ...] = (_forbidden_word, _forbidden_character, _wrong_case, _too_few_allowed)
_SENSIBLE: tuple[Rule, ...] = (_other_script, _other_language, _no_room, _too_few_lines, _starved_letters)


def _repeated_starts(text: str) -> int:
    starts = [measure.first_word(sentence).lower() for sentence in measure.sentences(text)]
    return len(starts) - len(set(starts))


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
