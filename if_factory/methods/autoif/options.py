"""AutoIF's knobs, and the presets that set them as the paper or the code of its authors does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from if_factory.errors import deprecated
from if_factory.judge.nli import By
from if_factory.methods.autoif.cross_validation import Bound, Rules
from if_factory.methods.base import PATH

NAME = "autoif"


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    augment_calls: Annotated[int, Field(ge=0)] = Field(
        20, description="requests for new instructions; each shows others of the pool, drawn by the run's seed")
    augment_rounds: Annotated[int, Field(ge=1)] = Field(
        2, description="the calls are shared out over so many rounds; each shows the instructions accepted before it, "
        "too")
    augment_count: Annotated[int, Field(ge=1)] = Field(
        10, description="instructions asked for in each; about 30 tokens of the teacher's max_tokens for each")
    near_duplicates: Annotated[float, Field(gt=0, le=1)] = Field(
        0.7, description="similarity from which an instruction repeats an earlier one; 1: equal ones only")
    screen: bool = Field(True, description="ask first whether any function could check a new instruction")
    answers: Annotated[int, Field(ge=1)] = Field(8, description="functions (with test cases) asked for: K")
    parsing: Literal["lenient", "strict"] = Field(
        "lenient", description="strict reads only whole JSON in a json block, as upstream; it needs "
                               "`test_cases: together`")
    test_cases: Literal["apart", "together"] = Field(
        "apart", description="apart: functions and test cases are asked for in requests of their own, so that a case "
                             "is not written to please a function; together: both in one JSON object, as upstream")
    booleans: Literal["normalised", "raw"] = Field(
        "normalised", description='raw: "True" is not True when a value is compared with a label, as upstream')
    drop_download_lines: bool = Field(
        False, description="delete lines of a function that mention `download` or `requests`, as upstream does")
    case_accuracy: Bound = Field("> 0.5", description="share of functions that must agree with a test case")
    function_accuracy: Bound = Field("> 0.5", description="share of the kept cases a function must get right")
    min_functions: Annotated[int, Field(ge=1)] = Field(1, description="distinct functions that load, at least")
    min_cases: Annotated[int, Field(ge=1)] = Field(1, description="distinct test cases, at least")
    both_labels: bool = Field(
        True, description="a true and a false case must be kept, and a function get one of each right")
    back_translate: Annotated[int, Field(ge=0)] = Field(
        3, description="functions translated back into an instruction; 0: none, and no consistency filter")
    consistency: By = Field("judge", description="who looks for contradictions: judge, nli, embedding, off")
    consistency_model: str | None = Field(
        None, description="folder or name of the NLI or sentence-transformers model")
    min_constraints: Annotated[int, Field(ge=1, le=4)] = Field(1, description="fewest instructions on a prompt")
    max_constraints: Annotated[int, Field(ge=1, le=4)] = Field(1, description="most instructions on a prompt")
    queries: str = Field("builtin", json_schema_extra=PATH,
                         description="`builtin`, or a file of user queries: rows with a `prompt`")
    query_characters: tuple[int, int] = Field((20, 300), description="queries are longer and shorter than these")
    queries_per_instruction: Annotated[int, Field(ge=1)] = Field(16, description="prompts made of an instruction")
    student_samples: Annotated[int, Field(ge=0)] = Field(0, description="answers of the student per prompt")
    teacher_samples: Annotated[int, Field(ge=0)] = Field(8, description="answers of the teacher per prompt")
    response_accuracy: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.5, description="an answer passes an instruction if more than this share of its functions say so")
    quality_score: Bound | None = Field(
        ">= 8", description="of 10, for what an SFT answer does for the query; null: not judged")
    quality_samples: Annotated[int, Field(ge=1)] = Field(1, description="scores averaged per answer")
    chosen_scored: bool = Field(False, description="the chosen side of a pair must have that score, too")
    sft_per_prompt: Annotated[int, Field(ge=0)] = Field(1, description="SFT rows per prompt at most, best first")
    dpo_positive: Bound = Field("> 0.5", description="share of all functions that a chosen answer passes")
    pairs_per_side: Annotated[int, Field(ge=1)] | None = Field(
        2, description="chosen and rejected answers drawn per prompt; null: every pair")
    dpo_instruction: bool = Field(
        True, description="also pairs of test cases under the bare instruction, among the other pairs")
    dpo_instruction_apart: bool = Field(
        False, description="those pairs are a dataset of their own, dpo_instruction, trained only where it is named")
    kto_per_prompt: Annotated[int, Field(ge=0)] = Field(2, description="KTO rows per prompt and label at most")
    prompts: str | None = Field(None, json_schema_extra=PATH,
                                description="folder with your own versions of the prompt templates")

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, given: Any) -> Any:
        if isinstance(given, dict) and "wash" in given:
            deprecated("option 'wash' is now called 'drop_download_lines'", "write `drop_download_lines: true`")
            given = {**{k: v for k, v in given.items() if k != "wash"}, "drop_download_lines": given["wash"]}
        return given

    @model_validator(mode="after")
    def _sane(self) -> Options:
        if self.min_constraints > self.max_constraints:
            raise ValueError("min_constraints is larger than max_constraints")
        if not (self.student_samples or self.teacher_samples):
            raise ValueError("student_samples and teacher_samples are both 0: nobody would answer")
        if self.parsing == "strict" and self.test_cases == "apart":
            raise ValueError("parsing: strict reads functions and cases from one object: write test_cases: together")
        return self

    @property
    def rules(self) -> Rules:
        return Rules(self.case_accuracy, self.function_accuracy, self.min_functions, self.min_cases,
                     self.booleans == "normalised", self.both_labels)


_PAPER: dict[str, object] = {"augment_calls": 100, "augment_count": 50, "parsing": "strict",
                             "test_cases": "together", "both_labels": False,
                             "sft_per_prompt": 8,
                             "augment_rounds": 1}
PRESETS: dict[str, dict[str, object]] = {
    "default": {},
    # Thresholds as the paper words them; counts as in its samples (K = 8, 16 queries, 100 calls for 50 lines).
    "paper": {**_PAPER, "pairs_per_side": None},
    # As QwenLM/AutoIF d67b9ba does it, where that differs from the paper.
    "released": {**_PAPER, "booleans": "raw", "drop_download_lines": True, "case_accuracy": "> 0",
                 "function_accuracy": ">= 0.8", "min_functions": 3, "min_cases": 10, "response_accuracy": 0.0,
                 "quality_score": "> 8", "dpo_positive": ">= 0.5", "dpo_instruction": False},
    # One model in every role: name it as teacher, and as student if it is served elsewhere, too.
    "self_alignment": {"student_samples": 8, "teacher_samples": 0},
    # The student answers too: its own failures are the better rejected sides. SFT takes whatever scores best.
    "strong_to_weak": {"student_samples": 4, "teacher_samples": 8},
}
