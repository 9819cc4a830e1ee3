"""How a recipe sets the usefulness gate, and the one threshold that was calibrated."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

# The largest cosine at which relevance alone still keeps 95 % of the answers of the calibration split of
# data/usefulness_labels.jsonl (`if-factory calibrate` prints the sweep); for all-MiniLM-L6-v2.
THRESHOLD = 0.34


class UsefulnessSpec(BaseModel):
    """The recipe's ``usefulness``. Rules always decide; the others where they can.

    Attributes:
        relevance: ``auto`` (the packaged model, where it and sentence-transformers are installed), ``off``, or a
            sentence-transformers model's folder or name.
        threshold: cosine below which an answer is ``off_topic``; default ``THRESHOLD``. Each model needs its own.
        judge: ``auto`` asks the judge wherever the recipe has that role; ``off`` never.
        rejected_attempts: whether the worse side of a pair must attempt the request too.
    """

    model_config = ConfigDict(extra="forbid")

    relevance: str = "auto"
    threshold: float | None = Field(default=None, ge=-1, le=1)
    judge: Literal["auto", "off"] = "auto"
    rejected_attempts: bool = True
