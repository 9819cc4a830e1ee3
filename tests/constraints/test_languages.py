"""Constraints in other languages: complete paraphrases, drawn for prompts of that language only."""

from __future__ import annotations

from random import Random

import pytest

from if_factory.constraints.base import all_types, get
from if_factory.constraints.compose import compose
from if_factory.constraints.join import join
from if_factory.constraints.languages import languages, prompt_language
from if_factory.constraints.verify import verify

PROMPTS = {
    "de": "Erkläre mir, wie man einen kleinen Garten anlegt",
    "es": "Explica cómo se hace una tortilla de patatas",
    "fr": "Explique comment préparer une bonne soupe pour la famille",
    "ja": "東京でおすすめの場所を教えてください",
    "zh": "请介绍一下北京的历史",
}
ARGUMENTS = {"detectable_format:constrained_response": {}}


@pytest.mark.parametrize("code", sorted(PROMPTS))
def test_every_ifeval_type_and_ten_more_have_paraphrases_that_show_every_argument(code: str) -> None:
    language = languages()[code]
    ifeval = {k.type for k in all_types() if ".ifeval." in type(k).__module__ + "."}
    assert ifeval <= set(language.templates)
    assert len(language.templates) >= len(ifeval) + 10
    for type_id, templates in language.templates.items():
        kind = get(type_id)
        drawn = ARGUMENTS.get(type_id)
        drawn = kind.sample(Random(2), "Is it true that volcanoes warm glaciers?") if drawn is None else drawn
        assert drawn is not None
        assert len(set(templates)) >= 2
        for template in templates:
            text = template.format_map(language.words(kind, drawn))
            for name, value in drawn.items():
                for part in value if isinstance(value, list) else [value]:
                    if name not in ("language", "level") and "relation" not in name:
                        assert str(part) in text, (text, name)


@pytest.mark.parametrize("code", sorted(PROMPTS))
def test_prompts_get_constraints_in_their_own_language(code: str) -> None:
    prompt, language = PROMPTS[code], languages()[code]
    assert prompt_language(prompt) == code
    for state in range(40):
        drawn = compose(prompt, Random(state), n=3)
        assert drawn == compose(prompt, Random(state), n=3)
        for c in drawn:
            texts = [t.format_map(language.words(get(c.type), c.kwargs)) for t in language.templates[c.type]]
            assert c.text in texts
            verify(prompt, [c])
        assert join(prompt, drawn, Random(state)).startswith(prompt)


@pytest.mark.parametrize("prompt", [
    "Write a poem about the sea", "What does 'je ne sais quoi' mean?", "Explain la vie en rose to me",
    "Translate '花园' to English", "Name a river", "", "12 + 30"])
def test_english_prompts_stay_english(prompt: str) -> None:
    assert prompt_language(prompt) == "en"
