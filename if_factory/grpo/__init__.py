"""``stage: grpo`` for LLaMA-Factory: trl's GRPO on LLaMA-Factory's model, template and data, with verified rewards."""
