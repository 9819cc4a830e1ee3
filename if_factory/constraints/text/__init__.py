"""What a word, a sentence, a paragraph or a bullet is, and which language a text is in: defined once."""

from if_factory.constraints.text.language import detect_language, is_in_language
from if_factory.constraints.text.lines import lines, numbered_items, paragraphs
from if_factory.constraints.text.markdown import (
    bullets,
    count_bold,
    count_highlights,
    document,
    outside_code,
    placeholders,
    strip_code_fence,
    titles,
    without_code,
)
from if_factory.constraints.text.normal import folded, plain
from if_factory.constraints.text.sentences import (
    count_sentences,
    has_sentences,
    punkt_sentences,
    sentences,
    split_sentences,
)
from if_factory.constraints.text.words import (
    capital_words,
    closes_with,
    contains_phrase,
    count_pattern,
    count_phrase,
    count_words,
    find_phrase,
    first_word,
    opens_with,
    remove_phrase,
    without_spaces,
    words,
)

__all__ = [
    "bullets",
    "capital_words",
    "closes_with",
    "contains_phrase",
    "count_bold",
    "count_highlights",
    "count_pattern",
    "count_phrase",
    "count_sentences",
    "count_words",
    "detect_language",
    "document",
    "find_phrase",
    "first_word",
    "folded",
    "has_sentences",
    "is_in_language",
    "lines",
    "numbered_items",
    "opens_with",
    "outside_code",
    "paragraphs",
    "placeholders",
    "plain",
    "punkt_sentences",
    "remove_phrase",
    "sentences",
    "split_sentences",
    "strip_code_fence",
    "titles",
    "without_code",
    "without_spaces",
    "words",
]
