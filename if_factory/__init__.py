"""Verified instruction-following data for LLaMA-Factory.

Seed prompts and a teacher model go in; checked SFT, DPO and KTO data, staged YAML curricula and a
measured before/after come out::

    from if_factory import run, export, curriculum

    run("recipe.yaml", "runs/recipe")
    export("runs/recipe", "LLaMA-Factory/data")
    curriculum("runs/recipe", model="Qwen/Qwen3-4B", dataset_dir="LLaMA-Factory/data", out="yaml")

Each command of ``if-factory`` is one of these functions. Importing the package imports none of them: a name is
looked up when it is used. Nothing in this package's base install imports torch.
"""

from __future__ import annotations

from if_factory.version import __version__

TYPE_CHECKING = False  # as type checkers read it; importing typing would double the time of `import if_factory`

if TYPE_CHECKING:
    from typing import Any

    from if_factory.api import (
        audit,
        batch,
        calibrate,
        check,
        constraint_types,
        contamination,
        curriculum,
        decontaminate,
        difficulty,
        doctor,
        evaluate,
        export,
        export_rl,
        init,
        load_recipe,
        long_form,
        merge,
        plan,
        preview,
        rank,
        repetition,
        report,
        run,
        scaling,
        serve_rewards,
        tokenize,
        train,
        vllm_env,
        write_model,
    )
    from if_factory.errors import UserError
    from if_factory.loops.start import humpback, humpback_sizes, online
    from if_factory.recipe import Recipe

__all__ = [
    "Recipe",
    "UserError",
    "__version__",
    "audit",
    "batch",
    "calibrate",
    "check",
    "constraint_types",
    "contamination",
    "curriculum",
    "decontaminate",
    "difficulty",
    "doctor",
    "evaluate",
    "export",
    "export_rl",
    "humpback",
    "humpback_sizes",
    "init",
    "load_recipe",
    "long_form",
    "merge",
    "online",
    "plan",
    "preview",
    "rank",
    "repetition",
    "report",
    "run",
    "scaling",
    "serve_rewards",
    "tokenize",
    "train",
    "vllm_env",
    "write_model",
]
_ELSEWHERE = {"Recipe": "if_factory.recipe", "UserError": "if_factory.errors",
              **dict.fromkeys(("humpback", "humpback_sizes", "online"), "if_factory.loops.start")}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_ELSEWHERE.get(name, "if_factory.api")), name)


def __dir__() -> list[str]:
    return __all__
