"""Step-by-Step Mastery's answers to every step, and the comparison of each with the winner so far."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure
from if_factory.constraints.verify import verify
from if_factory.judge.criteria import judge_criteria
from if_factory.judge.judge import Ask, PairJudgement, judge_of, judge_pair
from if_factory.methods.base import template
from if_factory.methods.soft_steps.constraints import step_prompts
from if_factory.methods.soft_steps.options import NAME, Options
from if_factory.pipeline.stage import Context
from if_factory.records import (
    Candidate,
    Outcome,
    Record,
    Verdict,
)


async def respond(record: Record, ctx: Context, *, options: Options) -> Record:
    """One answer to the seed and one to every I_k; asked again only if code finds a constraint not met."""
    prompts = [record.seed_prompt, *step_prompts(record.seed_prompt, record.constraints)]
    steps = await asyncio.gather(*(_answers(record, prompt, k, ctx, options) for k, prompt in enumerate(prompts)))
    return record.with_candidates(*(c for answers in steps for c in answers))


async def compare(record: Record, ctx: Context, *, options: Options) -> list[Record]:
    """One record per step: the winner so far against the answer to I_k, and what came of it."""
    ask = judge_of(ctx)
    answers = {source: [c for c in record.candidates if c.source == source]
               for source in dict.fromkeys(c.source for c in record.candidates)}
    winner = answers[_source(0)][-1]
    known: _Known = {}
    made = []
    for k, prompt in enumerate(step_prompts(record.seed_prompt, record.constraints), 1):
        *attempts, new = answers[_source(k)]
        step = record.child(prompt, record.constraints[:k], difficulty=k)
        held, new = await asyncio.gather(_decided(step, winner, known, ask, options),
                                         _decided(step, new, known, ask, options))
        held, new = await ctx.useful(step, [held, new])
        outcome = await _comparison(step, held, new, ask, options)
        for i in range(options.rescue_tries if options.winner == "verified" else 0):
            if outcome["reason"] not in ("both_fail_by_code", "both_fail"):
                break
            attempts.append(new)
            answer: Completion = await ctx.chat(options.answers, step.messages(), sample=options.answer_tries + i)
            (new,) = await ctx.useful(step, [await _decided(step, _candidate(answer, k, options), known, ask,
                                                            options)])
            outcome = await _comparison(step, held, new, ask, options)
        failed = [c if c.verdicts else c.model_copy(update={"verdicts": verify(c.text, step.constraints)})
                  for c in attempts]
        step = step.with_candidates(held, new, *failed).with_extra(
            k=k, steps=len(record.constraints), new=step.constraints[-1].type, judgement=outcome)
        if k < len(record.constraints):
            step = step.with_extra(missing=[])  # counted once, with the last step
        made.append(step)
        winner = (held, new)[outcome["carried"]]
    return made


def _source(k: int) -> str:
    return f"step_{k}"


async def _answers(record: Record, prompt: str, k: int, ctx: Context, options: Options) -> list[Candidate]:
    """The attempts at I_k, the one that counts last."""
    ask = record.model_copy(update={"prompt": prompt})
    made: list[Candidate] = []
    for i in range(options.answer_tries):
        answer: Completion = await ctx.chat(options.answers, ask.messages(), sample=i)
        made.append(_candidate(answer, k, options))
        (useful,) = await ctx.useful(ask.model_copy(update={"constraints": record.constraints[:k]}), made[-1:])
        if useful.useful and _sound(made[-1], verify(made[-1].text, record.constraints[:k])):
            break
    return made


def _candidate(answer: Completion, k: int, options: Options) -> Candidate:
    return Candidate(text=answer.text.strip(), source=_source(k), model=options.answers,
                     finish_reason=answer.finish_reason)


def _whole(candidate: Candidate) -> bool:
    return bool(candidate.text) and candidate.finish_reason == "stop"


def _sound(candidate: Candidate, verdicts: Sequence[Verdict]) -> bool:
    """Complete, and without a failure that code can find."""
    return _whole(candidate) and not any(v.failed for v in verdicts)


# Soft verdicts by (text, position): what was decided about an answer is not asked again.
_Known = dict[tuple[str, int], Verdict]


async def _decided(step: Record, candidate: Candidate, known: _Known, ask: Ask, options: Options) -> Candidate:
    """With a verdict per constraint: code first, then the judge.

    The judge is not asked about what fails by code, unless that too can win (``winner: better``).
    """
    verdicts = list(verify(candidate.text, step.constraints))
    soft = [i for i, c in enumerate(step.constraints) if c.kind == "judge"]
    hard = [v for i, v in enumerate(verdicts) if i not in soft]
    unknown = [i for i in soft if (candidate.text, i) not in known]
    undecided = "not asked: the response fails by code"
    if unknown and (_whole(candidate) if options.winner == "better" else _sound(candidate, hard)):
        criteria = [step.constraints[i].text for i in unknown]
        judged = await judge_criteria(ask, _request(step), candidate.text, criteria, tries=options.judge_tries,
                                      prompts=options.prompts, variant=options.prompt_variant)
        if isinstance(judged, Failure):
            undecided = f"judge: {judged.reason}"
        else:
            known.update({(candidate.text, i): v for i, v in zip(unknown, judged, strict=True)})
    for i in soft:
        verdicts[i] = known.get((candidate.text, i), Verdict(outcome=Outcome.NO_VERDICT, reason=undecided))
    return candidate.model_copy(update={"verdicts": tuple(verdicts)})


def _request(step: Record) -> str:
    """What the judge is shown as the request: the prompt, after the conversation that led to it."""
    turns = step.messages()
    return step.prompt if len(turns) == 1 else "\n\n".join(f"{t['role']}: {t['content']}" for t in turns)


async def _comparison(step: Record, held: Candidate, new: Candidate, ask: Ask,
                      options: Options) -> dict[str, Any]:
    """Who wins step k, as provenance: ``winner`` (0 the carried answer, 1 the new one, or ``None``), who decided
    (``by``), ``reason``, the judge's ``orders`` and ``raw`` replies, and which of the two is ``carried`` on."""
    pair = (held, new)
    hard = [i for i, c in enumerate(step.constraints) if c.kind != "judge"]
    sound = [_sound(c, [c.verdicts[i] for i in hard]) for c in pair]
    good = [c.verified and s for c, s in zip(pair, sound, strict=True)]
    # No winner: the better one is carried on, or the older one if they are equal.
    # What does not attempt the request never goes on before what does.
    fewest = min((0, 1), key=lambda i: (not pair[i].useful, not good[i], not sound[i],
                                        len(pair[i].failed_positions)))

    def undecided(reason: str, **more: Any) -> dict[str, Any]:
        return {"winner": None, "by": None, "reason": reason, "carried": fewest, **more}

    if held.text == new.text:
        return undecided("identical")
    if not (held.useful and new.useful):
        return undecided("one_does_not_attempt" if held.useful or new.useful else "neither_attempts")
    if options.winner == "better":
        return await _better(step, pair, ask, options, undecided)
    if sound[0] != sound[1]:
        winner = sound.index(True)
        return {"winner": winner, "by": "code", "reason": "code", "carried": winner}
    if not sound[0]:
        return undecided("both_fail_by_code")
    if not any(good):
        return undecided("both_fail" if all(c.failed_positions for c in pair) else "no_verdict")
    judged = await _ordered(step, pair, ask, options)
    replies = {"orders": list(judged.orders), "raw": list(judged.raw)}
    if judged.winner is None:
        return undecided(judged.reason, **replies)
    winner = "ab".index(judged.winner)
    if not good[winner]:
        return undecided("judge_contradicts_its_verdicts", **replies)
    return {"winner": winner, "by": "judge", "reason": judged.reason, "carried": winner, **replies}


async def _better(step: Record, pair: tuple[Candidate, Candidate], ask: Ask, options: Options,
                  undecided: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The paper's comparison: who follows better wins, and need not be perfect.

    Code decides where one answer fails everything that the other fails by code, and more; else the judge, in both
    orders, who is not believed if by its own verdicts the winner fails all that the loser fails, and more.
    """
    whole = [_whole(c) for c in pair]
    if not any(whole):
        return undecided("both_cut_off")
    hard = {i for i, c in enumerate(step.constraints) if c.kind != "judge"}
    failed = [set(c.failed_positions) for c in pair]
    by_code = [positions & hard for positions in failed]
    if whole[0] != whole[1] or by_code[0] < by_code[1] or by_code[1] < by_code[0]:
        winner = whole.index(True) if whole[0] != whole[1] else int(by_code[1] < by_code[0])
        return {"winner": winner, "by": "code", "reason": "code", "carried": winner}
    judged = await _ordered(step, pair, ask, options)
    replies = {"orders": list(judged.orders), "raw": list(judged.raw)}
    if judged.winner is None:
        return undecided(judged.reason, **replies)
    winner = "ab".index(judged.winner)
    if failed[1 - winner] < failed[winner]:
        return undecided("judge_contradicts_its_verdicts", **replies)
    return {"winner": winner, "by": "judge", "reason": judged.reason, "carried": winner, **replies}


async def _ordered(step: Record, pair: tuple[Candidate, Candidate], ask: Ask, options: Options) -> PairJudgement:
    """The judge's comparison of the two as answers to I_k, told what is new and what code has found out."""
    by_code: dict[tuple[bool, ...], list[str]] = {}
    for i, constraint in enumerate(step.constraints):
        if constraint.kind != "judge":
            by_code.setdefault(tuple(sorted(c.verdicts[i].failed for c in pair)), []).append(constraint.text)
    focus = template(NAME, "focus", options.prompts).render(
        new=step.constraints[-1], soft=[c.text for c in step.constraints[:-1] if c.kind == "judge"],
        checked=by_code.get((False, False), []), one_fails=by_code.get((False, True), []),
        both_fail=by_code.get((True, True), []))
    return await judge_pair(ask, _request(step), pair[0].text, pair[1].text, focus=focus,
                            requirements=[c.text for c in step.constraints if c.kind == "judge"],
                            tries=options.judge_tries, prompts=options.prompts, variant=options.prompt_variant)
