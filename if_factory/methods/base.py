"""The shape of a method: options with presets, stages, a plan of its calls, and what it emits."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from pydantic import BaseModel

from if_factory.emission import emit_sft
from if_factory.errors import UserError, suggest
from if_factory.methods.training import PresetTraining
from if_factory.pipeline.stage import Stage
from if_factory.prompts import load
from if_factory.records import Candidate, Example, Record, Refusal

SHOWN = 3  # refused texts kept per reason
PROMPT_VARIANT = ("full: the judge quotes and reasons before each verdict; small, for models of about a billion "
                  "parameters or fewer: a verdict and a short reason")
# json_schema_extra of an option that names a file or folder, relative to the recipe
PATH: dict[str, Any] = {"path": True}


@dataclass
class Emission:
    """The examples of a run by dataset, and why everything else stayed inside.

    A dataset's name begins with the stage it is for: ``sft``, ``dpo``, ``kto``, ``iorpo``, or ``sft_external``
    where a method has a second dataset for it. ``out["sft"]`` is a list, ``out.refused["sft"]["truncated"]`` a
    count. With ``keep=False`` examples are only counted; ``take``, if given, gets each with its dataset. ``shown``
    keeps a few texts that do not attempt their request, by reason, and ``deciders`` says who decided that:
    ``rules``, ``relevance``, ``judge``.
    """

    keep: bool = True
    datasets: dict[str, list[Example]] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    refused: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    shown: dict[str, list[Refusal]] = field(default_factory=dict)
    deciders: tuple[str, ...] = ("rules",)
    take: Callable[[str, Example], None] | None = field(default=None, repr=False)

    def __getitem__(self, dataset: str) -> list[Example]:
        return self.datasets.get(dataset, [])

    def add(self, example: Example | Refusal, dataset: str) -> bool:
        """File an example under its dataset, or count its refusal. Returns whether it was emitted."""
        if isinstance(example, Refusal):
            self.refused[dataset][example.reason] += 1
            if example.text:
                self._show(example)
            return False
        self.rows[dataset] += 1
        if self.take:
            self.take(dataset, example)
        if self.keep:
            self.datasets.setdefault(dataset, []).append(example)
        return True

    def _show(self, refusal: Refusal) -> None:
        shown = self.shown.setdefault(refusal.reason, [])
        if len(shown) < SHOWN and refusal not in shown:
            shown.append(refusal)

    def count(self, later: Emission) -> None:
        """Add the counts of records that come after those counted here; examples are not taken over."""
        self.rows.update(later.rows)
        for dataset, reasons in later.refused.items():
            self.refused[dataset].update(reasons)
        for refusals in later.shown.values():
            for refusal in refusals:
                self._show(refusal)
        self.decided_by(later.deciders)

    def decided_by(self, deciders: Iterable[str]) -> None:
        """These, too, decided whether answers attempt their requests."""
        found = {*self.deciders, *deciders}
        self.deciders = tuple(who for who in ("rules", "relevance", "judge") if who in found)

    def usefulness(self) -> dict[str, Any]:
        """Who decided whether answers attempt their requests, and a few that do not, by reason: for the account."""
        return {"decided_by": list(self.deciders),
                "refused": {reason: [{"prompt": r.asked, "response": r.text} for r in refusals]
                            for reason, refusals in sorted(self.shown.items()) if refusals}}

    def counts(self) -> dict[str, dict[str, Any]]:
        """``{"sft": {"rows": n, "refused": {reason: n}}, ...}``, everything sorted by name."""
        return {name: {"rows": self.rows[name], "refused": dict(sorted(self.refused.get(name, {}).items()))}
                for name in sorted({*self.rows, *self.refused})}


def refuse_useless(record: Record, candidate: Candidate, out: Emission) -> None:
    """Count what satisfies every constraint and attempts nothing, under its reason, as no SFT row and no pair."""
    refusal = emit_sft(record, candidate)
    out.add(refusal, "sft")
    if isinstance(refusal, Refusal):
        out.refused["dpo"][refusal.reason] += 1


@dataclass(frozen=True)
class PlannedCalls:
    """What one stage will ask of one role, before anything is asked.

    ``low`` and ``high`` bound the number of requests; ``prompt_tokens`` and ``completion_tokens`` are
    estimates for one request.
    """

    stage: str
    role: str
    low: int
    high: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Method:
    """One method. ``emit`` is a pure function of a finished record, so data can be exported again at any time.

    Attributes:
        roles: role name -> (needed or not, what it is for).
        presets: name -> option values that differ from the defaults.
        stages: the steps, in order, for given options.
        emit: files the examples of one record into an ``Emission``.
        needs: options that do nothing without a role: name -> (role, the value that needs it; ``None`` is any but 0).
        plan: the calls to expect for ``(seed prompts, options, roles present)``.
        difficulty: what "hard" means for this method's rows, for docs and reports.
        inputs: reads the recipe's ``seeds`` where they are not prompts (texts, pairs, instructions):
            ``(file, or None for the shipped one; options; limit)`` -> records.
        bins: the upper difficulty of every curriculum bin but the last, where the method says so (``[3]``: up to
            3 is easy, the rest hard); ``None`` cuts into equal shares.
        separate: datasets that train a model of their own; a curriculum leaves them out unless they are named.
        together: datasets of one kind that a curriculum trains in one stage, the first one's, unless stages are named.
        training: LLaMA-Factory keys that the method's rows need, by stage: ``{"dpo": {"pref_ftx": 1.0}}``.
        preset_training: preset -> the keys, stages and bins its authors train with.
    """

    name: str
    summary: str
    roles: Mapping[str, tuple[bool, str]]
    options: type[BaseModel]
    presets: Mapping[str, Mapping[str, Any]]
    stages: Callable[[Any], list[Stage]]
    emit: Callable[[Record, Any, Emission, int], None]
    plan: Callable[[list[Record], Any, set[str]], list[PlannedCalls]]
    difficulty: str
    needs: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    inputs: Callable[[Path | None, Any, int | None], Iterable[Record]] | None = None
    bins: Callable[[Any], Sequence[float] | None] = lambda options: None
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    separate: Sequence[str] = ()
    together: Sequence[str] = ()
    preset_training: Mapping[str, PresetTraining] = field(default_factory=dict)

    def verifies_history(self, dataset: str) -> bool:
        """Whether the earlier answers of an SFT dataset's conversations were verified like the last one."""
        keys = {**self.training.get("sft", {}), **self.training.get(dataset, {})}
        return keys.get("mask_history", True) is False


def names() -> list[str]:
    """Every method of the package, by file name."""
    from if_factory import methods

    return sorted(m.name for m in pkgutil.iter_modules(methods.__path__) if m.ispkg)


def get_method(name: str) -> Method:
    """The method in ``if_factory/methods/<name>/``; an unknown name is a ``UserError`` with a suggestion."""
    known = names()
    if name not in known:
        raise UserError(f"unknown method '{name}'", where="method",
                        fix=suggest(name, known) or f"one of: {', '.join(known)}")
    method: Method = importlib.import_module(f"if_factory.methods.{name}").METHOD
    return method


@cache  # putting its path together takes longer than most prompts do
def template(method: str, name: str, override: str | None = None) -> jinja2.Template:
    """``<method>/prompts/<name>.jinja``; a file of that name under ``override`` takes its place."""
    return load(Path(__file__).parent / method / "prompts", name, override)
