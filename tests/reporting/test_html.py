import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest

from if_factory.chat.budget import Usage
from if_factory.errors import UserError
from if_factory.evaluation.passrate import Item, measure
from if_factory.pipeline.ledger import Ledger
from if_factory.pipeline.result import DroppedRecord, RunResult
from if_factory.pipeline.rundir import RunDir
from if_factory.records import Candidate, Constraint, Outcome, Record, Usefulness, Verdict
from if_factory.reporting.html import training_stages, write_report

ATTACK = "<script>alert('x')</script><img src=https://evil.invalid/x onerror=alert(1)>"
NO_COMMA = Constraint(type="punctuation:no_comma", text=f"No commas {ATTACK}")


def record(i: int, good: bool) -> Record:
    verdict = Verdict(outcome=Outcome.PASS) if good else Verdict(outcome=Outcome.FAIL, reason=f"a comma {ATTACK}")
    base = Record.from_seed(f"prompt {i} {ATTACK}").child(f"prompt {i} {ATTACK}. No commas.", [NO_COMMA], 1)
    return base.with_candidates(Candidate(text=f"answer {i} {ATTACK}", source="vanilla", model=ATTACK,
                                          verdicts=(verdict,)))


def write_run(folder):
    ledger = Ledger(["compose", "vanilla"])
    for row, (taken, advanced, rejected) in zip(ledger.rows, ((5, 5, {}), (5, 5, {}), (5, 4, {ATTACK: 1})),
                                                strict=True):
        row.taken, row.advanced, row.produced, row.dropped = taken, advanced, advanced, Counter(rejected)
    usage = Usage()
    tally = usage.tally("vanilla", "student")
    tally.requests, tally.prompt_tokens, tally.completion_tokens, tally.cost = 4, 1200, 3400, None
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("method: complex_to_simple\nseed: 7\n")
    RunDir(folder).write(
        RunResult([record(i, i != 2) for i in range(4)],
                  [DroppedRecord("vanilla", "r", ATTACK, ATTACK)], ledger, True),
        usage, {"sft": {"rows": 3, "refused": {"fails_a_constraint": 1}}})
    return folder


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run")


class Page(HTMLParser):
    """Collects tags and every address the page would load."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.open = Counter(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        if tag not in ("meta", "path", "use", "rect", "link", "img", "br"):
            self.open.append(tag)
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href") and not v.startswith("#")]
        assert not [k for k, _ in attrs if k.startswith("on")], "an event handler came through"

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_model_text_cannot_become_markup(run):
    text = write_report(run).read_text()
    page = Page(text)
    assert page.tags["script"] == 0
    assert page.tags["img"] == 0
    assert page.loads == []
    assert "&lt;script&gt;" in text
    assert page.open == []


def test_the_page_stands_alone_and_says_what_is_missing(run):
    text = write_report(run).read_text()
    assert "Content-Security-Policy" in text
    assert "Not evaluated yet" in text
    assert "<h2>Training</h2>" not in text


def test_funnel_cost_and_emission_are_in_the_tables(run):
    text = re.sub(r"<svg.*?</svg>", "", write_report(run).read_text(), flags=re.DOTALL)
    assert re.search(r"<td>vanilla</td><td class=\"n\">5</td><td class=\"n\">4</td>", text)
    assert "unknown" in text
    assert "fails_a_constraint 1" in text
    assert "3,400" in text


def test_a_failing_answer_names_the_constraint_it_fails(run):
    text = write_report(run).read_text()
    failing = text[text.index("what they fail</h2>"):]
    assert "answer 2" in failing
    assert '<li class="fail"><i>✗</i>' in failing
    assert "answer 1" not in failing
    assert "a comma" in failing


def test_the_headline_stands_first_and_results_of_the_old_format_are_still_read(run):
    items = [Item(str(i), "p", (NO_COMMA,)) for i in range(4)]
    useful = {"before": {k: Usefulness(answers=True) for k in "0123"},
              "after": {k: Usefulness(answers=False, reason=ATTACK) for k in "0123"}}
    results = measure(items, {"before": dict.fromkeys("0123", "a, b"), "after": dict.fromkeys("0123", "ab")},
                      useful=useful, trained={"punctuation:no_comma"}).as_dict()
    (run / "evaluation").mkdir()
    path = run / "evaluation" / "results.json"
    path.write_text(json.dumps(results))
    text = write_report(run).read_text()
    assert text.index("satisfied and useful (whole prompts)") < text.index("prompt, strict")
    assert "Warning.</strong> after: constraints of trained types are satisfied more often" in text
    assert Page(text).tags["script"] == 0
    assert text.count("<svg") == 3
    path.write_text(json.dumps({k: v for k, v in results.items() if k != "headline"} | {"format": 1}))
    assert "Nobody decided" in write_report(run).read_text()
    path.write_text(json.dumps(results | {"format": 3}))
    with pytest.raises(UserError, match="not the results"):
        write_report(run)


def test_evaluation_and_losses_appear_once_they_exist(run):
    items = [Item(str(i), "p", (NO_COMMA,)) for i in range(4)]
    results = measure(items, {"before": dict.fromkeys("0123", "a, b"), "after": dict.fromkeys("0123", "ab")})
    (run / "evaluation").mkdir()
    (run / "evaluation" / "results.json").write_text(json.dumps(results.as_dict()))
    stage = run / "saves" / "1_easy"
    (stage / "checkpoint-2").mkdir(parents=True)
    for folder in (stage, stage / "checkpoint-2"):
        (folder / "trainer_state.json").write_text('{"log_history": [{"step": 1, "loss": 2.0}]}')
    assert list(training_stages(run / "saves")) == ["1_easy"]
    text = write_report(run).read_text()
    assert "+100.0" in text
    assert "Nobody decided" in text
    assert "<h2>Training</h2>" in text
    assert text.count("<svg") == 3


def test_without_matplotlib_the_tables_remain(run, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name, package=None: None)
    text = write_report(run).read_text()
    assert "<svg" not in text
    assert "Where the records went" in text


def test_the_same_files_give_the_same_page(run, tmp_path):
    assert write_report(run, out=tmp_path / "a.html").read_bytes() == \
        write_report(run, out=tmp_path / "b.html").read_bytes()


def test_a_folder_without_a_run_is_explained(tmp_path):
    with pytest.raises(UserError, match="no run here"):
        write_report(tmp_path)


def test_results_of_something_else_are_refused(run):
    (run / "evaluation").mkdir()
    (run / "evaluation" / "results.json").write_text('{"accuracy": 1}')
    with pytest.raises(UserError, match="not the results of an evaluation"):
        write_report(run)


def test_ranking_is_shown_where_it_was_measured(run):
    from tests.reporting.test_plots import ranking_results

    (run / "evaluation").mkdir()
    assert "corrupted instructions" not in write_report(run).read_text()
    (run / "evaluation" / "ranking.json").write_text(json.dumps(ranking_results("before", ATTACK)))
    page = write_report(run).read_text()
    assert "10 items (1 too long)" in page
    assert "+2.50" in page
    assert ATTACK not in page
    (run / "evaluation" / "ranking.json").write_text("{}")
    with pytest.raises(UserError, match="if-factory rank"):
        write_report(run)
