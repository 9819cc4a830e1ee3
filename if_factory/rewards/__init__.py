"""Verified rewards for reinforcement learning: a plain function of prompts, answers and ``ground_truth`` strings.

::

    from if_factory.rewards import reward            # GRPOTrainer(reward_funcs=reward, ...)
    from if_factory.rewards import reward_of         # reward_of(how="all", usefulness=False)

docs/rewards.md has the protocols of the trainers that it works with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from if_factory.rewards.function import Judged, Rewarder, reward, reward_of
    from if_factory.rewards.truth import ground_truth_of, read_truth

__all__ = ["Judged", "Rewarder", "ground_truth_of", "read_truth", "reward", "reward_of"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{'truth' if 'truth' in name else 'function'}"), name)


def __dir__() -> list[str]:
    return __all__
