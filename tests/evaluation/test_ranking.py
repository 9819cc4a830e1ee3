"""Ranking accuracy: what is compared in which setting, what counts as right, what is written; reading items."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from if_factory.cli import main
from if_factory.emission import emit_triple
from if_factory.errors import UserError
from if_factory.evaluation.rank import rank
from if_factory.evaluation.ranking import GIVEN, SETTINGS, Scores, Triple, contests, markdown, measure
from if_factory.evaluation.score import LogProb, Pair, ScoreLog
from if_factory.evaluation.triples import read_triples
from if_factory.exporting.formats import write_dataset
from if_factory.records import Candidate, Constraint, Outcome, Record, TripleExample, Turn, Verdict


def texts(*said: str) -> tuple[Constraint, ...]:
    return tuple(Constraint(type="text", text=t, kind="judge") for t in said)


def item(name: str, m: int = 4, response: str = "y") -> Triple:
    return Triple(name, response, "Write.", texts(*(f"Good {i}." for i in range(m))),
                  texts(*(f"Bad {i}." for i in range(m))))


class ScriptedScorer:
    """A scripted model: every corrupted constraint costs one nat, of ``noise`` items the other way round."""

    longest = 1000

    def __init__(self, key: str = "m", noise: Sequence[str] = (), per_bad: float = 1.0) -> None:
        self.key, self.noise, self.per_bad = key, noise, per_bad
        self.scored: list[Pair] = []
        self.closed = False

    def render(self, messages: Sequence[dict[str, str]], response: str) -> Pair:
        said = "|".join(m["content"] for m in messages)
        return [ord(c) for c in said], [ord(c) for c in response]

    def score(self, pairs: Sequence[Pair]) -> Iterator[tuple[int, LogProb]]:
        for i, (x, y) in reversed(list(enumerate(pairs))):
            self.scored.append((x, y))
            response = "".join(map(chr, y))
            bad = "".join(map(chr, x)).count("Bad")
            yield i, LogProb(-10.0 - bad * self.per_bad * (-1 if response in self.noise else 1), len(y))

    def close(self) -> None:
        self.closed = True


# ---------------------------------------------------------------- settings


@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from(list(SETTINGS)), st.integers(0, 5))
def test_a_setting_includes_n_constraints_and_corrupts_m_of_them_on_one_side_only(m: int, name: str,
                                                                                  seed: int) -> None:
    found = next(c for c in contests([item("a", m)], seed) if c.setting == name)
    n, bad = SETTINGS[name](m)
    assert (len(found.included), len(found.corrupted)) == (n, bad)
    assert set(found.corrupted) <= set(found.included)
    assert [f"Good {i}." in found.x_w for i in range(m)] == [i in found.included for i in range(m)]
    assert "Bad" not in found.x_w
    assert [f"Bad {i}." in found.x_l for i in range(m)] == [i in found.corrupted for i in range(m)]
    assert found.x_l.replace("Bad", "Good") == found.x_w  # nothing else differs, the layout included


def test_settings_are_the_papers_for_ten_constraints() -> None:
    assert {k: f(10) for k, f in SETTINGS.items()} == {
        "M,M": (10, 10), "M,M/2": (10, 5), "M,1": (10, 1), "M/2,M/2": (5, 5), "1,1": (1, 1)}


def test_what_is_drawn_depends_on_seed_and_item_and_not_on_the_others() -> None:
    def drawn(items: list[Triple], seed: int) -> dict[tuple[str, str], Any]:
        return {(c.item.id, c.setting): (c.included, c.corrupted) for c in contests(items, seed)}

    several = [item(str(i), 10) for i in range(8)]
    whole = drawn(several, 1)
    assert drawn(several[3:4], 1).items() <= whole.items()
    assert drawn(several, 2) != whole
    assert len({whole[str(i), "1,1"] for i in range(8)}) > 1


def test_the_full_instruction_is_one_and_the_same_in_three_settings() -> None:
    found = contests([item("a", 9)])
    assert len({c.x_w for c in found if c.setting.startswith("M,")}) == 1


# ---------------------------------------------------------------- what counts


def scores(*margins: float, tokens: int = 2) -> list[Scores]:
    return [Scores(LogProb(-5.0, tokens), LogProb(-5.0 - m, tokens)) for m in margins]


def test_a_tie_is_wrong_and_counted_and_margins_are_sums_and_means_per_token() -> None:
    found = [c for c in contests([item(str(i)) for i in range(4)]) if c.setting == "1,1"]
    cell = measure(found, {"m": scores(2, 1, 0, -1)}).cells["1,1"]["m"]
    assert (cell.accuracy.passed, cell.accuracy.n, cell.ties) == (2, 4, 1)
    assert cell.accuracy.low < 0.5 < cell.accuracy.high
    assert (cell.margin.value, cell.per_token.value) == (0.5, 0.25)
    assert cell.margin.low is not None
    assert cell.margin.low < 0.5


def test_models_are_compared_in_pairs_on_the_same_items() -> None:
    found = [c for c in contests([item(str(i)) for i in range(4)]) if c.setting == "1,1"]
    result = measure(found, {"before": scores(-1, -1, -1, 1), "sft": scores(1, 1, 1, -1),
                             "iorpo": scores(3, 3, 3, 1)})
    changes = {(c.before, c.after): c for c in result.changes["1,1"]}
    assert set(changes) == {("before", "sft"), ("before", "iorpo"), ("sft", "iorpo")}
    assert changes["sft", "iorpo"].margin.value == 2
    assert changes["sft", "iorpo"].margin.low == 2  # every item gained the same
    assert changes["before", "sft"].accuracy.value == 0.5


# ---------------------------------------------------------------- a whole run


def test_a_run_writes_every_contest_and_the_same_bytes_again(tmp_path: Path) -> None:
    items = [item(str(i), 4, f"y{i}") for i in range(6)]
    for folder in ("1", "2"):
        rank(items, {"before": lambda: ScriptedScorer("a", noise=["y0", "y1"]),
                     "after": lambda: ScriptedScorer("b", per_bad=2)}, tmp_path / folder)
    for name in ("ranking.json", "ranking.md", "ranking.jsonl"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    result = json.loads((tmp_path / "1" / "ranking.json").read_text())
    before, after = (result["settings"]["M,M"][k] for k in ("before", "after"))
    assert (before["accuracy"]["passed"], after["accuracy"]["passed"]) == (4, 6)
    assert after["margin"]["value"] == 8
    assert (result["items"], result["too_long"], result["seed"]) == (6, 0, 0)
    rows = [json.loads(line) for line in (tmp_path / "1" / "ranking.jsonl").read_text().splitlines()]
    assert len(rows) == 30
    row = next(r for r in rows if r["setting"] == "M,1" and r["id"] == "5")
    assert (len(row["included"]), len(row["corrupted"])) == (4, 1)
    assert row["log_probs"]["after"] == {"x_w": -10.0, "x_l": -12.0}
    assert "| (M, M/2) | after | 6 | 100.0 %" in (tmp_path / "1" / "ranking.md").read_text()


def test_equal_pairs_are_scored_once_and_scored_ones_never_again(tmp_path: Path) -> None:
    first, again, other = ScriptedScorer(), ScriptedScorer(), ScriptedScorer("other")
    rank([item("a")], {"m": lambda: first}, tmp_path)
    assert len(first.scored) == 8  # of 10: x_w with all constraints stands in three settings
    with open(tmp_path / "scored.jsonl", "a") as f:
        f.write('{"key": "torn')
    done: list[int] = []

    class Bar:
        def __enter__(self) -> "Bar":
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, n: int) -> None:
            done.append(n)

    totals: list[int] = []
    rank([item("a")], {"m": lambda: again, "n": lambda: other}, tmp_path,
         watch=lambda label, tokens: totals.append(tokens) or Bar())
    assert (len(again.scored), len(other.scored)) == (0, 8)
    assert sum(done) == sum(totals)
    assert first.closed
    assert other.closed


def test_items_that_do_not_fit_are_left_out_of_every_setting(tmp_path: Path) -> None:
    items = [item("short"), item("long", response="y" * 200)]
    result = rank(items, {"m": ScriptedScorer}, tmp_path, max_tokens=200)
    assert {cells["m"].accuracy.n for cells in result.cells.values()} == {1}
    assert "too long: 1" in (tmp_path / "ranking.md").read_text()
    with pytest.raises(UserError, match="every item is longer than 100 tokens"):
        rank(items[1:], {"m": ScriptedScorer}, tmp_path, max_tokens=100)
    with pytest.raises(UserError, match="no item"):
        rank([], {"m": ScriptedScorer}, tmp_path)


def test_the_score_log_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    log = ScoreLog(path)
    log.put("a", LogProb(-1.25, 3))
    log.close()
    path.write_bytes(path.read_bytes() + b'{"key": "b", "tot')
    log = ScoreLog(path)
    assert (log.get("a"), log.get("b")) == (LogProb(-1.25, 3), None)
    log.put("b", LogProb(-2.0, 1))
    log.close()
    assert ScoreLog(path).get("b") == LogProb(-2.0, 1)


# ---------------------------------------------------------------- reading items


def suris(name: str, positions: Sequence[int], response: str = "The text.") -> TripleExample:
    """A triple as the method Suri emits it, with constraints ``positions`` of the text's."""
    good, bad = ([Constraint(type="suri:constraint", text=f"{side} {i}.", kind="judge") for i in positions]
                 for side in ("Good", "Bad"))
    passed, failed = Verdict(outcome=Outcome.PASS), Verdict(outcome=Outcome.FAIL)
    record = Record.from_seed("", system="Be brief.", history=(Turn(role="user", content="Hi"),
                                                               Turn(role="assistant", content="Hello")),
                              extra={"main_instruction": "Write.",
                                     "corruptions": [c.model_dump(mode="json") for c in bad]})
    record = record.child(f"Write. {name}", good, 1.0)
    emitted = emit_triple(record, Candidate(text=response, source="human", verdicts=(passed,) * len(good)),
                          f"Write. Bad {name}", {0: failed})
    assert isinstance(emitted, TripleExample)
    return emitted


@pytest.mark.parametrize("fmt", ["alpaca", "sharegpt"])
def test_an_exported_dataset_has_its_constraints_in_the_sidecar_and_one_item_per_text(tmp_path: Path,
                                                                                      fmt: Any) -> None:
    examples = [suris("a", [0, 2]), suris("b", [2, 1]), suris("c", [0], "Another.")]
    written = write_dataset("x", examples, tmp_path, fmt)
    first, second = read_triples(written.path)
    assert [c.text for c in first.constraints] == ["Good 0.", "Good 2.", "Good 1."]
    assert [c.text for c in first.corrupted] == ["Bad 0.", "Bad 2.", "Bad 1."]
    assert (first.main, first.response, second.response) == ("Write.", "The text.", "Another.")
    assert [m["content"] for m in first.messages("x")] == ["Be brief.", "Hi", "Hello", "x"]
    written.provenance.unlink()
    finished = read_triples(written.path)
    assert [t.given for t in finished][:2] == [("Write. a", "Write. Bad a"), ("Write. b", "Write. Bad b")]
    assert [c.setting for c in contests(finished)] == [GIVEN] * 3


def test_the_instruction_is_written_as_the_method_writes_it() -> None:
    from if_factory.constraints.join import join

    one = item("a", 5)
    found = next(c for c in contests([one], seed=3) if c.setting == "M,M")
    assert found.x_w == join(one.main, one.constraints, Random("3/a"))


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_plain_rows_and_suris_own_are_read(tmp_path: Path) -> None:
    plain = {"main": "Write.", "constraints": ["A.", "B."], "corrupted": ["C.", "D."], "response": "y"}
    (one,) = read_triples(write(tmp_path / "a.jsonl", plain, plain))
    assert [c.text for c in one.corrupted] == ["C.", "D."]
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "w"}]
    (hub,) = read_triples(write(tmp_path / "b.jsonl", {
        "prompt_chosen": messages, "prompt_rejected": [{"role": "user", "content": "l"}],
        "answer": [{"role": "assistant", "content": "y"}]}))
    assert (hub.given, hub.system, hub.response) == (("w", "l"), "s", "y")
    (bare,) = read_triples(write(tmp_path / "c.jsonl", {"prompt": "w", "prompt_rejected": "l", "response": "y"}))
    assert bare.given == ("w", "l")


GOOD = {"main": "Write.", "constraints": ["A."], "corrupted": ["B."], "response": "y"}


@pytest.mark.parametrize(("row", "message"), [
    ({**GOOD, "response": " "}, r"t\.jsonl:1: no response"),
    ({**GOOD, "corrupted": []}, "1 constraints and 0 corrupted"),
    ({**GOOD, "constraints": [], "corrupted": []}, "0 constraints and 0 corrupted"),
    ({**GOOD, "corrupted": ["A."]}, "same text"),
    ({**GOOD, "corrupted": [3]}, "not a constraint: '3'"),
    ({**GOOD, "constraints": "A."}, "field 'constraints': expected a list"),
    ({"prompt": "w", "response": "y"}, "neither a triple nor lists"),
    ({"prompt": "w", "prompt_rejected": "w ", "response": "y"}, "same text"),
    ({"prompt_chosen": [], "prompt_rejected": [], "answer": []}, "are lists of messages"),
    ({"prompt_chosen": ["x"], "prompt_rejected": [], "answer": []}, r"field 'prompt_chosen\[0\]'"),
    ({**GOOD, "history": "x"}, "field 'history'"),
])
def test_a_row_that_is_no_item_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_triples(write(tmp_path / "t.jsonl", row))


def test_a_sidecar_of_another_length_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", {"prompt": "w", "prompt_rejected": "l", "response": "y"})
    write(tmp_path / "t.provenance.jsonl")
    with pytest.raises(UserError, match=r"0 rows, but t\.jsonl has 1"):
        read_triples(path)
    with pytest.raises(UserError, match="no rows"):
        read_triples(write(tmp_path / "e.jsonl"))


# ---------------------------------------------------------------- the commands


def test_the_command_ranks_before_after_and_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scorer(path: str, chain: Sequence[Path], **_: Any) -> ScriptedScorer:
        return ScriptedScorer("+".join(map(str, chain)), per_bad=1 + len(chain))

    monkeypatch.setattr("if_factory.evaluation.score.Scorer", scorer)
    file = write(tmp_path / "t.jsonl", {"main": "Write.", "constraints": ["Good 1.", "Good 2."],
                                        "corrupted": ["Bad 1.", "Bad 2."], "response": "y"})
    command = ["rank", str(file), "--model", "m", "--adapter", str(tmp_path), "--also", "both=a,b", "-o",
               str(tmp_path / "out")]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "| (M, M) | both | 1 | 100.0 %" in done.output
    written = json.loads((tmp_path / "out" / "ranking.json").read_text())
    assert {k: v["margin"]["value"] for k, v in written["settings"]["M,M"].items()} == {
        "before": 2, "after": 4, "both": 6}
    for wrong in ("both", "both=", "before=a"):
        assert CliRunner().invoke(main, [*command, "--also", wrong]).exit_code == 2


def test_the_command_counts_repetition(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", {"responses": {"before": {"text": "a b c d e " * 3},
                                                      "after": {"text": "a b"}}})
    done = CliRunner().invoke(main, ["repetition", str(file), "--tokens", "words", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "| mean length, tokens (words) | 15 | 2 |" in done.output
    written = json.loads((tmp_path / "out" / "repetition.json").read_text())
    assert written["models"]["before"]["repeating"]["5-gram"]["passed"] == 1
    twice = CliRunner().invoke(main, ["repetition", str(file), str(file), "--tokens", "words", "--json"])
    assert json.loads(twice.output)["models"]["r: before"]["texts"] == 2


def test_markdown_of_one_model_has_no_table_of_differences() -> None:
    found = contests([item("a")])
    assert "difference" not in markdown(measure(found, {"m": scores(*[1.0] * len(found))}))
