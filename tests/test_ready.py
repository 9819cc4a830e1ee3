"""What ``plan`` and ``run`` refuse before anything is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from if_factory import api
from if_factory.errors import UserError
from if_factory.methods.base import get_method, names

HERE = "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(("edit", "where", "said"), [
    ({"options": {"teacher_samples": 2}}, "options.teacher_samples", "add `teacher` to `models`"),
    ({"options": {"keywords": "teacher"}}, "options.keywords", "needs a teacher"),
    ({"preset": "paper"}, "options.keywords", "`keywords: teacher` (of preset paper) needs a teacher"),
    ({"method": "decif", "options": {"student_responses": 1}, "models": {"teacher": HERE}},
     "options.student_responses", "needs a student"),
    ({"method": "conifer", "options": {"feedback": "external"}, "models": {"teacher": HERE}}, "options.feedback",
     "needs a student"),
    ({"method": "soft_steps", "options": {"answers": "student"}, "models": {"teacher": HERE}}, "options.answers",
     "needs a student"),
    ({"models": {"student": "embeded"}}, "models.student.endpoint", "did you mean 'embedded'?"),
    ({"models": {"student": "localhost:8000"}}, "models.student.endpoint", "write http://localhost:8000/v1"),
    ({"models": {"student": "10.0.0.1/api"}}, "models.student.endpoint", "write http://10.0.0.1/api"),
    ({"models": {"student": "http:/x"}}, "models.student.endpoint", "write a URL such as http://localhost:8000/v1"),
    ({"models": {"student": "embedded:no.gguf"}}, "models.student.endpoint", "no.gguf: no such file"),
    ({"replay": {"file": "nope.json", "rows": 3}}, "replay.file", "nope.json: no such file"),
    ({"seeds": "nope.jsonl"}, "seeds", "relative to the recipe's folder, "),
    ({"options": {"include": ["keyword"]}}, "options.include", "did you mean 'keywords'?"),
    ({"options": {"exclude": ["keyword"]}}, "options.exclude", "did you mean 'keywords'?"),
])
def test_what_would_fail_late_or_be_ignored_is_named_before_anything_is_made(
        edit: dict[str, Any], where: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"models": {"student": HERE}, **edit}))
    for call in (lambda: api.plan(path), lambda: api.run(path, tmp_path / "run")):
        with pytest.raises(UserError) as caught:
            call()
        assert caught.value.where == f"{path}: {where}"
        assert said in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("endpoint", ["embedded", "vllm:some/model", HERE, [HERE, "https://example.org/v1"]])
def test_every_kind_of_endpoint_is_taken(endpoint: str | list[str]) -> None:
    from if_factory.recipe import parse

    assert api.plan(parse({"models": {"student": endpoint}, "limit": 2})).seeds == 2


@pytest.mark.parametrize("method", names())
def test_options_that_need_a_role_name_options_and_roles_that_there_are(method: str) -> None:
    found = get_method(method)
    for option, (role, _) in found.needs.items():
        assert option in found.options.model_fields
        assert role in found.roles
