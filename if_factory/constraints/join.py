"""Writing a seed prompt and its constraints as one clean prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from if_factory.constraints.languages import language_of
from if_factory.verdicts import Constraint

_LEADS = ("Follow these requirements:", "Requirements:", "Please observe all of the following:",
          "Your response must meet every point below:", "Keep to these rules:")
_CLOSERS = "\"')]}»”“’*_`」』"


def join(seed_prompt: str, constraints: Sequence[Constraint], rng: Random) -> str:
    """The prompt that a model is given: the seed, untouched but for outer white space, then the constraints.

    One or two constraints follow as sentences, more of them sometimes as a list; which of it is drawn from
    ``rng``. After a seed of several lines, or one that ends in code, a list or a colon, they start a paragraph
    of their own, as they do where a constraint quotes the seed ("repeat the request"), so that the seed can be
    told from what is asked of it. Every constraint text begins with a capital letter and ends with exactly one
    stop.
    """
    seed = seed_prompt.strip()
    language = language_of(seed)
    stop, gap, leads = (language.stop, language.gap, language.leads) if language else (".", " ", _LEADS)
    texts = [sentence(c.text, stop) for c in constraints if c.text.strip()]
    if not texts:
        return seed
    layout = rng.choice(("sentences", "bullets", "numbers")) if len(texts) > 2 else "sentences"
    if layout == "sentences":
        body = ("\n\n" if any("\n" in text for text in texts) else gap).join(texts)
        if seed and "\n" not in body and _runs_on(seed) and not _quotes(seed, constraints):
            return f"{seed if _ended(seed) else seed + stop}{gap}{body}"
    else:
        marks = ("- " if layout == "bullets" else f"{i}. " for i in range(1, len(texts) + 1))
        indented = (mark + text.replace("\n", "\n" + " " * len(mark))
                    for mark, text in zip(marks, texts, strict=True))
        body = "\n".join((rng.choice(leads), *indented))
    return f"{seed}\n\n{body}" if seed else body


def sentence(text: str, stop: str = ".") -> str:
    """``text`` with a capital first letter and exactly one ``stop`` at its end.

    A text that ends in its own ``!`` or ``?``, or in a quotation that ends in a stop, keeps that and gets none.
    """
    text = text.strip()
    bare = text.rstrip(".…" if re.search(r"[.…]{2,}$", text) else "")
    bare = text if bare == "" else bare
    # The first letter only, and only of a plain word: "iPhone" and "`code`" stay as they are.
    first = re.match(r"[a-zà-öø-ÿ][^A-Z\s]*(?=\s|$)", bare)
    if first:
        bare = bare[0].upper() + bare[1:]
    return bare if _ended(bare) else bare + stop


def _ended(text: str) -> bool:
    return text.rstrip(_CLOSERS)[-1:] in tuple(".!?…。！？।") and bool(text)


def _quotes(seed: str, constraints: Sequence[Constraint]) -> bool:
    return any(isinstance(v, str) and v.strip() == seed for c in constraints for v in c.kwargs.values())


def _runs_on(seed: str) -> bool:
    """Whether sentences may follow on the same line: the seed is one line of prose."""
    return ("\n" not in seed and not seed.endswith((":", "```", "`", ",", ";", "-", "|"))
            and not re.match(r"(?:[-*#>|]|\d+[.)])\s", seed))
