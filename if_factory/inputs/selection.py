"""Which texts are taken, by length and language: Conifer's queries, and general data for a replay mix."""

from __future__ import annotations

from collections.abc import Sequence

from if_factory.constraints.text.language import is_in_language
from if_factory.constraints.types.ifeval.language import LANGUAGES
from if_factory.errors import UserError, suggest


def fits_languages(text: str, languages: Sequence[str]) -> bool:
    """Whether the text may be in one of the languages (ISO 639-1); without languages every text may.

    A text too short to tell is taken: langdetect is wrong about one plain English text of that length in four.
    """
    return not languages or any(_fits(text, language) for language in languages)


def _fits(text: str, language: str) -> bool:
    try:
        return is_in_language(text, language)
    except ValueError:  # too short to tell
        return True


def require_languages(languages: Sequence[str], where: str) -> None:
    """Raises ``UserError`` for a code that is no language known here: it would take no text at all."""
    for code in languages:
        if code not in LANGUAGES:
            raise UserError(f"unknown language '{code}'", where=where,
                            fix=suggest(code, list(LANGUAGES)) or "give ISO 639-1 codes, such as en")
