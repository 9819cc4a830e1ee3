"""Verified instruction-following data for LLaMA-Factory.

Seed prompts and a teacher model go in; checked SFT, DPO and KTO data, staged YAML curricula and a
measured before/after come out. Nothing in this package's base install imports torch.
"""

__version__ = "0.1.0"
