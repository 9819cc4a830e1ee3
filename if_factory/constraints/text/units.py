"""Measuring text: words, sentences, paragraphs, bullets, capitals, language; one definition for all types.

Everything here is a pure function of the text. Word and sentence rules are for English and other languages that
write spaces between words; each function says what it counts.
"""

from __future__ import annotations

import re
from functools import lru_cache

# ---------------------------------------------------------------- words

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_NAME = re.compile(r"(?:[^\W\d_]\.)+[^\W\d_](?!\w)\.?|[^\W_]+(?:['’-][^\W_]+)*")


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores; an apostrophe joins (``don't`` is one, ``well-known`` two)."""
    return _WORD.findall(text)


def count_words(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def capital_words(text: str) -> list[str]:
    """Words only in capitals, ``I`` and ``A`` included; ``SELF-MADE``, ``I'M`` and ``U.S.`` are one each."""
    return [w for w in _NAME.findall(text) if w.isupper()]


@lru_cache(maxsize=4096)
def phrase_pattern(phrase: str) -> re.Pattern[str]:
    """Matches ``phrase`` literally as whole words, case ignored; any white space matches any other."""
    body = r"\s+".join(re.escape(part) for part in phrase.split())
    # Borders only where the phrase itself ends in a word character: "C++" has no \b after it.
    left = r"(?<!\w)" if phrase[:1].isalnum() or phrase[:1] == "_" else ""
    right = r"(?!\w)" if phrase[-1:].isalnum() or phrase[-1:] == "_" else ""
    return re.compile(left + body + right, re.IGNORECASE)


def count_phrase(text: str, phrase: str) -> int:
    """How often ``phrase`` occurs as whole words, case ignored (``cat`` does not occur in ``category``)."""
    return len(phrase_pattern(phrase.strip()).findall(text)) if phrase.strip() else 0


def contains_phrase(text: str, phrase: str) -> bool:
    return bool(phrase.strip()) and phrase_pattern(phrase.strip()).search(text) is not None


def first_word(text: str) -> str:
    """The first word without the quotes, brackets and Markdown marks around it; ``""`` if there is none."""
    found = _NAME.search(text)
    return found.group() if found else ""


# ---------------------------------------------------------------- lines, paragraphs, lists


def lines(text: str) -> list[str]:
    """Lines that are not blank, stripped."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def paragraphs(text: str) -> list[str]:
    """Blocks separated by at least one blank line, stripped, none empty."""
    return [p.strip() for p in re.split(r"\n[ \t\r]*\n", text) if p.strip()]


_BULLET = re.compile(r"^[ \t]*[-*][ \t]+(\S.*)$", re.MULTILINE)
_ITEM = re.compile(r"^[ \t]*\d+[.)][ \t]+(\S.*)$", re.MULTILINE)


def bullets(text: str) -> list[str]:
    """The texts of bullet points: a line that opens with ``-`` or ``*`` and a space."""
    return [m.strip() for m in _BULLET.findall(text)]


def numbered_items(text: str) -> list[str]:
    """The texts of numbered list items: a line that opens with ``1.`` or ``1)`` and a space."""
    return [m.strip() for m in _ITEM.findall(text)]


def placeholders(text: str) -> list[str]:
    """Non-empty texts in square brackets on one line: ``[name]``; a Markdown link's ``[text](url)`` is none."""
    return [m.strip() for m in re.findall(r"\[([^\[\]\n]*)\](?!\()", text) if m.strip()]


def highlights(text: str) -> list[str]:
    """Texts between single or double asterisks on one line: ``*this*`` and ``**this**``."""
    found = re.findall(r"\*\*([^\n*]+)\*\*|(?<!\*)\*([^\s*](?:[^\n*]*[^\s*])?)\*(?!\*)", text)
    return [s.strip() for pair in found for s in pair if s.strip()]


def strip_code_fence(text: str) -> str:
    """The body of a text that is one fenced Markdown block, else the text; stripped either way."""
    text = text.strip()
    fenced = re.fullmatch(r"```[\w-]*[ \t]*\n?(.*?)\n?[ \t]*```", text, re.DOTALL)
    return fenced.group(1).strip() if fenced else text


# ---------------------------------------------------------------- sentences

_ABBREVIATIONS = frozenset("""
    adj adm adv al apr approx apt assn assoc asst attn aug ave bldg blvd brig bros ca capt cf cm cmdr co col
    comdr corp cpl ct dec dept dist div dr ed eds est etc ex excl ext feb fig figs fri ft gen gov govt hon hr
    hrs ibid inc incl jan jr jul jun kg km lb lbs lt ltd maj mar max mfg mg mgr min misc mm mon mr mrs ms
    msgr mt mtn nat nov oct op orig oz pg ph.d phd pl pp prof prop pt pty pub pvt rd ref refs rep res
    ret rev sat sec sen sep sept sgt sq sr st ste sun supt tel temp thu thur thurs tue tues univ v viz vol
    vols vs wed wk yr yrs
    """.split())  # noqa: SIM905
# A capital follows these inside a sentence as a rule, so a capital after them proves nothing.
_TITLES = frozenset("""
    adm approx brig ca capt cf cmdr col cpl dr e.g gen gov hon i.e lt maj mr mrs ms mt ph.d prof rep rev sen sgt st
    supt v viz vs
    """.split())  # noqa: SIM905
# These are abbreviations only before a number: "No. 5".
_NUMBERED = frozenset("art ch eq fig figs no nos p pp sec vol".split())  # noqa: SIM905
# A capital on one of these is the start of a sentence, whatever stands before.
_STARTERS = frozenset("""
    a after also although an and another as at because before but by during each first for from he here how
    however i if in it its let many my next no on one our please she so some such the their then there these
    they this those
    though through to we what when where which while who why with yes you your
    """.split())  # noqa: SIM905
_STOP = re.compile(
    r"""(?<![.!?…])(?P<mark>[.!?…]++|[。！？｡]++)(?P<closing>["'”’»)\]}*_]*+)(?:(?=(?P<space>\s+))|$|(?<=[。！？｡]))""")
_OPENING = "\"'“‘«([{*_#>-–—•+ \t\n\r"


def sentences(text: str) -> list[str]:
    """The sentences of a text, stripped, in order; a text without any end mark is one sentence.

    A sentence ends at ``.``, ``!``, ``?``, an ellipsis or their full-width forms, with the quotes and brackets
    that close after it, before white space, or at a blank line. It does not end after a known abbreviation, an
    initial (``J. Smith``) or a list number (``1.``), nor before a lower-case word. Pieces without a letter or
    digit (rules, stray marks) are no sentence.
    """
    found = []
    start = last = 0
    for end in [*_ends(text), len(text)]:
        # Marks alone wait for the sentence they open; only what is new is looked at, else dots cost squares.
        if any(c.isalnum() for c in text[last:end]):
            found.append(text[start:end].strip())
            start = end
        last = end
    return found


def count_sentences(text: str) -> int:
    return len(sentences(text))


def _ends(text: str) -> list[int]:
    ends = [m.end() for m in _STOP.finditer(text) if _is_end(text, m)]
    ends += [m.start() for m in re.finditer(r"\n[ \t\r]*\n", text)]
    return sorted(set(ends))


def _is_end(text: str, stop: re.Match[str]) -> bool:
    mark, closing, space = stop["mark"], stop["closing"], stop["space"] or ""
    before = text[max(0, stop.start() - 60):stop.start()]
    word = "" if not before or before[-1].isspace() else before.split()[-1]
    following = text[stop.end():stop.end() + 40].lstrip(_OPENING)
    if mark == "." and _opens_a_line(text, stop.start(), word):
        return False
    if not following or mark[0] in "。！？｡" or "\n" in space:
        return True
    if following[0].islower():
        return False
    return mark != "." or closing != "" or not _is_abbreviation(word, following)


def _opens_a_line(text: str, stop: int, word: str) -> bool:
    """``1.`` or ``a.`` at the start of a line is a list number."""
    marker = word.lstrip(_OPENING)
    line = text[text.rfind("\n", 0, stop) + 1:stop - len(marker)]
    return (marker.isdigit() or len(marker) == 1) and not line.strip(_OPENING)


def _is_abbreviation(before: str, following: str) -> bool:
    word = before.lstrip(_OPENING).rsplit("-", 1)[-1]
    lower = word.lower()
    next_word = first_word(following)
    if not word or (next_word[:1].isupper() and next_word.lower() in _STARTERS):
        return False
    if len(word) == 1 and word.isupper() and word != "I":
        return True  # an initial
    if lower in _NUMBERED:
        return following[0].isdigit()
    if lower in _TITLES:
        return True
    dotted = "." in word and all(len(part) <= 2 for part in word.split("."))
    return (lower in _ABBREVIATIONS or dotted) and not following[0].isupper()


_PUNKT_STOP = re.compile(
    r"""(?P<mark>\.{2,}+|\.|[!?]++)(?:["'\])}]++(?=\s|$)|(?=[\s)";}\]*:@'({\[!?])|$)""")


def punkt_sentences(text: str) -> list[str]:
    """Sentences as NLTK's English Punkt model divides a text, for comparison with the reference checkers.

    It knows no lines: a list number (``1.``) is a sentence, a bullet list without full stops is one sentence, and
    ``!`` or ``?`` always ends one. The trained model is not installed; its rules are followed with our own
    abbreviations.
    """
    found, start = [], 0
    for stop in _PUNKT_STOP.finditer(text):
        word = text[max(0, stop.start() - 60):stop.start()].split(" ")[-1].split("\n")[-1].lstrip(_OPENING)
        following = text[stop.end():stop.end() + 40].lstrip()
        if following and _punkt_goes_on(word, stop["mark"], following):
            continue
        found.append(text[start:stop.end()].strip())
        start = stop.end()
    return [*found, text[start:].strip()] if text[start:].strip() else found


def _punkt_goes_on(word: str, mark: str, following: str) -> bool:
    if mark != ".":
        return mark.startswith("..")
    if (word.replace(",", "").isdigit() or len(word) == 1) and following[0].islower():
        return True
    return word.lower() not in ("e.g", "i.e") and _is_abbreviation(word, following)


# ---------------------------------------------------------------- language


def detect_language(text: str) -> str | None:
    """The ISO 639-1 code (``zh-cn``, ``zh-tw`` for Chinese) as langdetect with seed 0; ``None`` if undetectable.

    langdetect ignores words in capitals: pass ``text.lower()`` where those matter.
    """
    from if_factory.constraints.text import langid

    return langid.detect(text)


_TELLING_LETTERS = 50


def is_in_language(text: str, language: str) -> bool:
    """Whether the text is in the language (ISO 639-1) as far as can be told; a text without letters is in none.

    Raises:
        ValueError: another language is detected, but in fewer than 50 letters, where langdetect is wrong about
            plain English one time in four. So short a text is not failed on its word.
    """
    found = detect_language(text)
    if found not in (language, None) and sum(map(str.isalpha, text)) < _TELLING_LETTERS:
        raise ValueError("too short to tell its language")
    return found == language
