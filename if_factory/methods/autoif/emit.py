"""What a record of AutoIF gives as SFT, DPO and KTO rows."""

from __future__ import annotations

from random import Random

from if_factory.emission import emit_kto, emit_preference, emit_sft
from if_factory.methods.autoif.cross_validation import holds, pairs
from if_factory.methods.autoif.options import Options
from if_factory.methods.autoif.votes import Voted
from if_factory.methods.base import Emission
from if_factory.records import Record, content_id


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """SFT: answers that pass and serve the query. DPO: answers that pass over some that no function accepts.

    Under the bare instruction the answers are its test cases; they make pairs, and nothing else.
    """
    whole = [(Voted(c, votes), points) for c, votes, points in
             zip(record.candidates, record.extra["votes"], _scores(record), strict=True)
             if c.finish_reason == "stop"]
    verified = [(a, points) for a, points in whole if a.candidate.verified]
    bare = record.extra.get("bare", False)  # asks for nothing but the constraint: there is nothing to attempt
    passing = [(a, points) for a, points in verified if bare or a.candidate.useful]
    serving = [(a, points) for a, points in passing if _serves(points, options)]
    serving.sort(key=lambda each: -(each[1] or 0))
    plain = record.with_extra(without=("votes", "scores", "bare"))

    source = serving if options.chosen_scored and not bare else passing
    good = [a for a, _ in source if a.accepted(options.dpo_positive)]
    bad = [a for a, _ in whole if a.refused() and (bare or a.candidate.may_be_rejected)]
    dataset = "dpo_instruction" if bare and options.dpo_instruction_apart else "dpo"
    if not (good and bad):
        out.refused[dataset]["nothing_to_reject" if good else "nothing_to_choose"] += 1
    for chosen, rejected in pairs(good, bad, Random(content_id(seed, record.id)), options.pairs_per_side):
        both = plain.with_extra(pair_level="instruction" if bare else "query", functions_passed=chosen.votes,
                                functions_passed_rejected=rejected.votes)
        out.add(emit_preference(both, chosen.candidate, rejected.candidate), dataset)
    if bare:
        return

    for a, points in serving[:options.sft_per_prompt]:
        out.add(emit_sft(plain.with_extra(functions_passed=a.votes, score=points), a.candidate), "sft")
    if not passing and verified:
        out.add(emit_sft(plain, verified[0][0].candidate), "sft")
    elif not serving:
        read = any(points is not None for _, points in passing)
        out.refused["sft"]["score_too_low" if read else "score_unread" if passing else "no_answer_passes"] += 1
    for a in [*good[:options.kto_per_prompt], *bad[:options.kto_per_prompt]]:
        out.add(emit_kto(plain.with_extra(functions_passed=a.votes), a.candidate), "kto")


def _scores(record: Record) -> list[float | None]:
    return list(record.extra.get("scores") or [None] * len(record.candidates))


def _serves(points: float | None, options: Options) -> bool:
    return options.quality_score is None or (points is not None and holds(options.quality_score, points))
