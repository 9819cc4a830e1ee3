"""What `if-factory rank` does: score every item with every model in turn, and write what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from if_factory.constraints.join import join as as_in_training
from if_factory.errors import UserError
from if_factory.evaluation import preference as asking
from if_factory.evaluation.preference import Orders, Preference
from if_factory.evaluation.ranking import (
    Contest,
    Join,
    Ranking,
    Scores,
    Triple,
    contests,
    length,
    markdown,
    measure,
    rendered,
    score_all,
    tokens,
)
from if_factory.evaluation.score import Pair, ScoreLog, Scorer
from if_factory.files import dump_json, write_atomic, write_jsonl


@dataclass(frozen=True, slots=True)
class Ranked(Ranking):
    """A ranking, and which instruction the models say a response was written for; ``None``: they were not asked."""

    preference: Preference | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        asked = {"preference": self.preference.as_dict()} if self.preference else {}
        return {**Ranking.as_dict(self), **asked}


def rank(items: Sequence[Triple], models: Mapping[str, Callable[[], Scorer]], out: Path, *,
         max_tokens: int | None = None, seed: int = 0, preference: bool = False, join: Join = as_in_training,
         watch: Callable[[str, int], AbstractContextManager[Any]] | None = None) -> Ranked:
    """Score with each model in turn and write ``ranking.json``, ``ranking.md`` and ``ranking.jsonl`` (every
    contest: which constraints, what scores). ``scored.jsonl`` is what a killed run continues from.

    Args:
        models: by label; opened one after the other. The same tokenizer and template are expected of all.
        out: folder; the results in it are replaced.
        max_tokens: an item with a longer instruction and response (with ``preference``: response and both
            instructions) is left out, in all settings, and counted; default: what the first model has positions for.
        preference: also ask every model which of the two instructions the response was written for.
        watch: ``(label, tokens to score)`` -> a progress bar: a context manager with ``update(tokens done)``.

    Raises:
        UserError: there is no item, or none that fits; whatever a model raises when it is opened.
    """
    if not items:
        raise UserError("there is no item to rank")
    found, too_long = contests(items, seed, join), set[str]()
    log, scores, said = ScoreLog(out / "scored.jsonl"), dict[str, list[Scores]](), dict[str, list[Orders]]()
    try:
        for label, opened in models.items():
            scorer = opened()
            try:
                pairs = _pairs(found, scorer, preference)
                if not scores:  # the first model
                    limit = min(max_tokens or scorer.longest, scorer.longest)
                    too_long = {c.item.id for c, of in zip(found, pairs, strict=True) if max(map(length, of)) > limit}
                    if len(too_long) == len(items):
                        raise UserError(f"every item is longer than {limit} tokens", fix="raise --max-tokens, or "
                                        "use a model with more positions")
                    fits = [c.item.id not in too_long for c in found]
                    pairs = [p for p, ok in zip(pairs, fits, strict=True) if ok]
                    found = [c for c, ok in zip(found, fits, strict=True) if ok]
                with watch(label, tokens(pairs)) if watch else nullcontext() as bar:
                    totals = score_all(pairs, scorer, log, bar.update if bar else None)
                scores[label] = [Scores(*of[:2]) for of in totals]
                if preference:
                    said[label] = asking.orders([t for of in totals for t in of[2:]])
            finally:
                scorer.close()
    finally:
        log.close()
    measured = measure(found, scores, seed)
    result = Ranked(measured.labels, measured.cells, measured.changes,
                    asking.measure(found, said, seed) if preference else None)
    facts = {"items": len(items) - len(too_long), "too_long": len(too_long), "seed": seed}
    write_jsonl(out / "ranking.jsonl", _rows(found, scores, said))
    write_atomic(out / "ranking.json", dump_json({**result.as_dict(), **facts}, indent=1) + "\n")
    write_atomic(out / "ranking.md", markdown(result, too_long=len(too_long))
                 + ("\n" + asking.markdown(result.preference) if result.preference else ""))
    return result


def _pairs(found: Sequence[Contest], scorer: Scorer, preference: bool) -> list[tuple[Pair, ...]]:
    """All that is scored of each contest: the response after x_w and x_l, and the digits of both orders."""
    ranked = rendered(found, scorer)
    if not preference:
        return list(ranked)
    return [(*two, *(pair for digits in asked for pair in digits))
            for two, asked in zip(ranked, asking.questions(found, scorer), strict=True)]


def _rows(found: Sequence[Contest], scores: Mapping[str, Sequence[Scores]],
          said: Mapping[str, Sequence[Orders]]) -> Iterator[dict[str, Any]]:
    for i, c in enumerate(found):
        row = {"id": c.item.id, "setting": c.setting, "included": list(c.included), "corrupted": list(c.corrupted),
               "tokens": next(iter(scores.values()))[i].w.tokens,
               "log_probs": {label: {"x_w": s[i].w.total, "x_l": s[i].l.total} for label, s in scores.items()}}
        if said:
            row["digits"] = {label: {order: dict(zip(("x_w", "x_l"), getattr(o[i], order), strict=True))
                                     for order in ("w_first", "l_first")} for label, o in said.items()}
        yield row
