"""Options and presets of From Complex to Simple."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from if_factory.methods.base import PATH

NAME = "complex_to_simple"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    min_constraints: Annotated[int, Field(ge=1, le=6)] = Field(1, description="fewest constraints on a prompt")
    max_constraints: Annotated[int, Field(ge=1, le=6)] = Field(5, description="most constraints on a prompt")
    prompts_per_seed: Annotated[int, Field(ge=1)] = Field(1, description="constrained prompts made of each seed")
    plain_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0, description="share of seeds also asked without any constraint, once: SFT rows that keep the model "
        "answering")
    include: list[str] = Field([], description="constraint types, families or benchmarks (ifbench, ifevalg) drawn; "
                                                "empty means all but benchmarks' and held-out ones")
    exclude: list[str] = Field([], description="constraint types or families never drawn")
    keywords: Literal["seed", "teacher"] = Field(
        "seed", description="required keywords come from the seed's own words, or the teacher proposes them")
    student_samples: Annotated[int, Field(ge=0)] = Field(
        4, description="vanilla: answers of the student per prompt; every one is checked (best-of-n)")
    worked_examples: Annotated[int, Field(ge=0, le=4)] = Field(
        0, description="worked examples shown to the student per constraint type (2 help a small model much); "
        "they are not in the emitted prompt")
    teacher_samples: Annotated[int, Field(ge=0)] = Field(
        0, description="generation: answers of the teacher per prompt; needs a teacher")
    correct: bool = Field(True, description="discrimination: the teacher corrects failing student answers")
    correct_by_code: bool = Field(
        False, description="fixed rules correct failing student answers first, where they can: opening and closing "
        "phrases, commas, letter case, quotation marks around everything; needs no teacher")
    correction_rounds: Annotated[int, Field(ge=1)] = Field(
        2, description="passes over the constraints that still fail")
    correction_tries: Annotated[int, Field(ge=1)] = Field(
        2, description="revisions asked for per violated constraint before moving on")
    sft_per_prompt: Annotated[int, Field(ge=0)] = Field(1, description="verified answers emitted per prompt")
    sft_uncorrected: bool = Field(True, description="also emit answers that needed no correction")
    pairs_per_prompt: Annotated[int, Field(ge=0)] = Field(2, description="DPO pairs emitted per prompt at most")
    rejected_from: Literal["all", "corrections"] = Field(
        "all", description="rejected sides: any failing answer, or only the drafts that were then corrected")
    kto_per_prompt: Annotated[int, Field(ge=0)] = Field(
        2, description="KTO rows per prompt and label at most")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @model_validator(mode="after")
    def _ordered(self) -> Options:
        if self.min_constraints > self.max_constraints:
            raise ValueError("min_constraints is larger than max_constraints")
        if not (self.student_samples or self.teacher_samples):
            raise ValueError("student_samples and teacher_samples are both 0: nobody would answer")
        return self


# Three to five constraints, one vanilla answer, one pair per correction (paper sections 3-4).
_PAPER: dict[str, object] = {
    "min_constraints": 3, "max_constraints": 5, "student_samples": 1, "keywords": "teacher", "correction_rounds": 1,
    "correction_tries": 1, "pairs_per_prompt": 6, "rejected_from": "corrections"}
# An arm of the paper's table that is SFT alone; all arms have the same prompts for the same seed.
_SFT_ARM: dict[str, object] = {**_PAPER, "pairs_per_prompt": 0, "kto_per_prompt": 0}
PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    "paper": _PAPER,
    # As get_data/correct.py: rows that needed no correction give no SFT row.
    "released": {**_PAPER, "sft_uncorrected": False},
    # Who answers (research question 2): the student, the teacher, the student as corrected by the teacher.
    "vanilla": {**_SFT_ARM, "correct": False},
    "generation": {**_SFT_ARM, "student_samples": 0, "teacher_samples": 1, "correct": False},
    "discrimination": _SFT_ARM,
    # How it is trained (question 3): the same answers, as DPO pairs with their drafts.
    "contrastive": {**_PAPER, "sft_per_prompt": 0, "kto_per_prompt": 0},
    # How many constraints (question 1), to be stacked on an arm: [discrimination, single].
    "single": {"min_constraints": 1, "max_constraints": 1},
    "composed": {"min_constraints": 3, "max_constraints": 5},
}
