"""Log-probabilities of the labelled tokens of a batch, with no vocabulary-sized tensor outliving a chunk.

Stock LLaMA-Factory asks for the logits of all R sequences at all positions, makes them float32 and takes a
log_softmax: at the peak of ORPO 3.6 to 3.8 times R * T * V * 4 bytes, and more with a reference model
(llamafactory 0.9.5, train/dpo/trainer.py concatenated_forward, train/trainer_utils.py get_batch_logps). Here the
model runs as always, through its own wrappers (PEFT, DDP, DeepSpeed), but its output head answers with
log-probabilities: it picks the positions that are needed, takes them in chunks, and throws each chunk's logits away.
A head that is not trained (LoRA on the body) gives each token's slope with respect to its hidden state at once, so
that backward needs no logits; for one that is, backward computes them once more.

Some models change the logits after the head (Gemma 2 and 3: soft cap, Granite: logits_scaling, Cohere:
logit_scale, Falcon-H1: lm_head_multiplier). The head cannot know, so the first batch is asked both ways, and for
such a model ``ChunkedLogps.why_not`` says why: I-ORPO then takes full logits, stock's stages stop.

R rows (sequences), T tokens, V vocabulary, H hidden size, N needed tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

IGNORE = -100  # the label of a token that is not scored, in transformers and LLaMA-Factory alike
CHECKED_TOKENS = 64
QUARTERS = 4  # a head that is not trained takes its chunks in so many parts,
LEAST_CHUNK = 32  # from this many tokens on: products of one or two rows are rounded otherwise than those of many


@dataclass
class _Job:
    """What one forward pass asks of the head."""

    shape: tuple[int, int]  # [R, T] of the input
    positions: Tensor  # [N] int64, row * T + column, ascending
    targets: Tensor  # [N] int64, the token that follows each position
    check: bool = False
    mean_logits: bool = False
    calls: int = 0
    means: Tensor | None = None  # [R], if mean_logits
    vocabulary: int = 0
    head_logits: Tensor | None = None  # check only: [1, N, V] as the head made them
    head_logps: Tensor | None = None  # check only: [N] by the chunked path


class Found(NamedTuple):
    """What a forward pass gave.

    Attributes:
        logps: [R, T-1] float32, log-probability of the token after each position in nats, 0 where nobody asked.
        mean_logits: [R] float32, mean over all T positions and V entries of the row's logits, if asked for; NaN for
            an output head that is not affine.
        vocabulary: V, 0 if ``mean_logits`` was not asked for.
    """

    logps: Tensor
    mean_logits: Tensor | None = None
    vocabulary: int = 0


class ChunkedLogps:
    """Log-probabilities of chosen tokens of one model; ``close()`` gives the model its head back.

    The head's ``forward`` is replaced once, at the first batch, by one that does nothing unusual unless a batch
    of ours is under way, so generation, saving and torch.compile see the same module as before.

    Args:
        chunk_size: tokens whose logits may be alive at a time. A head that is trained makes roughly 4 * chunk_size *
            V * 4 bytes; any other, and every pass without gradients, takes a quarter of the tokens at a time
            (from 32 on), and makes an eighth of that.
    """

    def __init__(self, chunk_size: int = 1024) -> None:
        if chunk_size < 1:
            raise ValueError(f"chunk_size is a number of tokens of at least 1, not {chunk_size}")
        self.chunk_size = chunk_size
        self._head: _ChunkedHead | None = None

    def why_not(self, model: nn.Module, inputs: Mapping[str, Any], following: Tensor, needed: Tensor) -> str | None:
        """Why this model's log-probabilities cannot be taken inside its output head, ``None`` if they can.

        Looks at the model at the first call, with one forward pass; arguments as for ``__call__``.
        """
        if self._head is not None:
            return None
        module = output_head(model)
        if module is None:
            return "the model names no output head (get_output_embeddings)"
        head = _ChunkedHead(module, self.chunk_size)
        checked = needed if bool(needed.any()) else torch.ones_like(needed)
        try:
            reason = _difference(model, head, inputs, _job(following, checked, first=CHECKED_TOKENS))
        except BaseException:
            head.uninstall()
            raise
        if reason is None:
            self._head = head
        else:
            head.uninstall()
        return reason

    def __call__(self, model: nn.Module, inputs: Mapping[str, Any], following: Tensor, needed: Tensor, *,
                 mean_logits: bool = False) -> Found:
        """One forward pass; ``why_not`` has answered ``None`` before.

        Args:
            model: the model as the trainer calls it, wrappers included.
            inputs: input_ids, attention_mask and whatever else its forward takes, no labels. Left as they are.
            following: [R, T-1] int64, the token after each position; read where it is needed.
            needed: [R, T-1] bool, where a log-probability is wanted.
            mean_logits: give the mean of each row's logits too, from the mean of its hidden states.
        """
        assert self._head is not None
        job = _job(following, needed)
        job.mean_logits = mean_logits
        with self._head.answering(job):
            logps = _call(model, inputs)
        if logps.shape != following.shape:
            raise RuntimeError(f"the model returned {[*logps.shape]} where its head gave {[*following.shape]}")
        return Found(logps, job.means, job.vocabulary)

    def close(self) -> None:
        """Puts the head's own ``forward`` back; the next batch would install it again."""
        if self._head is not None:
            self._head.uninstall()
            self._head = None


class _ChunkedHead:
    """Stands in for an output head's ``forward``; see ``answering``."""

    def __init__(self, module: nn.Module, chunk_size: int) -> None:
        self.module = module
        self.chunk_size = chunk_size
        self.job: _Job | None = None
        self.affine = True  # found out by the check
        # accelerate puts a forward on the instance, with hooks for devices; it is called, and put back
        self.had_own = "forward" in vars(module)
        self.original = module.forward
        # The job changes with every batch, and so does the number of chunks: traced, each would compile again.
        self.installed = torch.compiler.disable(self.forward)
        module.forward = self.installed

    def uninstall(self) -> None:
        # somebody who wrapped the head after us keeps their wrapper; without a job ours only passes on
        if vars(self.module).get("forward") is not self.installed:
            return
        if self.had_own:
            self.module.forward = self.original
        else:
            del self.module.forward

    @contextmanager
    def answering(self, job: _Job) -> Iterator[None]:
        """While this holds, the head returns [R, T-1] log-probabilities instead of [R, T, V] logits."""
        self.job = job
        try:
            yield
        finally:
            self.job = None

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        job = self.job
        if job is None:
            return self.original(hidden, *args, **kwargs)
        job.calls += 1
        if hidden.shape[:-1] != job.shape:  # only a check sees this: the shapes of later batches follow
            return self.original(hidden, *args, **kwargs)
        rows, length = job.shape
        picked = hidden.reshape(rows * length, -1).index_select(0, job.positions)  # [N, H]
        if job.check:
            job.head_logps = self.logps(picked, job.targets)
            job.head_logits = self.original(picked[None], *args, **kwargs)
            self.affine = self.is_affine(picked, job.head_logits)
            return job.head_logits
        if job.mean_logits:
            job.means, job.vocabulary = self.mean_logits(hidden)
        logps = self.logps(picked, job.targets)
        # the last column of the input predicts nothing, so no position lies in it
        flat = logps.new_zeros(rows * length).index_copy(0, job.positions, logps)
        return flat.view(rows, length)[:, :-1]

    def mean_logits(self, hidden: Tensor) -> tuple[Tensor, int]:
        """[R, T, H] -> [R] float32 and V. The mean of an affine head's logits is that of the mean hidden state."""
        rows = hidden.detach().mean(1, dtype=torch.float32).to(hidden.dtype)  # [R, H]
        with torch.no_grad():
            logits = [self.original(part).float() for part in rows.split(self.chunk_size)]
        means = torch.cat([part.mean(-1) for part in logits])
        return means if self.affine else means.fill_(float("nan")), logits[0].shape[-1]

    def is_affine(self, hidden: Tensor, logits: Tensor) -> bool:
        """Whether the head's mean logit at [N, H] is its mean logit at their mean, up to rounding."""
        at_mean = self.original(hidden.mean(0, keepdim=True)).float().mean()
        return bool((logits.float().mean() - at_mean).abs() <= 0.02 * logits.float().abs().mean())

    def logps(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """[N, H] and [N] -> [N] float32."""
        slopes = hidden.requires_grad and torch.is_grad_enabled()
        trained = slopes and any(p.requires_grad for p in self.module.parameters())
        # With gradient checkpointing the logits of a whole chunk would be the peak of a step. A quarter of it takes no
        # longer where weights need no gradient; where they do, each piece adds a tensor of the head's own size.
        size = self.chunk_size if trained or self.chunk_size < LEAST_CHUNK else self.chunk_size // QUARTERS
        pieces = zip(hidden.split(size), targets.split(size), strict=True)
        if trained:
            return torch.cat([checkpoint(self.chunk, h, y, use_reentrant=False) for h, y in pieces])
        if slopes:
            return torch.cat([_Sloped.apply(h, y, self.logits) for h, y in pieces])
        return torch.cat([self.chunk(h, y) for h, y in pieces])

    def chunk(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return -F.cross_entropy(self.logits(hidden).float(), targets, reduction="none")

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.original(hidden)
        return logits


class _Sloped(torch.autograd.Function):  # type: ignore[misc]
    """A chunk's log-probabilities under a head without trainable weights.

    A head works on each position by itself, so the gradient of their sum holds, row by row, each one's own slope
    [n, H]. It is taken while the logits are there; backward multiplies it. Beside the logits one tensor [n, V] is
    made: the log-probabilities of all entries, then, in its place, their gradient, one-hot minus softmax.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            own = hidden.detach().requires_grad_()
            logits = head(own)
        entries = logits.detach().log_softmax(-1, dtype=torch.float32)
        target = targets.unsqueeze(1)
        logps = entries.gather(1, target).squeeze(1)
        entries.exp_().neg_().scatter_add_(1, target, torch.ones_like(target, dtype=torch.float32))
        (slope,) = torch.autograd.grad(logits, own, entries.to(logits.dtype))
        ctx.save_for_backward(slope)
        return logps

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return (gradients[0].unsqueeze(1) * slope).to(slope.dtype), None, None


def output_head(model: nn.Module) -> nn.Module | None:
    """The module that makes logits of hidden states, under DDP, DeepSpeed, FSDP, torch.compile and PEFT."""
    while not hasattr(model, "get_output_embeddings"):
        inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
        if inner is None:
            return None
        model = inner
    head: nn.Module | None = model.get_output_embeddings()
    return head


def full_logps(model: nn.Module, inputs: Mapping[str, Any], following: Tensor, needed: Tensor) -> Tensor:
    """The same [R, T-1] float32 log-probabilities from the logits of all positions: for any causal model.

    Args:
        following: [R, T-1] int64, the token after each position.
        needed: [R, T-1] bool, where a log-probability is wanted; 0 elsewhere.
    """
    logits = _call(model, inputs)
    # The targets are shifted, not the logits: [R, T-1, V] would be a copy.
    targets = F.pad(following.masked_fill(~needed, IGNORE), (0, 1), value=IGNORE)
    logits = logits.flatten(0, 1).float()
    losses = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE, reduction="none")
    return -losses.view_as(targets)[:, :-1]


def _job(following: Tensor, needed: Tensor, first: int | None = None) -> _Job:
    rows, columns = needed.nonzero(as_tuple=True)
    rows, columns = rows[:first], columns[:first]
    shape = len(following), following.shape[1] + 1
    return _Job(shape, rows * shape[1] + columns, following[rows, columns], check=first is not None)


def _call(model: nn.Module, inputs: Mapping[str, Any]) -> Tensor:
    logits: Tensor = model(**inputs, return_dict=True, use_cache=False).logits
    return logits


def _difference(model: nn.Module, head: _ChunkedHead, inputs: Mapping[str, Any], job: _Job) -> str | None:
    """Why the head's log-probabilities are not the model's, or None. One forward pass without gradients.

    The head answers this pass with its logits for the first needed tokens only, [1, N, V], and the model does
    to them what it does to all logits. If they come back as they left, what the head computes is what counts.
    """
    device = job.positions.device
    with torch.no_grad(), torch.random.fork_rng([device] if device.type == "cuda" else []), head.answering(job):
        try:
            returned = _call(model, inputs)
        except Exception as error:
            if job.head_logits is None:  # the model's own failure, not one of what we handed it
                raise
            return f"the model cannot work with part of its logits ({type(error).__name__}: {error})"
    if job.head_logits is None or job.head_logps is None:
        return "the model does not call its output head on the hidden states of all tokens"
    if job.calls != 1:
        return f"the model calls its output head {job.calls} times in a forward pass"
    if returned.shape != job.head_logits.shape:
        return f"the model reshapes its logits after the output head, to {[*returned.shape]}"
    # Bit for bit: on a small or fresh model a soft cap changes little at the start, and more with training.
    if torch.equal(returned.float(), job.head_logits.float()):
        return None
    full = -F.cross_entropy(returned[0].float(), job.targets, reduction="none")
    most = (full - job.head_logps).abs().max().item()
    return (
        "the model changes its logits after the output head "
        f"(log-probabilities of the first {len(full)} tokens move by up to {most:.2g} nats)"
    )
