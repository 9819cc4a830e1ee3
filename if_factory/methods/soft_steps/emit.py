"""What a step of Step-by-Step Mastery gives as DPO, SFT and KTO rows."""

from __future__ import annotations

from if_factory.emission import emit_kto, emit_preference, emit_sft
from if_factory.methods.base import Emission
from if_factory.methods.soft_steps.options import Options
from if_factory.records import Outcome, Record, Verdict


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """DPO: the step's winner over its loser. SFT: the answer carried on. KTO: what passes, and what fails."""
    judgement, k, steps = (record.extra[key] for key in ("judgement", "k", "steps"))
    pair = record.candidates[:2]
    for reason in record.extra["missing"]:
        out.refused["dpo"][reason] += 1

    if judgement["winner"] is None:
        out.refused["dpo"][judgement["reason"]] += 1
    else:
        chosen, rejected = pair[judgement["winner"]], pair[1 - judgement["winner"]]
        lost = Verdict(outcome=Outcome.FAIL, reason="judged worse in both orders") \
            if judgement["by"] == "judge" else None
        out.add(emit_preference(record, chosen, rejected, lost=lost,
                                perfect=options.winner == "verified"), "dpo")

    if options.sft == "last" and k < steps:
        out.refused["sft"]["not_the_last_step"] += 1
    else:
        out.add(emit_sft(record, pair[judgement["carried"]]), "sft")

    for candidate in {c.text: c for c in record.candidates}.values():
        beaten = judgement["winner"] is not None and candidate.text == pair[1 - judgement["winner"]].text
        if beaten and candidate.verified:  # worse than another, yet nothing is wrong with it
            out.refused["kto"]["beaten_but_fails_nothing"] += 1
        else:
            out.add(emit_kto(record, candidate), "kto")
