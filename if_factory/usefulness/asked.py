"""What a request asks for and demands: what the rules and relevance compare an answer with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property, lru_cache

from if_factory.constraints.base import get
from if_factory.errors import UserError
from if_factory.records import Constraint
from if_factory.usefulness import patterns
from if_factory.usefulness.language import NAMES_LANGUAGE, language_of, plainly_english
from if_factory.usefulness.reasons import Reason
from if_factory.usefulness.strip import Required, request_of, required
from if_factory.usefulness.words import content, stem, words

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
_FIXED_REPLY = re.compile(
    r"\b(?:reply|respond|answer|say|output|print|return|type|write|repeat)\b[^.\n]{0,60}\b(?:only|just|single|exactly|"
    r"nothing else|the words?|verbatim|after me)\b")
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
_QUOTED = re.compile(r"[\"“«「](.{20,}?)[\"”»」]|"
                     r"(?:text|sentence|passage|paragraph|following|note|story):\s*\n?(.{30,})", re.DOTALL)


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
    def fixed_reply(self) -> bool:
        """Whether a given text is to be replied: "Reply with the single word OK"."""
        return _FIXED_REPLY.search(self._head) is not None

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

    @cached_property
    def plainly_english(self) -> bool:
        return plainly_english(self.prompt[:200])

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
                    or any(refuses(part.strip()) for part in re.split(r'[\n":“”「]', asked)))
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


def refuses(plain: str) -> bool:
    plain = plain.casefold() if not plain.isascii() or not plain.islower() else plain
    if patterns.REFUSAL_LATIN.match(plain):
        return True
    return not plain.isascii() and patterns.REFUSAL_OTHER.match(plain) is not None
