"""The emission rule: the only way from a record to a training example.

A function of this module refuses, with a reason that is counted, whatever was not checked, whatever does not hold,
and whatever satisfies its constraints without attempting the request (``usefulness``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from if_factory.records import (
    Candidate,
    KTOExample,
    PreferenceExample,
    Record,
    Refusal,
    SFTExample,
    TripleExample,
    Usefulness,
    Verdict,
)
from if_factory.usefulness.gate import by_rules, first_useless_turn


def _common(record: Record, **provenance: Any) -> dict[str, Any]:
    return {"record_id": record.id, "prompt": record.prompt, "system": record.system, "history": record.history,
            "difficulty": record.difficulty, "constraints": record.constraints,
            "provenance": {"method": record.method, "parent": record.parent, "seed_prompt": record.seed_prompt,
                           **record.extra, **provenance}}


def _said(candidate: Candidate) -> list[dict[str, Any]]:
    return [v.model_dump(mode="json") for v in candidate.verdicts]


def _useful(record: Record, candidate: Candidate) -> Usefulness:
    """What was found out, or what the rules say where no gate was asked: every emitted text was decided about."""
    if candidate.usefulness is not None:
        return candidate.usefulness
    return by_rules(record, candidate)


def _not_useful(record: Record, candidate: Candidate) -> Refusal | None:
    """Why the response does not attempt the request, or one before it in the conversation."""
    found = _useful(record, candidate)
    if found.answers is not True:
        return Refusal(reason=found.reason if found.answers is False else "usefulness_undecided",
                       asked=record.prompt, text=candidate.text)
    if (earlier := first_useless_turn(record)) is not None:
        reason, prompt, response = earlier
        return Refusal(reason=reason, asked=prompt, text=response)
    return None


def _usefulness_of(record: Record, candidate: Candidate) -> dict[str, Any]:
    return _useful(record, candidate).model_dump(mode="json", exclude_defaults=True, exclude={"excused"})


def _words(text: str) -> int:
    return len(text.split())


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


def _whole_and_decided(candidate: Candidate) -> bool:
    return candidate.finish_reason == "stop" and all(v.passed or v.failed for v in candidate.verdicts)


def _why_not_bad(record: Record, candidate: Candidate) -> str | None:
    if not candidate.text.strip():
        return "empty_response"
    if len(candidate.verdicts) != len(record.constraints):
        return "not_checked"
    return None if candidate.failed_positions else "rejected_fails_nothing"


def emit_sft(record: Record, candidate: Candidate) -> SFTExample | Refusal:
    """An SFT row, if the response passes every constraint and attempts the request; else the reason why not."""
    if why := _why_not_good(record, candidate):
        return Refusal(reason=why)
    if useless := _not_useful(record, candidate):
        return useless
    return SFTExample(response=candidate.text, **_common(
        record, source=candidate.source, model=candidate.model, verdicts=_said(candidate),
        usefulness=_usefulness_of(record, candidate)))


def emit_preference(record: Record, chosen: Candidate, rejected: Candidate, *,
                    lost: Verdict | None = None, perfect: bool = True) -> PreferenceExample | Refusal:
    """A preference pair: ``chosen`` passes everything, ``rejected`` fails at least one named constraint.

    Both attempt the request: a pair is about the constraint. Where ``rejected`` does not, the refusal's reason is
    ``rejected_`` and why, unless its usefulness is excused (the recipe's ``rejected_attempts: false``).

    Args:
        lost: for methods that compare: the verdict that ``rejected`` is worse than ``chosen``. A fail stands in
            for a named constraint where ``rejected`` fails none; anything else changes nothing.
        perfect: ``False`` lets ``chosen`` fail constraints if every one of them was decided, and either the
            comparison says that ``rejected`` is worse, or ``rejected`` fails the same ones and more. The row's
            provenance names them (``chosen_violated``).
    """
    beaten = lost is not None and lost.failed
    why = _why_not_good(record, chosen)
    if why == "fails_a_constraint" and not perfect and _whole_and_decided(chosen) \
            and (beaten or set(chosen.failed_positions) < set(rejected.failed_positions)):
        why = None
    why = why or _why_not_bad(record, rejected)
    if why and not (beaten and why == "rejected_fails_nothing"):
        return Refusal(reason=why)
    if chosen.text.strip() == rejected.text.strip():
        return Refusal(reason="chosen_equals_rejected")
    if useless := _not_useful(record, chosen):
        return useless
    worse = _useful(record, rejected)
    if worse.answers is False and not worse.excused:
        return Refusal(reason=f"rejected_{worse.reason}", asked=record.prompt, text=rejected.text)
    return PreferenceExample(
        chosen=chosen.text, rejected=rejected.text, violated=rejected.failed_positions,
        **_common(record, chosen_source=chosen.source, chosen_model=chosen.model,
                  rejected_source=rejected.source, rejected_model=rejected.model,
                  chosen_verdicts=_said(chosen), rejected_verdicts=_said(rejected),
                  chosen_usefulness=_usefulness_of(record, chosen),
                  rejected_usefulness=_usefulness_of(record, rejected),
                  chosen_words=_words(chosen.text), rejected_words=_words(rejected.text),
                  violated=[record.constraints[i].type for i in rejected.failed_positions],
                  **({"lost": lost.reason} if lost is not None and beaten else {}),
                  **({"chosen_violated": [record.constraints[i].type for i in chosen.failed_positions]}
                     if chosen.failed_positions else {})))


def emit_kto(record: Record, candidate: Candidate) -> KTOExample | Refusal:
    """A KTO row: desirable if all passes and it is useful, undesirable if a named constraint fails, else refused."""
    good = _why_not_good(record, candidate)
    if good is not None and (why := _why_not_bad(record, candidate)):
        return Refusal(reason=good if why == "rejected_fails_nothing" else why)
    if good is None and (useless := _not_useful(record, candidate)):
        return useless  # neither: it fails no constraint, and is nothing to learn from
    return KTOExample(response=candidate.text, label=good is None,
                      **_common(record, source=candidate.source, model=candidate.model, verdicts=_said(candidate),
                                violated=[record.constraints[i].type for i in candidate.failed_positions],
                                usefulness=_usefulness_of(record, candidate)))


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
    if useless := _not_useful(record, candidate):
        return useless
    return TripleExample(
        response=candidate.text, prompt_rejected=prompt_rejected, corrupted=tuple(sorted(corrupted)),
        **_common(record, source=candidate.source, model=candidate.model, verdicts=_said(candidate),
                  corrupted_verdicts=[corrupted[i].model_dump(mode="json") for i in sorted(corrupted)],
                  corrupted=[record.constraints[i].type for i in sorted(corrupted)],
                  usefulness=_usefulness_of(record, candidate)))


def nearest_first(candidates: Sequence[Candidate], chosen: Candidate) -> list[Candidate]:
    """Candidates for the worse side of a pair, the best first: near ``chosen`` in length, then few violations.

    Lengths within half as much again are alike, then those within two and a half times: a pair should be about the
    constraint, not about length, and among texts of like length the fewest violations say the most about it.
    """
    words = max(_words(chosen.text), 1)

    def distance(candidate: Candidate) -> tuple[int, int, int]:
        other = max(_words(candidate.text), 1)
        ratio = max(words, other) / min(words, other)
        return (0 if ratio <= 1.5 else 1 if ratio <= 2.5 else 2), len(candidate.failed_positions), abs(words - other)

    return sorted(candidates, key=distance)
