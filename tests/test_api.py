"""The public names, and how a recipe's models are opened and priced."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys
from types import SimpleNamespace

import pytest

from if_factory import api as factory
from if_factory.chat.budget import Budget, Usage
from if_factory.recipe import parse
from tests.support.fake_endpoint import FakeEndpoint


def recipe(**models):
    return parse({"method": "soft_steps", "models": models, "options": {"steps": 1}, "limit": 2})


async def test_roles_that_share_an_embedded_model_get_one_server_that_is_large_enough_for_all(monkeypatch):
    endpoint, served = FakeEndpoint(delay=0), []
    url = await endpoint.start()

    @contextlib.asynccontextmanager
    async def embedded(gguf, **how):
        served.append((gguf, how))
        yield SimpleNamespace(base_url=url, revive=None)

    monkeypatch.setattr("if_factory.chat.embedded.EmbeddedServer", embedded)
    made = recipe(teacher={"endpoint": "embedded", "concurrency": 4, "context": 4096, "threads": 3},
                  judge={"endpoint": "embedded", "concurrency": 8, "threads": 2})
    async with factory.open_models(made, None, Usage(), Budget()) as models:
        assert {role: m.concurrency for role, m in models.items()} == {"judge": 8, "teacher": 4}
    await endpoint.stop()
    assert served == [(None, {"parallel": 8, "context": 4096, "threads": 2})]


@pytest.mark.parametrize(("teacher", "usd"), [("embedded", (0.0, 0.0)), ("http://localhost:1/v1", None)])
def test_a_plan_knows_that_an_embedded_model_is_free_and_no_other_price_by_itself(teacher, usd):
    assert factory.plan(recipe(teacher=teacher), 100).usd == usd


HEAVY = ["torch", "transformers", "datasets", "sentence_transformers", "numpy", "scipy", "matplotlib", "pydantic",
         "aiohttp", "jinja2", "yaml", "click", "rich", "tenacity", "langdetect", "json_repair", "asyncio",
         "llamafactory", "xllamacpp"]


@pytest.mark.parametrize("statement", ["import if_factory", "import if_factory, if_factory.api; dir(if_factory)"])
def test_importing_the_package_imports_nothing_heavy(statement):
    code = f"import sys; {statement}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_using_the_api_imports_no_training_library():
    big = ["torch", "transformers", "datasets", "numpy", "scipy", "matplotlib"]
    code = f"import sys; from if_factory import *; print([m for m in {big} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_documented_and_typed():
    import if_factory

    for name in if_factory.__all__:
        found = getattr(if_factory, name)
        assert not inspect.ismodule(found), f"{name} is shadowed by a module"
        if inspect.isfunction(found):
            assert found.__doc__, name
            annotated = set(found.__annotations__)
            assert annotated == {*inspect.signature(found).parameters, "return"}, name
    with pytest.raises(AttributeError, match="has no attribute 'exprot'"):
        _ = if_factory.exprot


def test_every_command_is_a_public_function_or_needs_none():
    """`serve` blocks until Ctrl-C, `constraints` prints `constraint_types`, `model` is `write_model`."""
    import if_factory
    from if_factory.cli import main

    public = {name.replace("_", "-") for name in if_factory.__all__}
    assert set(main.commands) - public == {"serve", "constraints", "model"}


async def test_a_function_that_waits_works_where_an_event_loop_runs_already():
    from if_factory.api.common import wait

    async def answer():
        return 42

    assert wait(answer()) == 42
