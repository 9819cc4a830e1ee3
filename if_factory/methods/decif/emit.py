"""What a record of DecIF gives as SFT, DPO and KTO rows."""

from __future__ import annotations

from math import ceil

from if_factory.emission import emit_kto, emit_preference, emit_sft, nearest_first
from if_factory.methods.base import Emission, refuse_useless
from if_factory.methods.decif.options import Options
from if_factory.methods.decif.weaving import APPENDED
from if_factory.records import Candidate, Constraint, Outcome, Record, Verdict

SHARE = "judge:share"


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """SFT: responses that pass the filter. DPO: one of them over one that fails. KTO: some of both."""
    # Not rows that were refused, but the account is kept in the same place.
    if not options.small and (appended := record.extra.get("stated", []).count(APPENDED)):
        out.refused["constraints"]["appended_not_woven"] += appended
    if unworded := len(record.extra.get("unworded", [])):
        out.refused["constraints"]["never_worded"] += unworded
    for what, n in record.extra.get("criteria", {}).items():
        out.refused["constraints"][what] += n
    if options.filter == "soft":
        record = softened(record, options.soft_pass)
    candidates = list({c.text: c for c in reversed(record.candidates)}.values())[::-1]
    whole = [c for c in candidates if c.text and c.finish_reason == "stop"]
    passing = [c for c in whole if c.verified]
    good = [c for c in passing if c.useful]
    bad = sorted((c for c in whole if c.failed_positions),
                 key=lambda c: (not c.may_be_rejected, len(c.failed_positions)))
    rejected = [c for c in bad if c.may_be_rejected]
    if not good and (useless := next((c for c in whole if not c.useful and not c.failed_positions), None)):
        refuse_useless(record, useless, out)
    elif not good:
        why = _why_none(candidates, whole)
        out.refused["sft"][why] += 1
        out.refused["dpo"][why] += 1
    elif not rejected:
        out.refused["dpo"]["rejected_does_not_attempt" if bad else "nothing_to_reject"] += 1
    for c in good[:options.sft_per_instruction]:
        out.add(emit_sft(record, c), "sft")
    for i in range(min(options.pairs_per_instruction, len(rejected)) if good else 0):
        chosen = good[i % len(good)]
        rejected = nearest_first(rejected, chosen)
        out.add(emit_preference(record, chosen, rejected.pop(0)), "dpo")
    for c in [*good[:options.kto_per_instruction], *bad[:options.kto_per_instruction]]:
        out.add(emit_kto(record, c), "kto")


def _why_none(candidates: list[Candidate], whole: list[Candidate]) -> str:
    if any(not c.failed_positions for c in whole):
        return "no_verdict"
    return "truncated" if len(whole) < len(candidates) else "no_verified_answer"


def softened(record: Record, share: float) -> Record:
    """The record as the soft filter sees it: instead of every criterion, that ``share`` of them hold.

    The row then says no more than was found out. A criterion without a verdict leaves the share without one.
    """
    judged = [i for i, c in enumerate(record.constraints) if c.kind == "judge"]
    if not judged:
        return record
    needed = ceil(share * len(judged) - 1e-9)
    texts = [record.constraints[i].text for i in judged]
    whole = Constraint(type=SHARE, kind="judge", text=f"At least {needed} of these {len(judged)} hold.",
                       kwargs={"at_least": needed, "of": texts})

    def candidate(c: Candidate) -> Candidate:
        own = [v for i, v in enumerate(c.verdicts) if i not in judged]
        found = [c.verdicts[i] for i in judged if i < len(c.verdicts)]
        held = sum(v.passed for v in found)
        decided = len(found) == len(judged) and all(v.passed or v.failed for v in found)
        outcome = Outcome.NO_VERDICT if not decided else Outcome.PASS if held >= needed else Outcome.FAIL
        return c.model_copy(update={
            "verdicts": (*own, Verdict(outcome=outcome, reason=f"{held} of {len(judged)} hold"))})

    own = [c for i, c in enumerate(record.constraints) if i not in judged]
    return record.model_copy(update={"constraints": (*own, whole),
                                     "candidates": tuple(map(candidate, record.candidates))})
