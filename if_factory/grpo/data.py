"""Prompts with their ``ground_truth`` through LLaMA-Factory's own loader, converters and template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llamafactory.data import converter
from llamafactory.data.converter import AlpacaDatasetConverter, SharegptDatasetConverter
from llamafactory.data.data_utils import split_dataset
from llamafactory.data.loader import _get_merged_dataset
from llamafactory.extras import logging

from if_factory.errors import UserError
from if_factory.rewards.truth import read_truth

TRUTH = "ground_truth"
_KEPT = "_ground_truth"  # beside LLaMA-Factory's own _prompt, _response, ...
logger = logging.get_logger("llamafactory.grpo")  # a name that LLaMA-Factory shows at level INFO


class _KeepsTruth:
    """A converter that keeps the column ``ground_truth``."""

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        return {**super().__call__(example), _KEPT: example.get(TRUTH)}  # type: ignore[misc]


@dataclass
class AlpacaPrompts(_KeepsTruth, AlpacaDatasetConverter):  # type: ignore[misc]
    """Alpaca rows, with or without an answer, which is not looked at."""


@dataclass
class SharegptPrompts(_KeepsTruth, SharegptDatasetConverter):  # type: ignore[misc]
    """Sharegpt rows; the converter takes the last turn for an answer."""


@contextmanager
def prompts_with_truth() -> Iterator[None]:
    """While this holds, LLaMA-Factory's loader keeps ``ground_truth``; afterwards all is as before."""
    before = dict(converter.DATASET_CONVERTERS)
    try:
        converter.DATASET_CONVERTERS.update(alpaca=AlpacaPrompts, sharegpt=SharegptPrompts)
        yield
    finally:
        converter.DATASET_CONVERTERS.clear()
        converter.DATASET_CONVERTERS.update(before)


def datasets_of(template: Any, tokenizer: Any, model_args: Any, data_args: Any, training_args: Any) -> tuple[Any, Any]:
    """The training and the evaluation prompts as trl reads them, each ``None`` where there are none.

    Columns: ``prompt``, the text that the model is given; ``ground_truth``; ``asked``, the user turns as JSON.

    Raises:
        UserError: streamed or already tokenised data, a row without a ``ground_truth``, or no prompt left.
    """
    if data_args.streaming or data_args.tokenized_path:
        raise UserError("stage grpo reads datasets of prompts as a whole",
                        where=f"field '{'streaming' if data_args.streaming else 'tokenized_path'}'", fix="leave it out")
    with prompts_with_truth():
        train = _get_merged_dataset(data_args.dataset, model_args, data_args, training_args, "ppo")
        held_out = _get_merged_dataset(data_args.eval_dataset, model_args, data_args, training_args, "ppo")
    taken, kept_back = split_dataset(train, held_out, data_args, seed=training_args.seed)
    parts = {**taken, **kept_back}
    return tuple(None if name not in parts else _rendered(parts[name], what, template, tokenizer, data_args)
                 for name, what in (("train", "training"), ("validation", "evaluation")))  # type: ignore[return-value]


def _rendered(dataset: Any, what: str, template: Any, tokenizer: Any, data_args: Any) -> Any:
    def render(row: dict[str, Any], index: int) -> dict[str, Any]:
        turns, truth = row["_prompt"], row.get(_KEPT)
        if not isinstance(truth, str):
            raise UserError("expected a string", where=f"{what} row {index + 1}: field '{TRUTH}'",
                            fix="export prompts with `if-factory export --rl trl`")
        try:
            read_truth(truth)
        except UserError as e:
            raise UserError(e.problem, where=f"{what} row {index + 1}: {e.where}", fix=e.fix) from None
        ids: list[int] = []
        if len(turns) % 2 == 1:
            ids, _ = template.encode_oneturn(tokenizer, [*turns, {"role": "assistant", "content": ""}],
                                             row["_system"], row["_tools"])
        asked = [t["content"] for t in turns if t["role"] == "user"]
        fits = 0 < len(ids) <= data_args.cutoff_len
        return {"prompt": tokenizer.decode(ids, skip_special_tokens=False), TRUTH: truth, "asked": json.dumps(asked),
                "fits": fits}

    # from memory: a cached result could be that of another template with the same name
    done = dataset.map(render, with_indices=True, remove_columns=dataset.column_names, load_from_cache_file=False,
                       desc="Rendering prompts")
    kept = done.filter(lambda fits: fits, input_columns="fits", load_from_cache_file=False).remove_columns("fits")
    if lost := len(done) - len(kept):
        logger.warning_rank0(f"GRPO: {lost} of {len(done)} {what} prompts are left out: longer than cutoff_len "
                             f"{data_args.cutoff_len}, or not a conversation that ends with the user.")
    if not len(kept):
        raise UserError(f"no {what} prompt is left of {len(done)}", where="dataset: " + ", ".join(data_args.dataset),
                        fix=f"look at the data; cutoff_len is {data_args.cutoff_len} tokens")
    return kept
