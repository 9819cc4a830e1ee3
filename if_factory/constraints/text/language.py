"""Which language a text is in, as far as can be told."""

from __future__ import annotations

import re

from if_factory.constraints.text.normal import later

_TELLING_LETTERS = 50
_HAN = later("[\u3400-\u4dbf\u4e00-\u9fff]")
_KANA = later("[\u3041-\u30ff]")
# Scripts that one language of langdetect's 55 writes: their letters settle it without statistics.
_SCRIPTS = {"el": "\u0370-\u03ff\u1f00-\u1fff", "gu": "\u0a80-\u0aff", "he": "\u0590-\u05ff",
            "ja": "\u3041-\u30ff", "kn": "\u0c80-\u0cff", "ko": "\uac00-\ud7a3\u1100-\u11ff",
            "ml": "\u0d00-\u0d7f", "pa": "\u0a00-\u0a7f", "ta": "\u0b80-\u0bff", "te": "\u0c00-\u0c7f",
            "th": "\u0e00-\u0e7f", "bn": "\u0980-\u09ff"}


def detect_language(text: str) -> str | None:
    """The ISO 639-1 code (``zh-cn``, ``zh-tw`` for Chinese) as langdetect with seed 0; ``None`` if undetectable.

    langdetect ignores words in capitals: pass ``text.lower()`` where those matter.
    """
    from if_factory.constraints.text import langid

    return langid.detect(text)


def is_in_language(text: str, language: str) -> bool:
    """Whether the text is in the language (ISO 639-1) as far as can be told; a text without letters is in none.

    ``zh`` is Chinese, simplified or traditional. Where the script alone decides (Chinese, Japanese, Korean, Thai,
    Greek, Hebrew and others), most letters must be of that script.

    Raises:
        ValueError: another language is detected, but in fewer than 50 letters, where langdetect is wrong about
            plain English one time in four (so short a text is not failed on its word); or the text is Chinese
            and langdetect cannot tell which.
    """
    letters = sum(map(str.isalpha, text))
    if language == "zh" or language in _SCRIPTS:
        return letters > 0 and _in_script(text, language, letters)
    found = detect_language(text)
    if language in ("zh-cn", "zh-tw") and found not in ("zh-cn", "zh-tw") and _in_script(text, "zh", letters):
        raise ValueError("cannot tell simplified from traditional Chinese")  # langdetect: Korean, now and then
    if found not in (language, None) and letters < _TELLING_LETTERS:
        raise ValueError("too short to tell its language")
    return found == language


def _in_script(text: str, language: str, letters: int) -> bool:
    han, kana = len(_HAN.findall(text)), len(_KANA.findall(text))
    if language == "zh":
        return 2 * han > letters and 20 * kana < han
    if language == "ja":
        if 2 * (han + kana) <= letters:
            return False
        if not kana and han < _TELLING_LETTERS:
            raise ValueError("too short to tell Japanese from Chinese")
        return 20 * kana >= han
    # Vowel signs are no letters to Python but stand in the script's block.
    own = re.findall(f"[{_SCRIPTS[language]}]", text)
    return 2 * sum(map(str.isalpha, own)) > letters
