"""Constraint pass rate before and after: strict and loose, per prompt and per constraint, paired.

Given prompts with constraints and the answers of one or more models to the *same* prompts, this says how much
better the later models are and how sure that is. What comes first, answers that are satisfied and useful, is in
``headline.py``. It does not generate (``generate.py``) and does not choose
prompts (``suites.py``).

Levels are IFEval's (arXiv 2311.07911, section 3): *prompt* counts a prompt whose every constraint passes,
*instruction* counts constraints. ``no_verdict`` stays in the denominator, never counts as a pass, and is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from if_factory.constraints.verify import Mode, verify
from if_factory.errors import UserError
from if_factory.evaluation import headline as first_of_all
from if_factory.evaluation.headline import Headline
from if_factory.evaluation.stats import Difference, Rate, cluster_difference, cluster_rate, mcnemar, wilson
from if_factory.records import Constraint, Outcome, Turn, Usefulness, Verdict
from if_factory.tables import markdown_table

MODES: tuple[Mode, ...] = ("strict", "loose")


@dataclass(frozen=True, slots=True)
class Item:
    """One evaluation prompt. ``prompt`` is sent as it is; its constraints are what the answer is checked for.

    ``request`` is the prompt without its constraints, where it is known. ``not_checkable`` holds the types of the
    row's constraints that are not registered here: they are in no rate.
    """

    id: str
    prompt: str
    constraints: tuple[Constraint, ...]
    system: str = ""
    history: tuple[Turn, ...] = ()
    request: str | None = None
    not_checkable: tuple[str, ...] = ()

    def messages(self) -> list[dict[str, str]]:
        turns = [Turn(role="system", content=self.system)] if self.system else []
        turns += [*self.history, Turn(role="user", content=self.prompt)]
        return [{"role": t.role, "content": t.content} for t in turns]

    def under(self, system: str) -> Item:
        """The item as it is asked under this system prompt; one of its own stays."""
        return replace(self, system=self.system or system)


Responses = Mapping[str, str | None]
"""Item id to answer; ``None`` where the model gave none (then every constraint has no verdict)."""

Judged = Mapping[str, Mapping[int, Verdict]]
"""Item id to a judge's verdicts by position of the constraint; they replace what code could not decide."""

Verdicts = list[tuple[Verdict, ...]]
"""``verdicts[i][j]`` is constraint ``j`` of item ``i``."""


@dataclass(frozen=True, slots=True)
class PassRate:
    prompt: Rate
    instruction: Rate
    no_verdict: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired on the same prompts. ``gained``/``lost`` count prompts that pass only after/only before;
    ``p`` is McNemar's exact two-sided p on them."""

    prompt: Difference
    instruction: Difference
    gained: int
    lost: int
    p: float


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured. The first of ``labels`` is what the others are compared with.

    ``rates[label][mode]``, ``comparisons[label][mode]`` (no entry for the first label),
    ``by_type[mode][type][label]`` and ``by_family[mode][family][label]`` count constraints (a family is the part
    of a type before the colon), ``by_difficulty[mode][number of constraints][label]`` whole prompts.
    ``headline`` is ``None`` where nobody decided which answers are useful. ``not_checkable`` counts the prompts'
    constraints of unknown types, which are in none of the other figures.
    """

    labels: tuple[str, ...]
    prompts: int
    constraints: int
    rates: dict[str, dict[str, PassRate]]
    comparisons: dict[str, dict[str, Comparison]]
    by_type: dict[str, dict[str, dict[str, Rate]]]
    by_family: dict[str, dict[str, dict[str, Rate]]]
    by_difficulty: dict[str, dict[int, dict[str, Rate]]]
    headline: Headline | None = None
    not_checkable: dict[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON; every rate carries its ``value`` beside the counts."""
        return {"format": 2, **_plain(self)}


def check_all(items: Sequence[Item], responses: Responses, mode: Mode = "strict", *,
              ifeval_compat: bool = False, judged: Judged | None = None) -> Verdicts:
    """The verdicts of every answer; ``judged`` has those that a judge gave.

    Raises:
        UserError: an item without constraints (it would pass untested), without an answer, or used twice.
    """
    if twice := [i for i, k in Counter(item.id for item in items).items() if k > 1]:
        raise UserError(f"{len(twice)} item ids are used more than once", where=f"item {twice[0]}",
                        fix="give every prompt its own id")
    verdicts: Verdicts = []
    for item in items:
        if not item.constraints:
            raise UserError("a prompt without constraints cannot be scored", where=f"item {item.id}")
        if item.id not in responses:
            raise UserError("no response for this prompt", where=f"item {item.id}",
                            fix="compare answers to the same prompts; a failed request is null, not left out")
        text = responses[item.id]
        if text is None:
            verdicts.append((Verdict(outcome=Outcome.NO_VERDICT, reason="no response"),) * len(item.constraints))
        else:
            found = list(verify(text, item.constraints, mode, ifeval_compat=ifeval_compat))
            for position, verdict in (judged or {}).get(item.id, {}).items():
                found[position] = verdict
            verdicts.append(tuple(found))
    return verdicts


def pass_rate(verdicts: Verdicts, seed: int = 0) -> PassRate:
    """Share of prompts with every constraint passed (Wilson) and share of constraints (bootstrap by prompt)."""
    return PassRate(prompt=wilson(sum(_prompt_passes(verdicts)), len(verdicts)),
                    instruction=cluster_rate(_constraint_passes(verdicts), [len(v) for v in verdicts], seed),
                    no_verdict=sum(v.outcome is Outcome.NO_VERDICT for row in verdicts for v in row))


def compare(before: Verdicts, after: Verdicts, seed: int = 0) -> Comparison:
    """The paired difference of two models' verdicts on the same items in the same order."""
    b, a = _prompt_passes(before), _prompt_passes(after)
    gained = sum(y > x for x, y in zip(b, a, strict=True))
    lost = sum(y < x for x, y in zip(b, a, strict=True))
    return Comparison(
        prompt=cluster_difference(b, a, [1] * len(b), seed),
        instruction=cluster_difference(_constraint_passes(before), _constraint_passes(after),
                                       [len(v) for v in before], seed),
        gained=gained, lost=lost, p=mcnemar(lost, gained))


def per_type(items: Sequence[Item], verdicts: Mapping[str, Verdicts], *,
             families: bool = False) -> dict[str, dict[str, Rate]]:
    """``{type or family: {label: Rate}}``, most frequent first."""
    def group(c: Constraint) -> str:
        return c.type.partition(":")[0] if families else c.type

    n = Counter(group(c) for item in items for c in item.constraints)
    passed: dict[str, Counter[str]] = {label: Counter() for label in verdicts}
    for label, rows in verdicts.items():
        for item, row in zip(items, rows, strict=True):
            passed[label].update(group(c) for c, v in zip(item.constraints, row, strict=True) if v.passed)
    order = sorted(n, key=lambda t: (-n[t], t))
    return {t: {label: wilson(passed[label][t], n[t]) for label in verdicts} for t in order}


def per_difficulty(items: Sequence[Item], verdicts: Mapping[str, Verdicts]) -> dict[int, dict[str, Rate]]:
    """``{number of constraints: {label: Rate of whole prompts}}``, fewest first."""
    levels = [len(item.constraints) for item in items]
    passes = {label: _prompt_passes(rows) for label, rows in verdicts.items()}
    return {level: {label: wilson(sum(p for p, x in zip(passes[label], levels, strict=True) if x == level),
                                  levels.count(level)) for label in verdicts}
            for level in sorted(set(levels))}


def measure(items: Sequence[Item], responses: Mapping[str, Responses], *, seed: int = 0,
            ifeval_compat: bool = False, useful: Mapping[str, Mapping[str, Usefulness]] | None = None,
            trained: Collection[str] | None = None, judged: Mapping[str, Judged] | None = None) -> Results:
    """Score several models' answers to the same items.

    Args:
        responses: ``{label: {item id: answer}}``; the first label is the reference (``before``).
        seed: of the bootstrap; the same input gives the same intervals.
        ifeval_compat: decide as the reference checkers do, see ``verify``.
        useful: ``{label: {item id: does the answer attempt the request}}``; gives the headline.
        trained: the constraint types that training rows had; ``None`` is unknown.
        judged: ``{label: {item id: {position: verdict}}}`` of constraints that a judge decided.

    Raises:
        UserError: no items, an item without constraints or answer, scipy missing.
    """
    if not items:
        raise UserError("there is no prompt to evaluate")
    labels = tuple(responses)
    verdicts = {mode: {label: check_all(items, answers, mode, ifeval_compat=ifeval_compat,
                                        judged=(judged or {}).get(label))
                       for label, answers in responses.items()} for mode in MODES}
    summary = None if useful is None else first_of_all.headline(
        [i.constraints for i in items], verdicts["strict"],
        {k: [v[i.id] for i in items] for k, v in responses.items()},
        {k: [useful[k].get(i.id) for i in items] for k in labels}, trained, seed)
    return Results(
        headline=summary, labels=labels, prompts=len(items), constraints=sum(len(i.constraints) for i in items),
        rates={label: {m: pass_rate(verdicts[m][label], seed) for m in MODES} for label in labels},
        comparisons={label: {m: compare(verdicts[m][labels[0]], verdicts[m][label], seed) for m in MODES}
                     for label in labels[1:]},
        by_type={m: per_type(items, verdicts[m]) for m in MODES},
        by_family={m: per_type(items, verdicts[m], families=True) for m in MODES},
        by_difficulty={m: per_difficulty(items, verdicts[m]) for m in MODES},
        not_checkable=dict(sorted(Counter(name for i in items for name in i.not_checkable).items())))


def markdown(results: Results) -> str:
    """The before/after tables, ready to paste: what is satisfied and useful, levels, then types (strict)."""
    first, *others = results.labels
    lines = [f"{results.prompts} held-out prompts, {results.constraints} constraints; 95 % intervals; "
             "differences are paired on the same prompts.", ""]
    if results.headline:
        lines += [*first_of_all.markdown(results.headline, results.labels).splitlines(), ""]
    rows = []
    for mode in MODES:
        for level in ("prompt", "instruction"):
            rates = [getattr(results.rates[label][mode], level) for label in results.labels]
            changes = [getattr(results.comparisons[o][mode], level) for o in others]
            # McNemar needs independent pairs: prompts are, the constraints of one prompt are not.
            p = [f"{results.comparisons[o][mode].p:.2g}" if level == "prompt" else "" for o in others]
            rows.append((f"{level}, {mode}", *map(_rate, rates), *map(_change, changes), *p))
    lines += markdown_table(("level", *results.labels, *(f"{o} − {first}" for o in others),
                             *(f"p ({o})" for o in others)), rows)
    head = ["n", *results.labels, *(f"{o} − {first}" for o in others)]
    for title, table in (("constraints in the prompt (strict, whole prompts)", results.by_difficulty["strict"]),
                         ("constraint type (strict)", results.by_type["strict"])):
        lines += ["", *markdown_table((title, *head), (
            (name, cells[first].n, *(f"{100 * cells[label].value:.0f}" for label in results.labels),
             *(f"{100 * (cells[o].value - cells[first].value):+.0f}" for o in others))
            for name, cells in table.items()))]
    unknown = {label: results.rates[label]["strict"].no_verdict for label in results.labels}
    lines += ["", "Without a verdict (counted, never as a pass): "
              + ", ".join(f"{label} {k}" for label, k in unknown.items()) + "."]
    if results.not_checkable:
        lines.append("Not checkable (unknown types, in no rate): "
                     + ", ".join(f"{name} {n}" for name, n in results.not_checkable.items()) + ".")
    return "\n".join(lines) + "\n"



def _rate(rate: Rate) -> str:
    return (f"{100 * rate.value:.1f} % ({rate.passed}/{rate.n}) "
            f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]")


def _change(change: Difference) -> str:
    return f"{100 * change.value:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"


def _prompt_passes(verdicts: Verdicts) -> list[int]:
    return [int(all(v.passed for v in row)) for row in verdicts]


def _constraint_passes(verdicts: Verdicts) -> list[int]:
    return [sum(v.passed for v in row) for row in verdicts]


def _plain(value: Any) -> Any:
    if isinstance(value, Headline):
        return value.as_dict()
    if isinstance(value, Rate):
        return {"value": round(value.value, 6), **{k: round(v, 6) for k, v in asdict(value).items()}}
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (Results, PassRate, Comparison, Difference)):
        return {k: _plain(getattr(value, k)) for k in value.__dataclass_fields__}
    if isinstance(value, tuple):
        return list(value)
    return round(value, 6) if isinstance(value, float) else value
