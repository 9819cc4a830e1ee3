"""What a record of Conifer gives as SFT, DPO and KTO rows."""

from __future__ import annotations

from if_factory.emission import emit_kto, emit_preference, emit_sft, nearest_first
from if_factory.methods.base import Emission, template
from if_factory.methods.conifer.answers import fails, good, is_hardest
from if_factory.methods.conifer.options import NAME, Options
from if_factory.records import Candidate, Record, Turn


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """Conversations as ``sft``, process feedback as ``sft_internal`` and ``sft_external`` (or with ``_masked``);
    ``dpo`` and ``kto`` set what failed at the hardest version, the student's attempts and the teacher's answers,
    against the verified answer."""
    verified = good(record)
    if not verified:
        if useless := next((c for c in record.candidates if c.verified and not c.useful), None):
            out.add(emit_sft(record, useless), "sft")
        else:
            out.refused["sft"]["no_verified_answer"] += 1
        return
    if record.extra["form"] == "internal":
        out.add(emit_sft(record, verified[0]), "sft_internal")
        return
    if "turn_of" in record.extra:
        out.refused["sft"]["turn_of_a_conversation"] += 1
    elif "answer_of_another_level" in record.extra:
        out.refused["sft"]["answer_of_another_level"] += 1
    else:
        out.add(emit_sft(record, verified[0]), "sft")
    if not is_hardest(record, options):
        return
    alone = record.model_copy(update={"history": ()})
    failing = [c for c in record.candidates if fails(c)]
    for weak in nearest_first(failing, verified[0]):
        out.add(emit_preference(alone, verified[0], weak), "dpo")
    for candidate in [verified[0], *failing] if failing else []:
        out.add(emit_kto(alone, candidate), "kto")
    if options.feedback in ("both", "external") and any(c.source == "baseline" for c in record.candidates):
        _emit_external(alone, verified[0], options, out)


def _emit_external(record: Record, good: Candidate, options: Options, out: Emission) -> None:
    dataset = "sft_external" if options.external == "folded" else "sft_external_masked"
    feedback = record.extra.get("feedback")
    if feedback is None:
        out.refused[dataset]["no_failing_attempt"] += 1
    elif not feedback:
        out.refused[dataset]["feedback_unread"] += 1
    else:
        weak = record.candidates[record.extra["attempt"]]
        if weak.text == good.text:
            out.refused[dataset]["revision_equals_attempt"] += 1
        else:
            out.add(emit_sft(_revision(record, weak, feedback, options), good), dataset)


def _revision(record: Record, weak: Candidate, feedback: str, options: Options) -> Record:
    """The record as the last turn of: instruction, weak attempt, what is wrong with it."""
    if options.external == "folded":
        prompt = template(NAME, "revise", options.prompts).render(instruction=record.prompt, response=weak.text,
                                                                 feedback=feedback)
        return record.model_copy(update={"prompt": prompt.strip()})
    turns = (Turn(role="user", content=record.prompt), Turn(role="assistant", content=weak.text))
    return record.model_copy(update={"history": turns, "prompt": f"{feedback}\n\nPlease write a revised version."})
