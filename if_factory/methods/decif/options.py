"""DecIF's options and presets."""

from __future__ import annotations

from typing import Annotated, Literal

import jinja2
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from if_factory.methods.base import PATH, template

NAME = "decif"

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    instructions: Count = Field(100, description="instructions to start on, unless `limit` says how many")
    domain_draws: Annotated[int, Field(ge=0)] = Field(
        0, description="times the teacher is asked for domains; 0 uses those of `seeds` as they are")
    domains_per_draw: Count = Field(25, description="domains asked for each time")
    requests_per_domain: Count = Field(10, description="requests asked for per domain")
    scenarios_per_request: Count = Field(10, description="scenarios asked for per request")
    duplicates: Annotated[float, Field(gt=0, le=1)] = Field(
        0.7, description="similarity from which two domains, requests, scenarios or criteria are one")
    embedding_model: str | None = Field(
        None, description="sentence-transformers model that finds duplicates; null compares words")
    constraint_weights: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1, max_length=8)] = Field(
        [0.2, 0.3, 0.3, 0.1, 0.1], description="weights of 1, 2, 3... constraints on an instruction")
    wild_share: Share = Field(0.0, description="share of instructions written without drawn constraints")
    soft_share: Share = Field(0.25, description="share of the constraints that only a judge can decide")
    include: list[str] = Field([], description="checkable types, families or benchmarks (ifbench, ifevalg) drawn; "
                                                "empty means all but benchmarks' and held-out ones")
    exclude: list[str] = Field([], description="checkable types or families never drawn")
    soft_include: list[str] = Field([], description="soft families or types to draw from; empty means all")
    soft_exclude: list[str] = Field([], description="soft families or types never drawn")
    prompt_variant: Literal["full", "small"] = Field(
        "full", description="full: the teacher weaves the constraints into the instruction, as long as the task "
                            "needs, and the judge quotes and reasons before each verdict; small, for models of about a "
                            "billion parameters or fewer: a short task, the constraints appended to it, and a verdict "
                            "with a short reason")
    refinements: Annotated[int, Field(ge=0)] = Field(
        1, description="times a contradictory instruction is revised and judged again before it is dropped")
    max_criteria: Count = Field(6, description="criteria per instruction at most, soft constraints not counted")
    responses: Annotated[int, Field(ge=0)] = Field(4, description="responses of the teacher per instruction")
    student_responses: Annotated[int, Field(ge=0)] = Field(
        0, description="responses of the student per instruction; needs a student")
    filter: Literal["strict", "soft"] = Field(
        "strict", description="strict: every criterion must hold; soft: the share `soft_pass` of them")
    soft_pass: Annotated[float, Field(gt=0, le=1)] = Field(0.8, description="with `filter: soft`: that share")
    sft_per_instruction: Annotated[int, Field(ge=0)] = Field(1, description="verified responses emitted at most")
    pairs_per_instruction: Annotated[int, Field(ge=0)] = Field(2, description="DPO pairs emitted at most")
    kto_per_instruction: Annotated[int, Field(ge=0)] = Field(2, description="KTO rows per label emitted at most")
    tries: Count = Field(3, description="requests until an answer can be read")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @field_validator("constraint_weights")
    @classmethod
    def _drawable(cls, weights: list[float]) -> list[float]:
        if not sum(weights):
            raise ValueError("every weight is 0: no number of constraints could be drawn")
        return weights

    @model_validator(mode="after")
    def _somebody_answers(self) -> Options:
        if not (self.responses or self.student_responses):
            raise ValueError("responses and student_responses are both 0: nobody would answer")
        return self


    @property
    def small(self) -> bool:
        return self.prompt_variant == "small"


def prompt(name: str, options: Options) -> jinja2.Template:
    """The prompt template ``name`` in the variant that ``options`` choose, where there are two."""
    both = ("instruction", "consistency", "refine")
    return template(NAME, f"{name}_small" if options.small and name in both else name, options.prompts)


PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    "small": {"prompt_variant": "small"},
    # The README and the help texts (the paper's own tables could not be read): one response, filtered strictly.
    "paper": {"domain_draws": 1000, "requests_per_domain": 30, "scenarios_per_request": 20, "responses": 1,
              "soft_share": 4 / 30, "pairs_per_instruction": 0, "kto_per_instruction": 0},
    # The scripts' own defaults (commit d44179f), which differ from their help texts.
    "released": {"domain_draws": 1000, "requests_per_domain": 50, "scenarios_per_request": 30, "responses": 1,
             "soft_share": 4 / 30, "pairs_per_instruction": 0, "kto_per_instruction": 0},
}
