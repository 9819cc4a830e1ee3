"""IFEval's language family: the whole response in one language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands
from if_factory.constraints.text import detect_language, is_in_language

# langdetect's languages.
LANGUAGES = {
    "af": "Afrikaans", "ar": "Arabic", "bg": "Bulgarian", "bn": "Bengali", "ca": "Catalan", "cs": "Czech",
    "cy": "Welsh", "da": "Danish", "de": "German", "el": "Greek", "en": "English", "es": "Spanish",
    "et": "Estonian", "fa": "Persian", "fi": "Finnish", "fr": "French", "gu": "Gujarati", "he": "Hebrew",
    "hi": "Hindi", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "ja": "Japanese",
    "kn": "Kannada", "ko": "Korean", "lt": "Lithuanian", "lv": "Latvian", "mk": "Macedonian", "ml": "Malayalam",
    "mr": "Marathi", "ne": "Nepali", "nl": "Dutch", "no": "Norwegian", "pa": "Punjabi", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sk": "Slovak", "sl": "Slovenian", "so": "Somali",
    "sq": "Albanian", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu", "th": "Thai",
    "tl": "Tagalog", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "vi": "Vietnamese",
    "zh": "Chinese", "zh-cn": "simplified Chinese", "zh-tw": "traditional Chinese",
}
_NON_LATIN = frozenset(("ar", "bg", "bn", "el", "fa", "gu", "he", "hi", "ja", "kn", "ko", "mk", "ml", "mr", "ne",
                        "pa", "ru", "ta", "te", "th", "uk", "ur", "zh", "zh-cn", "zh-tw"))
# Large European languages: what a small model has a chance to write.
_SAMPLED = ("de", "es", "fr", "it", "nl", "pt")


@register
class ResponseLanguage(ConstraintType):
    """The response is in ``language`` (ISO 639-1; ``zh`` is Chinese of either kind): see ``is_in_language``."""

    type = "language:response_language"
    descriptions = (
        "Your entire response should be in {name}, no other language is allowed",
        "Write your answer in {name} only",
        "Respond in the {name} language",
        "Use {name} and no other language for the whole answer",
        "The complete reply must be written in {name}",
    )
    difficulty_hint = 5

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        wanted = self._code(kwargs)
        return not _impossible(response, wanted) and is_in_language(response, wanted)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        wanted = "zh-cn" if kwargs["language"] == "zh" else kwargs["language"]
        return not _impossible(response, wanted) and detect_language(response) in (wanted, None)

    @staticmethod
    def _code(kwargs: Mapping[str, Any]) -> str:
        code = str(kwargs["language"]).lower()
        if code not in LANGUAGES:
            raise ValueError(f"unknown language code {kwargs['language']!r}; known are {', '.join(LANGUAGES)}")
        return code

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"language": rng.choice(_SAMPLED)}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(language=self._code(kwargs))

    def words(self, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"name": LANGUAGES[self._code(kwargs)]}

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        if _impossible(response, self._code(kwargs)):
            return f"is in plain Latin letters, not in {LANGUAGES[self._code(kwargs)]}"
        found = detect_language(response)
        name = LANGUAGES.get(found or "", found)
        return f"is in {name}, not in {LANGUAGES[self._code(kwargs)]}" if found else "has no detectable language"


def _impossible(response: str, wanted: str) -> bool:
    """A text of plain ASCII words is in no language of another script; saves asking langdetect.

    The one small-letter word makes sure that langdetect has something to go by, and would not raise.
    """
    return wanted in _NON_LATIN and response.isascii() and re.search(r"(?<!\S)[a-z]+(?!\S)", response) is not None
