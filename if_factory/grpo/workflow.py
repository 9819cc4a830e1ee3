"""One GRPO run, from parsed arguments to a saved adapter.

Source: llamafactory 0.9.5 ``train/sft/workflow.py``, with trl's trainer, our rewards and plots.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from llamafactory.data import get_template_and_fix_tokenizer
from llamafactory.extras import logging
from llamafactory.extras.ploting import plot_loss
from llamafactory.model import load_model, load_tokenizer
from llamafactory.train.trainer_utils import create_custom_optimizer, create_custom_scheduler
from transformers import TrainingArguments

from if_factory.errors import UserError
from if_factory.grpo.answers import AnswerLog
from if_factory.grpo.arguments import GrpoArguments, config_of
from if_factory.grpo.data import TRUTH, datasets_of
from if_factory.grpo.even_groups import check as check_even_groups
from if_factory.grpo.even_groups import with_advantage
from if_factory.grpo.server import RewardServer
from if_factory.grpo.trl_repair import grpo_classes, ready
from if_factory.rewards.function import Rewarder
from if_factory.rewards.judge import EndpointJudge
from if_factory.rewards.truth import read_truth

logger = logging.get_logger("llamafactory.grpo")  # a name that LLaMA-Factory shows at level INFO
PLOTTED = ("loss", "reward", "completions/mean_length", "frac_reward_zero_std", "kl")


def run_grpo(model_args: Any, data_args: Any, training_args: Any, finetuning_args: Any,
             callbacks: list[Any] | None = None) -> None:
    """Train and evaluate; arguments as LLaMA-Factory parsed them, ``finetuning_args.grpo`` holds our own.

    Raises:
        UserError: the data has no prompts with a ``ground_truth``, a key is unknown, or trl cannot be imported.
    """
    arguments: GrpoArguments = finetuning_args.grpo
    trainer_class, config_class = grpo_classes()
    config = config_of(config_class, TrainingArguments, arguments, training_args,
                       max_prompt_length=None, shuffle_dataset=not finetuning_args.disable_shuffling)
    tokenizer_module = load_tokenizer(model_args)
    tokenizer = tokenizer_module["tokenizer"]
    template = get_template_and_fix_tokenizer(tokenizer, data_args)
    train, held_out = datasets_of(template, tokenizer, model_args, data_args, training_args)
    judge = _judge_of(arguments, train or held_out)
    model = ready(load_model(tokenizer, model_args, finetuning_args, training_args.do_train))
    rewarder = Rewarder(how=arguments.reward, usefulness=arguments.usefulness,  # type: ignore[arg-type]
                        relevance=arguments.relevance, undecided="group_mean", plugins=arguments.plugins,
                        seconds=arguments.reward_seconds, judge=judge)
    server = None
    if finetuning_args.reward_model is not None:
        if finetuning_args.reward_model_type != "api":
            raise UserError("stage grpo takes a reward model from a server only", where="field 'reward_model_type'",
                            fix="reward_model_type: api, reward_model: its URL")
        server = RewardServer(finetuning_args.reward_model)
    if arguments.skip_even_groups:
        check_even_groups(config)
    answers = AnswerLog(Path(config.output_dir), config.process_index) if arguments.log_answers else None
    trainer: Any = None

    def verified(prompts: Sequence[str], completions: Sequence[str], ground_truth: Sequence[str],
                 asked: Sequence[str], **columns: Any) -> list[float | None]:
        turns = [[{"role": "user", "content": text} for text in json.loads(users)] for users in asked]
        judged = rewarder.judge(turns, completions, ground_truth)
        mode = "train" if trainer.model.training else "eval"
        logged = trainer._metrics[mode]
        parts = {"useless": [bool(j.useless) for j in judged],
                 "all_satisfied": [bool(j.satisfied) and all(s is True for s in j.satisfied) for j in judged],
                 "undecided": [None in j.satisfied or not j.satisfied for j in judged]}
        for name, flags in parts.items():
            share = torch.tensor(sum(flags) / len(flags), device=trainer.accelerator.device)
            logged[f"reward/{name}"].append(trainer.accelerator.gather(share).mean().item())
        if answers:
            answers.add(trainer.state.global_step, mode, turns, completions, judged)
        return [j.reward for j in judged]

    def reward_model(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float | None]:
        assert server is not None
        scores = server.scores([p + c for p, c in zip(prompts, completions, strict=True)])
        mode = "train" if trainer.model.training else "eval"
        trainer._metrics[mode]["reward/server_away"].append(float(scores is None))
        return [None] * len(prompts) if scores is None else list(scores)

    rewards = [verified, reward_model] if server else [verified]
    try:
        made = _with_our_optimizer(trainer_class, training_args, finetuning_args)
        if arguments.skip_even_groups:
            made = _without_even_groups(made)
        trainer = made(
            model=model, reward_funcs=rewards, args=config, train_dataset=train, eval_dataset=held_out,
            processing_class=tokenizer, callbacks=callbacks)
    except ValueError as e:
        raise UserError(f"trl refuses this run: {e}", where="stage grpo") from e
    logger.info_rank0(f"GRPO: {config.num_generations} answers to a prompt, of up to {config.max_completion_length} "
                      f"tokens; beta = {config.beta}; reward = {arguments.reward}.")

    if training_args.do_train:
        result = trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
        trainer.save_model()
        trainer.log_metrics("train", result.metrics)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        if trainer.is_world_process_zero() and finetuning_args.plot_loss:
            plot_loss(training_args.output_dir, keys=[k for k in PLOTTED if k != "kl" or config.beta])
    if training_args.do_eval and held_out is not None:
        metrics = trainer.evaluate(metric_key_prefix="eval")
        logged = trainer.state.log_history[-1]  # trl adds the rewards when it logs, and not to what it returns
        metrics |= {key: value for key, value in logged.items() if key.startswith("eval_")}
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    rewarder.close()


def _judge_of(arguments: GrpoArguments, prompts: Any) -> EndpointJudge | None:
    """The judge, which has answered a test question; how many prompts would need one that is not named is told."""
    if arguments.judge is not None:
        judge = EndpointJudge(arguments.judge)
        judge.check()
        return judge
    if judged := sum(bool(read_truth(text).judged) for text in prompts[TRUTH]):
        logger.info_rank0(f"GRPO: {judged} of {len(prompts)} prompts have constraints that only a judge decides; these "
                          "are left out, as grpo_judge names no endpoint.")
    return None


def _with_our_optimizer(base: Any, training_args: Any, finetuning_args: Any) -> Any:
    """trl's trainer with LLaMA-Factory's optimizers and schedulers."""

    class Trainer(base):  # type: ignore[misc]
        optimizer: Any

        def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
            if self.optimizer is None:
                self.optimizer = create_custom_optimizer(self.model, training_args, finetuning_args)
            return super().create_optimizer(*args, **kwargs)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            create_custom_scheduler(training_args, num_training_steps, optimizer)
            return super().create_scheduler(num_training_steps, optimizer)

    return Trainer


def _without_even_groups(base: Any) -> Any:
    """The trainer, whose loss is computed of the answers that have an advantage only."""

    class Trainer(base):  # type: ignore[misc]
        def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
            kept = with_advantage(inputs)
            if kept is None:  # a loss of 0 with a gradient of 0
                return 0.0 * sum(p.sum() for p in model.parameters() if p.requires_grad)
            return super()._compute_loss(model, kept)

    return Trainer
