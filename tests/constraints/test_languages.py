"""Constraints in other languages: complete paraphrases, drawn for prompts of that language only."""

from __future__ import annotations

import json
from random import Random

import pytest

from if_factory.api.common import seeds_of
from if_factory.constraints.base import all_types, get
from if_factory.constraints.compose import compose
from if_factory.constraints.join import join
from if_factory.constraints.languages import languages, prompt_language
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.inputs.seeds import builtin, read_seeds
from if_factory.recipe import parse
from if_factory.records import Constraint, Outcome

PROMPTS = {
    "de": "Erkläre mir, wie man einen kleinen Garten anlegt",
    "es": "Explica cómo se hace una tortilla de patatas",
    "fr": "Explique comment préparer une bonne soupe pour la famille",
    "ja": "東京でおすすめの場所を教えてください",
    "zh": "请介绍一下北京的历史",
}
MODELS = dict.fromkeys(("student", "teacher"), "http://localhost:1/v1")
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


@pytest.mark.parametrize("code", sorted(PROMPTS))
def test_every_shipped_seed_gets_constraints_in_its_language_that_its_checkers_decide(code: str) -> None:
    language = languages()[code]
    seeds = seeds_of(parse({"seeds": f"builtin:{code}", "models": MODELS}))
    assert len({seed.prompt for seed in seeds}) == 40
    assert {seed.extra["category"] for seed in seeds} == {s.extra["category"] for s in read_seeds(builtin("seeds"))}
    drawn_types = set()
    for place, seed in enumerate(seeds):
        assert prompt_language(seed.prompt) == code, seed.prompt
        rng = Random(place)
        drawn = compose(seed.prompt, rng, n=3)
        assert len(drawn) == 3
        drawn_types.update(c.type for c in drawn)
        for c in drawn:
            assert c.text in [t.format_map(language.words(get(c.type), c.kwargs)) for t in language.templates[c.type]]
        assert all(v.outcome is not Outcome.NO_VERDICT for v in verify(seed.prompt, drawn)), seed.prompt
        assert join(seed.prompt, drawn, rng).startswith(seed.prompt)
    assert len(drawn_types) >= 20


@pytest.mark.parametrize(("code", "answer", "holds", "fails"), [
    ("de", "Erst lüften, dann lesen, z. B. abends. Das hilft.", {"relation": "less than", "num_sentences": 3},
     {"relation": "at least", "num_sentences": 3}),
    ("fr", "Ouvrez la fenêtre. Attendez dix minutes !", {"relation": "at least", "num_sentences": 2},
     {"relation": "less than", "num_sentences": 2}),
    ("es", "¿Qué hora es? Son las tres.", {"relation": "at least", "num_sentences": 2},
     {"relation": "less than", "num_sentences": 2}),
    ("zh", "先洗米。再加水，煮十五分钟。", {"relation": "less than", "num_sentences": 3},
     {"relation": "at least", "num_sentences": 3}),
    ("ja", "窓を開けます。五分待ちます。閉めます。", {"relation": "at least", "num_sentences": 3},
     {"relation": "less than", "num_sentences": 3})])
def test_sentences_are_counted_in_the_language(code: str, answer: str, holds: dict[str, object],
                                               fails: dict[str, object]) -> None:
    kind = "length_constraints:number_sentences"
    verdicts = verify(answer, [Constraint(type=kind, kwargs=holds), Constraint(type=kind, kwargs=fails)])
    assert [v.outcome for v in verdicts] == [Outcome.PASS, Outcome.FAIL], code


def test_seed_rows_have_the_fields_of_the_english_ones() -> None:
    for code in PROMPTS:
        for n, line in enumerate(builtin(f"seeds_{code}").read_text(encoding="utf-8").splitlines(), 1):
            row = json.loads(line)
            assert set(row) == {"id", "prompt", "category"}
            assert row["id"] == f"seed-{code}-{n:02}"


@pytest.mark.parametrize("recipe", [{"seeds": "builtin:xx"}, {"seeds": "builtin:de", "method": "autoif"}])
def test_shipped_seeds_that_do_not_exist_are_an_error(recipe: dict[str, str]) -> None:
    with pytest.raises(UserError, match="there are no shipped seeds"):
        seeds_of(parse({"models": MODELS, **recipe}))


@pytest.mark.parametrize("prompt", [
    "Write a poem about the sea", "What does 'je ne sais quoi' mean?", "Explain la vie en rose to me",
    "Translate '花园' to English", "Name a river", "", "12 + 30"])
def test_english_prompts_stay_english(prompt: str) -> None:
    assert prompt_language(prompt) == "en"
