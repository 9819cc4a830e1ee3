"""Scripted models for Humpback: no model, an instruction and a rating that are functions of the text."""

from __future__ import annotations

import json
from random import Random
from typing import Any

WORDS = ["harbour", "lamp", "winter", "bread", "wheel", "stone", "garden", "letter", "copper", "morning",
         "river", "bridge", "signal", "orchard", "ferry", "clay", "lantern", "market", "valley", "thread",
         "candle", "mirror", "saddle", "anchor", "pepper", "cotton", "marble", "willow", "kettle", "tunnel"]


def text(i: int) -> str:
    """The i-th text: six sentences of nine words."""
    rng = Random(i)
    return " ".join(f"{' '.join(rng.choices(WORDS, k=9)).capitalize()}." for _ in range(6))


def rate_or_write(body: dict[str, Any]) -> str:
    """What the judge says of a pair, or the backward model of a text."""
    ask = body["messages"][-1]["content"]
    if "You rate one response" in ask:
        rng = Random(ask + str(body.get("seed")))
        return json.dumps({"reason": "scripted", "score": rng.choice((3, 5, 5, 5))})
    first = ask.split(".")[0]  # the last turn is the text
    return f"Tell a story about {', '.join(Random(first).sample(WORDS, 8))} for {first.split()[0]}."
