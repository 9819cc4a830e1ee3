"""Constraints that public training sets keep elsewhere than in ``instruction_id_list``.

Read are: Tulu's RLVR rows (``ground_truth`` names one function and its arguments), multi-constraint rows
(``ground_truth`` is a list of ids and arguments, as JSON or as a Python literal), rows of our own RLVR export,
persona rows (``constraints`` is words) and AutoIF's (``eval_func``). Nothing here is evaluated: a literal is
parsed, and AutoIF's functions run in the sandbox only.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from typing import Any

from if_factory.errors import UserError
from if_factory.records import Constraint

Listed = list[tuple[str, dict[str, Any]]]
"""Ids and arguments."""

_LONGEST = 1_000_000


def ground_truth(row: Mapping[str, Any], where: str) -> Listed | None:
    """Ids and arguments of a row's ``ground_truth``, or ``None`` if it holds no constraints (a maths answer, say).

    Raises:
        UserError: it names constraints, but the arguments are of no use; names the row and the field.
    """
    value = row.get("ground_truth")
    if isinstance(value, str):
        value = literal(value)
    where = f"{where}: field 'ground_truth'"
    if isinstance(value, dict) and isinstance(value.get("func_name"), str):
        return _function(value, where)
    entries = value if isinstance(value, list) else [value]
    found: Listed = []
    for entry in entries:
        if not isinstance(entry, dict):
            return None
        ids = entry.get("instruction_id_list", entry.get("instruction_id"))
        ids = [ids] if isinstance(ids, str) else ids
        if not isinstance(ids, list) or not all(isinstance(i, str) for i in ids):
            return None
        arguments = entry.get("kwargs") or [{}] * len(ids)
        arguments = [arguments] if isinstance(arguments, dict) else arguments
        if not isinstance(arguments, list) or len(arguments) != len(ids):
            raise UserError(f"{len(ids)} ids but other arguments", where=where,
                            fix="give one object of arguments for each id")
        found += [(i, k if isinstance(k, dict) else {}) for i, k in zip(ids, arguments, strict=True)]
    return found or None


def literal(text: str) -> Any:
    """JSON or a Python literal; ``None`` if it is neither."""
    if len(text) > _LONGEST or not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)  # literals only: no name is looked up, nothing is called
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


# ---------------------------------------------------------------- Tulu's RLVR functions


def _bounded(type_id: str, relation: str, number: str, slack: Callable[[int], int]) -> Callable[[Any], Listed]:
    """``N`` and ``quantifier`` ("at least", "at most", "around") as one or two constraints of a counting type."""
    def read(given: Any) -> Listed:
        n, quantifier = int(given["N"]), given["quantifier"]
        if quantifier == "at least":
            return [(type_id, {relation: "at least", number: n})]
        if quantifier == "at most":
            return [(type_id, {relation: "less than", number: n + 1})]
        if quantifier == "around":
            near = slack(n)
            return [(type_id, {relation: "at least", number: max(0, n - near)}),
                    (type_id, {relation: "less than", number: n + near + 1})]
        raise ValueError(f"unknown quantifier {quantifier!r}")
    return read


def _one(type_id: str, **names: str) -> Callable[[Any], Listed]:
    """One constraint; ``names`` maps our arguments to theirs."""
    return lambda given: [(type_id, {ours: given[theirs] for ours, theirs in names.items()})]


def _exactly(given: Any) -> Listed:
    letter, n = given["letter"], int(given["N"])
    return [("keywords:letter_frequency", {"letter": letter, "let_relation": "at least", "let_frequency": n}),
            ("keywords:letter_frequency", {"letter": letter, "let_relation": "less than", "let_frequency": n + 1})]


_FUNCTIONS: dict[str, Callable[[Any], Listed]] = {
    "verify_keywords": _one("keywords:existence", keywords="keyword_list"),
    "verify_keyword_frequency": _one("word:exact_count", word="word", count="N"),
    "validate_forbidden_words": _one("keywords:forbidden_words", forbidden_words="forbidden_words"),
    "verify_letter_frequency": _exactly,
    "validate_response_language": _one("language:response_language", language="language"),
    "verify_paragraph_count": _one("length_constraints:number_paragraphs", num_paragraphs="N"),
    "validate_word_constraint": _bounded("length_constraints:number_words", "relation", "num_words",
                                         lambda n: max(round(n / 10), 1)),
    "verify_sentence_constraint": _bounded("length_constraints:number_sentences", "relation", "num_sentences",
                                           lambda n: 1),
    "validate_paragraphs": _one("length_constraints:nth_paragraph_first_word", num_paragraphs="N",
                                nth_paragraph="i", first_word="first_word"),
    "verify_postscript": _one("detectable_content:postscript", postscript_marker="postscript_marker"),
    "validate_placeholders": _one("detectable_content:number_placeholders", num_placeholders="N"),
    "verify_bullet_points": _one("detectable_format:number_bullet_lists", num_bullets="N"),
    "validate_title": _one("detectable_format:title"),
    "validate_choice": _one("format:options", options="options"),
    "validate_highlighted_sections": _one("detectable_format:number_highlighted_sections", num_highlights="N"),
    "validate_sections": _one("detectable_format:multiple_sections", section_spliter="section_splitter",
                              num_sections="N"),
    "validate_json_format": _one("detectable_format:json_format"),
    "validate_repeat_prompt": _one("combination:repeat_prompt", prompt_to_repeat="original_prompt"),
    "validate_two_responses": _one("combination:two_responses"),
    "validate_uppercase": _one("change_case:english_capital"),
    "validate_lowercase": _one("change_case:english_lowercase"),
    "validate_frequency_capital_words": _bounded("change_case:capital_word_frequency", "capital_relation",
                                                 "capital_frequency", lambda n: 1),
    "validate_end": _one("startend:end_checker", end_phrase="end_phrase"),
    "validate_quotation": _one("startend:quotation"),
    "validate_no_commas": _one("punctuation:no_comma"),
}


def _function(value: Mapping[str, Any], where: str) -> Listed:
    name = value["func_name"]
    given = {k: v for k, v in value.items() if v is not None}
    if name not in _FUNCTIONS:
        return [(name, {k: v for k, v in given.items() if k != "func_name"})]
    try:
        return _FUNCTIONS[name](given)
    except KeyError as e:
        raise UserError(f"{name} needs the argument {e}", where=where) from None
    except (TypeError, ValueError) as e:
        raise UserError(f"{name} cannot use these arguments: {e}", where=where) from None


# ---------------------------------------------------------------- words, and AutoIF's functions


def worded(row: Mapping[str, Any]) -> tuple[Constraint, ...] | None:
    """A persona row's constraints: words (a list or one text), which nothing here can check."""
    given = row.get("constraints")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) and t.strip() for t in texts):
        return None
    return tuple(Constraint(type=t.strip(), text=t.strip(), kind="code") for t in texts)


def eval_functions(row: Mapping[str, Any]) -> tuple[Constraint, ...] | None:
    """An AutoIF row's ``eval_func``: sources, or pairs of a source and its accuracy; decided in the sandbox."""
    given = row.get("eval_func")
    if not isinstance(given, list) or not given:
        return None
    sources = [entry[0] if isinstance(entry, list) and entry else entry for entry in given]
    if not all(isinstance(source, str) and source.strip() for source in sources):
        return None
    text = row.get("instruction")
    text = text if isinstance(text, str) else ""
    return (Constraint(type="generated:function", kind="generated_code", text=text,
                       kwargs={"functions": sources, "threshold": 0.5}),)
