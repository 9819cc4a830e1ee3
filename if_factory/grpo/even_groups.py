"""Leaving out answers that teach nothing: those of a group whose answers all earn the same have the advantage 0.

With trl's loss ``dapo`` and no KL term such an answer adds exactly 0 to the loss and to the gradient, and the
normaliser counts the tokens of the whole batch before it is divided. Its forward and backward pass can be saved.
"""

from __future__ import annotations

from typing import Any

from if_factory.errors import UserError

KEY = "grpo_skip_even_groups"


def check(config: Any) -> None:
    """Raise where leaving answers out would change the loss.

    Args:
        config: trl's ``GRPOConfig``.

    Raises:
        UserError: another loss than ``dapo``, a KL term, an entropy mask, liger's loss, or several processes, which
            must all take part in every backward pass.
    """
    asked = [why for why, there in (
        (f"grpo_loss_type: {config.loss_type}", config.loss_type != "dapo"),
        (f"grpo_beta: {config.beta}", config.beta != 0.0),
        ("grpo_top_entropy_quantile below 1", config.top_entropy_quantile < 1.0),
        ("grpo_use_liger_loss", getattr(config, "use_liger_loss", False)),
        (f"{config.world_size} processes", config.world_size > 1)) if there]
    if asked:
        raise UserError("leaving out groups without spread would change the loss with " + ", ".join(asked),
                        where=f"field '{KEY}'", fix=f"leave {KEY} out, or those keys")


def with_advantage(inputs: dict[str, Any]) -> dict[str, Any] | None:
    """The answers of one batch that have an advantage; ``None`` where none has.

    Args:
        inputs: what trl's ``_compute_loss`` takes: tensors whose first dimension is the answers, and numbers.
    """
    kept = inputs["advantages"] != 0
    if not kept.any():
        return None
    if kept.all():
        return inputs
    rows = len(kept)
    return {name: value[kept] if getattr(value, "ndim", 0) and len(value) == rows else value
            for name, value in inputs.items()}
