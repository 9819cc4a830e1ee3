"""I-ORPO with the sequences of a batch one after the other, for texts of which two do not fit together.

The gradient of the loss with respect to a sequence's log-probabilities depends on those of the pair's other sequence,
as numbers. So for each pair (x_w, y) is read once without gradients; then (x_l, y) goes forward and backward, which
gives its numbers too; then (x_w, y) goes forward and backward. Each backward adds its share to the gradients, and the
sum is the gradient of the whole batch. Activations of one sequence are alive at a time; the price is one forward pass
without gradients per pair.

B pairs, T tokens; rows as in ``loss.py``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from if_factory.errors import UserError
from if_factory.iorpo.arguments import PREFIX, NllOn

if TYPE_CHECKING:
    from torch import Tensor, nn

    from if_factory.iorpo.logps import ResponseLogps
    from if_factory.iorpo.loss import IorpoLoss

_FIELD = f"field '{PREFIX}sequential'"
_M_MMAP_THRESHOLD = -3  # malloc.h
_OPTIMIZERS = ("lomo", "adalomo")  # these step inside the backward pass, as do the layer-wise ones


def check_sequential(training_args: Any, finetuning_args: Any) -> None:
    """Refuse what cannot take several backward passes per batch, or draws at random in each forward pass.

    Raises:
        UserError: with the key that cannot be combined with ``iorpo_sequential``.
    """
    several = "which takes one backward pass per batch"
    found = {
        "deepspeed": (getattr(training_args, "deepspeed", None), several),
        "fsdp": (getattr(training_args, "fsdp", None), "with which it was never tried"),
        "neftune_noise_alpha": (getattr(training_args, "neftune_noise_alpha", None),
                                "whose noise is another one in each forward pass"),
        "optim": (str(getattr(training_args, "optim", "")).rpartition(".")[2].lower() in _OPTIMIZERS, several),
        "galore_layerwise": (getattr(finetuning_args, "galore_layerwise", False), several),
        "apollo_layerwise": (getattr(finetuning_args, "apollo_layerwise", False), several),
    }
    for key, (given, why) in found.items():
        if given:
            raise UserError(f"cannot be combined with {key}, {why}", where=_FIELD, fix=f"leave it out, or {key}")


def return_freed_memory() -> None:
    """Have glibc give freed memory back to the system; elsewhere this does nothing.

    One sequence's activations are blocks below 32 MB, which glibc keeps when they are freed, cut up by the small blocks
    that come to lie between: at T = 5,120 it held several times what was in use. From the first call on, blocks of
    8 MB and more go back at once.

    Source: glibc manual, "Memory Allocation Tunables"; man 3 mallopt, man 3 malloc_trim.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if libc is None or not hasattr(libc, "malloc_trim"):
        return None
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:  # the user's own choice stands
        libc.mallopt(_M_MMAP_THRESHOLD, 8 << 20)
    found: Callable[[int], int] = libc.malloc_trim
    return found


class SequentialStep:
    """One batch of B pairs; run ``loss(model, row).backward()`` for every row of ``order``, in that order.

    Args:
        batch: as for ``ResponseLogps``; each value [2B, T].
        logps: of the model that is trained.
        beta: weight of the odds term.
        nll_on: see ``loss.py``.

    Attributes:
        order: rows of the batch.
        result: the loss of the batch and what is worth logging, without gradients, after the last row; else None.

    Raises:
        UserError: the batch holds something that cannot be taken apart by rows, such as images.
    """

    def __init__(self, batch: Mapping[str, Any], logps: ResponseLogps, *, beta: float, nll_on: NllOn) -> None:
        from if_factory.iorpo.logps import masks_of

        rows = len(batch["labels"])
        for key, value in batch.items():
            if value.dim() != 2 or len(value) != rows:
                raise UserError(f"cannot take the batch's {key} apart by rows", where=_FIELD, fix="leave it out")
        self._batch, self._logps, self._beta, self._nll_on = batch, logps, beta, nll_on
        self._masks = masks_of(batch, nll_on)
        self._pairs = rows // 2
        self._known = self._masks.following.new_zeros(self._masks.following.shape).float()  # [2B, T-1]
        self.order = [row for pair in range(self._pairs) for row in (self._pairs + pair, pair)]
        self.result: IorpoLoss | None = None

    def loss(self, model: nn.Module, row: int) -> Tensor:
        """The part of the batch's loss whose gradient is that of ``row``.

        Its value is 0 for all rows but the last, for which it is the batch's loss: the values add up too.
        """
        import torch

        pair = row % self._pairs
        if row >= self._pairs:
            with torch.no_grad():
                self._known[pair] = self._of(model, pair)[0]
        own = self._of(model, row)  # [1, T-1]
        self._known[row] = own[0].detach()
        w, x = self._known[pair, None], self._known[self._pairs + pair, None]
        part = self._share(pair, torch.cat([w, own] if row >= self._pairs else [own, x]))
        if row != self.order[-1]:
            return part - part.detach()
        self.result = self._loss(self._known, slice(None))
        return part - part.detach() + self.result.loss

    def _of(self, model: nn.Module, row: int) -> Tensor:
        one = slice(row, row + 1)
        batch = {key: value[one] for key, value in self._batch.items()}
        if batch["labels"].device.type != "cpu":
            return self._logps.of(model, batch, self._masks.following[one], self._masks.needed[one])
        return_freed_memory()  # of the sequence before
        logps = self._logps.of(model, batch, self._masks.following[one], self._masks.needed[one])
        return_freed_memory()  # of the layers, between the inputs that gradient checkpointing keeps
        return logps

    def _share(self, pair: int, logps: Tensor) -> Tensor:
        """What a pair, logps [2, T-1], contributes to the loss of the batch."""
        found = self._loss(logps, [pair, self._pairs + pair])
        weight: Any = 1 / self._pairs
        if self._nll_on == "prompt_and_response":  # one mean over the tokens of the batch
            tokens = self._masks.sequence[: self._pairs].sum(1)
            weight = tokens[pair] / tokens.sum()
        return weight * found.nll + self._beta * found.odds / self._pairs

    def _loss(self, logps: Tensor, rows: Any) -> IorpoLoss:
        from if_factory.iorpo.loss import iorpo_loss

        return iorpo_loss(logps, self._masks.response[rows], beta=self._beta, nll_on=self._nll_on,
                          sequence=self._masks.sequence[rows])
