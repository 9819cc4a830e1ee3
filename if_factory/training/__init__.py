"""LLaMA-Factory runs: staged YAMLs, running them, and an environment in which they work."""
