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

    query_characters: Annotated[int, Field(ge=1)] | None = Field(
        None, description="the longest query taken, in characters; the paper's is 200")
    query_words: Annotated[int, Field(ge=1)] = Field(
        1, description="the shortest query taken, in words; the paper's is 5")
    query_languages: list[str] = Field(
        [], description="only queries in one of these (ISO 639-1); [] takes all; the paper's are [en]")
    prompt_variant: Literal["full", "small"] = Field(
        "full", description="small, for teachers of about a billion parameters or fewer: they list what could be asked "
                            "for, items of a category never go together, and code sets the items under the instruction")
    reframed: Annotated[int, Field(ge=0)] = Field(
        3, description="standalone instructions asked for per query; 0 takes the query as it is")
    categories: Annotated[int, Field(ge=2)] = Field(
        8, description="constraint categories asked for; a version asks for one item of a category, as a rule")
    levels: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        [1, 2, 3, 4, 5], min_length=1, description="levels used; versions are made up to the highest of them")
    redraws: Annotated[int, Field(ge=0)] = Field(
        2, description="other items drawn for a level where the teacher refuses a clash")
    order: Literal["easy_to_hard", "hard_to_easy", "random", "single_turn"] = Field(
        "easy_to_hard", description="how the levels follow each other in a conversation")
    feedback: Literal["both", "internal", "external", "none"] = Field(
        "both", description="process feedback; external needs a student, whose attempts are criticised")
    format_and_number: bool = Field(True, description="use format and number constraints, which code checks")
    format_levels: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        [1, 3, 5], description="levels of a conversation that bring in one such constraint each; it stays from then on")
    format_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.2, description="share of the versions that are also made for internal feedback, with one or three of them")
    format_types: list[str] = Field(list(FORMAT_AND_NUMBER), min_length=1,
                                    description="types or families they are drawn from")
    answers: Annotated[int, Field(ge=1)] = Field(2, description="answers asked for until one is verified")
    baselines: Annotated[int, Field(ge=0)] = Field(1, description="the student's attempts at the top level")
    external: Literal["folded", "masked"] = Field(
        "folded", description="the weak attempt is part of the prompt, or of a history to be masked")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")


# The authors' selection of ShareGPT queries (their 00_ script).
_QUERIES: dict[str, object] = {"query_characters": 200, "query_words": 5, "query_languages": ["en"]}
# The ablations are the rows of the paper's table 4. `paper` and `released`: one answer per version, and external
# feedback as the turns of a conversation.
PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # Teachers of that size answer a query where they should reframe it, and call all values of a category compatible.
    "small": {"prompt_variant": "small", "reframed": 0},
    "paper": {**_QUERIES, "answers": 1, "external": "masked"},
    "released": {**_QUERIES, "answers": 1, "format_share": 0.03, "external": "masked"},
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
