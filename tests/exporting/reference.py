"""What the installed LLaMA-Factory itself does with a dataset: its own parser, loader, converters, processors."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def need_llamafactory() -> None:
    pytest.importorskip("llamafactory.data.loader", reason="llamafactory is not installed here",
                        exc_type=ImportError)


@cache
def _byte_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator([], trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def accepted_by_llamafactory(folder: Path, name: str, stage: str, *, workers: int | None = None,
                             template: str = "empty", piece: int | None = None, batch: int = 1000,
                             max_samples: int | None = None) -> tuple[int, str]:
    """(rows that would be trained, what was raised or ''). ``stage`` is sft, dpo, kto, or our own iorpo.

    ``piece``: bytes that the JSON loader types together, 10 MB by default.
    """
    from llamafactory.data import loader
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    inner = "rm" if stage == "dpo" else stage
    tokenizer = _byte_tokenizer()
    data = DataArguments(dataset_dir=str(folder), template=template, cutoff_len=256, overwrite_cache=True,
                         preprocessing_num_workers=workers, preprocessing_batch_size=batch,
                         max_samples=max_samples)
    model = SimpleNamespace(cache_dir=str(folder / ".cache"), hf_hub_token=None)
    training = SimpleNamespace(seed=42, local_process_index=0, should_log=True, predict_with_generate=False,
                               dataloader_num_workers=0)
    if stage == "iorpo":
        from if_factory.iorpo.data import triples
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _quiet(), \
            _pieces_of(piece), triples() if stage == "iorpo" else contextlib.nullcontext():
        try:
            chosen = get_template_and_fix_tokenizer(tokenizer, data)
            merged = loader._get_merged_dataset([name], model, data, training, inner)
            done = loader._get_preprocessed_dataset(merged, data, training, inner, chosen, tokenizer)
        except Exception as e:  # any failure of theirs is a verdict here
            return 0, f"{type(e).__name__}: {e}"
    return len(done), ""


@contextlib.contextmanager
def _pieces_of(size: int | None) -> Iterator[None]:
    """The JSON loader with smaller pieces, so that a test does not need files of 10 MB."""
    from datasets.packaged_modules.json.json import JsonConfig

    field = JsonConfig.__dataclass_fields__["chunksize"]
    before, defaults = field.default, JsonConfig.__init__.__defaults__
    if size is not None and defaults is not None:
        JsonConfig.__init__.__defaults__ = tuple(size if d == before else d for d in defaults)
    try:
        yield
    finally:
        JsonConfig.__init__.__defaults__ = defaults


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def trained_on(folder: Path, name: str, *, template: str = "chatml", mask_history: bool = False
               ) -> list[tuple[int, str]]:
    """Per row of an SFT dataset: its tokens, and the text of those with loss by LLaMA-Factory's labels."""
    from llamafactory.data.loader import _get_merged_dataset, _get_preprocessed_dataset
    from llamafactory.data.template import get_template_and_fix_tokenizer
    from llamafactory.hparams import DataArguments

    tokenizer = _byte_tokenizer()
    data = DataArguments(dataset_dir=str(folder), template=template, cutoff_len=100_000, overwrite_cache=True,
                         mask_history=mask_history)
    model = SimpleNamespace(cache_dir=str(folder / ".cache"), hf_hub_token=None)
    training = SimpleNamespace(seed=42, local_process_index=0, should_log=True, predict_with_generate=False,
                               dataloader_num_workers=0)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        chosen = get_template_and_fix_tokenizer(tokenizer, data)
        merged = _get_merged_dataset([name], model, data, training, "sft")
        done = _get_preprocessed_dataset(merged, data, training, "sft", chosen, tokenizer)
    return [(len(row["input_ids"]), tokenizer.decode([i for i in row["labels"] if i != -100])) for row in done]


def put(folder: Path, entry: dict[str, Any], content: bytes) -> None:
    """A dataset 'd' of these bytes, registered with this entry."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / entry["file_name"]).write_bytes(content)
    (folder / "dataset_info.json").write_text(json.dumps({"d": entry}))


def jsonl(rows: list[Any]) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in rows).encode()
