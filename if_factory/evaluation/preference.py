"""Suri's p(preference | prompt) (arXiv 2406.19371): shown a response, the instruction it follows and the corrupted one,
does a model say which of the two it was written for?

The question names the instructions 1 and 2 and is asked in both orders. Nothing is generated: the log-probabilities
of the two digits as the first token of the answer decide. As in the paper an item is right only if both orders
are, so that a model which prefers a place is right in none; equal log-probabilities are wrong.

Ranking accuracy (``ranking.py``) asks what a model would write, this asks what it recognises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import exp
from pathlib import Path
from typing import Any

from if_factory.errors import UserError
from if_factory.evaluation.ranking import Contest, accuracy_change, by_setting, plain, setting_name
from if_factory.evaluation.score import LogProb, Pair, Scorer
from if_factory.evaluation.stats import Difference, Mean, Rate, average, wilson
from if_factory.judge.judge import mark_for
from if_factory.prompts import load
from if_factory.tables import markdown_table

PROMPTS = Path(__file__).parent / "prompts"

Digits = tuple[Pair, Pair]
"""The question as a prompt with "1", and with "2", as its answer."""


@dataclass(frozen=True, slots=True)
class Orders:
    """Log-probability of the digit of x_w and of x_l, with x_w as instruction 1 and as instruction 2."""

    w_first: tuple[float, float]
    l_first: tuple[float, float]

    @property
    def right(self) -> int:
        """In how many of the two orders x_w is likelier."""
        return sum(w > l for w, l in (self.w_first, self.l_first))  # noqa: E741 the paper's names

    @property
    def probability(self) -> float:
        """Of x_w's digit among the two digits, mean of both orders."""
        return sum(1 / (1 + exp(min(700.0, l - w)))
                   for w, l in (self.w_first, self.l_first)) / 2  # noqa: E741


def questions(found: Sequence[Contest], scorer: Scorer) -> list[tuple[Digits, Digits]]:
    """For each contest the question with x_w first and with x_l first, as token ids.

    The question stands alone: an item's system prompt and earlier turns are in neither order.
    """
    return [(_digits(scorer, c.item.response, c.x_w, c.x_l), _digits(scorer, c.item.response, c.x_l, c.x_w))
            for c in found]


def _digits(scorer: Scorer, response: str, first: str, second: str) -> Digits:
    text = load(PROMPTS, "preference").render(response=response, first=first, second=second,
                                              mark=mark_for(response, first, second))
    (x, one), (_, two) = (scorer.render([{"role": "user", "content": text}], digit) for digit in "12")
    # What a template or a tokenizer puts before the digit is the same in both answers, and no choice.
    same = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), None)
    if same is None:
        raise UserError("the tokenizer writes the digits 1 and 2 alike", where="--preference",
                        fix="leave it out for this model")
    return (x + one[:same], one[same:same + 1]), (x + two[:same], two[same:same + 1])


def orders(scores: Sequence[LogProb]) -> list[Orders]:
    """The scores of ``questions``, four of each contest in their order, put together again."""
    totals = [s.total for s in scores]
    return [Orders((totals[i], totals[i + 1]), (totals[i + 3], totals[i + 2])) for i in range(0, len(totals), 4)]


# ---------------------------------------------------------------- results


@dataclass(frozen=True, slots=True)
class Cell:
    """One model in one setting.

    Attributes:
        accuracy: right in both orders; Wilson's interval.
        one_order: items right in one order only: there the place decided.
        probability: mean over items of the probability of x_w's digit among the two digits; 0.5 is chance.
    """

    accuracy: Rate
    one_order: int
    probability: Mean


@dataclass(frozen=True, slots=True)
class Change:
    """``after`` minus ``before`` on the same items; ``p`` is McNemar's exact two-sided p of the accuracy."""

    before: str
    after: str
    accuracy: Difference
    p: float
    probability: Mean


@dataclass(frozen=True, slots=True)
class Preference:
    """``cells[setting][label]``; ``changes[setting]`` compares every two models, the earlier label first."""

    labels: tuple[str, ...]
    cells: dict[str, dict[str, Cell]]
    changes: dict[str, list[Change]]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"settings": {setting: {label: plain(asdict(cell)) for label, cell in by_label.items()}
                             for setting, by_label in self.cells.items()},
                "changes": {setting: [plain(asdict(change)) for change in all_of]
                            for setting, all_of in self.changes.items()}}


def measure(found: Sequence[Contest], said: Mapping[str, Sequence[Orders]], seed: int = 0) -> Preference:
    """Accuracy and probability per setting and model, and the paired differences of the models.

    Args:
        said: by label, aligned with ``found``.
        seed: of the bootstrap.
    """
    each = by_setting(found, said)
    return Preference(tuple(said),
                      {setting: {label: _cell(o, seed) for label, o in here.items()} for setting, here in each.items()},
                      {setting: [_change(a, b, here[a], here[b], seed) for a, b in combinations(here, 2)]
                       for setting, here in each.items()})


def _cell(found: Sequence[Orders], seed: int) -> Cell:
    return Cell(wilson(sum(o.right == 2 for o in found), len(found)), sum(o.right == 1 for o in found),
                average([o.probability for o in found], seed))


def _change(before: str, after: str, b: Sequence[Orders], a: Sequence[Orders], seed: int) -> Change:
    return Change(before, after, *accuracy_change([o.right == 2 for o in b], [o.right == 2 for o in a], seed),
                  average([y.probability - x.probability for x, y in zip(b, a, strict=True)], seed))


def markdown(result: Preference) -> str:
    """A table of the models in every setting, and one of their differences where there are several models."""
    lines = ["Shown the response and both instructions, share of items for which the model says the true one, by the "
             "log-probabilities of the digits 1 and 2: right means right in both orders. The probability is the true "
             "one's among the two digits, mean of both orders; 0.5 is chance.", ""]
    cells = []
    for setting, by_label in result.cells.items():
        for label, c in by_label.items():
            r = c.accuracy
            cells.append((setting_name(setting), label, f"{r.n:,}",
                          f"{100 * r.value:.1f} % [{100 * r.low:.1f}, {100 * r.high:.1f}]", c.one_order,
                          _mean(c.probability, "")))
    lines += markdown_table(("setting", "model", "items", "right", "right in one order", "probability"), cells,
                            numbers=4)
    if len(result.labels) > 1:
        differences = [
            (setting_name(setting), f"{d.after} − {d.before}",
             f"{100 * d.accuracy.value:+.1f} [{100 * d.accuracy.low:+.1f}, {100 * d.accuracy.high:+.1f}]",
             f"{d.p:.2g}", _mean(d.probability, "+"))
            for setting, changes in result.changes.items() for d in changes]
        lines += ["", *markdown_table(("setting", "difference, same items", "right", "p", "probability"),
                                      differences, numbers=3)]
    return "\n".join(lines) + "\n"


def _mean(m: Mean, sign: str) -> str:
    interval = "" if m.low is None else f" [{m.low:{sign}.3f}, {m.high:{sign}.3f}]"
    return f"{m.value:{sign}.3f}{interval}"
