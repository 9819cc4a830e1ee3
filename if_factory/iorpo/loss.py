"""The I-ORPO loss: one response y under the instruction x_w it follows and the corrupted x_l it does not.

    p(x)     = 1/|y| sum_t log P(y_t | x, y_<t)            mean log-probability, nats per token
    log_odds = (p(x_w) - p(x_l)) - (log(1 - e^p(x_w)) - log(1 - e^p(x_l)))
    loss     = nll - beta * mean log sigmoid(log_odds)     beta: lambda in the papers, pref_beta in LLaMA-Factory

ORPO: Hong et al., 2024, arXiv 2403.07691, equations 6 and 7. I-ORPO: Pham et al., 2024, "Suri", arXiv 2406.19371,
section 4, which keeps y and changes x. The two published programs differ in ``nll``, hence ``nll_on``:

``response``             LLaMA-Factory's ORPO: -p(x_w), a mean over each sample's response, then over samples.
``prompt_and_response``  Suri's program, which inherited it from TRL: cross-entropy of x_w and y together, a
                         mean over all tokens of the batch that are no padding.

B is the number of pairs, T the padded length in tokens, V the vocabulary. Rows 0..B-1 of a batch hold (x_w, y),
rows B..2B-1 the same pairs' (x_l, y). A column t of a [2B, T-1] tensor is about token t+1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from if_factory.iorpo.arguments import NllOn

# Above this mean log-probability the odds are held still: 1 - e^p has no correct digit left in float32 near
# p = -1e-7, and its gradient 1/(1 - e^p) is past anything that gradient clipping can use.
HIGHEST_LOGP = -1e-6


class IorpoLoss(NamedTuple):
    """The loss and what is worth logging. Scalars unless a shape is given; only ``loss`` is meant for backward.

    Attributes:
        loss: ``nll + beta * odds``.
        nll: negative log-likelihood in nats per token, as ``nll_on`` says.
        odds: mean of ``-log sigmoid(log_odds)``, before ``beta``.
        log_odds: [B].
        logps_w: [B], mean log-probability of the response under x_w, nats per token.
        logps_l: [B], the same under x_l.
        accuracy: share of pairs with ``logps_w > logps_l``.
    """

    loss: Tensor
    nll: Tensor
    odds: Tensor
    log_odds: Tensor
    logps_w: Tensor
    logps_l: Tensor
    accuracy: Tensor


def log1mexp(x: Tensor) -> Tensor:
    """``log(1 - e^x)`` for x < 0, any shape, without cancellation at either end.

    ``x`` is clamped to ``HIGHEST_LOGP``, so value and gradient are finite for every x up to and including 0.

    Source: Maechler, 2012, "Accurately computing log(1 - exp(-|a|))", equation 7.
    """
    x = _at_least_float32(x).clamp(max=HIGHEST_LOGP)
    # Both branches are finite on all of the clamped range: `where` would turn a NaN of the branch it does not
    # take into a NaN gradient.
    return torch.where(x > -0.6931471805599453, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def log_odds(logps_w: Tensor, logps_l: Tensor) -> Tensor:
    """Log of the ratio of odds e^p/(1 - e^p) of two mean log-probabilities (any equal shape, nats per token)."""
    logps_w, logps_l = _at_least_float32(logps_w), _at_least_float32(logps_l)
    return (logps_w - logps_l) - (log1mexp(logps_w) - log1mexp(logps_l))


def iorpo_loss(
    logps: Tensor,
    response: Tensor,
    *,
    beta: float,
    nll_on: NllOn = "response",
    sequence: Tensor | None = None,
) -> IorpoLoss:
    """The loss of a batch of B pairs, computed in float32 (float64 stays float64).

    Args:
        logps: [2B, T-1], log-probability of token t+1 in nats; read only where a mask says so.
        response: [2B, T-1] bool, where token t+1 is a labelled token of the response.
        beta: weight of the odds term.
        nll_on: see the module's text.
        sequence: [2B, T-1] bool, where token t+1 is no padding; needed for ``prompt_and_response``, which reads
            its rows of x_w.

    Raises:
        ValueError: an odd number of rows, unequal shapes, no ``sequence`` where one is needed.
    """
    if logps.shape != response.shape or logps.dim() != 2 or len(logps) % 2:
        raise ValueError(f"expected logps and response as [2B, T-1], got {[*logps.shape]} and {[*response.shape]}")
    logps = _at_least_float32(logps)
    pairs = len(logps) // 2
    mean = _sum(logps, response, dim=1) / response.sum(1)
    mean_w, mean_l = mean.split(pairs)
    if nll_on == "response":
        nll = -mean_w.mean()
    elif nll_on == "prompt_and_response":
        if sequence is None or sequence.shape != logps.shape:
            raise ValueError("nll_on: prompt_and_response needs the mask of all tokens, sequence [2B, T-1]")
        nll = -_sum(logps[:pairs], sequence[:pairs]) / sequence[:pairs].sum()
    else:
        raise ValueError(f"nll_on is 'response' or 'prompt_and_response', not {nll_on!r}")
    ratio = log_odds(mean_w, mean_l)
    odds = -F.logsigmoid(ratio).mean()
    accuracy = (mean_w > mean_l).to(logps.dtype).mean()
    return IorpoLoss(nll + beta * odds, nll, odds, ratio, mean_w, mean_l, accuracy)


def _sum(values: Tensor, mask: Tensor, dim: int | None = None) -> Tensor:
    # masked_fill, not a product: an unread entry may be -inf, and -inf * 0 is NaN
    return values.masked_fill(~mask, 0.0).sum(dim)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
