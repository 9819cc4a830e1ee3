"""What a triple of Suri gives as I-ORPO, SFT and KTO rows."""

from __future__ import annotations

from if_factory.constraints.verify import verify
from if_factory.emission import emit_kto, emit_sft, emit_triple
from if_factory.methods.base import Emission
from if_factory.methods.suri.options import Options
from if_factory.records import Constraint, Record, Verdict


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """The triple, x_w -> y, and the KTO twins, each through the emission rule.

    Constraints that were dropped on the way are counted under ``constraints``, draws that gave no new triple under
    ``iorpo``. ``seed`` is not used: what is random was drawn in the stage ``sample``.
    """
    told = record.extra["told"]
    out.refused["constraints"].update(told.get("dropped", {}))
    out.refused["iorpo"].update(told.get("skipped", {}))
    x_l, is_new = record.extra["prompt_rejected"], record.extra["x_w_is_new"]
    corruptions = [Constraint.model_validate(c) for c in record.extra["corruptions"]]
    stored = [Verdict.model_validate(v) for v in record.extra["corruption_verdicts"]]
    positions: list[int] = record.extra["corrupted_positions"]
    record = record.with_extra(without=("told", "prompt_rejected", "x_w_is_new", "corruption_verdicts",
                                        "corrupted_positions"))
    text = record.candidates[0]
    broken = {i: verify(text.text, [corruptions[i]])[0] if corruptions[i].kind == "code" else stored[i]
              for i in positions}
    if not out.add(emit_triple(record, text, x_l, broken), "iorpo"):
        return
    if options.sft and is_new:
        out.add(emit_sft(record, text), "sft")
    if options.kto:
        mixed = [corruptions[i] if i in broken else c for i, c in enumerate(record.constraints)]
        twin = record.child(x_l, mixed, record.difficulty).with_extra(without=("corruptions", "labels"),
                                                                      surrogate_of="iorpo")
        verdicts = tuple(broken.get(i, v) for i, v in enumerate(text.verdicts))
        if is_new:
            out.add(emit_kto(record, text), "kto_surrogate")
        out.add(emit_kto(twin, text.model_copy(update={"verdicts": verdicts})), "kto_surrogate")
