"""Log-probabilities of whole sequences from those of their tokens, as LLaMA-Factory's ``get_batch_logps``."""

from __future__ import annotations

import torch
from torch import Tensor

from if_factory.logps.head import IGNORE


def label_sums(logps: Tensor, labels: Tensor, ld_alpha: float | None = None) -> tuple[Tensor, Tensor]:
    """Sums of the labelled tokens' log-probabilities and the number of these tokens, both [R].

    Args:
        logps: [R, T-1], log-probability of token t+1 in nats, 0 where it is not labelled.
        labels: [R, T], -100 where a token is not scored.
        ld_alpha: LD-DPO's weight for the part of the longer answer that the shorter one does not reach; rows
            i and i + R/2 are a pair.

    Source: llamafactory 0.9.5 ``train/trainer_utils.py``; LD-DPO: Liu et al., 2024, arXiv 2409.06411.
    """
    scored = labels[:, 1:] != IGNORE
    lengths = scored.sum(-1)
    if ld_alpha is None:
        return logps.sum(-1), lengths
    pairs = len(labels) // 2
    shorter = torch.min(lengths[:pairs], lengths[pairs:]).repeat(2)
    ends = scored.int().argmax(1) + shorter  # counted from the first labelled token, as there
    reached = torch.arange(scored.shape[1], device=logps.device) < ends.unsqueeze(1)
    front = logps.masked_fill(~reached, 0.0).sum(-1)
    return front + ld_alpha * logps.masked_fill(reached, 0.0).sum(-1), lengths
