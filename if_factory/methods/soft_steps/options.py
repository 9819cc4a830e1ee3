"""Options and presets of Step-by-Step Mastery."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from if_factory.judge.judge import Variant
from if_factory.methods.base import PATH, PROMPT_VARIANT

NAME = "soft_steps"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: Annotated[int, Field(ge=1, le=8)] = Field(5, description="K: constraints added, one per step")
    soft_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="share of constraints that only a judge can decide; the rest is decided by code")
    include: list[str] = Field([], description="checkable types, families or benchmarks (ifbench, ifevalg) drawn; "
                                                "empty means all but benchmarks' and held-out ones")
    exclude: list[str] = Field([], description="checkable types or families never drawn")
    soft_include: list[str] = Field([], description="soft families (style) or types (soft_style:tone); empty "
                                    "means all")
    soft_exclude: list[str] = Field([], description="soft families or types never drawn")
    taxonomy: str | None = Field(None, json_schema_extra=PATH,
                                 description="your own soft constraints, as if_factory/data/soft_constraints.yaml")
    soft_tries: Annotated[int, Field(ge=1)] = Field(
        3, description="aspects tried per soft constraint until one can be written and is consistent")
    consistency: bool = Field(True, description="the judge checks a soft constraint against all others")
    answers: Literal["teacher", "student"] = Field("teacher", description="who answers")
    answer_tries: Annotated[int, Field(ge=1)] = Field(
        2, description="answers per step until one passes what code checks; the last one is kept if none does")
    winner: Literal["verified", "better"] = Field(
        "verified", description="verified: only an answer that meets every constraint is chosen; better, as in the "
                                "paper: the one that code or both orders of the judge put first")
    rescue_tries: Annotated[int, Field(ge=0)] = Field(
        2, description="with `winner: verified`: further answers at a step where neither meets every constraint")
    judge_tries: Annotated[int, Field(ge=1)] = Field(3, description="requests per judgement until it can be read")
    sft: Literal["all", "last"] = Field("all", description="SFT rows: the winner of every step, or of step K")
    bins: list[int] = Field([3], description="curriculum: the highest k of every bin but the last")
    prompt_variant: Variant = Field("full", description=PROMPT_VARIANT)
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @field_validator("bins")
    @classmethod
    def _rising(cls, bins: list[int]) -> list[int]:
        if bins != sorted(set(bins)) or any(edge < 1 for edge in bins):
            raise ValueError("edges must rise, from 1 on, such as [3] or [1, 3]")
        return bins


PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    "small": {"prompt_variant": "small"},
    # The method figure: four constraints, one answer per instruction.
    "paper": {"steps": 4, "answer_tries": 1, "sft": "last", "winner": "better"},
    # gen_data.py: five types drawn from 25 checkable and 6 soft ones, 24.5 % soft in the released rows.
    "released": {"steps": 5, "soft_share": 0.245, "answer_tries": 1, "sft": "last", "consistency": False,
                 "winner": "better"},
}
