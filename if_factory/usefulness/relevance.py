"""Whether an answer is about its request: the similarity of their sentence embeddings.

The request without its constraints is compared with the answer without demanded text. A model reads about 180
words at a time, so of a long answer the first two such pieces and the last are compared, and the best counts.

Where a threshold is given, the opening of an answer is compared first. What it puts well above the threshold is kept
without reading on; everything else, and so whatever is refused, is read as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from if_factory.embedding import chosen_model, embed
from if_factory.usefulness.asked import Asked
from if_factory.usefulness.language import language_of
from if_factory.usefulness.strip import without_required
from if_factory.usefulness.words import words

_CHUNK = 180  # words; all-MiniLM-L6-v2 reads 256 word pieces
# Words of an answer that are compared first, and how far above the threshold they must put it. Chosen on the
# calibration split of data/usefulness_labels.jsonl, for all-MiniLM-L6-v2; the table is in docs/usefulness.md.
OPENING = 18
MARGIN = 0.10
_KEPT = 20_000  # vectors held at a time: 30 MB at 384 dimensions
_FENCE = re.compile(r"```[\w-]*\n?|```")
_OPEN_REQUEST = re.compile(
    r"\b(?:why|how (?!many|much|old|long|far|tall|often|big|do you (?:say|spell|write))|explain|describe|"
    r"compare|write|tell|story|"
    r"poem|plan|tips|ideas|differ|summar|what (?:happens|causes|should|can|could|might|makes?|do|does))\b")
_LETTERS = re.compile(r"[^\W\d_]")


@dataclass(frozen=True, slots=True)
class Score:
    """``value``: the cosine, rounded to 3 places. ``opening``: of the request and the answer's opening only."""

    value: float
    opening: bool = False


@dataclass(frozen=True, slots=True)
class _Pair:
    """Pieces of a request and of an answer; ``opening`` is empty where the answer is no longer than that."""

    request: list[str]
    answer: list[str]
    opening: str = ""


class Relevance:
    """Similarity of requests and answers by one model; every text is embedded once while it is in memory."""

    def __init__(self, model: str | None = None) -> None:
        self.model = chosen_model(model)
        self._openings = model is None  # the margin was measured with the packaged model only
        self._vectors: dict[str, Any] = {}
        self._one_at_a_time = Lock()

    def scores(self, items: Sequence[tuple[Asked, str]], threshold: float | None = None) -> list[Score | None]:
        """How near each request and answer are; ``None`` where the model has no say.

        Rounding makes a score independent of what else was embedded with the text.

        Args:
            threshold: what the scores will be compared with; an opening that is ``MARGIN`` above it decides alone.
                ``None`` reads every answer as a whole.
        """
        pairs = [self._pair(asked, response) for asked, response in items]
        found: list[Score | None] = [None] * len(pairs)
        with self._one_at_a_time:  # a run's stages ask from several threads
            if threshold is not None and self._openings:
                short = [(i, pair) for i, pair in enumerate(pairs) if pair and pair.opening]
                self._embed(text for _, pair in short for text in (*pair.request, pair.opening))
                for i, pair in short:
                    score = self._best(pair.request, [pair.opening])
                    if score >= threshold + MARGIN:
                        found[i] = Score(score, opening=True)
            whole = [(i, pair) for i, pair in enumerate(pairs) if pair and found[i] is None]
            self._embed(text for _, pair in whole for text in (*pair.request, *pair.answer))
            for i, pair in whole:
                found[i] = Score(self._best(pair.request, pair.answer))
        return found

    def _pair(self, asked: Asked, response: str) -> _Pair | None:
        """What to compare, or ``None``: abstain."""
        if any(c.type == "language:response_language" for c in asked.constraints):
            return None
        answer = prose_of(without_required(response, asked.required))
        if not _english(asked.language) or not _english(language_of(answer[:600])) or not _readable(answer):
            return None
        if len(words(answer)) <= 3 and (asked.closed or not _OPEN_REQUEST.search(asked.request.lower())):
            return None  # a name, a label, a yes: right or wrong, its words are not the question's
        parts = answer.lower().split(None, OPENING)
        opening = " ".join(parts[:OPENING]) if len(parts) > OPENING else ""
        return _Pair(_chunks(asked.topic)[:2], _chunks(answer), opening)

    def _embed(self, texts: Iterable[str]) -> None:
        wanted = set(texts)
        new = sorted(wanted - self._vectors.keys())
        if not new:
            return
        if len(self._vectors) + len(new) > _KEPT:
            self._vectors = {text: v for text, v in self._vectors.items() if text in wanted}
        self._vectors.update(zip(new, embed(new, self.model, device="cpu"), strict=True))

    def _best(self, request: list[str], answer: list[str]) -> float:
        return round(max(float(self._vectors[a] @ self._vectors[b]) for a in request for b in answer), 3)


def _english(language: str | None) -> bool:
    """Or not known to be another one: the default model reads English only."""
    return language in (None, "en")


def prose_of(text: str) -> str:
    """What can be read as sentences: the values of a JSON document, the text of a fenced block, else the text."""
    bare = _FENCE.sub(" ", text).strip() if "```" in text else text.strip()
    if bare[:1] in ("{", "["):
        try:
            return " ".join(_strings(json.loads(bare)))
        except (ValueError, RecursionError):
            return bare
    return bare


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, part in value.items() for text in (str(key), *_strings(part))]
    if isinstance(value, list):
        return [text for part in value for text in _strings(part)]
    return [str(value)]


def _readable(text: str) -> bool:
    """At least two in three characters are letters: no table of numbers, no program."""
    marks = len(text) - text.count(" ") - text.count("\n")
    return marks > 0 and 3 * len(_LETTERS.findall(text[:2000])) >= 2 * min(marks, 2000)


def _chunks(text: str) -> list[str]:
    """The text in lower case in pieces of at most ``_CHUNK`` words: the first two and the last."""
    parts = text.lower().split()
    pieces = [" ".join(parts[i:i + _CHUNK]) for i in range(0, len(parts), _CHUNK)]
    if len(pieces) > 3:
        pieces = [*pieces[:2], " ".join(parts[-_CHUNK:])]
    return pieces or [""]
