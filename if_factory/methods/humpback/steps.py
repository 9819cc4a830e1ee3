"""Humpback's steps: which texts are used, the instruction written for each (self-augmentation), their ratings
(self-curation)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from if_factory.constraints.text import sentences
from if_factory.inputs.documents import why_not
from if_factory.judge.judge import judge_score
from if_factory.methods.base import template
from if_factory.methods.humpback.inputs import read_pairs
from if_factory.methods.humpback.options import NAME, Options
from if_factory.pipeline.stage import Context, Dropped, Together
from if_factory.records import Constraint, Outcome, Record, Verdict
from if_factory.similarity.dedup import near_duplicates, shingles

REVERSE = "Read the text and write the instruction that it answers."
SCORED = "judge:score"
# Headers of link lists rather than of texts (paper, appendix E).
_NAVIGATION = re.compile(r"advert|forum|quick ?links?|newsletter|menu|navigation|site ?map|contact us|log ?in|"
                         r"cookie", re.IGNORECASE)

# "Summarise the text below": a reader of the finished row has no such text in front of them.
_POINTS_AT_THE_TEXT = re.compile(
    r"\b(the|this|that|a given) (given |provided |following |above )?(text|passage|excerpt|instruction)\b|"
    r"\b(text|passage) (below|above|provided)\b", re.IGNORECASE)


async def keep_usable(record: Record, ctx: Context, *, options: Options) -> Record:
    """Texts of the right length, whole, without repeated sentences, not under a navigation header."""
    if record.extra["form"] == "seed":
        return record
    text, title = record.candidates[0].text, str(record.extra.get("title") or "")
    if len(text) < options.min_chars:
        raise Dropped("too_short")
    if len(text) > options.max_chars:
        raise Dropped("too_long")
    if title and (title.isupper() or _NAVIGATION.search(title)):
        raise Dropped("navigation_header", title)
    if why := why_not(text, min_words=1, max_words=len(text)):
        raise Dropped(why)
    if repeats_itself(text, options.overlap):
        raise Dropped("repetitive")
    return record


def repeats_itself(text: str, overlap: float) -> bool:
    """Whether two sentences of at least five words are as similar as that, by their words and word pairs."""
    long = [s for s in sentences(text) if len(s.split()) >= 5]
    return any(i is not None for i in near_duplicates(long, threshold=overlap, method="ngram"))


async def augment(record: Record, ctx: Context, *, options: Options) -> Record:
    """The instruction that the text answers, as the backward model writes it (T 0.7, p 0.9, as the paper)."""
    if record.extra["form"] == "seed":
        return record
    text = record.candidates[0].text
    if options.backward == "trained":
        messages, tries = [{"role": "system", "content": REVERSE}, {"role": "user", "content": text}], 1
    else:
        messages, tries = [*_rules_and_examples(options), {"role": "user", "content": text}], options.augment_tries
    shown = [m["content"] for m in messages if m["role"] == "assistant"]
    for sample in range(tries):
        reply = await ctx.chat("backward", messages, sample=sample, temperature=0.7, top_p=0.9)
        instruction = reply.text.strip().strip('"').strip()
        problem = _unusable(instruction, text, shown) if reply.finish_reason == "stop" else "instruction_truncated"
        if problem is None:
            break
    else:
        raise Dropped(problem or "", instruction[:200])
    child = record.child(instruction, (), difficulty=0)
    return child.with_candidates(*record.candidates)


def _rules_and_examples(options: Options) -> list[dict[str, str]]:
    """What a backward model is trained on, in context: seed pairs reversed, under the rules for an instruction."""
    rules = template(NAME, "backward", options.prompts).render().strip()
    messages = [{"role": "system", "content": rules}]
    for response, prompt in _short(options.pairs, options.examples):
        messages += {"role": "user", "content": response}, {"role": "assistant", "content": prompt}
    return messages


@cache
def _short(pairs: str, n: int) -> list[tuple[str, str]]:
    """(response, prompt) of the ``n`` seed pairs with the shortest responses."""
    records = read_pairs(None if pairs == "builtin" else Path(pairs))
    return sorted(((r.candidates[0].text, r.prompt) for r in records), key=lambda pair: len(pair[0]))[:n]


def _unusable(instruction: str, text: str, shown: Sequence[str]) -> str | None:
    """Why nobody could be asked this without the text in hand, or None; ``shown`` are the examples' instructions."""
    if not instruction:
        return "instruction_empty"
    own = shingles(instruction)
    if len(instruction) >= len(text) or _copies(own, text):
        return "instruction_copies_the_text"
    if any(10 * len(own & theirs) >= 7 * len(own | theirs) for theirs in map(_shown_shingles, shown)):
        return "instruction_copies_an_example"
    if _POINTS_AT_THE_TEXT.search(instruction) and not _POINTS_AT_THE_TEXT.search(text):
        return "instruction_speaks_of_the_text"
    return None


@cache  # a handful of examples, compared with every instruction
def _shown_shingles(text: str) -> frozenset[str]:
    return shingles(text)


def _copies(instruction: frozenset[str], text: str) -> bool:
    """Most of the instruction, by its shingles, occurs word for word in the text: a continuation, not a request."""
    pairs = {s for s in instruction if " " in s}
    return len(pairs) >= 8 and len(pairs & shingles(text)) > 0.8 * len(pairs)


async def distinct(records: Sequence[Record], ctx: Context, *, options: Options) -> Together:
    """Drops instructions that repeat a seed's or an earlier one's, so that no seed leaks into what is mined."""
    mined, prompts = [], []
    for record in records:
        mined.append(record.extra["form"] != "seed")
        prompts.append(record.prompt)
    order = sorted(range(len(prompts)), key=mined.__getitem__)  # stable: seeds first
    seeds = mined.count(False)
    repeats = near_duplicates([prompts[i] for i in order], threshold=options.similarity)
    why = {i: "repeats_a_seed" if earlier < seeds else "near_duplicate"
           for i, earlier in zip(order, repeats, strict=True) if earlier is not None and mined[i]}
    return (records[i] for i in order if i not in why), ((records[i], Dropped(reason)) for i, reason in why.items())


async def curate(record: Record, ctx: Context, *, options: Options) -> Record:
    """The mean of several ratings of the pair; a constraint says whether it reaches k.

    ``extra``: ``score``, ``scores`` and ``unread`` (ratings that could not be read).
    """
    if record.extra["form"] == "seed":
        return record
    text = record.candidates[0].text
    judged = await judge_score(partial(ctx.chat, "judge"), record.prompt, text, low=1, high=5,
                             rubric=rubric(options), samples=options.judgements, tries=options.judge_tries,
                             prompts=options.prompts)
    if judged.mean is None:
        raise Dropped("score_unread", judged.raw[-1][:200] if judged.raw else "")
    return scored(record, judged.scores, judged.unread, options.threshold)


def rubric(options: Options) -> str:
    return template(NAME, "rubric", options.prompts).render().strip()


def scored(record: Record, scores: Sequence[float], unread: int, threshold: float) -> Record:
    """The record with these ratings in place of any earlier ones."""
    mean = sum(scores) / len(scores)
    asked = Constraint(type=SCORED, kind="judge", kwargs={"at_least": threshold, "scale": [1, 5]},
                       text=f"The response scores at least {threshold:g} of 5 as an answer to the prompt")
    outcome = Outcome.PASS if mean >= threshold else Outcome.FAIL
    verdict = Verdict(outcome=outcome, reason=f"mean {mean:.2f} of {len(scores)} ratings")
    candidate = record.candidates[0].model_copy(update={"verdicts": (verdict,)})
    record = record.model_copy(update={"constraints": (asked,), "candidates": (candidate,),
                                       "difficulty": round(5 - mean, 4)})
    return record.with_extra(score=round(mean, 4), scores=list(scores), unread=unread)
