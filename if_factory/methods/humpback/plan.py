"""The number of calls that a run of Humpback makes."""

from __future__ import annotations

from if_factory.methods.base import PlannedCalls
from if_factory.methods.humpback.options import ROUNDS, Options
from if_factory.records import Record


def plan(seeds: list[Record], options: Options, roles: set[str]) -> list[PlannedCalls]:
    """A role without a model in the recipe is one that ``if-factory humpback`` trains models for, and asks them.

    Those rate again in every round, with the stage names of the loop's ledger; a model named in the recipe rates
    once and answers later rounds from the log.
    """
    texts = [r.candidates[0].text for r in seeds if r.extra["form"] == "text"]
    tokens = sum(map(len, texts)) // (4 * max(1, len(texts)))  # about four characters a token
    ratings = len(texts) * options.judgements * options.judge_tries
    rounds = ["curate"] if "judge" in roles else [f"curate_{t}" for t in range(1, ROUNDS + 1)]
    asked = len(texts) * (options.augment_tries if options.backward == "chat" else 1)
    return [PlannedCalls("augment", "backward", 0, asked, tokens + (500 if options.backward == "chat" else 20), 40),
            *(PlannedCalls(stage, "judge", 0, ratings, tokens + 400, 60) for stage in rounds)]
