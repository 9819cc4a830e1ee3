"""Prompts and reward files, as trainers read them; their own callers are used where they are installed."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from if_factory.api import export_rl
from if_factory.cli import main
from if_factory.errors import UserError
from if_factory.exporting.acceptance import check_dataset
from if_factory.records import Constraint
from if_factory.rewards import read_truth
from if_factory.rewards.formats import FORMATS
from tests.exporting.reference import need_llamafactory
from tests.rewards.runs import ANSWERS, DIGITS, JUDGED, NO_COMMA, record, some_records, write_run

GOOD, COMMA = ANSWERS[0], "the sea is wide, and full of fish."


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", some_records())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"reward_file_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_prompts_are_written_once_in_order_with_what_decides_their_reward(run: Path, tmp_path: Path) -> None:
    report = export_rl(run, tmp_path / "out")
    found = rows(report.data)
    assert [r["prompt"][-1]["content"].split(".")[0] for r in found] == [
        "Describe the sea", "Describe a harbour", "And the tide? Mention the sea", "Describe a ship"]
    assert dict(report.refused) == {"no_constraint_that_code_decides": 1, "same_prompt": 1}
    truth = read_truth(found[0]["ground_truth"])
    assert [c.type for c in truth.constraints] == ["punctuation:no_comma", "change_case:english_lowercase"]
    assert truth.prompt == found[0]["prompt"][-1]["content"]
    assert found[1]["prompt"][0] == {"role": "system", "content": "Be brief."}
    assert [m["role"] for m in found[2]["prompt"]] == ["user", "assistant", "user"]
    assert [r["extra_info"]["undecided"] for r in found] == [0, 1, 0, 0]
    assert [[c.text for c in read_truth(r["ground_truth"]).judged] for r in found] == [[], [JUDGED.text], [], []]
    assert all(r["data_source"] == "if_factory/complex_to_simple" for r in found)


def test_the_student_s_pass_rate_counts_its_useful_answers_to_all_copies_of_a_prompt(run: Path, tmp_path: Path) -> None:
    """One answer passes and is useful, one has a comma, one refuses in small letters; a second record repeats the
    first answer."""
    report = export_rl(run, tmp_path / "out")
    info = [r["extra_info"] for r in rows(report.data)]
    assert (info[0]["pass_rate"], info[0]["measured"]) == (0.5, 4)
    assert (info[1]["pass_rate"], info[1]["measured"]) == (None, 0)
    assert report.measured == 1


def test_prompts_that_the_student_always_or_never_solves_can_be_left_out(tmp_path: Path) -> None:
    solved = record("Describe the moon.", NO_COMMA, answers=["The moon is grey and dry and quiet."])
    run = write_run(tmp_path / "run", [*some_records(), solved])
    assert export_rl(run, tmp_path / "a").rows == 5
    report = export_rl(run, tmp_path / "b", pass_rate=(0.0, 1.0))
    assert (report.rows, report.refused["pass_rate"]) == (4, 1)


@pytest.mark.parametrize("trainer", FORMATS)
def test_equal_runs_give_equal_bytes(trainer: Any, run: Path, tmp_path: Path) -> None:
    for into in ("a", "b"):
        export_rl(run, tmp_path / into, trainer=trainer)
    names = sorted(p.name for p in (tmp_path / "a").iterdir() if p.is_file() and p.suffix != ".lock")
    assert len(names) >= 4
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


PLUGIN = """from if_factory.constraints.base import ConstraintType, register
from if_factory.constraints.demands import Demands

@register
class Shout(ConstraintType):
    type = "plugin:%s"
    descriptions = ("End with an exclamation mark",)
    def check(self, response, kwargs):
        return response.endswith("!")
    def sample(self, rng, seed_prompt):
        return {}
    def demands(self, kwargs):
        return Demands()
"""


@pytest.mark.parametrize("trainer", [f for f in FORMATS if f != "open-instruct"])
def test_a_reward_file_names_the_plugins_of_the_run(own_types, trainer: Any, tmp_path: Path) -> None:
    """In a process of its own, where nothing else has registered the type, as the trainer starts it."""
    name = f"shout_{trainer}".replace("-", "_")  # a registry has an id once
    plugin = tmp_path / f"{name}'s.py"
    plugin.write_text(PLUGIN % name)
    shout = Constraint(type=f"plugin:{name}", text="Shout")
    run = write_run(tmp_path / "run", [record("Cheer the crew.", shout)], [plugin])
    report = export_rl(run, tmp_path / "out", trainer=trainer)
    assert report.reward is not None
    calls = [n for n in ast.walk(ast.parse(report.reward.read_text())) if isinstance(n, ast.Call)]
    assert [ast.literal_eval(k.value) for c in calls for k in c.keywords if k.arg == "plugins"] == [[str(plugin)]]
    if trainer == "trl":
        (row,) = rows(report.data)
        code = (f"import json, runpy; reward = runpy.run_path({str(report.reward)!r})['reward']; "
                f"print(reward([{row['prompt']!r}] * 2, ['Well rowed, all of you!', 'Well rowed, all of you.'], "
                f"ground_truth=[{row['ground_truth']!r}] * 2))")
        done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True,
                              text=True)
        assert done.stdout.strip() == "[1.0, 0.0]", done.stderr


# ---------------------------------------------------------------- LLaMA-Factory


def test_llamafactory_s_prompt_dataset_is_registered_and_binned(run: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "dataset_info.json").write_text('{"theirs": {"file_name": "x.json"}}')
    report = export_rl(run, tmp_path / "out")
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    assert list(info) == ["theirs", "demo_rl", "demo_rl_easy", "demo_rl_hard"]
    assert info["demo_rl"]["columns"] == {"prompt": "instruction", "query": "input", "system": "system",
                                          "history": "history"}
    assert report.datasets == {"demo_rl": 4, "demo_rl_easy": 1, "demo_rl_hard": 3}
    found = rows(tmp_path / "out" / "demo_rl.jsonl")
    assert found[2]["history"] == [["Hello.", "Hello! How are you?"]]
    assert all(read_truth(r["ground_truth"]).constraints for r in found)
    checked = check_dataset(tmp_path / "out", "demo_rl")
    assert (checked.ok, checked.accepted, checked.prompts, checked.problems) == (True, 4, True, [])
    (tmp_path / "out" / "demo_rl.jsonl").write_text('{"instruction": "x", "ground_truth": null}\n')
    assert "expected a non-empty string" in str(check_dataset(tmp_path / "out", "demo_rl").problems[0])


@pytest.mark.slow
def test_llamafactory_itself_loads_the_prompts_for_ppo(run: Path, tmp_path: Path) -> None:
    need_llamafactory()
    from llamafactory.data.loader import _get_merged_dataset
    from llamafactory.hparams import DataArguments, ModelArguments
    from transformers import Seq2SeqTrainingArguments

    export_rl(run, tmp_path / "out")
    data = DataArguments(dataset_dir=str(tmp_path / "out"), dataset="demo_rl", template="default")
    loaded = _get_merged_dataset(data.dataset, ModelArguments(model_name_or_path="none"), data,
                                 Seq2SeqTrainingArguments(output_dir=str(tmp_path / "x")), "ppo")
    assert loaded[0]["_prompt"][-1]["content"].startswith("Describe the sea.")
    assert [r["_response"] for r in loaded] == [[]] * 4


# ---------------------------------------------------------------- each trainer's protocol


def test_trl(run: Path, tmp_path: Path) -> None:
    report = export_rl(run, tmp_path, trainer="trl")
    assert report.reward
    found = rows(report.data)
    reward = load(report.reward).reward
    columns = {key: [r[key] for r in found] for key in found[0] if key != "prompt"}
    answers = [[{"role": "assistant", "content": text}] for text in (GOOD, COMMA, "We look at the sea.", GOOD)]
    assert reward(prompts=[r["prompt"] for r in found], completions=answers, completion_ids=[[0]] * 4,
                  trainer_state=None, **columns) == [1.0, 0.0, 1.0, 1.0]


def test_verl(run: Path, tmp_path: Path) -> None:
    report = export_rl(run, tmp_path, trainer="verl")
    assert report.reward
    row = rows(report.data)[0]
    assert set(row) == {"data_source", "prompt", "ability", "reward_model", "extra_info"}
    found = load(report.reward).compute_score(
        data_source=row["data_source"], solution_str=COMMA, ground_truth=row["reward_model"]["ground_truth"],
        extra_info={**row["extra_info"], "num_turns": None})
    assert found == {"score": 0.5, "undecided": 0.0, "useless": 0.0, "all_satisfied": 0.0}


def test_easyr1_takes_plain_prompts_only(run: Path, tmp_path: Path) -> None:
    report = export_rl(run, tmp_path, trainer="easyr1")
    assert report.reward
    assert report.refused["more_than_one_turn"] == 2
    found = rows(report.data)
    assert all(isinstance(r["prompt"], str) for r in found)
    module = load(report.reward)
    assert (module.REWARD_TYPE, module.REWARD_NAME) == ("batch", "if_factory")
    scores = module.compute_score([{"response": a, "response_length": 9, "ground_truth": found[0]["ground_truth"]}
                                   for a in (GOOD, COMMA)])
    assert [s["overall"] for s in scores] == [1.0, 0.5]


def test_ms_swift(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ms-swift needs a GPU machine's packages to import; its two names that the file uses stand in here."""
    report = export_rl(run, tmp_path, trainer="ms-swift")
    assert report.reward
    names = type(sys)("swift.rewards")
    names.ORM, names.orms = type("ORM", (), {"__init__": lambda self, args=None, **kw: None}), {}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "swift", type(sys)("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", names)
    load(report.reward)
    found = rows(report.data)
    made = names.orms["if_factory"](args=None)
    assert made([GOOD, COMMA], trainer_state=None, messages=[found[0]["messages"]] * 2,
                ground_truth=[found[0]["ground_truth"]] * 2) == [1.0, 0.5]
    with pytest.raises(UserError, match="no column 'ground_truth'"):
        made([GOOD])


def test_openrlhf(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    report = export_rl(run, tmp_path, trainer="openrlhf")
    assert report.reward
    row = rows(report.data)[0]
    prompt = f"<|im_start|>user\n{row['input'][0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    function = load(report.reward).reward_func
    said = function([f"<s>{prompt}{COMMA}<|im_end|>"], [prompt], [row["label"]])
    assert said["rewards"].tolist() == said["scores"].tolist() == [0.5]
    assert said["extra_logs"]["undecided"].tolist() == [0.0]
    with pytest.raises(UserError, match="does not hold its prompt"):
        function([COMMA], [prompt], [row["label"]])


def test_open_instruct_gets_types_of_its_own_registry_only(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [record("Describe the sea.", NO_COMMA), record("Describe a ship.", DIGITS)])
    report = export_rl(run, tmp_path / "out", trainer="open-instruct")
    (row,) = rows(report.data)
    assert report.reward is None
    assert report.refused["type_unknown_to_open_instruct"] == 1
    assert row["dataset"] == "ifeval"
    assert ast.literal_eval(row["ground_truth"]) == [{"instruction_id": ["punctuation:no_comma"], "kwargs": [None]}]
    assert read_truth(row["ground_truth"]).constraints[0].type == "punctuation:no_comma"


# ---------------------------------------------------------------- the command, and its errors


def test_the_command_says_what_was_written_and_how_the_trainer_is_told(run: Path, tmp_path: Path) -> None:
    said = CliRunner().invoke(main, ["export", str(run), "--into", str(tmp_path / "out"), "--rl", "verl",
                                     "--pass-rate", "0-1"])
    assert said.exit_code == 0, said.output
    text = said.output.replace("\n", "")
    assert "4 prompts" in text
    assert "reward.custom_reward_function.path=" in text
    assert "demo_rl 4" in text
    assert CliRunner().invoke(main, ["export", str(run), "--into", "x", "--pass-rate", "0-1"]).exit_code == 2


def test_a_run_whose_prompts_only_a_judge_can_decide_is_an_error_that_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [record("Describe the shore.", JUDGED)])
    with pytest.raises(UserError, match="no_constraint_that_code_decides 1"):
        export_rl(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="unknown trainer"):
        export_rl(run, tmp_path / "out", trainer="vrel")  # type: ignore[arg-type]
