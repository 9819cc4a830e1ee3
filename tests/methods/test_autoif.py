"""AutoIF: upstream's own samples reproduced, the crafted functions survived, and the method played by a scripted
teacher (named as such)."""

import asyncio
import hashlib
import json
import re
from collections import Counter
from functools import partial
from random import Random

import pytest

from if_factory.constraints import generated
from if_factory.constraints.verify import verify
from if_factory.errors import UserError
from if_factory.factory import emit
from if_factory.llm.base import Completion
from if_factory.llm.budget import Budget, Usage
from if_factory.llm.client import Model
from if_factory.llm.scripted import ScriptedBackend
from if_factory.methods.autoif import METHOD, PRESETS, Options, stages
from if_factory.methods.autoif.instructions import parse_instructions
from if_factory.methods.base import Emission
from if_factory.pipeline.runner import run
from if_factory.quality.crossval import Case, Rules, Validated, Written, cross_validate, holds, pairs
from if_factory.quality.judge import judge_score
from if_factory.quality.votes import put_to_vote
from if_factory.recipe import commented, parse
from if_factory.records import Candidate, Constraint, Outcome, Record, Verdict
from if_factory.sandbox import Limits
from tests.support.scripted_teacher import instruction, teach

PAPER, CODE = Options(**PRESETS["paper"]), Options(**PRESETS["code"])
GOOD = "def evaluate(response):\n    return 'river' in response.lower()"
CASES = [["By the river.", True], ["By the sea.", False], ["RIVER", True]]


@pytest.fixture(scope="module", autouse=True)
def short_limits():
    """Functions that hang are part of the tests."""
    generated.configure(limits=Limits(cpu_seconds=0.5, wall_seconds=1.5, total_seconds=4))
    yield
    generated.configure()


def play(records, options, *, only=None, seed=0, **roles):
    """Run the method's stages (or those named) with one scripted answer function per role."""
    usage = Usage()
    models = {role: Model(role, ScriptedBackend(role, answer), log=None, budget=Budget(), usage=usage, retries=0)
              for role, answer in roles.items()}
    chosen = [s for s in stages(options) if only is None or s.name in only]
    return asyncio.run(run(chosen, records, models, seed=seed)), usage


def scripted(request):
    return teach(request.messages[-1]["content"], request.sample)


def recipe(preset="default", **options):
    return parse({"method": "autoif", "preset": preset, "models": {"teacher": {}}, "options": options})


def rows_of(shared, name):
    return [json.loads(line) for line in (shared / "data" / "autoif" / name).read_text().splitlines()]


def answer_of(source, cases=CASES):
    return f"```json\n{json.dumps({'func': source, 'cases': [{'input': i, 'output': o} for i, o in cases]})}\n```"


# ---------------------------------------------------------------- upstream's samples


def cross_validated(shared, options):
    """The stages that write and validate functions, with the recorded answers as the teacher's."""
    rows = rows_of(shared, "eval_func_rft.jsonl")
    recorded = {r["instruction"]: r["gpt-answer"] for r in rows}

    def teacher(request):
        asked = next(i for i in recorded if i in request.messages[-1]["content"])
        return recorded[asked][request.sample]

    seeds = [Record.from_seed(r["instruction"], extra={"origin": "seed", "verifiable": True}) for r in rows]
    result, _ = play(seeds, options, only=("write_functions", "cross_validate"), teacher=teacher)
    return result


def totals(result):
    return (len(result.records), sum(len(r.constraints[0].kwargs["functions"]) for r in result.records),
            sum(len(r.extra["cases"]) for r in result.records))


def test_preset_code_keeps_upstreams_functions_and_cases_to_the_letter(shared):
    result = cross_validated(shared, CODE)
    assert totals(result) == (4, 17, 52)
    canonical = sorted(
        [r.prompt, sorted([hashlib.sha1(f.encode()).hexdigest()[:10], round(share, 6)] for f, share in
                          zip(r.constraints[0].kwargs["functions"], r.constraints[0].kwargs["accuracy"], strict=True)),
         sorted(json.dumps(case) for case in r.extra["cases"])] for r in result.records)
    file = shared / "data" / "autoif" / "expected" / "cross_validation_canonical.json"
    assert canonical == json.loads(file.read_text())
    assert hashlib.sha1(json.dumps(canonical).encode()).hexdigest() == "3d6ca7f2429329ccea313230351bab0e4e649721"
    assert [r.reason for r in result.rejects] == ["no_function_agreed"]


@pytest.mark.parametrize(("options", "expected"), [
    (PAPER.model_copy(update={"booleans": "raw"}), (5, 36, 48)), (PAPER, (5, 36, 56)),
    (CODE.model_copy(update={"booleans": "normalised"}), (4, 17, 61))])
def test_the_other_rules_keep_what_was_measured_for_them(shared, options, expected):
    assert totals(cross_validated(shared, options)) == expected


def test_lenient_parsing_reads_every_recorded_answer(shared):
    records = cross_validated(shared, Options()).records
    assert len(records) == 5
    assert not any(r.extra["unread_answers"] for r in records)
    strict = cross_validated(shared, PAPER).records
    assert sum((Counter(r.extra["unread_answers"]) for r in strict), Counter()) == {"wrong_json": 3}


def test_all_22_recorded_function_scores_are_reproduced(shared):
    same = 0
    for row in rows_of(shared, "back_trans.jsonl"):
        cases = [Case(*case) for case in row["cases"]]
        written = [Written(source, tuple(cases)) for source, _ in row["eval_func"]]
        values = {w.source: generated.shared_pool().run(w.source, [c.input for c in cases]).values for w in written}
        found = cross_validate(written, values, Rules(">= 0", ">= 0", normalise=False))
        assert isinstance(found, Validated)
        same += sum(dict(found.functions)[source] == share for source, share in row["eval_func"])
    assert same == 22


@pytest.mark.parametrize(("options", "kept"), [(CODE, 16), (PAPER, 19)])
def test_the_quality_score_keeps_what_upstream_and_the_paper_keep(shared, options, kept):
    async def said(row, messages, **options):
        return Completion(row["gen"][0])

    rows = rows_of(shared, "query_rft_score.jsonl")
    judged = [asyncio.run(judge_score(partial(said, row), row["query"], row["response"], low=0, high=10))
              for row in rows]
    chosen = [row for row, j in zip(rows, judged, strict=True) if holds(options.quality_score, j.mean)]
    assert len(chosen) == kept
    if options is CODE:
        assert chosen == rows_of(shared, "query_score_filter.jsonl")


def test_168_answers_without_a_verdict_make_not_one_negative(shared):
    outcomes, emission = Counter(), Emission()
    for row in rows_of(shared, "dpo_query_w_funcs.jsonl"):
        functions = {"functions": [source for source, _ in row["eval_func"]], "more_than": 0.0}
        constraint = Constraint(type="generated:function", kind="generated_code", kwargs=functions)
        voted = asyncio.run(put_to_vote([constraint], [Candidate(text=t, source="x") for t in row["gpt-answer"]]))
        outcomes.update(v.candidate.verdicts[0].outcome for v in voted)
        record = Record.from_seed(row["prompt"]).child(row["prompt"], [constraint], 1)
        record = record.with_candidates(*(v.candidate for v in voted)).model_copy(
            update={"extra": {"votes": [v.votes for v in voted]}})
        METHOD.emit(record, CODE, emission, 0)
    assert outcomes == {Outcome.NO_VERDICT: 168}
    assert not emission.datasets


@pytest.mark.parametrize(("per_side", "expected"), [(None, 18), (2, 6)])
def test_pairs_from_the_recorded_accuracies(shared, per_side, expected):
    made = []
    for row in rows_of(shared, "dpo_query_eval_score_results.jsonl"):
        accuracy = dict(row["response"])
        good = [t for t, a in accuracy.items() if holds(CODE.dpo_positive, a)]
        made.append(pairs(good, [t for t, a in accuracy.items() if a == 0], Random(0), per_side))
    assert len([m for m in made if m]) == 3
    assert sum(map(len, made)) == expected


# ---------------------------------------------------------------- crafted functions


CRAFTED = {
    "loops": "def evaluate(response):\n    while True:\n        pass",
    "swallows its timeout": "import time\ndef evaluate(response):\n    while True:\n        try:\n"
                            "            time.sleep(1)\n        except Exception:\n            pass",
    "loops at the top": "while True:\n    pass\ndef evaluate(response):\n    return True",
    "exits": "def evaluate(response):\n    exit()",
    "exits hard": "import os\ndef evaluate(response):\n    os._exit(0)",
    "overwrites names": "results = []\nfilter_results = []\ndef evaluate(response):\n    return 3",
    "writes a file": "def evaluate(response):\n    open('/tmp/autoif_escaped', 'w').write('x')\n    return True",
}
MALFORMED = {
    "no func": json.dumps({"cases": []}), "list func": json.dumps({"func": ["def evaluate"], "cases": []}),
    "case is no object": json.dumps({"func": GOOD, "cases": ["x", 3, None]}), "prose": "I cannot help with that.",
    "broken": '{"func": ', "empty": "",
}


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_function_ends_and_its_row_is_lost_alone_with_a_reason(what, tmp_path):
    texts = ["good one", "crafted one", "good two"]

    def teacher(request):
        crafted = "crafted" in request.messages[-1]["content"]
        return answer_of(CRAFTED[what] if crafted else GOOD)

    seeds = [Record.from_seed(t, extra={"origin": "seed", "verifiable": True}) for t in texts]
    result, _ = play(seeds, Options(answers=1), only=("write_functions", "cross_validate"), teacher=teacher)
    assert [r.prompt for r in result.records] == ["good one", "good two"]
    (reject,) = result.rejects
    assert reject.reason in ("too_few_functions", "no_function_agreed", "no_case_agreed")
    assert reject.detail


@pytest.mark.parametrize("what", CRAFTED)
def test_a_crafted_function_beside_good_ones_costs_nothing_but_itself(what):
    def teacher(request):
        return answer_of(GOOD + f"\n# {request.sample}" if request.sample else CRAFTED[what])

    seeds = [Record.from_seed("one", extra={"origin": "seed", "verifiable": True})]
    result, _ = play(seeds, Options(answers=4), only=("write_functions", "cross_validate"), teacher=teacher)
    (record,) = result.records
    assert CRAFTED[what] not in record.constraints[0].kwargs["functions"]
    assert len(record.constraints[0].kwargs["functions"]) == 3


@pytest.mark.parametrize("what", MALFORMED)
@pytest.mark.parametrize("parsing", ["lenient", "strict"])
def test_a_malformed_answer_is_counted_and_the_others_go_on(what, parsing):
    text = f"```json\n{MALFORMED[what]}\n```" if MALFORMED[what].startswith("{") else MALFORMED[what]

    def teacher(request):
        return answer_of(GOOD + f"\n# {request.sample}") if request.sample else text

    seeds = [Record.from_seed("one", extra={"origin": "seed", "verifiable": True})]
    result, _ = play(seeds, Options(answers=3, parsing=parsing), only=("write_functions", "cross_validate"),
                     teacher=teacher)
    (record,) = result.records
    assert sum(record.extra["unread_answers"].values()) + record.extra["unread_cases"] in (1, 3)


def test_a_function_whose_answers_change_from_run_to_run_is_dropped():
    flaky = "import random\ndef evaluate(response):\n    return random.random() < 0.5"

    def teacher(request):
        return answer_of(GOOD if request.sample else flaky)

    seeds = [Record.from_seed("one", extra={"origin": "seed", "verifiable": True})]
    cases_only = play(seeds, Options(answers=2), only=("write_functions", "cross_validate"), teacher=teacher)[0]
    assert cases_only.records[0].constraints[0].kwargs["functions"] == [GOOD]


def test_helpers_and_imports_at_the_top_still_work_when_answers_are_checked():
    source = "import re\ndef helper(t):\n    return re.search('river', t)\ndef evaluate(response):\n    " \
             "return bool(helper(response))"
    constraint = Constraint(type="generated:function", kind="generated_code", kwargs={"functions": [source]})
    assert verify("a river", [constraint])[0].passed
    assert verify("a lake", [constraint])[0].failed
