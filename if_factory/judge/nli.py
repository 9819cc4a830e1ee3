"""Whether one requirement follows from another: the consistency filter of AutoIF's back-translation.

AutoIF asks an NLI model what the original instruction (premise) says about the back-translated one (hypothesis),
and drops the pair on a contradiction (Dong et al. 2024, section 3.1; ``5_eval_func_backtranslator_filter.py``).
Who answers here:

- ``judge``: a language model, asked for one of the three relations;
- ``nli``: a cross-encoder of transformers on this machine, loaded once per process;
- ``embedding``: sentence-transformers sort out what is about something else, without a request; the judge is
  asked about the rest. Similarity alone cannot decide: "use an e" and "never use an e" are neighbours.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator

from if_factory.chat.base import Completion
from if_factory.chat.parse import Failure
from if_factory.embedding import load as load_embedder
from if_factory.errors import UserError
from if_factory.judge.judge import PROMPTS, REASON, Ask, ask_until_read, mark_for
from if_factory.judge.reply import read_one
from if_factory.prompts import load

Relation = Literal["entailment", "neutral", "contradiction", "unrelated"]
By = Literal["judge", "nli", "embedding", "off"]

NLI_MODEL = "MoritzLaurer/mDeBERTa-v3-base-xnli-multilingual-nli-2mil7"  # the paper's
UNRELATED = 0.3  # cosine below which two requirements are about different things
_one_at_a_time = threading.Lock()  # a model on a CPU uses all cores for one batch; and it must load once


async def relations(premise: str, hypotheses: Sequence[str], *, by: By = "judge", ask: Ask | None = None,
                    model: str | None = None, tries: int = 3,
                    prompts: str | None = None) -> list[Relation | Failure]:
    """What ``premise`` says about each hypothesis. Nothing is asked about an equal one.

    Args:
        by: who answers; ``off`` answers ``entailment`` to everything.
        ask: the judge, for ``judge`` and ``embedding``.
        model: folder or hub name of the NLI model (default: the paper's) or of the sentence-transformers model.
        tries: requests per hypothesis at most; one that stays unreadable is a ``Failure``, and so no relation.

    Raises:
        UserError: missing packages, a model that cannot be loaded or does not name its labels, no judge.
    """
    if by == "off":
        return ["entailment"] * len(hypotheses)
    if by == "nli":
        return await asyncio.to_thread(_by_nli, model or NLI_MODEL, premise, list(hypotheses))
    if ask is None:
        raise UserError(f"the consistency filter '{by}' needs a judge", where="consistency",
                        fix="name a model for the role judge or teacher")
    far = [False] * len(hypotheses)
    if by == "embedding":
        far = [s < UNRELATED for s in await asyncio.to_thread(_similarities, model, premise, list(hypotheses))]
    return await asyncio.gather(*(_unrelated() if far_off else _by_judge(ask, premise, hypothesis, tries, prompts)
                                  for hypothesis, far_off in zip(hypotheses, far, strict=True)))


# ---------------------------------------------------------------- a language model


class _Related(BaseModel):
    reason: str = ""
    relation: Annotated[Literal["entailment", "neutral", "contradiction"],
                        BeforeValidator(lambda v: _label(v) if isinstance(v, str) else v)]


_SCHEMA: dict[str, Any] = {
    "type": "object", "additionalProperties": False, "required": ["reason", "relation"],
    "properties": {"reason": REASON,
                   "relation": {"type": "string", "enum": ["entailment", "neutral", "contradiction"]}}}


async def _by_judge(ask: Ask, premise: str, hypothesis: str, tries: int,
                    prompts: str | None) -> Relation | Failure:
    if premise.strip() == hypothesis.strip():
        return "entailment"
    text = load(PROMPTS, "relation", prompts).render(premise=premise, hypothesis=hypothesis,
                                                     mark=mark_for(premise, hypothesis))

    def read(completion: Completion) -> Relation | Failure:
        found = read_one(completion, _Related, "relation")
        return found if isinstance(found, Failure) else found.relation

    relation: Relation | Failure
    relation, _ = await ask_until_read(ask, text, read, tries=tries, prompts=prompts, schema=_SCHEMA,
                                       temperature=0.0)
    return relation


async def _unrelated() -> Relation:
    return "unrelated"


def _label(name: str) -> str:
    """``CONTRADICTION``, ``contradicts``, ``entails.`` as the relation they name."""
    name = name.strip().strip(".").lower()
    return next((r for r in get_args(Relation) if name and (name.startswith(r[:6]) or r == name)), name)


# ---------------------------------------------------------------- models on this machine


def _by_nli(model: str, premise: str, hypotheses: list[str]) -> list[Relation | Failure]:
    import torch

    with _one_at_a_time:
        tokenizer, classifier, labels = _nli(model)
        batch = tokenizer([premise] * len(hypotheses), hypotheses, padding=True, truncation=True, max_length=512,
                          return_tensors="pt").to(classifier.device)
        with torch.inference_mode():
            best = classifier(**batch).logits.argmax(dim=-1).tolist()
    return [labels[i] for i in best]


@cache
def _nli(model: str) -> tuple[Any, Any, list[Any]]:
    """``(tokenizer, classifier, relation of each output)``; the order of the outputs is the model's own."""
    try:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
    except ImportError as e:
        raise UserError(f"the consistency filter 'nli' needs transformers and torch: {e}", where="consistency",
                        fix='pip install "if-factory[local]", or take consistency: judge') from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        classifier = AutoModelForSequenceClassification.from_pretrained(model)
    except (OSError, ValueError) as e:
        raise UserError(f"cannot load the NLI model: {str(e).splitlines()[0]}", where=model,
                        fix="give the folder of one in consistency_model, or take consistency: judge") from None
    labels = [_label(classifier.config.id2label[i]) for i in range(classifier.config.num_labels)]
    if sorted(labels) != ["contradiction", "entailment", "neutral"]:
        raise UserError(f"its labels are {labels}, not entailment, neutral and contradiction", where=model,
                        fix="take a model trained for natural language inference that names its labels")
    return tokenizer, classifier.to("cuda" if torch.cuda.is_available() else "cpu").eval(), labels


def _similarities(model: str | None, premise: str, hypotheses: list[str]) -> list[float]:
    with _one_at_a_time:
        vectors = _embedder(model).encode([premise, *hypotheses], normalize_embeddings=True)
    return [float(vectors[0] @ vector) for vector in vectors[1:]]


def _embedder(model: str | None) -> Any:
    if model is None:
        raise UserError("the consistency filter 'embedding' needs a model", where="consistency_model",
                        fix="name a sentence-transformers model or its folder")
    return load_embedder(model)
