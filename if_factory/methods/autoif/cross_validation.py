"""Cross-validation of verification functions and test cases (AutoIF, Dong et al. 2024, section 3.1).

A model wrote several functions and, with each, a few labelled inputs. Neither is trusted: a case stays if enough
functions agree with its label, a function stays if it gets enough of the remaining cases right. Running the
functions is the sandbox's business; here is only what follows from their values, and what pairs follow from
accuracies.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from statistics import fmean
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, AliasChoices, BaseModel, Field

from if_factory.chat.parse import Failure, parse_json
from if_factory.chat.thinking import strip_thinking

T = TypeVar("T")
_BOUND = re.compile(r"(>=|>)\s*(\d+(?:\.\d+)?)")


def _bound(text: str) -> str:
    if not _BOUND.fullmatch(text.strip()):
        raise ValueError('expected a bound such as "> 0.5" or ">= 8"')
    return text.strip()


# A threshold that says whether the value itself is enough: the paper has "> 0.5" where the code has ">= 0.5".
Bound = Annotated[str, AfterValidator(_bound)]


def holds(bound: Bound, value: float) -> bool:
    """``holds("> 0.5", 0.5)`` is False."""
    match = _BOUND.fullmatch(bound)
    assert match is not None
    return value > float(match[2]) or (match[1] == ">=" and value == float(match[2]))


# ---------------------------------------------------------------- what a model wrote


class Case(NamedTuple):
    """A labelled input; both sides are JSON values."""

    input: Any
    expected: Any


@dataclass(frozen=True, slots=True)
class WrittenFunction:
    """One answer of the model: a function's source, its cases, and how many cases could not be read."""

    source: str
    cases: tuple[Case, ...]
    unread_cases: int = 0


class _Answer(BaseModel):
    func: Annotated[str, Field(min_length=1, validation_alias=AliasChoices("func", "function", "code"))]
    cases: Annotated[list[Any], Field(validation_alias=AliasChoices("cases", "test_cases", "tests"))] = []


class _Cases(BaseModel):
    cases: Annotated[list[Any], Field(validation_alias=AliasChoices("cases", "test_cases", "tests"))]


_PLACEHOLDERS = ("...", "\u2026")  # what small models copy from the form they are shown
_JSON_FENCE = re.compile(r"```json(.*?)```", re.DOTALL)
_CODE_FENCE = re.compile(r"```(?:python|py)?[^\S\n]*\n(.*?)```", re.DOTALL)


def parse_written(text: str, *, lenient: bool = True) -> WrittenFunction | Failure:
    """A function and its cases: a JSON object ``{"func", "cases": [{"input", "output"}]}``.

    Lenient, the JSON may be bare, inside prose, broken but repairable, or hold the cases alone, with the function
    in a code block of its own. Strict, it must be whole and in the first ``json`` block, as upstream reads it
    (``code/3_cross_validation.py``).

    Reasons: ``no_json``, ``wrong_json``, ``no_evaluate`` (no such function, or one that returns nothing). A case
    whose input is the "..." of the prompt's own form is none.
    """
    if lenient:
        answer = parse_json(text, _Answer)
        if isinstance(answer, Failure):
            answer = _apart(strip_thinking(text)) or answer
    else:
        answer = _strictly(text)
    return answer if isinstance(answer, Failure) else _written(answer)


def parse_apart(function: str, cases: str) -> WrittenFunction | Failure:
    """A function in a Python block and, in another answer, its cases in JSON ``{"cases": [...]}``.

    What a teacher writes around the function, such as calls that try it out, is left out: imports, definitions and
    constants stay. Cases that cannot be read leave the function without any.
    """
    text = strip_thinking(function)
    code = _function_block(text)
    if code is None:
        return Failure("no_evaluate")
    listed = parse_json(cases, _Cases)
    return _written(_Answer(func=_definitions(code[1]), cases=[] if isinstance(listed, Failure) else listed.cases))


def _function_block(text: str) -> re.Match[str] | None:
    """The first Python block that defines ``evaluate``; its group 1 is the code."""
    return next((m for m in _CODE_FENCE.finditer(text) if "def evaluate" in m[1]), None)


def _definitions(code: str) -> str:
    """``code`` without statements at its top level that do something; as it is where it cannot be parsed."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    lines = code.splitlines()
    return "\n".join(line for node in tree.body if isinstance(node, kept)
                     for line in lines[_first_line(node) - 1:node.end_lineno])


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def _written(answer: _Answer) -> WrittenFunction | Failure:
    if not re.search(r"\bevaluate\b", answer.func) or not re.search(r"\breturn\b|\blambda\b", answer.func):
        return Failure("no_evaluate")
    cases = [_case(entry) for entry in answer.cases]
    return WrittenFunction(answer.func.strip(), tuple(c for c in cases if c), cases.count(None))


def _strictly(text: str) -> _Answer | Failure:
    fence = _JSON_FENCE.search(text)
    if fence is None:
        return Failure("no_json")
    try:
        return _Answer.model_validate(json.loads(fence[1]))
    except (ValueError, RecursionError) as e:
        return Failure("wrong_json", str(e).splitlines()[0])


def _apart(text: str) -> _Answer | None:
    """The function in a code block, the cases in JSON beside it."""
    code = _function_block(text)
    if code is None:
        return None
    cases = parse_json(text[:code.start()] + text[code.end():], _Cases)
    return _Answer(func=code[1], cases=[] if isinstance(cases, Failure) else cases.cases)


def _case(entry: Any) -> Case | None:
    if not isinstance(entry, dict):
        return None
    given = next((k for k in ("input", "response") if k in entry), None)
    label = next((k for k in ("output", "expected", "expected_output") if k in entry), None)
    if given is None or label is None or str(entry[given]).strip() in _PLACEHOLDERS:
        return None
    return Case(entry[given], entry[label])


def drop_download_lines(source: str) -> str:
    """``source`` without the lines that mention downloads or requests.

    Upstream's guard, kept for its preset alone: it is no protection (the sandbox is) and breaks functions that
    merely mention the words.
    """
    return "\n".join(line for line in source.split("\n") if "download" not in line and "requests" not in line)


# ---------------------------------------------------------------- cross-validation


@dataclass(frozen=True, slots=True)
class Rules:
    """``case``: share of functions that agree with a label. ``function``: share of the kept cases it gets right.

    ``normalise`` takes "True" and "false" for the booleans they spell; without it values are compared as they are.
    ``both_labels``: a true and a false case must stay, and a function must get one of each right; a function that
    always says yes does not. Without ``agreement`` none of these is asked: what loads stays, and so does every case.
    """

    case: Bound = "> 0.5"
    function: Bound = "> 0.5"
    min_functions: int = 1
    min_cases: int = 1
    normalise: bool = True
    both_labels: bool = False
    agreement: bool = True


@dataclass(frozen=True, slots=True)
class Validated:
    """Functions with their accuracy on ``cases``, the cases that stayed; both in order of first appearance."""

    functions: tuple[tuple[str, float], ...]
    cases: tuple[Case, ...]


NOTHING = object()  # the value of a call that ended without one


def distinct(written: Sequence[WrittenFunction]) -> tuple[list[str], list[Case]]:
    """Functions and cases without repetitions, in order of first appearance."""
    functions = list(dict.fromkeys(w.source for w in written))
    cases = {json.dumps(case): case for w in written for case in w.cases}
    return functions, list(cases.values())


def cross_validate(written: Sequence[WrittenFunction], values: Mapping[str, Sequence[Any] | None],
                   rules: Rules) -> Validated | Failure:
    """Keep the cases most functions agree with, then the functions that are right about those.

    Args:
        values: source -> its value for each of ``distinct(written)``'s cases, ``NOTHING`` where a call gave none;
            ``None`` for a function that does not load, which counts for nothing, nor do its cases.

    Reasons: ``too_few_functions``, ``too_few_cases``, ``no_case_agreed``, ``cases_of_one_label``,
    ``no_function_agreed``.
    """
    place = {json.dumps(case): i for i, case in enumerate(distinct(written)[1])}
    functions, cases = distinct([w for w in written if values[w.source] is not None])
    if len(functions) < rules.min_functions:
        return Failure("too_few_functions", f"{len(functions)} that load, {rules.min_functions} needed")
    if len(cases) < rules.min_cases:
        return Failure("too_few_cases", f"{len(cases)} cases, {rules.min_cases} needed")
    read = normalised_label if rules.normalise else _as_is
    agrees = {source: [read(_at(values[source], place[json.dumps(case)])) == read(case.expected) for case in cases]
              for source in functions}
    if not rules.agreement:
        return Validated(tuple((source, fmean(right) if right else 0.0) for source, right in agrees.items()),
                         tuple(cases))
    kept = [i for i in range(len(cases)) if holds(rules.case, fmean(agrees[f][i] for f in functions))]
    if not kept:
        return Failure("no_case_agreed", f"of {len(cases)} cases")
    labels = [label if isinstance(label := normalised_label(cases[i].expected), bool) else None for i in kept]
    if rules.both_labels and not (True in labels and False in labels):
        return Failure("cases_of_one_label", f"of {len(cases)} cases {len(kept)} are kept, all {labels[0]}")
    accuracy = {source: fmean(right[i] for i in kept) for source, right in agrees.items()}
    good = tuple((source, share) for source, share in accuracy.items() if holds(rules.function, share)
                 and (not rules.both_labels or _right_on_both_labels(agrees[source], kept, labels)))
    if not good:
        return Failure("no_function_agreed", f"the best is right in {max(accuracy.values()):.2f} of the cases")
    return Validated(good, tuple(cases[i] for i in kept))


def _right_on_both_labels(right: Sequence[bool], kept: Sequence[int], labels: Sequence[Any]) -> bool:
    return {True, False} <= {label for i, label in zip(kept, labels, strict=True) if right[i]}


def _at(values: Sequence[Any] | None, i: int) -> Any:
    return NOTHING if values is None else values[i]


def _as_is(value: Any) -> Any:
    return value


def normalised_label(value: Any) -> Any:
    """``True`` for "True" and " true ", ``False`` likewise; anything else as it is."""
    spelt = value.strip().casefold() if isinstance(value, str) else None
    return {"true": True, "false": False}.get(spelt, value) if spelt else value


# ---------------------------------------------------------------- pairs


def pairs(good: Sequence[T], bad: Sequence[T], rng: Random, per_side: int | None = None) -> list[tuple[T, T]]:
    """Every good one with every bad one, or with at most ``per_side`` of each, drawn by ``rng``.

    Upstream draws two of each (``code_dpo/2_dpo_data_query_construct.py``). Order of the input is kept.
    """
    def some(items: Sequence[T]) -> list[T]:
        if per_side is None or len(items) <= per_side:
            return list(items)
        return [items[i] for i in sorted(rng.sample(range(len(items)), per_side))]

    return list(product(some(good), some(bad)))
