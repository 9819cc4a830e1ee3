"""The reasons for which an answer counts as none, each with what it means."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "refusal", "echoes_request", "echoes_constraint", "only_required_text", "offers_help_instead", "off_topic",
    "asks_back", "placeholder_text", "repeats_itself", "control_tokens", "reasoning_left_in", "wrong_language",
    "copies_example", "cut"]

WHAT: dict[str, str] = {
    "refusal": "declines a request that can be met, or says that it does not know",
    "echoes_request": "says the request again and nothing else",
    "echoes_constraint": "talks about the constraints instead of what was asked, is headed by their names, or tells "
                         "its writer how to answer",
    "only_required_text": "says nothing beside the text that the constraints demand",
    "offers_help_instead": "offers help, announces an answer or is polite, and gives none",
    "off_topic": "is about something else, or does not attempt the request",
    "asks_back": "asks the user something instead of answering",
    "placeholder_text": "consists of blanks to fill in",
    "repeats_itself": "goes round in circles",
    "control_tokens": "holds special tokens of a chat template",
    "reasoning_left_in": "holds a reasoning model's thoughts beside the answer",
    "wrong_language": "is in another language than the request, and nobody asked for it",
    "copies_example": "repeats a worked example that students are shown, on another subject",
    "cut": "was cut off by the token limit",
}
