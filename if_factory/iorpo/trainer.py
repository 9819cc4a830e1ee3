"""LLaMA-Factory's DPO trainer with the I-ORPO loss; optimizers, sampling, logging and evaluation are its own."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Literal

from llamafactory.extras import logging
from llamafactory.train.dpo.trainer import CustomDPOTrainer
from torch import Tensor

from if_factory.errors import UserError
from if_factory.iorpo.arguments import IorpoArguments
from if_factory.iorpo.logps import ResponseLogps
from if_factory.iorpo.loss import IorpoLoss, iorpo_loss
from if_factory.iorpo.sequential import SequentialStep

logger = logging.get_logger("llamafactory.iorpo")  # a name that LLaMA-Factory shows at level INFO


class IorpoTrainer(CustomDPOTrainer):  # type: ignore[misc]
    """Trains on batches of LLaMA-Factory's pairwise collator: rows of (x_w, y), then rows of (x_l, y).

    Args:
        arguments: our own keys; ``chunked`` is ``False`` where the framework replaces the model's forward.
        kwargs: as for ``CustomDPOTrainer``, which has no reference model here.
    """

    def __init__(self, *, arguments: IorpoArguments, chunked: bool, **kwargs: Any) -> None:
        super().__init__(ref_model=None, **kwargs)
        self.iorpo = arguments
        self.response_logps = ResponseLogps(chunk_size=arguments.chunk_size, chunked=chunked,
                                            say=logger.warning_rank0)
        self._sequential: tuple[SequentialStep, int] | None = None  # and the row that is under way
        if arguments.sequential and (self.is_deepspeed_enabled or self.is_fsdp_enabled):  # by accelerate's own file
            raise UserError("cannot be combined with DeepSpeed or FSDP", where="field 'iorpo_sequential'",
                            fix="leave it out")

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """With ``iorpo_sequential`` one of the Trainer's own steps, with its backward, for each sequence."""
        if not self.iorpo.sequential:
            loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
            return loss
        inputs = self._prepare_inputs(inputs)
        step = SequentialStep(inputs, self.response_logps, beta=self.beta, nll_on=self.iorpo.nll_on)
        losses = []
        try:
            for row in step.order:
                self._sequential = step, row
                # gradients of several processes are added up once, in the last backward
                with nullcontext() if row == step.order[-1] else self.accelerator.no_sync(model):
                    losses.append(super().training_step(model, inputs, *args, **kwargs))
        finally:
            self._sequential = None
        return sum(losses[1:], losses[0])

    def get_batch_loss_metrics(self, model: Any, batch: dict[str, Tensor],
                               train_eval: Literal["train", "eval"] = "train") -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch of B pairs (ids, mask and labels are [2B, T]) and its means for the log.

        ``rewards/accuracies`` is the ranking accuracy, the share of triples with p(y|x_w) > p(y|x_l); rewards are
        ``pref_beta`` times mean log-probabilities, in nats per token, as in LLaMA-Factory's ORPO.
        """
        if self._sequential is not None and train_eval == "train":
            step, row = self._sequential
            loss, found = step.loss(model, row), step.result
        else:
            logps = self.response_logps(model, batch, self.iorpo.nll_on)
            found = iorpo_loss(logps.logps, logps.response, beta=self.beta, nll_on=self.iorpo.nll_on,
                               sequence=logps.sequence)
            loss = found.loss
        if self.iorpo.head == "chunked" and self.response_logps.reason:
            raise UserError(self.response_logps.reason, where="field 'iorpo_head'", fix="set it to auto or full")
        return loss, self._metrics(found, "eval_" if train_eval == "eval" else "") if found is not None else {}

    def _metrics(self, result: IorpoLoss, prefix: str) -> dict[str, float]:
        logp_w, logp_l = result.logps_w.detach().mean().item(), result.logps_l.detach().mean().item()
        metrics = {"rewards/accuracies": result.accuracy.item(),
                   "log_odds": result.log_odds.detach().mean().item(),
                   "rewards/chosen": self.beta * logp_w, "rewards/rejected": self.beta * logp_l,
                   "rewards/margins": self.beta * (logp_w - logp_l), "logps/chosen": logp_w,
                   "logps/rejected": logp_l, "sft_loss": result.nll.item(), "odds_ratio_loss": result.odds.item()}
        return {prefix + key: value for key, value in metrics.items()}
