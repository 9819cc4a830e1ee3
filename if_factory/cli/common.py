"""What several commands have in common: how they train, how they ask a judge."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from if_factory.chat.client import ChatClient


def has_gpu() -> bool:
    """Without importing torch: the base install has none."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()


def stage_overrides(settings: tuple[str, ...], stages: tuple[str, ...],
                    training: Mapping[str, Mapping[str, object]]) -> dict[str, dict[str, object]]:
    """LLaMA-Factory keys by stage: the method's own, then ``--set [STAGE.]KEY=VALUE``."""
    import yaml

    from if_factory.errors import UserError

    kinds = {stage.partition("_")[0] for stage in stages}
    found = {name: dict(training.get(name, {})) for name in (*sorted(kinds), *stages)}
    for setting in settings:
        key, equals, value = setting.partition("=")
        stage, dot, name = key.rpartition(".")
        if not (equals and name) or (dot and stage not in found):
            raise UserError("expected KEY=VALUE or STAGE.KEY=VALUE", where=f"--set {setting}",
                            fix="for example --set num_train_epochs=3 --set dpo.learning_rate=5e-6")
        # YAML 1.1 reads 5e-6 as a string; LLaMA-Factory wants a number
        try:
            parsed: object = float(value) if "e" in value.lower() else yaml.safe_load(value)
        except ValueError:
            parsed = yaml.safe_load(value)
        for kind in (stage,) if dot else found:
            found[kind][name] = parsed
    return found


@contextlib.asynccontextmanager
async def judge_at(endpoint: str, out: Path, *, name: str | None, api_key_env: str,
                   concurrency: int | None = None) -> AsyncIterator[ChatClient]:
    """The judge of a command without a recipe; replies logged in ``out/asked.jsonl`` are not asked for again.

    ``endpoint`` is a URL, ``embedded``, or ``embedded:/path/to.gguf``; ``name`` the model there (its first).
    """
    from if_factory.api import open_models
    from if_factory.chat.budget import Budget, Usage
    from if_factory.chat.log import ResponseLog
    from if_factory.recipe import ModelSpec, Recipe

    spec = ModelSpec(endpoint=endpoint, model=name, api_key_env=api_key_env, max_tokens=1024)
    spec.concurrency = concurrency or (16 if spec.embedded else 64)  # the embedded server takes memory for each
    with contextlib.closing(ResponseLog(out / "asked.jsonl")) as log:
        async with open_models(Recipe(models={"judge": spec}), log, Usage(), Budget()) as models:
            yield models["judge"]
