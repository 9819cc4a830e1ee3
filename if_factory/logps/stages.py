"""LLaMA-Factory's DPO and KTO trainers with log-probabilities taken in chunks; the losses are its own.

Each overrides the one function that makes logits. It returns what the original returns, but for the logits
themselves: of those the callers read a mean (DPO) or a sum (KTO) for the log, so they get that, one value per row.

Source: llamafactory 0.9.5 ``train/dpo/trainer.py`` concatenated_forward, ``train/kto/trainer.py`` forward,
``train/trainer_utils.py`` get_batch_logps. R rows (sequences), T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import inspect
from typing import Any, Literal, NamedTuple

from llamafactory.train import trainer_utils
from llamafactory.train.dpo.trainer import CustomDPOTrainer
from llamafactory.train.kto.trainer import CustomKTOTrainer
from torch import Tensor

from if_factory.errors import UserError
from if_factory.logps.arguments import KEY
from if_factory.logps.head import IGNORE, ChunkedLogps, output_head
from if_factory.logps.sums import label_sums

TESTED = "0.9.5"
# What is overridden here, and what reads its result: another text may mean another loss.
_KNOWN = {
    "get_batch_logps": (trainer_utils.get_batch_logps, "8076e2df48c05571"),
    "CustomDPOTrainer.concatenated_forward": (CustomDPOTrainer.concatenated_forward, "01052d609c8d238c"),
    "CustomDPOTrainer.get_batch_loss_metrics": (CustomDPOTrainer.get_batch_loss_metrics, "bc6da1ac2acdb40a"),
    "CustomKTOTrainer.forward": (CustomKTOTrainer.forward, "7d62c3b40469792b"),
    "CustomKTOTrainer.concatenated_forward": (CustomKTOTrainer.concatenated_forward, "44f2a73223874b69"),
    "CustomKTOTrainer.get_batch_loss_metrics": (CustomKTOTrainer.get_batch_loss_metrics, "3b2aa3307c796ea4"),
}


def changed() -> list[str]:
    """Functions of the installed LLaMA-Factory whose source is not that of the tested version."""
    return [name for name, (function, known) in _KNOWN.items() if _digest(function) != known]


def _digest(function: Any) -> str:
    try:
        return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]
    except OSError:  # no source here
        return ""


class RowLogps(NamedTuple):
    """Per row, [R]: the sum of its labelled tokens' log-probabilities, their number, its mean logit; and T * V."""

    sums: Tensor
    lengths: Tensor
    mean_logits: Tensor
    logits: int


class _Chunked:
    """Log-probabilities for a trainer of one or two models: the policy, and a reference model if there is one."""

    finetuning_args: Any

    def row_logps(self, model: Any, inputs: dict[str, Any], labels: Tensor, ld_alpha: float | None = None) -> RowLogps:
        """One forward pass.

        Args:
            inputs: what the model's forward takes, without labels.
            labels: [R, T], -100 where a token is not scored.
            ld_alpha: as in LLaMA-Factory, see ``label_sums``.

        Raises:
            UserError: this model's log-probabilities cannot be taken inside its output head.
        """
        following = labels[:, 1:]
        needed = following != IGNORE
        head = id(output_head(model))
        known: dict[int, ChunkedLogps] = self.__dict__.setdefault("_chunked_logps", {})
        if head not in known:
            known[head] = ChunkedLogps(self.finetuning_args.logps_chunk_size)
            if reason := known[head].why_not(model, inputs, following, needed):
                raise UserError(f"cannot be used with this model: {reason}", where=f"field '{KEY}'",
                                fix="leave it out")
        found = known[head](model, inputs, following, needed, mean_logits=True)
        assert found.mean_logits is not None
        sums, lengths = label_sums(found.logps, labels, ld_alpha)
        return RowLogps(sums, lengths, found.mean_logits, labels.shape[1] * found.vocabulary)


class ChunkedDPOTrainer(_Chunked, CustomDPOTrainer):  # type: ignore[misc]
    """Stage dpo, all values of ``pref_loss``."""

    def concatenated_forward(self, model: Any, batch: dict[str, Tensor],
                             is_ref_model: bool = False) -> dict[str, Tensor]:
        """As the original, for [2B, T]; ``chosen_logits`` and ``rejected_logits`` are means [B]."""
        inputs = trainer_utils.nested_detach({k: v for k, v in batch.items() if k != "labels"}, clone=True)
        rows = self.row_logps(model, inputs, batch["labels"], None if is_ref_model else self.ld_alpha)
        means = rows.sums / rows.lengths
        logps = means if self.loss_type in ("ipo", "orpo", "simpo") else rows.sums
        pairs = len(logps) // 2
        return {"chosen_logps": logps[:pairs], "rejected_logps": logps[pairs:],
                "chosen_logits": rows.mean_logits[:pairs], "rejected_logits": rows.mean_logits[pairs:],
                "chosen_logps_avg": means[:pairs]}


class ChunkedKTOTrainer(_Chunked, CustomKTOTrainer):  # type: ignore[misc]
    """Stage kto."""

    def forward(self, model: Any, batch: dict[str, Tensor],
                prefix: Literal["", "kl_"] = "") -> tuple[Tensor, Tensor, Tensor]:
        """As the original, for [B, T]; the logits are sums [B] over all positions and entries."""
        own = ("input_ids", "attention_mask", "token_type_ids", "cross_attention_mask")
        shared = ("pixel_values", "image_sizes", "image_grid_thw", "aspect_ratio_ids", "aspect_ratio_mask")
        names = {name: prefix + name for name in own} | {name: name for name in shared}
        inputs = {name: batch[key] for name, key in names.items() if key in batch}
        rows = self.row_logps(model, trainer_utils.nested_detach(inputs, clone=True), batch[f"{prefix}labels"])
        return rows.mean_logits * rows.logits, rows.sums, rows.sums / rows.lengths
