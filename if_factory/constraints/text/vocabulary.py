"""Words to build keyword constraints from: content words of a prompt, or a short list of common English ones."""

from __future__ import annotations

import re
from random import Random

STOP_WORDS = frozenset("""
    a about above after again against all also am an and any are as at be because been before being below between
    both but by can could did do does doing done down during each either else ever every few for from further get
    give given gives go goes going got had has have having he her here hers herself him himself his how however i
    if in including into is it its itself just know let like made make makes making many may me might mine more
    most much must my myself need needs neither no nor not now of off on once one only or other others our ours
    ourselves out over own per please same shall she should since so some someone something such take than that
    the their theirs them themselves then there these they thing things this those through thus to too two under
    until up upon us use used uses using very want was we were what when where whether which while who whom whose
    why will with within without would yes yet you your yours yourself yourselves
    answer answers asked below briefly describe describes explain explains following generate input instruction
    list output paragraph phrase prompt provide question response sentence sentences task tell text three word
    words write writing
    """.split())  # noqa: SIM905

COMMON_WORDS = tuple("""
    action balance beginning change choice community detail difference effect energy example experience family
    focus friend future goal group growth health history home idea interest knowledge language light method mind
    moment morning music nature number opinion order part pattern people place plan point practice problem process
    quality reason result road school science season simple small solution source space step story strength
    support system team time travel value voice water way week work world year
    """.split())  # noqa: SIM905

# Words that answers are full of and that others can stand for: to do without one of them takes a thought.
USUAL_WORDS = tuple("""
    also always because best better common crucial different essential example first good great however important
    instead just like little many need often only overall part people perfect perhaps possible provide really
    several simple simply small sometimes special specific still such therefore time useful usually various very
    well while work
    """.split())  # noqa: SIM905


def content_words(prompt: str) -> list[str]:
    """Lower-case English words of 4 to 12 letters that carry meaning, in the order of their first occurrence."""
    found = (w for w in re.findall(r"(?<![\w'’/@.-])[A-Za-z]{4,12}(?![\w'’/@-])", prompt)
             if w.islower() or w.istitle())
    return list(dict.fromkeys(w.lower() for w in found if w.lower() not in STOP_WORDS))


def draw_keyword(rng: Random, prompt: str) -> str:
    """Three times in four a content word of the prompt (if it has one), else a common word."""
    own = content_words(prompt)
    return rng.choice(own) if own and rng.random() < 0.75 else rng.choice(COMMON_WORDS)


def draw_keywords(rng: Random, prompt: str, n: int) -> list[str]:
    """``n`` words as ``draw_keyword`` draws them, all different and none a part of another."""
    drawn: list[str] = []
    while len(drawn) < n:
        word = draw_keyword(rng, prompt)
        if not any(word in other or other in word for other in drawn):
            drawn.append(word)
    return drawn


def draw_forbidden(rng: Random, prompt: str) -> str | None:
    """A usual word of answers that the prompt does not hold in any form; ``None`` if it holds them all.

    A word of the prompt is what it asks about: an answer without "electric" to a question about electric cars is
    no good one. Forms of a word are known by its first five letters (``different``, ``differences``).
    """
    asked = re.findall(r"[a-z]+", prompt.lower())
    left = [usual for usual in USUAL_WORDS if not any(word.startswith(usual[:5]) for word in asked)]
    return rng.choice(left) if left else None
