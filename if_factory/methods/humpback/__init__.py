"""Humpback (Li et al., 2023, "Self-Alignment with Instruction Backtranslation", arXiv 2308.06259).

Texts that people wrote are good answers to instructions nobody gave. *Self-augmentation*: a backward model,
trained on (response -> instruction), writes the instruction of every text. *Self-curation*: the forward model
rates each (instruction, text) pair on five points; the pairs of at least k points, A_k, join the seed pairs, a
forward model is trained on both from the base model again, and rates all pairs anew (``if-factory humpback`` runs
these rounds; the stages below are one of them).

Seed rows and mined rows carry different system prompts, S_a and S_w, so that the model can tell an assistant's
voice from the web's. A_5 is the paper's "at least 4.5": several judgements of a pair are averaged, which is where
half points come from. The community's rerun lost 45 to 67 % of its judgements to parsing; here the score is asked
for by schema, read leniently, asked for again a bounded number of times, and what stays unread is counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from if_factory.constraints.text import sentences
from if_factory.errors import UserError
from if_factory.files import read_rows
from if_factory.inputs.documents import clean, read_texts, segment, text_record, why_not
from if_factory.inputs.seeds import builtin
from if_factory.judge.judge import judge_score
from if_factory.methods.base import PATH, Emission, Method, PlannedCalls, template
from if_factory.pipeline.stage import Context, Dropped, Stage
from if_factory.records import Candidate, Constraint, Outcome, Record, Verdict, content_id, emit_kto, emit_sft
from if_factory.similarity.dedup import near_duplicates, shingles

NAME = "humpback"
REVERSE = "Read the text and write the instruction that it answers."
SCORED = "judge:score"
ROUNDS = 2  # of rating, in a loop that is not told another number


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    pairs: str = Field("builtin", json_schema_extra=PATH,
                       description="seed pairs: .jsonl or .json rows with `prompt` and `response`")
    text_column: str = Field("text", description="the field of a row that holds the text")
    min_chars: Annotated[int, Field(ge=1)] = Field(600, description="shortest text, in characters")
    max_chars: Annotated[int, Field(ge=1)] = Field(3000, description="longest text; longer ones are cut")
    overlap: Annotated[float, Field(gt=0, le=1)] = Field(
        0.7, description="two sentences of a text this similar (Jaccard) make it repetitive")
    backward: Literal["chat", "trained"] = Field(
        "chat", description="the backward role is a chat model that is told what to do, or one trained for it")
    similarity: Annotated[float, Field(gt=0, le=1)] = Field(
        0.7, description="instructions this similar to an earlier one or to a seed are dropped")
    judgements: Annotated[int, Field(ge=1)] = Field(3, description="ratings averaged per pair")
    judge_tries: Annotated[int, Field(ge=1)] = Field(3, description="requests per rating until it can be read")
    threshold: Annotated[float, Field(ge=1, le=5)] = Field(4.5, description="k of A_k: the mean at least needed")
    kto_below: Annotated[float, Field(ge=1, le=5)] = Field(
        2.0, description="mean up to which a pair is an undesirable KTO row")
    system_seed: str = Field("Answer the way a helpful assistant does.", description="S_a, on seed rows")
    system_web: str = Field("Answer with what is known from the web.", description="S_w, on mined rows")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @property
    def system_asked(self) -> str:
        """S_a and S_w together: what the paper asks its finished models under (section 3.5)."""
        return f"{self.system_seed} {self.system_web}"

    @model_validator(mode="after")
    def _some_length_fits(self) -> Options:
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is above max_chars {self.max_chars}: no text fits")
        return self


PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    "paper": {"threshold": 4.5},
    # As the community's code: one judgement, only a full 5, texts of 1,000 to 2,200 characters.
    "released": {"judgements": 1, "threshold": 5.0, "min_chars": 1000, "max_chars": 2200},
}


# ---------------------------------------------------------------- inputs


def inputs(path: Path | None, options: Options, limit: int | None) -> list[Record]:
    """The seed pairs, then the unlabelled texts, cleaned and cut; ``limit`` counts texts.

    ``extra["form"]`` is ``seed`` or ``text``. A text's record has it as its only candidate and no prompt yet.
    """
    records = read_pairs(None if options.pairs == "builtin" else Path(options.pairs))
    window = {"min_words": options.min_chars // 6, "max_words": max(1, options.max_chars // 6)}
    found = 0
    for text in read_texts(path, column=options.text_column):
        for piece in segment(clean(text.text)[0], **window):
            if found == limit:
                return records
            record = text_record(replace(text, text=piece, prompt=""), NAME)
            records.append(record.model_copy(update={"id": content_id(piece),
                                                     "extra": {**record.extra, "form": "text"}}))
            found += 1
    return records


def read_pairs(path: Path | None) -> list[Record]:
    """Seed pairs as finished records; ``None`` reads the shipped ones.

    Raises:
        UserError: a row without a prompt or a response.
    """
    path = path or builtin("pairs")
    records = []
    for n, row in read_rows(path):
        for field in ("prompt", "response"):
            if not isinstance(row.get(field), str) or not row[field].strip():
                raise UserError("expected a non-empty string", where=f"{path}:{n}: field '{field}'",
                                fix='a seed pair is {"prompt": "...", "response": "..."}')
        prompt, response = row["prompt"].strip(), row["response"].strip()
        record = Record.from_seed(prompt, method=NAME, extra={"form": "seed"}).model_copy(
            update={"id": content_id("pair", prompt, response)})  # a prompt may have several good responses
        records.append(record.with_candidates(Candidate(text=response, source="human")))
    if not records:
        raise UserError("no seed pairs: the file has no rows", where=str(path))
    return records


# ---------------------------------------------------------------- stages


def stages(options: Options) -> list[Stage]:
    bound = partial(partial, options=options)
    return [Stage("filter", bound(keep_usable)),
            Stage("augment", bound(augment)),
            Stage("distinct", bound(distinct), scope="all"),
            Stage("curate", bound(curate))]


# What stands over lists of links rather than over a text (paper, appendix E).
_NAVIGATION = re.compile(r"advert|forum|quick ?links?|newsletter|menu|navigation|site ?map|contact us|log ?in|"
                         r"cookie", re.IGNORECASE)


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
        messages = [{"role": "system", "content": REVERSE}, {"role": "user", "content": text}]
    else:
        ask = template(NAME, "backward", options.prompts).render(text=text, mark=content_id(text))
        messages = [{"role": "user", "content": ask}]
    reply = await ctx.chat("backward", messages, temperature=0.7, top_p=0.9)
    instruction = reply.text.strip().strip('"').strip()
    if reply.finish_reason != "stop":
        raise Dropped("instruction_truncated")
    if not instruction:
        raise Dropped("instruction_empty")
    if len(instruction) >= len(text) or _copies(instruction, text):
        raise Dropped("instruction_copies_the_text")
    child = record.child(instruction, (), difficulty=0)
    return child.with_candidates(*record.candidates)


def _copies(instruction: str, text: str) -> bool:
    """Most of what the instruction says stands in the text word for word: it is a continuation, not a request."""
    own = {s for s in shingles(instruction) if " " in s}
    return len(own) >= 8 and len(own & shingles(text)) > 0.8 * len(own)


async def distinct(records: list[Record], ctx: Context, *, options: Options
                   ) -> tuple[list[Record], list[tuple[Record, Dropped]]]:
    """Drops instructions that repeat a seed's or an earlier one's, so that no seed leaks into what is mined."""
    ordered = sorted(records, key=lambda r: r.extra["form"] != "seed")  # stable: seeds first
    repeats = near_duplicates([r.prompt for r in ordered], threshold=options.similarity)
    kept, turned_away = [], []
    for record, earlier in zip(ordered, repeats, strict=True):
        if earlier is None or record.extra["form"] == "seed":
            kept.append(record)
        else:
            seed = ordered[earlier].extra["form"] == "seed"
            turned_away.append((record, Dropped("repeats_a_seed" if seed else "near_duplicate")))
    return kept, turned_away


async def curate(record: Record, ctx: Context, *, options: Options) -> Record:
    """The mean of several ratings of the pair; a constraint says whether it reaches k.

    ``extra``: ``score``, ``scores`` and ``unread`` (ratings that could not be read).
    """
    if record.extra["form"] == "seed":
        return record
    text = record.candidates[0].text
    said = await judge_score(partial(ctx.chat, "judge"), record.prompt, text, low=1, high=5,
                             rubric=rubric(options), samples=options.judgements, tries=options.judge_tries,
                             prompts=options.prompts)
    if said.mean is None:
        raise Dropped("score_unread", said.raw[-1][:200] if said.raw else "")
    return scored(record, said.scores, said.unread, options.threshold)


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
    extra = {**record.extra, "score": round(mean, 4), "scores": list(scores), "unread": unread}
    return record.model_copy(update={"constraints": (asked,), "candidates": (candidate,), "extra": extra,
                                     "difficulty": round(5 - mean, 4)})


# ---------------------------------------------------------------- emission


def emit(record: Record, options: Options, out: Emission, seed: int) -> None:
    """``sft``: seed pairs under S_a and A_k under S_w. ``sft_backward``: what a backward model learns. ``kto``."""
    pair = record.candidates[0]
    if record.extra["form"] == "seed":
        out.add(emit_sft(record.model_copy(update={"system": options.system_seed}), pair), "sft")
        out.add(emit_sft(reversed_pair(record), Candidate(text=record.prompt, source="human")), "sft_backward")
        return
    mined = record.model_copy(update={"system": options.system_web})
    if pair.verified:
        out.add(emit_sft(mined, pair), "sft")
    else:
        out.refused["sft"]["below_threshold"] += 1
    if pair.verified or record.extra["score"] <= options.kto_below:
        out.add(emit_kto(mined, pair), "kto")


def reversed_pair(record: Record) -> Record:
    """The pair as the backward model sees it: the response is the prompt."""
    return record.model_copy(update={"prompt": record.candidates[0].text, "system": REVERSE})


def paper_steps(rows: int) -> int:
    """Optimizer steps the paper trains for on so many rows, at a batch of 32 (8 below 3,000 rows)."""
    for most, steps in ((100, 30), (800, 300), (1_600, 600), (3_200, 500), (12_800, 600), (25_600, 1_200)):
        if rows <= most:
            return steps
    return 1_600


# ---------------------------------------------------------------- plan


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    """A role without a model in the recipe is one that ``if-factory humpback`` trains models for, and asks them.

    Those rate anew in every round, named as in the loop's ledger; a model of the recipe rates once, and answers
    later rounds from the log.
    """
    texts = [r.candidates[0].text for r in seeds if r.extra["form"] == "text"]
    tokens = sum(map(len, texts)) // (4 * max(1, len(texts)))  # about four characters a token
    ratings = len(texts) * options.judgements * options.judge_tries
    rounds = ["curate"] if "judge" in roles else [f"curate_{t}" for t in range(1, ROUNDS + 1)]
    return [PlannedCalls("augment", "backward", 0, len(texts), tokens + 100, 40),
            *(PlannedCalls(stage, "judge", 0, ratings, tokens + 400, 60) for stage in rounds)]


METHOD = Method(
    name=NAME,
    summary="instructions written for texts that people wrote; pairs rated by the model itself, the best kept",
    roles={"backward": (False, "writes a text's instruction: any chat model; `if-factory humpback` trains one"),
           "judge": (False, "rates each pair on five points; `if-factory humpback` has the forward model do it")},
    options=Options, presets=PRESETS, stages=stages, emit=emit, plan=plan, inputs=inputs,
    difficulty="5 minus the mean rating: what barely passed is hard",
    training={"sft": {"lr_scheduler_type": "linear", "weight_decay": 0.1}}, apart=("sft_backward",))
