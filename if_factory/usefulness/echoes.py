"""Answers that say the request or the constraints again."""

from __future__ import annotations

import re

from if_factory.usefulness.asked import Asked
from if_factory.usefulness.sentences import MARKS, sentences
from if_factory.usefulness.words import content, stem, words

# Words in which constraints are stated: an answer made of them talks about the task.
ABOUT_THE_TASK = frozenset(map(stem, """
    answer answers answered answering response responses respond reply replies request requirement
    requirements constraint constraints instruction instructions prompt rule rules format word words
    sentence sentences paragraph paragraphs letter letters comma commas punctuation mark marks bullet
    bullets list item items point points title section sections line lines capital capitals lowercase
    uppercase case character characters keyword keywords phrase phrases write writing written include
    includes included contain contains use used avoid must exactly least most start starts begin begins
    beginning end ends ending finish entire whole appear appears number numbers highlighted placeholder
    placeholders bracket brackets asterisk asterisks quotation postscript json markdown table text
    respectively provide provided appropriate necessary note one two three four five six seven eight nine
    ten first second third last once twice times time few fewer more less each every separate separated
    follow followed observe observed ensure ensured array object key keys header row rows column columns csv
    yaml xml emoji digit digits tag tags example remember add added avoid avoids put make sure ensure
    essential markdown form part parts structure structured valid level heading headings exclamation
    contraction contractions pronoun pronouns english language instead semicolon semicolons colon colons period periods
    hyphen hyphens apostrophe apostrophes dash dashes
    """.split()))  # noqa: SIM905
_QUESTION_WORD = re.compile(r"(?:what|why|how|when|where|who|which|whose|whom|explain|describe|define|tell|"
                            r"discuss)\b")
_TEXTS = re.compile(
    r"\b(?:story|poem|dialog(?:ue)?|conversation|e-?mail|letter|essay|fable|article|speech|message|scene|description|"
    r"paragraph|diary|review|report|describe)\b")
_DESCRIBE = re.compile(r"(?:please )?describe\b")


def echoes_constraint(asked: Asked, tokens: list[str], own: list[str], removed: bool) -> bool:
    """The sentence is about the constraints: their words, those in which tasks are stated, and the request's."""
    if not asked.constraint_stems or not own:
        return False
    if len(tokens) >= 4 and " ".join(tokens) in asked.constraint_words:
        return True
    own = [w for w in own if w not in asked.demanded_stems]
    theirs = [w for w in own if (w in asked.constraint_stems or w in ABOUT_THE_TASK) and w not in asked.stems]
    if len(theirs) < (1 if removed and len(own) <= 2 else 2):
        return False
    if asked.closed and any(w in asked.stems for w in own):
        return False  # "The review is positive, in small letters"
    new = sum(w not in asked.constraint_stems and w not in ABOUT_THE_TASK and w not in asked.lower for w in own)
    if new == 0 and len(theirs) >= 3 and not asked.constraint_stems.isdisjoint(theirs):
        own = [w for w in own if w not in asked.stems]  # "When comparing cash with cards avoid commas altogether"
    return 2 * len(theirs) >= len(own) and (new == 0 or (new == 1 and len(theirs) >= 4))


def copied_words(asked: Asked, tokens: list[str]) -> bool:
    """Whether the request holds these words one after the other."""
    return f" {' '.join(tokens)} " in f" {' '.join(asked.words)} "


_TELLS_THE_WRITER = re.compile(r"\byour (?:\w+ )?(?:answer|response|reply)\b|"
                               r"^(?:the|this) (?:answer|response|reply) (?:must|should|has to|needs to)\b")


def states_a_constraint(asked: Asked, bare: str, removed: bool) -> bool:
    """Whether a sentence of an answer tells its writer what to do: "Your answer should only contain commas."

    A remark on what was done ("The letter w occurs six times.") is none.
    """
    small = bare.lower()  # many times faster than a pattern that ignores case
    if not any(map(small.__contains__, ("answer", "response", "reply"))):
        return False
    if not asked.constraint_stems or "combination:repeat_prompt" in asked.types:
        return False
    for sentence, _ in sentences(bare):
        plain = sentence.strip(MARKS).casefold()
        if _TELLS_THE_WRITER.search(plain):
            tokens = words(plain)
            if echoes_constraint(asked, tokens, content(tokens), removed):
                return True
    return False


_HEADED = re.compile(r"^[\s>#*_\d.)•-]*([^:\n]{3,60}?)[*_\s]*:", re.MULTILINE)


def headed_by_constraints(asked: Asked, bare: str) -> bool:
    """Whether lines of an answer are headed by the names of its constraints: "**For whom it is:** ..." to "for whom
    it is: a colleague". One is enough where the name has three words, a shorter one may be a heading by chance."""
    if ":" not in bare:
        return False
    names = {name.casefold().strip() for c in asked.constraints if (name := c.text.partition(": ")[0]) != c.text}
    found = names.intersection(map(str.casefold, _HEADED.findall(bare))) if names else ()
    return len(found) >= 2 or any(len(name.split()) >= 3 for name in found)


def echoes_request(asked: Asked, tokens: list[str], own: list[str]) -> bool:
    """The sentence says the request again, with nothing new in it.

    Rewriting and its like share their words with the request by nature: there only a copy of nearly all of it is
    an echo. A question that a choice or a yes answers may be answered in its own words.
    """
    asked_words = asked.words
    if len(tokens) < 3 or not asked_words:
        return False
    copied = copied_words(asked, tokens)
    if asked.transforms:
        return copied and len(tokens) >= 0.8 * len(asked_words)
    new = sum(w not in asked.stems for w in own)
    if len(own) >= 4 and len(tokens) <= 14 and (asked.creates or _DESCRIBE.match(asked._head)) and (
            _TEXTS.search(asked._head) and sum(w not in asked.lower for w in own) == 1):
        return True  # "There is a tourist looking for the museum" is no conversation
    if not own or new:
        return False
    if copied and len(tokens) >= 0.6 * len(asked_words):
        return True
    if asked.closed and tokens[:2] != list(asked_words[:2]):
        return False
    opening = tokens[:2] == list(asked_words[:2]) and _QUESTION_WORD.match(tokens[0])
    wanted = set(content(asked_words))
    return bool(opening) or len(wanted & set(own)) >= 0.6 * len(wanted)


# Not explain or compare: "Apples fall from trees because of gravity." is an answer, and one word of it is new.
_WANTS_PROSE = re.compile(r"(?:please )?(?:describe|brainstorm)\b")


def adds_nothing(asked: Asked, bare: str) -> bool:
    """Whether an answer to a request for prose has one word of its own at most.

    "The first snowfall of the year is described as a mountain town in a story."
    """
    if not _WANTS_PROSE.match(asked._head) or any(map(str.isdigit, asked.request)):
        return False
    # Fewer than six words may be a name; of more than sixty some are new.
    return 6 <= len(words(bare)) <= 60 and has_few_words(asked, bare, 2)


def has_few_words(asked: Asked, bare: str, least: int) -> bool:
    """Whether fewer than ``least`` content words are neither the request's nor those in which tasks are stated.

    Never where few words, or the words of a given text, may be the answer.
    """
    if asked.closed or asked.transforms or asked.fixed_reply:
        return False
    return len({w for w in content(words(bare)) if w not in ABOUT_THE_TASK and w not in asked.lower}) < least
