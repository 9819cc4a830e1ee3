"""How the words and sentences of a response are marked, and how it begins and ends."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from random import Random
from typing import Any

from if_factory.constraints import text as measure
from if_factory.constraints.base import register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.types.extra.first_last import FirstWord, LastWord
from if_factory.constraints.types.ifevalg.splitting import divided
from if_factory.constraints.types.public import AVOIDING, PLAIN, Public, treebank_words


@register
class SentenceHyphens(Public):
    """Sentences follow one another with a hyphen between them and no white space around it."""

    type = "detectable_format:sentence_hyphens"
    difficulty_hint = 4
    allows = AVOIDING | {"keywords:existence"}
    descriptions = (
        "Connect all sentences with hyphens, with no spaces between them",
        "Put a hyphen, and no space, between every two sentences",
        "Join your sentences by hyphens instead of spaces",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        parts = re.split(r"(?<=[.!?])-(?=\S)", response.strip())
        return len(parts) > 1 and all(measure.count_sentences(part) == 1 for part in parts)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        gold = divided(response.replace("-", " "))
        return all(part == part.strip() == whole
                   for part, whole in zip(response.split("-"), gold, strict=False))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has sentences that are not joined by a hyphen without spaces"


@register
class SquareBrackets(Public):
    """Every word stands in its own square brackets; punctuation may follow the bracket."""

    type = "detectable_format:square_brackets"
    difficulty_hint = 4
    allows = AVOIDING | {"keywords:existence"}
    descriptions = (
        "Enclose every word in your response within square brackets",
        "Put each word in square brackets, [like] [this]",
        "Write every single word of the answer inside its own square brackets",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(re.fullmatch(r"[\"'(]*\[[^\[\]\s]+\][.,;:!?\"')]*", word) for word in response.split())

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(word.startswith("[") and word.endswith("]") for word in response.split())

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=("[", "]"))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        wrong = next((w for w in response.split() if not w.startswith("[")), "a word")
        return f"has {wrong[:30]!r} outside square brackets"


@register
class BigramWrapping(Public):
    """Words stand in pairs, each pair in double angular brackets; a last odd word may stand alone."""

    type = "detectable_format:bigram_wrapping"
    difficulty_hint = 4
    allows = AVOIDING | {"keywords:existence"}
    descriptions = (
        "Wrap every two words in double angular brackets, such as <<I am>> <<at home>>",
        "Write your response in pairs of words, each pair enclosed in << and >>",
        "Enclose every word bigram in double angular brackets, like <<my dog>> <<is cute>>",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        pairs = re.sub(r"<<\S+\s+\S+>>[.,;:!?]*", " ", response).split()
        return "<<" in response and len(pairs) <= 1 and (not pairs or response.rstrip().endswith(pairs[0]))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        words = response.split()
        return all(words[i].startswith("<<") and words[i + 1].endswith(">>") for i in range(0, len(words) - 1, 2))

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=("<<", ">>"))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "has words that are not wrapped in pairs by << and >>"


class _TwoParagraphs(Public):
    difficulty_hint = 2

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(exclusive=frozenset({"separator"}), counts={"paragraphs": Range(2, 2), "words": Range(2)})

    @staticmethod
    def _parts(response: str, divider: str) -> bool:
        parts = [part.strip() for part in re.split(divider, response)]
        inner = parts[1 if not parts[0] else 0:-1 if len(parts) > 1 and not parts[-1] else None]
        return all(inner) and len(inner) == 2


@register
class ParagraphsByStars(_TwoParagraphs):
    """Two paragraphs divided by ``***``."""

    type = "paragraphs:paragraphs"
    descriptions = (
        "Write two paragraphs, separated with the Markdown divider ***",
        "There should be 2 paragraphs with *** between them",
        "Divide your response into exactly two paragraphs by ***",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._parts(response, r"\s?\*\*\*\s?")

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return replace(super().needs(kwargs), literals=("***",))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "is not two paragraphs divided by ***"


@register
class ParagraphsByLines(_TwoParagraphs):
    """Two paragraphs divided by a blank line."""

    type = "paragraphs:paragraphs2"
    descriptions = (
        "Write two paragraphs, separated from each other by two line breaks",
        "There should be 2 paragraphs with a blank line between them",
        "Divide your response into exactly two paragraphs by a blank line",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return len(measure.paragraphs(response)) == 2

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return self._parts(response, r"\n\n")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f"has {len(measure.paragraphs(response))} paragraphs separated by blank lines, not two"


def _bare(word: str) -> str:
    return re.sub(r"[^\w\s]", "", word).lower()


@register
class FirstWordSentence(Public):
    """Every sentence opens with ``first_word``, case ignored."""

    type = "first_word:first_word_sent"
    arguments = ("first_word",)
    difficulty_hint = 4
    allows = PLAIN | {"length_constraints:number_sentences"}
    descriptions = (
        'The first word of each sentence should be the word "{first_word}"',
        'Begin every sentence with the word "{first_word}"',
        'Start each of your sentences with "{first_word}"',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = measure.sentences(response)
        return bool(found) and all(measure.opens_with(sentence, kwargs["first_word"]) for sentence in found)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(s.split()[:1] and s.split()[0].lower() == kwargs["first_word"].lower() for s in divided(response))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"first_word": rng.choice(("It", "One", "People", "Sometimes", "The", "They", "This", "We"))}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(words=(kwargs["first_word"],), starts=kwargs["first_word"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'has a sentence that does not begin with "{kwargs["first_word"]}"'


@register
class FirstWordAnswer(Public):
    """The response opens with ``first_word``, case ignored."""

    type = "first_word:first_word_answer"
    arguments = ("first_word",)
    difficulty_hint = 2
    never_with = frozenset(("start:first_word",))
    descriptions = (
        'The first word of your response should be the word "{first_word}"',
        'Begin your response with the word "{first_word}"',
        'Start the answer with "{first_word}"',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.opens_with(response, kwargs["first_word"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(response.split()[0].lower() == kwargs["first_word"].lower())

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"first_word": FirstWord().sample(rng, seed_prompt)["word"]}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(words=(kwargs["first_word"],), starts=kwargs["first_word"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'begins with "{measure.first_word(response)}", not with "{kwargs["first_word"]}"'


@register
class LastWordSentence(Public):
    """Every sentence closes with ``last_word``, before its punctuation, case ignored."""

    type = "last_word:last_word_sent"
    arguments = ("last_word",)
    difficulty_hint = 4
    allows = PLAIN | {"length_constraints:number_sentences"}
    descriptions = (
        'The last word of each sentence, before punctuation, should be the word "{last_word}"',
        'End every sentence with the word "{last_word}" and its punctuation mark',
        'Close each of your sentences with "{last_word}"',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = measure.sentences(response)
        return bool(found) and all(measure.closes_with(s.rstrip(".!?…。！？।"), kwargs["last_word"]) for s in
                                   (sentence.rstrip("\"'”’)*_ ") for sentence in found))

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return all(s.split() and _bare(s.split()[-1]) == kwargs["last_word"].lower() for s in divided(response))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"last_word": rng.choice(("again", "always", "here", "indeed", "now", "today", "together", "too"))}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(words=(kwargs["last_word"],), ends=kwargs["last_word"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'has a sentence that does not end with "{kwargs["last_word"]}"'


@register
class LastWordAnswer(Public):
    """The response closes with ``last_word``, punctuation aside, case ignored."""

    type = "last_word:last_word_answer"
    arguments = ("last_word",)
    difficulty_hint = 2
    never_with = frozenset(("end:last_word",))
    descriptions = (
        'The last word of your response should be the word "{last_word}"',
        'Finish your response with the word "{last_word}"',
        'End the answer with "{last_word}"',
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return measure.closes_with(response.rstrip(" \n\t\"'”’»)]}*_.,;:!?…。！？।"), kwargs["last_word"])

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return bool(_bare(response.split()[-1]) == kwargs["last_word"].lower())

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {"last_word": LastWord().sample(rng, seed_prompt)["word"]}

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(words=(kwargs["last_word"],), ends=kwargs["last_word"])

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return f'does not end with the word "{kwargs["last_word"]}"'


@register
class StartEnd(Public):
    """The first and the last word are the same, and nothing stands behind the last one."""

    type = "keywords:start_end"
    # What prescribes the last characters, or counts what the last word adds to.
    never_with = frozenset(("startend", "end", "last_word", "xml", "combination:repeat_prompt", "paragraph",
                            "length_constraints:nth_paragraph_first_word", "length_constraints:number_sentences",
                            "length:exact_lines", "sentence:distinct_starts", "format:output_template"))
    descriptions = (
        "Start and end your response with the same word, with nothing after the last word, not even punctuation",
        "The first and the last word of the response must be the same; write no punctuation after the last",
        "Use one word both to open and to close your answer, and put nothing behind it at the end",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = measure.words(response)
        return len(found) > 1 and found[0].lower() == found[-1].lower() and response.rstrip()[-1].isalnum()

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        found = treebank_words(response)
        return len(found) > 1 and found[0].lower() == found[-1].lower()

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "does not begin and end with the same word, with nothing after it"


@register
class NoDot(Public):
    """No full stop anywhere."""

    type = "punctuation:punctuation_dot"
    never_with = frozenset(("punctuation:no_exclamation", "punctuation:punctuation_exclamation"))  # what is left
    descriptions = (
        "Do not use dots (.), neither as punctuation nor otherwise",
        "Your entire response must not contain a single dot",
        "Refrain from using the character . anywhere",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return not any(dot in response for dot in ".…。．")

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "." not in response

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden_chars=".…")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "contains a dot"


@register
class NoExclamationMark(Public):
    """No exclamation mark anywhere."""

    type = "punctuation:punctuation_exclamation"
    difficulty_hint = 1
    never_with = frozenset(("punctuation:no_exclamation",))
    descriptions = (
        "Do not use exclamation marks (!), neither as punctuation nor otherwise",
        "Your entire response must not contain a single exclamation mark",
        "Refrain from using the character ! anywhere",
    )

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "!" not in response and "！" not in response

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        return "!" not in response

    def needs(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(forbidden_chars="!！")

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        return "contains an exclamation mark"
