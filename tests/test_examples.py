"""The examples run as they stand: against a fake endpoint (named as such), then a scripted trainer and models."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from asyncio import new_event_loop
from pathlib import Path
from types import ModuleType

import pytest

from tests.evaluation.test_generate import Scripted
from tests.loops.test_sizes import TRAINER
from tests.support.fake_endpoint import FakeEndpoint

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def endpoint():
    """The URL of a fake endpoint served from a thread of its own."""
    loop, server = new_event_loop(), FakeEndpoint(delay=0)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def ask(coroutine):
        import asyncio

        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    yield ask(server.start())
    ask(server.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def test_what_the_readme_does_with_commands_runs_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                             endpoint: str, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # some/model is on no hub: not asked for again and again
    if "huggingface_hub.constants" in sys.modules:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    options = {"student_samples": 3, "max_constraints": 2,
               "include": ["punctuation", "length_constraints", "keywords", "list"]}  # a fake endpoint meets these
    (tmp_path / "recipe.yaml").write_text(json.dumps({"models": {"student": {}}, "options": options}))
    example("make_data").main(["--recipe", "recipe.yaml", "--student", endpoint, "--limit", "40",
                               "--model", "some/model"])
    made = capsys.readouterr().out
    info = json.loads((tmp_path / "data" / "dataset_info.json").read_text())
    assert {"complex_to_simple_sft", "complex_to_simple_dpo", "complex_to_simple_kto"} <= set(info)
    assert "complex_to_simple_sft: 100% of the answers are what it claims" in made
    assert (tmp_path / "runs" / "example" / "report.html").is_file()

    script = tmp_path / "llamafactory-cli"
    script.write_text(f'#!/bin/sh\nexec {TRAINER[0]} {TRAINER[1]} "$@"\n')
    script.chmod(0o755)
    # doctor imports torch and LLaMA-Factory in a process of its own, for a minute; it has tests of its own
    monkeypatch.setattr("if_factory.api.training.check_environment", list)
    monkeypatch.setattr("if_factory.training.run._find_cli", lambda: str(script))
    monkeypatch.setattr("if_factory.chat.transformers_local.TransformersBackend",
                        lambda model, adapters, **how: Scripted(lambda p: "yes" if adapters else "no, never"))
    example("train_and_measure").main(["--model", "some/model", "--prompts", "6"])
    measured = capsys.readouterr().out
    assert "complex_to_simple_1_sft_easy.yaml: 4 steps" in measured
    assert "before: " in measured
    assert "after: " in measured
    assert json.loads((tmp_path / "runs" / "example" / "evaluation" / "results.json").read_text())
