"""Cross-validation: what is read of an answer, which cases and functions stay, which pairs are made."""

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from if_factory.chat.parse import Failure
from if_factory.methods.autoif.cross_validation import (
    NOTHING,
    Bound,
    Case,
    Rules,
    Validated,
    WrittenFunction,
    cross_validate,
    drop_download_lines,
    holds,
    normalised_label,
    pairs,
    parse_written,
)

YES, NO = "def evaluate(r):\n    return True", "def evaluate(r):\n    return False"


def answer(source, *cases):
    return WrittenFunction(source, tuple(Case(*case) for case in cases))


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("text", [
    '{{"func": {f}, "cases": [{{"input": "a", "output": true}}]}}',
    '```json\n{{"func": {f}, "cases": [{{"input": "a", "output": true}}]}}\n```',
    'Here:\n```\n{{"func": {f}, "cases": [{{"input": "a", "output": true}}]}}\n```\nDone.',
    '{{"function": {f}, "test_cases": [{{"response": "a", "expected": true}}]}}',
    '{{"func": {f}, "cases": [{{"input": "a", "output": True}},]}}',
    '```python\n{raw}\n```\n```json\n{{"cases": [{{"input": "a", "output": true}}]}}\n```'])
def test_the_function_and_its_case_are_read_however_the_json_comes(text):
    read = parse_written(text.format(f=json.dumps(YES), raw=YES))
    assert isinstance(read, WrittenFunction)
    assert read.source == YES
    assert read.cases == (Case("a", True),)


def test_strict_reading_takes_the_first_json_block_alone():
    good = json.dumps({"func": YES, "cases": []})
    assert isinstance(parse_written(f"```json\n{good}\n```", lenient=False), WrittenFunction)
    assert parse_written(good, lenient=False) == Failure("no_json")
    assert parse_written('```json\n{"func": True}\n```', lenient=False).reason == "wrong_json"


@pytest.mark.parametrize(("text", "reason"), [
    ("no", "no_json"), ('{"cases": []}', "wrong_json"), ('{"func": 3}', "wrong_json"),
    ('{"func": ""}', "wrong_json"), ('{"func": "def evaluate(r):\\n    ..."}', "no_evaluate"),
    ('{"func": "def check(r): return 1"}', "no_evaluate")])
def test_what_cannot_be_read_says_why(text, reason):
    assert parse_written(text).reason == reason


def test_cases_that_are_none_are_counted_and_the_others_kept():
    cases = ["x", {"input": "a"}, {"input": "b", "output": False}, {"input": "...", "output": True}]
    read = parse_written(json.dumps({"func": YES, "cases": cases}))
    assert read.cases == (Case("b", False),)
    assert read.unread_cases == 3


SCALARS = st.none() | st.booleans() | st.integers() | st.text()
NESTED = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["func", "cases", "input", "output"]), inner))


@settings(deadline=None)
@given(st.text() | NESTED.map(json.dumps))
def test_no_text_breaks_the_reader(text):
    for lenient in (True, False):
        assert isinstance(parse_written(f"```json\n{text}\n```", lenient=lenient), WrittenFunction | Failure)


def test_lines_that_mention_downloads_or_requests_are_deleted_whole_as_upstream_does():
    assert drop_download_lines("import requests\nx = 'download'\nreturn 1") == "return 1"


# ---------------------------------------------------------------- validating


def test_a_case_that_half_of_the_functions_deny_goes_under_the_papers_rule_and_stays_under_upstreams():
    written = [answer(YES, ("a", True)), answer(NO, ("b", False))]
    values = {YES: [True, True], NO: [False, False]}
    assert cross_validate(written, values, Rules()).reason == "no_case_agreed"
    found = cross_validate(written, values, Rules(case="> 0", function="> 0"))
    assert isinstance(found, Validated)
    assert found.functions == ((YES, 0.5), (NO, 0.5))


def test_a_call_without_a_value_is_wrong_even_where_none_is_expected():
    found = cross_validate([answer(YES, ("a", None))], {YES: [NOTHING]}, Rules())
    assert found.reason == "no_case_agreed"


def test_a_function_that_does_not_load_counts_for_nothing_nor_do_its_cases():
    written = [answer(YES, ("a", True)), answer("broken", ("z", False))]
    found = cross_validate(written, {YES: [True, True], "broken": None}, Rules())
    assert found == Validated(((YES, 1.0),), (Case("a", True),))


def test_normalised_booleans_compare_what_is_meant_and_raw_ones_what_is_there():
    written = [answer(YES, ("a", "True"))]
    assert isinstance(cross_validate(written, {YES: [True]}, Rules()), Validated)
    assert cross_validate(written, {YES: [True]}, Rules(normalise=False)).reason == "no_case_agreed"


def test_a_function_that_always_says_yes_is_not_perfect_because_all_cases_are_true():
    written = [answer(YES, ("a", True), ("b", True))]
    assert isinstance(cross_validate(written, {YES: [True, True]}, Rules()), Validated)
    found = cross_validate(written, {YES: [True, True]}, Rules(both_labels=True))
    assert found.reason == "cases_of_one_label"


def test_a_function_that_tells_no_label_apart_goes_even_if_most_cases_are_of_one():
    real = "def evaluate(r):\n    return r != 'c'"
    written = [answer(YES, ("a", True), ("b", True)), answer(real, ("c", False)), answer(real + "\n# 2")]
    values = {YES: [True, True, True], real: [True, True, False], real + "\n# 2": [True, True, False]}
    found = cross_validate(written, values, Rules(both_labels=True))
    assert [source for source, _ in found.functions] == [real, real + "\n# 2"]
    assert YES in dict(cross_validate(written, values, Rules()).functions)


def test_without_agreement_all_that_loads_stays_whatever_the_others_say():
    written = [answer(YES, ("a", True)), answer(NO, ("b", True)), answer("broken", ("z", False))]
    values = {YES: [True, True, True], NO: [False, False, NOTHING], "broken": None}
    assert cross_validate(written, values, Rules()).reason == "no_case_agreed"
    found = cross_validate(written, values, Rules(both_labels=True, agreement=False))
    assert found == Validated(((YES, 1.0), (NO, 0.0)), (Case("a", True), Case("b", True)))
    assert cross_validate(written, values, Rules(min_functions=3, agreement=False)).reason == "too_few_functions"


@pytest.mark.parametrize(("rules", "reason"), [
    (Rules(min_functions=2), "too_few_functions"), (Rules(min_cases=2), "too_few_cases")])
def test_the_gates_count_distinct_functions_and_cases(rules, reason):
    written = [answer(YES, ("a", True)), answer(YES, ("a", True))]
    assert cross_validate(written, {YES: [True]}, rules).reason == reason


@settings(deadline=None)
@given(st.data())
def test_what_is_validated_meets_its_own_thresholds(data):
    functions = [f"f{i}" for i in range(data.draw(st.integers(1, 5)))]
    cases = [(str(i), data.draw(st.booleans())) for i in range(data.draw(st.integers(1, 6)))]
    values = {f: data.draw(st.lists(st.sampled_from([True, False, NOTHING]), min_size=len(cases),
                                    max_size=len(cases))) for f in functions}
    rules = Rules(data.draw(st.sampled_from(["> 0", "> 0.5", ">= 0.8"])), "> 0.5")
    found = cross_validate([answer(f, *cases) for f in functions], values, rules)
    if isinstance(found, Validated):
        kept = [i for i, case in enumerate(cases) if Case(*case) in found.cases]
        for i in kept:
            assert holds(rules.case, sum(values[f][i] is cases[i][1] for f in functions) / len(functions))
        for f, share in found.functions:
            assert share == pytest.approx(sum(values[f][i] is cases[i][1] for i in kept) / len(kept))
            assert share > 0.5


def test_bounds_say_whether_the_value_itself_is_enough():
    assert holds(">= 0.8", 0.8)
    assert not holds("> 0.8", 0.8)
    assert holds(">0", 0.01)
    for wrong in ("0.5", "< 0.5", "> half", ""):
        with pytest.raises(ValidationError):
            TypeAdapter(Bound).validate_python(wrong)


def test_a_text_that_spells_no_boolean_stays_what_it_is():
    labels = (" TRUE ", "false", "yes", "", 1, None)
    assert [normalised_label(x) for x in labels] == [True, False, "yes", "", 1, None]


# ---------------------------------------------------------------- pairs


@given(st.lists(st.integers(), max_size=6, unique=True), st.lists(st.integers(), max_size=6, unique=True),
       st.integers(0, 99), st.none() | st.integers(1, 4))
def test_pairs_are_distinct_within_the_limit_and_the_same_for_one_seed(good, bad, seed, limit):
    made = pairs(good, bad, Random(seed), limit)
    assert made == pairs(good, bad, Random(seed), limit)
    assert len(set(made)) == len(made) == min(len(good), limit or 99) * min(len(bad), limit or 99)
    assert all(g in good and b in bad for g, b in made)
