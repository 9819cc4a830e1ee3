"""trl's GRPOTrainer beside the transformers that LLaMA-Factory 0.9.5 allows.

LLaMA-Factory 0.9.5 allows trl up to 0.24 and transformers up to 5.6; that trl was written for transformers 4.
"""

from __future__ import annotations

from typing import Any

from if_factory.errors import UserError


def grpo_classes() -> tuple[Any, Any]:
    """trl's ``GRPOTrainer`` and ``GRPOConfig``, imported after a repair where one is needed.

    Raises:
        UserError: trl is not installed, or it has no GRPOTrainer that can be imported.
    """
    try:
        import trl.import_utils as flags
    except ImportError as e:
        raise UserError(f"stage grpo needs trl ({e})", fix='pip install "if-factory[train]"') from None
    # transformers 5 answers "is this package there?" with a pair (found, version), which trl 0.24 takes for a truth
    # value: (False, None) is true, so the import goes on to packages that are not installed. A trl that unpacks
    # the pairs itself has plain booleans here, and nothing is changed.
    for name, value in list(vars(flags).items()):
        if name.startswith("_") and name.endswith("_available") and isinstance(value, tuple):
            setattr(flags, name, bool(value[0]))
    try:
        from trl import GRPOConfig, GRPOTrainer
    except (ImportError, RuntimeError) as e:
        raise UserError(f"trl's GRPOTrainer cannot be imported: {e}",
                        fix='pip install "if-factory[train]", the set that was tested') from None
    return GRPOTrainer, GRPOConfig


def ready(model: Any) -> Any:
    """The model with the dictionary that trl 0.24 writes a note into; transformers 5 took it away from models."""
    if not hasattr(model, "warnings_issued"):
        model.warnings_issued = {}
    return model
