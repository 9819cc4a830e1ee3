"""The reasons for which an answer counts as none, and the verdict that carries one."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Reason = Literal[
    "refusal", "echoes_request", "echoes_constraint", "only_required_text", "offers_help_instead", "off_topic",
    "asks_back", "placeholder_text", "repeats_itself", "control_tokens", "reasoning_left_in", "wrong_language",
    "cut"]

WHAT: dict[str, str] = {
    "refusal": "declines a request that can be met, or says that it does not know",
    "echoes_request": "says the request again and nothing else",
    "echoes_constraint": "talks about the constraints, not about what was asked",
    "only_required_text": "says nothing beside the text that the constraints demand",
    "offers_help_instead": "offers help, announces an answer or is polite, and gives none",
    "off_topic": "is about something else, or does not attempt the request",
    "asks_back": "asks the user something instead of answering",
    "placeholder_text": "consists of blanks to fill in",
    "repeats_itself": "goes round in circles",
    "control_tokens": "holds special tokens of a chat template",
    "reasoning_left_in": "holds a reasoning model's thoughts beside the answer",
    "wrong_language": "is in another language than the request, and nobody asked for it",
    "cut": "was cut off by the token limit",
}


class Usefulness(BaseModel):
    """Whether a response attempts its request.

    Attributes:
        answers: ``None`` where nobody decided (a judge's reply could not be read).
        reason: one of ``WHAT`` where ``answers`` is false; what kept a judge from deciding where it is ``None``.
        decided_by: who said so last, ``rules``, ``relevance`` or ``judge``.
        score: similarity of request and answer in [-1, 1]; ``None`` where relevance had no say.
        excused: it may be the worse side of a pair all the same (the recipe's ``rejected_attempts: false``).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: bool | None
    reason: str = ""
    decided_by: Literal["rules", "relevance", "judge"] = "rules"
    score: float | None = None
    excused: bool = False
