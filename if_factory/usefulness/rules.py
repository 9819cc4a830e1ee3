"""Rules that tell an answer from a text that only looks like one; they need no model and no dependency.

An answer is refused where every sentence of it, without what the constraints demand, is empty: a refusal, an echo, an
offer, a question back, a pleasantry. One sentence with something of its own and the rules say nothing, unless another
one tells the writer what to do; relevance or a judge may decide. What a constraint demands is never held against an
answer.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import get_args

from if_factory.usefulness import patterns
from if_factory.usefulness.asked import Asked, refuses
from if_factory.usefulness.copies import copies, copies_example
from if_factory.usefulness.echoes import (
    ABOUT_THE_TASK,
    adds_nothing,
    copied_words,
    echoes_constraint,
    echoes_request,
    headed_by_constraints,
    states_a_constraint,
)
from if_factory.usefulness.language import language_of, plainly_english
from if_factory.usefulness.reasons import Reason
from if_factory.usefulness.repetition import loops, same_sentence
from if_factory.usefulness.sentences import MARKS, sentences
from if_factory.usefulness.strip import Required, without_required
from if_factory.usefulness.words import content, contents, stem, words

REASONS: tuple[str, ...] = get_args(Reason)

# What a speaker says of itself and of its help.
_ABOUT_ITSELF = frozenset(map(stem, """
    ai artificial intelligence assistant assist assisting assistance help helpful helping support provide
    providing information designed design capable able ability user users question questions answer answers
    answering role goal job task purpose program programmed trained model language machine learning
    knowledge advice guidance topic topics instance accurate detailed solution solutions understand respond
    responding response ensure try best work happy glad thing things type need needs here available time ask
    asked request requests service services
    """.split()))  # noqa: SIM905
_GREETS = re.compile(r"\b(?:say|greet|greeting|hello|hi|hey|good (?:morning|night|day)|thank|goodbye|welcome|"
                     r"introduce yourself)\b")
_ASKS_USER = re.compile(r"(?:what|which|how|where|when|who|do|are|would|could|can|have|is)\b")
_NEGATES = re.compile(r"\b(?:not|no|cannot|unable|nicht|keine?n?|ne|pas|não|non|niet|geen)\b|n't\b")
_WORD_LIKE = re.compile(r"[^\W_]|[\U0001F000-\U0001FAFF\u2600-\u27BF+=<>×÷√∑]")
_TWO_LETTERS = re.compile(r"[^\W\d_]{2}")  # no list mark holds them
_NUMBERING = re.compile(r"(?m)^[ \t]*(?:\d{1,2}|[a-zA-Z])[.)](?=[ \t]+\S)")  # "1." before an item is no sentence
_LIST_MARKS = re.compile(r"(?m)^\s*(?:\d+|[a-zA-Z])[.)](?=\s|$)")


def why_not(asked: Asked, response: str, *, finish_reason: str = "stop") -> Reason | None:
    """Why ``response`` does not attempt what is asked, or ``None`` where no rule says so."""
    if finish_reason == "length":
        return "cut"
    if not response.strip():
        return "only_required_text"
    if reason := _marks(asked, response):
        return reason
    if "detectable_format:constrained_response" in asked.types and "my answer is" in response.lower():
        return None
    bare = without_required(response, asked.required)
    removed = bare != response
    if asked.fixed_reply and asked.stems.issuperset(map(stem, words(bare))) and _says(bare):
        return None  # "Reply with the single word OK"
    if not _says(without_required(bare, asked.required, keywords=True)):
        return _empty(asked, bare)
    if (_placeholders(bare) or _only_numbers(asked, bare)) and not asked.allows("placeholder_text"):
        return "placeholder_text"
    if (loops(response) or same_sentence(bare, asked.request)) and not asked.allows("repeats_itself"):
        return "repeats_itself"
    if copies(asked, bare):
        return "echoes_request"
    if copies_example(asked, response):
        return "copies_example"
    if reason := _empty_sentences(asked, bare, removed):
        return reason
    if adds_nothing(asked, bare):
        return "echoes_request"
    if _speaks_of_itself(bare) and not asked.allows("refusal"):
        return "offers_help_instead"
    if states_a_constraint(asked, bare, removed) or headed_by_constraints(asked, bare):
        return "echoes_constraint"
    return _language(asked, bare)


# ---------------------------------------------------------------- marks


def _marks(asked: Asked, response: str) -> Reason | None:
    marked = "<" in response or "[" in response
    thinks = "◁" in response or "assistantfinal" in response or response[:40].lstrip(" *\n")[:4] in _THINKS_ALOUD
    if ((marked or thinks)
            and patterns.REASONING.search(response) and not asked.allows("reasoning_left_in")):
        return "reasoning_left_in"
    if ((marked or "##" in response or "\ufffd" in response) and "```" not in response
            and patterns.CONTROL.search(response) and not asked.allows("control_tokens")):
        return "control_tokens"
    return None


_THINKS_ALOUD = ("Okay", "Alri", "Hmm,")


def _says(text: str) -> bool:
    """Whether anything is left that could say something: a word, a number outside list marks, a sign, an emoji."""
    return _TWO_LETTERS.search(text) is not None or _WORD_LIKE.search(_LIST_MARKS.sub(" ", text)) is not None


def _empty(asked: Asked, bare: str) -> Reason | None:
    """Nothing is left but demanded words. One that the request does not hold may be the answer ("Paris.")."""
    left = words(_LIST_MARKS.sub(" ", bare))
    if len(set(left)) <= 3 and any(stem(w) not in asked.stems for w in left):
        return None
    return "only_required_text" if left or asked.required != Required() else "placeholder_text"


def _placeholders(bare: str) -> bool:
    if not any(map(bare.__contains__, _BLANKS)):
        return False
    left, found = patterns.PLACEHOLDER.subn(" ", bare.lower())
    return found > 0 and ("lorem ipsum" in bare.lower() or len(content(words(left))) <= max(3, found))


def _only_numbers(asked: Asked, bare: str) -> bool:
    """Numbers and nothing else ("1. 2. 3. 4."), where the request asks for words."""
    return (_NO_WORD.fullmatch(bare) is not None and _WANTS_WORDS.search(asked._head) is not None
            and _WANTS_NUMBERS.search(asked._head) is None)


_NO_WORD = re.compile(r"(?=\D*\d)[\d\s!-/:-@\[-`{-~]*")
_WANTS_WORDS = re.compile(
    r"\b(?:why|explain|describe|write|tell|suggest|recommend|summari[sz]e|compare|difference|story|poem|email|letter|"
    r"tips|advice|ideas|steps|ways|plan|how (?:do|does|did|can|could|should|would|to|is|are))\b")
_WANTS_NUMBERS = re.compile(
    r"\d|\b(?:how (?:many|much|old|long|far|tall|often|big|fast|high)|when|which|what|time|date|year|age|price|costs?|"
    r"digits?|numbers?|numerals?|count|calculate|compute|add|sum|total|percent\w*|average|equation|math\w*|"
    r"primes?|sequence|fibonacci|score|rate|rating|code)\b")
_BLANKS = ("[", "<", "{", "___", "....", "TODO", "TBD", "XXX", "Lorem", "lorem")


# ---------------------------------------------------------------- sentences


def _empty_sentences(asked: Asked, bare: str, removed: bool) -> Reason | None:
    """The reason if no sentence has something of its own; stops at the first that has."""
    kinds: Counter[str] = Counter()
    refused_all, said = False, 0
    unmarked, marks = _NUMBERING.subn(" ", bare)
    for i, (sentence, last) in enumerate(sentences(unmarked if marks > 1 else bare)):
        kind = _kind(asked, sentence, removed, last=last)
        if kind is None:
            if not refused_all:
                return None
            said += len(words(sentence))
            if said > 25:  # it goes on to answer after all
                return None
            continue
        if kind == "refusal" and i <= 1 and patterns.REFUSES_ALL.search(sentence.casefold()):
            refused_all = True
        kinds[kind] += 1
    for reason in ("refusal", "echoes_constraint", "echoes_request", "asks_back", "offers_help_instead"):
        if kinds[reason]:
            return reason
    return "only_required_text" if removed and kinds else None


def _kind(asked: Asked, sentence: str, removed: bool, *, last: bool) -> str | None:
    """What an empty sentence is: a reason, or ``"nothing"``; ``None`` for one that says something."""
    plain = sentence.strip(MARKS).casefold().replace("’", "'")
    if refuses(plain) and not asked.allows("refusal"):
        return None if _goes_on(plain) else "refusal"
    tokens = words(plain)
    if not tokens:
        return None if _says(plain) else "nothing"
    if patterns.FILLER.issuperset(tokens) and not (asked.closed and tokens[0] in _REPLIES) and not _GREETS.search(
            asked._head):
        return "offers_help_instead" if not removed else "nothing"
    if (len(tokens) <= 40 and (not plain.isascii() or not _OFFERS.isdisjoint(tokens))
            and patterns.OFFER.search(plain)
            and not (asked.creates and len(tokens) > 25)):
        return "offers_help_instead"
    if _about_itself(asked, plain, tokens):
        return "offers_help_instead"
    if sentence.rstrip(" *_\"'").endswith((":", "：")) and len(tokens) <= 20:
        return "offers_help_instead" if last else "nothing"  # an announcement
    if plain.endswith(("?", "？")) or sentence.rstrip(MARKS).endswith(("?", "？")):
        back = patterns.CLARIFY.search(f"{plain.rstrip('?')}?") is not None
        wanted = last and "end:question" in asked.types and not (back and _ASKS_USER.match(plain))
        if not wanted and (back or not (asked.creates or asked.transforms)) and (
                not asked.allows("asks_back")):
            return "echoes_request" if echoes_request(asked, tokens, content(tokens)) else "asks_back"
        if wanted and len(tokens) >= 4 and not asked.transforms and copied_words(asked, tokens):
            return "echoes_request"  # the request's own question, where the answer is to end in one
    elif patterns.CLARIFY.match(plain) and not asked.creates and not asked.allows("asks_back"):
        return "asks_back"
    new = (w for w in contents(tokens) if w not in ABOUT_THE_TASK and w not in asked.lower)
    if next(islice(new, 2, None), None) is not None:
        return None  # a third new word
    own = content(tokens)
    if echoes_constraint(asked, tokens, own, removed):
        return "echoes_constraint"
    if echoes_request(asked, tokens, own):
        return "echoes_request"
    return None if own or (asked.closed and tokens[0] in _REPLIES) else "nothing"


_OFFERS = frozenset("""
    i i'd i'll i'm me we us our here help thank thanks feel hesitate anything something all end ask tell
    """.split())  # noqa: SIM905
_REPLIES = frozenset("""
    yes no sure certainly absolutely definitely maybe never always neither both true false ok okay
    """.split())  # noqa: SIM905
_GOES_ON = re.compile(r"[,;:–—]\s*(?:but|however|though|although|here|still|instead|nevertheless|yet|aber|mais|"
                      r"pero|mas|ma|"
                      r"hier|voici|aqu[ií])\b(?P<rest>.*)|:\s*(?P<list>\S.*)", re.DOTALL)


def _goes_on(plain: str) -> bool:
    """A refusal whose sentence goes on to answer: "I cannot foresee it, but in May it is often warm"."""
    for found in _GOES_ON.finditer(plain):
        rest = (found["rest"] or found["list"] or "").strip()
        # "I'm sorry, but I cannot" is not going on, nor is "but I can help with something else"
        said = content(words(rest))
        if len(said) >= 3 and not refuses(rest) and not patterns.OFFER.search(rest) and (
                len(said) >= 12 or not _NEGATES.search(rest)):
            return True
    return False


def _speaks_of_itself(bare: str) -> bool:
    """Most sentences, the first among them, are about the speaker and its help: "I am an AI designed to..."."""
    if not patterns.ABOUT_ITSELF.match(bare[:40].strip(MARKS).casefold().replace("’", "'")):
        return False
    said: list[bool] = []
    for sentence, _ in islice(sentences(bare), 8):
        plain = sentence.strip(MARKS).casefold().replace("’", "'")
        helps = sum(w in _ABOUT_ITSELF for w in content(words(plain)))
        said.append(patterns.ABOUT_ITSELF.match(plain) is not None and helps >= (1 if said else 2))
    return said[0] and 5 * sum(said) >= 3 * len(said)


def _about_itself(asked: Asked, plain: str, tokens: list[str]) -> bool:
    if not patterns.ABOUT_ITSELF.match(plain):
        return False
    own = content(tokens)
    if _ABOUT_ITSELF.isdisjoint(own):
        return False
    return sum(w not in _ABOUT_ITSELF and w not in ABOUT_THE_TASK and w not in asked.stems for w in own) <= 1


# ---------------------------------------------------------------- language


def _language(asked: Asked, bare: str) -> Reason | None:
    head = bare if len(bare) <= 400 else bare[:400]
    if head.isascii() and asked.plainly_english and plainly_english(head):
        return None
    found = language_of(head)
    if found is None:
        return None
    if asked.language in (None, found) or asked.allows("wrong_language"):
        return None
    return "wrong_language"
