"""The constraint types that recipes never draw unless they name them: what a trained model is tested on.

A model that was trained on some types may satisfy only those. These types are therefore kept out of training data
by default, so that `evaluate` can measure types that no training row had. None of IFEval's types is among them:
data for IFEval may train them all. They are spread over families and difficulties, and none is another way of
saying a type that is drawn by default.
"""

from __future__ import annotations

HELD_OUT_TYPES: tuple[str, ...] = (
    "digits:exact_numbers",
    "emoji:count",
    "length:max_characters",
    "list:item_words",
    "markdown:bold",
    "paragraph:first_word",
    "sentence:max_words",
    "style:no_first_person",
    "table:columns",
    "word:exact_count",
    "xml:enclosing_tag",
)
