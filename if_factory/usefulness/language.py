"""The language of a text, where it can be told for certain; else nothing.

Two signals must agree for a language in Latin letters: its own function words, and langdetect. A list of Italian
dishes is then no Italian text, and no poem in plain English becomes Danish. Other scripts speak for themselves.
"""

from __future__ import annotations

import re
from collections import Counter

from if_factory.constraints.text import detect_language

_LEAST_WORDS = 12
_SCRIPTS = (("ja", re.compile(r"[\u3040-\u30ff]")), ("ko", re.compile(r"[\uac00-\ud7af]")),
            ("zh", re.compile(r"[\u4e00-\u9fff]")), ("ru", re.compile(r"[\u0400-\u04ff]")),
            ("ar", re.compile(r"[\u0600-\u06ff]")), ("hi", re.compile(r"[\u0900-\u097f]")),
            ("el", re.compile(r"[\u0370-\u03ff]")), ("he", re.compile(r"[\u0590-\u05ff]")),
            ("th", re.compile(r"[\u0e00-\u0e7f]")))
# Words that other languages of the list do not have, or hardly.
_FUNCTION_WORDS = {
    "en": "the and of is that with for this are it you your have from by not was were they which what how why "
          "when do does to be an as can will would about into there their has my we our its write explain "
          "describe give tell suggest list name compare summarize",
    "es": "el los las del y que una con por para como más es son está pero su sus lo qué cómo cuál donde "
          "también muy este esta porque escribe explica",
    "fr": "le les des du et que une avec pour est sont dans qui sur pas vous nous ce cette ces au aux où être "
          "plus comment pourquoi quel quelle il elle écris",
    "de": "der die das und ist nicht ein eine mit für von den dem des zu auf sich auch es im wie sind werden "
          "wird oder warum was wenn kann schreibe erkläre",
    "pt": "o os as do da dos das e que uma com por para como mais é são não em no na ao você seu sua também "
          "muito isso escreva explique qual",
    "it": "il gli della delle dei di e che una con per come più è sono non nel nella anche questo questa "
          "perché scrivi spiega quale cosa",
    "nl": "de het een en van is dat met voor niet zijn op te ook naar hoe waarom wat schrijf",
}
_OF = {word: tuple(lang for lang, listed in _FUNCTION_WORDS.items() if word in listed.split())
       for listed in _FUNCTION_WORDS.values() for word in listed.split()}
_NOT_PROSE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|https?://\S+", re.DOTALL)
_LATIN_WORD = re.compile(r"[a-zà-öø-ÿœß]+(?:'[a-z]+)?")


def language_of(text: str, *, short: bool = False) -> str | None:
    """ISO 639-1 code (``zh`` for any Chinese) where the text says so for certain, else ``None``.

    Args:
        short: the text is a request, of which a few words are enough if they are of one language only.
    """
    prose = text
    if "`" in text or "://" in text:
        prose = _NOT_PROSE.sub(" ", text)
    prose = prose.casefold()
    if not prose.isascii() and (script := _script(prose)):
        return script
    found = _LATIN_WORD.findall(prose.replace("’", "'"))
    if len(found) < (3 if short else _LEAST_WORDS):
        return None
    counts = Counter([lang for word in found if word in _OF for lang in _OF[word]])
    if not counts:
        return None
    ranked = counts.most_common(2)
    best, seen = ranked[0]
    second = ranked[1][1] if len(ranked) > 1 else 0
    if short:
        return best if seen > second and (seen >= 2 or second == 0) else None
    if seen < 3 or seen < 0.1 * len(found) or seen < 1.3 * second:
        return None
    # English is plain enough by its own words; for the others langdetect must agree.
    return best if best == "en" or (detect_language(prose) or "") == best else None


# Two English words that no other language has: enough where both sides have them.
_PLAINLY_ENGLISH = re.compile(
    r"\b(?:th(?:e|is|at)|i[st]|a(?:re|nd)|of|w(?:ith|hat|hy|hen|rite)|how|your?|describe|explain)\b.{0,60}?"
    r"\b(?:th(?:e|is|at)|i[st]|a(?:re|nd)|of|w(?:ith|hat|hy|hen)|how|your?|to|f(?:or|rom)|by|can|ha(?:ve|s))\b",
    re.DOTALL)


def plainly_english(text: str) -> bool:
    """Whether two of the commonest English words stand near each other."""
    return _PLAINLY_ENGLISH.search(text.lower()) is not None


def _script(text: str) -> str | None:
    """The language of a text of which most letters are of another script than Latin's."""
    letters = sum(c.isalpha() for c in text)
    latin = sum("a" <= c <= "z" for c in text)
    if letters < 4 or latin * 2 > letters:
        return None
    for name, pattern in _SCRIPTS:
        if (n := len(pattern.findall(text))) and (n * 3 > letters or (name == "ja" and n * 8 > letters)):
            return name
    return None


# A request that names a language, or is about translating, may be answered in another one.
NAMES_LANGUAGE = re.compile(
    r"\btransl|\blanguage|\b(?:english|spanish|french|german|portuguese|italian|dutch|chinese|mandarin|cantonese|"
    r"japanese|"
    r"korean|russian|arabic|hindi|latin|greek|polish|turkish|swedish|danish|norwegian|finnish|hebrew|thai|"
    r"vietnamese|"
    r"ukrainian|czech|hungarian|romanian|indonesian|bengali|urdu|persian|swahili)\b|翻译|翻譯|訳|번역|перевед|перевод|"
    r"\btraduc|\btradu[iz]|übersetz|\bvertaal")
