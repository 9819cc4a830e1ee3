"""What a pair of Humpback gives as SFT and KTO rows."""

from __future__ import annotations

from if_factory.emission import emit_kto, emit_sft
from if_factory.methods.base import Emission
from if_factory.methods.humpback.options import Options
from if_factory.methods.humpback.steps import REVERSE
from if_factory.records import Candidate, Record, Usefulness


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """``sft``: seed pairs under S_a and A_k under S_w. ``sft_backward``: what a backward model learns. ``kto``."""
    pair = record.candidates[0]
    if record.extra["form"] == "seed":
        out.add(emit_sft(record.model_copy(update={"system": options.system_seed.strip()}), pair), "sft")
        # A text's instruction shares its words by nature: it is no answer, so no rule for answers is put to it.
        instruction = Candidate(text=record.prompt, source="human", usefulness=Usefulness(answers=True))
        out.add(emit_sft(reversed_pair(record), instruction), "sft_backward")
        return
    mined = record.model_copy(update={"system": options.system_web.strip()})
    if pair.verified:
        out.add(emit_sft(mined, pair), "sft")
    else:
        out.refused["sft"]["below_threshold"] += 1
    if pair.verified or record.extra["score"] <= options.kto_below:
        out.add(emit_kto(mined, pair), "kto")


def reversed_pair(record: Record) -> Record:
    """The pair as the backward model sees it: the response is the prompt."""
    return record.model_copy(update={"prompt": record.candidates[0].text, "system": REVERSE})
