"""One I-ORPO run, from parsed arguments to a saved adapter.

Source: llamafactory 0.9.5 ``train/dpo/workflow.py``, with our data, trainer and plots.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from llamafactory.data import PairwiseDataCollatorWithPadding, get_dataset, get_template_and_fix_tokenizer
from llamafactory.extras import logging
from llamafactory.extras.constants import IGNORE_INDEX
from llamafactory.extras.misc import calculate_tps
from llamafactory.extras.ploting import plot_loss
from llamafactory.model import load_model, load_tokenizer
from llamafactory.train.trainer_utils import create_modelcard_and_push

from if_factory.errors import UserError
from if_factory.iorpo.arguments import STAGE, IorpoArguments
from if_factory.iorpo.data import triples
from if_factory.iorpo.trainer import IorpoTrainer

logger = logging.get_logger("llamafactory.iorpo")  # a name that LLaMA-Factory shows at level INFO


def run_iorpo(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any,
              callbacks: list[Any] | None = None) -> None:
    """Train and evaluate; arguments as LLaMA-Factory parsed them, ``finetuning_args.iorpo`` holds our own.

    Raises:
        UserError: no triple can be trained, the dataset's entry names none, or LLaMA-Factory's internals moved.
    """
    arguments: IorpoArguments = finetuning_args.iorpo
    training_args.remove_unused_columns = False  # 0.9.2 says so in its workflows, later ones in the parser
    tokenizer_module = load_tokenizer(model_args)
    tokenizer = tokenizer_module["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    with triples():
        datasets = get_dataset(template, model_args, data_args, training_args, stage=STAGE, **tokenizer_module)
    if data_args.tokenized_path is not None:
        _check_tokenized(datasets.get("train_dataset"), data_args.tokenized_path)
    model = load_model(tokenizer, model_args, finetuning_args, training_args.do_train)
    collator = PairwiseDataCollatorWithPadding(
        template=template, model=model, pad_to_multiple_of=8, label_pad_token_id=IGNORE_INDEX, **tokenizer_module)
    logger.info_rank0(f"I-ORPO: lambda = pref_beta = {finetuning_args.pref_beta}, " +
                      ", ".join(f"{key} = {value}" for key, value in arguments.keys().items()) + ".")
    trainer = IorpoTrainer(
        arguments=arguments, chunked=_chunked(arguments, model_args), model=model, args=training_args,
        finetuning_args=finetuning_args, data_collator=collator, callbacks=callbacks, **datasets,
        **tokenizer_module)

    if training_args.do_train:
        result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        trainer.save_model()
        if getattr(finetuning_args, "include_effective_tokens_per_second", False):
            result.metrics["effective_tokens_per_sec"] = calculate_tps(
                datasets["train_dataset"], result.metrics, stage="rm")
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        if trainer.is_world_process_zero() and finetuning_args.plot_loss:
            plot_loss(training_args.output_dir, keys=_plotted(datasets.get("eval_dataset")))

    if training_args.do_eval:
        metrics = trainer.evaluate(metric_key_prefix="eval")
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    create_modelcard_and_push(trainer, model_args, data_args, training_args, finetuning_args)


def _chunked(arguments: IorpoArguments, model_args: Any) -> bool:
    """Whether log-probabilities are taken inside the output head; unsloth and KTransformers replace forwards."""
    replaced = next((name for name in ("unsloth", "kt") if getattr(model_args, f"use_{name}", False)), None)
    if replaced and arguments.head == "chunked":
        raise UserError(f"chunks do not work with use_{replaced}, which replaces the model's forward",
                        where="field 'iorpo_head'", fix="set it to auto or full")
    return arguments.head != "full" and replaced is None


def _plotted(eval_dataset: Any) -> list[str]:
    keys = ["loss", "rewards/accuracies", "log_odds"]
    if isinstance(eval_dataset, dict):
        return keys + [f"eval_{name}_loss" for name in eval_dataset]
    if eval_dataset is not None:
        keys += ["eval_loss", "eval_rewards/accuracies", "eval_log_odds"]
    return keys


def _check_tokenized(dataset: Any, path: str) -> None:
    """A folder of tokenised data is taken as it is: its first rows must be one response under two instructions."""
    for row in islice(dataset or (), 100):
        answer, other = ([i for i in row.get(f"{side}_labels", ()) if i != IGNORE_INDEX]
                         for side in ("chosen", "rejected"))
        if answer != other or not answer:
            raise UserError("this tokenised data holds no I-ORPO triples: the two sides have different responses",
                            where=f"field 'tokenized_path': {path}", fix="make it with `if-factory tokenize`")
