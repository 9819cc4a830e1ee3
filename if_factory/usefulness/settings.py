"""How a recipe sets the usefulness gate, and the one threshold that was calibrated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# The largest cosine at which relevance alone still keeps 95 % of the answers of the calibration split of
# data/usefulness_labels.jsonl (`if-factory calibrate` prints the sweep); for all-MiniLM-L6-v2.
THRESHOLD = 0.34


class UsefulnessSpec(BaseModel):
    """The recipe's ``usefulness``: whether an answer attempts its request."""

    model_config = ConfigDict(extra="forbid")

    rules: Literal[True] = Field(True, description="always on: refusals, echoes, offers, loops...")
    relevance: str = Field("auto", description="`auto` (the packaged model, where if-factory[embed] is installed), "
                           "`off`, or a sentence-transformers model's folder or name")
    threshold: Annotated[float, Field(ge=-1, le=1)] | None = Field(
        None, description=f"cosine below which an answer is off topic; null is {THRESHOLD}, for the packaged model")
    distinct: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="share of an answer's runs of four words that are no repetition (distinct-4) below which it "
        "repeats itself; null leaves that to the rules (about 0.5)")
    own_words: Annotated[int, Field(ge=1)] | None = Field(
        None, description="content words that neither the request nor its constraints hold, below which an answer says "
        "nothing new; null leaves that to the rules")
    judge: Literal["auto", "off"] = Field("auto", description="`auto` asks the role judge where there is one")
    rejected_attempts: bool = Field(True, description="the worse side of a pair must attempt the request too")
