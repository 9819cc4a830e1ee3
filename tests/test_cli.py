"""The commands a user types, against a fake endpoint (named as such: its text is made from a hash)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from if_factory import recipe as recipes
from if_factory.constraints.base import all_types
from tests.support import fake_endpoint
from tests.support.texts import story

RECIPE = {"name": "demo", "seeds": "seeds.jsonl", "options": {"student_samples": 3, "max_constraints": 2,
          "include": ["punctuation", "length_constraints", "keywords", "list"]}}


@pytest.fixture(scope="module")
def endpoint():
    """The fake endpoint as a process of its own; yields its URL."""
    server = subprocess.Popen([sys.executable, fake_endpoint.__file__, "--delay", "0.001"],
                              stdout=subprocess.PIPE, text=True)
    yield server.stdout.readline().split()[-1]
    server.kill()
    server.communicate()


@pytest.fixture
def recipe(tmp_path, endpoint):
    seeds = [{"prompt": f"Tell me something about the colour of river number {i}."} for i in range(40)]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "models": {"student": {"endpoint": endpoint}}}))
    return path


def cli(*arguments, cwd=None, status=0, **env):
    done = subprocess.run([sys.executable, "-m", "if_factory", *map(str, arguments)], capture_output=True,
                          text=True, cwd=cwd, env={**os.environ, "COLUMNS": "160", **env}, timeout=120)
    assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything that must not differ between equal runs: all but the log, whose order is that of arrival."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*"))
            if p.is_file() and p.name not in ("responses.jsonl", ".lock") and p.suffix != ".lock"}


def test_a_users_day_from_recipe_to_curriculum(recipe, tmp_path):
    run, into = tmp_path / "run", tmp_path / "data"
    assert "respond" in cli("plan", recipe)
    assert not run.exists()
    assert "vanilla" in cli("preview", recipe, "-o", run, "-n", "2")
    assert "requests" in cli("run", recipe, "-o", run)
    into.mkdir()
    (into / "dataset_info.json").write_text('{\n  "theirs": {"file_name": "theirs.json"}\n}\n')
    (into / "theirs.json").write_text('[{"instruction": "a", "input": "", "output": "b"}]')

    said = cli("export", run, "--into", into)
    info = json.loads((into / "dataset_info.json").read_text())
    assert {"theirs", "demo_sft", "demo_sft_easy", "demo_sft_hard", "demo_dpo", "demo_kto"} <= set(info)
    rows = [json.loads(line) for line in (into / "demo_sft.jsonl").read_text().splitlines()]
    assert rows
    assert str(len(rows)) in said

    assert "accepted" in cli("check", into)
    for name in ("demo_sft", "demo_dpo", "demo_kto"):
        cli("audit", into / f"{name}.jsonl", "--fail-under", "1")
    cli("curriculum", run, "--model", "some/model", "--dataset-dir", into, "-o", tmp_path / "yaml",
        "--set", "dpo.learning_rate=5e-7")
    stages = sorted(p.name for p in (tmp_path / "yaml").iterdir())
    assert len(stages) == 5
    config = yaml.safe_load((tmp_path / "yaml" / "demo_3_dpo_easy.yaml").read_text())
    assert config["learning_rate"] == 5e-7
    assert config["create_new_adapter"] is True
    assert config["cutoff_len"] == 2048

    # a row that 2048 tokens would cut: the curriculum takes a value that holds it, and says which row
    with (into / "demo_sft_hard.jsonl").open("a") as f:
        f.write(json.dumps({**rows[0], "output": "word " * 4000}) + "\n")
    said = cli("curriculum", run, "--model", "some/model", "--dataset-dir", into, "-o", tmp_path / "longer")
    chosen = {yaml.safe_load(p.read_text()).get("cutoff_len") for p in (tmp_path / "longer").glob("demo_[0-9]*.yaml")}
    assert len(chosen) == 1
    assert min(chosen) > 4000
    assert f"cutoff_len {min(chosen)}: the longest row has about" in " ".join(said.split())
    assert "demo_sft_hard row" in " ".join(said.split())


def test_a_finished_run_costs_nothing_again_and_writes_the_same_bytes(recipe, tmp_path):
    per_row = re.compile(r"requests per emitted row: student (\S+)$", re.MULTILINE)
    cost = per_row.search(cli("run", recipe, "-o", tmp_path / "a"))[1]
    asked = sum(u["answers"] for u in json.loads((tmp_path / "a" / "usage.json").read_text()))
    emitted = json.loads((tmp_path / "a" / "ledger.json").read_text())["emission"].values()
    assert float(cost) == pytest.approx(asked / sum(e["rows"] for e in emitted), abs=0.05)
    first = files_of(tmp_path / "a")
    again = cli("run", recipe, "-o", tmp_path / "a")
    assert "requests 0 asked" in again
    assert per_row.search(again)[1] == cost, "what the rows cost does not depend on when they were paid for"
    assert files_of(tmp_path / "a") == first
    cli("run", recipe, "-o", tmp_path / "b")
    assert files_of(tmp_path / "b") == first
    cli("export", tmp_path / "a", "--into", tmp_path / "data_a")
    cli("export", tmp_path / "b", "--into", tmp_path / "data_b")
    assert files_of(tmp_path / "data_a") == files_of(tmp_path / "data_b")


def test_a_budget_stops_cleanly_and_the_same_command_finishes(recipe, tmp_path):
    whole = tmp_path / "whole"
    cli("run", recipe, "-o", whole)
    data = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**data, "budget": {"max_requests": 37}}))
    said = cli("run", recipe, "-o", tmp_path / "run", status=3)
    assert "stopped by budget" in said
    assert "raise `budget` in the recipe" in said
    assert "requests 37 asked" in said
    exported = cli("export", tmp_path / "run", "--into", tmp_path / "part")
    assert re.search(r"not finished: .*\d records of it had not reached the end", exported)
    recipe.write_text(yaml.safe_dump(data))
    cli("run", recipe, "-o", tmp_path / "run")
    assert files_of(tmp_path / "run") == files_of(whole)


def test_init_writes_a_recipe_that_plan_accepts(tmp_path):
    text = cli("init", "complex_to_simple")
    (tmp_path / "r.yaml").write_text(text)
    cli("plan", tmp_path / "r.yaml")
    assert recipes.load(tmp_path / "r.yaml").name == "complex_to_simple"


@pytest.mark.parametrize(("arguments", "edit", "said"), [
    (["plan"], {"sed": 1}, "did you mean 'seed'?"),
    (["plan"], {"seeds": "missing.jsonl"}, "missing.jsonl: no such file"),
    (["plan"], {"options": {"include": ["keywrds"]}}, "did you mean 'keywords'?"),
    (["run"], {"models": {"student": {"endpoint": "http://127.0.0.1:9/v1", "model": "m"}}}, "127.0.0.1:9"),
    (["run"], {"models": {"student": {"endpoint": "localhost:8000"}}}, "not a URL"),
    (["run"], {"models": {"student": {"endpoint": "embedded:none.gguf"}}}, "none.gguf: no such file"),
    (["run"], {"replay": {"fil": "x"}}, "did you mean 'file'?"),
    (["run"], {"constraints": {"plugins": ["no.py"]}}, "no.py"),
])
def test_a_mistake_is_one_message_and_status_2(recipe, tmp_path, arguments, edit, said):
    recipe.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **edit}))
    if arguments == ["run"]:
        arguments = ["run", "-o", str(tmp_path / "run")]
    assert said in cli(*arguments, recipe, status=2)


def test_an_unfinished_or_foreign_folder_is_explained(tmp_path):
    (tmp_path / "x").mkdir()
    assert "no run here" in cli("export", tmp_path / "x", "--into", tmp_path / "d", status=2)


def test_a_plugin_file_adds_a_type_of_the_users_own(recipe, tmp_path):
    (tmp_path / "mine.py").write_text('''
from if_factory.constraints.base import ConstraintType, register

@register
class Vowel(ConstraintType):
    type = "mine:vowel"
    descriptions = ("Use the letter {letter} at least once",) * 3
    def check(self, response, kwargs):
        return kwargs["letter"] in response
    def sample(self, rng, seed_prompt):
        return {"letter": rng.choice("aeiou")}
''')
    data = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**data, "constraints": {"plugins": ["mine.py"]},
                                      "options": {"include": ["mine"], "max_constraints": 1}}))
    cli("run", recipe, "-o", tmp_path / "run")
    cli("export", tmp_path / "run", "--into", tmp_path / "data")
    assert "mine:vowel" in (tmp_path / "data" / "demo_sft.provenance.jsonl").read_text()


def test_a_plugin_that_does_not_load_is_named_with_its_line(recipe, tmp_path):
    (tmp_path / "broken.py").write_text("x = 1\nraise ValueError('my bug')\n")
    data = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**data, "constraints": {"plugins": ["broken.py"]}}))
    assert "broken.py:2: " in cli("plan", recipe, status=2)


def test_a_plugin_with_a_misspelt_placeholder_is_named_before_a_run(recipe, tmp_path):
    (tmp_path / "mine.py").write_text('''
from if_factory.constraints.base import ConstraintType, register

@register
class Vowel(ConstraintType):
    type = "mine:vowel"
    descriptions = ("Use {letter} at least once", "Write {letter}", "Put in {lettr}")
    def check(self, response, kwargs):
        return kwargs["letter"] in response
    def sample(self, rng, seed_prompt):
        return {"letter": "a"}
''')
    data = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**data, "constraints": {"plugins": ["mine.py"]}}))
    for command in (["plan", recipe], ["run", recipe, "-o", tmp_path / "run"]):
        said = cli(*command, status=2)
        assert "mine.py: constraint type 'mine:vowel'" in said
        assert "{lettr}" in said


def test_a_plugin_whose_checker_raises_is_said_once_in_a_run(recipe, tmp_path):
    (tmp_path / "mine.py").write_text('''
from if_factory.constraints.base import ConstraintType, register

@register
class Vowel(ConstraintType):
    type = "mine:vowel"
    descriptions = ("Use {letter} at least once",) * 3
    def check(self, response, kwargs):
        return kwargs["lettr"] in response
    def sample(self, rng, seed_prompt):
        return {"letter": "a"}
''')
    data = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**data, "constraints": {"plugins": ["mine.py"]},
                                      "options": {"include": ["mine"], "max_constraints": 1}}))
    said = cli("run", recipe, "-o", tmp_path / "run")
    assert said.count("raised KeyError: 'lettr'; its verdicts are missing") == 1
    assert "the checker of 'mine:vowel' (" in said


@pytest.mark.parametrize("columns", ["40", "80"])
def test_the_table_of_constraint_types_cuts_no_id_and_fills_its_examples(columns):
    said = cli("constraints", COLUMNS=columns)
    ids = [kind.type for kind in all_types() if type(kind).__module__.startswith("if_factory.")]
    assert not [each for each in ids if f" {each} " not in said]
    options = cli("constraints", "detectable_format:constrained_response")
    assert "My answer is yes" in options
    assert "[answer]" in cli("constraints", "format:output_template")  # rich reads brackets as marks of its own
    assert "{" not in cli("constraints", "copy") + cli("constraints", "scope")


def test_a_family_that_does_not_exist_is_an_error_with_near_names():
    assert "did you mean 'keywords'" in cli("constraints", "keyword", status=2)
    assert "one of: change_case, code," in " ".join(cli("constraints", "nofam", status=2).split())


def test_help_answers_without_importing_what_only_commands_need():
    heavy = ["pydantic", "aiohttp", "rich", "yaml", "jinja2", "torch", "transformers", "numpy", "scipy"]
    code = f"import sys, if_factory.cli; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_suri_needs_no_model_and_goes_from_texts_to_an_iorpo_curriculum(tmp_path):
    (tmp_path / "suri.yaml").write_text(cli("init", "suri"))
    assert "12 seeds" in cli("plan", "suri.yaml", cwd=tmp_path)
    assert "human" in cli("preview", "suri.yaml", "-n", "1", cwd=tmp_path)
    cli("run", "suri.yaml", cwd=tmp_path)
    said = cli("export", "runs/suri", "--into", "data", cwd=tmp_path)
    assert "suri_kto_surrogate" in said
    info = json.loads((tmp_path / "data" / "dataset_info.json").read_text())
    assert info["suri_iorpo"]["ranking"] is False
    assert info["suri_iorpo"]["columns"]["rejected"] == "instruction_corrupted"
    assert "refuses the dataset in stage dpo" in " ".join(cli("check", "data", "suri_iorpo", cwd=tmp_path).split())
    cli("audit", "data/suri_sft.jsonl", "--fail-under", "1", cwd=tmp_path)

    cli("curriculum", "runs/suri", "--model", "m", "--dataset-dir", "data", "-o", "yaml", "--set",
        "iorpo.cutoff_len=1024", cwd=tmp_path)
    stages = [yaml.safe_load(p.read_text()) for p in sorted((tmp_path / "yaml").glob("suri_[0-9]*"))]
    assert [c["stage"] for c in stages] == ["sft", "sft", "iorpo", "iorpo"]
    assert [c["cutoff_len"] for c in stages] == [15024, 15024, 1024, 1024]
    assert stages[2]["adapter_name_or_path"] == "saves/suri_2_sft_hard"
    assert {(c["lora_rank"], c["lora_alpha"]) for c in stages} == {(16, 16)}


def test_bins_that_are_not_given_need_not_be_filled(tmp_path):
    (tmp_path / "one.txt").write_text(story(24))
    (tmp_path / "suri.yaml").write_text("method: suri\nseeds: one.txt\noptions: {triples_per_text: 1}\n")
    cli("run", "suri.yaml", "-o", "run", cwd=tmp_path)
    cli("export", "run", "--into", "data", cwd=tmp_path)
    assert "suri_iorpo" in (tmp_path / "data" / "dataset_info.json").read_text()
    assert "cannot fill 3 bins" in cli("export", "run", "--into", "data2", "--bins", "3", cwd=tmp_path, status=2)
    write = ("curriculum", "run", "--model", "m", "--dataset-dir", "data", "-o", "yaml")
    assert "--bins 1" in cli(*write, cwd=tmp_path, status=2)
    cli(*write, "--bins", "1", cwd=tmp_path)


@pytest.mark.parametrize("stages", ["pretrain", "sft,pretrain"])
def test_an_unknown_stage_is_named(tmp_path, stages):
    (tmp_path / "suri.yaml").write_text("method: suri\nlimit: 2\n")
    cli("run", "suri.yaml", "-o", "run", cwd=tmp_path)
    cli("export", "run", "--into", "data", cwd=tmp_path)
    said = cli("curriculum", "run", "--model", "m", "--dataset-dir", "data", "-o", "y", "--stages", stages,
               cwd=tmp_path, status=2)
    assert "pretrain" in said
