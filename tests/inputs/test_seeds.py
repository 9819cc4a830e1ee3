"""Seeds: documented rows become records; a bad row is named with its field and its mend."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from if_factory.errors import UserError
from if_factory.inputs.seeds import builtin, read_seeds

GOOD = {"prompt": "Why is the sky blue?"}
NUMBER_WORDS = "length_constraints:number_words"


def write(tmp_path: Path, *rows: Any) -> Path:
    path = tmp_path / "seeds.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(("row", "field", "problem", "fix"), [
    ({}, "prompt", "missing", "needs a prompt"),
    ({"instruction": "Why?"}, "prompt", "missing", "rename 'instruction' to 'prompt'"),
    ({"prompt": ""}, "prompt", "non-empty string", ""),
    ({"prompt": " \n"}, "prompt", "non-empty string", ""),
    ({"prompt": None}, "prompt", "non-empty string", ""),
    ({"prompt": 7}, "prompt", "non-empty string", ""),
    ({"prompt": ["Why?"]}, "prompt", "non-empty string", ""),
    ({**GOOD, "system": ["be kind"]}, "system", "expected a string", ""),
    ({**GOOD, "history": "hello"}, "history", "expected a list", ""),
    ({**GOOD, "history": ["hello"]}, "history", "expected an object", "a list of"),
    ({**GOOD, "history": [["question", "answer"]]}, "history", "expected an object", "a list of"),
    ({**GOOD, "history": [{"role": "human", "content": "x"}]}, "history", "role: ", "a list of"),
    ({**GOOD, "history": [{"role": "assistant", "content": "x"}]}, "history", "turn 1", "alternate"),
    ({**GOOD, "history": [{"role": "user", "content": None}]}, "history", "content: ", "a list of"),
    ({**GOOD, "history": [{"role": "user", "content": "x"}]}, "history", "ends with a user turn", "`prompt`"),
    ({**GOOD, "instruction_id_list": [NUMBER_WORDS], "kwargs": []}, "kwargs", "", ""),
    ({**GOOD, "instruction_id_list": NUMBER_WORDS, "kwargs": [{}]}, "instruction_id_list", "", ""),
])
def test_a_bad_row_is_named_with_its_field(tmp_path: Path, row: dict[str, Any], field: str, problem: str,
                                           fix: str) -> None:
    path = write(tmp_path, GOOD, row)
    with pytest.raises(UserError) as caught:
        read_seeds(path)
    assert f"{path}:2" in str(caught.value)
    assert field in str(caught.value)
    assert problem in str(caught.value)
    assert fix in (caught.value.fix or "")


def test_a_file_without_seeds_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"seeds\.jsonl: no seeds"):
        read_seeds(write(tmp_path))


def test_rows_after_the_limit_are_not_looked_at(tmp_path: Path) -> None:
    assert len(read_seeds(write(tmp_path, GOOD, {}), limit=1)) == 1


def test_rows_with_constraints_of_unknown_types_are_left_out_and_counted(tmp_path: Path, caplog) -> None:
    unknown = {"prompt": "p", "instruction_id_list": ["new:kind"], "kwargs": [{}]}
    own = {"prompt": "q", "constraints": [{"type": "other:kind"}, {"type": "punctuation:no_comma"}]}
    records = read_seeds(write(tmp_path, unknown, GOOD, own))
    assert [record.prompt for record in records] == [GOOD["prompt"].strip()]
    assert "unknown types are not checkable (new:kind 1, other:kind 1); rows left out for them: 2" in caplog.text
    with pytest.raises(UserError, match="no row can be checked: unknown constraint type 'new:kind'"):
        read_seeds(write(tmp_path, unknown))


def test_the_shipped_prompts_are_seeds() -> None:
    seeds, held_out = read_seeds(builtin("seeds")), read_seeds(builtin("held_out"))
    assert len({record.id for record in seeds + held_out}) == len(seeds) + len(held_out)
    assert seeds[0].extra == {"seed_id": "seed-001", "category": seeds[0].extra["category"]}


def test_the_rows_in_the_documentation_are_read_as_it_says(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "files.md").read_text()
    block = re.search(r"## Seeds.*?```jsonl\n(.*?)```", text, re.S)
    assert block
    path = tmp_path / "seeds.jsonl"
    path.write_text(block[1])
    plain, followup, with_system, constrained = read_seeds(path, method="m")
    assert plain.prompt == plain.seed_prompt
    assert [turn.role for turn in followup.history] == ["user", "assistant"]
    assert followup.extra == {"seed_id": "basil-2"}
    assert with_system.system
    assert [c.type for c in constrained.constraints] == [NUMBER_WORDS]
    assert constrained.difficulty == 1


def test_seeds_are_drawn_by_category_and_the_limit_counts_those(tmp_path: Path) -> None:
    path = write(tmp_path, {"prompt": "a", "category": "math"}, {"prompt": "b", "category": "story"}, {"prompt": "c"},
                 {"prompt": "d", "category": "story"}, {"prompt": "e", "category": "story"})
    assert [r.prompt for r in read_seeds(path, categories=["story"])] == ["b", "d", "e"]
    assert [r.prompt for r in read_seeds(path, categories=["story"], limit=2)] == ["b", "d"]
    assert [r.prompt for r in read_seeds(path, categories=["story", "math"], limit=2)] == ["a", "b"]
    with pytest.raises(UserError, match="no seed has the category 'poem'") as e:
        read_seeds(path, categories=["story", "poem"])
    assert e.value.fix == "one of: math, story"
