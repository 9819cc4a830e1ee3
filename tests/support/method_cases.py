"""A recipe, seeds and scripted models (named as such) for each method: for whole runs through the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from if_factory.chat.base import ChatRequest
from tests.methods import test_suri as suri
from tests.methods.test_conifer import Teacher
from tests.support.decif_teacher import TeacherServer
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.humpback_models import rate_or_write, text
from tests.support.scripted_teacher import ScriptedServer, instruction
from tests.support.soft_world import SoftEndpoint

CONCURRENCY, DELAY = 64, 0.02
# Checkable types that scripted words meet now and then.
EASY = ["punctuation", "digits:none", "style:no_contractions", "keywords:forbidden_words"]


def conifer_says(body: dict[str, Any]) -> str:
    return Teacher()(ChatRequest("fake", tuple(body["messages"])))


def suri_says(body: dict[str, Any]) -> str:
    """The test's teacher, with the keeper's number in every constraint: no two texts ask for the same."""
    request = ChatRequest("fake", tuple(body["messages"]))
    ask = request.messages[-1]["content"]
    found = re.search(r"keeper\d+", ask)
    assert found
    keeper = f", {found[0]}."
    good, bad = ([c.rstrip(".") + keeper for c in texts] for texts in (suri.CONSTRAINTS, suri.CORRUPTED))
    kind = suri.kind_of(request)
    if kind == "backtranslate":
        return json.dumps({"main_instruction": f"Write a story{keeper}", "constraints": good})
    listed = suri.asked_for(request)
    if kind == "corrupt":
        return json.dumps({"rewrites": [{"number": i, "modified": bad[good.index(c)]}
                                        for i, c in enumerate(listed, 1)]})
    if kind == "label":
        return json.dumps({"labels": [{"number": i, "type": "stylistic", "scope": "broad"}
                                      for i in range(1, len(listed) + 1)]})
    return json.dumps({str(i): {"reason": "scripted", "satisfied": c in good} for i, c in enumerate(listed, 1)})


@dataclass
class Case:
    """``row(i)`` is the i-th line of the seeds file; without one the method starts from nothing."""

    server: Callable[[], FakeEndpoint]
    roles: tuple[str, ...] = ("teacher",)
    row: Callable[[int], dict[str, Any]] | None = lambda i: {"prompt": f"Describe place number {i} to a friend."}
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "complex_to_simple": Case(lambda: FakeEndpoint(DELAY), ("student",), options={"include": EASY}),
    "autoif": Case(lambda: ScriptedServer(DELAY), row=lambda i: {"instruction": instruction(i)},
                   options={"queries_per_instruction": 1, "augment_calls": 2, "augment_count": 5,
                            "augment_rounds": 1, "dpo_instruction_apart": True}),
    "decif": Case(lambda: TeacherServer(DELAY), row=None, options={"include": EASY}),
    "soft_steps": Case(lambda: SoftEndpoint(DELAY), options={"include": EASY}),
    "suri": Case(lambda: FakeEndpoint(DELAY, script=suri_says), options={"constraints": len(suri.CONSTRAINTS)},
                 row=lambda i: {"text": suri.TEXT.replace("keeper", f"keeper{i}")}),
    "conifer": Case(lambda: FakeEndpoint(DELAY, script=conifer_says),
                    row=lambda i: {"prompt": f"how the tides work in harbour number {i}?"},
                    options={"format_types": ["change_case:english_lowercase"], "format_levels": []}),
    "humpback": Case(lambda: FakeEndpoint(DELAY, script=rate_or_write), ("backward", "judge"),
                     row=lambda i: {"text": text(i)},
                     options={"min_chars": 100, "max_chars": 900, "similarity": 0.9}),
}


def write_recipe(folder: Path, method: str, url: str, seeds: int, options: dict[str, Any] | None = None) -> Path:
    """``recipe.yaml`` and its seeds in ``folder``; every role of the case is played by the endpoint at ``url``."""
    case = CASES[method]
    recipe: dict[str, Any] = {"method": method, "options": {**case.options, **(options or {})}, "models": {
        role: {"endpoint": url, "concurrency": CONCURRENCY} for role in case.roles}}
    if case.row:
        (folder / "seeds.jsonl").write_text("".join(json.dumps(case.row(i)) + "\n" for i in range(seeds)))
        recipe["seeds"] = "seeds.jsonl"
    else:
        recipe["limit"] = seeds
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    return path
