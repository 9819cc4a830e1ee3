"""Suri's ranking accuracy (arXiv 2406.19371, 5.1): does a model find a response likelier after the instruction it
follows than after a corrupted one?

An item is right in a setting where ``sum_t log p(y_t | x_w) > sum_t log p(y_t | x_l)``: the sum, over every token
of the rendered answer turn. A setting (n, m) puts n of the item's M constraints into both instructions, m of
those in corrupted form into x_l. Which ones is drawn from a seed and written down. A tie is wrong and counted.

Accuracy saturates, so the margin (the difference of the two sums, and of the means per token) is told as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

from if_factory.constraints.join import join as as_in_training
from if_factory.errors import UserError
from if_factory.evaluation.score import LogProb, Pair, ScoreLog, Scorer
from if_factory.evaluation.stats import Difference, Mean, Rate, average, cluster_difference, mcnemar, wilson
from if_factory.files import dump_json, write_atomic, write_jsonl
from if_factory.records import Constraint, Turn, content_id
from if_factory.tables import markdown_table

SETTINGS: dict[str, Callable[[int], tuple[int, int]]] = {
    "M,M": lambda m: (m, m),
    "M,M/2": lambda m: (m, max(1, m // 2)),
    "M,1": lambda m: (m, 1),
    "M/2,M/2": lambda m: (max(1, m // 2), max(1, m // 2)),
    "1,1": lambda m: (1, 1),
}
GIVEN = "as given"  # the one setting of a finished triple

Join = Callable[[str, Sequence[Constraint], Random], str]
"""``(main instruction, constraints, source of the layout) -> instruction``."""


@dataclass(frozen=True, slots=True)
class Triple:
    """One test item: a response, and what is needed to write the instructions it follows and does not follow.

    ``corrupted[i]`` is ``constraints[i]`` turned into what the response violates. ``given`` is (x_w, x_l) of a
    finished triple whose constraints are not known apart.
    """

    id: str
    response: str
    main: str = ""
    constraints: tuple[Constraint, ...] = ()
    corrupted: tuple[Constraint, ...] = ()
    given: tuple[str, str] | None = None
    system: str = ""
    history: tuple[Turn, ...] = ()

    def messages(self, prompt: str) -> list[dict[str, str]]:
        turns = [Turn(role="system", content=self.system)] if self.system else []
        return [{"role": t.role, "content": t.content} for t in (*turns, *self.history,
                                                                 Turn(role="user", content=prompt))]


@dataclass(frozen=True, slots=True)
class Contest:
    """One item in one setting. ``included`` and ``corrupted`` are positions of the item's constraints."""

    item: Triple
    setting: str
    x_w: str
    x_l: str
    included: tuple[int, ...] = ()
    corrupted: tuple[int, ...] = ()


def contests(items: Sequence[Triple], seed: int = 0, join: Join = as_in_training) -> list[Contest]:
    """Every item in every setting that it has, settings together.

    Args:
        seed: draws the constraints and the layout; what is drawn for one item does not depend on the others.
        join: writes an instruction; the default is what the method Suri writes its instructions with.
    """
    drawn = [_drawn(item, setting, seed, join) for setting in SETTINGS for item in items if not item.given]
    return drawn + [Contest(item, GIVEN, *item.given) for item in items if item.given]


def _drawn(item: Triple, setting: str, seed: int, join: Join) -> Contest:
    n, m = SETTINGS[setting](len(item.constraints))
    rng = Random(f"{seed}/{item.id}/{setting}")
    included = sorted(rng.sample(range(len(item.constraints)), n))
    corrupted = sorted(rng.sample(included, m))
    mixed = [(item.corrupted if i in corrupted else item.constraints)[i] for i in included]
    # One layout per item: both sides look alike, and x_w with all constraints is the same in three settings.
    x_w, x_l = (join(item.main, side, Random(f"{seed}/{item.id}"))
                for side in ([item.constraints[i] for i in included], mixed))
    return Contest(item, setting, x_w, x_l, tuple(included), tuple(corrupted))


# ---------------------------------------------------------------- scores


@dataclass(frozen=True, slots=True)
class Scores:
    """The response of one contest after x_w and after x_l."""

    w: LogProb
    l: LogProb  # noqa: E741 x_w and x_l are the paper's names

    @property
    def margin(self) -> float:
        """Nats, over the whole response."""
        return self.w.total - self.l.total

    @property
    def per_token(self) -> float:
        return self.w.mean - self.l.mean


def rendered(found: Sequence[Contest], scorer: Scorer) -> list[tuple[Pair, Pair]]:
    """Token ids of (x_w, y) and (x_l, y), as the model is given them."""
    return [(scorer.render(c.item.messages(c.x_w), c.item.response),
             scorer.render(c.item.messages(c.x_l), c.item.response)) for c in found]


def score(pairs: Sequence[tuple[Pair, Pair]], scorer: Scorer, log: ScoreLog | None = None,
          on_tokens: Callable[[int], object] | None = None) -> list[Scores]:
    """The scores of every contest. Equal pairs (x_w is the same in three settings) are computed once.

    Args:
        log: scores in it are not computed again.
        on_tokens: called with the number of tokens done, to move a progress bar; those not computed included.
    """
    keys = [tuple(content_id(scorer.key, pair) for pair in two) for two in pairs]
    needed = {key: pair for two, names in zip(pairs, keys, strict=True)
              for pair, key in zip(two, names, strict=True)}
    known = {key: s for key in needed if log and (s := log.get(key))}
    done = on_tokens or (lambda n: None)
    done(sum(_tokens(needed[key]) for key in known))
    missing = [key for key in needed if key not in known]
    for i, result in scorer.score([needed[key] for key in missing]):
        known[missing[i]] = result
        if log:
            log.put(missing[i], result)
        done(_tokens(needed[missing[i]]))
    return [Scores(known[after_w], known[after_l]) for after_w, after_l in keys]


def tokens(pairs: Sequence[tuple[Pair, Pair]]) -> int:
    """How many tokens go through a model to score them all; ``on_tokens`` of ``score`` adds up to it."""
    return sum(map(_tokens, {content_id(pair): pair for two in pairs for pair in two}.values()))


def _tokens(pair: Pair) -> int:
    return len(pair[0]) + len(pair[1])


# ---------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class Cell:
    """One model in one setting. ``accuracy`` has Wilson's interval, ``margin`` (nats over the whole response) and
    ``per_token`` are means over items; ``ties`` are among the wrong."""

    accuracy: Rate
    ties: int
    margin: Mean
    per_token: Mean


@dataclass(frozen=True, slots=True)
class Change:
    """``after`` minus ``before`` on the same items; ``p`` is McNemar's exact two-sided p of the accuracy."""

    before: str
    after: str
    accuracy: Difference
    p: float
    margin: Mean


@dataclass(frozen=True, slots=True)
class Ranking:
    """``cells[setting][label]``; ``changes[setting]`` compares every two models, the earlier label first."""

    labels: tuple[str, ...]
    cells: dict[str, dict[str, Cell]]
    changes: dict[str, list[Change]]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"format": 1, "labels": list(self.labels),
                "settings": {setting: {label: _plain(asdict(cell)) for label, cell in by_label.items()}
                             for setting, by_label in self.cells.items()},
                "changes": {setting: [_plain(asdict(change)) for change in all_of]
                            for setting, all_of in self.changes.items()}}


def measure(found: Sequence[Contest], scores: Mapping[str, Sequence[Scores]], seed: int = 0) -> Ranking:
    """Accuracy and margins per setting and model, and the paired differences of the models.

    Args:
        scores: by label, aligned with ``found``.
        seed: of the bootstrap.
    """
    cells: dict[str, dict[str, Cell]] = {}
    changes: dict[str, list[Change]] = {}
    for setting in dict.fromkeys(c.setting for c in found):
        here = {label: [s for s, c in zip(all_of, found, strict=True) if c.setting == setting]
                for label, all_of in scores.items()}
        cells[setting] = {label: _cell(s, seed) for label, s in here.items()}
        changes[setting] = [_change(a, b, here[a], here[b], seed) for a, b in combinations(here, 2)]
    return Ranking(tuple(scores), cells, changes)


def _cell(scores: Sequence[Scores], seed: int) -> Cell:
    return Cell(wilson(sum(s.margin > 0 for s in scores), len(scores)), sum(s.margin == 0 for s in scores),
                average([s.margin for s in scores], seed), average([s.per_token for s in scores], seed))


def _change(before: str, after: str, b: Sequence[Scores], a: Sequence[Scores], seed: int) -> Change:
    right_b, right_a = [int(s.margin > 0) for s in b], [int(s.margin > 0) for s in a]
    gained = sum(y > x for x, y in zip(right_b, right_a, strict=True))
    lost = sum(y < x for x, y in zip(right_b, right_a, strict=True))
    return Change(before, after, cluster_difference(right_b, right_a, [1] * len(b), seed), mcnemar(lost, gained),
                  average([y.margin - x.margin for x, y in zip(b, a, strict=True)], seed))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        shown = {k: _plain(v) for k, v in value.items()}
        return {"value": round(value["passed"] / value["n"], 6), **shown} if "passed" in value else shown
    return round(value, 6) if isinstance(value, float) else value


# ---------------------------------------------------------------- all of it


def rank(items: Sequence[Triple], models: Mapping[str, Callable[[], Scorer]], out: Path, *,
         max_tokens: int | None = None, seed: int = 0, join: Join = as_in_training,
         watch: Callable[[str, int], AbstractContextManager[Any]] | None = None) -> Ranking:
    """Score with each model in turn and write ``ranking.json``, ``ranking.md`` and ``ranking.jsonl`` (every
    contest: which constraints, what scores). ``scored.jsonl`` is what a killed run continues from.

    Args:
        models: by label; opened one after the other. The same tokenizer and template are expected of all.
        out: folder; the results in it are replaced.
        max_tokens: an item with a longer instruction and response is left out, in all settings, and counted;
            default: what the first model has positions for.
        watch: ``(label, tokens to score)`` -> a progress bar: a context manager with ``update(tokens done)``.

    Raises:
        UserError: there is no item, or none that fits; whatever a model raises when it is opened.
    """
    if not items:
        raise UserError("there is no item to rank")
    found, too_long = contests(items, seed, join), set[str]()
    log, scores = ScoreLog(out / "scored.jsonl"), dict[str, list[Scores]]()
    try:
        for label, opened in models.items():
            scorer = opened()
            try:
                pairs = rendered(found, scorer)
                if not scores:  # the first model
                    limit = min(max_tokens or scorer.longest, scorer.longest)
                    too_long = {c.item.id for c, two in zip(found, pairs, strict=True)
                                if max(map(_tokens, two)) > limit}
                    if len(too_long) == len(items):
                        raise UserError(f"every item is longer than {limit} tokens", fix="raise --max-tokens, or "
                                        "use a model with more positions")
                    fits = [c.item.id not in too_long for c in found]
                    pairs = [p for p, ok in zip(pairs, fits, strict=True) if ok]
                    found = [c for c, ok in zip(found, fits, strict=True) if ok]
                with watch(label, tokens(pairs)) if watch else nullcontext() as bar:
                    scores[label] = score(pairs, scorer, log, bar.update if bar else None)
            finally:
                scorer.close()
    finally:
        log.close()
    result = measure(found, scores, seed)
    facts = {"items": len(items) - len(too_long), "too_long": len(too_long), "seed": seed}
    write_jsonl(out / "ranking.jsonl", _rows(found, scores))
    write_atomic(out / "ranking.json", dump_json({**result.as_dict(), **facts}, indent=1) + "\n")
    write_atomic(out / "ranking.md", markdown(result, too_long=len(too_long)))
    return result


def _rows(found: Sequence[Contest], scores: Mapping[str, Sequence[Scores]]) -> Iterator[dict[str, Any]]:
    for i, c in enumerate(found):
        yield {"id": c.item.id, "setting": c.setting, "included": list(c.included), "corrupted": list(c.corrupted),
               "tokens": next(iter(scores.values()))[i].w.tokens,
               "log_probs": {label: {"x_w": s[i].w.total, "x_l": s[i].l.total} for label, s in scores.items()}}


def markdown(result: Ranking, *, too_long: int = 0) -> str:
    """A table of the models in every setting, and one of their differences where there are several models."""
    lines = ["Share of items whose response is likelier after the true instruction than after the corrupted one; "
             "(n, m): n constraints included, m of them corrupted. Margins are in nats; 95 % intervals.", ""]
    cells = []
    for setting, by_label in result.cells.items():
        for label, c in by_label.items():
            r = c.accuracy
            share = f"{100 * r.value:.1f} % [{100 * r.low:.1f}, {100 * r.high:.1f}]"
            cells.append((_shown(setting), label, f"{r.n:,}", share, c.ties, _mean(c.margin, 2),
                          _mean(c.per_token, 4)))
    lines += markdown_table(("setting", "model", "items", "accuracy", "ties", "mean margin", "per token"), cells,
                            numbers=5)
    if len(result.labels) > 1:
        differences = []
        for setting, changes in result.changes.items():
            for d in changes:
                a = d.accuracy
                differences.append((
                    _shown(setting), f"{d.after} − {d.before}",
                    f"{100 * a.value:+.1f} [{100 * a.low:+.1f}, {100 * a.high:+.1f}]", f"{d.p:.2g}",
                    _mean(d.margin, 2)))
        lines += ["", *markdown_table(("setting", "difference, same items", "accuracy", "p", "mean margin"),
                                      differences, numbers=3)]
    if too_long:
        lines += ["", f"Items left out because they are too long: {too_long}."]
    return "\n".join(lines) + "\n"


def _shown(setting: str) -> str:
    return setting if setting == GIVEN else f"({setting})".replace(",", ", ")


def _mean(m: Mean, digits: int) -> str:
    interval = "" if m.low is None else f" [{m.low:+.{digits}f}, {m.high:+.{digits}f}]"
    return f"{m.value:+.{digits}f}{interval}"
