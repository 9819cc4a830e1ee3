"""Rules that tell an answer from a text that only looks like one; they need no model and no dependency.

An answer is refused where every sentence of it, without what the constraints demand, is empty: a refusal, an echo, an
offer, a question back, a pleasantry. One sentence with something of its own and the rules say nothing, unless another
one tells the writer what to do; relevance or a judge may decide. What a constraint demands is never held against an
answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import islice, pairwise
from typing import get_args

from if_factory.constraints.examples import worked_examples
from if_factory.usefulness import patterns
from if_factory.usefulness.asked import Asked, refuses
from if_factory.usefulness.language import language_of, plainly_english
from if_factory.usefulness.reasons import Reason
from if_factory.usefulness.strip import Required, without_required
from if_factory.usefulness.words import content, stem, words

REASONS: tuple[str, ...] = get_args(Reason)

# Words in which constraints are stated: an answer made of them talks about the task.
_ABOUT_THE_TASK = frozenset(map(stem, """
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
    contraction contractions pronoun pronouns english language
    """.split()))  # noqa: SIM905
# What a speaker says of itself and of its help.
_ABOUT_ITSELF = frozenset(map(stem, """
    ai artificial intelligence assistant assist assisting assistance help helpful helping support provide
    providing information designed design capable able ability user users question questions answer answers
    answering role goal job task purpose program programmed trained model language machine learning
    knowledge advice guidance topic topics instance accurate detailed solution solutions understand respond
    responding response ensure try best work happy glad thing things type need needs here available time ask
    asked request requests service services
    """.split()))  # noqa: SIM905
_QUESTION_WORD = re.compile(r"(?:what|why|how|when|where|who|which|whose|whom|explain|describe|define|tell|"
                            r"discuss)\b")
# Begins with one set of characters, which the search skips to.
_SENTENCE_END = re.compile(r"[.!?…。！？\n](?:(?<=[.!?…])[\"'”’)\]*_]*\s+|(?<=[。！？])(?!$)|(?<=\n)\n*)")
_MARKS = " \t\"'“”‘’«»()[]{}*_#>|~`-–—•·:;,.\\/=+<"
_GREETS = re.compile(r"\b(?:say|greet|greeting|hello|hi|hey|good (?:morning|night|day)|thank|goodbye|welcome|"
                     r"introduce yourself)\b")
_COPIES_RIGHTLY = re.compile(  # the right answer may be the given text, or its words in another order or form
    r"\b(?:correct|proofread|fix|edit|mend|sort|arrang|order|rearrang|reorder|alphabeti|format|convert|turn|punctuat|"
    r"capital|uppercase|lowercase|copy|repeat|quote|split|join|combin|list|type|transl|mistake|error|grammar|spelling|"
    r"scramble|fill)")
_TEXTS = re.compile(
    r"\b(?:story|poem|dialog(?:ue)?|conversation|e-?mail|letter|essay|fable|article|speech|message|scene|description|"
    r"paragraph|diary|review|report|describe)\b")
_LEAD_IN = re.compile(r"^[^:\n]{0,80}\b(?:here|this|following|answer|version|summary|rewritten|revised|is|are|"
                      r"would be)\b[^:\n]{0,40}:\s*")
_ASKS_USER = re.compile(r"(?:what|which|how|where|when|who|do|are|would|could|can|have|is)\b")
_NEGATES = re.compile(r"\b(?:not|no|cannot|unable|nicht|keine?n?|ne|pas|não|non|niet|geen)\b|n't\b")
_WORD_LIKE = re.compile(r"[^\W_]|[\U0001F000-\U0001FAFF\u2600-\u27BF+=<>×÷√∑]")
_TWO_LETTERS = re.compile(r"[^\W\d_]{2}")  # no list mark holds them
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
    if _placeholders(bare) and not asked.allows("placeholder_text"):
        return "placeholder_text"
    if loops(response) and not asked.allows("repeats_itself"):
        return "repeats_itself"
    if _copies(asked, bare):
        return "echoes_request"
    if _copies_example(asked, response):
        return "copies_example"
    if reason := _empty_sentences(asked, bare, removed):
        return reason
    if _speaks_of_itself(bare) and not asked.allows("refusal"):
        return "offers_help_instead"
    if _states_a_constraint(asked, bare, removed):
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


_BLANKS = ("[", "<", "{", "___", "....", "TODO", "TBD", "XXX", "Lorem", "lorem")


# ---------------------------------------------------------------- repetition


@lru_cache(maxsize=64)  # the records of one text come together
def loops(text: str) -> bool:
    """Whether a text goes round in circles: most runs of four words, or most lines, were there before."""
    tokens = text.casefold().split()
    if len(tokens) >= 30:
        runs = len(tokens) - 3
        if len(dict.fromkeys(pairwise(tokens[:runs + 1]))) > 0.75 * runs:  # faster than a set, which grows more often
            return False  # so many runs at least begin with different pairs
        new = len(set(_runs(tokens, 4)))
        if new < 0.5 * runs or new > 0.75 * runs:
            return new < 0.5 * runs
    elif len(tokens) < 3:
        return len(tokens) == 1 and len(text) > 60 and len(set(text)) < 6
    lines = [s for s in (s.strip(_MARKS) for s in _LINE.split(text.casefold())) if s and not s.isdigit()]
    if len(lines) >= 3:
        line, count = Counter(lines).most_common(1)[0]
        if count >= 3 and count * (len(line) + 1) >= 0.6 * sum(len(s) + 1 for s in lines):
            return True
    return len(tokens) >= 8 and len(set(tokens)) <= len(tokens) // 5


_LINE = re.compile(r"[.!?。！？\n]+")


def distinct(text: str) -> float:
    """Share of the runs of four words that were not there before: distinct-4 (Li et al. 2016); 1 below four words."""
    tokens = text.casefold().split()
    runs = len(tokens) - 3
    return len(set(_runs(tokens, 4))) / runs if runs > 0 else 1.0


# ---------------------------------------------------------------- sentences


def _empty_sentences(asked: Asked, bare: str, removed: bool) -> Reason | None:
    """The reason if no sentence has something of its own; stops at the first that has."""
    kinds: Counter[str] = Counter()
    refused_all, said = False, 0
    for i, (sentence, last) in enumerate(_sentences(bare)):
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


def _sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Sentences with more than marks in them, each with whether it is the last; split lazily."""
    start, held = 0, ""
    while start < len(text):
        found = _SENTENCE_END.search(text, start + (text[start] == "\n"))  # a line break here ends no sentence
        stop = after = len(text)
        if found:
            stop, after = found.start(), found.end()
            stop += text[stop] != "\n"
        if text[start:stop].strip(_MARKS):
            if held:
                yield held, False
            held = text[start:stop]
        start = after
    if held:
        yield held, True


def _kind(asked: Asked, sentence: str, removed: bool, *, last: bool) -> str | None:
    """What an empty sentence is: a reason, or ``"nothing"``; ``None`` for one that says something."""
    plain = sentence.strip(_MARKS).casefold().replace("’", "'")
    if refuses(plain) and not asked.allows("refusal"):
        return None if _goes_on(plain) else "refusal"
    tokens = words(plain)
    if not tokens:
        return None if _says(plain) else "nothing"
    if patterns.FILLER.issuperset(tokens) and not (asked.closed and tokens[0] in _REPLIES) and not _GREETS.search(
            asked._head):
        return "offers_help_instead" if not removed else "nothing"
    own = content(tokens)
    if (len(tokens) <= 40 and (not plain.isascii() or not _OFFERS.isdisjoint(tokens))
            and patterns.OFFER.search(plain)
            and not (asked.creates and len(tokens) > 25)):
        return "offers_help_instead"
    if _about_itself(asked, plain, own):
        return "offers_help_instead"
    if sentence.rstrip(" *_\"'").endswith((":", "：")) and len(tokens) <= 20:
        return "offers_help_instead" if last else "nothing"  # an announcement
    if plain.endswith(("?", "？")) or sentence.rstrip(_MARKS).endswith(("?", "？")):
        back = patterns.CLARIFY.search(f"{plain.rstrip('?')}?") is not None
        wanted = last and "end:question" in asked.types and not (back and _ASKS_USER.match(plain))
        if not wanted and (back or not (asked.creates or asked.transforms)) and (
                not asked.allows("asks_back")):
            return "echoes_request" if _echoes_request(asked, tokens, own) else "asks_back"
        if wanted and len(tokens) >= 4 and not asked.transforms and _copied(asked, tokens):
            return "echoes_request"  # the request's own question, where the answer is to end in one
    elif patterns.CLARIFY.match(plain) and not asked.creates and not asked.allows("asks_back"):
        return "asks_back"
    new = (w for w in own if w not in _ABOUT_THE_TASK and w not in asked.lower)
    if next(islice(new, 2, None), None) is not None:
        return None  # a third new word
    if _echoes_constraint(asked, tokens, own, removed):
        return "echoes_constraint"
    if _echoes_request(asked, tokens, own):
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


def _copies(asked: Asked, bare: str) -> bool:
    """Whether the answer is the text that it should have worked on, with nothing new and little left out."""
    source = asked.source
    if len(source) < 5 or len(bare) > 2 * len(asked.request) + 80:
        return False
    tokens = words(_LEAD_IN.sub("", bare.lower(), count=1))
    if not 0.8 * len(source) <= len(tokens) <= 1.2 * len(source) + 2:
        return False
    told = asked.request.lower().split('"', 1)[0].split(":", 1)[0]
    known, said = set(asked.words), set(tokens)
    if not content(said - known) and len(said & set(source)) >= 0.85 * len(set(source)):
        return tokens == list(source) and "correct" not in told if _COPIES_RIGHTLY.search(told) else True
    return False


_RUN = 6  # words in a row that no two answers on different subjects have in common by chance


@cache
def _examples() -> tuple[frozenset[tuple[str, ...]], tuple[tuple[frozenset[str], frozenset[tuple[str, ...]]], ...]]:
    """All runs of four words of the answers; of each worked example what it is about and its answer's runs of six."""
    found: list[tuple[frozenset[str], frozenset[tuple[str, ...]]]] = []
    fours: set[tuple[str, ...]] = set()
    for example in worked_examples():
        fours.update(_runs(words(example.answer), 4))
        demanded = " ".join(str(v) for v in example.constraint.kwargs.values())
        found.append((frozenset(content(words(example.prompt))),
                      frozenset(_runs(words(example.answer))) - set(_runs(words(demanded)))))
    return frozenset(fours), tuple(found)


def _runs(tokens: list[str], length: int = _RUN) -> Iterator[tuple[str, ...]]:
    return zip(*(tokens[i:] for i in range(length)), strict=False)


def _copies_example(asked: Asked, response: str) -> bool:
    """A small model that is shown how to keep bread fresh ends its advice on laptops with the bread's postscript."""
    tokens = words(response)
    fours, examples = _examples()
    # Six words in a row hold four that begin at a multiple of three.
    if fours.isdisjoint(zip(tokens[::3], tokens[1::3], tokens[2::3], tokens[3::3], strict=False)):
        return False
    said = set(_runs(tokens))
    shared = [(about, runs & said) for about, runs in examples if not runs.isdisjoint(said)]
    if not shared:
        return False
    given = set(_runs(words(asked.prompt)))
    return any(runs - given and len(about & asked.stems) < 0.5 * len(about) for about, runs in shared)


def _speaks_of_itself(bare: str) -> bool:
    """Most sentences, the first among them, are about the speaker and its help: "I am an AI designed to..."."""
    if not patterns.ABOUT_ITSELF.match(bare[:40].strip(_MARKS).casefold().replace("’", "'")):
        return False
    said: list[bool] = []
    for sentence, _ in islice(_sentences(bare), 8):
        plain = sentence.strip(_MARKS).casefold().replace("’", "'")
        helps = sum(w in _ABOUT_ITSELF for w in content(words(plain)))
        said.append(patterns.ABOUT_ITSELF.match(plain) is not None and helps >= (1 if said else 2))
    return said[0] and 5 * sum(said) >= 3 * len(said)


def _about_itself(asked: Asked, plain: str, own: list[str]) -> bool:
    if not patterns.ABOUT_ITSELF.match(plain) or _ABOUT_ITSELF.isdisjoint(own):
        return False
    return sum(w not in _ABOUT_ITSELF and w not in _ABOUT_THE_TASK and w not in asked.stems for w in own) <= 1


def _echoes_constraint(asked: Asked, tokens: list[str], own: list[str], removed: bool) -> bool:
    """The sentence is about the constraints: their words, those in which tasks are stated, and the request's."""
    if not asked.constraint_stems or not own:
        return False
    if len(tokens) >= 4 and " ".join(tokens) in asked.constraint_words:
        return True
    own = [w for w in own if w not in asked.demanded_stems]
    theirs = [w for w in own if (w in asked.constraint_stems or w in _ABOUT_THE_TASK) and w not in asked.stems]
    if len(theirs) < (1 if removed and len(own) <= 2 else 2):
        return False
    if asked.closed and any(w in asked.stems for w in own):
        return False  # "The review is positive, in small letters"
    new = sum(w not in asked.constraint_stems and w not in _ABOUT_THE_TASK and w not in asked.lower for w in own)
    return 2 * len(theirs) >= len(own) and (new == 0 or (new == 1 and len(theirs) >= 4))


def _copied(asked: Asked, tokens: list[str]) -> bool:
    """Whether the request holds these words one after the other."""
    return f" {' '.join(tokens)} " in f" {' '.join(asked.words)} "


_TELLS_THE_WRITER = re.compile(r"\byour (?:\w+ )?(?:answer|response|reply)\b|"
                               r"^(?:the|this) (?:answer|response|reply) (?:must|should|has to|needs to)\b")


def _states_a_constraint(asked: Asked, bare: str, removed: bool) -> bool:
    """Whether a sentence of an answer tells its writer what to do: "Your answer should only contain commas."

    A remark on what was done ("The letter w occurs six times.") is none.
    """
    small = bare.lower()  # many times faster than a pattern that ignores case
    if not any(map(small.__contains__, ("answer", "response", "reply"))):
        return False
    if not asked.constraint_stems or "combination:repeat_prompt" in asked.types:
        return False
    for sentence, _ in _sentences(bare):
        plain = sentence.strip(_MARKS).casefold()
        if _TELLS_THE_WRITER.search(plain):
            tokens = words(plain)
            if _echoes_constraint(asked, tokens, content(tokens), removed):
                return True
    return False


def _echoes_request(asked: Asked, tokens: list[str], own: list[str]) -> bool:
    """The sentence says the request again, with nothing new in it.

    Rewriting and its like share their words with the request by nature: there only a copy of nearly all of it is
    an echo. A question that a choice or a yes answers may be answered in its own words.
    """
    asked_words = asked.words
    if len(tokens) < 3 or not asked_words:
        return False
    copied = _copied(asked, tokens)
    if asked.transforms:
        return copied and len(tokens) >= 0.8 * len(asked_words)
    new = sum(w not in asked.stems for w in own)
    if new == 1 and len(own) >= 4 and len(tokens) <= 14 and asked.creates and _TEXTS.search(asked._head):
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
