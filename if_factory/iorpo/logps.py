"""The log-probabilities that the I-ORPO loss reads, in chunks where the model allows it (``if_factory/logps/head.py``).

B pairs, T tokens; rows as in ``loss.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from if_factory.iorpo.arguments import NllOn
from if_factory.logps.head import IGNORE, ChunkedLogps, full_logps

logger = logging.getLogger(__name__)


class TokenLogps(NamedTuple):
    """What ``iorpo_loss`` reads.

    Attributes:
        logps: [2B, T-1] float32, log-probability of token t+1 in nats, 0 where nobody asked.
        response: [2B, T-1] bool, token t+1 is a labelled response token.
        sequence: [2B, T-1] bool, token t+1 is no padding.
    """

    logps: Tensor
    response: Tensor
    sequence: Tensor


class Masks(NamedTuple):
    """What the loss needs of a batch; all [2B, T-1].

    Attributes:
        following: int64, the token after each position.
        response: bool, token t+1 is a labelled response token.
        sequence: bool, token t+1 is no padding.
        needed: bool, the loss reads the log-probability of token t+1.
    """

    following: Tensor
    response: Tensor
    sequence: Tensor
    needed: Tensor


class ResponseLogps:
    """Computes ``TokenLogps`` for batches of one model; ``close()`` gives the model its head back.

    Args:
        chunk_size: tokens per chunk; 4 * chunk_size * V * 4 bytes are alive at a time, roughly.
        chunked: ``False`` asks for full logits from the start, for frameworks that replace forwards, like unsloth.
        say: gets the one sentence, if full logits are used after all.

    Attributes:
        reason: why full logits are used; ``None`` while the chunked path is.
    """

    def __init__(
        self, *, chunk_size: int = 1024, chunked: bool = True, say: Callable[[str], object] = logger.warning
    ) -> None:
        self.reason = None if chunked else "full logits were asked for"
        self._say = say
        self._chunks = ChunkedLogps(chunk_size)

    def __call__(self, model: nn.Module, batch: Mapping[str, Any], nll_on: NllOn = "response") -> TokenLogps:
        """Log-probabilities of the tokens that the loss needs.

        Args:
            model: the model as the trainer calls it, wrappers included.
            batch: input_ids, attention_mask, labels: [2B, T], rows of x_w before rows of x_l, labels ``-100``
                outside the response; whatever else the model's forward takes. It is left as it is.
            nll_on: with ``prompt_and_response`` the prompt tokens of x_w are scored too.

        Raises:
            ValueError: a row without a labelled token, whose mean would be 0/0.
        """
        masks = masks_of(batch, nll_on)
        logps = self.of(model, batch, masks.following, masks.needed)
        return TokenLogps(logps, masks.response, masks.sequence)

    def of(self, model: nn.Module, batch: Mapping[str, Any], following: Tensor, needed: Tensor) -> Tensor:
        """[R, T-1] float32 for any R rows of a batch; ``following`` and ``needed`` [R, T-1] as in ``Masks``."""
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        if self.reason is None:
            self.reason = self._chunks.why_not(model, inputs, following, needed)
            if self.reason is not None:
                self._say(f"I-ORPO uses full logits, with more memory for long responses: {self.reason}.")
        if self.reason is not None:
            return full_logps(model, inputs, following, needed)
        return self._chunks(model, inputs, following, needed).logps

    def close(self) -> None:
        """Puts the head's own ``forward`` back; the next batch would install it again."""
        self._chunks.close()


def masks_of(batch: Mapping[str, Any], nll_on: NllOn) -> Masks:
    """Where the loss reads a batch [2B, T]; see ``ResponseLogps``.

    Raises:
        ValueError: a row without a labelled token, whose mean would be 0/0.
    """
    labels, following = batch["labels"][:, 1:], batch["input_ids"][:, 1:]
    response = labels != IGNORE
    if not bool(response.any(1).all()):
        rows = (~response.any(1)).nonzero().flatten().tolist()
        raise ValueError(f"rows {rows} of the batch have no labelled response token")
    mask = batch.get("attention_mask")
    sequence = torch.ones_like(response) if mask is None else mask[:, 1:].bool()
    needed = response
    if nll_on == "prompt_and_response":
        needed = response.clone()
        needed[: len(needed) // 2] |= sequence[: len(needed) // 2]
    return Masks(following, response, sequence, needed)
