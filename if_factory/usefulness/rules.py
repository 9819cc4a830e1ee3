"""Rules that tell an answer from a text that only looks like one; they need no model and no dependency.

An answer is refused only where every sentence of it, without what the constraints demand, is empty: a refusal, an
echo, an offer, a question back, a pleasantry. One sentence with something of its own and the rules say nothing;
relevance or a judge may decide. What a constraint demands is never held against an answer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from typing import get_args

from if_factory.constraints.base import get
from if_factory.errors import UserError
from if_factory.records import Constraint
from if_factory.usefulness import patterns
from if_factory.usefulness.language import NAMES_LANGUAGE, language_of
from if_factory.usefulness.reasons import Reason
from if_factory.usefulness.strip import Required, request_of, required, without_required
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
_CLOSED = re.compile(
    r"(?:^|[.?!\n:,]\s*)(?:is|are|was|were|am|do|does|did|can|could|should|would|will|has|have|had|may|might|"
    r"must|which|who|whose|"
    r"when|where|how (?:many|much|old|long|far|tall|often|big))\b[^?\n]*\?|\bor\b[^?\n]*\?|true or false|"
    r"yes or no|yes/no|"
    r"\b(?:choose|pick|select|classify|identify|which)\b")
_TRANSFORMS = re.compile(
    r"(?:^|[.!?:;]\s+|\n\s*|\b(?:please|and|then|you|me|now)\s+)(?:re-?writ|rephras|paraphras|summar|shorten|"
    r"transl|correct|proofread|edit|fix|improv|convert|sort|arrang|order|rearrang|"
    r"extract|simplif|copy|repeat|classif|continu|complete|expand|identif|find|list|which|turn|chang|replac|"
    r"remov|format|"
    r"reorder|alphabeti|underline|highlight|quote|capitali[sz]|punctuat|fill|combine|join|split)")
_CREATES = re.compile(
    r"\b(?:write|compose|create|draft|suggest|invent|design|generate|make up|come up|give me|give|propose|"
    r"think of|name|"
    r"slogan|title|headline|poem|story|joke|riddle|song|tweet|caption|ad|tagline)\b")
_WANTS_QUESTIONS = re.compile(
    r"\bquestions?\b|\bquiz|\bask\b|\basking\b|\briddle|\bsurvey|\binterview|\bfaq|\binquir|\bclarif|\bposer|"
    r"\btrivia|问题|提问|"
    r"質問|질문|вопрос|pregunta|frage|domand|pergunta")
_WANTS_REPEATS = re.compile(r"\brepeat|\b\d+ times\b|\b(?:twice|chorus|refrain|chant|echo|loop|lyrics|song|"
                            r"copies)\b")
_WANTS_TEMPLATE = re.compile(
    r"\btemplate|\bplaceholder|\bfill[- ]in|\bblank|\bform\b|\bcloze|\bbracket|\bskeleton|\bboilerplate|\bsyntax|"
    r"\bregex|\bcode\b|"
    r"\bfunction\b|\bhtml\b|\bprogram|\bscript\b")
_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]*_]*\s+|(?<=[。！？])(?!$)|\n+")
_MARKS = " \t\"'“”‘’«»()[]{}*_#>|~`-–—•·:;,.\\/=+<"
_GREETS = re.compile(r"\b(?:say|greet|greeting|hello|hi|hey|good (?:morning|night|day)|thank|goodbye|welcome|"
                     r"introduce yourself)\b")
_FIXED_REPLY = re.compile(
    r"\b(?:reply|respond|answer|say|output|print|return|type|write|repeat)\b[^.\n]{0,60}\b(?:only|just|single|exactly|"
    r"nothing else|the words?|verbatim|after me)\b")
_COPIES_RIGHTLY = re.compile(  # the right answer may be the given text, or its words in another order or form
    r"\b(?:correct|proofread|fix|edit|mend|sort|arrang|order|rearrang|reorder|alphabeti|format|convert|turn|punctuat|"
    r"capital|uppercase|lowercase|copy|repeat|quote|split|join|combin|list|type|transl|mistake|error|grammar|spelling|"
    r"scramble|fill)")
_TEXTS = re.compile(
    r"\b(?:story|poem|dialog(?:ue)?|conversation|e-?mail|letter|essay|fable|article|speech|message|scene|description|"
    r"paragraph|diary|review|report|describe)\b")
_QUOTED = re.compile(r"[\"“«「](.{20,}?)[\"”»」]|"
                     r"(?:text|sentence|passage|paragraph|following|note|story):\s*\n?(.{30,})", re.DOTALL)
_LEAD_IN = re.compile(r"^[^:\n]{0,80}\b(?:here|this|following|answer|version|summary|rewritten|revised|is|are|"
                      r"would be)\b[^:\n]{0,40}:\s*")
_ASKS_USER = re.compile(r"(?:what|which|how|where|when|who|do|are|would|could|can|have|is)\b")
_NEGATES = re.compile(r"\b(?:not|no|cannot|unable|nicht|keine?n?|ne|pas|não|non|niet|geen)\b|n't\b")
_WORD_LIKE = re.compile(r"[^\W_]|[\U0001F000-\U0001FAFF\u2600-\u27BF+=<>×÷√∑]")
_LIST_MARKS = re.compile(r"(?m)^\s*(?:\d+|[a-zA-Z])[.)](?=\s|$)")


class Asked:
    """What a request asks for and demands; made once per record, used for each of its answers.

    Most is found out only when an answer looks empty: a good answer costs next to nothing.

    Args:
        request: the prompt without its constraints, where it is known; else the constraints' sentences are taken
            out of ``prompt``.
        history: what the user said before, oldest first; the topic of a later turn may stand there only.
    """

    def __init__(self, prompt: str, constraints: Sequence[Constraint] = (), *, request: str | None = None,
                 history: Sequence[str] = ()) -> None:
        self.prompt = prompt
        self.history = tuple(history)
        self.constraints = tuple(constraints)
        self._request = request
        self.required: Required = required(constraints)
        self.types = frozenset(c.type for c in constraints) | {
            str(c.kwargs.get("type")) for c in constraints if c.type == "scope:above_rule"}

    @cached_property
    def request(self) -> str:
        given = self._request
        return given if given is not None and given.strip() else request_of(self.prompt, self.constraints)

    @cached_property
    def full(self) -> str:
        """All that the user said, oldest first, as a judge is shown it."""
        return "\n\n".join((*self.history, self.prompt))

    @cached_property
    def topic(self) -> str:
        """What an answer should be about: the request, with what the user asked for before it."""
        return "\n".join((self.request, *reversed(self.history)))

    @cached_property
    def _head(self) -> str:
        """What a request asks for stands at its beginning or its end; the middle may be pages of text."""
        text = self.request.lower()
        return text if len(text) <= 1000 else f"{text[:600]}\n{text[-400:]}"

    @cached_property
    def lower(self) -> str:
        """Everything asked, in small letters: what no part of it spells is new in an answer."""
        return "\n".join((self.prompt, self._request or "", *(c.text for c in self.constraints))).lower()

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(words(self.request))

    @cached_property
    def stems(self) -> frozenset[str]:
        return frozenset(map(stem, self.words))

    @cached_property
    def constraint_words(self) -> str:
        return " ".join((*(" ".join(words(c.text)) for c in self.constraints),
                         *(_paraphrases(c.type)[0] for c in self.constraints if c.kind == "code")))

    @cached_property
    def constraint_stems(self) -> frozenset[str]:
        """Without demanded words, which are part of an answer."""
        stated = (content(words(c.text)) for c in self.constraints)
        known = (_paraphrases(c.type)[1] for c in self.constraints if c.kind == "code")
        return frozenset().union(*stated, *known) - self.demanded_stems

    @cached_property
    def demanded_stems(self) -> frozenset[str]:
        return frozenset(stem(w) for text in self.required.words for w in words(text))

    @cached_property
    def closed(self) -> bool:
        return _CLOSED.search(self._head) is not None

    @cached_property
    def transforms(self) -> bool:
        return _TRANSFORMS.search(self._head) is not None

    @cached_property
    def creates(self) -> bool:
        return _CREATES.search(self._head) is not None

    @cached_property
    def source(self) -> tuple[str, ...]:
        """The words of the text that the request is about, where it quotes one of some length."""
        given = self.request
        if '"' not in given and ":" not in given and given.isascii():
            return ()
        return tuple(words(max((a or b for a, b in _QUOTED.findall(given)), key=len, default="")))

    @cached_property
    def language(self) -> str | None:
        return language_of(self._head[:300], short=True)

    def allows(self, reason: Reason) -> bool:
        """Whether the request or a constraint asks for what would otherwise be held against an answer."""
        if reason not in self._allowed:
            self._allowed[reason] = self._asks_for(reason)
        return self._allowed[reason]

    @cached_property
    def _allowed(self) -> dict[str, bool]:
        return {}

    def _asks_for(self, reason: Reason) -> bool:
        judged = " ".join(c.text for c in self.constraints if c.kind != "code").lower()
        asked = f"{self._head}\n{judged}"
        if reason == "refusal":
            return (patterns.WANTS_REFUSAL.search(asked) is not None
                    or any(_refuses(part.strip()) for part in re.split(r'[\n":“”「]', asked)))
        if reason == "control_tokens":
            return patterns.CONTROL.search(self.prompt) is not None
        if reason == "reasoning_left_in":
            return patterns.REASONING.search(self.prompt) is not None
        types, pattern = _MAY[reason]
        return not types.isdisjoint(self.types) or pattern.search(asked) is not None


_MAY: dict[Reason, tuple[frozenset[str], re.Pattern[str]]] = {
    "asks_back": (frozenset(), _WANTS_QUESTIONS),
    "placeholder_text": (frozenset({"detectable_content:number_placeholders"}), _WANTS_TEMPLATE),
    "repeats_itself": (frozenset(), _WANTS_REPEATS),
    "wrong_language": (frozenset({"language:response_language"}), NAMES_LANGUAGE),
}


@lru_cache(maxsize=4096)
def _paraphrases(type_id: str) -> tuple[str, frozenset[str]]:
    """The words of all descriptions of a type: an answer may echo the constraint as another one states it."""
    try:
        tokens = words(re.sub(r"\{\w+\}", " ", " ".join(get(type_id).descriptions)))
    except UserError:
        tokens = []
    return " ".join(tokens), frozenset(content(tokens))


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
    if _FIXED_REPLY.search(asked._head) and asked.stems.issuperset(map(stem, words(bare))) and _says(bare):
        return None  # "Reply with the single word OK"
    if not _says(without_required(bare, asked.required, keywords=True)):
        return _empty(asked, bare)
    if _placeholders(bare) and not asked.allows("placeholder_text"):
        return "placeholder_text"
    if loops(response) and not asked.allows("repeats_itself"):
        return "repeats_itself"
    if _copies(asked, bare):
        return "echoes_request"
    if reason := _empty_sentences(asked, bare, removed):
        return reason
    if _speaks_of_itself(bare) and not asked.allows("refusal"):
        return "offers_help_instead"
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
    return _WORD_LIKE.search(_LIST_MARKS.sub(" ", text)) is not None


def _empty(asked: Asked, bare: str) -> Reason | None:
    """Nothing is left but demanded words. One that the request does not hold may be the answer ("Paris.")."""
    left = words(_LIST_MARKS.sub(" ", bare))
    if len(set(left)) <= 3 and any(stem(w) not in asked.stems for w in left):
        return None
    return "only_required_text" if left or asked.required != Required() else "placeholder_text"


def _placeholders(bare: str) -> bool:
    if not _BLANKS.search(bare):
        return False
    left, found = patterns.PLACEHOLDER.subn(" ", bare.lower())
    return found > 0 and ("lorem ipsum" in bare.lower() or len(content(words(left))) <= max(3, found))


_BLANKS = re.compile(r"[\[<{]|___|\.\.\.\.|TODO|TBD|XXX|[Ll]orem")


# ---------------------------------------------------------------- repetition


def loops(text: str) -> bool:
    """Whether a text goes round in circles: most runs of four words, or most lines, were there before."""
    tokens = text.casefold().split()
    if len(tokens) >= 30:
        runs = len(tokens) - 3
        new = len(set(zip(tokens, tokens[1:], tokens[2:], tokens[3:], strict=False)))
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
        found = _SENTENCE.search(text, start + 1)  # one may end here already: nothing stands between
        stop, after = (found.start(), found.end()) if found else (len(text), len(text))
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
    if _refuses(plain) and not asked.allows("refusal"):
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
    elif patterns.CLARIFY.match(plain) and not asked.creates and not asked.allows("asks_back"):
        return "asks_back"
    if sum(w not in asked.lower and w not in _ABOUT_THE_TASK for w in own) > 2:
        return None
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


def _refuses(plain: str) -> bool:
    plain = plain.casefold() if not plain.isascii() or not plain.islower() else plain
    if patterns.REFUSAL_LATIN.match(plain):
        return True
    return not plain.isascii() and patterns.REFUSAL_OTHER.match(plain) is not None


def _goes_on(plain: str) -> bool:
    """A refusal whose sentence goes on to answer: "I cannot foresee it, but in May it is often warm"."""
    for found in _GOES_ON.finditer(plain):
        rest = (found["rest"] or found["list"] or "").strip()
        # "I'm sorry, but I cannot" is not going on, nor is "but I can help with something else"
        said = content(words(rest))
        if len(said) >= 3 and not _refuses(rest) and not patterns.OFFER.search(rest) and (
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


def _echoes_request(asked: Asked, tokens: list[str], own: list[str]) -> bool:
    """The sentence says the request again, with nothing new in it.

    Rewriting and its like share their words with the request by nature: there only a copy of nearly all of it is
    an echo. A question that a choice or a yes answers may be answered in its own words.
    """
    asked_words = asked.words
    if len(tokens) < 3 or not asked_words:
        return False
    copied = f" {' '.join(tokens)} " in f" {' '.join(asked_words)} "
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


# Two English words that no other language has: enough where both sides have them.
_PLAINLY_ENGLISH = re.compile(
    r"(?i:\b(?:the|is|are|of|and|with|what|how|why|when|this|that|it|your?|write|describe|"
    r"explain)\b.{0,60}?\b(?:the|is|are|of|"
    r"and|with|what|how|why|when|this|that|it|your?|to|for|from|by|can|have|has)\b)", re.DOTALL)


def _language(asked: Asked, bare: str) -> Reason | None:
    head = bare if len(bare) <= 400 else bare[:400]
    if head.isascii() and _PLAINLY_ENGLISH.search(head) and _PLAINLY_ENGLISH.search(asked.prompt, 0, 200):
        return None
    found = language_of(head)
    if found is None:
        return None
    if asked.language in (None, found) or asked.allows("wrong_language"):
        return None
    return "wrong_language"
