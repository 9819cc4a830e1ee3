"""What can be chosen, and the paper's ablations."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from if_factory.methods.base import PATH

NAME = "conifer"
# What the paper calls format and number constraints: 33 literal sentences there, types with a checker here.
FORMAT_AND_NUMBER = (
    "detectable_format", "length", "length_constraints", "list", "markdown", "paragraph", "sentence", "table",
    "punctuation", "change_case", "start", "end", "startend", "keywords", "digits", "emoji")


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reframed: Annotated[int, Field(ge=1)] = Field(3, description="standalone instructions asked for per query")
    categories: Annotated[int, Field(ge=2)] = Field(6, description="constraint categories asked for")
    levels: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        [1, 2, 3, 4, 5], min_length=1, description="levels used; versions are made up to the highest of them")
    order: Literal["easy_to_hard", "hard_to_easy", "random", "single_turn"] = Field(
        "easy_to_hard", description="how the levels follow each other in a conversation")
    feedback: Literal["both", "internal", "external", "none"] = Field(
        "both", description="process feedback; external needs a student, whose attempts are criticised")
    format_and_number: bool = Field(True, description="also make versions with format and number constraints")
    format_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="share of the versions that are also made with format and number constraints")
    format_types: list[str] = Field(list(FORMAT_AND_NUMBER), min_length=1,
                                    description="types or families they are drawn from")
    answers: Annotated[int, Field(ge=1)] = Field(2, description="answers asked for until one is verified")
    baselines: Annotated[int, Field(ge=0)] = Field(1, description="the student's attempts at the top level")
    external: Literal["folded", "masked"] = Field(
        "folded", description="the weak attempt is part of the prompt, or of a history to be masked")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")


# The ablations are the rows of the paper's table 4.
PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    "paper": {"answers": 1},
    "released": {"answers": 1, "format_share": 0.03, "external": "masked"},
    "random_shuffle": {"order": "random"},
    "hard_to_easy": {"order": "hard_to_easy"},
    "easy_only": {"levels": [1, 2, 3]},
    "hard_only": {"levels": [4, 5]},
    "single_turn": {"order": "single_turn"},
    "without_feedback": {"feedback": "none"},
    "internal_only": {"feedback": "internal"},
    "external_only": {"feedback": "external"},
    "without_format_and_number": {"format_and_number": False},
}
