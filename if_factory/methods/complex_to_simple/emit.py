"""What a record of From Complex to Simple gives as SFT, DPO and KTO rows."""

from __future__ import annotations

from if_factory.emission import emit_kto, emit_preference, emit_sft
from if_factory.methods.base import Emission
from if_factory.methods.complex_to_simple.options import Options
from if_factory.records import Candidate, Record


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """SFT: the best verified answers. DPO: a verified answer over one that fails. KTO: some of both.

    Chosen answers are taken in the paper's order of trust: a student's answer that needed nothing, then one the
    teacher corrected, then the teacher's own.
    """
    trust = {"vanilla": 0, "discrimination": 1, "generation": 2}
    candidates = list({c.text: c for c in reversed(record.candidates)}.values())[::-1]
    whole = [c for c in candidates if c.finish_reason == "stop"]
    good = sorted((c for c in whole if c.verified and c.source in trust), key=lambda c: trust[c.source])
    bad = [c for c in whole if c.failed_positions]
    if not good:
        why = "truncated" if any(c.verified for c in candidates) else "no_verified_answer"
        out.refused["sft"][why] += 1
        out.refused["dpo"][why] += 1

    corrected = [c for c in good if c.source != "vanilla"]
    for c in (good if options.sft_uncorrected else corrected)[: options.sft_per_prompt]:
        out.add(emit_sft(record, c), "sft")
    if good and not (options.sft_uncorrected or corrected):
        out.refused["sft"]["needed_no_correction"] += 1

    rejected = bad if options.rejected_from == "all" else _corrected_drafts(record)
    if good and not rejected:
        out.refused["dpo"]["nothing_to_reject"] += 1
    for i, worse in enumerate(_nearest_first(rejected)[: options.pairs_per_prompt] if good else []):
        out.add(emit_preference(record, good[i % len(good)], worse), "dpo")

    for c in [*good[: options.kto_per_prompt], *_nearest_first(bad)[: options.kto_per_prompt]]:
        out.add(emit_kto(record, c), "kto")


def _corrected_drafts(record: Record) -> list[Candidate]:
    """The texts each accepted correction started from: upstream's ``reject`` sides."""
    if not any(c.source == "discrimination" for c in record.candidates):
        return []
    drafts = [c for c in record.candidates if c.source == "vanilla"]
    start = min(drafts, key=lambda c: len(c.failed_positions))
    chain = [start, *(c for c in record.candidates if c.source == "discrimination")]
    return [c for c in chain if c.failed_positions]


def _nearest_first(candidates: list[Candidate]) -> list[Candidate]:
    """Fewest violations first: the closer the rejected side, the more a pair says about the constraint."""
    return sorted(candidates, key=lambda c: len(c.failed_positions))
