"""A corrupted constraint asks for something else; a copy or a mere negation is found out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from if_factory.methods.suri.negation import why_no_violation

NEGATIONS = [
    ("Use vivid imagery.", "Do not use vivid imagery."), ("Use vivid imagery.", "Don't use vivid imagery."),
    ("Use vivid imagery.", "Don\u2019t use vivid imagery."), ("Use vivid imagery.", "Never use vivid imagery."),
    ("Use vivid imagery.", "Avoid vivid imagery."), ("Use vivid imagery.", "Avoid using vivid imagery."),
    ("Use vivid imagery.", "Refrain from using vivid imagery."), ("Use vivid imagery.", "Use no vivid imagery."),
    ("Use vivid imagery.", "Write without vivid imagery."), ("Use vivid imagery.", "It must lack vivid imagery."),
    ("Use vivid imagery.", "Make sure that you avoid vivid imagery."), ("Use dialogues.", "Leave out dialogue."),
    ("Include a recipe.", "Exclude the recipe."), ("Include a recipe.", "Omit any recipe."),
    ("Describe the sea and the town.", "Describe the sea but not the town."),
    ("Always use metaphors.", "Never use metaphors."), ("Use technical terms.", "Use non-technical terms."),
    ("The story should end happily.", "The story shouldn't end happily."),
    ("The hero can swim.", "The hero cannot swim."), ("Mention the dog.", "Mention neither dog."),
    ("Show the fight in detail.", "Skip the fight."), ("Do not mention the war.", "Mention the war."),
    ("Avoid dialogue.", "Use dialogue."), ("Tell it with humour.", "Tell it humour-free."),
    ("Mention the storm.", "Ensure the storm is never mentioned."),
]
VIOLATIONS = [
    ("Write in the first person.", "Write in the third person."), ("Set it in winter.", "Set it in summer."),
    ("Use at least 200 words.", "Use at least 900 words."), ("Include three examples.", "Include four examples."),
    ("Use no fewer than 200 words.", "Use no more than 200 words."), ("Be formal.", "Be informal."),
    ("Discuss why critics praise the policy.", "Discuss why critics ignore the policy."),
    ("Do not describe the sea.", "Describe the desert, not the sea."),
    ("Describe the sea.", "Do not describe the sea, describe the desert."),
    ("Avoid dialogue.", "Tell half of the story in dialogue."), ("Use metaphors often.", "Use metaphors rarely."),
    ("Begin with the storm and end with the calm.", "Begin with the calm and end with the storm."),
    ("Present the events in order.", "Present the events in reverse order."),
    ("Keep it free of jargon.", "Keep it full of jargon."), ("Name the hero Ada.", "Name the hero Bea."),
    ("Write more than five stanzas.", "Write fewer than five stanzas."),
    ("Place the proverb before the quarrel.", "Place the proverb after the quarrel."),
]
COPIES = [
    ("Use vivid imagery.", "use vivid imagery"), ("Use vivid imagery.", "Include vivid imagery!"),
    ("Use vivid imagery.", "- \"Use vivid imagery.\""), ("Use a metaphor.", "Use metaphors."),
    ("Do not mention the war.", "Don't mention the war."), ("Describe the sea.", "It should describe the sea."),
]


@pytest.mark.parametrize(("original", "modified"), NEGATIONS)
def test_a_mere_negation_is_refused(original: str, modified: str):
    assert why_no_violation(original, modified) == "negation_only"


@pytest.mark.parametrize(("original", "modified"), VIOLATIONS)
def test_another_demand_is_a_violation(original: str, modified: str):
    assert why_no_violation(original, modified) is None


@pytest.mark.parametrize(("original", "modified"), COPIES)
def test_a_copy_is_refused(original: str, modified: str):
    assert why_no_violation(original, modified) == "unchanged"


@pytest.mark.parametrize("modified", ["", " ", "...", "\u2013"])
def test_nothing_is_no_violation(modified: str):
    assert why_no_violation("Use vivid imagery.", modified) == "empty"


PLAIN = [o for o, _ in VIOLATIONS if not o.lower().startswith(("avoid", "do not", "use no", "keep"))]


@given(original=st.sampled_from(PLAIN), how=st.sampled_from([
    "Do not {}", "Don't {}", "Never {}", "Please do not {}", "You must not {}", "The text should not {}"]))
def test_any_constraint_with_a_negation_in_front_is_found_out(original: str, how: str):
    assert why_no_violation(original, how.format(original[0].lower() + original[1:])) == "negation_only"


@given(original=st.sampled_from(PLAIN), word=st.sampled_from(["purple", "winter", "nineteen", "quarrel9"]))
def test_a_word_of_its_own_is_a_violation(original: str, word: str):
    assert why_no_violation(original, f"{original[:-1]} {word}.") is None


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_text_breaks_it_and_every_text_is_a_copy_of_itself(a: str, b: str):
    assert why_no_violation(a, b) in (None, "empty", "unchanged", "negation_only")
    assert why_no_violation(a, a) in ("empty", "unchanged")
