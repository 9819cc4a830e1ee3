"""The recipe's `sandbox` settings reach the pool, and a run's account names the isolation."""

import json
from pathlib import Path

from if_factory import api as factory
from if_factory.chat.budget import Usage
from if_factory.constraints import generated
from if_factory.pipeline.rundir import RunDir
from if_factory.pipeline.runner import run
from if_factory.recipe import parse


def test_settings_of_the_recipe_are_those_of_the_pool(strong: None) -> None:
    recipe = parse({"models": {"student": "http://127.0.0.1:1/v1"},
                    "sandbox": {"workers": 3, "cpu_seconds": 0.5, "memory_mb": 64}})
    try:
        factory.emit(recipe, [])
        pool = generated.shared_pool()
        assert (len(pool._workers), pool.limits.cpu_seconds, pool.limits.memory_mb) == (3, 0.5, 64)
        assert generated.isolation_used() == "landlock+seccomp"
    finally:
        generated.close_shared_pool()
        generated.configure()
    assert generated.isolation_used() is None


async def test_the_account_of_a_run_names_the_isolation_if_code_ran(tmp_path: Path) -> None:
    result = await run([], [], {}, seed=0)
    with RunDir(tmp_path) as folder:
        folder.write(result, Usage())
        assert "sandbox" not in json.loads((tmp_path / "ledger.json").read_text())
        folder.write(result, Usage(), sandbox="landlock+seccomp")
        assert json.loads((tmp_path / "ledger.json").read_text())["sandbox"] == "landlock+seccomp"
