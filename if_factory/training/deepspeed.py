"""DeepSpeed's configuration for a stage: ZeRO 2, ZeRO 3, and ZeRO 3 with weights and optimizer in CPU memory.

``auto`` is filled in by the Trainer from the YAML, so batch size, clipping and precision are said once, there.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

Zero = Literal["z2", "z3", "z3_offload"]
ZEROS: tuple[Zero, ...] = get_args(Zero)


def ds_name(zero: Zero) -> str:
    """The file's name, as LLaMA-Factory's examples have it."""
    return f"ds_{zero}_config.json"


def ds_config(zero: Zero) -> dict[str, Any]:
    """The configuration as a JSON object."""
    shards: dict[str, Any] = {"stage": 2, "overlap_comm": True, "contiguous_gradients": True,
                              "allgather_bucket_size": 5e8, "reduce_bucket_size": 5e8}
    if zero != "z2":
        shards = {"stage": 3, "overlap_comm": True, "contiguous_gradients": True, "sub_group_size": 1e9,
                  "reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto",
                  "stage3_param_persistence_threshold": "auto", "stage3_max_live_parameters": 1e9,
                  "stage3_max_reuse_distance": 1e9,
                  "stage3_gather_16bit_weights_on_model_save": True}  # else the saved model has no weights
    if zero == "z3_offload":
        cpu = {"device": "cpu", "pin_memory": True}
        shards |= {"offload_optimizer": cpu, "offload_param": dict(cpu), "overlap_comm": False}
    return {"train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto", "gradient_clipping": "auto",
            "zero_allow_untested_optimizer": True, "bf16": {"enabled": "auto"},
            "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 16, "loss_scale_window": 1000,
                     "hysteresis": 2, "min_loss_scale": 1},
            "zero_optimization": shards}
