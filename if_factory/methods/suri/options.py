"""What can be chosen, and the paper's settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from if_factory.judge.judge import Variant
from if_factory.methods.base import PATH, PROMPT_VARIANT

NAME = "suri"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    source: Literal["auto", "teacher", "composer", "both"] = Field(
        "auto", description="constraints inferred by the teacher, composed by code from how the text is, or both; "
        "auto is teacher where there is one, else composer")
    text_column: str = Field("text", description="the field of a row that holds the text")
    min_words: Annotated[int, Field(ge=1)] = Field(100, description="shortest text used, in words")
    max_words: Annotated[int, Field(ge=1)] = Field(1500, description="longest; longer texts are cut into pieces")
    pieces_per_text: Annotated[int, Field(ge=1)] | None = Field(None, description="pieces of one text at most")
    constraints: Annotated[int, Field(ge=1, le=30)] = Field(10, description="constraints asked for per text")
    min_constraints: Annotated[int, Field(ge=1)] = Field(
        1, description="texts with fewer verified constraints are left out")
    included: Literal["sampled", "all"] | Annotated[int, Field(ge=1)] = Field(
        "sampled", description="constraints in an instruction: all, a number, or a number drawn from 1 to all")
    corrupted: Literal["sampled", "all"] | Annotated[int, Field(ge=1)] = Field(
        "sampled", description="how many of them x_l corrupts: all, a number, or a number drawn from 1 to all")
    triples_per_text: Annotated[int, Field(ge=1)] = Field(2, description="instructions made for one text")
    label: bool = Field(True, description="the teacher labels constraints: stylistic/semantic, broad/specific")
    include: list[str] = Field([], description="composer: constraint types, families or benchmarks (ifbench, "
                                                "ifevalg) drawn; empty means all but benchmarks' and held-out ones")
    exclude: list[str] = Field([], description="composer: constraint types or families never drawn")
    tries: Annotated[int, Field(ge=1)] = Field(3, description="requests until an answer can be read, at most")
    sft: bool = Field(True, description="also emit x_w -> y as SFT rows")
    kto: bool = Field(True, description="also emit (x_w, y, true) and (x_l, y, false): a surrogate, not I-ORPO")
    prompt_variant: Variant = Field("full", description=PROMPT_VARIANT)
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @model_validator(mode="after")
    def _ordered(self) -> Options:
        if self.min_words > self.max_words:
            raise ValueError("min_words is larger than max_words")
        return self


# Texts of 2,048 to 5,024 words, one excerpt each, about ten constraints (paper sections 2-3, b3.py).
_LONG = {"source": "teacher", "min_words": 2048, "max_words": 5024, "pieces_per_text": 1, "constraints": 10,
         "triples_per_text": 1}
PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    "small": {"prompt_variant": "small"},
    "paper": {**_LONG, "included": "all", "corrupted": "all"},
    # ft/README.md: every prompt of a training triple holds a single constraint.
    "released": {**_LONG, "included": 1, "corrupted": 1},
    "composer": {"source": "composer"},
}
