"""Options and presets of Humpback."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from if_factory.methods.base import PATH

NAME = "humpback"
ROUNDS = 2  # rounds of rating in the loop, by default


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
        "chat", description="the backward role is played by a prompted chat model, or by one trained for it")
    examples: Annotated[int, Field(ge=0)] = Field(
        3, description="with `backward: chat`: seed pairs shown before the text, as turns; the shortest ones")
    augment_tries: Annotated[int, Field(ge=1)] = Field(
        3, description="with `backward: chat`: requests until an instruction can be given without the text in hand")
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
        """S_a and S_w together: what the paper asks its finished models under (section 3.5).

        Empty where both are: then no system message is sent.
        """
        return f"{self.system_seed.strip()} {self.system_web.strip()}".strip()

    @model_validator(mode="after")
    def _some_length_fits(self) -> Options:
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is above max_chars {self.max_chars}: no text fits")
        return self


PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # Section 3.1: the two system prompts as the paper words them, and A_5.
    "paper": {"threshold": 4.5, "system_seed": "Answer in the style of an AI Assistant.",
              "system_web": "Answer with knowledge from web search."},
    "a4": {"threshold": 4.0},  # to be stacked: the paper's A_4
    "no_system_prompt": {"system_seed": "", "system_web": ""},  # to be stacked: a row of its table of system prompts
    # As the community's code: one judgement, only a full 5, texts of 1,000 to 2,200 characters.
    "released": {"judgements": 1, "threshold": 5.0, "min_chars": 1000, "max_chars": 2200},
}
