"""Suri's p(preference | prompt), by scripted models: both orders, what counts as right, what is written."""

import json
from collections.abc import Iterator, Sequence
from math import log
from pathlib import Path

import pytest

from if_factory.errors import UserError
from if_factory.evaluation.preference import Orders, markdown, measure, questions
from if_factory.evaluation.rank import rank
from if_factory.evaluation.ranking import GIVEN, SETTINGS, Contest, Triple, contests
from if_factory.evaluation.score import LogProb, Pair
from if_factory.records import Constraint, Turn

ITEM = Triple("t", "Figs are sweet.", given=("Praise figs.", "Praise pears."), system="Be brief.",
              history=(Turn(role="user", content="Hello."),))


class Reader:
    """A scripted model that answers with the digit of the instruction that ``picks`` says, with probability 0.9."""

    longest = 10_000
    lead = "> "  # what its template writes before every answer

    def __init__(self, picks: str, key: str = "m") -> None:
        self.picks, self.key = picks, key
        self.asked: list[str] = []

    def render(self, messages: Sequence[dict[str, str]], response: str) -> Pair:
        return [ord(c) for c in "|".join(m["content"] for m in messages)], [ord(c) for c in self.lead + response + "."]

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, LogProb]]:
        for i, (x, y) in enumerate(pairs):
            question, answer = "".join(map(chr, x)), "".join(map(chr, y))
            if "INSTRUCTION 1" not in question:
                yield i, LogProb(-1.0, len(y))
                continue
            self.asked.append(question)
            first, second = question.split("INSTRUCTION 1")[1].split("INSTRUCTION 2")
            said = "1" if self.picks == "first" or (self.picks in first and self.picks not in second) else "2"
            yield i, LogProb(log(0.9 if answer == said else 0.1), 1)

    def close(self) -> None:
        pass


def test_the_question_holds_the_text_and_both_instructions_in_both_orders_and_the_digit_alone_is_scored() -> None:
    scorer = Reader("figs")
    (w_first, l_first), = questions([Contest(ITEM, GIVEN, *ITEM.given)], scorer)  # type: ignore[misc, list-item]
    for digits, first in ((w_first, "Praise figs."), (l_first, "Praise pears.")):
        (x, one), (same, two) = digits
        assert x == same
        assert ("".join(map(chr, one)), "".join(map(chr, two))) == ("1", "2")
        text = "".join(map(chr, x))
        assert text.endswith(scorer.lead), "what stands before the digit in every answer is no choice"
        assert "Figs are sweet." in text
        assert "Praise figs." in text
        assert "Praise pears." in text
        assert text.split("INSTRUCTION 1")[1].split("\n")[1] == first
        assert "Be brief." not in text


def test_only_what_both_orders_say_is_right_and_a_preferred_place_is_chance() -> None:
    item = Contest(ITEM, GIVEN, *ITEM.given)  # type: ignore[misc]
    right, wrong = (log(0.9), log(0.1)), (log(0.1), log(0.9))
    found = [item] * 4
    said = [Orders(right, right), Orders(right, wrong), Orders(wrong, wrong), Orders((-1.0, -1.0), (-1.0, -1.0))]
    cell = measure(found, {"m": said}).cells[GIVEN]["m"]
    assert (cell.accuracy.passed, cell.accuracy.n, cell.one_order) == (1, 4, 1)
    assert [round(o.probability, 6) for o in said] == [0.9, 0.5, 0.1, 0.5]
    assert Orders((-2000.0, 0.0), (-2000.0, 0.0)).probability == pytest.approx(0)


def test_a_run_asks_in_every_setting_and_compares_the_models(tmp_path: Path) -> None:
    good, bad = (tuple(Constraint(type="text", text=f"{side} {i}.", kind="judge") for i in range(4))
                 for side in ("Good", "Bad"))
    items = [Triple(str(i), f"y{i}", "Write.", good, bad) for i in range(3)]
    models = {"before": lambda: Reader("first", "b"), "after": lambda: Reader("Good 0.", "a")}
    for folder in ("1", "2"):
        result = rank(items, models, tmp_path / folder, preference=True)  # type: ignore[arg-type]
    for name in ("ranking.json", "ranking.md", "ranking.jsonl"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert result.preference is not None
    assert list(result.preference.cells) == list(SETTINGS)
    whole = result.preference.cells["M,M"]
    assert (whole["before"].accuracy.passed, whole["before"].one_order) == (0, 3)
    assert whole["before"].probability.value == pytest.approx(0.5)
    assert (whole["after"].accuracy.passed, whole["after"].one_order) == (3, 0)
    assert result.preference.changes["M,M"][0].probability.value == pytest.approx(0.4)
    written = json.loads((tmp_path / "1" / "ranking.json").read_text())["preference"]
    assert written["settings"]["M,M"]["after"]["accuracy"]["passed"] == 3
    rows = [json.loads(line) for line in (tmp_path / "1" / "ranking.jsonl").read_text().splitlines()]
    assert len(rows) == 15
    first = rows[0]["digits"]["after"]
    assert first["w_first"]["x_w"] > first["w_first"]["x_l"]
    assert first["l_first"]["x_w"] > first["l_first"]["x_l"]
    assert "| (M, M) | after − before | +100.0 [+100.0, +100.0] |" in markdown(result.preference)
    assert "right in one order" in (tmp_path / "1" / "ranking.md").read_text()


def test_without_the_option_nothing_is_asked_and_the_files_have_no_word_of_it(tmp_path: Path) -> None:
    reader = Reader("figs")
    rank([ITEM], {"m": lambda: reader}, tmp_path)  # type: ignore[dict-item, return-value]
    assert reader.asked == []
    assert "preference" not in (tmp_path / "ranking.json").read_text()
    assert "digits" not in (tmp_path / "ranking.jsonl").read_text()


def test_items_whose_question_does_not_fit_are_left_out_and_counted(tmp_path: Path) -> None:
    short, long = (Triple(n, "y" * size, given=("Good.", "Bad.")) for n, size in (("s", 10), ("l", 1500)))
    kept = rank([short, long], {"m": lambda: Reader("Good")}, tmp_path, max_tokens=1600)  # type: ignore[dict-item, return-value]
    assert kept.cells[GIVEN]["m"].accuracy.n == 2
    asked = rank([short, long], {"m": lambda: Reader("Good")}, tmp_path, max_tokens=1600, preference=True)  # type: ignore[dict-item, return-value]
    assert asked.cells[GIVEN]["m"].accuracy.n == 1
    assert json.loads((tmp_path / "ranking.json").read_text())["too_long"] == 1


def test_a_tokenizer_that_writes_both_digits_alike_is_refused() -> None:
    class Blind(Reader):
        def render(self, messages: Sequence[dict[str, str]], response: str) -> Pair:
            return [1], [0]

    with pytest.raises(UserError, match="digits 1 and 2 alike"):
        questions(contests([ITEM]), Blind("x"))  # type: ignore[arg-type]
