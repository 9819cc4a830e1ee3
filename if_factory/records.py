"""What flows through the factory: constraints, verdicts, candidates, records, and the examples that leave it.

One record type goes from seed to emitted row and its fields are never renamed on the way. The emission
rule lives here and nowhere else: the only way to obtain an ``SFTExample``, ``PreferenceExample``, ``KTOExample``
or ``TripleExample`` is a function of this module that refuses, with a reason, whatever was not checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["code", "generated_code", "judge"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Constraint(_Frozen):
    """One thing a response must satisfy.

    ``type`` is IFEval's instruction id where IFEval has one (``keywords:existence``), so rows interoperate
    with IFEval, IFBench and Tulu data. ``kind`` says who decides: a checker, generated code, or a judge.
    """

    type: str
    kwargs: dict[str, Any] = Field(default_factory=dict)
    text: str = ""
    kind: Kind = "code"


class Outcome(StrEnum):
    """``NO_VERDICT`` is neither: a checker that crashed makes no answer good and no answer bad."""

    PASS = "pass"
    FAIL = "fail"
    NO_VERDICT = "no_verdict"


class Verdict(_Frozen):
    """The outcome of one constraint on one response. Verdicts are aligned with constraints by position."""

    outcome: Outcome
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome is Outcome.PASS

    @property
    def failed(self) -> bool:
        return self.outcome is Outcome.FAIL


class Candidate(_Frozen):
    """One response to a record's prompt, where it came from, and what was found out about it.

    ``source`` is the method's name for how it was made (``vanilla``, ``generation``, ``discrimination``...).
    ``verdicts[i]`` belongs to ``record.constraints[i]``. ``finish_reason`` is the server's: an answer cut by
    ``length`` has no end and is never something to learn from.
    """

    text: str
    source: str
    model: str = ""
    finish_reason: str = "stop"
    verdicts: tuple[Verdict, ...] = ()

    @property
    def verified(self) -> bool:
        """Every constraint was decided and every decision is a pass."""
        return all(v.passed for v in self.verdicts)

    @property
    def failed_positions(self) -> tuple[int, ...]:
        return tuple(i for i, v in enumerate(self.verdicts) if v.failed)


class Turn(_Frozen):
    role: Literal["system", "user", "assistant"]
    content: str


def content_id(*parts: Any) -> str:
    """A 16-hex-digit hash of JSON-able parts: the same content has the same id in every run."""
    blob = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(blob.encode(), digest_size=8).hexdigest()


class Record(_Frozen):
    """Everything known about one prompt, from seed to emission.

    ``prompt`` is exactly what is sent to a model and what is emitted as the training prompt; ``seed_prompt``
    is what the user supplied. ``history`` holds earlier user/assistant turns. ``difficulty`` is what the
    method calls hard (for *From Complex to Simple*, the number of constraints).
    """

    id: str
    parent: str | None = None
    method: str = ""
    seed_prompt: str
    prompt: str
    system: str = ""
    history: tuple[Turn, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    difficulty: float = 0
    extra: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def from_seed(cls, prompt: str, *, system: str = "", history: Sequence[Turn] = (), method: str = "",
                  extra: dict[str, Any] | None = None) -> Record:
        return cls(id=content_id(prompt, system, [t.model_dump() for t in history]), method=method,
                   seed_prompt=prompt, prompt=prompt, system=system, history=tuple(history), extra=extra or {})

    def child(self, prompt: str, constraints: Sequence[Constraint], difficulty: float) -> Record:
        """A new record made from this one: new prompt and constraints, no candidates yet."""
        key = content_id(self.id, prompt, [c.model_dump() for c in constraints])
        return self.model_copy(update={"id": key, "parent": self.id, "prompt": prompt, "candidates": (),
                                       "constraints": tuple(constraints), "difficulty": difficulty})

    def with_candidates(self, *candidates: Candidate) -> Record:
        return self.model_copy(update={"candidates": self.candidates + candidates})

    def messages(self) -> list[dict[str, str]]:
        """The chat sent to a model: system, history, prompt."""
        turns = [Turn(role="system", content=self.system)] if self.system else []
        turns += [*self.history, Turn(role="user", content=self.prompt)]
        return [{"role": t.role, "content": t.content} for t in turns]


# ---------------------------------------------------------------- what leaves the factory


class Refusal(_Frozen):
    """Why an example was not emitted; counted in the ledger under ``reason``."""

    reason: str


class Example(_Frozen):
    """What every emitted row carries beside its texts. ``provenance`` goes to the sidecar file."""

    record_id: str
    prompt: str
    system: str = ""
    history: tuple[Turn, ...] = ()
    difficulty: float = 0
    constraints: tuple[Constraint, ...] = ()
    provenance: dict[str, Any] = Field(default_factory=dict)


class SFTExample(Example):
    response: str


class PreferenceExample(Example):
    """``violated`` names the positions of the constraints that ``rejected`` fails.

    It is empty only where ``rejected`` fails none and lost a recorded comparison: ``provenance["lost"]`` says why.
    """

    chosen: str
    rejected: str
    violated: tuple[int, ...]


class KTOExample(Example):
    response: str
    label: bool


class TripleExample(Example):
    """An I-ORPO triple (x_w, x_l, y): ``response`` follows ``prompt`` and does not follow ``prompt_rejected``.

    ``corrupted`` names the positions of the constraints that ``prompt_rejected`` holds in corrupted form.
    """

    response: str
    prompt_rejected: str
    corrupted: tuple[int, ...]


def _common(record: Record, **provenance: Any) -> dict[str, Any]:
    return {"record_id": record.id, "prompt": record.prompt, "system": record.system, "history": record.history,
            "difficulty": record.difficulty, "constraints": record.constraints,
            "provenance": {"method": record.method, "parent": record.parent, "seed_prompt": record.seed_prompt,
                           **record.extra, **provenance}}


def _said(candidate: Candidate) -> list[dict[str, Any]]:
    return [v.model_dump(mode="json") for v in candidate.verdicts]


def _why_not_good(record: Record, candidate: Candidate) -> str | None:
    if not candidate.text.strip():
        # reasoning and nothing after it: another fault than silence, and another cure
        return candidate.finish_reason if "thinking" in candidate.finish_reason else "empty_response"
    if len(candidate.verdicts) != len(record.constraints):
        return "not_checked"
    if any(v.failed for v in candidate.verdicts):
        return "fails_a_constraint"
    if candidate.finish_reason != "stop":
        return "truncated"
    return None if candidate.verified else "no_verdict"


def _why_not_bad(record: Record, candidate: Candidate) -> str | None:
    if not candidate.text.strip():
        return "empty_response"
    if len(candidate.verdicts) != len(record.constraints):
        return "not_checked"
    return None if candidate.failed_positions else "rejected_fails_nothing"


def emit_sft(record: Record, candidate: Candidate) -> SFTExample | Refusal:
    """An SFT row, if the response passes every constraint; else the reason why not."""
    if why := _why_not_good(record, candidate):
        return Refusal(reason=why)
    return SFTExample(response=candidate.text, **_common(record, source=candidate.source, model=candidate.model,
                                                         verdicts=_said(candidate)))


def emit_preference(record: Record, chosen: Candidate, rejected: Candidate, *,
                    lost: Verdict | None = None) -> PreferenceExample | Refusal:
    """A preference pair: ``chosen`` passes everything, ``rejected`` fails at least one named constraint.

    Args:
        lost: for methods that compare: the verdict that ``rejected`` is worse than ``chosen``. A fail stands in
            for a named constraint where ``rejected`` fails none; anything else changes nothing.
    """
    beaten = lost is not None and lost.failed
    why = _why_not_good(record, chosen) or _why_not_bad(record, rejected)
    if why and not (beaten and why == "rejected_fails_nothing"):
        return Refusal(reason=why)
    if chosen.text.strip() == rejected.text.strip():
        return Refusal(reason="chosen_equals_rejected")
    return PreferenceExample(
        chosen=chosen.text, rejected=rejected.text, violated=rejected.failed_positions,
        **_common(record, chosen_source=chosen.source, chosen_model=chosen.model,
                  rejected_source=rejected.source, rejected_model=rejected.model,
                  chosen_verdicts=_said(chosen), rejected_verdicts=_said(rejected),
                  violated=[record.constraints[i].type for i in rejected.failed_positions],
                  **({"lost": lost.reason} if lost is not None and beaten else {})))


def emit_kto(record: Record, candidate: Candidate) -> KTOExample | Refusal:
    """A KTO row: desirable if everything passes, undesirable if a named constraint fails, else refused."""
    good = _why_not_good(record, candidate)
    if good is not None and (why := _why_not_bad(record, candidate)):
        return Refusal(reason=good if why == "rejected_fails_nothing" else why)
    return KTOExample(response=candidate.text, label=good is None,
                      **_common(record, source=candidate.source, model=candidate.model, verdicts=_said(candidate),
                                violated=[record.constraints[i].type for i in candidate.failed_positions]))


def emit_triple(record: Record, candidate: Candidate, prompt_rejected: str,
                corrupted: Mapping[int, Verdict]) -> TripleExample | Refusal:
    """An I-ORPO triple: the response passes every constraint of the record and fails every corrupted one.

    Args:
        prompt_rejected: the record's prompt with some constraints corrupted.
        corrupted: position of each corrupted constraint -> verdict of the response on its corrupted form.
    """
    if why := _why_not_good(record, candidate):
        return Refusal(reason=why)
    if not corrupted or prompt_rejected.strip() == record.prompt.strip():
        return Refusal(reason="nothing_corrupted")
    if any(v.passed for v in corrupted.values()):
        return Refusal(reason="follows_the_corrupted_constraint")
    if not all(v.failed for v in corrupted.values()):
        return Refusal(reason="no_verdict")
    return TripleExample(
        response=candidate.text, prompt_rejected=prompt_rejected, corrupted=tuple(sorted(corrupted)),
        **_common(record, source=candidate.source, model=candidate.model, verdicts=_said(candidate),
                  corrupted_verdicts=[corrupted[i].model_dump(mode="json") for i in sorted(corrupted)],
                  corrupted=[record.constraints[i].type for i in sorted(corrupted)]))
