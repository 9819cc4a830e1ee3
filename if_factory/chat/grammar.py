"""Answers that follow a JSON schema, for models that run in this process: only tokens that fit are left to choose.

llguidance compiles the schema and says which tokens may follow; here its mask is laid over the logits of those
rows of a batch that have a schema.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any


def available() -> bool:
    return find_spec("llguidance") is not None


@lru_cache(maxsize=2)  # it takes about a second
def tokenizer_of(tokenizer: Any, vocab_size: int, stops: tuple[int, ...]) -> Any:
    """What ``SchemaMask`` needs of a fast Hugging Face tokenizer; ``stops`` are the ids that end an answer."""
    from llguidance.hf import from_tokenizer

    return from_tokenizer(tokenizer, n_vocab=vocab_size, eos_token=list(stops))


class SchemaMask:
    """A logits processor for ``generate``: -inf for every token that ``schemas[row]`` does not allow next.

    Args:
        tokenizer: of ``tokenizer_of``.
        stops: ids that end an answer; all that is left when the value is complete.
        schemas: per row a JSON schema, or ``None`` for a row that is free.
        width: tokens of the (padded) prompt, which the schema says nothing about.

    Raises:
        ValueError: a schema that cannot be compiled.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[int], schemas: Sequence[dict[str, Any] | None],
                 width: int) -> None:
        from llguidance import LLMatcher

        self._seen = width
        self._stops = list(stops)
        self._matchers: dict[int, Any] = {}
        for row, schema in enumerate(schemas):
            if schema is None:
                continue
            # Blanks are as in prose: a small model that may write any number of them may never stop.
            grammar = LLMatcher.grammar_from_json_schema(
                json.dumps(schema), overrides={"whitespace_flexible": False, "item_separator": ", ",
                                               "key_separator": ": "})
            matcher = LLMatcher(tokenizer, grammar)
            if matcher.is_error():
                raise ValueError(f"this JSON schema cannot be followed: {matcher.get_error()}")
            self._matchers[row] = matcher

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """``input_ids`` [B, T] and ``scores`` [B, V], as ``generate`` gives them; returns [B, V]."""
        import torch

        for row, matcher in self._matchers.items():
            for token in input_ids[row, self._seen:].tolist():
                if not matcher.is_stopped():
                    matcher.consume_token(token)
            allowed = torch.zeros(scores.shape[1], dtype=torch.bool)
            if matcher.is_stopped():
                allowed[self._stops] = True
            else:
                packed = torch.frombuffer(bytearray(matcher.compute_bitmask()), dtype=torch.uint8)
                bits = (packed.unsqueeze(1) >> torch.arange(8, dtype=torch.uint8)) & 1
                n = min(len(allowed), bits.numel())
                allowed[:n] = bits.flatten()[:n].bool()
            scores[row] = scores[row].masked_fill(~allowed.to(scores.device), float("-inf"))
        self._seen = input_ids.shape[1]
        return scores
