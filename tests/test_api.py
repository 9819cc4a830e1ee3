"""How a recipe's models are opened and what a plan says of their price."""

from __future__ import annotations

import contextlib
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
        yield SimpleNamespace(base_url=url)

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
