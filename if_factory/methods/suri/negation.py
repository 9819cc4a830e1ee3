"""Whether a rewritten constraint is a violation of the original, or only a copy or a negation of it.

Suri corrupts a constraint by the smallest edit that a text following the original cannot follow, and asks for no
negations (arXiv 2406.19371, section 3): with "do not" in every corrupted instruction a model would learn to see
the "not" instead of the text. A model asked for that still writes "Avoid vivid imagery" for "Use vivid imagery".
The rule here: an edit that changes how often something is negated, and brings no word of content that was not
there, is a negation only. A doubtful case counts as one; the constraint is then asked for again or dropped.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")
_SHORT = {"won't": "will not", "can't": "can not", "cannot": "can not", "shan't": "shall not", "ain't": "is not"}
_NEGATORS = frozenset("""
    not no never none nothing nobody nowhere neither nor without non lack lacks lacking absent absence devoid
    """.split())  # noqa: SIM905
# Verbs that ask for something to be left out; negations where they open a clause, content elsewhere.
_OMIT = ("avoid|omit|exclude|skip|ignore|neglect|refrain(?:ing)? from|stay away from|steer clear of|"
         "leav(?:e|ing) out|eliminate|remove|forbid|prohibit|ban|reject|abstain(?:ing)? from|do away with|"
         "fail(?:ing)? to|dispens(?:e|ing) with")
_CLAUSE = re.compile(
    rf"(?:^|[.;:,()]|\b(?:must|should|shall|will|may|can|to|please|and|but|or|while|by|then|that|which|"
    rf"the (?:text|story|response|essay|article|narrative|author|writer|piece)|it|you)\b)\s*"
    rf"({_OMIT}|(?:avoid|omitt|exclud|skipp|ignor|neglect|eliminat|remov|forbidd|prohibit|bann|reject)ing|"
    rf"(?:avoid|omit|exclude|skip|ignore|neglect|eliminate|remove|forbid|prohibit|ban|reject)s)\b")
# Words that carry the grammar of an instruction and nothing of what is asked for.
_EMPTY = frozenset("""
    a an the of in on at to for from with by as and or but that which this these those it its is are be been
    being was were do does did done has have had having must should shall will would can could may might please
    ensure sure make makes making use uses used using utilise utilize employ include includes including included
    contain contains containing feature features featuring provide provides providing incorporate incorporates
    incorporating add adding mention mentions mentioned mentioning write writes writing present presents
    presenting show shows showing text response answer story piece essay article narrative you your there any
    some so also throughout ever always instead rather than explicitly whatsoever all kind sort
    """.split())  # noqa: SIM905


def why_no_violation(original: str, modified: str) -> str | None:
    """Why ``modified`` is clearly no violation of ``original``, or ``None``.

    Reasons: ``empty``; ``unchanged`` (the same words of content, in the same order); ``negation_only`` (the only
    difference is a negation added or taken away: "Use metaphors" -> "Use no metaphors", "Avoid metaphors").
    Whether a text really follows the one and not the other is for a checker or a judge.
    """
    before, after = _Parsed(original), _Parsed(modified)
    if not after.words:
        return "empty"
    if before.content == after.content and before.negated == after.negated:
        return "unchanged"
    if before.negated != after.negated:
        # "Do not describe the sea, describe the desert" brings something of its own, "Do not describe it" nothing.
        new, old = set(after.content) - set(before.content), set(before.content) - set(after.content)
        if (not new) if after.negated > before.negated else (not old and not new):
            return "negation_only"
    return None


class _Parsed:
    """A constraint as its negations, counted, and its words of content, stemmed, in order."""

    def __init__(self, text: str) -> None:
        text = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
        for short, long in _SHORT.items():
            text = text.replace(short, long)
        text = re.sub(r"n't\b", " not", text)
        left_out = list(_CLAUSE.finditer(text))
        for found in reversed(left_out):
            text = text[:found.start(1)] + " " + text[found.end(1):]
        text = re.sub(r"\bfree (?:of|from)\b|-free\b", " without ", text)
        self.words = _WORD.findall(text)
        self.negated = len(left_out) + sum(w in _NEGATORS for w in self.words)
        self.content = [_stem(w) for w in self.words if w not in _NEGATORS and w not in _EMPTY]


@lru_cache(maxsize=4096)
def _stem(word: str) -> str:
    """Reduces "use of dialogue", "dialogues" and "using a dialogue" to the same words; not a linguistic stem."""
    for ending, least in (("'s", 1), ("ing", 4), ("ies", 3), ("ed", 4), ("es", 4), ("s", 3), ("e", 3), ("y", 3)):
        if word.endswith(ending) and len(word) - len(ending) >= least - 1 and not word.endswith("ss"):
            word = word.removesuffix(ending)
            break
    return word[:-1] if len(word) > 4 and word[-1] == word[-2:-1] else word.removesuffix("e")
