"""The public functions, by group: what a command calls, and what a Python user imports (``from if_factory import
run, export``). Nothing is imported before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from if_factory.api.batching import BatchReport, WaveReport, batch
    from if_factory.api.calibrating import calibrate, calibrate_usefulness
    from if_factory.api.catalogue import ConstraintExample, constraint_types, init
    from if_factory.api.common import as_recipe, load_plugins, load_recipe, prepare, recipe_of_run, seeds_of
    from if_factory.api.curricula import Curriculum, curriculum
    from if_factory.api.data import Plan, Preview, RunReport, emit, plan, preview, run, run_recipe
    from if_factory.api.datasets import ExportReport, check, export, replay_rows
    from if_factory.api.measuring import (
        RepetitionReport,
        audit,
        evaluate,
        long_form,
        rank,
        repetition,
        report,
        scaling,
    )
    from if_factory.api.models import judge_at, open_models
    from if_factory.api.overlap import Contamination, Decontamination, contamination, decontaminate
    from if_factory.api.passrates import DifficultyReport, difficulty
    from if_factory.api.reinforcement import RlReport, export_rl, serve_rewards
    from if_factory.api.sharding import merge
    from if_factory.api.training import doctor, tokenize, train, vllm_env, write_model

__all__ = [
    "BatchReport",
    "ConstraintExample",
    "Contamination",
    "Curriculum",
    "Decontamination",
    "DifficultyReport",
    "ExportReport",
    "Plan",
    "Preview",
    "RepetitionReport",
    "RlReport",
    "RunReport",
    "WaveReport",
    "as_recipe",
    "audit",
    "batch",
    "calibrate",
    "calibrate_usefulness",
    "check",
    "constraint_types",
    "contamination",
    "curriculum",
    "decontaminate",
    "difficulty",
    "doctor",
    "emit",
    "evaluate",
    "export",
    "export_rl",
    "init",
    "judge_at",
    "load_plugins",
    "load_recipe",
    "long_form",
    "merge",
    "open_models",
    "plan",
    "prepare",
    "preview",
    "rank",
    "recipe_of_run",
    "repetition",
    "replay_rows",
    "report",
    "run",
    "run_recipe",
    "scaling",
    "seeds_of",
    "serve_rewards",
    "tokenize",
    "train",
    "vllm_env",
    "write_model",
]

_MODULES = {
    "batching": "BatchReport WaveReport batch",
    "catalogue": "ConstraintExample constraint_types init",
    "common": "as_recipe load_plugins load_recipe prepare recipe_of_run seeds_of",
    "curricula": "Curriculum curriculum",
    "data": "Plan Preview RunReport emit plan preview run run_recipe",
    "datasets": "ExportReport check export replay_rows",
    "training": "doctor vllm_env tokenize train write_model",
    "calibrating": "calibrate calibrate_usefulness",
    "measuring": "RepetitionReport audit evaluate long_form rank repetition report scaling",
    "models": "judge_at open_models",
    "passrates": "DifficultyReport difficulty",
    "reinforcement": "RlReport export_rl serve_rewards",
    "sharding": "merge",
    "overlap": "Contamination Decontamination contamination decontaminate",
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
