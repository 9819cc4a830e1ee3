"""What a record of From Complex to Simple gives as SFT, DPO and KTO rows."""

from __future__ import annotations

from if_factory.emission import emit_kto, emit_preference, emit_sft, nearest_first
from if_factory.methods.base import Emission, refuse_useless
from if_factory.methods.complex_to_simple.options import Options
from if_factory.records import Candidate, Record


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """SFT: the best verified answers. DPO: a verified answer over one that fails. KTO: some of both.

    Chosen answers are taken in the paper's order of trust: a student's answer that needed nothing, then one that
    rules or the teacher corrected, then the teacher's own.
    """
    trust = {"vanilla": 0, "edited": 1, "discrimination": 2, "generation": 3}
    candidates = list({c.text: c for c in reversed(record.candidates)}.values())[::-1]
    whole = [c for c in candidates if c.finish_reason == "stop"]
    passing = sorted((c for c in whole if c.verified and c.source in trust), key=lambda c: trust[c.source])
    good = [c for c in passing if c.useful]
    bad = [c for c in whole if c.failed_positions]
    if passing and not good:
        refuse_useless(record, passing[0], out)
    elif not good:
        why = "truncated" if any(c.verified for c in candidates) else "no_verified_answer"
        out.refused["sft"][why] += 1
        out.refused["dpo"][why] += 1

    corrected = [c for c in good if c.source != "vanilla"]
    for c in (good if options.sft_uncorrected else corrected)[: options.sft_per_prompt]:
        out.add(emit_sft(record, c), "sft")
    if good and not (options.sft_uncorrected or corrected):
        out.refused["sft"]["needed_no_correction"] += 1

    failing = bad if options.rejected_from == "all" else _corrected_drafts(record)
    rejected = [c for c in failing if c.may_be_rejected]
    if good and not rejected:
        out.refused["dpo"]["rejected_does_not_attempt" if failing else "nothing_to_reject"] += 1
    for i in range(min(options.pairs_per_prompt, len(rejected)) if good else 0):
        chosen = good[i % len(good)]
        rejected = nearest_first(rejected, chosen)
        out.add(emit_preference(record, chosen, rejected.pop(0)), "dpo")

    undesirable = sorted(bad, key=lambda c: (not c.may_be_rejected, len(c.failed_positions)))
    for c in [*good[: options.kto_per_prompt], *undesirable[: options.kto_per_prompt]]:
        out.add(emit_kto(record, c), "kto")


def _corrected_drafts(record: Record) -> list[Candidate]:
    """The texts each accepted correction started from: upstream's ``reject`` sides."""
    if not any(c.source == "discrimination" for c in record.candidates):
        return []
    drafts = [c for c in record.candidates if c.source == "vanilla"]
    start = min(drafts, key=lambda c: len(c.failed_positions))
    chain = [start, *(c for c in record.candidates if c.source == "discrimination")]
    return [c for c in chain if c.failed_positions]
