"""A small run for tests of batch files: four seeds, one student, eight requests, one wave."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from if_factory import api
from tests.support.batch_service import answer_file
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.method_cases import CASES, write_recipe


@dataclass
class Small:
    """``run()`` is one wave in ``files``; ``answer()`` is what a server makes of its files."""

    folder: Path
    server: FakeEndpoint = field(default_factory=CASES["complex_to_simple"].server)

    def __post_init__(self) -> None:
        self.recipe = write_recipe(self.folder, "complex_to_simple", "http://127.0.0.1:9/v1", 4,
                                   {"student_samples": 2, "prompts_per_seed": 1, "plain_share": 0})
        self.out, self.files = self.folder / "run", self.folder / "files"
        self.change(model="fake")

    def change(self, budget: dict[str, Any] | None = None, **student: Any) -> None:
        """Edit the recipe's model or budget."""
        recipe = json.loads(self.recipe.read_text())
        recipe["models"]["student"].update(student)
        recipe["budget"] = budget or {}
        self.recipe.write_text(json.dumps(recipe))

    def run(self) -> api.RunReport:
        return api.run(self.recipe, self.out, batch=self.files)

    def answer(self, report: api.RunReport, line: Any = None) -> None:
        assert report.batch
        for file in report.batch.files:
            answer_file(self.server, self.files / file.name, self.files / file.beside(".output.jsonl"), line)

    def fetch(self, *results: Path) -> dict[str, int]:
        return api.batch(self.files, "fetch", results=results).counts

    def lines(self, report: api.RunReport) -> list[dict[str, Any]]:
        """The requests that a run wrote."""
        assert report.batch
        return [json.loads(line) for file in report.batch.files
                for line in (self.files / file.name).read_bytes().splitlines()]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    return Small(tmp_path)
