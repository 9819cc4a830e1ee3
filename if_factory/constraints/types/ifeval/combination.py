"""IFEval's combination family: two answers in one, and repeating the request."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands, Range
from if_factory.constraints.relations import count_of
from if_factory.constraints.text import count_words, plain


@register
class TwoResponses(ConstraintType):
    """Exactly two different non-empty answers, divided by ``******``."""

    type = "combination:two_responses"
    divider = "******"
    descriptions = (
        "Give two different responses, separated by six asterisks: ******",
        "Write exactly two different answers and divide them by ******",
        "Provide two distinct responses with ****** (six asterisks) between them and nowhere else",
        "Answer twice, in two different ways, with the divider ****** between the answers",
        "Your reply should consist of two different answers separated by ******",
    )
    difficulty_hint = 4

    def _parts(self, response: str) -> list[str]:
        parts = [p.strip() for p in response.split(self.divider)]
        return parts[1 if not parts[0] else 0:-1 if len(parts) > 1 and not parts[-1] else None]

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        parts = self._parts(response)
        return len(parts) == 2 and all(parts) and parts[0] != parts[1]

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        return {}

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        return Demands(literals=(self.divider,), owns="two_responses", exclusive=frozenset({"separator"}),
                       counts={"words": Range(2), "lines": Range(1)}, allows=frozenset({
                           "keywords:existence", "keywords:frequency", "keywords:forbidden_words",
                           "keywords:letter_frequency", "language:response_language", "punctuation:no_comma",
                           "length_constraints:number_words", "length_constraints:number_sentences",
                           "change_case:english_capital", "change_case:english_lowercase",
                           "change_case:capital_word_frequency", "detectable_content:number_placeholders"}))

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        parts = self._parts(response)
        if len(parts) == 2 and parts[0] == parts[1]:
            return "the two answers are the same"
        found = count_of(len([p for p in parts if p]), "answer")
        return f"has {found} divided by {self.divider}; two were asked for"


@register
class RepeatPrompt(ConstraintType):
    """The response opens with ``prompt_to_repeat``, word for word; white space and quotes around it are free."""

    type = "combination:repeat_prompt"
    descriptions = (
        'First repeat the following request word for word, then give your answer: "{prompt_to_repeat}"',
        'Begin your response by copying this request exactly, before anything else: "{prompt_to_repeat}"',
        'Start with an exact repetition of this request and answer it afterwards: "{prompt_to_repeat}"',
        'Before answering, repeat these words without change and with nothing in front: "{prompt_to_repeat}"',
        'Your reply must open with this text, word for word, followed by your answer: "{prompt_to_repeat}"',
    )
    difficulty_hint = 5

    def check(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        wanted, found = (" ".join(plain(text).split()).lstrip("\"'«「 ")
                         for text in (kwargs["prompt_to_repeat"], response))
        return found.startswith(wanted)

    def check_compat(self, response: str, kwargs: Mapping[str, Any]) -> bool:
        wanted, found = kwargs["prompt_to_repeat"].strip().lower(), response.strip().lower()
        return found.startswith((wanted, "'" + wanted, '"' + wanted))

    def sample(self, rng: Random, seed_prompt: str) -> dict[str, Any] | None:
        prompt = seed_prompt.strip()
        # A long text with line breaks or quotes cannot be shown in a sentence, nor copied by a small model.
        fits = 0 < count_words(prompt) <= 40 and "\n" not in prompt and '"' not in prompt
        return {"prompt_to_repeat": prompt} if fits else None

    def demands(self, kwargs: Mapping[str, Any]) -> Demands:
        prompt = kwargs["prompt_to_repeat"].strip()
        return Demands(literals=(prompt,), starts=prompt, counts={"words": Range(count_words(prompt))})

    def why(self, response: str, kwargs: Mapping[str, Any]) -> str:
        opening = " ".join(response.split())[:40]
        return f'opens with "{opening}", not with the request repeated word for word'
