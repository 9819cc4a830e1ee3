"""Requests asked in batch files instead of one by one: by OpenAI's Batch API, or by ``vllm run-batch``."""
