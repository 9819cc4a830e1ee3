import json

import pytest

from if_factory.errors import UserError
from if_factory.evaluation.passrate import Item, check_all, compare, markdown, measure, pass_rate
from if_factory.records import Constraint, Turn

NO_COMMA = Constraint(type="punctuation:no_comma")
JUDGED = Constraint(type="style:polite", kind="judge")


def has(word: str) -> Constraint:
    return Constraint(type="keywords:existence", kwargs={"keywords": [word]})


ITEMS = [Item("a", "Describe a cat", (NO_COMMA, has("cat"))),
         Item("b", "Describe a dog", (NO_COMMA, has("dog"))),
         Item("c", "Describe a fox", (NO_COMMA,))]
BEFORE = {"a": "A cat, a pet.", "b": "A dog.", "c": "x, y"}
AFTER = {"a": "A cat.", "b": "A dog, loud.", "c": "A fox."}


def test_counts_prompts_and_constraints_apart():
    rate = pass_rate(check_all(ITEMS, BEFORE))
    assert (rate.prompt.passed, rate.prompt.n) == (1, 3)
    assert (rate.instruction.passed, rate.instruction.n) == (3, 5)


def test_no_verdict_is_counted_and_never_passes():
    items = [Item("a", "p", (NO_COMMA, JUDGED)), Item("b", "p2", (JUDGED,))]
    rate = pass_rate(check_all(items, {"a": "fine", "b": "fine"}))
    assert (rate.prompt.passed, rate.instruction.passed, rate.no_verdict) == (0, 1, 2)


def test_a_request_that_failed_has_no_verdict_and_an_empty_answer_fails():
    failed, empty = (pass_rate(check_all(ITEMS[2:], {"c": text})) for text in (None, ""))
    assert (failed.no_verdict, failed.prompt.passed) == (1, 0)
    assert (empty.no_verdict, empty.prompt.passed) == (0, 0)


def test_comparison_is_paired_and_counts_gains_and_losses():
    found = compare(check_all(ITEMS, BEFORE), check_all(ITEMS, AFTER))
    assert (found.gained, found.lost) == (2, 1)
    assert found.prompt.value == pytest.approx(1 / 3)
    assert found.instruction.value == pytest.approx(1 / 5)
    assert found.prompt.low <= found.prompt.value <= found.prompt.high
    assert found.p == pytest.approx(1.0)


def test_a_clear_gain_on_a_hundred_prompts_excludes_zero():
    items = [Item(str(i), "p", (NO_COMMA,)) for i in range(100)]
    before = {str(i): "a, b" if i % 2 else "ab" for i in range(100)}
    after = {str(i): "a, b" if i % 10 == 1 else "ab" for i in range(100)}
    change = measure(items, {"before": before, "after": after}).comparisons["after"]["strict"]
    assert change.prompt.low > 0.2
    assert change.p < 1e-6


def test_order_of_responses_does_not_matter_but_their_ids_do():
    turned = dict(reversed(AFTER.items()))
    straight = measure(ITEMS, {"before": BEFORE, "after": AFTER})
    assert straight == measure(ITEMS, {"before": BEFORE, "after": turned})
    assert straight != measure(ITEMS, {"before": BEFORE, "after": {**AFTER, "a": "x, y"}})


def test_loose_forgives_what_strict_does_not():
    items = [Item("a", "p", (NO_COMMA,))]
    results = measure(items, {"before": {"a": "Sure, here it is:\nno comma at all"}})
    assert results.rates["before"]["strict"].prompt.passed == 0
    assert results.rates["before"]["loose"].prompt.passed == 1


def test_per_type_adds_up_to_the_whole():
    results = measure(ITEMS, {"before": BEFORE, "after": AFTER})
    cells = results.by_type["strict"]
    assert list(cells) == ["punctuation:no_comma", "keywords:existence"]
    assert sum(c["after"].n for c in cells.values()) == results.constraints
    assert sum(c["after"].passed for c in cells.values()) == results.rates["after"]["strict"].instruction.passed


def test_families_add_up_their_types():
    no_y = Constraint(type="keywords:forbidden_words", kwargs={"forbidden_words": ["y"]})
    items = [Item("a", "p", (has("x"), no_y))]
    cells = measure(items, {"before": {"a": "x and y"}}).by_family["strict"]
    assert {k: (c["before"].passed, c["before"].n) for k, c in cells.items()} == {"keywords": (1, 2)}


def test_per_difficulty_splits_the_prompts_by_their_number_of_constraints():
    cells = measure(ITEMS, {"before": BEFORE, "after": AFTER}).by_difficulty["strict"]
    assert {level: (c["before"].passed, c["after"].passed, c["after"].n) for level, c in cells.items()} == \
        {1: (0, 1, 1), 2: (1, 1, 2)}


@pytest.mark.parametrize(("items", "responses", "message"), [
    ([], {}, "no prompt"),
    ([Item("a", "p", ())], {"a": "x"}, "without constraints"),
    (ITEMS, {"a": "x"}, "no response"),
    ([ITEMS[0], ITEMS[0]], BEFORE, "more than once"),
])
def test_bad_input_is_refused(items, responses, message):
    with pytest.raises(UserError, match=message):
        measure(items, {"before": responses})


def test_results_are_plain_json_with_values():
    text = json.dumps(measure(ITEMS, {"before": BEFORE, "after": AFTER}).as_dict())
    found = json.loads(text)
    assert found["rates"]["before"]["strict"]["prompt"]["value"] == pytest.approx(1 / 3, abs=1e-5)
    assert found["comparisons"]["after"]["loose"]["gained"] == 2


def test_markdown_tables_are_rectangular_and_show_all_labels():
    text = markdown(measure(ITEMS, {"base": BEFORE, "easy": AFTER, "hard": AFTER}))
    for table in (block for block in text.split("\n\n") if block.startswith("|")):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "hard − base" in text
    assert "| prompt, strict | 33.3 % (1/3)" in text


def test_messages_hold_system_history_and_prompt_in_order():
    item = Item("a", "now", (NO_COMMA,), system="be brief",
                history=(Turn(role="user", content="hi"), Turn(role="assistant", content="hello")))
    assert [m["content"] for m in item.messages()] == ["be brief", "hi", "hello", "now"]
