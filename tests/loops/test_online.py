"""Online DPO with a scripted model and a scripted trainer (named as such): what is paired, chained, resumed."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from if_factory.chat.base import Completion, RequestFailed
from if_factory.chat.budget import Usage
from if_factory.chat.scripted import ScriptedBackend
from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.evaluation.audit import audit
from if_factory.loops.online import OnlineOptions, checkable, run_online
from if_factory.pipeline.ledger import Ledger
from if_factory.pipeline.result import RunResult
from if_factory.pipeline.rundir import RunDir
from if_factory.recipe import parse
from if_factory.records import Constraint, Record
from if_factory.training.curriculum import CurriculumOptions

TRAINER = [sys.executable, str(Path(__file__).parents[1] / "training" / "scripted_trainer.py")]
NO_COMMA = Constraint(type="punctuation:no_comma", text="Use no commas.")
RIVER = Constraint(type="generated:function", kind="generated_code", text="Mention a river.", kwargs={
    "functions": ["def evaluate(text):\n    return 'river' in text", "def evaluate(text):\n    return 1 / 0"]})
JUDGED = Constraint(type="judge:criterion", kind="judge", text="Be kind.")


def record(prompt, *constraints):
    return Record.from_seed(prompt).child(prompt, constraints, len(constraints))


RECORDS = [record(f"Say {i}. {c.text}", c) for i in range(6) for c in (NO_COMMA, RIVER)]


def answer(request):
    """Every second answer has a comma and no river."""
    return f"by the river {request.sample}" if request.sample % 2 else f"no, by the sea {request.sample}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def play(folder, *, records=RECORDS, says=answer, opener=None, training=None, **options):
    """Two iterations unless said otherwise; returns them and the scripted model of each."""
    models = []

    def open_scripted(number, adapters):
        models.append(ScriptedBackend("+".join(["base", *(Path(a).name for a in adapters)]), says))
        return models[-1]

    done = run_online(records, training or CurriculumOptions("base", None, name="x", cpu=True),
                      OnlineOptions(**{"iterations": 2, "prompts": 4, "samples": 4, **options}), Path("out"),
                      opener or open_scripted, cli=TRAINER, say=lambda line: None)
    return done, models


def config(folder, number):
    return yaml.safe_load((folder / "out" / "yaml" / f"x_online_{number}.yaml").read_text())


def test_each_iteration_samples_from_what_the_one_before_made(folder):
    done, models = play(folder)
    assert [m.model for m in models] == ["base", "base+x_online_1"]
    assert [d.pairs > 0 and d.losses for d in done] == [(2.0, 1.5, 1.2, 1.0)] * 2
    assert all(m.closed for m in models)
    assert config(folder, 1)["warmup_ratio"] == 0.0, "of a step or two, a warm-up would leave none"
    assert {r.temperature for m in models for r in m.requests} == {0.8}
    first, second = ({r.messages[-1]["content"] for r in m.requests} for m in models)
    assert not first & second  # other prompts, while there are some


def test_adapters_are_merged_and_the_reference_is_the_model_an_iteration_starts_from(folder):
    play(folder, adapters=("saves/sft",), training=_sft_adapter(folder))
    assert config(folder, 1)["adapter_name_or_path"] == "saves/sft"
    assert config(folder, 1)["create_new_adapter"] is True
    assert config(folder, 2)["adapter_name_or_path"] == "saves/sft,out/saves/x_online_1"
    assert config(folder, 2)["create_new_adapter"] is True
    export = yaml.safe_load((folder / "out" / "yaml" / "x_export.yaml").read_text())
    assert export["adapter_name_or_path"] == "saves/sft,out/saves/x_online_1,out/saves/x_online_2"


def test_with_the_reference_at_the_start_one_adapter_goes_on(folder):
    play(folder, adapters=("saves/sft",), training=_sft_adapter(folder), reference="start")
    assert config(folder, 1)["create_new_adapter"] is True
    assert config(folder, 2)["adapter_name_or_path"] == "saves/sft,out/saves/x_online_1"
    assert "create_new_adapter" not in config(folder, 2)
    export = yaml.safe_load((folder / "out" / "yaml" / "x_export.yaml").read_text())
    assert export["adapter_name_or_path"] == "saves/sft,out/saves/x_online_2"


def _sft_adapter(folder):
    (folder / "saves" / "sft").mkdir(parents=True)
    (folder / "saves" / "sft" / "adapter_model.safetensors").write_bytes(b"sft")
    return CurriculumOptions("base", None, name="x", cpu=True)


def test_every_pair_is_verified_and_says_what_the_functions_said(folder):
    play(folder)
    for number in (1, 2):
        report = audit(folder / "out" / "data" / f"x_online_{number}.jsonl")
        assert report.rows
        assert report.score == 1.0
    rows = (folder / "out" / "data" / "x_online_1.provenance.jsonl").read_text().splitlines()
    votes = [json.loads(row)["functions_passed"] for row in rows]
    assert [True, None] in [list(v[0].values()) for v in votes]


def test_the_same_command_again_asks_nothing_and_trains_nothing(folder):
    play(folder)
    files = {p: p.read_bytes() for p in (folder / "out").rglob("*") if p.suffix in (".jsonl", ".yaml", ".json")}
    _, models = play(folder)
    assert not any(m.requests for m in models)
    assert (folder / "calls.txt").read_text().count("train") == 2
    assert {p: p.read_bytes() for p in files} == files


def test_an_iteration_that_was_killed_asks_only_what_it_had_not(folder):
    def dies(request):
        if request.sample == 3:
            raise KeyboardInterrupt
        return answer(request)

    with pytest.raises(KeyboardInterrupt):
        play(folder, says=dies)
    logged = len((folder / "out" / "iteration_1" / "responses.jsonl").read_text().splitlines())
    assert logged
    _, models = play(folder)
    assert len(models[0].requests) == 16 - logged


def test_it_stops_where_no_model_is_given_for_the_next_iteration(folder):
    done, _ = play(folder, opener=lambda n, adapters: ScriptedBackend("served", answer) if n == 1 else None)
    assert [d.number for d in done] == [1]
    assert (folder / "out" / "yaml" / "x_export.yaml").exists()


@pytest.mark.parametrize("says", [lambda r: "a river", lambda r: "no, never", lambda r: RequestFailed("http_400"),
                                  lambda r: Completion(answer(r), "length")])
def test_without_a_pair_it_says_so_instead_of_training(says, folder):
    with pytest.raises(UserError, match="no prompt has both"):
        play(folder, says=says)
    assert not (folder / "calls.txt").exists()


def test_only_prompts_that_code_can_decide_are_used_each_once():
    bare = record("Mention a river.", RIVER).model_copy(update={"extra": {"bare": True}})
    found = checkable([record("a", NO_COMMA, JUDGED), record("a", NO_COMMA), record("b", JUDGED), record("c"),
                       bare])
    assert [r.prompt for r in found] == ["a"]
    assert found[0].constraints == (NO_COMMA,)


def test_the_command_takes_any_finished_run_and_a_server_per_iteration(folder, monkeypatch):
    from if_factory.loops import online

    with RunDir(folder / "run") as run:
        run.claim(parse({"name": "x", "models": {"student": {}}}).resolved())
        run.write(RunResult(RECORDS, [], Ledger(["compose"]), complete=True), Usage())
    asked = []
    monkeypatch.setattr("if_factory.chat.http.OpenAIBackend",
                        lambda url, *a, **k: asked.append(url) or ScriptedBackend("served", answer))
    real = online.run_curriculum
    monkeypatch.setattr(online, "run_curriculum", lambda stages, **k: real(stages, **{**k, "cli": TRAINER}))
    command = ["online", "run", "--model", "base", "-n", "4", "--samples", "4", "-o", "out", "--endpoint",
               "1=http://one/v1", "--set", "learning_rate=1e-5"]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert asked == ["http://one/v1"]
    assert "--endpoint 2=URL" in done.output
    assert config(folder, 1)["learning_rate"] == 1e-5
    assert config(folder, 1)["pref_ftx"] == 1.0  # the method's own
