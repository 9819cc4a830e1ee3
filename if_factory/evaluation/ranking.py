"""Suri's ranking accuracy (arXiv 2406.19371, 5.1): does a model find a response likelier after the instruction it
follows than after a corrupted one?

An item is right in a setting where ``sum_t log p(y_t | x_w) > sum_t log p(y_t | x_l)``: the sum, over every token
of the rendered answer turn. A setting (n, m) puts n of the item's M constraints into both instructions, m of
those in corrupted form into x_l. Which ones is drawn from a seed and written down. A tie is wrong and counted.

Accuracy saturates, so the margin (the difference of the two sums, and of the means per token) is told as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from random import Random
from typing import Any, TypeVar

from if_factory.constraints.join import join as as_in_training
from if_factory.evaluation.score import LogProb, Pair, ScoreLog, Scorer
from if_factory.evaluation.stats import Difference, Mean, Rate, average, cluster_difference, mcnemar, wilson
from if_factory.records import Constraint, Turn, content_id
from if_factory.tables import markdown_table

SETTINGS: dict[str, Callable[[int], tuple[int, int]]] = {
    "M,M": lambda m: (m, m),
    "M,M/2": lambda m: (m, max(1, m // 2)),
    "M,1": lambda m: (m, 1),
    "M/2,M/2": lambda m: (max(1, m // 2), max(1, m // 2)),
    "1,1": lambda m: (1, 1),
}
T = TypeVar("T")
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
    """The scores of every contest; see ``score_all``."""
    return [Scores(*of) for of in score_all(pairs, scorer, log, on_tokens)]


def score_all(groups: Sequence[tuple[Pair, ...]], scorer: Scorer, log: ScoreLog | None = None,
              on_tokens: Callable[[int], object] | None = None) -> list[tuple[LogProb, ...]]:
    """The score of every pair, grouped as given. Equal pairs (x_w is the same in three settings) are computed once.

    Args:
        log: scores in it are not computed again.
        on_tokens: called with the number of tokens done, to move a progress bar; those not computed included.
    """
    keys = [tuple(content_id(scorer.key, pair) for pair in group) for group in groups]
    needed = {key: pair for group, names in zip(groups, keys, strict=True)
              for pair, key in zip(group, names, strict=True)}
    known = {key: s for key in needed if log and (s := log.get(key))}
    done = on_tokens or (lambda n: None)
    done(sum(length(needed[key]) for key in known))
    missing = [key for key in needed if key not in known]
    for i, result in scorer.score([needed[key] for key in missing]):
        known[missing[i]] = result
        if log:
            log.put(missing[i], result)
        done(length(needed[missing[i]]))
    return [tuple(known[key] for key in names) for names in keys]


def tokens(groups: Sequence[tuple[Pair, ...]]) -> int:
    """How many tokens there are to score; ``on_tokens`` of ``score_all`` adds up to it."""
    return sum(map(length, {content_id(pair): pair for group in groups for pair in group}.values()))


def length(pair: Pair) -> int:
    """Tokens of the prompt and the response together."""
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
                "settings": {setting: {label: plain(asdict(cell)) for label, cell in by_label.items()}
                             for setting, by_label in self.cells.items()},
                "changes": {setting: [plain(asdict(change)) for change in all_of]
                            for setting, all_of in self.changes.items()}}


def measure(found: Sequence[Contest], scores: Mapping[str, Sequence[Scores]], seed: int = 0) -> Ranking:
    """Accuracy and margins per setting and model, and the paired differences of the models.

    Args:
        scores: by label, aligned with ``found``.
        seed: of the bootstrap.
    """
    each = by_setting(found, scores)
    return Ranking(tuple(scores),
                   {setting: {label: _cell(s, seed) for label, s in here.items()} for setting, here in each.items()},
                   {setting: [_change(a, b, here[a], here[b], seed) for a, b in combinations(here, 2)]
                    for setting, here in each.items()})


def by_setting(found: Sequence[Contest], said: Mapping[str, Sequence[T]]) -> dict[str, dict[str, list[T]]]:
    """What was found of each contest, by setting and then by label; each sequence of ``said`` is aligned with
    ``found``."""
    return {setting: {label: [s for s, c in zip(all_of, found, strict=True) if c.setting == setting]
                      for label, all_of in said.items()}
            for setting in dict.fromkeys(c.setting for c in found)}


def accuracy_change(before: Sequence[bool], after: Sequence[bool], seed: int) -> tuple[Difference, float]:
    """The difference of two models' accuracy on the same items, and McNemar's exact two-sided p of it."""
    gained = sum(y > x for x, y in zip(before, after, strict=True))
    lost = sum(y < x for x, y in zip(before, after, strict=True))
    difference = cluster_difference(list(map(int, before)), list(map(int, after)), [1] * len(before), seed)
    return difference, mcnemar(lost, gained)


def _cell(scores: Sequence[Scores], seed: int) -> Cell:
    return Cell(wilson(sum(s.margin > 0 for s in scores), len(scores)), sum(s.margin == 0 for s in scores),
                average([s.margin for s in scores], seed), average([s.per_token for s in scores], seed))


def _change(before: str, after: str, b: Sequence[Scores], a: Sequence[Scores], seed: int) -> Change:
    return Change(before, after, *accuracy_change([s.margin > 0 for s in b], [s.margin > 0 for s in a], seed),
                  average([y.margin - x.margin for x, y in zip(b, a, strict=True)], seed))


def plain(value: Any) -> Any:
    """Results as plain JSON: six digits, and the value of every rate beside its counts."""
    if isinstance(value, dict):
        shown = {k: plain(v) for k, v in value.items()}
        return {"value": round(value["passed"] / value["n"], 6), **shown} if "passed" in value else shown
    return round(value, 6) if isinstance(value, float) else value


def markdown(result: Ranking, *, too_long: int = 0) -> str:
    """A table of the models in every setting, and one of their differences where there are several models."""
    lines = ["Share of items whose response is likelier after the true instruction than after the corrupted one; "
             "(n, m): n constraints included, m of them corrupted. Margins are in nats; 95 % intervals.", ""]
    cells = []
    for setting, by_label in result.cells.items():
        for label, c in by_label.items():
            r = c.accuracy
            share = f"{100 * r.value:.1f} % [{100 * r.low:.1f}, {100 * r.high:.1f}]"
            cells.append((setting_name(setting), label, f"{r.n:,}", share, c.ties, _mean(c.margin, 2),
                          _mean(c.per_token, 4)))
    lines += markdown_table(("setting", "model", "items", "accuracy", "ties", "mean margin", "per token"), cells,
                            numbers=5)
    if len(result.labels) > 1:
        differences = []
        for setting, changes in result.changes.items():
            for d in changes:
                a = d.accuracy
                differences.append((
                    setting_name(setting), f"{d.after} − {d.before}",
                    f"{100 * a.value:+.1f} [{100 * a.low:+.1f}, {100 * a.high:+.1f}]", f"{d.p:.2g}",
                    _mean(d.margin, 2)))
        lines += ["", *markdown_table(("setting", "difference, same items", "accuracy", "p", "mean margin"),
                                      differences, numbers=3)]
    if too_long:
        lines += ["", f"Items left out because they are too long: {too_long}."]
    return "\n".join(lines) + "\n"


def setting_name(setting: str) -> str:
    """A setting as tables show it: ``(M, 1)``."""
    return setting if setting == GIVEN else f"({setting})".replace(",", ", ")


def _mean(m: Mean, digits: int) -> str:
    interval = "" if m.low is None else f" [{m.low:+.{digits}f}, {m.high:+.{digits}f}]"
    return f"{m.value:+.{digits}f}{interval}"
