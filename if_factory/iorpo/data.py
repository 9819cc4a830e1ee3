"""Triples (x_w, x_l, y) through LLaMA-Factory's own data pipeline.

An I-ORPO dataset is an ordinary entry of dataset_info.json with ``ranking: false`` whose ``columns.rejected``
names the corrupted instruction. LLaMA-Factory's converters read that column only with ``ranking: true``, so the
entry stays valid for ``stage: sft`` (which trains y on x_w) and is refused by ``stage: dpo``.

Converters, templates, cutoff rule, processor, mixing, splitting and caching are LLaMA-Factory's. Ours are the
second instruction, one truncation for both sides, and the reasons why a triple is not trained. The hooks are in
force only inside ``triples()``.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llamafactory.data import converter, loader
from llamafactory.data.converter import AlpacaDatasetConverter, SharegptDatasetConverter
from llamafactory.data.processor import PairwiseDatasetProcessor
from llamafactory.data.processor.processor_utils import infer_seqlen
from llamafactory.extras import logging
from llamafactory.extras.constants import IGNORE_INDEX

from if_factory.errors import UserError
from if_factory.iorpo.compat import moved
from if_factory.version import __version__

CORRUPTED = "_corrupted"  # column beside LLaMA-Factory's own _prompt, _response, ...
DROPPED = "_dropped"  # why a row is not trained, "" if it is
TRUNCATED = "_truncated"  # tokens cut from the response

BROKEN = "not a conversation that ends with one answer to the user"
NO_CORRUPTED = "no corrupted instruction"
EMPTY = "empty response"
TOO_LONG = "an instruction does not fit cutoff_len"
ALIKE = "the two instructions tokenise alike"

logger = logging.get_logger("llamafactory.iorpo")  # a name that LLaMA-Factory shows at level INFO


class _NamesCorrupted:
    """A converter whose entry must name a corrupted instruction."""

    def __post_init__(self) -> None:
        attr: Any = self.dataset_attr  # type: ignore[attr-defined]
        if not attr.rejected:
            raise UserError(f"dataset '{attr}' does not say where its corrupted instructions are",
                            where="dataset_info.json: field 'columns.rejected'",
                            fix="name the column there, and leave ranking: false")

    def with_corrupted(self, converted: dict[str, Any], corrupted: list[dict[str, str]]) -> dict[str, Any]:
        # an empty turn, not an empty list: Arrow takes a column's type from what it sees first
        return {**converted, CORRUPTED: corrupted or [{"role": "user", "content": ""}]}


@dataclass
class AlpacaTriples(_NamesCorrupted, AlpacaDatasetConverter):  # type: ignore[misc]
    """Alpaca rows: ``rejected`` stands in for the instruction; the input is appended to both."""

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        corrupted = example.get(self.dataset_attr.rejected)
        other = []
        if isinstance(corrupted, str) and corrupted.strip():
            other = super().__call__({**example, self.dataset_attr.prompt: corrupted})["_prompt"]
        return self.with_corrupted(super().__call__(example), other)


@dataclass
class SharegptTriples(_NamesCorrupted, SharegptDatasetConverter):  # type: ignore[misc]
    """Sharegpt rows: ``rejected``, a string or one user message, stands in for the last user turn."""

    def __call__(self, example: dict[str, Any]) -> dict[str, Any]:
        attr = self.dataset_attr
        corrupted = example.get(attr.rejected)
        if isinstance(corrupted, dict):
            corrupted = corrupted.get(attr.content_tag) if corrupted.get(attr.role_tag) == attr.user_tag else None
        messages = example[attr.messages]
        other = []
        if isinstance(corrupted, str) and corrupted.strip() and len(messages) > 1:
            turn = {**messages[-2], attr.content_tag: corrupted}
            other = super().__call__({**example, attr.messages: [*messages[:-2], turn, messages[-1]]})["_prompt"]
        return self.with_corrupted(super().__call__(example), other)


@dataclass
class NoTriples(AlpacaDatasetConverter):  # type: ignore[misc]
    """The ``openai`` formatting, which adds a system prompt of its own to every row."""

    def __post_init__(self) -> None:
        raise UserError(f"dataset '{self.dataset_attr}' has formatting: openai, which stage iorpo does not take",
                        where="dataset_info.json: field 'formatting'",
                        fix="use sharegpt with role_tag: role and content_tag: content")


@dataclass
class TripleProcessor(PairwiseDatasetProcessor):  # type: ignore[misc]
    """Tokenises triples as pairs: ``chosen_*`` holds (x_w, y), ``rejected_*`` holds (x_l, y), with the same y.

    Rows that cannot be trained stay, empty and with the reason in the column ``_dropped``, until ``_counted`` has
    counted them: results of ``datasets.map`` may come from its cache or from other processes.
    """

    version: str = __version__  # part of the fingerprint under which datasets caches the result

    def preprocess_dataset(self, examples: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """A batch of aligned rows -> the columns of LLaMA-Factory's pairwise collator, ids as lists of int."""
        columns: dict[str, list[Any]] = defaultdict(list)
        for i in range(len(examples["_prompt"])):
            row = {name: values[i] for name, values in examples.items()}
            reason, encoded = self._triple(row)
            prompt_w, prompt_l, answer, cut = encoded
            for side, prompt in (("chosen", prompt_w), ("rejected", prompt_l)):
                columns[f"{side}_input_ids"].append(prompt + answer)
                columns[f"{side}_attention_mask"].append([1] * len(prompt + answer))
                columns[f"{side}_labels"].append([IGNORE_INDEX] * len(prompt) + answer)
            for name in ("images", "videos", "audios"):
                columns[name].append(row[f"_{name}"])
            columns[DROPPED].append(reason)
            columns[TRUNCATED].append(cut)
        return columns

    def print_data_example(self, example: dict[str, Any]) -> None:
        """As LLaMA-Factory prints it, unless the first row is one that will not be trained."""
        if example[DROPPED]:
            print(f"the first triple is not trained: {example[DROPPED]}")
        else:
            super().print_data_example(example)

    def _triple(self, row: dict[str, Any]) -> tuple[str, tuple[list[int], list[int], list[int], int]]:
        """(why not, (ids of x_w, ids of x_l, ids of y, tokens cut from y)); no real ids if there is a reason."""
        nothing: tuple[list[int], list[int], list[int], int] = ([], [], [0], 0)  # Arrow wants to see an int
        if len(row["_prompt"]) % 2 != 1 or len(row["_response"]) != 1:
            return BROKEN, nothing
        if not row[CORRUPTED][-1]["content"]:
            return NO_CORRUPTED, nothing
        if not (row["_response"][0]["content"] or "").strip():
            return EMPTY, nothing
        prompt_w, answer = self._encode(row["_prompt"], row)
        prompt_l, same = self._encode(row[CORRUPTED], row)
        if answer != same:
            raise RuntimeError("this template tokenises one response in two ways after two instructions, so their "
                               "likelihoods cannot be compared; use another template for stage iorpo")
        if prompt_w == prompt_l:
            return ALIKE, nothing
        # Decided once, by the longer prompt, so that both sides are about the same y. Where LLaMA-Factory's rule
        # would cut the end of an instruction, where the constraints stand, the triple is not trained.
        longest = max(len(prompt_w), len(prompt_l))
        source_len, target_len = infer_seqlen(longest, len(answer), self.data_args.cutoff_len)
        if source_len < longest or target_len == 0:
            return TOO_LONG, nothing
        return "", (prompt_w, prompt_l, answer[:target_len], len(answer) - target_len)

    def _encode(self, prompt: list[dict[str, str]], row: dict[str, Any]) -> tuple[list[int], list[int]]:
        plugin = self.template.mm_plugin
        media = [row[f"_{name}"] or [] for name in ("images", "videos", "audios")]
        messages = plugin.process_messages(prompt + row["_response"], *media, self.processor)
        prompt_ids, answer = self.template.encode_oneturn(self.tokenizer, messages, row["_system"], row["_tools"])
        prompt_ids, _ = plugin.process_token_ids(prompt_ids, None, *media, self.tokenizer, self.processor)
        return prompt_ids, answer + ([self.tokenizer.eos_token_id] if self.template.efficient_eos else [])


@contextmanager
def triples() -> Iterator[None]:
    """While this holds, ``get_dataset(stage="iorpo")`` reads triples; afterwards all is as before.

    Raises:
        UserError: LLaMA-Factory's data pipeline is not the one this was written for.
    """
    import inspect

    expected = {"_get_dataset_processor": ["data_args", "stage", "template", "tokenizer", "processor"],
                "_get_preprocessed_dataset": ["dataset", "data_args", "training_args", "stage"]}
    for name, parameters in expected.items():
        function = getattr(loader, name, None)
        if function is None or list(inspect.signature(function).parameters)[:len(parameters)] != parameters:
            raise moved(f"{loader.__name__}.{name} has changed")
    preprocessed = loader._get_preprocessed_dataset
    before = dict(converter.DATASET_CONVERTERS), loader._get_dataset_processor, preprocessed

    def processor(data_args: Any, stage: str, template: Any, tokenizer: Any, processor: Any,
                  do_generate: bool = False) -> TripleProcessor:
        return TripleProcessor(template, tokenizer, processor, data_args)

    def counted(dataset: Any, data_args: Any, training_args: Any, *args: Any, **kwargs: Any) -> Any:
        done = preprocessed(dataset, data_args, training_args, *args, **kwargs)
        what = "evaluation" if kwargs.get("is_eval") else "training"
        return None if done is None else (_streamed if data_args.streaming else _counted)(done, what, data_args)

    try:
        converter.DATASET_CONVERTERS.update(alpaca=AlpacaTriples, sharegpt=SharegptTriples, openai=NoTriples)
        loader._get_dataset_processor, loader._get_preprocessed_dataset = processor, counted
        yield
    finally:
        converter.DATASET_CONVERTERS.clear()
        converter.DATASET_CONVERTERS.update(before[0])
        loader._get_dataset_processor, loader._get_preprocessed_dataset = before[1:]


def _counted(dataset: Any, what: str, data_args: Any) -> Any:
    """The rows that can be trained; how many cannot, by reason, is shown."""
    reasons, cuts = list(dataset[DROPPED]), list(dataset[TRUNCATED])
    keep = [i for i, reason in enumerate(reasons) if not reason]
    why = "; ".join(f"{n} {reason}" for reason, n in sorted(Counter(filter(None, reasons)).items()))
    if not keep:
        raise _none_left(f"none of the {len(reasons)} {what} triples can be trained: {why}", what, data_args)
    logger.info_rank0(f"I-ORPO: {len(keep)} of {len(reasons)} {what} triples are used.")
    if why:
        logger.warning_rank0(f"I-ORPO: {len(reasons) - len(keep)} {what} triples dropped: {why}.")
    if cut := sum(1 for i in keep if cuts[i]):
        logger.warning_rank0(f"I-ORPO: {cut} responses are cut at cutoff_len {data_args.cutoff_len}, and so lack "
                             "their end-of-text token.")
    return (dataset if len(keep) == len(reasons) else dataset.select(keep)).remove_columns([DROPPED, TRUNCATED])


def _streamed(dataset: Any, what: str, data_args: Any) -> Any:
    """The same for a stream, whose end is not known: every dropped triple is reported as it goes by."""
    dropped: Counter[str] = Counter()

    def trained(reason: str) -> bool:
        if reason:
            dropped[reason] += 1
            logger.warning_rank0(f"I-ORPO: {what} triple dropped: {reason} ({dropped[reason]} so far)")
        return not reason

    if next(iter(dataset.filter(lambda reason: not reason, input_columns=DROPPED)), None) is None:
        raise _none_left(f"none of the {what} triples can be trained", what, data_args)
    return dataset.filter(trained, input_columns=DROPPED).remove_columns([DROPPED, TRUNCATED])


def _none_left(problem: str, what: str, data_args: Any) -> UserError:
    names = data_args.dataset if what == "training" else data_args.eval_dataset or data_args.dataset
    return UserError(problem, where="dataset: " + ", ".join(names or ()),
                     fix=f"look at the data; cutoff_len is {data_args.cutoff_len} tokens")
